"""When kernels that wait for a compiler are compiled, and how many of them together.

A joint file of k kernels costs some 1.0 + 0.11 k seconds of a core: 1.1 for each kernel alone, 0.20 in a dozen, 0.15 in
two dozen. A batch that is begun too early takes from the very cores that would have sent the kernels it lacks, so that
the next one is smaller still. Only cores that really had nothing to do are therefore a reason for a small batch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ENOUGH", "FIRST", "IDLE_SECONDS", "LARGEST", "LEAST", "Idleness", "due", "idle_ticks"]

#: So many are worth a compiler of their own. Two dozen would take a twentieth of a second less for each, but need twice
#: as many workers that wait, each with a case in hand that has been paid for and tells nothing yet: with one core, the
#: first minute went into those.
ENOUGH = 12

#: Kernels in one file at most: beyond that, what one more saves is less than what all others wait longer.
LARGEST = 32

#: The first batch does not wait for so many: a campaign shows its first case after seconds. Each one after it may be
#: twice as large, which costs two compilers more in all.
FIRST = 2

#: Of those that wait while several cores have nothing to do, each compiler takes at least so many; fewer wait for
#: whoever is still at work.
LEAST = 4

#: Cores have had nothing to do for so long. Between one worker's wait and the next one's job lie some hundredths of a
#: second, and a fork lasts longer where others compute on the core.
IDLE_SECONDS = 0.5

#: Nobody has been at work for so long, and nothing was being compiled: nobody will come, even if others compute on the
#: cores.
QUIET_SECONDS = 2.0

#: Nobody waits for company for longer, whoever is at work and however long that hangs.
OLDEST_SECONDS = 20.0


def due(
    ages: Sequence[float], *, enough: int, idle: int, at_work: int, quiet: float = 0.0, largest: int = LARGEST
) -> int:
    """How many of those that wait for kernels with equal flags are to be compiled now, the oldest first.

    Args:
        ages: seconds that each has waited, the longest first.
        enough: so many are worth a compiler though all cores are busy.
        idle: cores that have nothing to do, and that nobody will give anything to do.
        at_work: how many may send another kernel before long.
        quiet: seconds since anybody was at work or any compiler was.
        largest: kernels in one file at most.
    """
    count = min(len(ages), largest)
    if not count:
        return 0
    if count >= min(enough, largest) or quiet > QUIET_SECONDS or ages[0] > OLDEST_SECONDS:
        return count
    if idle > 0 and (count >= LEAST or not at_work):
        # Several cores divide them.
        return min(count, max(LEAST, -(-len(ages) // idle)))
    return 0


def idle_ticks(cores: Collection[int]) -> tuple[int, int]:
    """How long some cores have had nothing to do, and how long they have been there, in any unit; raises OSError."""
    idle = total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *words = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            ticks = list(map(int, words[:8]))  # the rest is contained in these
            idle += ticks[3] + ticks[4]
            total += sum(ticks)
    return idle, total


@dataclass(slots=True)
class Idleness:
    """Tells how many of some cores had nothing to do, whoever else computes there.

    Where the system does not tell, none is busy: how many jobs are in hand decides alone then.

    Attributes:
        idle: so many cores, of the last ``IDLE_SECONDS``. Whoever gives one something to do takes it off.
    """

    cores: frozenset[int] = field(default_factory=lambda: frozenset(os.sched_getaffinity(0)))
    ticks: Callable[[Collection[int]], tuple[int, int]] = idle_ticks
    idle: int = 0
    _since: float = float("-inf")
    _last: tuple[int, int] = (0, 0)

    def look(self, now: float, *, begin: bool = False) -> None:
        """Look at the clock, and at the cores if it is time; ``begin`` forgets what they did so far.

        Args:
            now: seconds of the monotonic clock.
            begin: nothing counted so far, because nobody wanted to know.
        """
        if not begin and now - self._since < IDLE_SECONDS:
            return
        seen = (0, 0)
        with contextlib.suppress(OSError, ValueError, IndexError):
            seen = self.ticks(self.cores)
        idle, total = seen[0] - self._last[0], seen[1] - self._last[1]
        # A core that was idle for two thirds of the time counts: the server and the supervisor look around meanwhile.
        self.idle = 0 if begin else int(len(self.cores) * (idle / total if total > 0 else 1.0) + 1 / 3)
        self._since, self._last = now, seen
