"""Measure the gate: repositories with a history, of each change whether the gate is red, and how long it took.

    python tests/benchmarks/gate.py --rows docs/gate/free.jsonl --cores 2
    python tests/benchmarks/gate.py --history runtime --budget 40s --seeds 3
    python tests/benchmarks/gate.py --same 50 --seeds 0
    python tests/benchmarks/gate.py --table docs/gate/free.jsonl

Of a change that breaks something, red is right; of one that breaks nothing, green is. ``--same`` compares what is
equal, each history's first state and each compiler's environment with itself, for which nothing but green is right.
Gates that run side by side have ``--cores`` of their own each. Every row is appended as it is measured, and what a file
of rows holds already is not measured again, so a measurement can be made of many runs.
"""

import argparse
import contextlib
import itertools
import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests import histories

from shakeout.fuzz.ground.exits import Exit
from shakeout.targets.registry import compilers, target

HISTORIES = {"kernels": histories.KERNELS, "runtime": histories.RUNTIME, "passes": histories.PASSES}

#: What each has where nobody says: a compiler takes a second for what a kernel does in a twentieth, Inductor several,
#: and what ships for compilers is replayed first.
BUDGETS = {"kernels": "45s", "runtime": "40s", "passes": "60s", "inductor": "180s"}
COMPILER = "120s"

#: Seconds after which a gate is taken for hung and killed, beyond its budget: it promises half a minute or a tenth.
PATIENCE = 90.0

#: Gates at work, which end with this.
RUNNING: set[subprocess.Popen] = set()


@dataclass(frozen=True)
class Job:
    """One gate that is wanted.

    Attributes:
        history: of which repository; or the name of a compiler, whose environment is compared with itself.
        change: title of the change; ``none`` for what is compared with itself.
        breaks: whether the change breaks something.
        branch: that has the change on top.
    """

    history: str
    change: str
    seed: int
    budget: str
    breaks: bool = False
    branch: str = field(default="main", compare=False)

    @property
    def key(self) -> tuple:
        """What is not measured again if there is a row of it."""
        return self.history, self.change, self.seed, self.budget

    @property
    def seconds(self) -> float:
        return seconds_of(self.budget)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", action="append", choices=HISTORIES, help="default: all")
    parser.add_argument("--budget", help=f"of a gate; default: {', '.join(map(' '.join, BUDGETS.items()))}")
    parser.add_argument("--seeds", type=int, default=1, help="of each change (default 1)")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--same", type=int, default=0, metavar="N", help="gates of what is equal")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no gate that may last longer")
    parser.add_argument("--only", default="", help="changes whose title holds this")
    parser.add_argument("--cores", type=int, default=0, help="of each gate, as many of which work as fit")
    parser.add_argument("--most", type=int, default=10_000, help="gates side by side")
    parser.add_argument("--rows", type=Path, default=Path("docs/gate/free.jsonl"))
    parser.add_argument("--under", default="", help="command that each gate is run by, such as nice -n 5")
    parser.add_argument("--table", type=Path, help="print what was measured, and measure nothing")
    options = parser.parse_args()
    if options.table is not None:
        print("\n".join(table([json.loads(line) for line in options.table.read_text().splitlines()])))
        return
    options.rows.parent.mkdir(parents=True, exist_ok=True)
    done = set()
    if options.rows.exists():
        rows = map(json.loads, options.rows.read_text().splitlines())
        done = {Job(*(row[name] for name in ("history", "change", "seed", "budget"))).key for row in rows}
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(130))
    with tempfile.TemporaryDirectory(prefix="shakeout-history-") as scratch:
        places, jobs = prepared(options, Path(scratch))
        try:
            work(options, places, [job for job in jobs if job.key not in done], Path(scratch))
        finally:
            for process in list(RUNNING):
                process.terminate()


def prepared(options: argparse.Namespace, scratch: Path) -> tuple[dict[str, Path], list[Job]]:
    """A repository of each history that has every change as a branch, and the gates that are wanted, in order."""
    places: dict[str, Path] = {}
    changes: list[tuple[str, histories.Change]] = []
    there = shutil.which("git") is not None
    if not there:
        print("no git here: only environments are compared with themselves", flush=True)
    for name in (options.history or HISTORIES) if there else ():
        places[name] = histories.made(HISTORIES[name], scratch / name)
        for change in histories.branches(HISTORIES[name], places[name]):
            if options.only in change.title:
                changes.append((name, change))

    def budget(name: str) -> str:
        return options.budget or BUDGETS.get(name, COMPILER)

    def gates(seed: int) -> list[Job]:
        # Those that take long begin first: what is begun last decides how long all of it takes.
        order = sorted(changes, key=lambda one: seconds_of(budget(one[0])), reverse=seed == options.first_seed)
        return [Job(name, one.title, seed, budget(name), one.breaks, one.branch) for name, one in order]

    kinds = [*places, *(() if options.history else (name for name in compilers() if not target(name).unavailable()))]
    same = [Job(name, "none", seed, budget(name)) for name, seed in itertools.islice(equal(kinds), options.same)]
    seeds = [gates(options.first_seed + number) for number in range(options.seeds)]
    first = seeds[0] if seeds else []
    return places, [*first, *sorted(same, key=lambda job: -job.seconds), *itertools.chain(*seeds[1:])]


