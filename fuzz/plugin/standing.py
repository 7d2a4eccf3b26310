"""What the cases of one pytest process run in: a pool for each kind of worker, warmed once, ended with the process."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.ground.counts import result_of
from shakeout.fuzz.ground.jobs import Job
from shakeout.fuzz.ground.makers import RUNS_ONLY
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.triage.replay_bugs import Item, job_of
from shakeout.fuzz.workers.pool import Limits, WorkerPool
from shakeout.fuzz.workers.timing import TimeLimits
from shakeout.fuzz.workers.worker_kind import WorkerKind
from shakeout.fuzz.workers.zygote_client import ZygoteBroken

__all__ = ["CannotRun", "StandingPools"]


class CannotRun(Exception):
    """Nothing is known of a case, for a reason that lies with the machine or the target's package; one line."""


class StandingPools:
    """Runs items one at a time, each in a fresh worker; whatever it does, this process lives on.

    Pytest runs one test at a time in each process, so a pool has one worker; more processes are xdist's business.

    Args:
        items: all that may run, whose targets the pools are made for. Each target is loaded with its first case.
        seconds: that one case may take; None to derive it from those that ran.
    """

    def __init__(self, items: Sequence[Item], seconds: float | None = None) -> None:
        self._targets: dict[WorkerKind, list[str]] = {}
        for item in items:
            if item.case is not None:
                setting = item.case.setting
                names = self._targets.setdefault(WorkerKind.of(setting), [])
                names += [setting.target] if setting.target not in names else []
        self._times = TimeLimits(seconds)
        self._memory = Config().memory_limit
        self._pools: dict[WorkerKind, WorkerPool] = {}
        self._warm: dict[tuple[WorkerKind, str], str] = {}
        self._open = contextlib.ExitStack()

    def run(self, item: Item) -> Result:
        """What one run of an item comes to.

        Raises:
            CannotRun: its target cannot be loaded.
        """
        assert item.case is not None
        setting = item.case.setting
        kind = WorkerKind.of(setting)
        if why := self._loaded(kind, setting.target):
            raise CannotRun(f"{setting.target} could not be loaded: {why}")
        job = job_of(item)
        try:
            answer = next(self._pools[kind].answers([job], self._limits))
        except ZygoteBroken as error:
            self._warm.update(dict.fromkeys(((kind, name) for name in self._targets[kind]), _last(str(error))))
            raise CannotRun(f"the process that loads the targets died: {_last(str(error))}") from None
        except BaseException:  # Ctrl-C, or another plugin's time limit: the next case must not wait for this one
            self._pools[kind].abandon()
            raise
        if answer.loss is None and not answer.reply.internal:
            self._times.add(job.target, answer.seconds / (1 + len(job.before)))
        return result_of(answer)

    def close(self) -> None:
        """End every process, and remove their files."""
        self._open.close()
        self._pools.clear()

    def _loaded(self, kind: WorkerKind, name: str) -> str:
        """Load a target if nobody did; why it cannot be, or nothing."""
        if (kind, name) not in self._warm:
            try:
                self._warm[kind, name] = _last(self._pool(kind).warm([name]).get(name, ""))
            except ZygoteBroken as error:
                self._warm[kind, name] = _last(str(error))
        return self._warm[kind, name]

    def _pool(self, kind: WorkerKind) -> WorkerPool:
        if kind not in self._pools:
            scratch = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="shakeout-")))
            pool = WorkerPool(scratch, self._targets[kind], 1, maker=RUNS_ONLY, kind=kind)
            self._open.callback(pool.stop)
            pool.start(complete=False)
            self._pools[kind] = pool
        return self._pools[kind]

    def _limits(self, job: Job) -> Limits:
        return Limits(self._times.limit(job.target) * (1 + len(job.before)), self._memory)


def _last(text: str) -> str:
    """The last line of a traceback; nothing of nothing."""
    return (text.strip().splitlines() or [""])[-1][:200] or ("it said nothing" if text else "")
