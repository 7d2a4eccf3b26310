"""Threads that move bytes in the background, for as long as there are some to move.

What somebody waits for comes before what is stored in advance, and if no thread has begun it, whoever waits does it. So
nothing ever waits for a thread that is busy with something else, or that is no more.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

__all__ = ["Job", "WorkerDied", "Workers"]


class WorkerDied(BaseException):
    """Ends a worker in the middle of its job, which another one begins anew; a fault injector raises it."""


class Job:
    """Something that is done once, by a worker or by who waits for it.

    Attributes:
        state: where it stands.
        result: what it gave.
        error: what it raised.
    """

    __slots__ = ("_ended", "_run", "error", "result", "state")

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run
        self.state: Literal["queued", "running", "done", "dropped"] = "queued"
        self.result: Any = None
        self.error: Exception | None = None
        self._ended = threading.Event()

    def finish(self) -> None:
        """Do it; whoever calls has taken it.

        Raises:
            WorkerDied: its worker is to die, and it is as if it had not begun.
        """
        try:
            self.result = self._run()
        except Exception as error:
            self.error = error
        self.end("done")

    def end(self, state: Literal["done", "dropped"]) -> None:
        """Nothing more happens to it."""
        self.state = state
        del self._run  # and what it refers to can go
        self._ended.set()

    def wait(self) -> None:
        """Until it has ended."""
        self._ended.wait()


class Workers:
    """Does jobs in a few threads, which end when there is nothing left to do.

    Attributes:
        died: how many ended in the middle of a job.
    """

    def __init__(self, threads: int, lock: threading.RLock, order: Callable[[int], int] = lambda waiting: 0) -> None:
        """Start nothing yet.

        Args:
            threads: there are as many as there are jobs, up to this.
            lock: of who submits and drops. Objects are freed anywhere, also where a thread holds the lock of something
                else, and drop their jobs then; two locks would be taken in either order.
            order: which of so many waiting jobs is next.
        """
        self.died = 0
        self._threads, self._order = threads, order
        self._urgent: deque[Job] = deque()
        self._later: deque[Job] = deque()
        self._running: set[Job] = set()
        self._alive = 0
        self._lock = lock

    def submit(self, job: Job, *, urgent: bool = False) -> Job:
        """Have it done: before everything that is not urgent, or when its turn comes."""
        with self._lock:
            (self._urgent if urgent else self._later).append(job)
            self._staff()
        return job

    def wait(self, job: Job) -> Any:
        """What a job gave, or raised; that is told to the first who waits, and the others get None."""
        while self._taken(job):
            self._do(job)
        job.wait()
        error, job.error = job.error, None
        if error is None:
            return job.result
        try:
            raise error  # which has the frames of who waits, and they what they hold; so nobody keeps it
        finally:
            del error

    def drop(self, job: Job) -> bool:
        """Leave it, if nobody has begun it; whether that is so."""
        with self._lock:
            if not self._taken(job):
                return False
            self._running.discard(job)
        job.end("dropped")
        return True

    def settle(self) -> None:
        """Help until there is nothing left to do; what a job raises is told to who waits for it."""
        while True:
            while (job := self._next()) is not None:
                self._do(job)
            with self._lock:
                running = next(iter(self._running), None)
            if running is None:
                return
            running.wait()

    def _staff(self) -> None:
        """Start a thread where one is missing. No daemon: a process ends behind its transfers, not amid them."""
        if self._alive < min(self._threads, len(self._urgent) + len(self._later)):
            # Where no thread is to be had, or none any more at the end of a process, who waits does the job.
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self._work, name="shakeout-offload").start()
                self._alive += 1  # before it ends: it needs the lock for that

    def _work(self) -> None:
        while (job := self._next(worker=True)) is not None:
            if not self._do(job):
                with self._lock:
                    self._alive -= 1
                    self._staff()
                return

    def _next(self, *, worker: bool = False) -> Job | None:
        """The job whose turn it is; a worker that finds none is no more."""
        with self._lock:
            while waiting := self._urgent or self._later:
                turn = self._order(len(waiting))
                # Any call may have Python free objects, which drop their jobs: this one, or all that were waiting.
                if waiting and self._taken(job := waiting[turn % len(waiting)]):
                    return job
            self._alive -= worker
            return None

    def _taken(self, job: Job) -> bool:
        """Take a job out of the queue, if it is there."""
        with self._lock:
            if job.state != "queued":
                return False
            (self._urgent if job in self._urgent else self._later).remove(job)
            job.state = "running"
            self._running.add(job)
            return True

    def _do(self, job: Job) -> bool:
        """Do a job that was taken; whether its worker lives."""
        lives = True
        try:
            job.finish()
        except WorkerDied:
            lives = False
        with self._lock:
            self._running.discard(job)
            if not lives:
                self.died += 1
                job.state = "queued"
                self._urgent.appendleft(job)
        return lives
