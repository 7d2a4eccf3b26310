"""The torch vocabulary's records: bootstrapped once for each version of torch, then read from a cache."""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from shakeout.corpus import cache
from shakeout.corpus.files import write_whole
from shakeout.corpus.program import Ref
from shakeout.corpus.vocabularies import Vocabulary as Words
from shakeout.corpus.vocabularies import vocabulary
from shakeout.corpus.vocabularies.torch_traits import family
from shakeout.generators.growth_config import GrowthConfig
from shakeout.generators.indices import ignored
from shakeout.generators.rules.library import Library, library_of_torch
from shakeout.generators.vocabularies import followers, takers
from shakeout.generators.vocabularies.collector import run_module
from shakeout.generators.vocabularies.records import Record, Slot
from shakeout.generators.vocabularies.ruled import Ruled, ruled
from shakeout.generators.vocabularies.takers import Fits

__all__ = [
    "FORMAT", "BootstrapFailed", "Takers", "Vocabulary", "cache_path", "load_records", "recorded_rows", "records_kept",
]  # fmt: skip

#: Version of the cached rows; raise it whenever the bootstrap finds something else than before.
FORMAT = 7
#: How many operators may crash the bootstrap before that is no longer their fault.
MAX_CRASHES = 8

#: Kinds of operands that may be another operator's result; the others have to be made for the call.
_ANY = ("any", "index")

#: Scans, reductions, softmax, extrema and quotients: what folds is often one number for all elements, or none.
FOLDING = frozenset(
    "cumsum cumprod cummax cummin logcumsumexp sum prod mean softmax log_softmax softmin max min amax amin aminmax "
    "argmax argmin div floordiv remainder fmod var std sort topk logsumexp any all nansum nanmean median where maximum "
    "minimum clamp pow mul add".split()
)

Progress = Callable[[str], None]
Taker = tuple[Record, int]


@dataclass(frozen=True, slots=True)
class Takers:
    """Where an operator takes a value of some dtype and rank; read when it is asked for.

    Attributes:
        vocabulary: of the operator.
        operator: its qualified name.
        dtype: of the value.
        rank: of the value.
    """

    vocabulary: Vocabulary
    operator: str
    dtype: str
    rank: int

    @property
    def records(self) -> tuple[Taker, ...]:
        """Records, each with the slot."""
        return self.vocabulary.taking_records(self.operator, self.dtype, self.rank)

    @property
    def rules(self) -> tuple[tuple[Ruled, int], ...]:
        """Rules, each with the operand."""
        return self.vocabulary.taking_rules(self.operator, self.dtype, self.rank)


class BootstrapFailed(RuntimeError):
    """The records could not be collected."""


