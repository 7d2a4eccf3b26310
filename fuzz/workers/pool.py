"""The supervisor's pool: one zygote, its workers, what they work at, and how they die.

It imports no compiler. ``step`` hands out jobs, collects answers, and watches times and memory. A worker that died,
hung or grew too large is replaced, and the loss of its job is an answer as well.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import shutil
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shakeout.fuzz.coverage.log import NAME as COVERAGE
from shakeout.fuzz.coverage.sources import Wanted
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.jobs import Job
from shakeout.fuzz.ground.makers import GROWER
from shakeout.fuzz.ground.results import Answer, Loss, LossKind, Reply
from shakeout.fuzz.ground.slot import WAITING, SlotState, Watch
from shakeout.fuzz.workers.protocol import LOG, TELL_STACK, Channel, Disconnected
from shakeout.fuzz.workers.worker_handle import WorkerHandle, death, family
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

#: Seconds for a worker that hangs to print its stack before it is killed.
STACK_SECONDS = 0.1

#: A worker that grew so much, in bytes, without a case in hand is replaced.
GROWTH = 1 << 30

#: Seconds for the zygote to fork a worker or to say that one is dead, and then for the worker to say that it began. A
#: fork and a worker's first steps take 25 ms; where forty processes share a core, or pages come back from a disk, some
#: seconds. Where workers warm themselves they do so in their first job, which has a limit of its own. One that was
#: ended too early would cost another fork, but on a machine that is slow for all of them that would never end.
BIRTH_SECONDS = 60.0

#: Workers of one handle that may fail to begin, one after the other, before their zygote is taken for the cause: it may
#: have been forked while it held a lock, and then every fork of it has that lock.
BIRTHS = 2

#: Bytes of a dead worker's output that are kept.
TAIL = 8000

#: On the CPU, with nothing special about it.
_ORDINARY = WorkerKind()
_NOTHING = Wanted()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may use.

    Attributes:
        seconds: from the start of the job to its answer.
        bytes: resident memory of the worker and its children, beyond what a fresh worker holds.
        early: seconds for growing, and for the reference's run: no target is involved yet.
    """

    seconds: float
    bytes: int
    early: float = 20.0


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
        #: Seconds that the last fork took in the zygote, and until a dead worker's successor was ready.
        self.fork_seconds = 0.0
        self.replace_seconds = 0.0
        self._targets = list(targets) if forked else []
        self._handles = [WorkerHandle(number) for number in range(1, workers + 1)]
        self._tell = tell
        self._recycle = recycle
        self._selector = selectors.DefaultSelector()
        self._forks = itertools.count(1)
        self._jobs = itertools.count(1)
        self._answers: deque[Answer] = deque()
        self._heard = 0.0  # when the zygote last said something

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
        self._fork_all()
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
        self._end_all()
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
        self._fork_all()
        return broken

    def prepare(self) -> None:
        """Have the maker load what it needs, with fresh workers afterwards; raises like ``start``."""
        self._end_all()
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
        for handle in self._add(self._spare):
            handle.asleep = True  # the first case need not wait until all are forked
        self._zygote.cases(begin=True)
        self._fork_all()

    def _widen(self, jobs: int) -> None:
        """So many jobs are all there is, and all of them can wait for kernels that are compiled jointly."""
        for handle in self._add(min(self._spare, jobs - len(self._handles))):
            self._fork(handle)

    def _add(self, number: int) -> list[WorkerHandle]:
        """Handles for some of the workers that wait for kernels."""
        handles = [WorkerHandle(len(self._handles) + one) for one in range(1, number + 1)]
        self._handles += handles
        self._spare -= len(handles)
        return handles

    def no_more(self) -> None:
        """No more cases are handed out: the kernels of those in hand wait for no others."""
        self._zygote.cases(begin=False)

    def _end_all(self) -> None:
        """End every worker; none of them has a job in hand."""
        for handle in self._handles:
            self._kill(handle)
            self._clear(handle)
        self._selector.unregister(self._zygote)

    def _fork_all(self) -> None:
        """Listen to the zygote, and have it fork a worker for each handle that needs one."""
        self._selector.register(self._zygote, selectors.EVENT_READ, None)
        for handle in self._handles:
            if not handle.asleep:
                self._fork(handle)

    def _wake(self) -> None:
        """Have one more worker forked before there is none for the next jobs."""
        sleeping = next((handle for handle in self._handles if handle.asleep), None)
        if sleeping and sum(handle.job is None and not handle.asleep for handle in self._handles) < self._workers:
            sleeping.asleep = False
            self._fork(sleeping)

    def stop(self) -> None:
        """Kill everything, and remove what was only for running."""
        for handle in self._handles:
            self._kill(handle)
            self._clear(handle)
        self._zygote.close()
        self._selector.close()
        for name in ("cache", "slots"):
            shutil.rmtree(self.directory / name, ignore_errors=True)

    # --- work -------------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many workers there are, at work or waiting for a joint build."""
        return len(self._handles)

    @property
    def busy(self) -> bool:
        """Whether a job is in hand."""
        return any(handle.job is not None or handle.pending is not None for handle in self._handles)

    @property
    def running(self) -> tuple[Job, ...]:
        """The jobs in hand."""
        jobs = (job for handle in self._handles for job in (handle.job, handle.pending))
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
        for handle in self._handles:
            if handle.free:
                if self._full:
                    break  # there may be hundreds that have nothing to do
                self._give(handle, next_job)
        self._wake()
        for key, _ in self._selector.select(min(timeout, TICK)):
            if key.data is None:
                self._listen()
            else:
                self._collect(key.data)
                # At once, before the answers are written down: a worker that waits is time lost.
                self._give(key.data, next_job)
        self._watch(limits)
        answers = list(self._answers)
        self._answers.clear()
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
        for handle in self._handles:
            if handle.job is not None or handle.pending is not None:
                self._kill(handle)
                handle.job = handle.pending = None
                handle.leaving, handle.ready = True, False
        return jobs

    @property
    def _full(self) -> bool:
        """Whether as many as there may be are at work."""
        return sum(one.job is not None and not one.waiting for one in self._handles) >= self._workers

    def _give(self, handle: WorkerHandle, next_job: Callable[[], Job | None]) -> None:
        if not handle.free or self._full:
            return
        job, handle.pending = handle.pending or next_job(), None
        if job is None:
            return
        if (job.fresh or job.before) and handle.history:
            handle.pending = job
            self._dismiss(handle)
            return
        assert handle.channel is not None
        handle.job, handle.serial, handle.given, handle.waiting = job, next(self._jobs), time.monotonic(), False
        # If it just died, its death comes with the next look.
        with contextlib.suppress(Disconnected):
            handle.channel.send({"serial": handle.serial, "job": job.to_json()})

    def _collect(self, handle: WorkerHandle) -> None:
        assert handle.channel is not None
        try:
            messages = handle.channel.receive()
        except Disconnected:
            self._forget(handle.channel)
            handle.ready, handle.mute = False, time.monotonic()
            return
        for message in messages:
            self._take(handle, message)

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
        self._answers.append(Answer(job, handle.number, reply, None, tuple(handle.history)))
        if reply.partial:
            handle.given = time.monotonic()  # the time limit is for one setting
            return
        handle.job = None
        handle.history.append(job)
        grown = reply.resident - handle.resident
        if reply.spent or len(handle.history) >= self._recycle or grown > GROWTH or job.fresh or job.before:
            self._dismiss(handle)

    def _watch(self, limits: Callable[[Job], Limits]) -> None:
        """End what takes too long or too much."""
        now = time.monotonic()
        if self._zygote_hangs(now):
            return
        for handle in self._handles:
            if handle.mute and now - handle.mute > 1:
                # It closed its channel and lives on.
                handle.mute = 0.0
                handle.killed = ("crash", "its channel was closed")
                self._kill(handle)
            if handle.job is None or not handle.pid or handle.killed or handle.watch is None:
                continue
            limit = limits(handle.job)
            state = handle.watch.look()
            if handle.waiting:
                handle.given += now - handle.looked  # that time is the other kernels'
            handle.waiting, handle.looked = state.job == handle.serial and state.phase == WAITING, now
            if handle.waiting:
                continue
            early = state.job == handle.serial and state.phase in ("grow", "reference")
            if now - handle.given > limit.seconds:
                self._end(handle, "hang", f"no answer within {limit.seconds:.3g} s")
            elif early and now - state.since > limit.early and not handle.job.before:
                self._end(handle, "hang", f"no answer within {limit.early:.3g} s")
            elif (used := family(handle.pid) - handle.resident) > limit.bytes:
                text = f"{used >> 20} MiB beyond a fresh worker, limit {limit.bytes >> 20} MiB"
                self._end(handle, "memory", text)

    def _zygote_hangs(self, now: float) -> bool:
        """End workers that do not begin, and the zygote if it is the cause; whether it was."""
        for handle in self._handles:
            if handle.owed and now - max(handle.owed, self._heard) > BIRTH_SECONDS:
                self._zygote_died("does not answer")
                return True
            if not handle.forked or now - handle.forked < BIRTH_SECONDS or handle.ready or handle.mute or handle.owed:
                continue
            handle.unborn += 1
            if handle.unborn >= BIRTHS:
                handle.unborn = 0
                self._zygote_died(f"forked {BIRTHS} in a row that did not begin")
                return True
            self._end(handle, "hang", f"it did not begin within {BIRTH_SECONDS:.3g} s")
        return False

    def _end(self, handle: WorkerHandle, kind: LossKind, symptom: str) -> None:
        handle.killed = (kind, symptom)
        if kind == "hang":
            with contextlib.suppress(ProcessLookupError):
                os.kill(handle.pid, TELL_STACK)
                time.sleep(STACK_SECONDS)
        self._kill(handle)

    # --- births and deaths ------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            message = self._zygote.receive()
        except Disconnected:
            self._zygote_died("died")
            return
        self._heard = time.monotonic()
        if "forked" in message:
            self.fork_seconds = message["seconds"]
            for handle in self._handles:
                if handle.name == message["name"]:
                    handle.pid, handle.forked, handle.owed = message["forked"], self._heard, 0.0
                    if handle.leaving or handle.killed:
                        # It began, answered and was dismissed before the zygote could say who it is.
                        self._kill(handle)
        elif "armed" in message:
            self._tell(events.CoverageArmed(**message["armed"]))
        elif "dead" in message:
            for handle in self._handles:
                if handle.pid == message["dead"]:
                    self._reap(handle, message["status"])

    def _reap(self, handle: WorkerHandle, status: int) -> None:
        """A worker is dead: what it last said still counts, its job is lost, and another takes over."""
        assert handle.channel is not None
        handle.pid = 0
        for message in handle.channel.drain():
            self._take(handle, message)
        died = not handle.leaving
        handle.empty_since = time.monotonic()
        if died:
            kind, symptom = death(status, handle.killed)
            handle.reason = f"{kind}: {symptom}"
            if handle.job is not None:
                self._lose(handle, kind, symptom)
        self._clear(handle)
        self._fork(handle)

    def _lose(self, handle: WorkerHandle, kind: LossKind, symptom: str) -> None:
        job = handle.job
        assert job is not None
        assert handle.watch is not None
        state = handle.watch.read()
        if state.job != handle.serial or not state.phase:
            # It died before it saw the job.
            state = SlotState(handle.serial, handle.given, "start", handle.given)
        seconds = time.monotonic() - handle.given
        self.headers.distrust(seconds)
        loss = Loss(kind, symptom, state, seconds, self._output(handle))
        handle.job, handle.died_at = None, job.number
        self._answers.append(Answer(job, handle.number, loss=loss, history=tuple(handle.history)))

    def _zygote_died(self, what: str) -> None:
        """The workers die with their zygote; their jobs come back, and another zygote is started."""
        for handle in self._handles:
            self._kill(handle)
            if handle.channel is not None:
                for message in handle.channel.drain():
                    self._take(handle, message)
            if handle.job is not None:
                self._lose(handle, "interrupted", f"the zygote {what}")
            self._clear(handle)
        self._selector.unregister(self._zygote)
        self._zygote.died(what)
        self._zygote.restart()
        self._fork_all()

    def _fork(self, handle: WorkerHandle) -> None:
        if not self._zygote.alive:
            return
        handle.name = f"worker-{handle.number}-{next(self._forks)}"
        slot = self.directory / "slots" / handle.name
        handle.watch = Watch(slot)
        ours, theirs = socket.socketpair()
        handle.channel = Channel(ours)
        self._selector.register(handle.channel, selectors.EVENT_READ, handle)
        home = self.directory / "cache" / handle.name
        request = {"name": handle.name, "slot": str(slot.absolute()), "home": str(home.absolute())}
        self._zygote.fork(request, theirs.fileno())
        handle.owed = time.monotonic()
        theirs.close()

    def _dismiss(self, handle: WorkerHandle) -> None:
        """Replace a worker that did nothing wrong; it has no job in hand, so a kill loses nothing."""
        handle.leaving, handle.ready = True, False
        self._kill(handle)

    def _kill(self, handle: WorkerHandle) -> None:
        """The worker, and with it its group: a compiler that it started."""
        if not handle.pid:
            return
        if handle.job is not None:
            self.headers.distrust(time.monotonic() - handle.given)
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(handle.pid, signal.SIGKILL)
        handle.owed = handle.owed or time.monotonic()

    def _clear(self, handle: WorkerHandle) -> None:
        """Forget a dead worker."""
        if handle.channel is not None:
            self._forget(handle.channel)
            handle.channel.close()
            handle.channel = None
        if handle.watch is not None:
            handle.watch.close()
            handle.watch = None
        if handle.name:
            with contextlib.suppress(OSError):
                (self.directory / "slots" / handle.name).unlink()
            shutil.rmtree(self.directory / "cache" / handle.name, ignore_errors=True)
        handle.pid, handle.name, handle.ready, handle.leaving = 0, "", False, False
        handle.killed, handle.mute, handle.resident = None, 0.0, 0
        handle.owed = handle.forked = 0.0
        handle.history = []

    def _forget(self, end: Channel) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(end)

    def _output(self, handle: WorkerHandle) -> str:
        try:
            with (self.directory / "cache" / handle.name / LOG).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(file.tell() - TAIL, 0))
                return file.read().decode("utf-8", "replace").replace("\0", "").strip()
        except OSError:
            return ""


def _most_processes() -> int:
    """How many workers memory allows: what one holds of its own is some 120 MB, and some hold several times that."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (512 << 20)