def equal(kinds: Sequence[str]) -> Iterator[tuple[str, int]]:
    """What is compared with itself, and with which seed: what takes less time more often."""
    numbers = {name: itertools.count() for name in kinds}
    for turn in itertools.count():
        for name in kinds:
            times = 2 if name in ("kernels", "runtime") else 1 if name != "inductor" or turn % 3 == 0 else 0
            yield from ((name, next(numbers[name])) for _ in range(times))


def seconds_of(budget: str) -> float:
    """A budget in seconds."""
    return float(budget.removesuffix("s"))


def work(options: argparse.Namespace, places: dict[str, Path], jobs: Sequence[Job], scratch: Path) -> None:
    """All gates, as many side by side as there are cores for."""
    cores = sorted(os.sched_getaffinity(0))
    size = options.cores or len(cores)
    slots = [cores[n : n + size] for n in range(0, len(cores) - size + 1, size)][: options.most]
    todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        todo.put(job)
    print(f"{len(jobs)} gates, {len(slots)} side by side with {size} cores each", flush=True)
    began, writing = time.monotonic(), threading.Lock()

    def slot(mine: Sequence[int]) -> None:
        os.sched_setaffinity(0, mine)  # of this thread, and so of what it starts
        while True:
            try:
                job = todo.get_nowait()
            except queue.Empty:
                return
            if time.monotonic() - began + job.seconds > options.seconds:
                continue
            row = one(job, places, mine, scratch / f"at-{mine[0]}", options.under)
            if row["status"] == Exit.INTERRUPTED:
                return  # as all of this was
            with writing:
                with options.rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                right = "right" if row["right"] else "WRONG"
                print(
                    f"{time.monotonic() - began:5.0f} {job.history:<11} {job.change:<42} {row['status']} {right} "
                    f"{row['seconds']:.0f} s  {row['verdict']}",
                    flush=True,
                )

    threads = [threading.Thread(target=slot, args=(mine,), daemon=True) for mine in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def one(job: Job, places: dict[str, Path], cores: Sequence[int], place: Path, under: str) -> dict:
    """One gate, in a copy of the repository of its own, on these cores."""
    shutil.rmtree(place, ignore_errors=True)
    folder, out = place / "repository", place / "out"
    if job.history in HISTORIES:
        history = HISTORIES[job.history]
        shutil.copytree(places[job.history], folder)
        histories.git(folder, "checkout", "-q", "--detach", job.branch)
        compared = ["--base", "HEAD" if job.change == "none" else "HEAD~1"]
        targets, further = history.targets, history.arguments
    else:
        folder.mkdir(parents=True)
        compared = ["--base", sys.executable, "--head", sys.executable]
        targets, further = (job.history,), ()
    command = [*shlex.split(under), sys.executable, "-m", "shakeout", "gate", *compared, *further]
    command += [word for name in targets for word in ("--target", name)]
    command += ["--budget", job.budget, "--seed", str(job.seed), "--out", str(out), "--workers", str(len(cores))]
    # Where metadata lies in the repository, it is installed for whoever puts the repository on the path.
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(folder)]).strip(os.pathsep)
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    RUNNING.add(process)
    try:
        said, _ = process.communicate(timeout=job.seconds + PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
    RUNNING.discard(process)
    row = {**asdict(job), "status": process.returncode, "torch": version("torch"), "cores": len(cores)}
    del row["branch"]
    row |= {"right": process.returncode == (1 if job.breaks else 0), "seconds": round(time.monotonic() - began, 1)}
    row |= {"load": round(os.getloadavg()[0], 1)}
    with contextlib.suppress(OSError):
        return row | _told(json.loads((out / "gate.json").read_text()))
    return row | {"verdict": said[-300:], "findings": []}


def _told(told: dict) -> dict:
    findings = [
        {
            "title": finding["title"],
            "blocking": finding["decision"]["blocking"],
            "reason": finding["decision"]["reason"],
            "operators": len(finding["operators"]),
            "reduced": finding["reduced"],
        }
        for finding in told["findings"]
    ]
    return {
        "verdict": told["verdict"],
        "phases": told["seconds"],
        "findings": findings,
        "refusals": len(told["refusals"]),
        "compared": {name: total["nontrivial"] for name, total in told["totals"].items()},
        "notes": told["notes"],
    }


def table(rows: Sequence[dict]) -> Iterator[str]:
    """Red, green and neither, by history."""
    groups: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for row in rows:
        kind = "against itself" if row["change"] == "none" else "break something" if row["breaks"] else "innocent"
        groups[kind, row["history"]].append(row)
    yield "| changes | of | gates | red | green | vacuous | undecided | other | compared, median | s, median | 95 % |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for (kind, name), found in sorted(groups.items()):
        counts = [sum(row["status"] == status for row in found) for status in (1, 0, 6)]
        # Of those that are vacuous, those that found something and had no time for it.
        undecided = sum(row["status"] == 6 and "could not be decided" in row["verdict"] for row in found)
        compared = sorted(sum(row.get("compared", {}).values()) for row in found)
        seconds = sorted(row["seconds"] for row in found)
        late = seconds[min(int(0.95 * len(seconds)), len(seconds) - 1)]
        titles = {row["change"] for row in found} - {"none"}
        shown = " | ".join(map(str, (len(found), *counts, undecided, len(found) - sum(counts))))
        middle = compared[len(compared) // 2], f"{seconds[len(seconds) // 2]:.0f}", f"{late:.0f}"
        yield f"| {f'{len(titles)} ' if titles else ''}{kind} | {name} | {shown} | {' | '.join(map(str, middle))} |"


if __name__ == "__main__":
    main()
