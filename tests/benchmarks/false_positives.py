"""Measures false positives: cases in which target and reference are one implementation in two guises.

Run it directly: ``python tests/benchmarks/false_positives.py [--rows FILE] [--cases N] [--guise NAME ...]``. Cases are
a campaign's, grown from a seed of their own. Children of as many processes as ``--workers`` says run them in batches,
so that a crash costs one case and is told. With ``--rows`` each batch is appended to a file of JSON lines as one row,
findings with all that they say, and a further run goes on behind the last one. How many runs of the reference a verdict
asked for, beside the one that is compared, is counted as well. Zero findings in n cases bound the rate by 3/n at 95 %
(the rule of three); k findings by the upper limit of Clopper and Pearson. What a mode that does nothing has as well is
PyTorch's own: it is told and counted apart, as idle, and no false positive. ``--share`` puts more programs into
regions, and asks more gradients with other cotangents, than a campaign does.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import itertools
import json
import math
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import guises
from tests.benchmarks.apart import Apart, spread

from shakeout.corpus.case import Case
from shakeout.corpus.support import declined
from shakeout.fuzz.campaign import schedule
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.running import compose, leaks
from shakeout.fuzz.running.execute import Shared, execute, related
from shakeout.oracles.metamorphic import Derived
from shakeout.oracles.verdict import REFERENCE, Outcome
from shakeout.targets.registry import target

GUISES = ("eager", "aot_eager", "reordered", "threads")

#: Whose finding is PyTorch's own where another guise, which changes nothing at all, has it as well.
IDLE = {"reordered": "passing"}

#: Cases of one row.
BATCH = 100

#: Seconds after which a job counts as hanging, and its process ends.
LIMIT = 300

#: Of every measurement; no campaign of ours has it.
SEED = 20_251


def bound(hits: int, cases: int, level: float = 0.95) -> float:
    """The largest rate that is not refuted at a level by so many hits in so many cases (Clopper and Pearson)."""
    if hits >= cases:
        return 1.0
    low, high = hits / cases, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if _at_most(hits, cases, middle) > 1 - level:
            low = middle
        else:
            high = middle
    return high


def _at_most(hits: int, cases: int, rate: float) -> float:
    """The probability of at most so many hits."""
    terms = (
        math.lgamma(cases + 1) - math.lgamma(k + 1) - math.lgamma(cases - k + 1)
        + k * math.log(rate) + (cases - k) * math.log1p(-rate)
        for k in range(hits + 1)
    )  # fmt: skip
    return math.fsum(map(math.exp, terms)) if 0 < rate < 1 else float(rate == 0)


@contextlib.contextmanager
def often(share: float | None) -> Iterator[None]:
    """Meanwhile, regions in this share of programs, and other cotangents in this share of cases of training."""
    if share is None:
        yield
        return
    with mock.patch.multiple(compose, REGION_SHARE=share, COTANGENT_SHARE=share):
        yield


def case(name: str, index: int) -> Iterator[dict[str, Any]]:
    """What became of one job, a row for each of its settings and for the case that a metamorphic relation makes."""
    job = schedule.job(Config(targets=(name,), seed=SEED, seconds=None), index)
    torch.manual_seed(job.seed & 0x7FFFFFFFFFFFFFFF)
    made = compose.compose(job)
    shared = Shared(grown=made.reference)
    waiting: list[tuple[Case, Derived | None]] = [
        (replace(made.case, setting=setting), None) for setting in (made.case.setting, *made.further)
    ]
    while waiting:
        one, derived = waiting.pop(0)
        known = set(shared.answers)
        result = execute(one, shared=shared, derived=derived)
        if not waiting and derived is None and (found := related(one, result, shared)) is not None:
            derived, shared = found
            waiting.append((derived.case, derived))
        row: dict[str, Any] = {"status": result.status, "exact": result.exact, "trivial": result.trivial}
        row["regions"] = one.program.structured()
        row["cotangent"] = one.setting.cotangent != "whole"
        row["runs"] = len(shared.answers.keys() - known - {REFERENCE})
        row["verdicts"] = {verdict.oracle: str(verdict.outcome) for verdict in result.verdicts}
        row["doubts"] = [
            f"{verdict.oracle}: {verdict.symptom}"
            for verdict in result.verdicts
            if verdict.outcome is Outcome.UNKNOWN and verdict.symptom != "unsupported"
        ]
        if result.outcome is Outcome.FAIL:
            row["finding"] = {"index": index, "case": one.id, **result.to_json()}
            row["finding"]["idle"] = name in IDLE and idle(one, result)
        yield row


def idle(one: Case, result: Result) -> bool:
    """Whether the guise that changes nothing fails by the same oracles, and in the same places."""
    other = execute(replace(one, setting=replace(one.setting, target=IDLE[one.setting.target])), explain=False)
    mine, theirs = (
        {(verdict.oracle, verdict.place) for verdict in each.verdicts if verdict.outcome is Outcome.FAIL}
        for each in (result, other)
    )
    return mine <= theirs


def told(name: str, index: int) -> list[dict[str, Any]]:
    """The rows of one job, or that it could not be run."""
    signal.alarm(LIMIT)
    try:
        return list(case(name, index))
    except Exception as error:
        return [{"status": "internal", "doubts": [f"{type(error).__name__}: {error}"]}]
    finally:
        signal.alarm(0)


def batch(apart: Apart, name: str, first: int, last: int, share: float | None = None) -> dict[str, Any]:
    """One row: what became of the cases ``first`` to ``last``, which is not among them."""
    began = time.monotonic()
    statuses: Counter[str] = Counter()
    doubts: Counter[str] = Counter()
    runs: Counter[int] = Counter()
    oracles: dict[str, Counter[str]] = {}
    findings = []
    trivial = exact = regions = cotangents = 0
    for index in range(first, last):
        if (found := apart((name, index))) is None:
            found = [{"status": "process died", "doubts": [], "finding": {"index": index, "status": "process died"}}]
        for row in found:
            statuses[row["status"]] += 1
            doubts.update(row["doubts"])
            runs[row.get("runs", 0)] += 1
            trivial += row.get("trivial", False)
            exact += row.get("exact", False)
            regions += row.get("regions", False)
            cotangents += row.get("cotangent", False)
            for oracle, outcome in row.get("verdicts", {}).items():
                oracles.setdefault(oracle, Counter())[outcome] += 1
            if "finding" in row:
                findings.append(row["finding"])
    return {
        "guise": name,
        "first": first,
        "cases": statuses.total(),
        "status": dict(statuses),
        "exact": exact,
        "trivial": trivial,
        "share": share,
        "regions": regions,
        "cotangents": cotangents,
        "oracles": {oracle: dict(counts) for oracle, counts in oracles.items()},
        "doubts": dict(doubts),
        "runs": {str(number): cases for number, cases in sorted(runs.items())},
        "findings": findings,
        "seconds": round(time.monotonic() - began, 2),
        "commit": commit(),
        "torch": torch.__version__,
    }


def _worker() -> Callable[[Sequence[Any]], dict[str, Any]]:
    apart = Apart(lambda item: told(*item))
    return lambda job: batch(apart, *job)


@functools.cache
def commit() -> str:
    """What is measured."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return told.stdout.strip() or "unknown"


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Judged cases, findings and the bound on their rate, by guise and oracle; what is PyTorch's own stands apart."""
    yield f"{'guise':<12}{'oracle':<14}{'judged':>8}{'doubt':>8}{'idle':>6}{'findings':>10}{'rate below (95 %)':>20}"

    def line(*first: str, judged: int, doubt: int | str, idle: int, hits: int) -> str:
        rate = bound(hits, judged) if judged else 1.0
        return f"{first[0]:<12}{first[1]:<14}{judged:>8}{doubt:>8}{idle:>6}{hits:>10}{rate:>20.2e}"

    for name in dict.fromkeys(row["guise"] for row in rows):
        mine = [row for row in rows if row["guise"] == name]
        total: dict[str, Counter[str]] = {}
        for row in mine:
            for oracle, counts in row["oracles"].items():
                total.setdefault(oracle, Counter()).update(counts)
        own = [finding for row in mine for finding in row["findings"] if finding.get("idle")]
        theirs = Counter(one["oracle"] for finding in own for one in finding["verdicts"] if one["outcome"] == "fail")
        for oracle, outcomes in total.items():
            hits = outcomes["fail"] - theirs[oracle]
            yield line(name, oracle, judged=outcomes.total(), doubt=outcomes["unknown"], idle=theirs[oracle], hits=hits)
        statuses: Counter[str] = Counter()
        for row in mine:
            statuses.update(row["status"])
        hits = sum(len(row["findings"]) for row in mine) - len(own)
        cases = statuses["compared"] + statuses["failed"]
        yield line(name, "all", judged=cases, doubt="", idle=len(own), hits=hits)
        told = ", ".join(f"{status} {count}" for status, count in statuses.most_common())
        yield f"{'':<12}{told}; bit-exact {sum(row['exact'] for row in mine)}"
        runs: Counter[int] = Counter()
        for row in mine:
            runs.update({int(number): cases for number, cases in row.get("runs", {}).items()})
        told = ", ".join(f"{cases} cases {number}" for number, cases in sorted(runs.items()))
        yield f"{'':<12}further runs of the reference: {told or 'not counted'}"


