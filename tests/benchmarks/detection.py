"""Measures detection: each planted fault's minimal case with the fault active, judged by our oracles and by others'.

Run it directly: ``python tests/benchmarks/detection.py [--rows FILE] [--target NAME ...]``. The other policies see the
very observations that our oracles saw. With ``--rows`` each result is appended to a file of JSON lines, and what is
there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults import FAULTS, Fault, planted

from shakeout.corpus.observation import Observation
from shakeout.fuzz import runs
from shakeout.fuzz.execute import execute

Pair = tuple[torch.Tensor, torch.Tensor]


def pairs(want: Observation, got: Observation) -> Iterator[Pair]:
    """Outputs and gradients that both runs have, in one dtype; the others' policies look at nothing else."""
    for a, b in zip(want.calls, got.calls, strict=False):
        for part in ("output", "gradient"):
            for x, y in zip(a[part], b[part], strict=False):
                if x is not None and y is not None:
                    yield x, y


def fixed(want: torch.Tensor, got: torch.Tensor) -> bool:
    """One tolerance for everything."""
    if want.shape != got.shape:
        return False
    wide = torch.complex128 if want.is_complex() else torch.float64
    return torch.allclose(got.to(wide), want.to(wide), rtol=1e-2, atol=1e-3, equal_nan=True)


def same(want: torch.Tensor, got: torch.Tensor) -> bool:
    """What TorchDynamo's own accuracy check does by default."""
    from torch._dynamo.utils import same as agree

    return bool(agree(want, got))


def total(want: torch.Tensor, got: torch.Tensor) -> bool:
    """The sums of all elements are within 5 %."""
    a, b = (float(t.to(torch.complex128 if t.is_complex() else torch.float64).sum().abs()) for t in (want, got))
    return a == b or (a != a and b != b) or abs(a - b) <= 0.05 * max(a, b)


POLICIES: dict[str, Callable[[torch.Tensor, torch.Tensor], bool]] = {
    "fixed 1e-2/1e-3": fixed,
    "dynamo same": same,
    "sum within 5 %": total,
}


def measure(fault: Fault) -> dict[str, Any]:
    """One row: who saw the fault."""
    seen: dict[str, Observation] = {}
    observe = runs.observe

    def recorded(namespace: dict[str, Any], source: str | None = None, **more: Any) -> Observation:
        found = observe(namespace, source, **more)
        if not more.get("prepare"):
            seen.setdefault("reference" if source is None else "subject", found)
        return found

    with planted(fault) as canary, mock.patch.object(runs, "observe", recorded):
        result = execute(fault.case())
    row: dict[str, Any] = {"name": fault.name, "kind": fault.kind, "group": fault.group, "target": fault.target}
    row |= {"source": fault.source, "reached": canary.reached > 0, "triggered": canary.triggered > 0}
    failure = result.failure
    row |= {"status": result.status, "oracle": failure.oracle if failure else "", "shakeout": failure is not None}
    raised = seen["subject"].error is not None
    compared = [] if raised else list(pairs(seen["reference"], seen["subject"]))
    for name, agrees in POLICIES.items():
        row[name] = raised or not all(agrees(a, b) for a, b in compared)
    return row


def table(rows: list[dict[str, Any]], by: str) -> str:
    """How many faults of each class each policy saw."""
    columns = ["triggered", "shakeout", *POLICIES]
    lines = [f"{by:<24}{'faults':>8}" + "".join(f"{name:>18}" for name in columns)]
    classes = sorted({row[by] for row in rows})
    for name in [*classes, "all"]:
        chosen = [row for row in rows if name in (row[by], "all")]
        counts = "".join(f"{sum(row[column] for row in chosen):>18}" for column in columns)
        lines.append(f"{name:<24}{len(chosen):>8}{counts}")
    return "\n".join(lines)


def main() -> None:
    """Measure what is not measured yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="file of JSON lines that is continued")
    parser.add_argument("--target", action="append")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = []
    if options.rows is not None and options.rows.exists():
        rows = [json.loads(line) for line in options.rows.read_text().splitlines()]
    done = {row["name"] for row in rows}
    for fault in FAULTS:
        if fault.name in done or (options.target and fault.target not in options.target):
            continue
        rows.append(measure(fault))
        if options.rows is not None:
            with options.rows.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    for by in ("kind", "target", "group"):
        print(table(rows, by), end="\n\n")
    missed = [row["name"] for row in rows if row["triggered"] and not row["shakeout"]]
    print(f"triggered and not seen: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
