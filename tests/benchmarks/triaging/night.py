"""What a finding costs the supervisor after a night: ten thousand of them against a database with a thousand bugs.

The bugs are the shipped regressions, and small programs that were grown, each with its smallest case; most of them fail
in the same way, a wrong value, which is the hardest case for whoever looks one up. Seven findings in ten are a bug's
smallest program among the calls of a grown network, and the others are a network alone. Each goes through what a
campaign does with a finding, its transaction included: it is recognised, or counted, or stored to be triaged. Nothing
is run. Told are the processor's milliseconds for one, of the first and of the last thousand.
"""

from __future__ import annotations

import argparse
import functools
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.entangle import interleaved

from shakeout.corpus import regressions
from shakeout.corpus.case import Case, InputSet, Setting
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.program import Program
from shakeout.corpus.smallest_cases import SmallestCase
from shakeout.fuzz.campaign.investigation import Investigation
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.ground.signature import signature
from shakeout.fuzz.triage.bug_signature import signature_of
from shakeout.fuzz.workers.pool import WorkerPool
from shakeout.oracles.verdict import Outcome, Verdict

#: Of a night: a campaign on two cores shows some hundred signatures in minutes.
BUGS, FINDINGS = 1_000, 10_000

#: Share of the findings that show one of the bugs.
SHOWN = 0.7

#: Networks in which they are hidden; each finding has values of its own.
NETWORKS = 200

TARGETS = ("inductor", "aot_eager", "export", "onnxruntime", "tvm")

SEED = 20_261

#: What an oracle of dtypes says; the others need nothing of it.
_EVIDENCE = {"expected": "torch.float32", "found": "torch.float64"}


@dataclass(frozen=True, slots=True)
class Bug:
    """A smallest case and how it fails."""

    case: Case
    oracle: str
    symptom: str
    culprit: str = ""

    def failing(self, case: Case) -> Result:
        """A case that holds the smallest one, as a worker would tell of it."""
        evidence = {"template": self.culprit, "frames": []} if self.oracle == "exception" else _EVIDENCE
        message = f"{self.symptom}: {self.culprit}" if self.culprit else f"output 0: {self.symptom}"
        verdict = Verdict(self.oracle, Outcome.FAIL, self.symptom, message, "output 0", evidence)
        return Result(
            case.id,
            case.setting.target,
            "failed" if self.oracle == "exception" else "compared",
            (verdict,),
            operators=tuple(case.program.operators()),
            signature=" | ".join([signature(case, verdict, None), *filter(None, [self.culprit])]),
        )


@functools.cache
def _records() -> Any:
    from shakeout.generators.vocabularies.torch import load_records

    return load_records()


def grown(operators: int, seed: int) -> tuple[Program, InputSet] | None:
    """A program of so many operators with its inputs; None if it returns nothing."""
    from shakeout.generators.choices import SeededChoices
    from shakeout.generators.network import grow
    from shakeout.generators.recipe import Recipe

    recipe = Recipe(style="network", operators=operators, mode="inference", dynamic=False, repeat=False)
    made = grow(SeededChoices(seed), recipe, _records())
    return (made.program, made.input_sets[0]) if made.program.returns else None


def bugs() -> list[Bug]:
    """A thousand bugs, no two with one case."""
    shipped = [
        Bug(one.case, one.failure["oracle"], one.failure["symptom"], one.failure.get("culprit", ""))
        for one in regressions.load_all()
        if one.case.program.returns and one.case.program.vocabulary == "torch" and not one.case.program.around
    ]
    found = {bug.case.id: bug for bug in shipped}
    seed = 0
    while len(found) < BUGS:
        seed += 1
        if (made := grown(1 + seed % 2, SEED + seed)) is not None:
            case = Case(made[0], (made[1],), Setting(TARGETS[seed % len(TARGETS)], (), "inference"))
            found.setdefault(case.id, Bug(case, "value", "wrong value"))
    return list(found.values())[:BUGS]


