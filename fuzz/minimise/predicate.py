"""What a candidate is asked, and how often it runs before it counts as failing or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shakeout.corpus.case import Case
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.results import Result
from shakeout.generators.validity import Requirements

__all__ = ["Executor", "NotReproduced", "Outcome", "Reliability", "repetitions"]

#: Runs that measure how reliably a case fails. One that fails in all of five has, with 95 % confidence, a reliability
#: of more than a half (0.5**5 = 3 %), and a single run of a candidate is then a fair answer.
MEASURED = 5

#: A case is measured once that takes at most this share of the search's time. One that takes longer is cut first, each
#: step on the evidence of one run, and what is left of it is measured.
SHARE = 0.1

#: A candidate that fails as often as the original is dropped by mistake in at most one of twenty cases. More runs
#: would be spent on every candidate, and a mistake only costs a step that a later round may find again.
MISSED = 0.05

#: A candidate runs at most so often: enough for what fails in one run of seven (0.86**20 = 5 %). What fails more
#: rarely needs another tool.
MOST_REPETITIONS = 20


class NotReproduced(Exception):
    """The case to minimise does not fail in the wanted way where candidates are tried."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one candidate.

    Attributes:
        status: as in ``Result.status``; ``invalid`` too if it does not keep the requirements, ``infra`` if
            nothing is known.
        failure: why it failed; None if it did not.
        case: the candidate with the result types that it really has; given where it failed.
        result: of its run; None for a candidate that is invalid.
        seconds: that it took.
    """

    status: str
    failure: Failure | None = None
    case: Case | None = None
    result: Result | None = None
    seconds: float = 0.0


#: Runs candidates under some requirements and tells what became of each, in order. Whatever a candidate does to a
#: process is an outcome too.
Executor = Callable[[Sequence[Case], Requirements], Sequence[Outcome]]


@dataclass(frozen=True, slots=True)
class Reliability:
    """A case failed in the wanted way in ``failed`` of ``runs`` runs."""

    failed: int
    runs: int

    @property
    def rate(self) -> float:
        """Failures for each run."""
        return self.failed / self.runs if self.runs else 0.0

    def __str__(self) -> str:
        return f"{self.failed} of {self.runs}"


def repetitions(reliability: Reliability) -> int:
    """How often a candidate runs before it counts as one that does not fail.

    One that fails once is run as often again and must fail a second time. So one as reliable as the original is taken
    with a probability of 0.9, and one ten times less reliable hardly ever: without that, luck would lead to cases that
    nobody can reproduce.
    """
    if reliability.failed == reliability.runs:
        return 1
    if not reliability.failed:
        return MOST_REPETITIONS
    return min(MOST_REPETITIONS, math.ceil(math.log(MISSED) / math.log(1 - reliability.rate)))
