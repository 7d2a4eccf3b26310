"""Kernels of several processes compiled in one translation unit: a server that collects what workers wait for.

Nine tenths of what a small kernel of Inductor costs to compile is not the kernel: the precompiled header is loaded, its
templates are instantiated, the linker runs. Workers that compile at the same time therefore hand their files to one
server (``python -m shakeout.targets.joint``), which puts those with equal flags into one file, each in a
namespace of its own with its entry points renamed. As with a database's group commit, a batch is what has gathered
while the one before was compiled. What the compiler's errors are in is left to its own process and the stock command,
whose error message it then is, and the others are compiled without it. Where that is not told, the batch is halved
until what is to blame is alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ENOUGH", "LARGEST", "Company", "Request", "company", "culprits", "join", "main", "serve"]

#: Kernels in one file at most: beyond that, what one more saves is less than what all others wait longer.
LARGEST = 32

#: So many are worth a compiler of their own. Fewer wait for others as long as there is anybody who could send more,
#: which costs nothing while that one is at work; but when nobody has sent anything for so long, those who are left hang
#: or have nothing more to do. A case takes a third of a second until its kernel is there, and several on a machine that
#: is slow or busy, where small batches would make it busier still; and where there is one worker, a finding that is
#: reduced takes its core for a quarter of a minute, in which nobody would gain by small batches either. A hang is told
#: after twenty seconds at the earliest.
ENOUGH = 24
SILENCE_SECONDS = 20.0

#: Where cases begin nobody waits, and the first of them is worth more than what its file costs: it says that the
#: campaign works, and other cores have nothing to do. So the first batch is what one case has asked for, with nothing
#: behind it for so long (a graph's kernels come within hundredths of a second of each other), and each batch may be so
#: many times the one before: 1, 4, 16, and then as many as are enough. That is three files too many, once.
FIRST_SECONDS = 0.1
GROWTH = 4

#: What a case costs a core (torch 2.13.0, g++ 12.2, networks of ten operators): Python around its kernel, a joint file
#: before its first kernel, and each kernel in it.
PYTHON_SECONDS = 0.35
FILE_SECONDS = 1.0
KERNEL_SECONDS = 0.115

#: When all who have a case in hand wait already, more comes only from those who are given one now, which takes a few
#: hundredths of a second. The last case of a campaign may be one with fifty kernels, each of which waited for nobody.
ALONE_SECONDS = 0.5

#: A joint file that takes longer is halved. One kernel alone takes a second, the largest ones seen some twenty.
BUILD_SECONDS = 60.0

#: What the door is told when cases begin, and when no more of them are handed out: then nobody waits for company.
BEGIN = b"begin"
LAST = b"last"

#: How often the server looks whether a compiler has ended.
LOOK_SECONDS = 0.02

_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b.*$", re.MULTILINE)
_CLEAN = "#define PY_SSIZE_T_CLEAN"
_ENTRIES = ("kernel", "PyInit_kernel")
#: An error, or the line of a kernel that a template was wanted in whose instantiation the error is.
_ERROR = re.compile(r"\bkernel_(\d+)\.cpp:\d+:\d+:\s+(?:fatal error|error|required from)\b")
#: Of what a compiler says, so many bytes are read.
_SAID = 1 << 20


@dataclass(frozen=True, slots=True)
class Company:
    """How kernels are compiled together.

    Attributes:
        processes: that run cases or wait for kernels.
        batch: kernels that are worth a compiler.
    """

    processes: int
    batch: int


def company(workers: int, most: int) -> Company:
    """How many processes there should be, and how large a batch is best for so many.

    A process has its case for as long as Python takes, half a batch gathers and a whole one compiles; so many cases in
    a second keep that many processes busy (Little's law). Large batches spare cores, but each of them holds up its
    processes for longer, and there is one at work for every third core. So with enough processes for full batches on
    all cores, batches are full; where memory allows fewer, they are as large as leaves no core without work.

    Args:
        workers: cases at work at a time, each on a core.
        most: processes that memory allows.
    """
    wanted = ENOUGH + round(workers * _rate(ENOUGH) * _seconds(ENOUGH))
    processes = max(workers, min(wanted, most))

    def cases(batch: int) -> float:
        """In a second: what the processes allow, or the cores."""
        return min((processes - batch / 2) / _seconds(batch), workers * _rate(batch))

    return Company(processes, max(range(1, min(ENOUGH, processes) + 1), key=cases))


def _seconds(batch: int) -> float:
    """From the beginning of a case to its kernel, without the time in which a batch gathers."""
    return PYTHON_SECONDS + FILE_SECONDS + KERNEL_SECONDS * batch


def _rate(batch: int) -> float:
    """Cases in a second of one core."""
    return 1 / (PYTHON_SECONDS + FILE_SECONDS / batch + KERNEL_SECONDS)


@dataclass(frozen=True, slots=True)
class Request:
    """One kernel file.

    Attributes:
        source: path of the C++ file.
        output: path of the library that is wanted.
        command: the compiler's command; source and output stand in it as themselves.
    """

    source: str
    output: str
    command: tuple[str, ...]

    def flags(self) -> tuple[str, ...]:
        """The command without what is this file's own: files with equal flags can be compiled together."""
        return tuple("" if word in (self.source, self.output) else word for word in self.command)


def entry(number: int) -> str:
    """The suffix of a module's name under which the kernel with that number is found in a joint library."""
    return f"kernel_{number}"


def join(sources: Sequence[str]) -> str:
    """One translation unit of several kernel files.

    The headers come first and once. Each file's own text is in a namespace, and the two names that the linker sees
    have a number behind them; as macros, so that only whole names outside of strings are changed. For the compiler's
    messages each is a file of its own.
    """
    headers = dict.fromkeys(line.strip() for source in sources for line in _INCLUDE.findall(source))
    parts = [_CLEAN, *headers]
    for number, source in enumerate(sources):
        parts += [f"#define {name} {name}_{number}" for name in _ENTRIES]
        parts += [
            f'#line 1 "kernel_{number}.cpp"',
            f"namespace joint_{number} {{",
            _INCLUDE.sub("", source).replace(_CLEAN, ""),
            "}",
        ]
        parts += [f"#undef {name}" for name in _ENTRIES]
    return "\n".join(parts) + "\n"


def culprits(said: str) -> frozenset[int]:
    """The kernels of a joint file, by number, in which a compiler found errors."""
    return frozenset(map(int, _ERROR.findall(said)))


@dataclass(slots=True, eq=False)
class _Waiting:
    """A request and who waits for it."""

    request: Request
    client: socket.socket
    since: float


@dataclass(slots=True, eq=False)
class _Build:
    """A compiler at work."""

    batch: list[_Waiting]
    process: subprocess.Popen[bytes]
    output: Path
    began: float

    def kill(self) -> int:
        """End the compiler with the processes that it started; its exit status."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


@dataclass(slots=True)
class _Server:
    """What ``serve`` does; ``busy`` are the clients, by descriptor, that have a case in hand and may yet send more."""

    door: socket.socket
    directory: Path
    cores: int
    processes: int
    largest: int
    linker: str
    enough: int = ENOUGH
    clients: dict[int, socket.socket] = field(default_factory=dict)
    busy: set[int] = field(default_factory=set)
    waiting: list[_Waiting] = field(default_factory=list)
    halves: list[list[_Waiting]] = field(default_factory=list)
    builds: list[_Build] = field(default_factory=list)
    serial: int = 0
    begun: int = 0  # batches since cases began
    last: bool = False  # whether no more cases are handed out

    def run(self) -> None:
        """Until the last one who could send a request has closed the door."""
        try:
            while self._turn():
                pass
        finally:
            for build in self.builds:
                build.kill()

    def _turn(self) -> bool:
        working = self.builds or self.waiting or self.halves
        for ready in select.select([self.door, *self.clients.values()], [], [], LOOK_SECONDS if working else 10.0)[0]:
            if ready is not self.door:
                self._hear(ready)
            elif not self._admit():
                return False
        self._reap()
        self._start()
        return True

    def _admit(self) -> bool:
        try:
            data, files, _, _ = socket.recv_fds(self.door, 16, 1)
        except ConnectionError:
            return False
        for file in files:
            client = socket.socket(fileno=file)
            self.clients[client.fileno()] = client
        if data in (BEGIN, LAST):
            self.last, self.begun = data == LAST, 0
        return bool(data)

    def _hear(self, client: socket.socket) -> None:
        try:
            data = client.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            # Its process is gone; what was being compiled for it is compiled for nobody.
            del self.clients[client.fileno()]
            self.busy.discard(client.fileno())
            self.waiting = [one for one in self.waiting if one.client is not client]
            client.close()
            return
        message = json.loads(data)
        if message.get("busy", True):
            self.busy.add(client.fileno())
        else:
            self.busy.discard(client.fileno())
        if "busy" in message:
            return
        request = Request(message["source"], message["output"], tuple(message["command"]))
        self.waiting.append(_Waiting(request, client, time.monotonic()))

    def _start(self) -> None:
        """Give free cores something to compile: first what failed in larger company, then who waits longest."""
        while len(self.builds) < self.cores:
            if self.halves:
                self._compile(self.halves.pop())
                continue
            batch = self._due()
            if not batch:
                return
            self.waiting = [one for one in self.waiting if one not in batch]
            self.begun += 1
            self._compile(batch)

    def _due(self) -> list[_Waiting]:
        groups: dict[tuple[str, ...], list[_Waiting]] = {}
        for one in self.waiting:
            groups.setdefault(one.request.flags(), []).append(one)
        now = time.monotonic()
        waiting = {one.client for one in self.waiting}.union(one.client for build in self.builds for one in build.batch)
        silent = now - max((one.since for one in self.waiting), default=now)
        nobody = len(waiting) >= self.processes or (len(waiting) >= len(self.busy) and silent > ALONE_SECONDS)
        nobody = nobody or (self.last and silent > FIRST_SECONDS)
        enough = min(self.enough, self.largest)
        if (ramp := GROWTH**self.begun) < enough and silent > FIRST_SECONDS:
            enough = ramp
        for group in groups.values():
            if len(group) >= enough or nobody or now - group[-1].since > SILENCE_SECONDS:
                return group[: self.largest]
        return []

    def _compile(self, batch: list[_Waiting]) -> None:
        self.serial += 1
        first = batch[0].request
        source = self.directory / f"{self.serial}.cpp"
        output = self.directory / f"{self.serial}.so"
        try:
            texts = [Path(one.request.source).read_text(encoding="utf-8") for one in batch]
            source.write_text(texts[0] if len(texts) == 1 else join(texts), encoding="utf-8")
            words = {first.source: str(source), first.output: str(output)}
            command = [words.get(word, word) for word in first.command]
            if self.linker:
                command.append(f"-fuse-ld={self.linker}")
            with output.with_suffix(".err").open("wb") as said:
                process = subprocess.Popen(
                    command,
                    cwd=self.directory,
                    env={**os.environ, "LC_ALL": "C"},  # errors in English
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    process_group=0,
                )
        except (OSError, UnicodeDecodeError):
            self._answer(batch, None)
            return
        self.builds.append(_Build(batch, process, output, time.monotonic()))

    def _reap(self) -> None:
        for build in list(self.builds):
            status = build.process.poll()
            if status is None and time.monotonic() - build.began > BUILD_SECONDS:
                status = build.kill()
            if status is None:
                continue
            self.builds.remove(build)
            if status == 0:
                self._answer(build.batch, build.output)
            else:
                self._divide(build)
            for suffix in (".so", ".cpp", ".err"):
                build.output.with_suffix(suffix).unlink(missing_ok=True)

    def _divide(self, build: _Build) -> None:
        """Of a batch that could not be compiled: what is to blame goes back, and the others have another try."""
        middle = len(build.batch) // 2
        if not middle:
            self._answer(build.batch, None)
            return
        with contextlib.suppress(OSError), build.output.with_suffix(".err").open("rb") as said:
            blamed = culprits(said.read(_SAID).decode(errors="replace"))
            rest = [one for number, one in enumerate(build.batch) if number not in blamed]
            if middle <= len(rest) < len(build.batch):
                self._answer([one for number, one in enumerate(build.batch) if number in blamed], None)
                self.halves.append(rest)
                return
        self.halves += [build.batch[:middle], build.batch[middle:]]

    def _answer(self, batch: list[_Waiting], library: Path | None) -> None:
        """Put the library where each of them wants it, and say by which name its kernel is found; "" for not done."""
        for number, one in enumerate(batch):
            name = "kernel" if len(batch) == 1 else entry(number)
            try:
                if library is not None:
                    os.link(library, one.request.output)
            except FileExistsError:
                pass
            except OSError:
                name = ""
            with contextlib.suppress(OSError):
                said = {"output": one.request.output, "entry": name if library is not None else ""}
                one.client.sendall(json.dumps(said).encode())


def serve(
    door: socket.socket,
    directory: Path,
    *,
    cores: int,
    processes: int,
    enough: int = ENOUGH,
    largest: int = LARGEST,
    linker: str = "",
) -> None:
    """Compile what is asked for until nobody can ask any more.

    A client sends ``Request``s as JSON and gets for each the output and the entry's name, or says ``{"busy": true}``
    when it begins what may need kernels and ``{"busy": false}`` when that is done, which is not answered. Who asks is
    busy.

    Args:
        door: packet socket on which new clients' sockets arrive, and ``BEGIN`` or ``LAST``.
        directory: for the joint files; on the file system of the outputs, which are links.
        cores: compilers that run at a time.
        processes: how many there are that could ask; when all of them wait, nothing more will come.
        enough: kernels that are worth a compiler.
        largest: kernels in one file at most; 1 compiles each alone.
        linker: name for ``-fuse-ld=``; empty for the compiler's own.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _Server(door, directory, cores, processes, largest, linker, enough).run()


def find_linker() -> str:
    """The fast linker that is installed, or nothing."""
    return "mold" if shutil.which("mold") else ""


def main() -> None:
    """Serve on an inherited socket: ``DESCRIPTOR DIRECTORY CORES PROCESSES ENOUGH LARGEST LINKER``."""
    descriptor, directory, cores, processes, enough, largest, linker = sys.argv[1:]
    # Ctrl-C is for the supervisor. Asked to end, the compilers at work are ended as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    serve(
        socket.socket(fileno=int(descriptor)),
        Path(directory),
        cores=int(cores),
        processes=int(processes),
        enough=int(enough),
        largest=int(largest),
        linker=linker,
    )


if __name__ == "__main__":
    main()
