"""Files of a store, and the faults that a disk has: each ends in a clean error or in the right bytes."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from shakeout.targets.offload.workers import WorkerDied

__all__ = ["FAULTS", "FaultyFiles", "Files", "files"]

#: Seconds that a slow disk takes for what it is slow with: longer than any operator of a small network.
DELAY = 0.002

#: What can go wrong, and whether nothing but an error can come of it: what is not on the disk any more cannot be read.
#: What goes wrong ``once`` goes right when it is tried again.
FAULTS: dict[str, bool] = {
    "delay": False,
    "reorder": False,
    "crash": False,
    "EIO once": False,
    "short read once": False,
    "bit flip once": False,
    "ENOSPC": False,
    "EIO": True,
    "short read": True,
    "bit flip": True,
}


class Files:
    """Whole files, written and read at once."""

    def write(self, number: int, path: Path, data: Any) -> None:
        """Write a block.

        Args:
            number: of the block, counted in a store.
            path: of its file, which is made.
            data: its bytes.

        Raises:
            OSError: it could not be written; a piece may be there.
        """
        with path.open("wb") as file:
            file.write(data)

    def read(self, number: int, path: Path, into: Any) -> int:
        """Fill a buffer with the block's bytes, as far as there are some; how many there were."""
        with path.open("rb") as file:
            return file.readinto(into)

    def order(self, waiting: int) -> int:
        """Which of so many waiting transfers is next: 0 for the first."""
        return 0


class FaultyFiles(Files):
    """Files on a disk with a fault. Every other block meets it, the first included, so that both kinds are at hand."""

    def __init__(self, fault: str) -> None:
        """``fault`` is one of ``FAULTS``."""
        self._once = fault.endswith(" once")
        self._fault = fault.removesuffix(" once")
        self._met: Counter[tuple[str, int]] = Counter()
        self._turns = 0
        self._lock = threading.Lock()

    def write(self, number: int, path: Path, data: Any) -> None:
        """Write a block, or what a full disk, or a process that dies, leaves of it."""
        if self._meets("delay", "write", number):
            time.sleep(DELAY)
        full, dies = self._meets("ENOSPC", "write", number), self._meets("crash", "write", number, once=True)
        if full or dies:
            super().write(number, path, memoryview(data)[: len(data) // 2])
            if full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            raise WorkerDied
        super().write(number, path, data)

    def read(self, number: int, path: Path, into: Any) -> int:
        """Read a block, with what a disk does to it."""
        if self._meets("delay", "read", number):
            time.sleep(DELAY)
        if self._meets("EIO", "read", number):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        if self._meets("crash", "read", number, once=True):
            raise WorkerDied
        count = super().read(number, path, into)
        if count and self._meets("short read", "read", number):
            return super().read(number, path, memoryview(into)[: count // 2])
        if count and self._meets("bit flip", "read", number):
            into[number % count] ^= 4
        return count

    def order(self, waiting: int) -> int:
        """By turns the last, the first, and one between them, if transfers come in any order."""
        if self._fault != "reorder":
            return 0
        with self._lock:
            self._turns += 1
            return (self._turns * 7 - 8) % waiting

    def _meets(self, fault: str, what: str, number: int, *, once: bool = False) -> bool:
        """Whether this is the fault, and it is this block's turn."""
        if fault != self._fault or number % 2:
            return False
        with self._lock:
            self._met[what, number] += 1
            return not (once or self._once) or self._met[what, number] == 1


def files(fault: str | None) -> Files:
    """A disk with a fault, or without one.

    Raises:
        ValueError: there is no such fault.
    """
    if fault is None:
        return Files()
    if fault not in FAULTS:
        raise ValueError(f"no fault {fault!r}; there are {', '.join(FAULTS)}")
    return FaultyFiles(fault)
