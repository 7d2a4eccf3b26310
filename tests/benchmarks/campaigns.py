"""Campaigns as users run them, and what they leave, for benchmarks that look at the commands and the database alone."""

from __future__ import annotations

import functools
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.inductor import spent

import shakeout.fuzz
from shakeout.corpus import codec
from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.ground.results import Result

__all__ = [
    "BEYOND",
    "Ended",
    "Row",
    "command",
    "ended_well",
    "events",
    "listed",
    "read_rows",
    "run",
    "versions",
    "waiting",
    "write_row",
]

#: Seconds between two looks at the processor time of a command's processes.
BEAT = 0.5

#: Seconds that a campaign may take beyond its time, for its start, and for triage when the time is over.
BEYOND = 240

#: States of what is nobody's bug: reported long ago, or a defect of Shakeout's own.
ASIDE = ("known", "internal")


def command(*arguments: str) -> list[str]:
    """The command line of Shakeout, as this interpreter finds it."""
    return [sys.executable, "-P", "-m", "shakeout", *arguments]


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended.

    Attributes:
        status: of its exit, negative for a signal.
        seconds: by the clock.
        core_seconds: processor time of the command and all processes below it, those of its last half second missing.
        output: what it printed, errors included.
    """

    status: int
    seconds: float
    core_seconds: float
    output: str


def run(
    arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str] | None = None, limit: float, log: Path
) -> Ended:
    """Run a command to its end.

    Args:
        arguments: of the command.
        folder: in which it runs.
        environment: what is added to this process's.
        limit: seconds after which it is asked to end, as by Ctrl-C.
        log: where what it prints goes.
    """
    began, used, asked = time.monotonic(), 0.0, False
    with log.open("wb") as out:
        process = subprocess.Popen(
            arguments, cwd=folder, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        while True:
            used = max(used, spent(process.pid))
            try:
                process.wait(BEAT)
                break
            except subprocess.TimeoutExpired:
                pass
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
            if time.monotonic() - began > limit and not asked:
                asked = True
                process.send_signal(signal.SIGINT)
    seconds = time.monotonic() - began
    return Ended(process.returncode, round(seconds, 1), round(used, 1), log.read_text(errors="replace"))


def ended_well(directory: Path, ended: Ended) -> int:
    """How many cases a campaign compared that came to its end.

    Raises:
        RuntimeError: it did not; with the last that it said.
    """
    finished = list(events(directory, "Finished"))
    if not finished:
        raise RuntimeError(f"the campaign ended with {ended.status} and did not finish:\n{ended.output[-3000:]}")
    return sum(int(total["compared"]) for total in finished[-1]["totals"].values())


@dataclass(frozen=True, slots=True)
class Row:
    """One bug as ``shakeout bugs`` lists it, with what is stored of it.

    Attributes:
        id: of the bug.
        state: how sure it is.
        title: one line.
        seen: cases that are counted under it.
        oracle, symptom: of its smallest case; of its first finding where it has none.
        small: whether there is a smallest case.
        case: text of that case, or of the first finding; empty if there is none.
        operators: of that case.
        findings: texts of the stored cases, the smallest one of each finding where there is one.
    """

    id: str
    state: str
    title: str
    seen: int
    oracle: str
    symptom: str
    small: bool
    case: str
    operators: tuple[str, ...]
    findings: tuple[str, ...]


def listed(directory: Path, folder: Path) -> list[Row]:
    """The bugs that a person who asks is shown for such, in that order; what waits, is known or flaky is none.

    Args:
        directory: of the campaign.
        folder: in which it is asked.

    Raises:
        RuntimeError: the command does not answer.
    """
    asked = command("bugs", "--directory", str(directory), "--json")
    told = subprocess.run(asked, cwd=folder, capture_output=True, text=True)
    if told.returncode:
        raise RuntimeError(f"{' '.join(asked)} ended with {told.returncode}:\n{told.stdout}{told.stderr}")
    found = []
    with Database.read(directory / NAME) as database:
        smallest = database.smallest_cases()
        for bug in json.loads(told.stdout):
            # Without groups every bug is listed as one, whether anything was done about it or not.
            if bug.get("group", "bug") != "bug" or bug["state"] in (*ASIDE, "flaky"):
                continue
            findings = database.findings(bug["id"])
            minimal = smallest.get(bug["id"])
            small = minimal is not None and bool(minimal.case_json)
            text = minimal.case_json if minimal is not None and small else findings[0].case_json if findings else ""
            stored = minimal.result if minimal is not None and small else findings[0].result if findings else {}
            failing = Result.from_json(stored).failure if stored else None
            found.append(
                Row(
                    bug["id"],
                    bug["state"],
                    bug["title"],
                    bug["count"],
                    failing.oracle if failing is not None else bug["oracle"],
                    failing.symptom if failing is not None else bug["symptom"],
                    small,
                    text,
                    tuple(codec.decode(text).program.operators()) if text else (),
                    tuple(filter(None, (getattr(one, "small", "") or one.case_json for one in findings))),
                )
            )
    return found


def waiting(directory: Path) -> int:
    """Findings that nothing was done about yet."""
    with Database.read(directory / NAME) as database:
        if hasattr(database, "waiting"):
            return int(database.waiting())
        return sum(bug.count for bug in database.bugs() if bug.state == "new")


@functools.cache
def versions() -> dict[str, str]:
    """What is measured, and on what; the commit is what ``BENCHMARK_COMMIT`` says, for a copy without a repository."""
    import torch

    root = Path(shakeout.fuzz.__file__).resolve().parent
    described = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    commit = os.environ.get("BENCHMARK_COMMIT") or described.stdout.strip() or "unknown"
    return {"commit": commit, "torch": torch.__version__, "machine": machine}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that were measured before."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row, with what it was measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({**row, **versions(), "at": time.strftime("%Y-%m-%d %H:%M")}) + "\n"
    # In one piece, since several processes may append to one file.
    with path.open("ab", buffering=0) as file:
        file.write(line.encode())


def events(directory: Path, *kinds: str) -> Iterator[dict[str, Any]]:
    """The logged events of some kinds, oldest first."""
    from shakeout.fuzz.ground.events import LOG, read_log

    return (event for event in read_log(directory / LOG) if event["event"] in kinds)
