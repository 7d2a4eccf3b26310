"""Measures deduplication: findings of planted faults in different networks, minimised, and told apart by signature.

Run it directly: ``python tests/benchmarks/deduplication.py --rows FILE [--findings N] [--target NAME ...]``. Each
planted fault is hidden in several grown networks, one for each seed, in which nothing else is wrong; each is minimised
by real runs of the target. A raw row holds the smallest case and what the oracle said of it. Rows are appended, what is
there is not run again, and the scores are made from rows alone. ``--again`` runs the smallest cases once more under
their faults, so that a change of an oracle or of the signature is measured without minimising; ``--summary FILE``
writes the rows without their cases.

Scores are pairwise: of all pairs of findings with one signature, the share that is of one fault (precision); of all
pairs of one fault, the share with one signature (recall). An unclassified finding is alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults import FAULTS, Fault, planted
from tests.faults.entangle import hosted

from shakeout.corpus import codec
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.minimise.executors import in_process
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.fuzz.minimise.search import Budget, minimise
from shakeout.fuzz.running.execute import execute
from shakeout.fuzz.triage.bug_signature import signature_of
from shakeout.fuzz.triage.scaling import growth
from shakeout.targets.shortcuts import ALWAYS, install_exporter


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
        larger = growth(found.case, found.failure, in_process)
    with planted(fault, fixed=True):
        slipped = execute(found.case).failure is not None
    return {
        **row,
        "state": "slipped" if slipped else "complete" if found.complete else "budget",
        "operators": [len(big.program.calls), len(found.case.program.calls), len(fault.case().program.calls)],
        "tries": found.tries,
        "seconds": round(found.seconds, 1),
        "coarse": before.signature,
        "result": None if found.outcome.result is None else found.outcome.result.to_json(),
        "growth": larger,
        "case": json.loads(found.case.text),
        "torch": torch.__version__,
        "at": time.strftime("%Y-%m-%d %H:%M"),
    }


def again(row: dict[str, Any], faults: dict[str, Fault]) -> dict[str, Any]:
    """The row with what the smallest case shows now; ``stale`` if it does not fail any more."""
    if "case" not in row or row["fault"] not in faults:
        return row
    case = codec.from_json(row["case"])
    with planted(faults[row["fault"]]):
        result = execute(case)
        failure = failure_of(result)
        if failure is None:
            return {**row, "state": "stale"}
        larger = growth(case, failure, in_process)
    now = {"torch": torch.__version__, "at": time.strftime("%Y-%m-%d %H:%M")}
    return {**row, "result": result.to_json(), "growth": larger, **now}


def signature(row: dict[str, Any]) -> str | None:
    """The signature of a row's smallest case; None if it is unclassified."""
    found = signature_of(codec.from_json(row["case"]), Result.from_json(row["result"]), row.get("growth", ""))
    return None if found is None else found.text


Pairs = tuple[int, int, int]


def pairs(rows: Sequence[dict[str, Any]], names: Sequence[str | None]) -> Pairs:
    """Pairs of one fault and one name, of one name only, of one fault only."""
    both = name_only = fault_only = 0
    for (a, x), (b, y) in itertools.combinations(zip(rows, names, strict=True), 2):
        same, named = a["fault"] == b["fault"], x is not None and x == y
        both += same and named
        name_only += named and not same
        fault_only += same and not named
    return both, name_only, fault_only


def told(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The scores, and what is mixed up or split."""
    states = Counter(row["state"] for row in rows)
    yield f"{len(rows)} findings: " + ", ".join(f"{count} {state}" for state, count in states.most_common())
    made = [row for row in rows if "operators" in row]
    if made:
        slipped = sum(row["state"] == "slipped" for row in made)
        before, after, best = (statistics.median(row["operators"][place] for row in made) for place in range(3))
        optimal = sum(row["operators"][1] <= row["operators"][2] for row in made)
        tries, seconds = (statistics.median(row[key] for row in made) for key in ("tries", "seconds"))
        yield (
            f"minimised: {len(made)}, slipped to another failure: {slipped}; medians: operators {before:g} -> {after:g}"
            f" (the fault's own program: {best:g}), runs of candidates {tries:g}, seconds {seconds:g}; no larger than"
            f" the fault's own program: {optimal}"
        )
    rows = [row for row in rows if row["state"] in ("complete", "budget")]
    names = [signature(row) for row in rows]
    parts = {
        "all": [True] * len(rows),
        "without the grid of one operator": [row["group"] != "grid" for row in rows],
        "the grid alone": [row["group"] == "grid" for row in rows],
    }
    for part, chosen in parts.items():
        for kind, of in (("smallest", names), ("coarse", [row["coarse"] for row in rows])):
            some = [row for row, there in zip(rows, chosen, strict=True) if there]
            both, name_only, fault_only = pairs(some, [n for n, there in zip(of, chosen, strict=True) if there])
            precision, recall = both / max(both + name_only, 1), both / max(both + fault_only, 1)
            figures = f"precision {precision:.3f} ({both} of {both + name_only})"
            figures += f", recall {recall:.3f} ({both} of {both + fault_only})"
            yield f"{part}, {len(some)} findings, {kind} signature: {figures}"
    by_name: dict[str | None, Counter[str]] = {}
    by_fault: dict[str, Counter[str | None]] = {}
    for row, name in zip(rows, names, strict=True):
        by_name.setdefault(name, Counter())[row["fault"]] += 1
        by_fault.setdefault(row["fault"], Counter())[name] += 1
    for name, faults in by_name.items():
        if name is not None and len(faults) > 1:
            yield f"mixed up: {name}: " + "; ".join(f"{count} {fault}" for fault, count in faults.most_common())
    for fault, signatures in by_fault.items():
        if len(signatures) > 1:
            yield f"split: {fault}: " + "; ".join(f"{count} {name}" for name, count in signatures.most_common())


def main() -> None:
    """Measure what is not measured yet, and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, help="file of JSON lines that is continued")
    parser.add_argument("--findings", type=int, default=5, help="networks for each fault (default 5)")
    parser.add_argument("--target", action="append", help="only faults of this target; may be repeated")
    parser.add_argument("--seconds", type=float, default=60.0, help="budget for each finding (default 60)")
    parser.add_argument("--scores", action="store_true", help="only print the scores of the rows")
    parser.add_argument("--again", action="store_true", help="run the smallest cases once more, and nothing else")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the rows there, without their cases")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()] if options.rows.exists() else []
    if options.again:
        faults = {fault.name: fault for fault in FAULTS}
        rows = [again(row, faults) for row in rows]
        draft = options.rows.with_suffix(".new")
        draft.write_text("".join(json.dumps(row) + "\n" for row in rows))
        draft.replace(options.rows)
    elif not options.scores:
        extend(rows, options)
    if options.summary is not None:
        kept = ("fault", "group", "target", "seed", "state", "operators", "tries", "seconds", "torch", "at")
        small = [
            {key: row[key] for key in kept if key in row} | ({"signature": signature(row)} if "case" in row else {})
            for row in rows
        ]
        options.summary.write_text("".join(json.dumps(row) + "\n" for row in small))
    print("\n".join(told(rows)))


def extend(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Measure what is not measured yet; each row is appended as it is there."""
    done = {(row["fault"], row["seed"]) for row in rows}
    wanted = [
        (place, fault)
        for place, fault in enumerate(FAULTS)
        if not fault.missed and (not options.target or fault.target in options.target)
    ]
    if any(fault.target == "onnxruntime" for _, fault in wanted):
        install_exporter(ALWAYS)  # as in a worker
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
