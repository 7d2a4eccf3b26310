"""What the reference refused and took during a campaign: a file in its directory from which rules are learnt."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

__all__ = ["NAME", "TraceLog", "read_traces"]

#: File name in a campaign's directory.
NAME = "traces.jsonl"

#: Bytes of the file, and rows of one operator in one run of the command, refused ones and taken ones: what is beyond
#: says little that is new.
MOST_BYTES = 32 << 20
MOST_OF_OPERATOR = 250


class TraceLog:
    """Appends rows; a context manager."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._file: IO[str] | None = None
        self._counts: Counter[tuple[str, bool]] = Counter()

    def __enter__(self) -> TraceLog:
        self._file = self._path.open("a", encoding="utf-8")
        if self._file.tell():
            self._file.write("\n")  # the last line may have been cut off
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            # What is lost at the end of a full disk are calls that will be seen again.
            with contextlib.suppress(OSError):
                self._file.close()

    def add(self, rows: Iterable[Any]) -> None:
        """Append traces, as far as there is room; raises OSError."""
        assert self._file is not None
        for row in rows:
            key = (row[0], not row[6])
            if self._counts[key] < MOST_OF_OPERATOR and self._file.tell() < MOST_BYTES:
                self._counts[key] += 1
                self._file.write(json.dumps(row, separators=(",", ":")) + "\n")


def read_traces(path: Path) -> Iterator[Any]:
    """The rows of such a file, none where it is missing; lines that cannot be read are left out."""
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, list) and len(row) == 8 and isinstance(row[0], str):
                    yield row
