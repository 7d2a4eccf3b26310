"""What a campaign has hit: an append-only file in its directory, read by whoever shows it and by whoever forks workers.

A line says what one case added: JSON with its number, target, seconds since the campaign began, and the places.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from shakeout.fuzz.coverage.hits import Hits, Reach
from shakeout.fuzz.coverage.tail import Tail

__all__ = ["NAME", "Coverage", "CoverageLog", "Follower", "read_coverage"]

#: File name in a campaign's directory.
NAME = "coverage.jsonl"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much a campaign reached, by library, and over time.

    Attributes:
        libraries: by the names of their files, in the order in which they were first reached.
        curve: seconds of fuzzing, functions and further blocks reached by then, for each case that added something.
    """

    libraries: Mapping[str, Reach] = field(default_factory=dict)
    curve: tuple[tuple[float, int, int], ...] = ()

    def lines(self, asked: Sequence[str] = ()) -> tuple[str, ...]:
        """For a person: all of it, each library, and how it came; nothing if nothing was watched.

        Args:
            asked: libraries that a person named; of those that no case reached it is said.
        """
        missed = tuple(
            f"{name}: no case reached anything of it; was it loaded?"
            for name in asked
            if not any(fnmatch.fnmatchcase(one, Path(name).name) for one in self.libraries)
        )
        if not self.libraries:
            return missed
        whole = sum(self.libraries.values(), Reach())
        each = [f"{name}: {reach.line}" for name, reach in self.libraries.items()] if len(self.libraries) > 1 else []
        return (f"coverage: {whole.line}", *each, *missed, *self._course())

    def _course(self) -> tuple[str, ...]:
        """How much there was after quarters of the time, where that says something."""
        total = self.curve[-1][0] if self.curve else 0.0
        if total < 4:
            return ()
        said = []
        for quarter in (1, 2, 3, 4):
            by = [row for row in self.curve if row[0] <= total * quarter / 4] or [(0.0, 0, 0)]
            said.append(f"{total * quarter / 4:.0f} s {by[-1][1] + by[-1][2]:,}")
        return (f"over time: {', '.join(said)}",)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, the curve thinned to at most a hundred points and the last."""
        step = max(1, -(-len(self.curve) // 100))
        points = [*self.curve[:-1:step], *self.curve[-1:]]
        return {
            "libraries": {name: asdict(reach) for name, reach in self.libraries.items()},
            "curve": [{"seconds": at, "functions": functions, "blocks": blocks} for at, functions, blocks in points],
        }


@dataclass(slots=True)
class _Seen:
    """What was hit of one library."""

    name: str
    of: int
    functions: set[int] = field(default_factory=set)
    blocks: set[int] = field(default_factory=set)


class _Book:
    """What was hit so far, by library."""

    def __init__(self) -> None:
        self.seen: dict[str, _Seen] = {}

    def add(self, hits: Hits) -> Hits:
        """Enter what was hit, and give what of it is new."""
        seen = self.seen.setdefault(hits.library, _Seen(hits.name, hits.of))
        functions = tuple(one for one in hits.functions if one not in seen.functions)
        blocks = tuple(one for one in hits.blocks if one not in seen.blocks)
        seen.functions.update(functions)
        seen.blocks.update(blocks)
        return Hits(hits.library, hits.name, hits.of, functions, blocks)

    def reach(self, library: str) -> Reach:
        seen = self.seen[library]
        return Reach(seen.of, len(seen.functions), len(seen.blocks))

    @property
    def total(self) -> Reach:
        return sum(map(self.reach, self.seen), Reach())


class CoverageLog:
    """Appends what is new; a context manager, for the one process that writes.

    Args:
        directory: of the campaign; what an earlier run of it hit is not new.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._file: IO[str] | None = None
        self._book = _Book()

    def __enter__(self) -> CoverageLog:
        for hits, _ in _rows(self._path):
            self._book.add(hits)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def add(self, every: Iterable[Hits], *, case: int, target: str, seconds: float) -> int:
        """Append what is new of what a case hit; how many places that are. Raises OSError.

        Args:
            every: what its worker hit for the first time.
            case: its number.
            target: its target.
            seconds: of fuzzing so far.
        """
        new = 0
        for hits in every:
            fresh = self._book.add(hits)
            if count := len(fresh.functions) + len(fresh.blocks):
                new += count
                row = {"case": case, "target": target, "seconds": round(seconds, 1), **fresh.to_json()}
                self._write(json.dumps(row, separators=(",", ":")) + "\n")
        return new

    def _write(self, line: str) -> None:
        if self._file is None:
            # Line by line: the process that forks workers reads along.
            self._file = self._path.open("a", encoding="utf-8", buffering=1)
            if self._file.tell():
                self._file.write("\n")  # the last line may have been cut off
        self._file.write(line)

    @property
    def total(self) -> Reach:
        """How much was hit so far."""
        return self._book.total


class Follower:
    """Reads a log while it is written."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)

    def rows(self) -> Iterator[Hits]:
        """What was added since the last time; lines that cannot be read are left out."""
        for line in self._tail.lines():
            with contextlib.suppress(ValueError):
                yield Hits.from_json(_row(line))


def read_coverage(directory: Path) -> Coverage:
    """How much a campaign has hit; nothing where it was not watched."""
    book, curve = _Book(), []
    functions = blocks = 0
    for hits, row in _rows(directory / NAME):
        new = book.add(hits)
        functions, blocks = functions + len(new.functions), blocks + len(new.blocks)
        with contextlib.suppress(TypeError, ValueError):
            curve.append((float(row.get("seconds", 0.0)), functions, blocks))
    libraries: dict[str, Reach] = {}
    for identity, seen in book.seen.items():
        # Of two builds of one library, those of a campaign that went on with another release, each has a row.
        name = seen.name if seen.name not in libraries else f"{seen.name} ({identity[:8]})"
        libraries[name] = book.reach(identity)
    return Coverage(libraries, tuple(curve))


def _rows(path: Path) -> Iterator[tuple[Hits, Mapping[str, Any]]]:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):
                row = _row(line)
                yield Hits.from_json(row), row


def _row(line: bytes) -> Mapping[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("not a row of a coverage log")
    return row
