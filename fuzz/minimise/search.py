"""The search: passes over a case in a fixed order, again and again until none of them makes it smaller.

Each pass proposes candidates, most aggressive first; one is taken if it is smaller in the order of ``measure``, means
something, and fails for the same reason. A failure for another reason is kept as a finding of its own and never
followed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shakeout.corpus.case import Case
from shakeout.fuzz.minimise import graph, nested, settings, tensors
from shakeout.fuzz.minimise.edit import invented, recorded
from shakeout.fuzz.minimise.measure import elements, size
from shakeout.fuzz.minimise.predicate import (
    MEASURED,
    Executor,
    Failure,
    NotReproduced,
    Outcome,
    Reliability,
    repetitions,
)
from shakeout.fuzz.minimise.settle import DEMANDS, Demands

__all__ = ["Budget", "Minimised", "Progress", "minimise"]

Pass = Callable[[Case], Iterator[Case]]


@dataclass(frozen=True, slots=True)
class Budget:
    """When the search ends at the latest: after so many seconds, or after so many candidates were run."""

    seconds: float = 300.0
    tries: int = 5000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the search is.

    Attributes:
        tries: candidates that were run.
        accepted: of these, how many were taken.
        seconds: since the beginning.
        operators: of the best case so far.
        elements: of all its inputs.
        doing: name of the pass.
    """

    tries: int
    accepted: int
    seconds: float
    operators: int
    elements: int
    doing: str


@dataclass(frozen=True, slots=True)
class Minimised:
    """What came of it.

    Attributes:
        case: the smallest case that was found to fail for the same reason, with the result types that it has.
        failure: that reason.
        outcome: of its last run.
        reliability: of the original.
        tries: candidates that were run.
        seconds: that it took.
        complete: no pass makes it smaller; else the budget was used up, or somebody stopped it.
        others: the first case of each other reason that was met on the way.
    """

    case: Case
    failure: Failure
    outcome: Outcome
    reliability: Reliability
    tries: int
    seconds: float
    complete: bool
    others: tuple[tuple[Failure, Case], ...] = ()


def minimise(
    case: Case,
    executor: Executor,
    *,
    wanted: Failure | None = None,
    budget: Budget | None = None,
    width: int = 1,
    tell: Callable[[Progress], None] = lambda progress: None,
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
    tell: Callable[[Progress], None]
    stop: Callable[[], bool]
    began: float = field(default_factory=time.monotonic)
    tries: int = 0
    accepted: int = 0
    complete: bool = False
    doing: str = "reproducing"
    seen: set[str] = field(default_factory=set)
    others: dict[Failure, Case] = field(default_factory=dict)
    best: Case = field(init=False)
    outcome: Outcome = field(init=False)
    wanted: Failure = field(init=False)
    reliability: Reliability = field(init=False)
    demands: Demands = field(init=False)

    # --- the original -----------------------------------------------------------------------------------------------

    def begin(self, case: Case, wanted: Failure | None) -> None:
        """Run the original under the strictest demands that it keeps, and measure how reliably it fails."""
        why = "it does not fail"
        for demands in DEMANDS:
            found = self._repeated(case, demands, MEASURED)
            failures = [outcome.failure for outcome in found if outcome.failure is not None]
            if wanted is None and failures:
                wanted = max(failures, key=failures.count)
            hits = [outcome for outcome in found if outcome.failure is not None and outcome.failure == wanted]
            if hits:
                self.demands, self.wanted, self.outcome = demands, hits[-1].failure or failures[0], hits[-1]
                self.best = hits[-1].case or case
                self.reliability = Reliability(len(hits), len(found))
                self.seen.add(self.best.id)
                return
            why = f"it fails otherwise: {failures[0]}" if failures else f"{found[-1].status}"
        raise NotReproduced(f"the case does not fail {'as ' + str(wanted) if wanted else 'here'} ({why})")

    def _repeated(self, case: Case, demands: Demands, runs: int) -> list[Outcome]:
        found: list[Outcome] = []
        while len(found) < runs:
            found += self.executor([case] * min(self.width, runs - len(found)), demands)
            if all(outcome.status == "invalid" for outcome in found):
                break  # it does not keep the demands, and will not the next time
        self.tries += len(found)
        return found

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All passes, until a whole round changes nothing."""
        repeat = repetitions(self.reliability)
        # A reference that crashes must not run in this process.
        record = invented if self.wanted.oracle == "crash" and self.wanted.target == "eager" else recorded
        passes: list[tuple[str, Pass]] = [
            ("device", settings.device),
            ("calls", settings.call_sets),
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
            ("values", tensors.values),
            ("inputs", graph.merged),
            ("inputs", graph.inlined),
            ("operators", graph.plainer),
            ("attributes", settings.attributes),
            ("blocks", nested.taken_in),
            ("blocks", nested.simpler),
            ("leaves", settings.leaves),
            ("values", tensors.numbers),
        ]
        try:
            changed = True
            while changed:
                changed = False
                for name, one in passes:
                    self.doing = name
                    while self._step(one, repeat):
                        changed = True
            self.complete = True
        except _Over:
            pass

    def _step(self, one: Pass, repeat: int) -> bool:
        """The first candidate of a pass that is taken; False if there is none."""
        candidates = self._smaller(one)
        while batch := list(itertools.islice(candidates, self.width)):
            self._check()
            for candidate, outcome in zip(batch, self._judged(batch, repeat), strict=True):
                if outcome is not None:
                    case = outcome.case or candidate
                    if size(case) < size(self.best):
                        self.best, self.outcome = case, outcome
                        self.accepted += 1
                        self.seen.add(case.id)
                        self._tell()
                        return True
            self._tell()
        return False

    def _smaller(self, one: Pass) -> Iterator[Case]:
        """The candidates of a pass that are smaller than the best case, each once."""
        limit = size(self.best)
        for candidate in one(self.best):
            if candidate.id not in self.seen and size(candidate) < limit:
                self.seen.add(candidate.id)
                yield candidate

    def _judged(self, batch: list[Case], repeat: int) -> list[Outcome | None]:
        """For each candidate the outcome that shows the wanted failure, often enough; None where it does not."""
        found: list[Outcome | None] = [None] * len(batch)
        for needed in (1, 2) if repeat > 1 else (1,):
            waiting = [n for n in range(len(batch)) if needed == 1 or found[n] is not None]
            if needed == 2:
                for n in waiting:
                    found[n] = None
            for _ in range(repeat):
                if not waiting:
                    break
                outcomes = self.executor([batch[n] for n in waiting], self.demands)
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
        spent = time.monotonic() - self.began
        if self.stop() or spent > self.budget.seconds or self.tries >= self.budget.tries:
            raise _Over

    def _tell(self) -> None:
        spent = time.monotonic() - self.began
        operators = len(self.best.program.operators())
        self.tell(Progress(self.tries, self.accepted, spent, operators, elements(self.best), self.doing))

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
