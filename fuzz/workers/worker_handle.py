"""What a pool knows of one of its workers: who it is now, what it works at, and what became of the one before."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass, field

from shakeout.fuzz.ground.child import resident
from shakeout.fuzz.ground.jobs import Job
from shakeout.fuzz.ground.results import LossKind
from shakeout.fuzz.ground.slot import Watch
from shakeout.fuzz.workers.protocol import Channel

__all__ = ["WorkerHandle", "death", "family"]


@dataclass(slots=True)
class WorkerHandle:
    """One worker of a pool; when it dies another one takes over. Times are of the monotonic clock, 0 for not.

    Attributes:
        number: of the handle, which its workers share.
        name: of the worker.
        channel: to the worker.
        watch: on its slot.
        pid: of the worker; 0 until the zygote has told it.
        resident: bytes that it held when it began.
        ready: whether it began, and can be given a job.
        job: in hand, with the ``serial`` that its answers bear.
        given: when the job was given; what it waited for others' kernels does not count.
        pending: the job that waits for the next worker, because it wants a fresh one.
        history: jobs that the worker has answered.
        killed: of what its death is an observation, where the pool ends it.
        leaving: whether it is dismissed.
        mute: since when its channel is closed.
        owed: since when the zygote has to tell of its fork or its death.
        forked: when the zygote told of its fork.
        unborn: workers in a row that did not begin.
        empty_since: when the last worker died, for what ``reason``, at which job (``died_at``).
        waiting: whether it only waits for kernels, ``looked`` at last.
        asleep: whether it has no worker because none was needed yet.
    """

    number: int
    name: str = ""
    channel: Channel | None = None
    watch: Watch | None = None
    pid: int = 0
    resident: int = 0
    ready: bool = False
    job: Job | None = None
    serial: int = 0
    given: float = 0.0
    pending: Job | None = None
    history: list[Job] = field(default_factory=list)
    killed: tuple[LossKind, str] | None = None
    leaving: bool = False
    mute: float = 0.0
    owed: float = 0.0
    forked: float = 0.0
    unborn: int = 0
    empty_since: float = 0.0
    reason: str = ""
    died_at: int | None = None
    waiting: bool = False
    looked: float = 0.0
    asleep: bool = False

    @property
    def free(self) -> bool:
        """Whether its worker could be given a job."""
        return self.ready and self.job is None and not self.leaving


def death(status: int, killed: tuple[LossKind, str] | None) -> tuple[LossKind, str]:
    """Kind and symptom of a death, from the exit status as ``os.waitstatus_to_exitcode`` gives it."""
    if killed is not None:
        return killed
    if status == -signal.SIGKILL:
        # Nobody can do that to itself by accident: the kernel was out of memory, or somebody killed it.
        return "interrupted", "SIGKILL"
    if status < 0:
        try:
            return "crash", signal.Signals(-status).name
        except ValueError:
            return "crash", f"signal {-status}"
    return "crash", f"exit status {status}"


def family(pid: int) -> int:
    """Bytes of memory that a process and its descendants hold now."""
    total, pending = 0, [pid]
    while pending:
        one = pending.pop()
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += resident(one)
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children", "rb") as file:
                    pending += map(int, file.read().split())
    return total
