"""Python coverage: lines of the functions in modules that are watched, a compiler's own or a user's.

On 3.12 and later ``sys.monitoring`` tells them (``monitored``), on 3.11 the interpreter's own notes (``quickened``).
Both cost something when a line is run for the first time and nothing after.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Protocol

from shakeout.fuzz.coverage import monitored, quickened
from shakeout.fuzz.coverage.codes import Codes
from shakeout.fuzz.coverage.hits import Hits
from shakeout.fuzz.coverage.source import Armed

if TYPE_CHECKING:
    from shakeout.corpus.case import Case

__all__ = ["PythonSource", "module_unit"]


class _Watch(Protocol):
    def add(self, code: CodeType) -> None: ...

    def again(self) -> None: ...

    def entered(self) -> Iterable[tuple[CodeType, tuple[int, ...]]]: ...


def module_unit(path: str) -> str:
    """The identity of a module's source: a hash of its text, and where it is; lines of another text are others."""
    try:
        digest = hashlib.blake2b(Path(path).read_bytes(), digest_size=6).hexdigest()
    except OSError:
        digest = ""
    return f"{digest}:{path}"


class PythonSource:
    """Watches the functions of Python modules in one process, and in those that it forks.

    Args:
        modules: names of packages or modules (``torch._inductor``).
    """

    name = "python"

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = tuple(modules)
        self._codes = Codes(modules)
        self._owners: dict[str, bool] = {}  # by target: whether what is watched is its own, or somebody else's
        self._due = True
        self._watch: _Watch | None = None
        self._broken = False
        self._units: dict[str, str] = {}  # by file
        self._names: dict[str, str] = {}  # by file: the module's
        self._functions: dict[str, int] = {}  # by file: how many are watched
        self._known: dict[str, set[int | str]] = {}  # by unit: lines that the campaign has
        self._told: dict[str, set[int]] = {}  # by unit: lines that this process told

    def arm(self) -> tuple[Armed, ...]:
        """Watch the functions that there are by now."""
        if self._broken:
            return ()
        began = time.monotonic()
        if self._watch is None:
            why = monitored.unavailable() and quickened.unavailable()
            if why:
                self._broken = True
                return (Armed(self.name, reason=why),)
            self._watch = quickened.Quickened() if monitored.unavailable() else monitored.Monitored()
        self._add(self._watch, frozen=True)
        told: dict[str, int] = dict.fromkeys(self._modules, 0)
        for file, count in self._functions.items():
            for name in self._modules:
                if self._names[file] == name or self._names[file].startswith(f"{name}."):
                    told[name] += count
        self._watch.again()
        spent = time.monotonic() - began
        return tuple(
            Armed(name, count, seconds=spent) if count else Armed(name, reason="no function of it is loaded yet")
            for name, count in told.items()
        )

    def _add(self, watch: _Watch, *, frozen: bool) -> None:
        for code, module in self._codes.fresh(frozen=frozen):
            file = code.co_filename
            if file not in self._units:
                self._units[file], self._names[file] = module_unit(file), module
            self._functions[file] = self._functions.get(file, 0) + 1
            watch.add(code)

    def begin(self, case: Case) -> None:
        """Note whether what is watched has to do with the case: to look takes as long as a small eager case."""
        from shakeout.targets.registry import facts_of, names

        target = case.setting.target
        if target not in self._owners:
            own = {name: set(facts_of(name).modules) for name in (*names(), target)}
            named = set(self._modules).difference(*own.values())
            self._owners[target] = bool(named or own[target] & set(self._modules))
        self._due = self._owners[target]

    def end(self, case: Case, status: str) -> None:
        """Nothing."""

    def take(self) -> tuple[Hits, ...]:
        """Lines that ran for the first time in this process since the last call, by module."""
        due, self._due = self._due, True
        if self._watch is None or not due:
            return ()
        lines: dict[str, set[int]] = {}
        for code, some in self._watch.entered():
            # The line where it begins stands for the function: some have no other that can be told.
            lines.setdefault(code.co_filename, set()).update(some, (code.co_firstlineno,))
        return tuple(self._hits(lines))

    def _hits(self, lines: dict[str, set[int]]) -> Iterator[Hits]:
        for file, some in lines.items():
            unit = self._units[file]
            told = self._told.setdefault(unit, set())
            if fresh := some - self._known.get(unit, set()) - told:
                told |= fresh
                yield Hits(self.name, unit, self._names[file], "lines", tuple(sorted(fresh)))

    def rearm(self, keys: Collection[int]) -> frozenset[int]:
        """None: what was told is not told again."""
        return frozenset()

    def look_closer(self, seconds: float) -> None:
        """Watch what was loaded meanwhile."""
        if self._watch is not None and self._codes.grown():
            self._add(self._watch, frozen=False)

    def before_fork(self, known: Sequence[Hits]) -> None:
        """What this process ran itself is new again; what the campaign has is not."""
        for hits in known:
            if hits.source == self.name:
                self._known.setdefault(hits.unit, set()).update(hits.keys)
        if self._watch is not None:
            # What is looked at here need not be looked at in each child.
            for _ in self._watch.entered():
                pass
            self._watch.again()
            self._told.clear()
