"""How a night's budget is shared: until when each part of it may go on, in seconds from its beginning."""

from __future__ import annotations

from dataclasses import dataclass

from shakeout.fuzz.campaign.campaign import GRACE, GRACE_SHARE, LAST_CASES

__all__ = ["Plan", "share"]

#: Of the budget, for learning the rules anew: all of torch takes a quarter of an hour on two cores, and a night of
#: eight hours has two for it. What is not learnt then goes on with the next night that learns.
LEARNING = 0.25

#: Of what is left before fuzzing ends, for running again what is known. It takes a second or two for each bug, so that
#: only a short night comes near it; a fix that is told a night later costs less than a night without new cases.
REPLAY = 1 / 3

#: Of the budget, for bisecting what is new, and seconds of it at most. A night finds a handful of bugs and each takes a
#: minute or two; what takes longer goes on with the next night from where it stood.
BISECTION = 0.1
MOST_BISECTION = 900.0

#: A bisection is begun only with so many seconds left: loading a compiler alone takes ten.
LEAST_BISECTION = 20.0

#: Seconds behind fuzzing for cases in hand and for writing the report.
CLOSING = LAST_CASES + 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The shares of one night.

    What is not used of a share is left to the parts that follow. Only triage may take the night beyond its budget, by
    as much as that of a campaign may, and bisecting then still has its share.

    Attributes:
        budget: seconds for everything.
        bisecting: whether any of the targets has parts that bisecting could blame.
    """

    budget: float
    bisecting: bool = True

    @property
    def learning(self) -> float:
        """When learning ends."""
        return LEARNING * self.budget

    @property
    def fuzzing(self) -> float:
        """When fuzzing ends."""
        return max(self.budget - self._bisection - CLOSING, 0.0)

    @property
    def end(self) -> float:
        """When all of it is over, at the latest."""
        return self.budget + max(GRACE, GRACE_SHARE * self.budget)

    def replay(self, now: float) -> float:
        """When what is known is not run again any more, if that begins now."""
        return now + REPLAY * max(self.fuzzing - now, 0.0)

    def bisection(self, now: float) -> float:
        """When bisecting ends, if it begins now."""
        return min(max(self.budget - CLOSING, now + self._bisection), self.end)

    @property
    def _bisection(self) -> float:
        return min(BISECTION * self.budget, MOST_BISECTION) if self.bisecting else 0.0


def share(left: float, bugs: int) -> float:
    """Seconds for the first of some bugs that are to be bisected in the seconds that are left; 0 for none."""
    return max(left / bugs, min(left, LEAST_BISECTION)) if left >= LEAST_BISECTION else 0.0