class Vocabulary:
    """The operators that can be proposed and how each is called.

    Records and rules are read when they are first asked for; nothing else changes, so drawing from one is repeatable.

    Args:
        rows: of records, by operator.
        library: what was learnt of operators; without it, calls are those that were recorded.
        index: which values each operator takes, as far as it is known; the rest is read from records and rules.
    """

    name = "torch"
    #: What a program is made of that no proposal gave a call.
    fallback = Record("torch.neg", (Ref(0),), (), (Slot("T", (0,)),), (3,), (False,), ("float32",))
    #: Whether views, indexed assignments and casts are proposed beside its operators (``views.py``), which are torch's.
    forms = True

    def __init__(
        self,
        rows: Mapping[str, list[Any]],
        library: Library | None = None,
        index: Mapping[str, Fits] = MappingProxyType({}),
    ) -> None:
        self.operators: tuple[str, ...] = tuple(sorted(rows))
        self._rows = rows
        self._records: dict[str, tuple[Record, ...]] = {}
        self._library = library if library is not None and library.operators else None
        self._rules: dict[str, tuple[Ruled, ...]] = {}
        self._index: dict[str, Fits] = dict(index)
        self._takers: dict[tuple[str, int], tuple[Takers, ...]] = {}
        self._parts: dict[frozenset[str], Vocabulary] = {}
        # Which of an operator's records and rules take a value is asked with every call that follows another.
        self._taking_records: dict[tuple[str, str, int], tuple[Taker, ...]] = {}
        self._taking_rules: dict[tuple[str, str, int], tuple[tuple[Ruled, int], ...]] = {}
        self._families: dict[str, str] | None = None
        self._folding: tuple[str, ...] | None = None
        self._ignoring: tuple[str, ...] | None = None
        self._followers: dict[tuple[str, str, int], tuple[Takers, ...]] = {}

    def records(self, operator: str) -> tuple[Record, ...]:
        """Every record of an operator."""
        found = self._records.get(operator)
        if found is None:
            found = tuple(Record.from_json(operator, row) for row in self._rows[operator])
            self._records[operator] = found
        return found

    @property
    def words(self) -> Words:
        """What its operators mean."""
        return vocabulary(self.name)

    def config(self, drawn: GrowthConfig) -> GrowthConfig:
        """How a case of it is drawn, given how one of torch would be."""
        return drawn

    @property
    def ruled(self) -> bool:
        """Whether there are rules at all."""
        return self._library is not None

    def rules(self, operator: str) -> tuple[Ruled, ...]:
        """The rules of an operator that calls are drawn from."""
        found = self._rules.get(operator)
        if found is None:
            found = ruled(self._library.usable(operator), self.records(operator)) if self._library is not None else ()
            self._rules[operator] = found
        return found

    @property
    def unfit(self) -> frozenset[str]:
        """Operators that no program of it may have, although it knows calls of them."""
        return frozenset()

    def recorded(self) -> Vocabulary:
        """The same without rules."""
        found = Vocabulary(self._rows)
        found.name, found._records = self.name, self._records
        return found

    def within(self, operators: frozenset[str]) -> Vocabulary:
        """The same without all other operators; made once for each set of them."""
        found = self._parts.get(operators)
        if found is None:
            found = Vocabulary({name: row for name, row in self._rows.items() if name in operators}, self._library)
            found.name, found._records, found._rules, found._index = self.name, self._records, self._rules, self._index
            self._parts[operators] = found
        return found

    def fits(self, operator: str) -> Fits:
        """Which values an operator takes from elsewhere."""
        found = self._index.get(operator)
        if found is None:
            found = self._index[operator] = self._found(operator)
        return found

    def takers(self, dtype: str, rank: int) -> tuple[Takers, ...]:
        """Where a value of this dtype and rank can go, for each operator that takes one."""
        found = self._takers.get((dtype, rank))
        if found is None:
            taking = (name for name in self.operators if dtype in self.fits(name).get(rank, ()))
            found = self._takers[dtype, rank] = tuple(Takers(self, name, dtype, rank) for name in taking)
        return found

    def followers(self, operator: str, dtype: str, rank: int) -> tuple[Takers, ...]:
        """Where a value of this dtype and rank goes that an operator made: what is known to follow it and takes one.

        What follows it more often stands there more often.
        """
        key = (operator, dtype, rank)
        found = self._followers.get(key)
        if found is None:
            known = followers.of_torch().get(family(operator), {}) if self.forms else {}
            taking = [name for name in self._known(known) if dtype in self.fits(name).get(rank, ())]
            found = tuple(Takers(self, name, dtype, rank) for name in taking for _ in range(known[family(name)]))
            self._followers[key] = found
        return found

    def _known(self, families: Mapping[str, int]) -> list[str]:
        """One operator of each of these families, where there is one: a function rather than a method."""
        if not families:
            return []
        if self._families is None:
            self._families = {}
            for name in sorted(self.operators, key=lambda name: (name.startswith("torch.Tensor."), len(name), name)):
                if not name.endswith("_"):
                    self._families.setdefault(family(name), name)
        return [self._families[one] for one in families if one in self._families]

    @property
    def folding(self) -> tuple[str, ...]:
        """Operators whose results compilers compute of constants, or simplify where an operand is one."""
        if self._folding is None:
            self._folding = tuple(name for name in self.operators if family(name) in FOLDING)
        return self._folding

    @property
    def ignoring(self) -> tuple[str, ...]:
        """Operators that can be told to leave out a place."""
        if self._ignoring is None:
            self._ignoring = tuple(name for name in self.operators if ignored(name))
        return self._ignoring

    def taking_records(self, operator: str, dtype: str, rank: int) -> tuple[Taker, ...]:
        """The records of an operator that take such a value, each with the slot."""
        key = (operator, dtype, rank)
        found = self._taking_records.get(key)
        if found is None:
            found = self._taking_records[key] = tuple(
                (record, number)
                for record, number, dtypes, ranks in self._slots(operator)
                if rank in ranks and dtype in dtypes
            )
        return found

    def taking_rules(self, operator: str, dtype: str, rank: int) -> tuple[tuple[Ruled, int], ...]:
        """The rules of an operator that take such a value, each with the operand."""
        key = (operator, dtype, rank)
        found = self._taking_rules.get(key)
        if found is None:
            found = self._taking_rules[key] = tuple(
                (rule, number)
                for rule, number, own in self._operands(operator)
                if own == rank and dtype in rule.rule.dtypes.allowed(number)
            )
        return found

    def _found(self, operator: str) -> Fits:
        """Which values an operator takes, from its records and rules."""
        if self.words.traits(operator).plain:
            return {}  # what another operator made lies in memory as it pleases
        found: dict[int, set[str]] = {}
        for _, _, dtypes, ranks in self._slots(operator):
            for rank in ranks:
                found.setdefault(rank, set()).update(dtypes)
        for rule, number, rank in self._operands(operator):
            found.setdefault(rank, set()).update(rule.rule.dtypes.allowed(number))
        return {rank: frozenset(dtypes) for rank, dtypes in found.items()}

    def _slots(self, operator: str) -> Iterator[tuple[Record, int, tuple[str, ...], frozenset[int]]]:
        """Of each record the slots for values of others, with the dtypes and ranks that they take."""
        for record in self.records(operator):
            varied = frozenset(rank for rank in range(record.ranks.bit_length()) if record.ranks >> rank & 1)
            for number, slot in enumerate(record.slots):
                if slot.spread.kind in _ANY:
                    yield record, number, record.dtypes if slot.dtype == "T" else (slot.dtype,), varied | {slot.rank}

    def _operands(self, operator: str) -> Iterator[tuple[Ruled, int, int]]:
        """Of each rule the operands for values of others, with their rank."""
        for rule in self.rules(operator):
            for number, (spread, rank) in enumerate(zip(rule.spreads, rule.rule.variant.ranks, strict=True)):
                if spread.kind in _ANY:
                    yield rule, number, rank

    def read_all(self) -> None:
        """Read every record and rule now, so that processes forked from here need not."""
        if all(operator in self._rules for operator in self.operators):
            return
        with _kept():
            for operator in self.operators:
                self.records(operator)
                self.rules(operator)


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """What is made in here lives as long as the process.

    The garbage collector is told to leave it, and all else that is there, alone. Looking through it again and again
    took a third of the time of growing.
    """
    enabled = gc.isenabled()
    gc.disable()  # nothing of what is read here is garbage
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
        if enabled:
            gc.enable()


