"""The zygote as the supervisor sees it: started, told stage by stage what to load, and asked to fork."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from shakeout.corpus.interpreter import command
from shakeout.fuzz.ground import events
from shakeout.fuzz.workers.headers import Headers
from shakeout.fuzz.workers.protocol import ENVIRONMENT, ControlChannel, Disconnected
from shakeout.targets.joint import BEGIN, LARGEST, LAST, Company, find_linker
from shakeout.targets.shortcuts import ALWAYS
from shakeout.targets.shortcuts import environment as shortcut_environment

__all__ = ["Interrupted", "StageFailed", "ZygoteBroken", "ZygoteClient"]

#: How often the zygote may die before anything was answered in between, and how often while it loads one target: once
#: somebody may have killed it, twice it is the target.
DEATHS = 4
TRIES = 2

#: One worker, which waits for nobody.
ALONE = Company(1, 1)

_BUILD = """
import sys
from shakeout.fuzz.workers.protocol import die_with_parent
from shakeout.targets.registry import target
die_with_parent(int(sys.argv[1]))
for name in sys.argv[2:]:
    target(name).warm()
"""


class ZygoteBroken(Exception):
    """The zygote could not load or warm a target; the message is its traceback, or its last words."""


class StageFailed(ZygoteBroken):
    """The zygote lives, but could not do one thing that it was asked for; the message is the traceback."""


class Interrupted(Exception):
    """Asked to stop before the targets were warm."""


class ZygoteClient:
    """One zygote at a time; when it dies, ``restart`` brings another one as far as it had come.

    Args:
        directory: of the campaign.
        maker: name of what grows cases.
        tell: told what the zygote is at.
        shortcuts: of ``shakeout.targets.shortcuts``, for the workers.
        company: how many workers there will be, and how many of their kernels are worth a compiler.
        environment: what else the zygote finds in its environment from its start.
    """

    def __init__(
        self,
        directory: Path,
        maker: str,
        tell: events.Listener,
        shortcuts: Collection[str] = ALWAYS,
        company: Company = ALONE,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.directory = directory
        self._environment = environment
        self._shortcuts = shortcuts
        self._company = company
        self._door: socket.socket | None = None
        self._joiner: subprocess.Popen[bytes] | None = None
        self.headers = Headers(directory / "cache" / "tmp")
        self.deaths = 0
        self._threads = 1
        self._maker = maker
        self._tell = tell
        self._stop: Callable[[], bool] = lambda: False
        self._process: subprocess.Popen[bytes] | None = None
        self._builder: subprocess.Popen[bytes] | None = None
        self._control: ControlChannel | None = None
        self._stages: list[dict[str, Any]] = []

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self, stop: Callable[[], bool], slow: Sequence[str]) -> None:
        """Start the zygote, which loads torch.

        Args:
            stop: asked now and then whether to give up.
            slow: targets whose warming leaves files that others use; where there are none yet, they are warmed once in
                a process of their own meanwhile.

        Raises:
            ZygoteBroken: it could not load what it needs, or it dies again and again.
            Interrupted: ``stop`` said so.
        """
        self._stop = stop
        temporary = self.directory / "cache" / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        self.headers.fetch()
        if slow and not self.headers.present():
            self._builder = self._spawn(["-c", _BUILD, str(os.getpid()), *slow], "builder.log")
        self.restart()

    def restart(self) -> None:
        """Another zygote, brought as far as the last one was; raises like ``start``."""
        while True:
            try:
                self._start()
                return
            except StageFailed as error:
                self.drop()
                raise ZygoteBroken(str(error)) from None
            except Disconnected:
                self.drop()
                self._count_death("the process that loads the targets was killed; starting another")
            except BaseException:
                self.drop()
                raise

    def stage(self, message: dict[str, Any]) -> None:
        """Have the zygote do one thing more.

        It may be ``{"warm": target}``, ``{"begin": ""}``, ``{"prepare": ""}`` or ``{"cover": {...}}``.

        Raises:
            StageFailed: it cannot; everything else still works.
            ZygoteBroken, Interrupted: as ``start``.
        """
        for _ in range(TRIES):
            try:
                self._do(message)
            except Disconnected:
                self.drop()
                self._count_death("the process that loads the targets died; starting another")
                self.restart()
            except StageFailed:
                raise
            except BaseException:
                self.drop()
                raise
            else:
                self._stages.append(message)
                return
        self.deaths = 0
        raise StageFailed(f"the process that loads it died {TRIES} times: {self._last_words()}")

    def cases(self, *, begin: bool) -> None:
        """Cases begin, so that the first of them waits for no others; or no more of them come."""
        if self._door is not None:
            with contextlib.suppress(OSError):  # it is dead, which is noticed when a kernel is wanted
                self._door.send(BEGIN if begin else LAST)

    @property
    def building(self) -> bool:
        """Whether the files of slow targets are still being made."""
        return self._builder is not None and self._builder.poll() is None

    def await_builder(self) -> None:
        """Wait until the files of slow targets are there, however that went; the zygote makes what is missing."""
        while self._builder is not None and self._builder.poll() is None:
            if self._stop():
                raise Interrupted
            time.sleep(0.05)
        self._end_builder()

    def drop(self) -> None:
        """Kill the zygote, and with it all workers."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            # Its compiler, if it is warming, is in its session and not worth waiting for.
            _kill(self._process)
            self._process = None

    def close(self) -> None:
        """End everything."""
        self.drop()
        self._end_builder()
        self._end_joiner()
        for name in ("zygote.log", "builder.log", "joiner.log"):
            with contextlib.suppress(OSError):
                log = self.directory / name
                if name == "builder.log" or log.stat().st_size == 0:
                    log.unlink()

    def died(self, what: str = "died") -> None:
        """The zygote died while it served, or did ``what``; raises ZygoteBroken if that happens again and again."""
        self.drop()
        self._count_death(f"the process that forks the workers {what}; starting another")

    # --- talking ----------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether there is a zygote to talk to."""
        return self._control is not None

    def fileno(self) -> int:
        """Readable when the zygote has something to say."""
        assert self._control is not None
        return self._control.fileno()

    def receive(self) -> Mapping[str, Any]:
        """What it says; raises Disconnected if it is dead."""
        assert self._control is not None
        return self._control.receive()[0]

    def fork(self, request: Mapping[str, Any], file: int) -> None:
        """Ask for a worker, which is given one end of its channel; if the zygote is dead, that is noticed later."""
        assert self._control is not None
        with contextlib.suppress(Disconnected):
            self._control.send({"fork": dict(request)}, (file,))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _spawn(
        self,
        arguments: list[str],
        log: str,
        pass_fds: Sequence[int] = (),
        further: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.Popen[bytes]:
        cache = self.directory / "cache"
        environment = {
            **os.environ,
            **ENVIRONMENT,
            **shortcut_environment(self._shortcuts),
            **further,
            "TMPDIR": str((cache / "tmp").absolute()),
            "TORCHINDUCTOR_CACHE_DIR": str((cache / log.partition(".")[0]).absolute()),
        }
        with (self.directory / log).open("wb") as file:
            return subprocess.Popen(
                command(*arguments),
                pass_fds=pass_fds,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        files = [theirs.fileno()]
        words = ["-m", "shakeout.fuzz.process.zygote", str(theirs.fileno()), str(os.getpid()), self._maker]
        if self._shortcuts:
            self._start_joiner()
            door = -1 if self._door is None else self._door.fileno()
            files += [door] if door >= 0 else []
            words += [str(door), ",".join(self._shortcuts)]
        self._process = self._spawn(words, "zygote.log", files, self._environment)
        theirs.close()
        self._control = ControlChannel(ours)
        self._await()
        for message in self._stages:
            self._do(message)

    def _do(self, message: dict[str, Any]) -> None:
        assert self._control is not None
        self._control.send(message)
        self._await()

    def _await(self) -> None:
        """Until it is ready for more; raises Disconnected if it dies."""
        assert self._control is not None
        while True:
            if self._stop():
                raise Interrupted
            if not select.select([self._control], [], [], 0.2)[0]:
                continue
            message, _ = self._control.receive()
            if "warming" in message:
                seconds = message.get("seconds", 0.0)
                self._tell(events.Warming(message["warming"], seconds, done="seconds" in message))
            elif "armed" in message:
                self._tell(events.CoverageArmed(**message["armed"]))
            elif "broken" in message:
                raise StageFailed(message["broken"])
            elif "ready" in message:
                if message["ready"] > self._threads:
                    self._threads = message["ready"]
                    text = f"the zygote has {message['ready']} threads; a worker forked from it may hang"
                    self._tell(events.Notice(text))
                return

    def _count_death(self, text: str) -> None:
        self.deaths += 1
        if self.deaths >= DEATHS:
            raise ZygoteBroken(
                f"the process that loads the targets failed {self.deaths} times in a row: {self._last_words()}"
            )
        self._tell(events.Notice(text))

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            if text := (self.directory / "zygote.log").read_text(errors="replace").strip():
                return text[-4000:]
        return "it said nothing"

    def _start_joiner(self) -> None:
        """The process that compiles the workers' kernels, several at once or with the fast linker, if it is wanted."""
        linker = find_linker() if "linker" in self._shortcuts else ""
        largest = LARGEST if "joint" in self._shortcuts else 1
        if (largest == 1 and not linker) or (self._joiner is not None and self._joiner.poll() is None):
            return
        self._end_joiner()
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            words = [
                "-m",
                "shakeout.targets.joint",
                str(theirs.fileno()),
                str((self.directory / "cache" / "joint").absolute()),
            ]
            company = self._company
            cores = len(os.sched_getaffinity(0))
            words += [*map(str, (cores, company.processes, company.batch, largest)), linker]
            self._joiner = self._spawn(words, "joiner.log", [theirs.fileno()])

    def _end_joiner(self) -> None:
        if self._door is not None:
            self._door.close()
            self._door = None
        if self._joiner is not None:
            self._joiner.terminate()  # its compilers go with it
            try:
                self._joiner.wait(2)
            except subprocess.TimeoutExpired:
                _kill(self._joiner)
            self._joiner = None

    def _end_builder(self) -> None:
        if self._builder is not None:
            if self._builder.poll() is None:
                # What it was writing is not finished, and must not be taken for it.
                self.headers.distrust(3600.0)
            _kill(self._builder)
            self._builder = None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """A process with its session: a compiler that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
