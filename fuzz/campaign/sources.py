"""Where jobs come from: sources, combined in order of priority.

A source is asked for its next job and gets every answer to it. What a campaign does next is decided by who stands
before whom, in one place.
"""

from __future__ import annotations

from typing import Protocol

from shakeout.fuzz.ground.jobs import Job
from shakeout.fuzz.ground.results import Answer

__all__ = ["InOrder", "Source"]


class Source(Protocol):
    """Gives jobs, and takes their answers."""

    def next(self) -> Job | None:
        """The next job, another object each time; None if there is none at the moment."""

    def done(self, answer: Answer) -> None:
        """Take an answer to one of its jobs: one for each of the job's settings, the last of which is not partial."""


class InOrder:
    """Several sources as one: the first that has a job gives it, and that one gets the answers."""

    def __init__(self, *sources: Source) -> None:
        self._sources = sources
        # With the job itself: as long as it is held, no other object has its identity.
        self._given: dict[int, tuple[Job, Source]] = {}

    def next(self) -> Job | None:
        """The next job of the first source that has one."""
        for source in self._sources:
            if (job := source.next()) is not None:
                self._given[id(job)] = (job, source)
                return job
        return None

    def done(self, answer: Answer) -> None:
        """Hand an answer to whoever gave the job."""
        _, source = self._given[id(answer.job)]
        if answer.loss is not None or not answer.reply.partial:
            del self._given[id(answer.job)]
        source.done(answer)
