"""Jobs in isolated workers, one list after the other: what ``minimise`` and ``bisect`` run their candidates on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.jobs import Job
from shakeout.fuzz.ground.makers import RUNS_ONLY
from shakeout.fuzz.ground.results import Answer
from shakeout.fuzz.workers.pool import Limits, WorkerPool
from shakeout.fuzz.workers.timing import TimeLimits
from shakeout.fuzz.workers.worker_kind import WorkerKind

__all__ = ["Isolated"]


class Isolated:
    """Runs jobs on a pool of workers, side by side; a context manager.

    Args:
        directory: for the pool's files.
        targets: that are warmed.
        workers: how many.
        maker: name of what grows cases.
        kind: of worker that the cases need.
        memory: bytes that a job may take.
        seconds: that it may take; None to derive it as it goes.
        tell: told while the targets are warmed.
        stop: asked now and then whether to give up.
    """

    def __init__(
        self,
        directory: Path,
        targets: Sequence[str],
        workers: int,
        *,
        maker: str = RUNS_ONLY,
        kind: WorkerKind,
        memory: int = 4 << 30,
        seconds: float | None = None,
        tell: events.Listener = lambda event: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._pool = WorkerPool(directory, targets, workers, tell=tell, maker=maker, kind=kind)
        self._times = TimeLimits(seconds)
        self._memory = memory
        self._stop = stop

    def __enter__(self) -> Isolated:
        try:
            self._pool.start(self._stop)
        except BaseException:
            self._pool.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.stop()

    def answers(self, jobs: Sequence[Job]) -> list[Answer | None]:
        """What became of each job, in order; None where nothing is known because it was asked to stop.

        Each job is an object of its own, even where two ask for the same. One whose worker somebody else killed runs
        once more.
        """
        places = {id(job): place for place, job in enumerate(jobs)}
        found: list[Answer | None] = [None] * len(jobs)
        for answer in self._pool.answers(jobs, self._limits, self._stop):
            found[places[id(answer.job)]] = answer
            # What could not even be made says nothing of how long the others take.
            if answer.loss is None and not answer.reply.internal:
                self._times.add(answer.job.target, answer.seconds / (1 + len(answer.job.before)))
        return found

    def _limits(self, job: Job) -> Limits:
        return Limits(self._times.limit(job.target) * (1 + len(job.before)), self._memory)
