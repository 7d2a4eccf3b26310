"""Triage that is killed in the middle, again and again: whether what it ends with is what it ought to be.

``victim.py`` runs what is killed with all its processes before a statement of the database, before an event is logged,
before a file takes its name, or at some second, or only its workers are; then the same command goes on, to be killed at
another moment, and in the end undisturbed. What there is then is compared with what there is where nobody killed
anything: *lost* are findings that are counted under no bug, and bugs that are missing; *twice* are findings that are
counted twice, bugs that are there twice, and bugs that the event log opens or confirms more than once. *Untold* are
bugs that the log never opens or confirms.

What is measured is the triage of a backlog: findings of half a dozen kernels with a mistake each, which a campaign has
left waiting. The same can be done to a small campaign of cases that misbehave, while it fuzzes (``CAMPAIGN``).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import os
import random
import shutil
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
from tests.faults.mistakes import FOLDER, MODULES

from shakeout.corpus.database import NAME, Database

#: What is killed, and how far into it each kind of moment is drawn, so that most runs are killed before they are over.
#: Undisturbed, the campaign writes some 150 statements and 30 files from its first finding on, logs 30 events, and
#: takes 15 s.
CAMPAIGN, BACKLOG = "campaign", "triage"
MOMENTS = {
    CAMPAIGN: {"statement": 60, "event": 12, "file": 12, "seconds": 5, "workers": 5},
    BACKLOG: {"statement": 30, "event": 4, "file": 6, "seconds": 3, "workers": 3},
}

#: How often each is drawn, relatively: where only workers are killed, the run goes on to its end.
WEIGHTS = (3, 3, 3, 3, 1)

#: Kills of one campaign or backlog at most, after which it is left alone.
MOST = 20

#: Runs that may be needed to work off what waits, once nobody kills them.
PATIENCE = 3

#: Seconds after which a run is stuck.
LIMIT = 400

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Left:
    """What there is when all is over.

    Attributes:
        bugs: how many there are, by what tells them apart and their state.
        findings: how many cases are counted under bugs, by what they are of.
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


def left(directory: Path, what: str = CAMPAIGN) -> Left:
    """Look at a campaign."""
    with Database.read(directory / NAME) as database:
        bugs = database.bugs()
        seen = sum(totals.findings for totals in database.totals().values())
    log = list(events(directory, "FindingSeen", "BugOpened", "Confirmed"))
    # Where findings are bugs at once, the finding opens it.
    opened = [one["bug"] for one in log if one["event"] == "BugOpened" or one.get("new")]
    findings: Counter[str] = Counter()
    for bug in bugs:
        # Under which of a kernel's bugs those are counted that nobody looks at depends on which is known first.
        findings[bug.target if what == BACKLOG else f"{bug.target} {bug.oracle} {bug.symptom}"] += bug.count
    return Left(
        # The id of a bug is made of its cause; crashes are told apart by what they say, which is not always the same.
        Counter(
            f"{bug.id if what == BACKLOG else f'{bug.target} {bug.oracle} {bug.symptom}'} {bug.state}" for bug in bugs
        ),
        findings,
        seen,
        waiting(directory),
        Counter(opened),
        Counter(one["bug"] for one in log if one["event"] == "Confirmed"),
        frozenset(bug.id for bug in bugs),
    )


