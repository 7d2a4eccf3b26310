"""The torch vocabulary's records: bootstrapped once for each version of torch, then read from a cache."""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shakeout.corpus import cache
from shakeout.corpus.files import write_whole
from shakeout.corpus.program import Ref
from shakeout.corpus.vocabularies import Vocabulary as Words
from shakeout.corpus.vocabularies import vocabulary
from shakeout.generators.habits import Habits
from shakeout.generators.rules.library import Library, library_of_torch
from shakeout.generators.vocabularies.collector import run_module
from shakeout.generators.vocabularies.records import Record, Slot
from shakeout.generators.vocabularies.ruled import Ruled, ruled

__all__ = ["FORMAT", "BootstrapFailed", "Takers", "Vocabulary", "cache_path", "load_records", "recorded_rows"]

#: Version of the cached rows; raise it whenever the bootstrap finds something else than before.
FORMAT = 7
#: How many operators may crash the bootstrap before that is no longer their fault.
MAX_CRASHES = 8

Progress = Callable[[str], None]
Taker = tuple[Record, int]


class Takers(NamedTuple):
    """Where an operator takes a value: records and rules, each with the slot or operand."""

    records: tuple[Taker, ...]
    rules: tuple[tuple[Ruled, int], ...]


class BootstrapFailed(RuntimeError):
    """The records could not be collected."""


class Vocabulary:
    """The operators that can be proposed and how each is called.

    Records and rules are read when they are first asked for; nothing else changes, so drawing from one is repeatable.

    Args:
        rows: of records, by operator.
        library: what was learnt of operators; without it, calls are those that were recorded.
    """

    name = "torch"
    #: What a program is made of that no proposal gave a call.
    fallback = Record("torch.neg", (Ref(0),), (), (Slot("T", (0,)),), (3,), (False,), ("float32",))
    #: Whether views, indexed assignments and casts are proposed beside its operators (``views.py``), which are torch's.
    forms = True

    def __init__(self, rows: Mapping[str, list[Any]], library: Library | None = None) -> None:
        self.operators: tuple[str, ...] = tuple(sorted(rows))
        self._rows = rows
        self._records: dict[str, tuple[Record, ...]] = {}
        self._library = library if library is not None and library.operators else None
        self._rules: dict[str, tuple[Ruled, ...]] = {}
        self._takers: dict[int, dict[str, tuple[Takers, ...]]] = {}
        self._parts: dict[frozenset[str], Vocabulary] = {}

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

    def habits(self, drawn: Habits) -> Habits:
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
            found.name, found._records, found._rules = self.name, self._records, self._rules
            self._parts[operators] = found
        return found

    def takers(self, dtype: str, rank: int) -> tuple[Takers, ...]:
        """Where a value of this dtype and rank can go, for each operator that takes one."""
        found = self._takers.get(rank)
        if found is None:
            found = self._takers[rank] = self._indexed(rank)
        return found.get(dtype, ())

    def _indexed(self, rank: int) -> dict[str, tuple[Takers, ...]]:
        """The takers of every dtype at one rank."""
        groups: dict[str, list[Takers]] = {}
        for operator in self.operators:
            if self.words.traits(operator).plain:
                continue  # what another operator made lies in memory as it pleases
            group: dict[str, list[Taker]] = {}
            for record in self.records(operator):
                for number, slot in enumerate(record.slots):
                    if slot.spread.kind not in ("any", "index"):
                        continue
                    if slot.rank != rank and not record.ranks >> rank & 1:
                        continue
                    taker = (record, number)
                    for dtype in record.dtypes if slot.dtype == "T" else (slot.dtype,):
                        group.setdefault(dtype, []).append(taker)
            by_rule: dict[str, list[tuple[Ruled, int]]] = {}
            for rule in self.rules(operator):
                for number, (spread, own) in enumerate(zip(rule.spreads, rule.rule.variant.ranks, strict=True)):
                    if own == rank and spread.kind in ("any", "index"):
                        for dtype in rule.rule.dtypes.allowed(number):
                            by_rule.setdefault(dtype, []).append((rule, number))
            for dtype in {**group, **by_rule}:
                takers = Takers(tuple(group.get(dtype, ())), tuple(by_rule.get(dtype, ())))
                groups.setdefault(dtype, []).append(takers)
        return {dtype: tuple(found) for dtype, found in groups.items()}

    def warm(self) -> None:
        """Read and index every record and rule now, so that processes forked from here need not.

        They live as long as the process: the garbage collector is told to leave them, and all else that is there,
        alone. Looking through them again and again took a third of the time of growing.
        """
        enabled = gc.isenabled()
        gc.disable()  # nothing of what is read here is garbage
        for rank in range(6):
            self.takers("float32", rank)
        gc.collect()
        gc.freeze()
        if enabled:
            gc.enable()


def cache_path() -> Path:
    """Where the records of the installed torch are kept: below SHAKEOUT_CACHE, or the user's cache directory."""
    from importlib.metadata import version

    return cache.directory() / f"torch-{version('torch')}-records-{FORMAT}.json.gz"


def load_records(progress: Progress | None = None) -> Vocabulary:
    """The vocabulary of the installed torch, from the cache or, the first time, from torch's own operator samples.

    Calls are drawn from rules where ``shakeout learn torch`` was run, or where rules are shipped.

    Args:
        progress: told in words what is going on, while records are collected.

    Raises:
        BootstrapFailed: the samples could not be run; the message ends with what the process said.
    """
    rows = recorded_rows(cache_path(), "shakeout.generators.vocabularies.bootstrap", progress or (lambda text: None))
    return Vocabulary(rows, library_of_torch())


def recorded_rows(path: Path, module: str, progress: Progress) -> Mapping[str, list[Any]]:
    """The records of a vocabulary, from their cache or, the first time, from a module that collects them.

    Args:
        path: of the cache.
        module: is run with a path to write to, and names to leave out.
        progress: told in words what is going on, while records are collected.

    Raises:
        BootstrapFailed: they could not be collected; the message ends with what the process said.
    """
    rows = _read(path)
    return _bootstrap(path, module, progress) if rows is None else rows


def _read(path: Path) -> Mapping[str, list[Any]] | None:
    """The cached rows, or None where there are none that can be read."""
    try:
        rows = json.loads(gzip.decompress(path.read_bytes()))
        # One record of the many: a file of another format would fail here and not in the middle of a campaign.
        Record.from_json(name := next(iter(rows)), rows[name][0])
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, IndexError, AttributeError, StopIteration):
        return None
    return rows  # type: ignore[no-any-return]


def _bootstrap(path: Path, module: str, progress: Progress) -> Mapping[str, list[Any]]:
    """Collect in a process of its own; again without an operator that killed it."""
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
        rows = _read(fresh)
    if rows is None:
        raise BootstrapFailed("collecting operator samples gave no record")
    # A cache that cannot be written costs the next start some seconds, nothing else.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    return rows


def _collect(module: str, path: Path, skip: list[str], progress: Progress) -> tuple[int, str, str]:
    """Run the bootstrap; its exit status, the operator it was at, and the end of what it printed as errors."""

    def tell(name: str, done: int, total: int) -> None:
        if done % 25 == 0:
            progress(f"operator samples: {done} of {total}")

    return run_module(module, [str(path), *skip], path.parent, tell)
