"""A command in a process group of its own, with an end: what it started ends with it."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["OutOfMemory", "resident", "run"]


class OutOfMemory(Exception):
    """A command that took more memory than it may, and was ended."""


def run(
    command: Sequence[str],
    seconds: float,
    output: int,
    errors: int | None = None,
    *,
    environment: Mapping[str, str],
    stop: Callable[[], bool] = lambda: False,
    memory: float = math.inf,
) -> int | None:
    """The status of a command; None if it took too long or it was asked to stop.

    Args:
        command: and its arguments.
        seconds: that it may take.
        output: file descriptor for what it prints.
        errors: for what it prints as errors; None for the same.
        environment: variables.
        stop: asked now and then whether to give up.
        memory: bytes that it may hold; what it starts itself is not counted.

    Raises:
        OutOfMemory: it held more.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output if errors is None else errors,
        env=environment,
        start_new_session=True,
    )
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and not stop():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(0.2)
            if memory < math.inf and (held := _held(process.pid)) > memory:
                raise OutOfMemory(f"it held {held >> 20} MiB")
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _held(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return resident(pid)
    return 0  # it has just ended


def resident(pid: int) -> int:
    """Bytes of memory that a process holds now."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
