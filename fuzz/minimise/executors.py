"""Where candidates run: in this process, or each in an isolated worker."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from shakeout.corpus import codec
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.ground.counts import result_of
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.jobs import Candidate, Run
from shakeout.fuzz.ground.results import Answer
from shakeout.fuzz.ground.signature import INTERNAL
from shakeout.fuzz.minimise.predicate import Outcome
from shakeout.fuzz.workers.isolated import Isolated
from shakeout.fuzz.workers.worker_kind import WorkerKind
from shakeout.fuzz.workers.zygote_client import ZygoteBroken
from shakeout.generators.validity import InvalidCandidate, Requirements, validated

__all__ = ["CandidatePool", "candidate", "in_process"]


def in_process(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
    """Run candidates here, one after the other: for failures that cannot take the process with them."""
    from shakeout.fuzz.running.execute import execute

    found = []
    for case in cases:
        began = time.monotonic()
        try:
            valid = validated(case, requirements)
        except InvalidCandidate:
            found.append(Outcome("invalid", seconds=time.monotonic() - began))
            continue
        result = execute(valid, explain=False)
        found.append(Outcome(result.status, failure_of(result), valid, result, seconds=time.monotonic() - began))
    return found


class CandidatePool:
    """Runs candidates on pools of workers, side by side; a context manager.

    A case on another device than the CPU has two pools, because most of what fails there fails on the CPU as well, and
    the candidate that says so shall not run where the target would first have to be warmed for the CPU. If the target
    does not work on this machine's CPU, candidates there are unsupported.

    Args:
        directory: for the pools' files.
        setting: of the cases: the target that is warmed, the device, and what a sanitizer needs.
        workers: how many, on each device.
        more: as for ``Isolated``.
    """

    def __init__(self, directory: Path, setting: Setting, workers: int, **more: Any) -> None:
        self._own = setting.device
        self._pools = {
            device: Isolated(
                directory / device,
                [setting.target],
                workers,
                kind=replace(WorkerKind.of(setting), device=device),
                **more,
            )
            for device in dict.fromkeys((setting.device, "cpu"))
        }
        self._open = contextlib.ExitStack()

    def __enter__(self) -> CandidatePool:
        with contextlib.ExitStack() as opened:
            for device, pool in list(self._pools.items()):
                try:
                    opened.enter_context(pool)
                except ZygoteBroken:
                    if device == self._own:
                        raise
                    del self._pools[device]
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def __call__(self, cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        """What became of each candidate."""
        return self.run([candidate(case, requirements) for case in cases])

    def run(self, jobs: Sequence[Candidate | Run]) -> list[Outcome]:
        """What became of each job's own case, whatever ran before it; each job is an object of its own."""
        found = [Outcome("unsupported")] * len(jobs)
        for device, pool in self._pools.items():
            places = [place for place, job in enumerate(jobs) if job.device == device]
            for place, answer in zip(places, pool.answers([jobs[place] for place in places]), strict=True):
                found[place] = Outcome("infra") if answer is None else _outcome(jobs[place], answer)
        return found


def candidate(case: Case, requirements: Requirements) -> Candidate | Run:
    """The job that runs a candidate."""
    target, device = case.setting.target, case.setting.device
    if target == vocabulary(case.program.vocabulary).REFERENCE:
        # A reference that crashes would do so while the candidate is validated, and blame nobody.
        return Run(target=target, case=case.text, device=device)
    return Candidate(
        target=target, case=case.text, device=device, defined=requirements.defined, finite=requirements.finite
    )


def _outcome(job: Candidate | Run, answer: Answer) -> Outcome:
    if answer.reply.internal.startswith(f"{INTERNAL} {InvalidCandidate.__name__}"):
        return Outcome("invalid", seconds=answer.seconds)
    result = result_of(answer)
    text = answer.reply.case
    if answer.loss is not None:
        text = answer.loss.state.text if answer.loss.state.kind == "case" else ""
        if job.before and not _own(job, text):
            return Outcome("infra", seconds=answer.seconds)
    failure = failure_of(result)
    case = codec.decode(text) if text and failure is not None else None
    # Without a text it died while it was validated: that is the reference's matter, and says nothing of the target.
    if failure is not None and case is None:
        return Outcome("invalid", seconds=answer.seconds)
    return Outcome(result.status, failure, case, result, answer.seconds)


def _own(job: Candidate | Run, text: str) -> bool:
    """Whether the case that ended a worker is the job's own, and none of those before it.

    Validating changes the text of a candidate, so of those it is known only what they are not.
    """
    if isinstance(job, Run):
        return text == job.case
    return text not in [earlier.case for earlier in job.before if isinstance(earlier, Candidate | Run)]
