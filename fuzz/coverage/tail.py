"""Reads a file of lines while other processes append to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Tail"]


class Tail:
    """What a file got since the last look, line by line; a line that is not whole yet waits.

    Args:
        path: of the file, which need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def lines(self) -> Iterator[bytes]:
        """The whole lines that were added since the last time; none where the file cannot be read."""
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
            whole = data.rfind(b"\n") + 1
            self._position += whole
            yield from data[:whole].splitlines()
