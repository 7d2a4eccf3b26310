"""Measures what is handed over: modules and blocks on compilers, and a culprit in one block of a large model.

    python tests/benchmarks/intake.py --rows FILE [--target NAME ...] [--limit N] [--shard I/N]
    python tests/benchmarks/intake.py --rows FILE --culprit [--seconds N]
    python tests/benchmarks/intake.py --rows FILE --culprit --store DIR

The modules and blocks are those of ``tests/slow/test_intake_modules.py``. That each case is the module bit for bit, in
eager mode, is proven by the capture, or the row says why it was refused; on compilers the row tells what differs. The
culprits are a planted one of graph capture and a public bug of Inductor's (pytorch/pytorch#195320), each in one block
of a model of more than 150 operators, shrunk by one process; with ``--store`` the second is written as a case instead,
for ``shakeout minimise``. Rows are appended to the file, and what is there already is not run again; with ``--shard``
one of every N rows is, so that several processes measure side by side, each into a file of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults import Fault, planted
from tests.faults.fault import inputs, numbers
from tests.faults.graphs import Graph, instead
from tests.quality.reports.attention_permuted_key import Attention
from tests.slow.test_intake_modules import BLOCKS, MODULES

from shakeout.corpus.case import Case, Mode, Setting
from shakeout.corpus.intake.capturing import capture
from shakeout.corpus.intake.refusal import NotCaptured
from shakeout.fuzz.minimise.executors import in_process
from shakeout.fuzz.minimise.order import elements
from shakeout.fuzz.minimise.search import Budget, minimise
from shakeout.fuzz.running.execute import execute

CULPRITS = ("aot_eager", "inductor")
MODES: tuple[Mode, ...] = ("inference", "training")


def modules(targets: Sequence[str]) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """What is to be measured, by key."""
    for target in targets:
        for name, make in {**MODULES, **BLOCKS}.items():
            for mode in MODES:

                def row(make: Any = make, target: str = target, mode: Mode = mode) -> dict[str, Any]:
                    return module(make, target, mode)

                yield f"{name} {mode} {target}", row


def module(make: Callable[[], Any], target: str, mode: Mode) -> dict[str, Any]:
    """One module on one target."""
    torch.manual_seed(0)
    made, args = make()
    made.train(mode == "training")
    began = time.monotonic()
    try:
        case = capture(made, args, setting=Setting(target), mode=mode).case
    except NotCaptured as error:
        return {"status": "refused", "why": str(error)}
    captured = time.monotonic() - began
    result = execute(case, explain=False)
    failing = result.failure
    return {
        "operators": len(case.program.operators()),
        "status": result.status,
        "outcome": str(result.outcome),
        "why": result.reason or (f"{failing.oracle}: {failing.symptom}: {failing.message[:200]}" if failing else ""),
        "capture": round(captured, 1),
        "seconds": round(time.monotonic() - began - captured, 1),
    }


class Gate(nn.Module):
    """A block with an operator that the others do not have."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.outer(F.hardswish(self.inner(x)) * torch.sigmoid(x))


class Residual(nn.Module):
    """A block that adds to what it is given, so that what went wrong before it is still seen behind it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(F.gelu(self.norm(self.inner(x))))


def large(block: nn.Module, width: int) -> nn.Module:
    """A model of more than 150 operators, with a block in the middle."""
    layers = [Residual(width) for _ in range(32)]
    return nn.Sequential(*layers[:16], block, *layers[16:])


WRONG = Fault(
    "hardswish is silu",
    "trivial",
    "arithmetic rewrite",
    "aot_eager",
    Graph((torch.ops.aten.hardswish,), instead(torch.ops.aten.silu)),
    F.hardswish,
    (inputs(numbers(3)),),
)


def model_with_culprit(target: str, directory: Path | None = None) -> Case:
    """A large model with a culprit in one block."""
    torch.manual_seed(0)
    if target == "aot_eager":
        model, given = large(Gate(8), 8), torch.randn(4, 8)
    else:
        model, given = large(Attention(), 32), torch.randn(2, 4, 32)
    return capture(model.eval(), (given,), setting=Setting(target), mode="inference", directory=directory).case


def culprit(target: str, seconds: float) -> dict[str, Any]:
    """Such a model, shrunk."""
    case = model_with_culprit(target)
    began, first = time.monotonic(), [0.0]

    def tell(event: Any) -> None:
        first[0] = first[0] or time.monotonic() - began

    with planted(WRONG) if target == "aot_eager" else contextlib.nullcontext():
        found = minimise(case, in_process, budget=Budget(seconds, 5000), tell=tell)
    return {
        "failure": str(found.failure),
        "operators": [len(case.program.operators()), len(found.case.program.operators())],
        "smallest": found.case.program.operators(),
        "elements": [elements(case), elements(found.case)],
        "state": "complete" if found.complete else "budget",
        "tries": found.tries,
        "seconds": round(found.seconds, 1),
        "first progress": round(first[0], 1),
    }


def culprits(targets: Sequence[str], seconds: float) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """What is to be shrunk, by key."""
    for target in targets:
        yield f"culprit {target}", functools.partial(culprit, target, seconds)


def main() -> None:
    """Measure what is not in the file yet, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    parser.add_argument("--target", action="append", metavar="NAME", help="default: inductor and export")
    parser.add_argument("--culprit", action="store_true", help="shrink the large models instead")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each of those (default 600)")
    parser.add_argument("--store", type=Path, metavar="DIR", help="write Inductor's as DIR/case.json instead")
    parser.add_argument("--limit", type=int, default=1000, help="rows that are added")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="of every N rows the one with this number")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.store:
        options.store.mkdir(parents=True, exist_ok=True)
        case = model_with_culprit("inductor", options.store)
        (options.store / "case.json").write_text(case.text + "\n", encoding="utf-8")
        return
    lines = options.rows.read_text().splitlines() if options.rows.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {row["key"] for row in rows}
    wanted = modules(options.target or ["export", "inductor"])
    if options.culprit:
        wanted = culprits(options.target or CULPRITS, options.seconds)
    left = options.limit
    shard, shards = map(int, options.shard.split("/"))
    for number, (key, row) in enumerate(wanted):
        if number % shards != shard:
            continue
        if key in done or not left:
            continue
        left -= 1
        rows.append({"key": key, **row(), "torch": torch.__version__, "at": time.strftime("%Y-%m-%d %H:%M")})
        with options.rows.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print({name: value for name, value in rows[-1].items() if name not in ("torch", "at")}, flush=True)
    told = Counter((row["key"].split()[-1], row["status"], row.get("outcome", "")) for row in rows if "status" in row)
    for (target, status, outcome), count in sorted(told.items()):
        print(f"{target}: {count} {status} {outcome}")


if __name__ == "__main__":
    main()
