"""The time limit of one case: derived from what earlier cases of the same target took, and shown."""

from __future__ import annotations

from collections import defaultdict, deque

__all__ = ["FIRST", "LEAST", "TimeLimits"]

#: Seconds that a case may take while too few have been seen to know. A network of a hundred operators and three input
#: sets took Inductor 39 seconds of processor time, and 63 on a machine that was busy with others.
FIRST = 180.0
ENOUGH = 20

#: No limit is smaller: a pause of the machine, or another set of compiler flags, is no hang.
LEAST = 20.0

#: The limit is so many times what all but the slowest twentieth of the cases took.
FACTOR = 10.0
QUANTILE = 0.95

#: Cases that are looked at: the latest ones.
WINDOW = 400


class TimeLimits:
    """What each target's cases took, and how long the next one may take."""

    def __init__(self, fixed: float | None = None) -> None:
        self._fixed = fixed
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._limits: dict[str, float] = {}

    def add(self, target: str, seconds: float) -> None:
        """One more case of a target took so many seconds."""
        self._seconds[target].append(seconds)
        self._limits.pop(target, None)

    def overdue(self, target: str) -> float:
        """Seconds after which a case is suspected to hang: sooner than it is ended, for whoever cannot wait so long."""
        seconds = sorted(self._seconds[target])
        return FACTOR * seconds[int(QUANTILE * (len(seconds) - 1))] if seconds else LEAST

    def limit(self, target: str) -> float:
        """Seconds that a case of a target may take."""
        if self._fixed is not None:
            return self._fixed
        if target not in self._limits:
            seconds = self._seconds[target]
            if len(seconds) < ENOUGH:
                return FIRST
            slow = sorted(seconds)[int(QUANTILE * (len(seconds) - 1))]
            self._limits[target] = max(LEAST, FACTOR * slow)
        return self._limits[target]