def cache_path() -> Path:
    """Where the records of the installed torch are kept: below SHAKEOUT_CACHE, or the user's cache directory."""
    from importlib.metadata import version

    return cache.directory() / f"torch-{version('torch')}-records-{FORMAT}.json.gz"


def records_kept() -> bool:
    """Whether the records of the installed torch are there, so that loading them takes no time to speak of."""
    return _rows(_bytes(cache_path())) is not None


def load_records(progress: Progress | None = None) -> Vocabulary:
    """The vocabulary of the installed torch, from the cache or, the first time, from torch's own operator samples.

    Calls are drawn from rules where ``shakeout learn torch`` was run, or where rules are shipped.

    Args:
        progress: told in words what is going on, while records are collected.

    Raises:
        BootstrapFailed: the samples could not be run; the message ends with what the process said.
    """
    with _kept():
        data, rows = recorded_rows(
            cache_path(), "shakeout.generators.vocabularies.bootstrap", progress or (lambda text: None)
        )
        made_of, kept = takers.digest(data), takers.index_path()
        index = takers.read(kept, made_of)
        found = Vocabulary(rows, library_of_torch(), index or {})
        if index is None:
            takers.write(kept, made_of, {operator: found.fits(operator) for operator in found.operators})
    return found


def recorded_rows(path: Path, module: str, progress: Progress) -> tuple[bytes, Mapping[str, list[Any]]]:
    """The records of a vocabulary, from their cache or, the first time, from a module that collects them.

    Args:
        path: of the cache.
        module: is run with a path to write to, and names to leave out.
        progress: told in words what is going on, while records are collected.

    Returns:
        The content of the file of records, and its rows.

    Raises:
        BootstrapFailed: they could not be collected; the message ends with what the process said.
    """
    data = _bytes(path)
    rows = _rows(data)
    return _bootstrap(path, module, progress) if rows is None else (data, rows)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _rows(data: bytes) -> Mapping[str, list[Any]] | None:
    """The rows of a file of records, or None where they cannot be read."""
    try:
        rows = json.loads(gzip.decompress(data))
        # One record of the many: a file of another format would fail here and not in the middle of a campaign.
        Record.from_json(name := next(iter(rows)), rows[name][0])
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, IndexError, AttributeError, StopIteration):
        return None
    return rows  # type: ignore[no-any-return]


def _bootstrap(path: Path, module: str, progress: Progress) -> tuple[bytes, Mapping[str, list[Any]]]:
    """Collect in a process of its own, again without an operator that killed it; the file's content and its rows."""
    skip: list[str] = []
    with tempfile.TemporaryDirectory(prefix="shakeout-") as directory:
        fresh = Path(directory) / "records.json.gz"
        for _ in range(MAX_CRASHES):
            status, last, said = _collect(module, fresh, skip, progress)
            if status == 0:
                break
            if status > 0 or not last or last in skip:
                raise BootstrapFailed(f"collecting operator samples failed with status {status}:\n{said}")
            skip.append(last)
            progress(f"{last} crashes and is left out")
        else:
            raise BootstrapFailed(f"collecting operator samples crashed {MAX_CRASHES} times, last at {skip[-1]}")
        data = fresh.read_bytes()
        rows = _rows(data)
    if rows is None:
        raise BootstrapFailed("collecting operator samples gave no record")
    # A cache that cannot be written costs the next start some seconds, nothing else.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    return data, rows


def _collect(module: str, path: Path, skip: list[str], progress: Progress) -> tuple[int, str, str]:
    """Run the bootstrap; its exit status, the operator it was at, and the end of what it printed as errors."""

    def tell(name: str, done: int, total: int) -> None:
        if done % 25 == 0:
            progress(f"operator samples: {done} of {total}")

    return run_module(module, [str(path), *skip], path.parent, tell)
