"""Processes for scripts with the stock toolchain, forked from one that has loaded torch and compiled nothing.

The process is started when the first script is to run. Scripts run in processes of their own where it cannot be
started, where it died, and where torch may have an accelerator, which no fork of a process that has looked for one can
use.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from shakeout.corpus.interpreter import command
from shakeout.fuzz.workers.protocol import ControlChannel, Disconnected
from shakeout.targets.accelerators import present

__all__ = ["DYNAMO", "INDUCTOR", "TORCH", "UNTOLD", "Process", "Stock"]

#: What a script begins with anyway: of any target; where a network is captured; and where Inductor compiles, which asks
#: the CPU for its vectors by three small programs. Of 12.6 seconds of processor time for the script of one operator on
#: Inductor (torch 2.13.0), torch is 1.2, Dynamo 1.1, Inductor 1.0, those programs 7.7, and the operator 1.6.
TORCH = ("torch",)
DYNAMO = ("torch._dynamo",)
INDUCTOR = ("torch._inductor.compile_fx", "torch._inductor.cpu_vec_isa:valid_vec_isa_list")

#: Seconds after which it will not come to its end any more: a dozen of processor time, on a machine that is busy.
LOAD_SECONDS = 120.0

#: Seconds in which a process that is ready has forked: it takes a few hundredths of one.
FORK_SECONDS = 5.0

#: In the place of an exit status, which it can never be: the process that forked a script is gone, and the script with
#: it.
UNTOLD = 256


class Process(Protocol):
    """What is known of a process; ``subprocess.Popen`` is one."""

    @property
    def pid(self) -> int:
        """Its number, which is that of its group."""

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None as long as it runs."""

    def wait(self) -> int:
        """Wait for its end; the exit status."""


class _Forked:
    """A process that ``Stock`` has forked."""

    def __init__(self, stock: Stock, pid: int) -> None:
        self.pid = pid
        self._stock = stock

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None as long as it runs; ``UNTOLD`` if nobody knows any more."""
        return self._stock.status(self.pid)

    def wait(self) -> int:
        """Wait for its end; the exit status."""
        while (status := self.poll()) is None:
            time.sleep(0.01)
        return status


class Stock:
    """The process that forks; one for a campaign.

    Args:
        names: of what it loads and calls.
        environment: of the scripts, but for what each has of its own.
        log: where what it prints goes.
    """

    def __init__(self, names: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._names = names
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._control: ControlChannel | None = None
        self._usable = not present()
        self._ready = False
        self._began = 0.0
        self._running: set[int] = set()  # numbers of what was forked and has not ended
        self._statuses: dict[int, int] = {}

    def loading(self) -> bool:
        """Whether it is worth waiting for; begins with it when it is asked for the first time."""
        if self._usable and self._process is None:
            self._start()
        self._listen()
        if self._usable and not self._ready and time.monotonic() - self._began > LOAD_SECONDS:
            self.close()
        return self._usable and not self._ready

    def run(self, script: Path, environment: Mapping[str, str], output: Path, errors: Path) -> Process | None:
        """Run a script in a fork; None where that cannot be done now, which is no error.

        Args:
            script: a Python file.
            environment: what it has of its own.
            output, errors: where what it prints goes.
        """
        if self.loading() or self._control is None:
            return None
        paths = {"script": script, "output": output, "errors": errors}
        asked = {name: str(path.absolute()) for name, path in paths.items()}
        try:
            self._control.send({**asked, "environment": dict(environment)})
            until = time.monotonic() + FORK_SECONDS
            while (pid := self._listen(max(until - time.monotonic(), 0.0))) is None:
                if self._control is None or time.monotonic() > until:
                    raise Disconnected("it does not answer")
        except Disconnected:
            self.close()
            return None
        return _Forked(self, pid)

    def status(self, pid: int) -> int | None:
        """What a process that was forked ended with; None as long as it runs."""
        self._listen()
        return self._statuses.get(pid, None if self._control is not None else UNTOLD)

    def close(self) -> None:
        """End it, what it has forked, and the compilers that these have started; it is not started again."""
        self._usable = self._ready = False
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        self._running.clear()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None and self._process.returncode is None:
            # Once it has been waited for, its number may be somebody else's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _start(self) -> None:
        self._began = time.monotonic()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = command("-m", "shakeout.fuzz.process.stock", str(theirs.fileno()), str(os.getpid()), *self._names)
        with theirs:
            try:
                with self._log.open("ab") as log:
                    self._process = subprocess.Popen(
                        arguments, env=dict(self._environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        pass_fds=[theirs.fileno()], start_new_session=True,
                    )  # fmt: skip
            except OSError:
                ours.close()
                self._usable = False
                return
        self._control = ControlChannel(ours)

    def _listen(self, seconds: float = 0.0) -> int | None:
        """Hear what it says, waiting so long for the first word; the number of a process that it forked, if it did."""
        while self._control is not None and _readable(self._control, seconds):
            seconds = 0.0
            try:
                said, _ = self._control.receive()
            except Disconnected:
                self.close()
                return None
            if "forked" in said:
                pid = int(said["forked"])
                # In a long campaign numbers come again, and what is known is how an earlier process ended.
                self._statuses.pop(pid, None)
                self._running.add(pid)
                return pid
            if "dead" in said:
                self._statuses[int(said["dead"])] = int(said["status"])
                self._running.discard(int(said["dead"]))
            self._ready = self._ready or "ready" in said
        return None


def _readable(control: ControlChannel, seconds: float) -> bool:
    """Whether something can be read, or the other side has hung up, after so many seconds at most."""
    # ``select.select`` takes no number above 1023, and the workers of a large machine have as many sockets.
    look = select.poll()
    look.register(control, select.POLLIN)
    return bool(look.poll(seconds * 1000))
