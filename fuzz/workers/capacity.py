"""How many workers there are: as many as are at work at a time, and more of them that wait for kernels."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["FEWEST_WAITING", "WAITING_BYTES", "WAITING_FOR_EACH", "ahead", "available", "spare"]

#: Workers that wait for kernels, at most. Of what a case of Inductor costs, some 60 % are Python and 40 % compilers, so
#: that 0.4 N of N cores compile. Joint files of a dozen kernels (``shakeout.targets.batches``) then keep 5 N workers
#: waiting while one more dozen gathers, and N more give the cores something to do while it does. More than that gain
#: nothing: each begins with a case that costs a second or more of a core, because little is remembered yet, and tells
#: nothing until all its kernels are there. With eight for each, and batches of two dozen, a minute went into those.
FEWEST_WAITING = 12
WAITING_FOR_EACH = 6

#: Bytes that such a worker holds of its own; half of what memory can be had is for them.
WAITING_BYTES = 160 << 20


def spare(workers: int, memory: int) -> int:
    """How many more workers there may be, to wait for kernels that are compiled jointly.

    Args:
        workers: that are at work at a time.
        memory: bytes that can be had.
    """
    return max(0, min(FEWEST_WAITING + WAITING_FOR_EACH * workers, memory // 2 // WAITING_BYTES - workers))


def ahead(workers: int) -> int:
    """How many workers are kept free for whoever begins to wait next.

    Each of those at work does so after some 0.35 s, and to fork another takes 0.05: an eighth of them, and two more.
    """
    return 2 + workers // 8


def available() -> int:
    """Bytes of memory that can be had without swapping: of the machine, and of the control group that it gives us."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    with (
        contextlib.suppress(OSError, ValueError, IndexError, StopIteration),
        open("/proc/meminfo", encoding="ascii") as file,
    ):
        found = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:"))
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        found = min(found, max(0, limit - used))
    return found
