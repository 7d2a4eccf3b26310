"""The supervisor's pool: what a zygote and its workers are warmed with, and the jobs that they work at.

It imports no compiler. ``step`` hands out jobs, collects answers, and has times and memory watched. A worker that died,
hung or grew too large is replaced, and the loss of its job is an answer as well (``processes.py``, ``watchdog.py``).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shakeout.fuzz.coverage.log import NAME as COVERAGE
from shakeout.fuzz.coverage.sources import Wanted
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.jobs import Job
from shakeout.fuzz.ground.makers import GROWER
from shakeout.fuzz.ground.results import Answer, Reply
from shakeout.fuzz.workers.processes import WorkerProcesses
from shakeout.fuzz.workers.protocol import Disconnected
from shakeout.fuzz.workers.watchdog import Limits, watch
from shakeout.fuzz.workers.worker_handle import WorkerHandle
from shakeout.fuzz.workers.worker_kind import WorkerKind
from shakeout.fuzz.workers.zygote_client import StageFailed, ZygoteClient
from shakeout.targets.accelerators import present
from shakeout.targets.joint import ENOUGH, Company, company
from shakeout.targets.registry import facts_of
from shakeout.targets.shortcuts import ALWAYS

__all__ = ["Limits", "WorkerPool"]

#: Seconds between looks at times and memory: a hang or a blow-up is noticed at most so much late. Memory is written
#: at some 3 GB/s, so a blow-up overshoots its limit by 150 MB.
TICK = 0.05

#: A worker that grew so much, in bytes, without a case in hand is replaced.
GROWTH = 1 << 30

#: On the CPU, with nothing special about it.
_ORDINARY = WorkerKind()
_NOTHING = Wanted()


class WorkerPool:
    """Runs jobs on some workers, all files below one directory.

    Start it from the thread that uses it: the zygote dies with the thread that started it.

    Args:
        directory: for their files.
        targets: that are warmed before workers are forked.
        workers: jobs that are at work at a time.
        tell: told of what happens.
        maker: name of what grows cases.
        recycle: jobs after which a worker is replaced.
        kind: what has to be decided about the workers before they are started. A case that needs another kind than
            this is declined.
        shortcuts: of ``shakeout.targets.shortcuts``. With joint builds there are more workers than jobs at work: the
            others wait for their kernels meanwhile.
        cover: what is watched: of it replies say what was hit for the first time. A worker does not say what stood in
            the directory's log (``shakeout.fuzz.coverage.log``) when it was forked.
    """

    def __init__(
        self,
        directory: Path,
        targets: Sequence[str],
        workers: int,
        *,
        tell: events.Listener = lambda event: None,
        maker: str = GROWER,
        recycle: int = 150,
        kind: WorkerKind = _ORDINARY,
        shortcuts: Collection[str] = ALWAYS,
        cover: Wanted = _NOTHING,
    ) -> None:
        self.directory = directory
        self._cover = cover
        # A process that has used CUDA cannot be forked, so where it could have, each worker warms itself.
        forked = kind.sees_no_accelerator(targets) or (kind.device == "cpu" and not present())
        used = {*ALWAYS, *(name for one in targets if forked for name in facts_of(one).shortcuts)}
        shortcuts = [name for name in shortcuts if name in used]
        self._workers = workers
        crowd = company(workers, _most_processes()) if "joint" in shortcuts else Company(workers, ENOUGH)
        self._spare = crowd.processes - workers
        self._zygote = ZygoteClient(directory, maker, tell, shortcuts, crowd, kind.environment(targets))
        self.headers = self._zygote.headers
        self._processes = WorkerProcesses(directory, self._zygote, workers, tell, self._take)
        #: Seconds until a dead worker's successor was ready.
        self.replace_seconds = 0.0
        self._targets = list(targets) if forked else []
        self._tell = tell
        self._recycle = recycle
        self._jobs = itertools.count(1)

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self, stop: Callable[[], bool] = lambda: False, *, complete: bool = True) -> None:
        """Start the zygote and fork the workers.

        Args:
            stop: asked now and then whether to give up.
            complete: with all targets warm and the maker prepared. Without, only torch is loaded, which is enough for
                targets that were not named; ``warm`` and ``prepare`` do the rest.

        Raises:
            ZygoteBroken: it could not load or warm a target, or it dies again and again.
            Interrupted: ``stop`` said so.
        """
        (self.directory / "slots").mkdir(parents=True, exist_ok=True)
        self._zygote.start(stop, [name for name in self._targets if facts_of(name).slow])
        self._processes.fork_all()
        if complete:
            self.warm()
            self.prepare()

    @property
    def warmed(self) -> tuple[str, ...]:
        """The targets that are warm before workers are forked; the others are warmed by each worker."""
        return tuple(self._targets)

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Targets in the order in which they are best warmed: what others are still busy for comes last."""
        return sorted(names, key=lambda name: facts_of(name).slow and self._zygote.building)

    def warm(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """Warm some targets, or all, with fresh workers afterwards; raises like ``start``.

        Returns:
            The targets that cannot be used, and why.
        """
        wanted = [name for name in (self._targets if names is None else names) if name in self._targets]
        broken: dict[str, str] = {}
        if not wanted:
            return broken
        self._processes.end_all()
        for name in self.in_order(wanted):
            if facts_of(name).slow:
                self._zygote.await_builder()
                # Now a core is free for what the maker needs.
                self._zygote.stage({"begin": ""})
            try:
                self._zygote.stage({"warm": name})
            except StageFailed as error:
                broken[name] = str(error)
            self.headers.keep()
        self._processes.fork_all()
        return broken

    def prepare(self) -> None:
        """Have the maker load what it needs, with fresh workers afterwards; raises like ``start``."""
        self._processes.end_all()
        self._zygote.stage({"prepare": ""})
        if self._cover:
            # Last, when everything is loaded and warm: what a warm-up hits says nothing of a case.
            log = str((self.directory / COVERAGE).absolute())
            try:
                self._zygote.stage({"cover": {"wanted": self._cover.to_json(), "log": log}})
            except StageFailed as error:
                said = (str(error).strip().splitlines() or ["it said nothing"])[-1]
                self._tell(events.CoverageArmed("all sources", reason=said[:300]))
        # Not before: each stage has every worker forked anew.
        for handle in self._more(self._spare):
            handle.asleep = True  # the first case need not wait until all are forked
        self._zygote.cases(begin=True)
        self._processes.fork_all()

    def _widen(self, jobs: int) -> None:
        """So many jobs are all there is, and all of them can wait for kernels that are compiled jointly."""
        for handle in self._more(min(self._spare, jobs - len(self._processes.handles))):
            self._processes.fork(handle)

    def _more(self, number: int) -> list[WorkerHandle]:
        """Handles for some of the workers that wait for kernels."""
        found = self._processes.add(number)
        self._spare -= len(found)
        return found

    def _wake(self) -> None:
        """Have one more worker forked before there is none for the next jobs."""
        handles = self._processes.handles
        sleeping = next((handle for handle in handles if handle.asleep), None)
        if sleeping and sum(handle.job is None and not handle.asleep for handle in handles) < self._workers:
            sleeping.asleep = False
            self._processes.fork(sleeping)

    @property
    def fork_seconds(self) -> float:
        """Seconds that the last fork took in the zygote."""
        return self._processes.fork_seconds

    def no_more(self) -> None:
        """No more cases are handed out: the kernels of those in hand wait for no others."""
        self._zygote.cases(begin=False)

    def stop(self) -> None:
        """Kill everything, and remove what was only for running."""
        self._processes.close()

    # --- work -------------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many workers there are, at work or waiting for a joint build."""
        return len(self._processes.handles)

    @property
    def busy(self) -> bool:
        """Whether a job is in hand."""
        return any(handle.job is not None or handle.pending is not None for handle in self._processes.handles)

    @property
    def running(self) -> tuple[Job, ...]:
        """The jobs in hand."""
        jobs = (job for handle in self._processes.handles for job in (handle.job, handle.pending))
        return tuple(job for job in jobs if job is not None)

    def step(
        self, next_job: Callable[[], Job | None], limits: Callable[[Job], Limits], timeout: float = TICK
    ) -> list[Answer]:
        """Hand out jobs, wait until something happens or ``timeout`` is over, and give what was answered.

        Args:
            next_job: the next job, or None if there is none at the moment.
            limits: what a job may use.
            timeout: seconds.

        Raises:
            ZygoteBroken: the zygote died, and cannot be started again.
        """
        for handle in self._processes.handles:
            if handle.free:
                if self._full:
                    break  # there may be hundreds that have nothing to do
                self._give(handle, next_job)
        self._wake()
        for handle in self._processes.collect(min(timeout, TICK)):
            # At once, before the answers are written down: a worker that waits is time lost.
            self._give(handle, next_job)
        watch(self._processes, limits)
        answers = list(self._processes.answers)
        self._processes.answers.clear()
        return answers

    def answers(
        self, jobs: Iterable[Job], limits: Callable[[Job], Limits], stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Answer]:
        """The last answer to each of some jobs, as it comes; what is still in hand when it is stopped is abandoned.

        A job whose worker somebody else killed runs once more.

        Args:
            jobs: each another object; nothing else is in hand.
            limits: what a job may use.
            stop: asked now and then whether to give up.

        Raises:
            ZygoteBroken: the zygote died, and cannot be started again.
        """
        todo = deque(jobs)
        wanted = {job.target for job in todo}.intersection(self._targets)
        if self._spare and any("joint" in facts_of(target).shortcuts for target in wanted):
            self._widen(len(todo))
        waiting = set(map(id, todo))
        interrupted: set[int] = set()
        while waiting and not stop():
            for answer in self.step(lambda: todo.popleft() if todo else None, limits):
                job = id(answer.job)
                if job not in waiting or answer.reply.partial:
                    continue
                if answer.loss is not None and answer.loss.kind == "interrupted" and job not in interrupted:
                    interrupted.add(job)
                    todo.append(answer.job)
                    continue
                waiting.discard(job)
                yield answer
        if waiting:
            self.abandon()

    def abandon(self) -> tuple[Job, ...]:
        """Kill the workers that have a job in hand; the jobs."""
        jobs = self.running
        for handle in self._processes.handles:
            if handle.job is not None or handle.pending is not None:
                self._processes.kill(handle)
                handle.job = handle.pending = None
                handle.leaving, handle.ready = True, False
        return jobs

    @property
    def _full(self) -> bool:
        """Whether as many as there may be are at work."""
        return sum(one.job is not None and not one.waiting for one in self._processes.handles) >= self._workers

    def _give(self, handle: WorkerHandle, next_job: Callable[[], Job | None]) -> None:
        if not handle.free or self._full:
            return
        job, handle.pending = handle.pending or next_job(), None
        if job is None:
            return
        if (job.fresh or job.before) and handle.history:
            handle.pending = job
            self._processes.dismiss(handle)
            return
        assert handle.channel is not None
        handle.job, handle.serial, handle.given, handle.waiting = job, next(self._jobs), time.monotonic(), False
        # If it just died, its death comes with the next look.
        with contextlib.suppress(Disconnected):
            handle.channel.send({"serial": handle.serial, "job": job.to_json()})

    def _take(self, handle: WorkerHandle, message: Mapping[str, Any]) -> None:
        """One message of a worker."""
        if "began" in message:
            handle.ready, handle.unborn, handle.resident = True, 0, message["resident"]
            if handle.empty_since:
                self.replace_seconds = time.monotonic() - handle.empty_since
                if handle.reason:
                    spent = round(self.replace_seconds, 4)
                    self._tell(events.WorkerDied(handle.number, handle.reason, handle.died_at, spent))
            handle.empty_since, handle.reason, handle.died_at = 0.0, "", None
            return
        job, reply = handle.job, Reply.from_json(message)
        if job is None or handle.serial != reply.serial:
            return
        self._zygote.deaths = 0
        self._processes.answers.append(Answer(job, handle.number, reply, None, tuple(handle.history)))
        if reply.partial:
            handle.given = time.monotonic()  # the time limit is for one setting
            return
        handle.job = None
        handle.history.append(job)
        grown = reply.resident - handle.resident
        if reply.spent or len(handle.history) >= self._recycle or grown > GROWTH or job.fresh or job.before:
            self._processes.dismiss(handle)


def _most_processes() -> int:
    """How many workers memory allows: what one holds of its own is some 120 MB, and some hold several times that."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (512 << 20)
