"""A process that has loaded torch, and runs scripts in forks of itself: each as fresh as a process of its own.

Most of what a short script costs is loading torch, and that Inductor finds out what vectors the CPU has. This process
does what such scripts begin with and nothing else: no case is compiled or run in it, none of Shakeout's shortcuts is
installed, its environment is the one that a script is given. So what it forks differs from a process of the script's
own in what the clock and the address space show.

``python -m shakeout.fuzz.process.stock FD PARENT NAME...``; FD is one end of the control socket, PARENT the supervisor;
a NAME is a module that is loaded, or ``MODULE:FUNCTION``, which is called, if it is there. The process says
``{"ready": true}`` when that is done. Asked for a script it answers ``{"forked": PID}`` and later ``{"dead": PID,
"status": STATUS}``; what it forks leads a process group.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shakeout.fuzz.workers.protocol import ControlChannel, Disconnected, die_with_parent

__all__ = ["main"]


def main() -> None:
    """Serve until the supervisor hangs up or dies; in a fork, run the script that it is for."""
    descriptor, parent, *names = sys.argv[1:]
    die_with_parent(int(parent))
    # Ctrl-C is for the supervisor, which decides what happens to us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor = ControlChannel(socket.socket(fileno=int(descriptor)))
    for name in names:
        module, _, function = name.partition(":")
        loaded = importlib.import_module(module)
        if function and hasattr(loaded, function):
            getattr(loaded, function)()
    asked = None
    with contextlib.suppress(Disconnected):
        supervisor.send({"ready": True})
        asked = _serve(supervisor)
    if asked is not None:
        _run(asked)


def _serve(supervisor: ControlChannel) -> Mapping[str, Any] | None:
    """Fork on request and tell who died of what; returns only in a fork, what it is asked for."""
    told, wake = socket.socketpair()
    for end in (told, wake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    look = select.poll()  # ``select`` takes no number above 1023, and the supervisor may have as many files open
    look.register(supervisor, select.POLLIN)
    look.register(told, select.POLLIN)
    while True:
        ready = {number for number, _ in look.poll()}
        if told.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                told.recv(4096)
            _reap(supervisor)
        if supervisor.fileno() in ready:
            asked, _ = supervisor.receive()
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                os.setpgid(0, 0)
                die_with_parent(parent)
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGCHLD, signal.SIGINT):
                    signal.signal(number, signal.SIG_DFL)
                supervisor.close()
                told.close()
                wake.close()
                return asked
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)  # whoever kills it kills its group, at once
            supervisor.send({"forked": pid})


def _reap(supervisor: ControlChannel) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            supervisor.send({"dead": pid, "status": os.waitstatus_to_exitcode(status)})


def _run(asked: Mapping[str, Any]) -> None:
    """Do what ``python SCRIPT`` does."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, path in (1, asked["output"]), (2, asked["errors"]):
        file = os.open(path, flags, 0o666)
        os.dup2(file, number)
        os.close(file)
    os.environ.update(asked["environment"])
    script = asked["script"]
    sys.argv[:] = [script]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
