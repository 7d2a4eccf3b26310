"""What a campaign has hit: an append-only file in its directory, read by whoever shows it and by whoever forks workers.

A line says what one case added: JSON with its number, target, seconds since the campaign began, and the places.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from shakeout.fuzz.coverage.hits import Hits

__all__ = ["NAME", "Coverage", "CoverageLog", "Follower", "LibraryCoverage", "read_coverage"]

#: File name in a campaign's directory.
NAME = "coverage.jsonl"


@dataclass(frozen=True, slots=True)
class LibraryCoverage:
    """How much of one library was hit.

    Attributes:
        name: of its file.
        of: how many functions are watched.
        functions: that were entered.
        blocks: that were entered, beside the first of each function.
    """

    name: str
    of: int
    functions: int
    blocks: int

    @property
    def line(self) -> str:
        """For a person."""
        blocks = f", {self.blocks:,} further blocks" if self.blocks else ""
        return f"{self.name} {self.functions:,} of {self.of:,} functions{blocks}"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much was hit, by library, and over time.

    Attributes:
        libraries: in the order in which they were first hit.
        curve: seconds of fuzzing, functions and further blocks hit by then, for each case that added something.
        last: number of the last case that added something; -1 for none.
    """

    libraries: tuple[LibraryCoverage, ...] = ()
    curve: tuple[tuple[float, int, int], ...] = ()
    last: int = -1

    @property
    def functions(self) -> int:
        """That were hit, in all libraries."""
        return sum(one.functions for one in self.libraries)

    @property
    def blocks(self) -> int:
        """That were hit beside the first of each function, in all libraries."""
        return sum(one.blocks for one in self.libraries)

    @property
    def line(self) -> str:
        """For a person; empty if nothing was watched."""
        if not self.libraries:
            return ""
        of = sum(one.of for one in self.libraries)
        blocks = f"{self.functions + self.blocks:,} blocks of " if self.blocks else ""
        return f"{blocks}{self.functions:,} functions, of {of:,} watched"

    def to_json(self) -> dict[str, Any]:
        """As JSON values, the curve thinned to at most a hundred points."""
        step = max(1, -(-len(self.curve) // 100))
        points = [*self.curve[:-1:step], *self.curve[-1:]]
        return {
            "libraries": [
                {"name": one.name, "of": one.of, "functions": one.functions, "blocks": one.blocks}
                for one in self.libraries
            ],
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

    def libraries(self) -> tuple[LibraryCoverage, ...]:
        return tuple(
            LibraryCoverage(one.name, one.of, len(one.functions), len(one.blocks)) for one in self.seen.values()
        )


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
        # Line by line: the process that forks workers reads along.
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        if self._file.tell():
            self._file.write("\n")  # the last line may have been cut off
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
        assert self._file is not None
        new = 0
        for hits in every:
            fresh = self._book.add(hits)
            if count := len(fresh.functions) + len(fresh.blocks):
                new += count
                row = {"case": case, "target": target, "seconds": round(seconds, 1), **fresh.to_json()}
                self._file.write(json.dumps(row, separators=(",", ":")) + "\n")
        return new

    @property
    def libraries(self) -> tuple[LibraryCoverage, ...]:
        """How much of each library was hit so far."""
        return self._book.libraries()


class Follower:
    """Reads a log while it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def rows(self) -> Iterator[Hits]:
        """What was added since the last time; lines that cannot be read are left out."""
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
            whole = data.rfind(b"\n") + 1
            self._position += whole
            for line in data[:whole].splitlines():
                with contextlib.suppress(ValueError):
                    yield Hits.from_json(_row(line))


def read_coverage(directory: Path) -> Coverage:
    """How much a campaign has hit; nothing where it was not watched."""
    book, curve, last = _Book(), [], -1
    functions = blocks = 0
    for hits, row in _rows(directory / NAME):
        new = book.add(hits)
        functions, blocks = functions + len(new.functions), blocks + len(new.blocks)
        with contextlib.suppress(TypeError, ValueError):
            curve.append((float(row.get("seconds", 0.0)), functions, blocks))
            last = int(row.get("case", last))
    return Coverage(book.libraries(), tuple(curve), last)


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
