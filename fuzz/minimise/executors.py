"""Where candidates run: in this process, or each in an isolated worker."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.fuzz import events
from shakeout.fuzz.losses import REFERENCE
from shakeout.fuzz.minimise.predicate import Outcome, failure_of
from shakeout.fuzz.minimise.settle import Demands, Unsettled, settle
from shakeout.fuzz.protocol import Job
from shakeout.fuzz.signature import INTERNAL
from shakeout.fuzz.supervisor import Answer, Crew, Limits
from shakeout.fuzz.tally import result_of
from shakeout.fuzz.timing import TimeLimits

__all__ = ["Crewed", "in_process"]


def in_process(cases: Sequence[Case], demands: Demands) -> list[Outcome]:
    """Run candidates here, one after the other: for failures that cannot take the process with them."""
    from shakeout.fuzz.execute import execute

    found = []
    for case in cases:
        began = time.monotonic()
        try:
            settled = settle(case, demands)
        except Unsettled:
            found.append(Outcome("invalid", seconds=time.monotonic() - began))
            continue
        result = execute(settled, explain=False).to_json()
        found.append(Outcome(result["status"], failure_of(result), settled, result, seconds=time.monotonic() - began))
    return found


class Crewed:
    """Runs candidates on a crew of workers, side by side; a context manager.

    Args:
        directory: for the crew's files.
        target: what the case runs on.
        workers: how many.
        device: ``cpu`` or ``cuda``.
        memory: bytes that a candidate may take.
        seconds: that it may take; None to derive it as it goes.
        tell: told while the target is warmed.
        stop: asked now and then whether to give up; candidates in hand are then ``infra``.
    """

    def __init__(
        self,
        directory: Path,
        target: str,
        workers: int,
        *,
        device: str = "cpu",
        memory: int = 4 << 30,
        seconds: float | None = None,
        tell: events.Listener = lambda event: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        maker = "shakeout.fuzz.minimise.settle"
        self._crew = Crew(directory, [target], workers, tell=tell, maker=maker, device=device)
        self._times = TimeLimits(seconds)
        self._memory = memory
        self._numbers = itertools.count()
        self._stop = stop

    def __enter__(self) -> Crewed:
        try:
            self._crew.start(self._stop)
        except BaseException:
            self._crew.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crew.stop()

    def __call__(self, cases: Sequence[Case], demands: Demands) -> list[Outcome]:
        """What became of each candidate."""
        jobs = {}
        for place, case in enumerate(cases):
            index, target, device = next(self._numbers), case.setting.target, case.setting.device
            if target == REFERENCE:
                # A reference that crashes would do so while the candidate is settled, and blame nobody.
                job = Job(index=index, target=target, case=case.text, device=device)
            else:
                recipe = {"candidate": case.text, "defined": demands.defined, "finite": demands.finite}
                job = Job(index=index, target=target, recipe=recipe, device=device)
            jobs[index] = (place, job)
        todo = deque(job for _, job in jobs.values())
        found: list[Outcome] = [Outcome("infra")] * len(cases)
        again: set[int] = set()
        while jobs and not self._stop():
            for answer in self._crew.step(lambda: todo.popleft() if todo else None, self._limits):
                index = answer.job.index
                if index not in jobs:
                    continue
                if answer.loss is not None and answer.loss.kind == "interrupted" and index not in again:
                    again.add(index)
                    todo.append(answer.job)
                    continue
                place, _ = jobs.pop(index)
                found[place] = self._outcome(answer)
        if jobs:
            self._crew.abandon()
        return found

    def _limits(self, job: Job) -> Limits:
        return Limits(self._times.limit(job.target), self._memory)

    def _outcome(self, answer: Answer) -> Outcome:
        message = answer.message
        if str(message.get("internal", "")).startswith(f"{INTERNAL} {Unsettled.__name__}"):
            return Outcome("invalid", seconds=message["seconds"])
        result = result_of(answer)
        text = message.get("case", "")
        if answer.loss is not None:
            seconds = answer.loss.seconds
            text = answer.loss.state.text if answer.loss.state.kind == "case" else ""
        else:
            seconds = float(message["seconds"])
            self._times.add(answer.job.target, seconds)
        failure = failure_of(result)
        case = codec.decode(text) if text and failure is not None else None
        # Without a text it died while it was settled: that is the reference's matter, and says nothing of the target.
        if failure is not None and case is None:
            return Outcome("invalid", seconds=seconds)
        return Outcome(str(result["status"]), failure, case, result, seconds)
