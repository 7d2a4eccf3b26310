"""Measures detection: each planted fault's minimal case with the fault active, judged by our oracles and by others'.

Run it directly: ``python tests/benchmarks/detection.py [--rows FILE] [--target NAME ...]``. The other policies see the
very observations that our oracles saw. With ``--rows`` each result is appended to a file of JSON lines, and what is
there already is not run again.

``--campaign N`` asks what a campaign would find of them: N cases, grown as a campaign's are, run on each target while
the canaries of all its faults listen and no fault has an effect. A case that triggers a fault then runs with that fault
alone, and counts as detected if it fails, which it does not without. Each fault that is not detected has an owner: the
generator (its code was never reached), the values (reached, and never anything else came out), or the oracles.
``--minutes`` ends it, and ``--workers`` runs so many processes at a time.

``--errors`` asks how small an error is still seen: one element of a float32 product is wrong by a factor, among few
elements and among a million, in an output, a gradient, or what is left in an input, and the same policies judge.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import signal
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults import FAULTS, Fault, listening, planted
from tests.faults.fault import inputs
from tests.faults.graphs import Graph, Site, backward

from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View
from shakeout.corpus.observation import Observation
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
from shakeout.corpus.support import declined
from shakeout.fuzz.campaign import schedule
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.running import compose, leaks, runs
from shakeout.fuzz.running.execute import execute
from shakeout.oracles.verdict import Outcome

#: Cases of one child in a campaign.
BATCH = 10

#: Seconds after which a case counts as hung, and its process ends.
PATIENCE = 240

#: With how many of the cases that trigger a fault it is planted.
TRIALS = 3

#: Of every measured campaign.
SEED = 20_252

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


def measure(fault: Fault, case: Case | None = None) -> dict[str, Any]:
    """One row: who saw the fault, in its minimal case or in another one."""
    seen: dict[str, Observation] = {}
    observe = runs.observe

    def recorded(namespace: dict[str, Any], source: str | None = None, **more: Any) -> Observation:
        found = observe(namespace, source, **more)
        if not more.get("prepare"):
            seen.setdefault("reference" if source is None else "subject", found)
        return found

    with planted(fault) as canary, mock.patch.object(runs, "observe", recorded):
        result = execute(fault.case() if case is None else case)
    row: dict[str, Any] = {"name": fault.name, "kind": fault.kind, "group": fault.group, "target": fault.target}
    row |= {"source": fault.source, "reached": canary.reached > 0, "triggered": canary.triggered > 0}
    failure = result.failure
    row |= {"status": result.status, "oracle": failure.oracle if failure else "", "shakeout": failure is not None}
    raised = seen["subject"].error is not None
    compared = [] if raised else list(pairs(seen["reference"], seen["subject"]))
    for name, agrees in POLICIES.items():
        row[name] = raised or not all(agrees(a, b) for a, b in compared)
    return row


#: By how much, relatively, a lone element is wrong, and among how many.
ERRORS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
SIZES = (100, 1_000_000)

#: Where a lone element is wrong: in a result, in one of whole numbers, in a gradient, in what is left in an input.
PLACES = ("output", "whole numbers", "gradient", "input")


def lone(place: str, error: float) -> Fault:
    """A product of which the last element is wrong by a factor."""

    def wrong(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        right = op(*args, **kwargs)
        right.view(-1)[-1] *= 1 + error
        return right

    anywhere = (backward,) if place == "gradient" else ()
    plant = Graph((torch.ops.aten.mul.Tensor,), wrong, *anywhere)
    one = inputs(torch.ones(1))
    return Fault(f"one of {place} wrong by {error:g}", "mutant", "grid", "aot_eager", plant, torch.square, (one,))


def products(place: str, count: int) -> Case:
    """So many products of two numbers between 1/2 and 1, or of whole numbers, where only the place shows them."""
    type_, made = TensorType("float32", (count,)), place == "input"
    product = Call("torch.Tensor.mul_" if made else "torch.mul", (Ref(0), Ref(1)), (), (type_,))
    calls = (Call("torch.neg", (Ref(0),), (), (type_,)), product) if made else (product,)
    program = Program((Input(type_), Input(type_)), calls, (2,))
    whole = place == "whole numbers"
    storages = [
        Storage("float32", count, Values("integers", seed, 1, 9) if whole else Values("uniform", seed, 0.5, 1.0))
        for seed in (1, 2)
    ]
    trained = place == "gradient"
    views = tuple([View(i, "float32", (count,), (1,), requires_grad=trained) for i in range(2)])
    return Case(
        program, (InputSet(tuple(storages), views),), Setting("aot_eager", (), "training" if trained else "inference")
    )


def seen(rows: Sequence[dict[str, Any]]) -> str:
    """Which errors each policy saw, and how many in all."""
    policies = ("shakeout", *POLICIES)
    lines = [f"{'place':<16}{'elements':>9}{'error':>8}" + "".join(f"{name:>18}" for name in policies)]
    for row in rows:
        words = ("seen" if row[name] else "-" for name in policies)
        told = "".join(f"{word:>18}" for word in words)
        lines.append(f"{row['place']:<16}{row['elements']:>9}{row['error']:>8g}{told}")
    counts = "".join(f"{sum(row[name] for row in rows):>18}" for name in policies)
    return "\n".join([*lines, f"{'all':<16}{len(rows):>9}{'':>8}{counts}"])


class Child:
    """A process that runs some cases of a campaign, so that a crash costs the rest of its batch and is told."""

    def __init__(self, target: str, indices: Sequence[int], tried: Mapping[str, int]) -> None:
        self.target, self.indices = target, indices
        reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reading)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            with os.fdopen(writing, "w", buffering=1) as out:
                counts = dict(tried)
                for index in indices:
                    signal.alarm(PATIENCE)
                    out.write(json.dumps(heard(target, index, counts)) + "\n")
            os._exit(0)
        os.close(writing)
        self._lines = os.fdopen(reading)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each case: what it reached and triggered, and what of that was detected. Waits for the process."""
        with self._lines as lines:
            found = [json.loads(line) for line in lines if line.endswith("\n")]
        if os.waitpid(self._pid, 0)[1] != 0 and len(found) < len(self.indices):
            found.append({"campaign": self.target, "index": self.indices[len(found)], "status": "process died"})
        return found


