"""Measures deduplication: findings of planted faults in different networks, minimised, and told apart by signature.

Run it directly: ``python tests/benchmarks/deduplication.py --rows FILE [--findings N] [--target NAME ...]``. Each
planted fault is hidden in several grown networks, one for each seed, in which nothing else is wrong; each is minimised
by real runs of the target. A raw row holds the smallest case and what the oracle said of it. Rows are appended, what is
there is not run again, and the scores are made from rows alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults import FAULTS, Fault, planted
from tests.faults.entangle import hosted

from shakeout.fuzz.execute import execute
from shakeout.fuzz.minimise.executors import in_process
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.fuzz.minimise.search import Budget, minimise


def measure(fault: Fault, seed: int, seconds: float) -> dict[str, Any]:
    """One raw row: the finding of one fault in one network, minimised."""
    row: dict[str, Any] = {"fault": fault.name, "group": fault.group, "target": fault.target, "seed": seed}
    big = hosted(fault, seed)
    with planted(fault):
        before = execute(big)
        if before.failure is None:
            return {**row, "state": "not reproduced"}
        try:
            found = minimise(big, in_process, budget=Budget(seconds, 5000))
        except NotReproduced:
            return {**row, "state": "not reproduced"}
    with planted(fault, fixed=True):
        slipped = execute(found.case).failure is not None
    return {
        **row,
        "state": "slipped" if slipped else "complete" if found.complete else "budget",
        "operators": [len(big.program.calls), len(found.case.program.calls), len(fault.case().program.calls)],
        "tries": found.tries,
        "seconds": round(found.seconds, 1),
        "coarse": before.signature,
        "result": dict(found.outcome.result),
        "case": json.loads(found.case.text),
        "torch": torch.__version__,
        "at": time.strftime("%Y-%m-%d %H:%M"),
    }


def main() -> None:
    """Measure what is not measured yet, and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, help="file of JSON lines that is continued")
    parser.add_argument("--findings", type=int, default=5, help="networks for each fault (default 5)")
    parser.add_argument("--target", action="append", help="only faults of this target; may be repeated")
    parser.add_argument("--seconds", type=float, default=60.0, help="budget for each finding (default 60)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()] if options.rows.exists() else []
    done = {(row["fault"], row["seed"]) for row in rows}
    wanted = [
        (place, fault)
        for place, fault in enumerate(FAULTS)
        if not fault.missed and (not options.target or fault.target in options.target)
    ]
    # One network for every fault before the second one for any: rows that were cut short still say something.
    for number in range(options.findings):
        for place, fault in wanted:
            seed = 100 * number + place
            if (fault.name, seed) in done:
                continue
            try:
                row = measure(fault, seed, options.seconds)
            except AssertionError as error:
                row = {"fault": fault.name, "group": fault.group, "target": fault.target, "seed": seed}
                row |= {"state": "no network", "why": str(error)[:200]}
            rows.append(row)
            with options.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{len(rows)} {row['fault']} {seed} {row['state']} {row.get('seconds', '')}", flush=True)


if __name__ == "__main__":
    main()
