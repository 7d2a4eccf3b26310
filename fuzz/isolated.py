"""Jobs in isolated workers, one list after the other: what ``minimise`` and ``bisect`` run their candidates on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from shakeout.fuzz import events
from shakeout.fuzz.place import Place
from shakeout.fuzz.protocol import Job
from shakeout.fuzz.supervisor import Answer, Crew, Limits
from shakeout.fuzz.timing import TimeLimits

__all__ = ["Isolated"]


class Isolated:
    """Runs jobs on a crew of workers, side by side; a context manager.

    Args:
        directory: for the crew's files.
        targets: that are warmed.
        workers: how many.
        maker: module that makes the case of a job.
        place: of the cases.
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
        maker: str,
        place: Place,
        memory: int = 4 << 30,
        seconds: float | None = None,
        tell: events.Listener = lambda event: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._crew = Crew(directory, targets, workers, tell=tell, maker=maker, place=place)
        self._times = TimeLimits(seconds)
        self._memory = memory
        self._numbers = itertools.count()
        self._stop = stop

    def __enter__(self) -> Isolated:
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

    def answers(self, jobs: Sequence[Job]) -> list[Answer | None]:
        """What became of each job, in order; None where nothing is known because it was asked to stop.

        A job whose worker somebody else killed runs once more.
        """
        numbered = [replace(job, index=next(self._numbers)) for job in jobs]
        places = {job.index: place for place, job in enumerate(numbered)}
        found: list[Answer | None] = [None] * len(jobs)
        for answer in self._crew.answers(numbered, self._limits, self._stop):
            found[places[answer.job.index]] = answer
            # What could not even be made says nothing of how long the others take.
            if answer.loss is None and "internal" not in answer.message:
                self._times.add(answer.job.target, float(answer.message["seconds"]))
        return found

    def _limits(self, job: Job) -> Limits:
        return Limits(self._times.limit(job.target), self._memory)
