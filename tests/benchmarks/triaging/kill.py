"""A campaign that is killed in the middle of triage, again and again: whether what it ends with is what it ought to be.

``victim.py`` runs a campaign of cases of which some crash, raise or are wrong. It is killed with all its processes
before a statement of the database, before an event is logged, before a file takes its name, at some second after the
first finding, or only its workers are; then the same command goes on, to be killed at another moment, and in the end
undisturbed. What it has then is compared with what a campaign has that nobody killed: *lost* are findings that are
counted under no bug, and bugs that are missing; *twice* are findings that are counted twice, bugs that are there twice,
and bugs that the event log opens or confirms more than once. *Untold* are bugs that the log never opens or confirms.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.campaigns import events, waiting
from tests.benchmarks.triaging.victim import processes

from shakeout.corpus.database import NAME, Database

#: Moments of which one is drawn, and up to which number. A campaign that nobody kills writes some 150 statements and 30
#: files from its first finding on, logs 30 events, and takes 15 s; so most runs are killed before they are half done.
MOMENTS = {"statement": 60, "event": 12, "file": 12, "seconds": 5, "workers": 5}

#: How often each is drawn, relatively: a campaign whose workers are killed goes on to its end.
WEIGHTS = (3, 3, 3, 3, 1)

#: Kills of one campaign at most, after which it is left alone.
MOST = 8

#: Runs that may be needed to work off what waits, once nobody kills them.
PATIENCE = 3

#: Seconds after which a run is stuck.
LIMIT = 400

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Left:
    """What a campaign has when it is over.

    Attributes:
        bugs: by target, oracle, symptom and state, how many there are.
        findings: by target, oracle and symptom, how many cases are counted under bugs.
        seen: cases that failed, by the campaign's totals.
        waiting: findings that nothing was done about.
        opened, confirmed: by bug, how often the event log says so.
        names: of all bugs that are there.
    """

    bugs: Counter[str]
    findings: Counter[str]
    seen: int
    waiting: int
    opened: Counter[str]
    confirmed: Counter[str]
    names: frozenset[str]


def left(directory: Path) -> Left:
    """Look at a campaign."""
    with Database.read(directory / NAME) as database:
        bugs = database.bugs()
        seen = sum(totals.findings for totals in database.totals().values())
    log = list(events(directory, "FindingSeen", "BugOpened", "Confirmed"))
    # Where findings are bugs at once, the finding opens it.
    opened = [one["bug"] for one in log if one["event"] == "BugOpened" or one.get("new")]
    findings: Counter[str] = Counter()
    for bug in bugs:
        findings[f"{bug.target} {bug.oracle} {bug.symptom}"] += bug.count
    return Left(
        Counter(f"{bug.target} {bug.oracle} {bug.symptom} {bug.state}" for bug in bugs),
        findings,
        seen,
        waiting(directory),
        Counter(opened),
        Counter(one["bug"] for one in log if one["event"] == "Confirmed"),
        frozenset(bug.id for bug in bugs),
    )


def attempt(directory: Path, kind: str, number: float = 0.0) -> bool:
    """Run the campaign, or go on with it; whether it came to its end."""
    folder = directory.parent
    path = [str(HERE.parents[2]), str(HERE.parents[1] / "slow"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "SHAKEOUT_CACHE": str(folder / "store"),
        "MARK": str(folder / "mark"),
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.triaging.victim", str(directory), kind, str(number)],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    until = time.monotonic() + 10
    while (alive := processes(directory)) and time.monotonic() < until:
        for pid in alive:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the campaign ended with {status}:\n{(folder / 'log').read_text()[-2000:]}")
    return status == 0


def finish(directory: Path) -> int:
    """Let a campaign come to its end; how many runs that took."""
    runs = 0
    while not runs or (waiting(directory) and runs < PATIENCE):
        runs += 1
        if not attempt(directory, "never"):
            raise RuntimeError("a campaign that was left alone was killed")
    return runs


@functools.cache
def undisturbed() -> Left:
    """What the campaign has when nobody kills it."""
    with tempfile.TemporaryDirectory(prefix="shakeout-bench-") as scratch:
        directory = Path(scratch) / "run"
        finish(directory)
        return left(directory)


def compared(found: Left, wanted: Left) -> dict[str, Any]:
    """What was lost, and what is there or was told more than once."""
    lost_bugs, more_bugs = wanted.bugs - found.bugs, found.bugs - wanted.bugs
    lost, more = wanted.findings - found.findings, found.findings - wanted.findings
    twice = [bug for told in (found.opened, found.confirmed) for bug, count in told.items() if count > 1]
    untold = [bug for told in (found.opened, found.confirmed) for bug in found.names if bug not in told]
    return {
        "lost": lost.total() + lost_bugs.total() + found.waiting + max(found.seen - found.findings.total(), 0),
        "twice": more.total() + more_bugs.total() + len(twice) + max(found.findings.total() - found.seen, 0),
        "untold": len(untold),
        "bugs": found.bugs.total(),
        "what": {
            name: dict(counts)
            for name, counts in (("lost", lost), ("lost bugs", lost_bugs), ("more", more), ("more bugs", more_bugs))
            if counts
        },
    }


def killed(seed: int, moments: Sequence[tuple[str, float]] = ()) -> dict[str, Any]:
    """One row: a campaign that was killed some times, at given moments or at some that are drawn."""
    draw = random.Random(seed)
    drawn = [(kind, round(draw.uniform(0, MOMENTS[kind]), 1)) for kind in draw.choices(list(MOMENTS), WEIGHTS, k=MOST)]
    kills = []
    with tempfile.TemporaryDirectory(prefix="shakeout-bench-") as scratch:
        directory = Path(scratch) / "run"
        for kind, number in moments or drawn:
            number = number if kind in ("seconds", "workers") else max(int(number), 1)
            over = attempt(directory, kind, number)
            if not over or kind == "workers":
                kills.append(f"{kind} {number:g}")
            if over:
                break
        runs = finish(directory)
        found = left(directory)
    return {"seed": seed, "kills": kills, "last runs": runs, **compared(found, undisturbed())}


def measure(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows until enough campaigns were killed often enough."""
    kills, seed = sum(len(row["kills"]) for row in rows), max((row["seed"] for row in rows), default=0)
    while kills < options.kills:
        seed += 1
        row = killed(seed)
        kills += len(row["kills"])
        yield row


def told(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How often campaigns were killed, and what that did."""
    kinds = Counter(kill.partition(" ")[0] for row in rows for kill in row["kills"])
    yield f"{len(rows)} campaigns, {kinds.total()} kills: " + ", ".join(
        f"{n} {kind}" for kind, n in kinds.most_common()
    )
    for what in ("lost", "twice", "untold"):
        yield f"{what}: {sum(row[what] for row in rows)} in {sum(row[what] > 0 for row in rows)} campaigns"
    for row in rows:
        if row["lost"] or row["twice"]:
            yield f"seed {row['seed']}: {', '.join(row['kills'])}: {row['what']}"
