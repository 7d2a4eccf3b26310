"""A finding reduced inside one worker: the smallest case, the case that ends at its root, and what tells it apart.

The search of ``shakeout.fuzz.minimise`` wants somebody who runs candidates. Here that is the worker itself, so that a
search takes one process and one core, sends nothing to and fro but its progress, and as many searches run side by side
as there are workers. What a candidate does to the process is known to the supervisor by the worker's slot, as of any
case; it gives the job again with what was told until then.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.ground.divergence import beginning
from shakeout.fuzz.ground.failure import Failure, failure_of
from shakeout.fuzz.ground.jobs import Reduce
from shakeout.fuzz.ground.results import LOSSES, Reply, Result
from shakeout.fuzz.ground.slot import Slot
from shakeout.fuzz.minimise.order import size
from shakeout.fuzz.minimise.predicate import NotReproduced, Outcome
from shakeout.fuzz.minimise.search import Budget, Minimised, minimise
from shakeout.fuzz.triage.scaling import growth
from shakeout.generators.validity import REQUIREMENTS, InvalidCandidate, Requirements, validated

__all__ = ["SCRIPT_SECONDS", "reduced", "roots"]

#: Seconds after which a script takes a run for a hang: a cold start of torch and a cold compilation of a large network,
#: several times over.
SCRIPT_SECONDS = 180.0

#: Seconds that the search from a root has at least, where that for the finding's own failure used up the budget: a
#: program that ends at the root is small already.
ROOT_SECONDS = 5.0

#: What targets keep of a program for the next candidate, by the case.
Kept = Callable[[Case], dict[str, Any]]


def reduced(job: Reduce, slot: Slot, send: Callable[[Reply], None], kept: Kept) -> Reply:
    """Do a job; the last reply to it.

    Args:
        job: what to reduce.
        slot: where each candidate is written before it runs.
        send: sends partial replies: the id of each candidate before it runs (``sequence``), and each smaller case that
            fails as wanted (``case`` and ``result``).
        kept: what may be used again for a case.

    Returns:
        The smallest case with its result and script. ``learnt`` holds its ``failure``, ``growth``, the ``tries`` and
        ``seconds`` that it took, and whether it is ``complete``; or why it was not reproduced (``gone``).
    """
    case, wanted = codec.decode(job.case), Failure(*job.failure)
    began = time.monotonic()
    worker = _Worker(job, case, wanted, slot, send, kept)
    # A user's kernel that is wrong by itself is all that is looked for, and the network around it need not be reduced.
    found = None if job.seen else _at_root(case, None, worker, Budget(job.seconds, job.tries))
    if found is None:
        worker.wanted = wanted
        try:
            found = minimise(case, worker, wanted=wanted, budget=Budget(job.seconds, job.tries))
        except NotReproduced as error:
            return Reply(learnt={"gone": str(error)})
        left = max(job.seconds - (time.monotonic() - began), ROOT_SECONDS)
        found = _at_root(found.case, worker.explained(found), worker, Budget(left, job.tries)) or found
    result = worker.explained(found)
    larger = growth(found.case, found.failure, worker)
    return Reply(
        case=found.case.text,
        result=result,
        script=_script(found.case, result),
        learnt={
            "failure": astuple(found.failure),
            "growth": larger,
            "tries": worker.tries,
            "seconds": round(time.monotonic() - began, 3),
            "complete": found.complete,
        },
    )


def _at_root(case: Case, result: Result | None, worker: _Worker, budget: Budget) -> Minimised | None:
    """The smallest case of what is wrong nearer to the root, if that fails by itself."""
    worker.wanted = None
    for root in roots(case, result):
        if worker([root], REQUIREMENTS[-1])[0].failure is None:
            continue  # what is right once is not worth the runs that say how often it fails
        try:
            return minimise(root, worker, budget=budget)
        except NotReproduced:
            continue
    return None


def roots(case: Case, result: Result | None) -> Iterator[Case]:
    """The beginnings of a program that may hold its failure's cause alone, shortest first.

    One ends with the first operator that goes wrong, where that is known, and around a user's kernel one ends with each
    call of it. What comes behind shows the mistake in ways of its own: as NaN, as an exception, as another gradient. So
    does an input that is returned as well: what was written to it is a wrong value then.
    """
    program = case.program
    calls = program.calls
    ends = {position + 1 for position, call in enumerate(calls) if call.operator == case.setting.target}
    if result is not None and result.divergence is not None:
        ends.add(result.divergence.call + 1)
    given = any(value < len(program.inputs) for value in program.returns)
    for end in sorted(ends):
        if (end < len(calls) or given) and (part := beginning(case, end)) is not None:
            yield part


class _Worker:
    """Runs candidates in this process, each told before it runs."""

    def __init__(
        self, job: Reduce, case: Case, wanted: Failure, slot: Slot, send: Callable[[Reply], None], kept: Kept
    ) -> None:
        self.wanted: Failure | None = wanted
        self.tries = 0
        self._seed = job.seed
        self._slot = slot
        self._send = send
        self._kept = kept
        self._device = case.setting.device
        self._seen = frozenset(job.seen)
        self._known: Mapping[str, Outcome] = {}
        self._explained: dict[str, Result] = {}
        self._best = size(case)
        # A reference that crashes would do so while the candidate is validated.
        self._validates = wanted.target != vocabulary(case.program.vocabulary).REFERENCE
        if job.result:
            result = Result.from_json(job.result)
            self._known = {case.id: Outcome(result.status, wanted, case, result)}

    def __call__(self, cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        return [self._outcome(case, requirements) for case in cases]

    def _outcome(self, case: Case, requirements: Requirements) -> Outcome:
        if case.id in self._known:
            return self._known[case.id]
        if case.id in self._seen or case.setting.device != self._device:
            return Outcome("unsupported")
        self.tries += 1
        began = time.monotonic()
        self._send(Reply(sequence=(case.id,), partial=True))
        self._slot.case(case.text)
        self._slot.phase("reference")
        try:
            valid = validated(case, requirements) if self._validates else case
        except InvalidCandidate:
            return Outcome("invalid", seconds=time.monotonic() - began)
        result = self._run(valid, explain=False)
        failure = failure_of(result)
        if failure is not None and failure == self.wanted and size(valid) < self._best:
            self._best = size(valid)
            self._send(Reply(case=valid.text, result=result, partial=True))
        return Outcome(result.status, failure, valid, result, time.monotonic() - began)

    def explained(self, found: Minimised) -> Result:
        """What there is to tell of the smallest case: a run that also looks where it goes wrong, if it may run here."""
        told = found.outcome.result
        assert told is not None
        if (known := self._explained.get(found.case.id)) is not None:
            return known
        # A worker may have been lost to just that before.
        if found.failure.oracle in LOSSES or found.case.id in self._seen:
            return told
        self._send(Reply(sequence=(found.case.id,), partial=True))
        result = self._run(found.case, explain=True)
        self._explained[found.case.id] = result if failure_of(result) == found.failure else told
        return self._explained[found.case.id]

    def _run(self, case: Case, *, explain: bool) -> Result:
        import torch

        from shakeout.fuzz.running.execute import Shared, execute

        random.seed(self._seed)
        torch.manual_seed(self._seed & 0x7FFFFFFFFFFFFFFF)
        self._slot.case(case.text)

        def about(other: Case) -> None:
            self._slot.case(other.text)

        # What is told in the end is of a run that uses nothing of the ones before it.
        shared = Shared() if explain else Shared(kept=self._kept(case))
        return execute(case, self._slot.phase, shared, explain=explain, about=about)


def _script(case: Case, result: Result) -> str:
    from shakeout.fuzz.running.execute import repro

    failing = result.failure
    hangs = failing is not None and failing.oracle in LOSSES
    return repro(case, result, limit=SCRIPT_SECONDS if hangs else 0)
