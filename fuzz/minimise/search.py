"""The search: passes over a case in a fixed order, again and again until none of them makes it smaller.

Each pass proposes candidates, most aggressive first; one is taken if it is smaller in the order of ``measure``, means
something, and fails for the same reason. A failure for another reason is kept as a finding of its own and never
followed.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shakeout.corpus.case import Case
from shakeout.corpus.codec import stored
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.minimise import graph, nested, settings, tensors, values
from shakeout.fuzz.minimise.edit import invented, recorded
from shakeout.fuzz.minimise.order import elements, size
from shakeout.fuzz.minimise.predicate import (
    MEASURED,
    SHARE,
    Executor,
    NotReproduced,
    Outcome,
    Reliability,
    repetitions,
)
from shakeout.generators.validity import REQUIREMENTS, Requirements

__all__ = ["FIRST", "Budget", "Minimised", "minimise"]

#: What a search is doing when it tells how long one run of the original takes.
FIRST = "first run"

Pass = Callable[[Case], Iterator[Case]]


@dataclass(frozen=True, slots=True)
class Budget:
    """When the search ends at the latest: after so many seconds, or after so many candidates were run."""

    seconds: float = 300.0
    tries: int = 5000


@dataclass(frozen=True, slots=True)
class Minimised:
    """What came of it.

    Attributes:
        case: the smallest case that was found to fail for the same reason, with the result types that it has.
        failure: that reason.
        outcome: of its last run.
        reliability: of the original; where that takes too long to measure, of the first case on the way that does not,
            and 1 of 1 if there was none.
        tries: candidates that were run.
        seconds: that it took.
        complete: no pass makes it smaller; else the budget was used up, or somebody stopped it.
        others: the first case of each other reason that was met on the way.
        before: cases without which it does not fail: they run before it in the same process, which is a fresh one.
    """

    case: Case
    failure: Failure
    outcome: Outcome
    reliability: Reliability
    tries: int
    seconds: float
    complete: bool
    others: tuple[tuple[Failure, Case], ...] = ()
    before: tuple[Case, ...] = ()


def minimise(
    case: Case,
    executor: Executor,
    *,
    wanted: Failure | None = None,
    budget: Budget | None = None,
    width: int = 1,
    tell: events.Listener = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> Minimised:
    """The smallest case that fails as ``case`` does.

    Args:
        case: one that fails.
        executor: runs candidates.
        wanted: the reason to keep; the one for which it fails most often, if nobody says.
        budget: when to end at the latest.
        width: candidates that are given to the executor at once.
        tell: told of the progress after every candidate.
        stop: asked before every candidate whether to end with the best so far.

    Raises:
        NotReproduced: the case does not fail, or not for the wanted reason.
    """
    search = _Search(executor, budget or Budget(), width, tell, stop)
    search.begin(case, wanted)
    search.run()
    return search.result()


@dataclass(slots=True)
class _Search:
    executor: Executor
    budget: Budget
    width: int
    tell: events.Listener
    stop: Callable[[], bool]
    began: float = field(default_factory=time.monotonic)
    tries: int = 0
    accepted: int = 0
    complete: bool = False
    doing: str = FIRST
    seen: set[str] = field(default_factory=set)
    others: dict[Failure, Case] = field(default_factory=dict)
    best: Case = field(init=False)
    outcome: Outcome = field(init=False)
    wanted: Failure = field(init=False)
    reliability: Reliability = field(init=False)
    requirements: Requirements = field(init=False)
    repeat: int = 1
    #: The cases that were taken on the evidence of one run, the original first, until one is measured.
    unmeasured: list[tuple[Case, Outcome]] = field(default_factory=list)

    # --- the original -----------------------------------------------------------------------------------------------

    def begin(self, case: Case, wanted: Failure | None) -> None:
        """Run the original under the strictest requirements that it keeps: five times if that is quick, else once.

        One that does not fail in its first run gets the others in any case.
        """
        why = invalid = ""
        self._tell_of(case, 0.0)  # a first run may take a minute
        for requirements in REQUIREMENTS:
            found = self._runs(case, requirements, 1)
            if found[0].status == "invalid":
                invalid = "invalid"
                continue
            if not why:
                self._tell_of(case, found[0].seconds)
            at_once = found[0].failure is not None and wanted in (None, found[0].failure)
            if not at_once or self._quick(found[0]):
                found += self._runs(case, requirements, MEASURED - 1, ends=True)
            failures = [outcome.failure for outcome in found if outcome.failure is not None]
            if wanted is None and failures:
                wanted = max(failures, key=failures.count)
            hits = [outcome for outcome in found if outcome.failure is not None and outcome.failure == wanted]
            if hits:
                self.requirements, self.wanted, self.outcome = requirements, hits[-1].failure or failures[0], hits[-1]
                self.best = hits[-1].case or case
                self.reliability = Reliability(len(hits), len(found))
                self.repeat = repetitions(self.reliability)
                self.unmeasured = [(self.best, self.outcome)] if len(found) == 1 else []
                self.seen.add(self.best.id)
                return
            doubted = [line for outcome in found if outcome.result is not None for line in outcome.result.doubts]
            why = f"it fails otherwise: {failures[0]}" if failures else "; ".join(doubted[:1] or [found[-1].status])
            if self._over():
                break
        raise NotReproduced(f"the case does not fail {'as ' + str(wanted) if wanted else 'here'} ({why or invalid})")

    def _runs(self, case: Case, requirements: Requirements, runs: int, *, ends: bool = False) -> list[Outcome]:
        """What becomes of a case, so often; fewer times if it ``ends`` with the budget."""
        found: list[Outcome] = []
        while len(found) < runs and not (ends and self._over()):
            found += self.executor([case] * min(self.width, runs - len(found)), requirements)
        self.tries += len(found)
        return found

    def _quick(self, outcome: Outcome) -> bool:
        """Whether it takes a small share of the time to measure a case."""
        return math.ceil((MEASURED - 1) / self.width) * outcome.seconds <= SHARE * self.budget.seconds

    def _measure(self) -> bool:
        """Measure the smallest of the cases that were taken on one run; one that failed by luck gives way to a larger.

        Returns:
            Whether one run was enough: it stays, and fails whenever it runs.

        Raises:
            _Over: the budget is used up.
        """
        self.doing = "measuring"
        smallest = self.best
        while self.unmeasured:
            self.best, self.outcome = self.unmeasured.pop()
            self.complete &= self.best is smallest
            self._check()
            found = [self.outcome, *self._runs(self.best, self.requirements, MEASURED - 1, ends=True)]
            hits = [outcome for outcome in found if outcome.failure == self.wanted]
            if len(hits) > 1 or not self.unmeasured:
                self.reliability = Reliability(len(hits), len(found))
                break
        self.unmeasured.clear()
        self.repeat = repetitions(self.reliability)
        if self.repeat > 1:
            self.seen = {self.best.id}  # one run was too few to say that the others do not fail
        return self.best is smallest and self.repeat == 1

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All passes, until a whole round changes nothing."""
        # A reference that crashes must not run in this process.
        record = invented if self.wanted.oracle == "crash" and self.wanted.target == "eager" else recorded
        passes: list[tuple[str, Pass]] = [
            ("device", settings.device),
            ("calls", settings.call_sets),
            ("inputs", graph.unused),
            ("outputs", graph.outputs),
            ("operators", graph.removal(record)),
            ("operators", graph.forwarded),
            ("blocks", nested.around),
            ("blocks", nested.unwrapped),
            ("blocks", nested.fewer),
            ("blocks", nested.moved_out),
            ("knobs", settings.setting),
            ("sizes", tensors.capped),
            ("sizes", tensors.resized),
            ("dimensions", tensors.ranks),
            ("dtypes", tensors.dtypes),
            ("layouts", tensors.layouts),
            ("values", values.values),
            ("inputs", graph.merged),
            ("inputs", graph.inlined),
            ("operators", graph.plainer),
            ("attributes", settings.attributes),
            ("blocks", nested.taken_in),
            ("blocks", nested.simpler),
            ("leaves", settings.leaves),
            ("values", values.numbers),
        ]
        try:
            while not self.complete:
                changed = False
                for name, one in passes:
                    self.doing = name
                    while self._step(one):
                        changed = True
                self.complete = not changed
                if self.complete and self.unmeasured:
                    self.complete = self._measure()
        except _Over:
            pass

    def _step(self, one: Pass) -> bool:
        """The first candidate of a pass that is taken; False if there is none."""
        candidates = self._smaller(one)
        while batch := list(itertools.islice(candidates, self.width)):
            self._check()
            for candidate, outcome in zip(batch, self._judged(batch), strict=True):
                if outcome is not None:
                    case = outcome.case or candidate
                    if size(case) < size(self.best):
                        self.best, self.outcome = case, outcome
                        self.accepted += 1
                        self.seen.add(case.id)
                        self._tell()
                        if self.unmeasured:
                            self.unmeasured.append((case, outcome))
                            if self._quick(outcome):
                                self._measure()
                        return True
            self._tell()
        return False

    def _smaller(self, one: Pass) -> Iterator[Case]:
        """The candidates of a pass that are smaller than the best case, each once."""
        limit = size(self.best)
        for candidate in one(self.best):
            if stored(candidate) and candidate.id not in self.seen and size(candidate) < limit:
                self.seen.add(candidate.id)
                yield candidate

    def _judged(self, batch: list[Case]) -> list[Outcome | None]:
        """For each candidate the outcome that shows the wanted failure, often enough; None where it does not."""
        found: list[Outcome | None] = [None] * len(batch)
        repeat = self.repeat
        for needed in (1, 2) if repeat > 1 else (1,):
            waiting = [n for n in range(len(batch)) if needed == 1 or found[n] is not None]
            if needed == 2:
                for n in waiting:
                    found[n] = None
            for _ in range(repeat):
                if not waiting:
                    break
                outcomes = self.executor([batch[n] for n in waiting], self.requirements)
                self.tries += len(outcomes)
                rest = []
                for n, outcome in zip(waiting, outcomes, strict=True):
                    if outcome.failure == self.wanted:
                        found[n] = outcome
                        continue
                    if outcome.failure is not None:
                        self.others.setdefault(outcome.failure, outcome.case or batch[n])
                    if outcome.status not in ("invalid", "unsupported"):
                        rest.append(n)
                waiting = rest
        return found

    def _check(self) -> None:
        if self._over():
            raise _Over

    def _over(self) -> bool:
        spent = time.monotonic() - self.began
        return self.stop() or spent > self.budget.seconds or self.tries >= self.budget.tries

    def _tell(self) -> None:
        self._tell_of(self.best, self.outcome.seconds)

    def _tell_of(self, case: Case, run: float) -> None:
        spent, operators = time.monotonic() - self.began, len(case.program.operators())
        self.tell(events.Shrinking(self.tries, self.accepted, spent, operators, elements(case), self.doing, run))

    def result(self) -> Minimised:
        """What was found so far."""
        return Minimised(
            self.best,
            self.wanted,
            self.outcome,
            self.reliability,
            self.tries,
            time.monotonic() - self.began,
            self.complete,
            tuple(self.others.items()),
        )


class _Over(Exception):
    """The budget is used up, or somebody wants to stop."""
