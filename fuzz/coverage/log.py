"""What a campaign has reached: an append-only file in its directory, which others read while it is written.

A line says what one case added in one place: JSON with its number, target, seconds since the campaign began, and the
hits.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from shakeout.fuzz.coverage.hits import Hits
from shakeout.fuzz.coverage.tail import Tail

__all__ = ["NAME", "Book", "CoverageLog", "Follower", "Seen", "rows"]

#: File name in a campaign's directory.
NAME = "coverage.jsonl"


@dataclass(slots=True)
class Seen:
    """What was reached in one place, and what could be; like ``Hits``."""

    name: str
    of: int = 0
    keys: set[int | str] = field(default_factory=set)
    exist: set[str] = field(default_factory=set)


class Book:
    """What was reached so far, by place (``Hits.place``), in the order in which it was first told."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str, str], Seen] = {}

    def add(self, hits: Hits) -> Hits:
        """Enter what was hit, and give what of it is new."""
        seen = self.seen.setdefault(hits.place, Seen(hits.name))
        seen.of = max(seen.of, hits.of)
        # Those of one kind are all numbers or all words.
        keys: Any = tuple(one for one in hits.keys if one not in seen.keys)
        exist = tuple(one for one in hits.exist if one not in seen.exist)
        seen.keys.update(keys)
        seen.exist.update(exist)
        return replace(hits, keys=keys, exist=exist)

    @property
    def total(self) -> dict[str, int]:
        """How much was reached, by source."""
        found: dict[str, int] = {}
        for (source, _, _), seen in self.seen.items():
            found[source] = found.get(source, 0) + len(seen.keys)
        return found


class CoverageLog:
    """Appends what is new; a context manager, for the one process that writes.

    Args:
        directory: of the campaign; what an earlier run of it hit is not new.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._file: IO[str] | None = None
        self._book = Book()

    def __enter__(self) -> CoverageLog:
        for hits, _ in rows(self._path):
            self._book.add(hits)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def add(self, every: Iterable[Hits], *, case: int, target: str, seconds: float) -> tuple[Hits, ...]:
        """Append what is new of what a case hit, and give it. Raises OSError.

        Args:
            every: what its worker hit for the first time.
            case: its number.
            target: its target.
            seconds: of fuzzing so far.
        """
        new = []
        for hits in every:
            fresh = self._book.add(hits)
            if fresh.keys or fresh.exist:
                row = {"case": case, "target": target, "seconds": round(seconds, 1), **fresh.to_json()}
                self._write(json.dumps(row, separators=(",", ":")) + "\n")
            if fresh.keys:
                new.append(fresh)
        return tuple(new)

    def _write(self, line: str) -> None:
        if self._file is None:
            # Line by line: the process that forks workers reads along.
            self._file = self._path.open("a", encoding="utf-8", buffering=1)
            if self._file.tell():
                self._file.write("\n")  # the last line may have been cut off
        self._file.write(line)

    @property
    def total(self) -> Mapping[str, int]:
        """How much was hit so far, by source."""
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


def rows(path: Path) -> Iterator[tuple[Hits, Mapping[str, Any]]]:
    """All rows of a log, and what else stands in them; lines that cannot be read are left out."""
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
