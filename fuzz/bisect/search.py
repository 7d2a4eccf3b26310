"""The search for the first bad candidate of an ordered history, where a test may be flaky, or say nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Certainty", "Found", "Step", "Test", "Verdict", "first_bad", "merged"]

#: What one run says of a candidate: it does not fail, it fails in the wanted way, it cannot be judged (it does not run,
#: or it fails otherwise), or the machine is to blame.
Verdict = Literal["good", "bad", "skip", "infra"]

#: Runs candidate ``index`` so often, and says what each run showed.
Test = Callable[[int, int], Sequence[Verdict]]

#: A bad candidate is taken for a good one in at most one of twenty cases.
MISSED = 0.05

#: More runs of one candidate are too dear: what fails in less than one run of seven needs another tool.
MOST_RUNS = 20


@dataclass(slots=True)
class Certainty:
    """How surely a bad candidate fails in one run, as far as its runs so far tell.

    The estimate is the mean of the posterior under a uniform prior (Laplace's rule of succession), which is cautious
    where little was seen: five failures of five mean 6/7, and two good runs are then asked of a candidate.

    Attributes:
        failed: runs of bad candidates that failed.
        runs: runs of bad candidates.
    """

    failed: int = 0
    runs: int = 0

    @property
    def rate(self) -> float:
        """Probability that a bad candidate fails in one run."""
        return (self.failed + 1) / (self.runs + 2)

    @property
    def needed(self) -> int:
        """Good runs after which a candidate counts as good."""
        return min(MOST_RUNS, max(1, math.ceil(math.log(MISSED) / math.log(1 - self.rate))))

    def add(self, verdicts: Sequence[Verdict]) -> None:
        """Count the runs of a candidate that turned out bad, up to the one that told it."""
        told = [verdict for verdict in verdicts if verdict in ("good", "bad")]
        self.runs += len(told)
        self.failed += told.count("bad")

    def of_good(self, runs: int) -> float:
        """Probability that a candidate that passed so many runs is not a bad one in luck."""
        return 1 - (1 - self.rate) ** runs


@dataclass(frozen=True, slots=True)
class Step:
    """One candidate that was tested.

    Attributes:
        index: which one.
        verdict: on all of its runs together.
        runs: that it took.
    """

    index: int
    verdict: Verdict
    runs: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        first: the first bad candidate; None if none is bad, or if it lies among several that cannot be told apart.
        suspects: the candidates of which one is the first bad: one, or several of which all but the last cannot be
            judged; empty if nothing is bad.
        good: the last good candidate before them; None if there is none, or nothing before them could be judged.
        confidence: that no bad candidate was taken for a good one: the product over the good ones' steps.
        steps: in the order in which they were tested.
        complete: whether the search came to its end.
    """

    first: int | None = None
    suspects: tuple[int, ...] = ()
    good: int | None = None
    confidence: float = 1.0
    steps: tuple[Step, ...] = ()
    complete: bool = True


@dataclass(slots=True)
class _Search:
    test: Test
    certainty: Certainty
    verdicts: dict[int, Verdict]
    stop: Callable[[], bool]
    tell: Callable[[Step], None]
    steps: list[Step] = field(default_factory=list)

    def verdict(self, index: int) -> Verdict:
        """What is known of a candidate, or what its runs say."""
        if index not in self.verdicts:
            runs: list[Verdict] = []
            needed = self.certainty.needed
            runs += self.test(index, needed)
            if "bad" not in runs and "infra" in runs and not self.stop():
                # The machine's fault is not the candidate's: the runs that were lost are made once more.
                kept: list[Verdict] = [verdict for verdict in runs if verdict != "infra"]
                runs = [*kept, *self.test(index, len(runs) - len(kept))]
            self.verdicts[index] = merged(runs)
            if self.verdicts[index] == "bad":
                self.certainty.add(runs)
            step = Step(index, self.verdicts[index], len(runs))
            self.steps.append(step)
            self.tell(step)
        return self.verdicts[index]

    def found(self, first: int | None, suspects: Sequence[int], good: int | None, complete: bool) -> Found:
        confidence = math.prod(self.certainty.of_good(step.runs) for step in self.steps if step.verdict == "good")
        return Found(first, tuple(suspects), good, confidence, tuple(self.steps), complete)


def merged(runs: Sequence[Verdict]) -> Verdict:
    """One failure is enough; one run that says nothing spoils the others, which would be too few."""
    ranked: tuple[Verdict, ...] = ("bad", "infra", "skip")
    return next((verdict for verdict in ranked if verdict in runs), "good")


def first_bad(
    count: int,
    test: Test,
    *,
    certainty: Certainty | None = None,
    known: Mapping[int, Verdict] | None = None,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[Step], None] = lambda step: None,
) -> Found:
    """The first bad one of ``count`` candidates, of which all after a bad one are taken to be bad.

    The last one is tested first, then the first one, then halves. A candidate that cannot be judged is passed over for
    its nearest neighbour, as ``git bisect`` does; where only such ones remain, each of them is a suspect.

    Args:
        count: of candidates.
        test: runs one of them.
        certainty: how reliably a bad candidate fails; what the search sees is added.
        known: verdicts that need no run.
        stop: asked between two candidates whether to give up.
        tell: told of each candidate's verdict.
    """
    search = _Search(test, certainty or Certainty(5, 5), dict(known or {}), stop, tell)
    high = count - 1
    # What cannot be judged at the end of a history says nothing of what lies before it.
    while high >= 0 and search.verdict(high) in ("skip", "infra"):
        if stop():
            return search.found(None, (), None, False)
        high -= 1
    if high < 0 or search.verdicts[high] == "good":
        return search.found(None, (), high if high >= 0 else None, True)
    low = -1  # the last one known to be good; -1 for none
    untested = [0] if high > 0 else []
    while untested:
        if stop():
            return search.found(None, range(low + 1, high + 1), _or_none(low), False)
        middle = untested[0] if len(untested) == 1 else (low + high) // 2
        index = min(untested, key=lambda index: (abs(index - middle), index))
        match search.verdict(index):
            case "bad":
                high = index
            case "good":
                low = index
        untested = [index for index in range(low + 1, high) if index not in search.verdicts]
    suspects = range(low + 1, high + 1)
    return search.found(high if len(suspects) == 1 else None, suspects, _or_none(low), True)


def _or_none(index: int) -> int | None:
    return index if index >= 0 else None