def campaign(
    target: str, cases: int, rows: Sequence[dict[str, Any]], workers: int = 1, seconds: float = math.inf
) -> Iterator[list[dict[str, Any]]]:
    """Rows of the cases that have none yet, a batch at a time; no batch begins after so many seconds."""
    mine = [row for row in rows if row["campaign"] == target]
    tried = Counter(name for row in mine for name in row.get("tried", ()))
    done = {row["index"] for row in mine}
    missing = [index for index in range(cases) if index not in done]
    waiting = deque(missing[at : at + BATCH] for at in range(0, len(missing), BATCH))
    running: deque[Child] = deque()
    until = time.monotonic() + seconds
    while True:
        while waiting and len(running) < workers and time.monotonic() < until:
            running.append(Child(target, waiting.popleft(), tried))
        if not running:
            return
        child = running.popleft()
        found = child.rows()
        if rest := child.indices[len(found) :]:
            waiting.appendleft(rest)
        tried.update(name for row in found for name in row.get("tried", ()))
        yield found


def heard(target: str, index: int, tried: dict[str, int]) -> dict[str, Any]:
    """One case of a campaign: first while all canaries listen, then with each fault that it triggers."""
    # Those that were tried often enough need not be heard any more.
    faults = [fault for fault in FAULTS if fault.target == target and tried.get(fault.name, 0) < TRIALS]
    row: dict[str, Any] = {"campaign": target, "index": index}
    try:
        job = schedule.job(Config(targets=(target,), seed=SEED, seconds=None), index)
        torch.manual_seed(job.seed & 0x7FFFFFFFFFFFFFFF)
        made = compose.compose(job).case
        with listening(faults) as canaries:
            plain = execute(made, explain=False)
        row |= {"status": plain.status, "outcome": str(plain.outcome)}
        row["reached"] = sorted(name for name, canary in canaries.items() if canary.reached)
        row["triggered"] = sorted(name for name, canary in canaries.items() if canary.triggered)
        row["tried"] = row["detected"] = []
        if plain.outcome is Outcome.PASS:
            chosen = [one for one in faults if one.name in row["triggered"]]
            row |= trials(made, chosen)
            for fault in chosen:
                tried[fault.name] = tried.get(fault.name, 0) + 1
    except Exception as error:
        row["status"] = f"internal: {type(error).__name__}: {error}"[:200]
    return row


