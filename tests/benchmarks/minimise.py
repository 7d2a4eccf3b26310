"""Measures the minimiser: each planted fault in the middle of a larger network, shrunk by real runs of the target.

Run it directly: ``python tests/benchmarks/minimise.py [--target NAME] [--limit N] [--rows FILE]``. A minimised case
must fail while the fault is planted and pass once that fault alone is fixed; one that does not has slipped to another
failure. Raw rows are appended to ``--rows`` as JSON lines, and faults that are there already are not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults import FAULTS, Fault, planted
from tests.faults.entangle import hosted

from shakeout.fuzz.minimise.executors import in_process
from shakeout.fuzz.minimise.order import elements
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.fuzz.minimise.search import Budget, minimise
from shakeout.fuzz.running.execute import execute
from shakeout.targets.shortcuts import ALWAYS, install_exporter


def measure(fault: Fault, seed: int, seconds: float) -> dict[str, Any]:
    """One row: what became of one fault's entangled case."""
    known, big = fault.case(), hosted(fault, seed)
    row: dict[str, Any] = {"fault": fault.name, "group": fault.group, "target": fault.target, "seed": seed}
    with planted(fault):
        try:
            found = minimise(big, in_process, budget=Budget(seconds, 5000))
        except NotReproduced as error:
            return {**row, "state": "not reproduced", "why": str(error)}
    with planted(fault, fixed=True):
        slipped = execute(found.case).failure is not None
    return {
        **row,
        "state": "slipped" if slipped else "complete" if found.complete else "budget",
        "failure": str(found.failure),
        "operators": [len(big.program.calls), len(found.case.program.calls), len(known.program.calls)],
        "elements": [elements(big), elements(found.case), elements(known)],
        "tries": found.tries,
        "seconds": round(found.seconds, 1),
        "others": len(found.others),
        "torch": torch.__version__,
        "at": time.strftime("%Y-%m-%d %H:%M"),
    }


def main() -> None:
    """Print one line for each fault, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="aot_eager")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="budget for each fault")
    parser.add_argument("--rows", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.target == "onnxruntime":
        install_exporter(ALWAYS)  # as workers do
    rows: list[dict[str, Any]] = []
    if options.rows is not None and options.rows.exists():
        rows = [json.loads(line) for line in options.rows.read_text().splitlines()]
    done = {(row["fault"], row["seed"]) for row in rows}
    wanted = [fault for fault in FAULTS if fault.target == options.target and not fault.missed][: options.limit]
    for number, fault in enumerate(wanted):
        if (fault.name, number) in done:
            continue
        row = measure(fault, number, options.seconds)
        rows.append(row)
        if options.rows is not None:
            with options.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print({key: row[key] for key in row if key not in ("torch", "at", "group", "target")}, flush=True)
    shrunk = [row for row in rows if "operators" in row]
    if shrunk:
        near = sum(row["operators"][1] <= row["operators"][2] + 1 for row in shrunk)
        slipped = sum(row["state"] == "slipped" for row in shrunk)
        before, after = (statistics.median(row["operators"][n] for row in shrunk) for n in (0, 1))
        tries, seconds = (statistics.median(row[name] for row in shrunk) for name in ("tries", "seconds"))
        print(
            f"{len(shrunk)} of {len(rows)} reproduced, {near} within one operator of the known optimum, "
            f"{slipped} slipped; medians: operators {before} -> {after}, {tries} tries, {seconds} s"
        )


if __name__ == "__main__":
    main()
