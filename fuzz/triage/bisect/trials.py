"""One run of a case with something left out: what it is, where it happens, and what it says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.isolated import Isolated
from shakeout.fuzz.minimise.predicate import Failure, failure_of
from shakeout.fuzz.place import Place
from shakeout.fuzz.protocol import Job
from shakeout.fuzz.tally import result_of
from shakeout.fuzz.triage.bisect.hooks import Limit
from shakeout.fuzz.triage.bisect.search import Verdict

__all__ = ["Crewed", "Executor", "Shown", "Trial", "in_process", "judged"]


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
    from shakeout.fuzz.execute import execute
    from shakeout.fuzz.triage.bisect.hooks import limited

    found = []
    for trial in trials:
        with limited(trial.limit) as names:
            result = execute(trial.case, explain=False).to_json()
        found.append(Shown(result["status"], failure_of(result), tuple(names), result["stage"]))
    return found


class Crewed(Isolated):
    """Runs trials on a crew of workers, each in a worker of its own; a context manager.

    Args:
        directory: for the crew's files.
        setting: of the case: the target that is warmed, the device, and what a sanitizer needs.
        workers: how many.
        more: as for ``Isolated``.
    """

    def __init__(self, directory: Path, setting: Setting, workers: int, **more: Any) -> None:
        maker = "shakeout.fuzz.triage.bisect.hooks"
        super().__init__(directory, [setting.target], workers, maker=maker, place=Place.of(setting), **more)
        self._records = directory / "records"
        self._serial = itertools.count()

    def __enter__(self) -> Crewed:
        self._records.mkdir(parents=True, exist_ok=True)
        super().__enter__()
        return self

    def __call__(self, trials: Sequence[Trial]) -> list[Shown]:
        """What each trial showed."""
        records = [self._records / str(next(self._serial)) for _ in trials]
        jobs = [_job(trial, record) for trial, record in zip(trials, records, strict=True)]
        found = []
        for answer, record in zip(self.answers(jobs), records, strict=True):
            if answer is None:
                found.append(Shown("infra"))
                continue
            result = result_of(answer)
            names = record.read_text(encoding="utf-8").splitlines() if record.exists() else ()
            record.unlink(missing_ok=True)
            found.append(Shown(str(result["status"]), failure_of(result), tuple(names), result["stage"]))
        return found


def _job(trial: Trial, record: Path) -> Job:
    setting = trial.case.setting
    recipe: dict[str, Any] = {"candidate": trial.case.text, "record": str(record)}
    recipe |= asdict(trial.limit) if trial.limit is not None else {}
    return Job(index=0, target=setting.target, recipe=recipe, device=setting.device, fresh=trial.limit is not None)


def judged(shown: Shown, wanted: Failure) -> Verdict:
    """What a trial says of its candidate."""
    if shown.status == "infra":
        return "infra"
    if shown.failure is not None:
        return "bad" if _same(shown.failure, wanted) else "skip"
    return "good" if shown.status == "compared" else "skip"


def _same(failure: Failure, wanted: Failure) -> bool:
    """Whether a failure, perhaps of a compiler that does less, is the wanted one.

    Stages and sizes change with what is left out, so neither counts. A front end wraps what a back end raises in other
    classes, so between targets any exception is taken for the wanted one.
    """
    if failure.oracle != wanted.oracle:
        return False
    if wanted.oracle == "exception":
        return failure.target != wanted.target or _template(failure) == _template(wanted)
    # A hang and a lack of memory are told with their limits.
    return wanted.oracle in ("hang", "memory") or failure.symptom == wanted.symptom


def _template(failure: Failure) -> tuple[str, str]:
    return failure.symptom, failure.culprit.rpartition(" | ")[2]
