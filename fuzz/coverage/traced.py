"""Python coverage to the line and arc, by the tracer of coverage.py: exact, and dear (``--coverage-report``).

An arc is a pair of lines of which one ran right after the other; a function's entry and exit are its first line,
negative.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.fuzz.coverage.hits import Hits
from shakeout.fuzz.coverage.python import module_unit
from shakeout.fuzz.coverage.source import Armed

if TYPE_CHECKING:
    from shakeout.corpus.case import Case

__all__ = ["TracedSource", "arc", "arc_key", "unavailable"]

#: What coverage.py would print in a worker about modules that were loaded before, and cases that reach none of them.
_WARNINGS = ("module-not-measured", "already-imported", "no-data-collected", "module-not-imported", "trace-changed")

#: Lines that an arc can name: 16 bits and a sign between them.
_LAST = (1 << 15) - 1


def unavailable() -> str:
    """Why nothing can be traced; empty if it can."""
    if importlib.util.find_spec("coverage") is None:
        return "coverage.py is not installed: pip install 'shakeout[coverage]'"
    return ""


def arc_key(first: int, second: int) -> int:
    """An arc as one number below 2**32."""
    return (first & 0xFFFF) << 16 | second & 0xFFFF


def arc(key: int) -> tuple[int, int]:
    """The arc of a key."""
    first, second = key >> 16, key & 0xFFFF
    return first - ((first > _LAST) << 16), second - ((second > _LAST) << 16)


class TracedSource:
    """Traces modules while cases run: all of a case, growing and reference left out.

    Args:
        modules: names of packages or modules.
    """

    name = "python"

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = tuple(modules)
        self._armed = False
        self._coverage: Any = None
        self._tracing = False
        self._known: dict[tuple[str, str], set[int | str]] = {}  # by unit and kind
        self._units: dict[str, str] = {}  # by file

    def arm(self) -> tuple[Armed, ...]:
        """Only say what will be traced: a tracer belongs to one process."""
        if self._armed:
            return ()
        self._armed = True
        if why := unavailable():
            self._modules = ()
            return (Armed(self.name, reason=why),)
        return tuple(Armed(f"{name}, traced") for name in self._modules)

    def begin(self, case: Case) -> None:
        """Trace from now on."""
        if not self._modules:
            return
        if self._coverage is None:
            import coverage

            self._coverage = coverage.Coverage(
                data_file=None, config_file=False, branch=True, include=_patterns(self._modules)
            )
            self._coverage.set_option("run:disable_warnings", list(_WARNINGS))
        self.end(case, "")  # of a case in which something of ours was raised
        self._coverage.start()
        self._tracing = True

    def end(self, case: Case, status: str) -> None:
        """Trace no more."""
        if self._tracing:
            self._tracing = False
            self._coverage.stop()

    def take(self) -> tuple[Hits, ...]:
        """Lines and arcs that ran for the first time in this process since the last call."""
        if self._coverage is None:
            return ()
        data = self._coverage.get_data()
        told = []
        for file in sorted(data.measured_files()):
            arcs = [pair for pair in data.arcs(file) or () if max(map(abs, pair)) <= _LAST]
            if file not in self._units:
                self._units[file] = module_unit(file)
            unit = self._units[file]
            lines = {line for pair in arcs for line in pair if line > 0}
            for kind, keys in (("lines", lines), ("arcs", {arc_key(*pair) for pair in arcs})):
                known = self._known.setdefault((unit, kind), set())
                if fresh := keys - known:
                    known |= fresh
                    told.append(Hits(self.name, unit, _module(file, self._modules), kind, tuple(sorted(fresh))))
        return tuple(told)

    def rearm(self, keys: Collection[int]) -> frozenset[int]:
        """None: what was told is not told again."""
        return frozenset()

    def look_closer(self, seconds: float) -> None:
        """Nothing."""

    def before_fork(self, known: Sequence[Hits]) -> None:
        """What the campaign has is not told again."""
        for hits in known:
            if hits.source == self.name:
                self._known.setdefault((hits.unit, hits.kind), set()).update(hits.keys)


def _patterns(modules: Sequence[str]) -> list[str]:
    """The files of modules, and of what is inside of packages, as patterns."""
    found = []
    for name in modules:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            found += [f"{place}/*" for place in spec.submodule_search_locations]
        elif spec is not None and spec.origin:
            found.append(spec.origin)
    return found


def _module(file: str, modules: Sequence[str]) -> str:
    """The name of the module in a file; it is inside one of these."""
    parts = Path(file).with_suffix("").parts
    for name in modules:
        first = name.split(".")[0]
        if first in parts:
            start = len(parts) - 1 - parts[::-1].index(first)
            return ".".join(parts[start:]).removesuffix(".__init__")
    return Path(file).stem
