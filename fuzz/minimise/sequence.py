"""A failure that shows only behind other cases: which of them it takes, and the smallest case of each.

What a case leaves behind in its process (a guard, a cache, a mode) may make a later one fail. Its worker had run up to
150 cases before; mostly one of them matters, and mostly a late one. So ever longer ends of the sequence are run until
one fails. That loses parts that halve in size (delta debugging, Zeller and Hildebrandt 2002) until no single case can
be left out, and then the cases that are left are minimised, the failing one first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from shakeout.corpus import blobs, codec
from shakeout.corpus.case import Case
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.finding_folder import CASE, read_sequence
from shakeout.fuzz.ground.jobs import Run
from shakeout.fuzz.minimise.executors import CandidatePool, candidate
from shakeout.fuzz.minimise.predicate import (
    MEASURED,
    SHARE,
    Executor,
    NotReproduced,
    Outcome,
    Reliability,
    repetitions,
)
from shakeout.fuzz.minimise.search import Budget, Minimised, minimise
from shakeout.generators.validity import Requirements

__all__ = ["behind", "minimise_behind", "recorded_before"]

Cases = tuple[Case, ...]


def recorded_before(folder: Path, case: Case) -> Cases:
    """The cases that ran before a finding's in its worker; none where it needed none, or none are known.

    Args:
        folder: of the finding.
        case: the finding's. A sequence that ends with another one is another finding's.

    Raises:
        NotReproduced: there is a sequence and it cannot be read.
    """
    try:
        texts = read_sequence(folder)
        if not texts or texts[-1] != case.text:
            return ()
        places = blobs.beside(folder / CASE)
        return tuple(blobs.placed(codec.decode(text), places) for text in texts[:-1])
    except codec.MalformedCase as error:
        raise NotReproduced(f"the cases that ran before it cannot be read: {error}") from None


def behind(pool: CandidatePool, before: Sequence[Case]) -> Executor:
    """Runs candidates behind some cases, each in a fresh worker; on the pool itself where there are none."""
    if not before:
        return pool

    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        return pool.run([replace(candidate(case, requirements), before=_runs(before)) for case in cases])

    return run


def minimise_behind(
    before: Sequence[Case],
    case: Case,
    pool: CandidatePool,
    *,
    wanted: Failure | None = None,
    budget: Budget | None = None,
    width: int = 1,
    tell: events.Listener = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> Minimised:
    """The smallest case that fails as ``case`` does, behind as few and as small cases as it takes.

    Args:
        before: cases that ran before it in its process, in order. Without any this is ``minimise``.
        case: one that fails behind them.
        pool: runs candidates.
        wanted: the reason to keep; the one for which it fails behind all of them, if nobody says.
        budget: when to end at the latest, all searches together.
        width: candidates that are run side by side.
        tell: told how the sequence becomes shorter (``Shortening``), then how each case shrinks (``Shrinking``).
        stop: asked before every candidate whether to end with the best so far.

    Raises:
        NotReproduced: the case does not fail behind them, or not for the wanted reason.
    """
    budget = budget or Budget()
    if not before:
        return minimise(case, pool, wanted=wanted, budget=budget, width=width, tell=tell, stop=stop)
    search = _Search(pool, budget, width, tell, stop)
    kept = search.shortened(tuple(before), case, wanted)
    complete = search.complete
    found = search.minimised(case, behind(pool, kept) if kept else _alone(pool))
    complete &= found.complete
    if kept:
        # What became of it may fail behind fewer, or by itself.
        kept = search.shorter(kept, found.case)
        complete &= search.complete
        for place in range(len(kept)):
            if search.over():
                complete = False
                break
            smaller = search.minimised(
                kept[place], _within(pool, kept, place, found.case), f"case {place + 1} before it"
            )
            kept = (*kept[:place], smaller.case, *kept[place + 1 :])
            complete &= smaller.complete
    return replace(found, tries=search.tries, seconds=search.seconds, complete=complete, before=kept)


def _runs(cases: Sequence[Case]) -> tuple[Run, ...]:
    return tuple(Run(target=one.setting.target, case=one.text, device=one.setting.device) for one in cases)


def _behind(before: Sequence[Case], case: Case) -> Run:
    (last,) = _runs([case])
    return replace(last, before=_runs(before), fresh=not before)


def _alone(pool: CandidatePool) -> Executor:
    """Runs candidates each in a fresh worker: what others leave behind may make them fail."""

    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        return pool.run([replace(candidate(case, requirements), fresh=True) for case in cases])

    return run


def _within(pool: CandidatePool, before: Cases, place: int, case: Case) -> Executor:
    """Runs a case behind others of which candidates take the place of one; the failures are those of the case."""
    first, rest = _runs(before[:place]), _runs(before[place + 1 :])

    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        last = _behind((), case)
        jobs = [replace(last, before=(*first, candidate(one, requirements), *rest), fresh=False) for one in cases]
        # The case of an outcome is the candidate's, and here only the other one's text is known.
        return [replace(outcome, case=None) for outcome in pool.run(jobs)]

    return run


@dataclass(slots=True)
class _Search:
    pool: CandidatePool
    budget: Budget
    width: int
    tell: events.Listener
    stop: Callable[[], bool]
    began: float = field(default_factory=time.monotonic)
    tries: int = 0
    #: Whether no single case of the sequence can be left out.
    complete: bool = False
    recorded: int = 0
    wanted: Failure = field(init=False)
    #: Runs of a candidate, and how many of them have to fail.
    runs: int = 1
    needed: int = 1
    run: float = 0.0
    #: Sequences that did not fail, by the ids of their cases.
    seen: set[tuple[str, ...]] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.began

    def over(self) -> bool:
        """Whether the budget is used up, or somebody wants to stop."""
        return self.stop() or self.seconds > self.budget.seconds or self.tries >= self.budget.tries

    def shortened(self, before: Cases, case: Case, wanted: Failure | None) -> Cases:
        """The fewest of some cases behind which a case fails: an end of them first, then what that can do without.

        Raises:
            NotReproduced: it does not fail behind all of them either.
        """
        self.recorded = len(before)
        self._say(before)
        kept = before
        if wanted is None:
            (outcome,) = self._outcomes([_behind(before, case)])
            if outcome.failure is None:
                raise NotReproduced(self._why([outcome]))
            wanted = outcome.failure
        self.wanted = wanted
        lengths = [length for length in (0, *(1 << power for power in range(32))) if length < len(before)]
        for start in range(0, len(lengths), self.width):
            ends = [before[len(before) - length :] for length in lengths[start : start + self.width]]
            if (hit := self._first(ends, case)) is not None:
                kept = ends[hit]
                self._say(kept)
                break
        self._measure(kept, case)
        kept = self.shorter(kept, case)
        self._say(kept, done=True)
        return kept

    def shorter(self, kept: Cases, case: Case) -> Cases:
        """What some cases, behind which a case fails, cannot do without: no single one of them can be left out."""
        chunk, self.complete = len(kept), not kept
        while not self.complete:
            changed, at = False, 0
            while at < len(kept):
                if self.over():
                    return kept
                places = list(range(at, len(kept), chunk))[: self.width]
                candidates = [kept[:place] + kept[place + chunk :] for place in places]
                if (hit := self._first(candidates, case)) is None:
                    at = places[-1] + chunk
                    continue
                kept, at, changed = candidates[hit], places[hit], True
                self._say(kept)
            self.complete = not kept or (chunk == 1 and not changed)
            chunk = max(1, min((chunk + 1) // 2, len(kept) // 2))
        return kept

    def minimised(self, case: Case, executor: Executor, whose: str = "") -> Minimised:
        """The smallest case in place of one, with what is left of the budget."""

        def tell(event: events.Event) -> None:
            if whose and isinstance(event, events.Shrinking):
                event = replace(event, doing=f"{whose}: {event.doing}")
            self.tell(event)

        left = Budget(self.budget.seconds - self.seconds, self.budget.tries - self.tries)
        found = minimise(case, executor, wanted=self.wanted, budget=left, width=self.width, tell=tell, stop=self.stop)
        self.tries += found.tries
        return found

    def _measure(self, before: Cases, case: Case) -> None:
        """How reliably it fails, where that is quickly known: what fails now and then is asked more often.

        Raises:
            NotReproduced: it never fails.
        """
        found = self._outcomes([_behind(before, case)])
        quick = found[0].seconds * (MEASURED - 1) <= SHARE * self.budget.seconds * self.width
        if quick or found[0].failure != self.wanted:
            found += self._outcomes([_behind(before, case) for _ in range(MEASURED - 1)])
        hits = [outcome for outcome in found if outcome.failure == self.wanted]
        if not hits:
            raise NotReproduced(self._why(found))
        repeat = repetitions(Reliability(len(hits), len(found)))
        # Twice as many where two have to fail, so that one as reliable is as seldom missed.
        self.runs, self.needed = (1, 1) if repeat == 1 else (2 * repeat, 2)
        if repeat > 1:
            self.seen.clear()  # one run was too few to say that it does not fail behind those

    def _why(self, found: Sequence[Outcome]) -> str:
        failure = next((outcome.failure for outcome in found if outcome.failure is not None), None)
        said = f"it fails otherwise: {failure}" if failure is not None else found[-1].status
        cases = "the case that" if self.recorded == 1 else f"the {self.recorded} cases that"
        return f"it does not fail behind {cases} ran before it ({said})"

    def _first(self, candidates: Sequence[Cases], case: Case) -> int | None:
        """The number of the first sequence behind which the case fails often enough."""
        names = [tuple(one.id for one in (*before, case)) for before in candidates]
        failed = [0] * len(candidates)
        for _ in range(self.runs):
            waiting = [
                number for number, name in enumerate(names) if failed[number] < self.needed and name not in self.seen
            ]
            if not waiting or self.over():
                break
            outcomes = self._outcomes([_behind(candidates[number], case) for number in waiting])
            for number, outcome in zip(waiting, outcomes, strict=True):
                failed[number] += outcome.failure == self.wanted
        self.seen.update(name for name, times in zip(names, failed, strict=True) if times < self.needed)
        return next((number for number, times in enumerate(failed) if times >= self.needed), None)

    def _outcomes(self, jobs: Sequence[Run]) -> list[Outcome]:
        found: list[Outcome] = []
        for start in range(0, len(jobs), self.width):
            found += self.pool.run(jobs[start : start + self.width])
        self.tries += len(jobs)
        self.run = max((outcome.seconds for outcome in found), default=self.run)
        return found

    def _say(self, kept: Cases, *, done: bool = False) -> None:
        self.tell(events.Shortening(len(kept), self.recorded, self.tries, self.seconds, self.run, done))