def main() -> None:
    """Run what is missing, and print the table and every finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="file of JSON lines that is continued")
    parser.add_argument("--cases", type=int, default=200, help="of each guise")
    parser.add_argument("--guise", action="append", choices=GUISES)
    parser.add_argument("--share", type=float, help="of regions and other cotangents; a campaign's otherwise")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no batch after them")
    options = parser.parse_args()
    began = time.monotonic()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = []
    if options.rows is not None and options.rows.exists():
        rows = [json.loads(line) for line in options.rows.read_text().splitlines()]
    done = {(row["guise"], row["first"]) for row in rows if row.get("share") == options.share}
    compose.prepare(lambda text: print(text, flush=True))
    leaks.look()
    declined("aot_eager")
    chosen = options.guise or GUISES
    todo = (
        (name, first, min(first + BATCH, options.cases), options.share)
        for first, name in itertools.product(range(0, options.cases, BATCH), chosen)
        if (name, first) not in done
    )

    def following() -> tuple[str, int, int, float | None] | None:
        return None if time.monotonic() - began > options.seconds else next(todo, None)

    with guises.known(), often(options.share):
        for name in chosen:
            target(name).warm()  # what it imports and compiles first is there in every process then
        gc.collect()
        gc.freeze()
        for (name, first, *_), row in spread(_worker, following, options.workers):
            rows.append(row)
            if options.rows is not None:
                with options.rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            told = f"{name} {first}: {row['cases']} cases, {len(row['findings'])} findings, {row['seconds']} s"
            print(told, flush=True)
    print("\n".join(table(rows)))
    for row in rows:
        for finding in row["findings"]:
            told = finding.get("signature", finding["status"])
            print(f"{row['guise']} {finding['index']}: {told}{', idle' * finding.get('idle', False)}")


if __name__ == "__main__":
    main()
