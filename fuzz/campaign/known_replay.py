"""Known bugs at the beginning of a campaign: each runs once, and what the installed versions still have is remembered.

A finding that one of them explains is then counted for it, and not taken for news.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shakeout.corpus.codec import encode
from shakeout.corpus.database import Database
from shakeout.corpus.known import KnownBug
from shakeout.corpus.rows import KnownBugReplay
from shakeout.fuzz.campaign.investigation import Investigation
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.counts import result_of
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.jobs import Job, Run
from shakeout.fuzz.ground.results import Answer
from shakeout.fuzz.triage.recognition import Remembered
from shakeout.fuzz.workers.pool import Limits, WorkerPool

__all__ = ["KnownReplay"]


class KnownReplay:
    """Runs known bugs in a campaign's workers.

    Args:
        pool: whose workers they are.
        database: where the state of each is kept.
        investigation: which recognises findings by those that are still there.
        tell: told of each.
        limits: of a job.
        stopped: whether to end early.
    """

    def __init__(
        self,
        pool: WorkerPool,
        database: Database,
        investigation: Investigation,
        tell: events.Listener,
        limits: Callable[[Job], Limits],
        stopped: Callable[[], bool],
    ) -> None:
        self._pool = pool
        self._database = database
        self._investigation = investigation
        self._tell = tell
        self._limits = limits
        self._stopped = stopped

    def run(self, shipped: Sequence[KnownBug]) -> None:
        """Run each once, and tell which the installed versions still have."""
        jobs = [Run(target=bug.case.setting.target, case=encode(bug.case)) for bug in shipped]
        bugs = {id(job): bug for job, bug in zip(jobs, shipped, strict=True)}
        for answer in self._pool.answers(jobs, self._limits, self._stopped):
            self._answered(bugs[id(answer.job)], answer)

    def skip(self, bug: KnownBug) -> None:
        """Write down that a bug does not run here."""
        self._is(bug, "not run", f"{bug.case.setting.target} is not tested")

    def _answered(self, bug: KnownBug, answer: Answer) -> None:
        result = result_of(answer)
        if result.signature:
            self._investigation.known[result.signature] = bug.id
            if (failure := failure_of(result)) is not None:
                self._investigation.store.remember([Remembered(bug.id, bug.case, failure)])
            self._is(bug, "still there", "", result.signature, answer.seconds)
        elif result.status == "compared":
            self._is(bug, "fixed", "", "", answer.seconds)
        else:
            self._is(bug, "not run", result.reason or result.status, "", answer.seconds)

    def _is(self, bug: KnownBug, state: Any, reason: str, signature: str = "", seconds: float = 0.0) -> None:
        target = bug.case.setting.target
        with self._database.transaction():
            self._database.set_known(KnownBugReplay(bug.id, bug.title, bug.reference, state, reason, signature, target))
        self._tell(
            events.KnownReplayed(bug.id, bug.title, bug.reference, state, reason, target, round(float(seconds), 3))
        )
