"""The zygote: imports the targets, warms each by running one case, and forks workers on request.

It has one thread and never opens a parallel region: forking after a multi-threaded operator deadlocks. A worker that it
forks is ready after some 25 ms, and its first case costs no more than its next.

``python -m shakeout.fuzz.process.zygote FD PARENT MAKER [DOOR SHORTCUTS]``; FD is one end of the control socket,
PARENT the supervisor, MAKER the name of what grows cases, DOOR the socket of the server that compiles jointly (-1 for
none), SHORTCUTS names with commas between. It loads torch at once; what else it loads it is told, stage by stage.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.corpus.interpreter import add_working_directory
from shakeout.fuzz.ground.makers import maker as load_maker
from shakeout.fuzz.workers.protocol import ControlChannel, Disconnected, die_with_parent

if TYPE_CHECKING:
    from shakeout.fuzz.coverage.sources import Sources

__all__ = ["main"]


def main() -> None:
    """Serve until the supervisor hangs up or dies."""
    descriptor, parent, maker = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    die_with_parent(parent)
    # Ctrl-C is for the supervisor, which decides what happens to us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # What a sanitizer had put before this process is not meant for the compilers that it starts.
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        del os.environ["LD_PRELOAD"]
    add_working_directory()  # where a user's own target is
    supervisor = ControlChannel(socket.socket(fileno=descriptor))
    with contextlib.suppress(Disconnected):
        _stage(supervisor, lambda: _step(supervisor, "loading torch", functools.partial(_load, maker)))
        _serve(supervisor, maker, *sys.argv[4:])


def _stage(supervisor: ControlChannel, work: Callable[[], object]) -> None:
    """Do one thing more before the next fork, and say that it is done, or why not."""
    try:
        work()
    except Exception:
        supervisor.send({"broken": traceback.format_exc()[-20_000:]})
        return
    # What is alive now stays alive in every worker: the collector need not look at it, and its pages stay shared.
    gc.collect()
    gc.freeze()
    supervisor.send({"ready": len(os.listdir("/proc/self/task"))})


def _step(supervisor: ControlChannel, name: str, work: Callable[[], object]) -> None:
    """Something that takes its time: tell when it begins and when it ends."""
    supervisor.send({"warming": name})
    began = time.monotonic()
    work()
    supervisor.send({"warming": name, "seconds": round(time.monotonic() - began, 3)})


def _load(maker: str) -> None:
    import torch

    from shakeout.fuzz.process.worker import load

    torch.set_num_threads(1)
    load()
    load_maker(maker)


def _warm(supervisor: ControlChannel, name: str, door: str, shortcuts: str) -> None:
    from shakeout.targets.registry import target

    subject = target(name)
    _step(supervisor, f"warming {name}", lambda: subject.warm_with(shortcuts.split(","), int(door)))


def _prepare(supervisor: ControlChannel, maker: str) -> None:
    def say(text: str) -> None:
        supervisor.send({"warming": text})

    _step(supervisor, "loading the operators", lambda: load_maker(maker).prepare(say))


def _serve(supervisor: ControlChannel, maker: str, door: str = "-1", shortcuts: str = "") -> None:
    """Fork on request, and tell who died of what."""
    told, wake = socket.socketpair()
    for end in (told, wake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    sources: list[Sources] = []  # none, or those of this process
    workers: set[int] = set()  # that were forked since the operators were loaded
    ended = False  # whether one of those did
    while True:
        ready, _, _ = select.select([supervisor.fileno(), told.fileno()], [], [])
        if told.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                told.recv(4096)
            ended |= not workers.isdisjoint(_reap(supervisor))
        if supervisor.fileno() in ready:
            request, files = supervisor.receive()
            if "fork" in request:
                if ended:
                    load_maker(maker).load_all()
                workers.add(_fork(supervisor, request["fork"], files[0], maker, (told, wake), sources))
            elif "warm" in request:
                _stage(supervisor, functools.partial(_warm, supervisor, request["warm"], door, shortcuts))
            elif "cover" in request:
                _stage(supervisor, functools.partial(_cover, supervisor, request["cover"], sources))
            elif "begin" in request:
                _stage(supervisor, load_maker(maker).begin)
            else:
                _stage(supervisor, functools.partial(_prepare, supervisor, maker))
                workers, ended = set(), False


def _cover(supervisor: ControlChannel, request: dict[str, Any], sources: list[Sources]) -> None:
    """Arm the sources of coverage; workers inherit them."""
    from shakeout.fuzz.coverage import sources as coverage

    wanted = coverage.Wanted.from_json(request["wanted"])
    sources[:] = [coverage.sources(wanted, Path(request["log"]))]

    def arm() -> None:
        for one in sources[0].arm():
            supervisor.send({"armed": asdict(one)})

    _step(supervisor, "arming coverage", arm)


def _fork(
    supervisor: ControlChannel,
    request: dict[str, Any],
    file: int,
    maker: str,
    inherited: tuple[socket.socket, ...],
    sources: list[Sources],
) -> int:
    """Fork a worker; its number."""
    parent = os.getpid()
    began = time.monotonic()
    for every in sources:
        every.before_fork()
        for gone in every.gone():
            supervisor.send({"armed": asdict(gone)})
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            # Before anything else: whoever kills this worker kills its group, and so its compiler.
            os.setpgid(0, 0)
            die_with_parent(parent)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            supervisor.close()
            for end in inherited:
                end.close()
            from shakeout.fuzz.process import worker

            worker.main(socket.socket(fileno=file), Path(request["slot"]), Path(request["home"]), maker, *sources)
            status = 0
        except BaseException:
            with contextlib.suppress(BaseException):
                traceback.print_exc()
        finally:
            # Not sys.exit: nothing of the zygote's may run in its child.
            os._exit(status)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    os.close(file)
    supervisor.send({"forked": pid, "name": request["name"], "seconds": time.monotonic() - began})
    return pid


def _reap(supervisor: ControlChannel) -> set[int]:
    """Tell which workers died of what; their numbers."""
    found: set[int] = set()
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return found
        if dead is None:
            return found
        found.add(dead.si_pid)
        # As long as it is not reaped its number is nobody else's: now its children can be killed by their group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(dead.si_pid, signal.SIGKILL)
        _, status, usage = os.wait4(dead.si_pid, 0)
        supervisor.send(
            {"dead": dead.si_pid, "status": os.waitstatus_to_exitcode(status), "peak": usage.ru_maxrss << 10}
        )


if __name__ == "__main__":
    main()
