"""One run of a case with something left out: what it is, where it happens, and what it says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.bisect.hooks import Limit
from shakeout.fuzz.bisect.search import Verdict
from shakeout.fuzz.ground import jobs
from shakeout.fuzz.ground.counts import result_of
from shakeout.fuzz.ground.failure import Failure, failure_of, with_less
from shakeout.fuzz.workers.isolated import Isolated
from shakeout.fuzz.workers.worker_kind import WorkerKind

__all__ = ["Executor", "Shown", "Trial", "TrialPool", "in_process", "judged"]


@dataclass(frozen=True, slots=True)
class Trial:
    """A case, and what its target may not do."""

    case: Case
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What one trial showed.

    Attributes:
        status: as in ``Result.status``.
        failure: why it failed; None if it did not.
        names: of what the limit counted, in order, allowed or not.
        stage: of a target that works in stages, the one that raised, or the first that gives other values.
    """

    status: str
    failure: Failure | None = None
    names: tuple[str, ...] = ()
    stage: str = ""


#: Runs trials and tells what each showed, in order. Whatever a trial does to a process is told too.
Executor = Callable[[Sequence[Trial]], Sequence[Shown]]


def in_process(trials: Sequence[Trial]) -> list[Shown]:
    """Run trials here, one after the other: for failures that cannot take the process with them."""
    from shakeout.fuzz.bisect.hooks import limited
    from shakeout.fuzz.running.execute import execute

    found = []
    for trial in trials:
        with limited(trial.case.setting.target, trial.limit) as names:
            result = execute(trial.case, explain=False)
        found.append(Shown(result.status, failure_of(result), tuple(names), result.stage))
    return found


class TrialPool(Isolated):
    """Runs trials on a pool of workers, each in a worker of its own; a context manager.

    Args:
        directory: for the pool's files.
        setting: of the case: the target that is warmed, the device, and what a sanitizer needs.
        workers: how many.
        more: as for ``Isolated``.
    """

    def __init__(self, directory: Path, setting: Setting, workers: int, **more: Any) -> None:
        super().__init__(directory, [setting.target], workers, kind=WorkerKind.of(setting), **more)
        self._records = directory / "records"
        self._serial = itertools.count()

    def __enter__(self) -> TrialPool:
        self._records.mkdir(parents=True, exist_ok=True)
        super().__enter__()
        return self

    def __call__(self, trials: Sequence[Trial]) -> list[Shown]:
        """What each trial showed."""
        records = [self._records / str(next(self._serial)) for _ in trials]
        asked = [_job(trial, record) for trial, record in zip(trials, records, strict=True)]
        found = []
        for answer, record in zip(self.answers(asked), records, strict=True):
            if answer is None:
                found.append(Shown("infra"))
                continue
            result = result_of(answer)
            names = record.read_text(encoding="utf-8").splitlines() if record.exists() else ()
            record.unlink(missing_ok=True)
            found.append(Shown(result.status, failure_of(result), tuple(names), result.stage))
        return found


def _job(trial: Trial, record: Path) -> jobs.Trial:
    setting = trial.case.setting
    job = jobs.Trial(target=setting.target, case=trial.case.text, record=str(record), device=setting.device)
    if (limit := trial.limit) is None:
        return job
    return replace(job, limit=limit.kind, most=limit.most, without=limit.without, fresh=True)


def judged(shown: Shown, wanted: Failure) -> Verdict:
    """What a trial says of its candidate."""
    if shown.status == "infra":
        return "infra"
    if shown.failure is not None:
        return "bad" if with_less(shown.failure, wanted) else "skip"
    return "good" if shown.status == "compared" else "skip"