def attempt(what: str, directory: Path, kind: str, number: float = 0.0) -> bool:
    """Run it, or go on with it; whether it came to its end."""
    folder = directory.parent
    path = [str(HERE.parents[2]), str(HERE.parents[1] / "slow"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "SHAKEOUT_ALLOW": ",".join(MODULES),
        "MARK": str(folder / "mark"),
    }
    if what == CAMPAIGN:  # the others need the operators, which are collected once for all campaigns of a user
        environment["SHAKEOUT_CACHE"] = str(folder / "store")
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.triaging.victim", what, str(directory), kind, str(number)],
            cwd=folder if what == CAMPAIGN else FOLDER, env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(LIMIT)
        except BaseException:
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
        raise RuntimeError(f"it ended with {status}:\n{(folder / 'log').read_text()[-2000:]}")
    return status == 0


def finish(what: str, directory: Path) -> int:
    """Let it come to its end; how many runs that took."""
    runs = 0
    while not runs or (waiting(directory) and runs < PATIENCE):
        runs += 1
        if not attempt(what, directory, "never"):
            raise RuntimeError("what was left alone was killed")
    return runs


def begun(what: str, directory: Path) -> None:
    """What is there before anybody kills anything: nothing, or a copy of the backlog."""
    if what == BACKLOG:
        shutil.copytree(backlog(), directory)


@functools.cache
def backlog() -> Path:
    """A campaign in which findings wait, made once."""
    directory = Path(_scratch()) / "run"
    attempt("collect", directory, "never")
    if not waiting(directory):
        raise RuntimeError(f"nothing waits:\n{(directory.parent / 'log').read_text()[-2000:]}")
    return directory


def _scratch() -> str:
    _kept.append(tempfile.TemporaryDirectory(prefix="shakeout-bench-"))
    return _kept[-1].name


_kept: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def undisturbed(what: str) -> Left:
    """What there is when nobody kills anything."""
    with tempfile.TemporaryDirectory(prefix="shakeout-bench-") as scratch:
        directory = Path(scratch) / "run"
        begun(what, directory)
        finish(what, directory)
        return left(directory, what)


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


def killed(
    seed: int, moments: Sequence[tuple[str, float]] = (), what: str = CAMPAIGN, until: float = math.inf
) -> dict[str, Any]:
    """One row: what was killed some times, at given moments or at some that are drawn.

    Args:
        seed: of the moments.
        moments: these and no others.
        what: is killed.
        until: it is left alone from then on, by ``time.monotonic``.
    """
    draw, kinds = random.Random(seed), MOMENTS[what]
    drawn = [(kind, round(draw.uniform(0, kinds[kind]), 1)) for kind in draw.choices(list(kinds), WEIGHTS, k=MOST)]
    drawn.sort(key=lambda moment: moment[0] == "workers")  # which is the last, since it is over then
    kills = []
    wanted = undisturbed(what)
    with tempfile.TemporaryDirectory(prefix="shakeout-bench-") as scratch:
        directory = Path(scratch) / "run"
        begun(what, directory)
        for kind, number in moments or drawn:
            if time.monotonic() > until:
                break
            number = number if kind in ("seconds", "workers") else max(int(number), 1)
            over = attempt(what, directory, kind, number)
            if not over or kind == "workers":
                kills.append(f"{kind} {number:g}")
            if over:
                break
        runs = finish(what, directory)
        found = left(directory, what)
    return {"killed": what, "seed": seed, "kills": kills, "last runs": runs, **compared(found, wanted)}


def measure(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows until backlogs were killed often enough, or for so many seconds from when there is one."""
    kills, seeds = sum(len(row["kills"]) for row in rows), {row["seed"] for row in rows}
    undisturbed(BACKLOG)
    seed, until = options.first, time.monotonic() + options.seconds
    while kills < options.kills:
        if seed not in seeds:
            row = killed(seed, what=BACKLOG, until=until)
            kills += len(row["kills"])
            yield row
        seed += 1


def told(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How often something was killed, and what that did."""
    kinds = Counter(kill.partition(" ")[0] for row in rows for kill in row["kills"])
    yield f"{len(rows)} times, {kinds.total()} kills: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    for what in ("lost", "twice", "untold"):
        yield f"{what}: {sum(row[what] for row in rows)} in {sum(row[what] > 0 for row in rows)} of them"
    for row in rows:
        if row["lost"] or row["twice"]:
            yield f"seed {row['seed']}: {', '.join(row['kills'])}: {row['what']}"
