"""Errands as the gate sees them: sent into a side's environment, listened to, and ended."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from shakeout.fuzz.gate import budget
from shakeout.fuzz.gate.sides import Broken, Side, lent
from shakeout.fuzz.ground.exits import Exit

__all__ = ["Done", "Errand", "Failed", "Interrupted", "versions_of", "waited"]

#: Seconds in which a process that was asked to end does so: a campaign writes down where it stands.
ENDING = 20.0

#: Seconds in which a process ends whose time is over: the budget's ``ENDING``.
GIVEN = budget.ENDING

#: Seconds without a word after which ``about`` is given up: it imports torch and what a user wrote.
SILENCE = 300.0

#: Seconds in which an interpreter says which Python it is.
STARTING = 60.0

_OLDEST = (3, 11)


Tell: TypeAlias = Callable[[Mapping[str, Any]], None]


class Failed(Exception):
    """An errand that could not be done.

    Attributes:
        status: the exit status that it asks for.
    """

    def __init__(self, text: str, status: Exit) -> None:
        super().__init__(text)
        self.status = status


class Interrupted(Exception):
    """Somebody asked the gate to stop."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an errand.

    Attributes:
        answer: its own.
        messages: everything else that it told, in order.
        late: whether its time was over before it was done; then the answer may be empty.
    """

    answer: Mapping[str, Any]
    messages: tuple[Mapping[str, Any], ...] = ()
    late: bool = False


@dataclass(slots=True)
class Errand:
    """One process in a side's environment.

    Args:
        side: where.
        scratch: for the request, what is lent, and what the process says of itself.
        request: what is to be done.
        lacking: packages that the side has not.

    Attributes:
        heard: when it told something last.
    """

    side: Side
    scratch: Path
    request: Mapping[str, Any]
    lacking: Sequence[str] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _pipe: int = field(default=-1, init=False)
    _rest: bytes = field(default=b"", init=False)
    _messages: list[Mapping[str, Any]] = field(default_factory=list, init=False)
    heard: float = field(default=0.0, init=False)

    @property
    def pipe(self) -> int:
        """From which is read what it tells."""
        return self._pipe

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.scratch / f"{self.side.role}-{self.request['errand']}.log"

    def start(self) -> Errand:
        """Start it; raises Broken if there is nothing to start."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        file = self.log.with_suffix(".json")
        file.write_text(json.dumps(self.request), encoding="utf-8")
        ours = lent(self.scratch / f"lent-{self.side.role}", self.lacking)
        self._pipe, theirs = os.pipe()
        words = ["-P", "-m", "shakeout.fuzz.gate.errand", str(theirs), str(file.absolute()), str(os.getpid())]
        try:
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    [str(self.side.python), *words],
                    pass_fds=[theirs],
                    cwd=self.side.folder,
                    env=self.side.environment(ours.absolute()),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            os.close(self._pipe)
            raise Broken(f"the {self.side.role} {self.side.name} cannot be started: {error}") from None
        finally:
            os.close(theirs)
        self.heard = time.monotonic()
        return self

    def take(self, tell: Tell, *, late: bool = False) -> Done | None:
        """Take in what it has told since the last time, or wait for it; what came of it, once it is over.

        Args:
            tell: told what it tells.
            late: whether it was told that its time is over.

        Raises:
            Failed: it could not be done.
        """
        data = os.read(self._pipe, 1 << 16)
        self.heard = time.monotonic()
        if not data:
            self.end(GIVEN)
            assert self._process is not None
            if late:
                return Done({}, tuple(self._messages), late=True)
            raise self.failed(f"ended with status {self._process.returncode}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        for message in map(json.loads, lines):
            if "done" in message:
                self.end(GIVEN if late else ENDING)
                return Done(message["done"], tuple(self._messages), late)
            if "failed" in message:
                self.end()
                status = next(one for one in Exit if one == message["status"])
                raise self.failed(message["failed"], status)
            self._messages.append(message)
            tell(message)
        return None

    def left(self, tell: Tell) -> Done:
        """End it now; what it has told until now counts."""
        while select.select([self._pipe], [], [], 0)[0]:
            if (done := self.take(tell, late=True)) is not None:
                return done
        self.end(0.0)
        return Done({}, tuple(self._messages), late=True)

    def ask(self) -> None:
        """Ask it to end."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def end(self, seconds: float = ENDING) -> None:
        """End the process, cleanly if it can in so many seconds, and all that it started."""
        process = self._process
        if process is None or self._pipe < 0:
            return
        self.ask()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(self._pipe)
        self._pipe = -1

    def failed(self, text: str, status: Exit = Exit.INFRASTRUCTURE) -> Failed:
        """That it could not be done, with the last that it printed."""
        said = ""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = lines[-1][:300] if lines and status is not Exit.DIRECTORY else ""
        where = f"the {self.side.role} ({self.side.name})"
        tail = f"; it said: {said}" if said and said not in text else ""
        return Failed(f"{where}: {text}{tail} (see {self.log})", status)


def waited(
    errands: Sequence[Errand],
    tell: Tell = lambda message: None,
    stop: Callable[[], bool] = lambda: False,
    silence: float | None = None,
    until: float | None = None,
) -> list[Done]:
    """Until all errands are done; what came of them, in their order.

    Args:
        errands: that were started.
        tell: told what they tell, as they do.
        stop: asked now and then whether to give up.
        silence: seconds without a word after which one is taken for hung; None for no limit.
        until: when their time is over, as ``time.monotonic`` gives it: they are asked to end, and killed if they do
            not; None for no limit.

    Raises:
        Failed: one could not be done.
        Interrupted: ``stop`` said so.
    """
    done: dict[int, Done] = {}
    late = False
    while len(done) < len(errands):
        now = time.monotonic()
        working = {errand.pipe: number for number, errand in enumerate(errands) if number not in done}
        if stop():
            for number in working.values():
                errands[number].end()
            raise Interrupted
        if until is not None and now >= until and not late:
            late = True
            for number in working.values():
                errands[number].ask()
        if late and until is not None and now >= until + GIVEN:
            done |= {number: errands[number].left(tell) for number in working.values()}
            break
        for number in working.values():
            if silence is not None and now - errands[number].heard > silence:
                errands[number].end()
                raise errands[number].failed(f"said nothing for {silence:.0f} s")
        for pipe in select.select(list(working), [], [], 0.2)[0]:
            if (found := errands[working[pipe]].take(tell, late=late)) is not None:
                done[working[pipe]] = found
    return [done[number] for number in range(len(errands))]


def versions_of(side: Side, until: float = math.inf) -> None:
    """Raise Broken unless the interpreter runs until then, and is one that Shakeout runs on."""
    if str(side.python) == sys.executable:
        return
    asked = [str(side.python), "-I", "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        seconds = min(STARTING, max(until - time.monotonic(), 0.0))
        done = subprocess.run(
            asked, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False
        )
        found = tuple(int(word) for word in done.stdout.split())
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise Broken(f"the {side.role} {side.name}: its interpreter {side.python} does not run: {error}") from None
    if done.returncode or len(found) != len(_OLDEST):
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Broken(f"the {side.role} {side.name}: its interpreter {side.python} does not run: {said}")
    if found < _OLDEST:
        told = ".".join(map(str, found))
        raise Broken(f"the {side.role} {side.name} has Python {told}, expected 3.11 or newer: it runs Shakeout")