def trials(case: Case, faults: Sequence[Fault]) -> dict[str, list[str]]:
    """Which faults were planted while a case ran, and with which of them it failed."""
    detected = []
    for fault in faults:
        with planted(fault):
            if execute(replace(case), explain=False).outcome is Outcome.FAIL:
                detected.append(fault.name)
    return {"tried": [fault.name for fault in faults], "detected": detected}


def owner(fault: Fault, rows: Sequence[dict[str, Any]]) -> str:
    """Who missed a fault in a campaign; ``detected`` if nobody did."""
    mine = [row for row in rows if row["campaign"] == fault.target]
    for what in ("detected", "tried", "triggered", "reached"):
        if any(fault.name in row.get(what, ()) for row in mine):
            return {"detected": "detected", "tried": "oracles", "triggered": "not tried", "reached": "values"}[what]
    return "generator"


def owners(rows: Sequence[dict[str, Any]]) -> str:
    """How many faults of each target were detected in its campaign, and who owns the others."""
    columns = ("detected", "oracles", "not tried", "values", "generator")
    lines = [f"{'campaign':<16}{'cases':>8}{'faults':>8}" + "".join(f"{name:>12}" for name in columns)]
    for target in dict.fromkeys(row["campaign"] for row in rows):
        faults = [fault for fault in FAULTS if fault.target == target]
        found = [owner(fault, rows) for fault in faults]
        cases = sum(row["campaign"] == target for row in rows)
        counts = "".join(f"{found.count(name):>12}" for name in columns)
        lines.append(f"{target:<16}{cases:>8}{len(faults):>8}{counts}")
        missed = [fault.name for fault, who in zip(faults, found, strict=True) if who == "oracles"]
        lines.append(f"{'':<16}missed by the oracles: {', '.join(missed) or 'none'}")
    return "\n".join(lines)


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
    parser.add_argument("--campaign", type=int, metavar="N", help="N grown cases for each target instead")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end each target's campaign after so long")
    parser.add_argument("--workers", type=int, default=1, help="processes of a campaign")
    parser.add_argument("--errors", action="store_true", help="how small an error of one element is seen instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = []
    if options.rows is not None and options.rows.exists():
        rows = [json.loads(line) for line in options.rows.read_text().splitlines()]
    if options.errors:
        for place, count, error in itertools.product(PLACES, SIZES, ERRORS):
            key = {"place": place, "elements": count, "error": error}
            if not any(key.items() <= row.items() for row in rows):
                rows.append({**key, **measure(lone(place, error), products(place, count))})
                if options.rows is not None:
                    with options.rows.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
        print(seen(rows))
        return
    if options.campaign is not None:
        compose.prepare(lambda text: None)
        leaks.look()
        for target in options.target or dict.fromkeys(fault.target for fault in FAULTS):
            declined(target)
            for found in campaign(target, options.campaign, rows, options.workers, 60 * options.minutes):
                rows.extend(found)
                if options.rows is not None:
                    with options.rows.open("a") as file:
                        file.writelines(json.dumps(row) + "\n" for row in found)
        print(owners(rows))
        return
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