def stored(database: Database, bug: Bug, number: int) -> None:
    """Store a bug as a campaign does that has confirmed and reduced it."""
    result = bug.failing(bug.case)
    row, _ = database.add_finding(
        signature=f"{result.signature} | {number}",
        title=f"{result.target}: {bug.symptom}",
        target=result.target,
        oracle=bug.oracle,
        symptom=bug.symptom,
        job=number,
        case_id=bug.case.id,
        case_json=bug.case.text,
        result=result.to_json(),
        state="confirmed",
    )
    fine = signature_of(bug.case, result)
    small = SmallestCase(row.id, "complete", bug.case.text, result.to_json(), {} if fine is None else fine.to_json())
    database.set_smallest(small)


def findings(known: Sequence[Bug], networks: Sequence[tuple[Program, InputSet]]) -> Iterator[tuple[Case, Result]]:
    """Findings without end, most of which show one of the bugs."""
    draw = random.Random(SEED)
    while True:
        program, given = draw.choice(networks)
        bug = draw.choice(known)
        if draw.random() < SHOWN:
            case = interleaved(bug.case, program, given)
        else:
            case = Case(program, (given,), bug.case.setting)
        yield case, bug.failing(case)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """The row."""
    known = bugs()
    networks = [made for seed in range(NETWORKS) if (made := grown(6 + seed % 9, seed)) is not None]
    with tempfile.TemporaryDirectory(prefix="shakeout-bench-") as scratch:
        directory = Path(scratch)
        with Database.create(directory / NAME) as database:
            with database.transaction():
                for number, bug in enumerate(known):
                    stored(database, bug, number)
            pool = WorkerPool(directory, TARGETS, 2, tell=lambda event: None)
            began = time.process_time()
            investigation = Investigation(database, directory, pool, lambda event: None, memory=4 << 30)
            loaded = time.process_time() - began
            each = []
            for number, (case, result) in zip(range(BUGS, BUGS + FINDINGS), findings(known, networks), strict=False):
                each.append(_costs(database, investigation.found, number, case, result))
            listed = len(database.bugs())
            waits = int(database.waiting()) if hasattr(database, "waiting") else database.states().get("new", 0)
            counted = sum(bug.count for bug in database.bugs()) - BUGS
    return {
        "bugs": BUGS,
        "findings": FINDINGS,
        "load_s": round(loaded, 2),
        **{f"{part}_ms": told_of(costs) for part, costs in (("first", each[:1000]), ("last", each[-1000:]))},
        "counted": counted,
        "new bugs": listed - BUGS,
        "waiting": waits,
    }


def _costs(database: Database, found: Callable[..., None], number: int, case: Case, result: Result) -> float:
    job = Grow(number=number, target=result.target, seed=number)
    text = case.text
    began = time.process_time()
    with database.transaction():
        found(job, result, text, "", ())
    return 1000 * (time.process_time() - began)


def told_of(costs: Sequence[float]) -> dict[str, float]:
    """Milliseconds: of the median, of one in a hundred, and of the worst."""
    ordered = sorted(costs)
    places = {"median": len(ordered) // 2, "99 %": len(ordered) * 99 // 100, "most": len(ordered) - 1}
    return {name: round(ordered[place], 2) for name, place in places.items()}


def measure(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The row, if there is none."""
    if not rows:
        yield measured(options)


def told(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What one finding costs."""
    for row in rows:
        yield f"{row['findings']} findings, {row['bugs']} bugs, which take {row['load_s']} s to load"
        for part in ("first", "last"):
            costs = ", ".join(f"{name} {cost}" for name, cost in row[f"{part}_ms"].items())
            yield f"milliseconds for one, {part} thousand: {costs}"
        yield f"counted under a bug {row['counted']}, new bugs {row['new bugs']}, waiting {row['waiting']}"
