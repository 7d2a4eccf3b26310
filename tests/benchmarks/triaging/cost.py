"""Core-seconds from a finding to a bug that is confirmed, reduced and has its name: processor time of all that works.

Where Shakeout has a command that triages without fuzzing, a campaign is cut off while findings wait, and that command
works them off with one worker. What its processes have used between one bug's confirmation and the next one's is what
a bug costs, and what was looked at in between and was no new bug is part of that; loading and warming are not. Where it
has none, a campaign confirms bugs and ``minimise --all`` reduces them: a bug costs the processes of its script, and
what the processes of the second command have used from the first run of its case until its line is printed.

Faults are planted (``tests/faults/together.py``), so that there are bugs enough; of kernels it is the backlog that
``kill.py`` triages, of half a dozen with a mistake each.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.campaigns import command, events
from tests.benchmarks.inductor import spent
from tests.benchmarks.triaging import kill
from tests.faults.mistakes import FOLDER
from tests.faults.together import environment, sets

#: What is measured: compilers, and kernels.
KERNELS = "kernels"
TARGETS = ("inductor", "aot_eager", "export", "onnxruntime", "tvm", KERNELS)

#: Seconds between two looks at processes and at the log: what is missed of a process that ends in between.
BEAT = 0.1

_SCRIPT = re.compile(r"/(SH-[0-9a-f]+)/\S+\.py")


def watched(
    arguments: Sequence[str], folder: Path, further: Mapping[str, str], log: Path, seconds: float
) -> Iterator[subprocess.Popen[bytes]]:
    """A command at work, again and again until it has ended; after so many seconds it is interrupted."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            arguments, cwd=folder, env={**os.environ, **further}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + seconds
        try:
            while process.poll() is None:
                yield process
                if time.monotonic() > until:
                    process.send_signal(signal.SIGINT)
                    until = time.monotonic() + 60
                time.sleep(BEAT)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait()


def triages() -> bool:
    """Whether there is a command that triages without fuzzing."""
    return not subprocess.run(command("triage", "--help"), capture_output=True).returncode


def backlog(directory: Path, target: str, folder: Path, further: Mapping[str, str], seconds: float) -> None:
    """A campaign that is cut off so many seconds after it began to fuzz."""
    asked = ["run", "--target", target, "--minutes", "60", "--workers", "2", "--directory", str(directory), "--plain"]
    began = None
    for process in watched(command(*asked), folder, further, directory.with_name("log"), 600):
        if began is None and (directory / "events.jsonl").exists():
            began = time.monotonic() if any(events(directory, "CaseDone")) else None
        if began is not None and time.monotonic() - began > seconds:
            process.send_signal(signal.SIGINT)
            began = time.monotonic() + 60


def triaged(directory: Path, folder: Path, further: Mapping[str, str], seconds: float) -> list[dict[str, Any]]:
    """What each bug costs that the command which only triages opens."""
    before = {event["bug"] for event in events(directory, "Confirmed")}
    skip = sum(1 for _ in events(directory, "Confirmed", "Warming"))
    rows: list[dict[str, Any]] = []
    last = used = 0.0
    asked = ["triage", str(directory), "--workers", "1", "--plain"]
    for process in watched(command(*asked), folder, further, directory.with_name("log2"), seconds):
        used = spent(process.pid)
        for event in list(events(directory, "Confirmed", "Warming"))[skip:]:
            skip += 1
            if event["event"] == "Confirmed" and event["bug"] not in before:
                before.add(event["bug"])
                rows.append({"bug": event["bug"], "state": event["state"], "core_seconds": round(used - last, 2)})
            elif event["event"] == "Confirmed":
                continue
            last = used
    return rows


def confirmed(
    directory: Path, target: str, folder: Path, further: Mapping[str, str], minutes: float
) -> dict[str, float]:
    """What the scripts of each bug cost in a campaign, by bug."""
    asked = ["run", "--target", target, "--minutes", str(minutes), "--workers", "2", "--directory", str(directory)]
    found: dict[int, tuple[str, float]] = {}
    for process in watched(command(*asked, "--plain"), folder, further, directory.with_name("log"), 60 * minutes + 300):
        for pid in _children(process.pid):
            try:
                script = _SCRIPT.search(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
            if script is not None:
                found[pid] = (script[1], max(spent(pid), found.get(pid, ("", 0.0))[1]))
    costs: dict[str, float] = {}
    for bug, cost in found.values():
        costs[bug] = costs.get(bug, 0.0) + cost
    return costs


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def minimised(directory: Path, folder: Path, further: Mapping[str, str], seconds: float) -> dict[str, float]:
    """What reducing each bug costs, by bug."""
    log = directory.with_name("log2")
    asked = ["minimise", "--all", str(directory), "--workers", "2", "--seconds", "60", "--plain"]
    costs: dict[str, float] = {}
    last, read = 0.0, 0
    for process in watched(command(*asked), folder, further, log, seconds):
        lines = log.read_text(errors="replace").splitlines()
        used = spent(process.pid)
        for line in lines[read:]:
            if line.startswith("SH-"):
                costs[line.split()[0]] = round(used - last, 2)
                last = used
            elif "one run takes" in line:
                last = used
        read = len(lines)
    return costs


def measure(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each target that has none."""
    done = {row["target"] for row in rows}
    for target in TARGETS:
        if target in done or (options.only and target not in options.only):
            continue
        further = {} if target == KERNELS else environment(sets(target)[0])
        with tempfile.TemporaryDirectory(prefix="shakeout-bench-") as scratch:
            directory = Path(scratch) / "run"
            folder = FOLDER if target == KERNELS else Path(scratch)
            limit = 60 * options.minutes
            if target == KERNELS:
                kill.begun(kill.BACKLOG, directory)
                found, how = triaged(directory, folder, further, limit), "triage"
            elif triages():
                backlog(directory, target, folder, further, limit / 2)
                found = triaged(directory, folder, further, limit)
                how = "triage"
            else:
                costs = confirmed(directory, target, folder, further, options.minutes / 2)
                reduced = minimised(directory, folder, further, limit)
                states = {event["bug"]: event["state"] for event in events(directory, "Confirmed")}
                found = [
                    {
                        "bug": bug,
                        "state": states.get(bug, "new"),
                        "confirming": round(costs[bug], 2),
                        "reducing": cost,
                        "core_seconds": round(costs[bug] + cost, 2),
                    }
                    for bug, cost in reduced.items()
                    if bug in costs
                ]
                how = "run, then minimise --all"
        yield {"target": target, "how": how, "minutes": options.minutes, "list": found}


def told(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The medians."""
    yield f"{'target':<28}{'bugs':>6}{'median':>9}{'mean':>9}{'most':>9}  core-seconds for a bug"
    for row in rows:
        costs = [one["core_seconds"] for one in row["list"]]
        if costs:
            cells = (statistics.median(costs), statistics.mean(costs), max(costs))
            yield f"{row['target']:<28}{len(costs):>6}" + "".join(f"{cell:>9.1f}" for cell in cells) + f"  {row['how']}"
        else:
            yield f"{row['target']:<28}{0:>6}"
