"""Confirmation: a bug is confirmed once a script of its own fails in fresh processes.

The toolchain is the stock one: none of the campaign's settings, and nothing taken from a compiler's cache but the
precompiled header, which is Inductor's own. All processes but the first of several are forked, where that can be done,
from one that has loaded torch and done nothing else (``shakeout.fuzz.workers.stock``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shakeout.corpus.symptom import OTHER
from shakeout.fuzz.workers.headers import Headers
from shakeout.fuzz.workers.stock import UNTOLD, Process, Stock
from shakeout.fuzz.workers.worker_handle import family

__all__ = ["NEEDED", "RUNS", "Confirmation", "stock_environment"]

#: What nobody has reduced is confirmed if it fails in each of three fresh processes (for smallest cases see
#: ``shakeout.fuzz.triage.steps``). One that fails by chance in half of all runs
#: passes that bar once in eight, one that fails in a tenth of them once in a thousand. What a compiler does wrong it
#: does every time, so more runs would cost time and tell no more.
RUNS = 3
NEEDED = 3

#: Seconds for one run: importing torch and compiling cold takes up to 30 on a busy core. A hang is told by the script
#: itself, with a limit of its own.
SECONDS = 180.0

#: Exit statuses of a script that shows a difference: the failure that it is about, or another one, which is still one.
#: Python ends with 1 after an exception that nobody caught, so the script must have said something beyond its first
#: line, the version of torch.
DIFFERENCES = (1, OTHER)

#: Bytes that torch and its compilers hold before a case begins, generously.
OWN_BYTES = 2 << 30

#: Where Inductor keeps what it compiles; the one variable that each run has of its own.
CACHE = "TORCHINDUCTOR_CACHE_DIR"

_CAMPAIGN = ("TORCHINDUCTOR_", "TORCH_LOGS", "TORCH_COMPILE", "TORCHDYNAMO_", "PYTHONHASHSEED")

Outcome = Literal["fails", "passes", "cannot run"]


def stock_environment(cache: Path, temporary: Path) -> dict[str, str]:
    """The user's environment without what steers the compiler, and with empty caches."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_CAMPAIGN)}
    return {
        **kept,
        "TMPDIR": str(temporary.absolute()),
        CACHE: str(cache.absolute()),
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        # One process compiles instead of a pool, each of which would import torch first; what it compiles is the same.
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }


@dataclass(slots=True)
class _Run:
    """One fresh process."""

    process: Process
    scratch: Path
    began: float


class Confirmation:
    """The runs of one finding's script. ``poll`` moves them on and never waits.

    Attributes:
        name: of what is tried.
        outcomes: of the runs that ended.
        output: what the last run printed, or the last one that failed.
    """

    def __init__(
        self,
        name: str,
        script: Path,
        scratch: Path,
        *,
        headers: Headers,
        temporary: Path,
        memory: int,
        runs: int = RUNS,
        seconds: float = SECONDS,
        stock: Stock | None = None,
    ) -> None:
        self.name = name
        self.outcomes: list[Outcome] = []
        self.output = ""
        self._script = script
        self._scratch = scratch
        self._headers = headers
        self._temporary = temporary
        self._memory = memory
        self._runs = runs
        self._seconds = seconds
        self._stock = stock
        self._started = 0
        self._running: list[_Run] = []

    @property
    def failed(self) -> int:
        """How many runs failed."""
        return self.outcomes.count("fails")

    @property
    def tried(self) -> int:
        """How many runs ended."""
        return len(self.outcomes)

    @property
    def confirmed(self) -> bool:
        """Whether it failed often enough."""
        return self.failed >= min(NEEDED, self._runs)

    def poll(self, at_once: int = 1) -> bool:
        """Look after the runs, and start others, at most so many side by side; True once all ended."""
        for run in list(self._running):
            self._look(run)
        while len(self._running) < at_once and self._started < self._runs:
            if self._may_fork and self._stock is not None and self._stock.loading():
                return False
            self._start()
        if self._running:
            return False
        shutil.rmtree(self._scratch, ignore_errors=True)
        return True

    def stop(self) -> None:
        """End the runs that have not ended, without an outcome."""
        for run in self._running:
            self._kill(run)
        self._running.clear()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _look(self, run: _Run) -> None:
        status = run.process.poll()
        if status is None:
            if family(run.process.pid) > self._memory + OWN_BYTES:
                self._kill(run)
                self._end(run, "fails", "killed: it took more memory than a case may\n")
            elif time.monotonic() - run.began > self._seconds:
                self._kill(run)
                self._end(run, "cannot run", f"killed: no end within {self._seconds:.0f} s\n")
        elif status == UNTOLD:
            # Again, and in a process of its own, since there is none any more that forks. It was killed, perhaps while
            # it wrote a header.
            self._headers.distrust(time.monotonic() - run.began)
            self._running.remove(run)
            self._started -= 1
        elif status in DIFFERENCES:
            said = len([line for line in _tail(run.scratch / "output").splitlines() if line.strip()])
            self._end(run, "fails" if said > 1 else "cannot run")
        else:
            self._end(run, "passes" if status == 0 else "fails" if status < 0 else "cannot run")

    @property
    def _may_fork(self) -> bool:
        """Whether the next run may be a fork: the first of several has hash seeds and a cold start of its own."""
        return self._runs == 1 or self._started > 0

    def _start(self) -> None:
        fork = self._may_fork
        self._started += 1
        scratch = self._scratch / str(self._started)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        process = (self._forked(scratch) if fork else None) or self._fresh(scratch)
        self._running.append(_Run(process, scratch, time.monotonic()))

    def _forked(self, scratch: Path) -> Process | None:
        if self._stock is None:
            return None
        own = {CACHE: str((scratch / "cache").absolute())}
        return self._stock.run(self._script, own, scratch / "output", scratch / "errors")

    def _fresh(self, scratch: Path) -> Process:
        with (scratch / "output").open("wb") as output, (scratch / "errors").open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, str(self._script.absolute())],
                env=stock_environment(scratch / "cache", self._temporary),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    def _end(self, run: _Run, outcome: Outcome, remark: str = "") -> None:
        if outcome == "fails" or not self.failed:
            self.output = _tail(run.scratch / "output") + remark + _tail(run.scratch / "errors")
        self.outcomes.append(outcome)
        self._running.remove(run)
        shutil.rmtree(run.scratch, ignore_errors=True)

    def _kill(self, run: _Run) -> None:
        self._headers.distrust(time.monotonic() - run.began)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait()


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-8000:].decode("utf-8", "replace")
    except OSError:
        return ""
