"""What a job may use, in time and memory, and the end of what uses more."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from shakeout.fuzz.ground.jobs import Job
from shakeout.fuzz.ground.slot import WAITING
from shakeout.fuzz.workers.processes import WorkerProcesses
from shakeout.fuzz.workers.worker_handle import family

__all__ = ["Limits", "watch"]


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


def watch(processes: WorkerProcesses, limits: Callable[[Job], Limits]) -> None:
    """End the workers whose jobs take too long or too much; a job is lost by that, which is an answer."""
    now = time.monotonic()
    if processes.zygote_hangs(now):
        return
    for handle in processes.handles:
        if handle.mute and now - handle.mute > 1:
            # It closed its channel and lives on.
            handle.mute = 0.0
            handle.killed = ("crash", "its channel was closed")
            processes.kill(handle)
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
            processes.end(handle, "hang", f"no answer within {limit.seconds:.3g} s")
        elif early and now - state.since > limit.early and not handle.job.before:
            processes.end(handle, "hang", f"no answer within {limit.early:.3g} s")
        elif (used := family(handle.pid) - handle.resident) > limit.bytes:
            text = f"{used >> 20} MiB beyond a fresh worker, limit {limit.bytes >> 20} MiB"
            processes.end(handle, "memory", text)
