"""Measure the gate: repositories with a history, of each change whether the gate is red, and how long it took.

    python tests/benchmarks/gate.py --rows docs/gate/bounded.jsonl
    python tests/benchmarks/gate.py --history runtime --budget 40s --repeat 3
    python tests/benchmarks/gate.py --same 5 --budget 40s
    python tests/benchmarks/gate.py --table docs/gate/bounded.jsonl

Of a change that breaks something, red is right; of one that breaks nothing, green is. ``--same`` compares each
history's first state with itself instead, for which nothing but green is right. Every row is appended as it is
measured, and what a file of rows holds already is not measured again, so a measurement can be made of many runs.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests import histories

HISTORIES = {"kernels": histories.KERNELS, "runtime": histories.RUNTIME, "passes": histories.PASSES}

#: What each has where nobody says: a compiler takes a second for what a kernel does in a twentieth, and seven kernels
#: take longer to load than one runtime.
BUDGETS = {"kernels": "60s", "runtime": "40s", "passes": "2m"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", action="append", choices=HISTORIES, help="default: all")
    parser.add_argument("--budget", help=f"of a gate; default: {', '.join(map(' '.join, BUDGETS.items()))}")
    parser.add_argument("--repeat", type=int, default=1, help="with so many seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--same", type=int, default=0, metavar="N", help="each first state with itself, N seeds")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no other gate after so long")
    parser.add_argument("--only", help="changes whose title holds this")
    parser.add_argument("--rows", type=Path, default=Path("docs/gate/bounded.jsonl"))
    parser.add_argument("--under", default="", help="command that each gate is run by, such as nice -n 5")
    parser.add_argument("--table", type=Path, help="print what was measured, and measure nothing")
    options = parser.parse_args()
    if options.table is not None:
        print("\n".join(table([json.loads(line) for line in options.table.read_text().splitlines()])))
        return
    options.rows.parent.mkdir(parents=True, exist_ok=True)
    options.done = (
        {key(json.loads(line)) for line in options.rows.read_text().splitlines()} if options.rows.exists() else set()
    )
    options.until = time.monotonic() + options.seconds
    for name in options.history or HISTORIES:
        for row in measured(name, options):
            with options.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            right = {True: "right", False: "WRONG"}[row["right"]]
            print(
                f"{name:<8} {row['change']:<44} {row['status']} {right} {row['seconds']:.0f} s  {row['verdict']}",
                flush=True,
            )


def measured(name: str, options: argparse.Namespace) -> Iterator[dict]:
    history, budget = HISTORIES[name], options.budget or BUDGETS[name]
    with tempfile.TemporaryDirectory(prefix="shakeout-history-") as scratch:
        folder = histories.made(history, Path(scratch) / "repository")
        for seed in range(options.first_seed, options.first_seed + options.same):
            named = {"history": name, "change": "none", "seed": seed, "budget": budget}
            if key(named) not in options.done and time.monotonic() < options.until:
                yield {**one(folder, history, options, seed, budget), **named, "breaks": False}
        if options.same:
            return
        for change in histories.branches(history, folder):
            if options.only and options.only not in change.title:
                continue
            for seed in range(options.first_seed, options.first_seed + options.repeat):
                named = {"history": name, "change": change.title, "seed": seed, "budget": budget}
                if key(named) in options.done or time.monotonic() > options.until:
                    continue
                row = one(folder, history, options, seed, budget)
                expected = row["status"] == (1 if change.breaks else 0)
                yield {**row, "history": name, "change": change.title, "breaks": change.breaks, "right": expected}


def key(row: dict) -> tuple:
    """What is not measured again if there is a row of it."""
    return tuple(row[name] for name in ("history", "change", "seed", "budget"))


def one(folder: Path, history: histories.History, options: argparse.Namespace, seed: int, budget: str) -> dict:
    """One gate."""
    out = folder.parent / "out"
    targets = [word for target in history.targets for word in ("--target", target)]
    command = [
        sys.executable,
        "-m",
        "shakeout",
        "gate",
        "--base",
        "main",
        "--budget",
        budget,
        "--out",
        str(out),
    ]
    # Where metadata lies in the repository, it is installed for whoever puts the repository on the path.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(folder)]).strip(":"),
    }
    began = time.monotonic()
    done = subprocess.run(
        [*shlex.split(options.under), *command, *targets, *history.arguments, "--seed", str(seed)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    row = {"status": done.returncode, "seed": seed, "budget": budget, "torch": version("torch")}
    try:
        told = json.loads((out / "gate.json").read_text())
    except OSError:
        return {
            **row,
            "verdict": done.stderr[-300:],
            "seconds": time.monotonic() - began,
            "right": False,
            "findings": [],
        }
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
    compared = {name: total["nontrivial"] for name, total in told["totals"].items()}
    return {
        **row,
        "verdict": told["verdict"],
        "seconds": told["seconds"]["all"],
        "phases": told["seconds"],
        "findings": findings,
        "refusals": len(told["refusals"]),
        "compared": compared,
        "right": done.returncode == 0,
    }


def table(rows: Sequence[dict]) -> Iterator[str]:
    """Red, green and neither, by history."""
    groups: dict[tuple[str, bool], list[dict]] = defaultdict(list)
    for row in rows:
        groups[row["history"], row["breaks"]].append(row)
    yield "| history | changes | gates | red | green | vacuous | other | median s | 95th percentile s |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for (name, breaks), found in sorted(groups.items()):
        counts = [sum(row["status"] == status for row in found) for status in (1, 0, 6)]
        seconds = sorted(row["seconds"] for row in found)
        late = seconds[min(int(0.95 * len(seconds)), len(seconds) - 1)]
        kind = f"{len({row['change'] for row in found})} {'break something' if breaks else 'innocent'}"
        other = len(found) - sum(counts)
        shown = " | ".join(map(str, (*counts, other)))
        yield f"| {name} | {kind} | {len(found)} | {shown} | {seconds[len(seconds) // 2]:.0f} | {late:.0f} |"


if __name__ == "__main__":
    main()
