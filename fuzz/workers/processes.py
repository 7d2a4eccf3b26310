"""The processes of a pool: a zygote, and the workers that it forks; how they begin, and how they die.

The loss of a job whose worker died is an answer, and another worker is forked in its place.
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.results import Answer, Loss, LossKind
from shakeout.fuzz.ground.slot import SlotState, Watch
from shakeout.fuzz.workers.protocol import LOG, TELL_STACK, Channel, Disconnected
from shakeout.fuzz.workers.worker_handle import WorkerHandle, death
from shakeout.fuzz.workers.zygote_client import ZygoteClient

__all__ = ["WorkerProcesses"]

#: Seconds for a worker that hangs to print its stack before it is killed.
STACK_SECONDS = 0.1

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


class WorkerProcesses:
    """Forks workers, tells what they say, and ends them.

    Args:
        directory: for their files.
        zygote: that forks them.
        workers: how many there are at first.
        tell: told of what happens.
        take: told of each message of a worker.

    Attributes:
        handles: one for each worker.
        answers: where the loss of a job is put.
        fork_seconds: that the last fork took in the zygote.
    """

    def __init__(
        self,
        directory: Path,
        zygote: ZygoteClient,
        workers: int,
        tell: events.Listener,
        take: Callable[[WorkerHandle, Mapping[str, Any]], None],
    ) -> None:
        self.directory = directory
        self.handles = [WorkerHandle(number) for number in range(1, workers + 1)]
        self.answers: deque[Answer] = deque()
        self.fork_seconds = 0.0
        self._zygote = zygote
        self._tell = tell
        self._take = take
        self._selector = selectors.DefaultSelector()
        self._forks = itertools.count(1)
        self._heard = 0.0  # when the zygote last said something

    def add(self, number: int) -> list[WorkerHandle]:
        """Handles for so many workers more, which nobody has forked yet."""
        found = [WorkerHandle(len(self.handles) + one) for one in range(1, number + 1)]
        self.handles += found
        return found

    def collect(self, timeout: float) -> Iterator[WorkerHandle]:
        """What workers say until the time is over; those that said something."""
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._listen()
            elif key.fileobj is key.data.channel:  # else the zygote just told its death, and there is another one
                self._hear(key.data)
                yield key.data

    def fork_all(self) -> None:
        """Listen to the zygote, and have it fork a worker for each handle that needs one."""
        self._selector.register(self._zygote, selectors.EVENT_READ, None)
        for handle in self.handles:
            if not handle.asleep:
                self.fork(handle)

    def end_all(self) -> None:
        """End every worker; none of them has a job in hand."""
        for handle in self.handles:
            self.kill(handle)
            self._clear(handle)
        self._selector.unregister(self._zygote)

    def dismiss(self, handle: WorkerHandle) -> None:
        """Replace a worker that did nothing wrong; it has no job in hand, so a kill loses nothing."""
        handle.leaving, handle.ready = True, False
        self.kill(handle)

    def end(self, handle: WorkerHandle, kind: LossKind, symptom: str) -> None:
        """Kill a worker for what it does: its death is told as that."""
        handle.killed = (kind, symptom)
        if kind == "hang":
            with contextlib.suppress(ProcessLookupError):
                os.kill(handle.pid, TELL_STACK)
                time.sleep(STACK_SECONDS)
        self.kill(handle)

    def kill(self, handle: WorkerHandle) -> None:
        """The worker, and with it its group: a compiler that it started."""
        if not handle.pid:
            return
        if handle.job is not None:
            self._zygote.headers.distrust(time.monotonic() - handle.given)
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(handle.pid, signal.SIGKILL)
        handle.owed = handle.owed or time.monotonic()

    def close(self) -> None:
        """Kill everything, and remove what was only for running."""
        for handle in self.handles:
            self.kill(handle)
            self._clear(handle)
        self._zygote.close()
        self._selector.close()
        for name in ("cache", "slots"):
            shutil.rmtree(self.directory / name, ignore_errors=True)

    # --- births and deaths ------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """One message of the zygote."""
        try:
            message = self._zygote.receive()
        except Disconnected:
            self._zygote_died("died")
            return
        self._heard = time.monotonic()
        if "forked" in message:
            self.fork_seconds = message["seconds"]
            for handle in self.handles:
                if handle.name == message["name"]:
                    handle.pid, handle.forked, handle.owed = message["forked"], self._heard, 0.0
                    if handle.leaving or handle.killed:
                        # It began, answered and was dismissed before the zygote could say who it is.
                        self.kill(handle)
        elif "armed" in message:
            self._tell(events.CoverageArmed(**message["armed"]))
        elif "dead" in message:
            for handle in self.handles:
                if handle.pid == message["dead"]:
                    self._reap(handle, message["status"])

    def _hear(self, handle: WorkerHandle) -> None:
        assert handle.channel is not None
        try:
            messages = handle.channel.receive()
        except Disconnected:
            self._forget(handle.channel)
            handle.ready, handle.mute = False, time.monotonic()
            return
        for message in messages:
            self._take(handle, message)

    def zygote_hangs(self, now: float) -> bool:
        """End workers that do not begin, and the zygote if it is the cause; whether it was."""
        for handle in self.handles:
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
            self.end(handle, "hang", f"it did not begin within {BIRTH_SECONDS:.3g} s")
        return False

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
        self.fork(handle)

    def _lose(self, handle: WorkerHandle, kind: LossKind, symptom: str) -> None:
        job = handle.job
        assert job is not None
        assert handle.watch is not None
        state = handle.watch.read()
        if state.job != handle.serial or not state.phase:
            # It died before it saw the job.
            state = SlotState(handle.serial, handle.given, "start", handle.given)
        seconds = time.monotonic() - handle.given
        self._zygote.headers.distrust(seconds)
        loss = Loss(kind, symptom, state, seconds, self._output(handle))
        handle.job, handle.died_at = None, job.number
        self.answers.append(Answer(job, handle.number, loss=loss, history=tuple(handle.history)))

    def _zygote_died(self, what: str) -> None:
        """The workers die with their zygote; their jobs come back, and another zygote is started."""
        for handle in self.handles:
            self.kill(handle)
            if handle.channel is not None:
                for message in handle.channel.drain():
                    self._take(handle, message)
            if handle.job is not None:
                self._lose(handle, "interrupted", f"the zygote {what}")
            self._clear(handle)
        self._selector.unregister(self._zygote)
        self._zygote.died(what)
        self._zygote.restart()
        self.fork_all()

    def fork(self, handle: WorkerHandle) -> None:
        """Ask the zygote for another worker."""
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
