"""Measures false alarms on right code of users: the kernels and runtimes of ``tests/right``.

Run it directly: ``python tests/benchmarks/right.py [NAME ...] [--cases N] [--workers W] [--rows FILE]``. Each kernel
and runtime is a target as a user's is, and gets the cases that a campaign would give it, relations included, until N
were compared. Rows are appended to a file of JSON lines, one for each range of seeds; a further run goes on behind the
last one and adds up what there is, so a measurement can be made of many runs. Workers are forked from one process that
has loaded everything, and stay; nothing is confirmed, minimised or stored, so that a case costs what it takes to grow,
run and judge it. Zero findings in n cases bound the rate by 3/n at 95 % (the rule of three).

A finding is told with the id and the text of its case: ``shakeout replay --allow tests.right.kernels`` (or
``tests.right.runtimes``) in the root of the repository takes it.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import json
import mmap
import os
import platform
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.apart import Apart, spread
from tests.right.kernels import KERNELS
from tests.right.runtimes import RUNTIMES

from shakeout.corpus.case import Case
from shakeout.corpus.files import write_whole
from shakeout.fuzz.campaign import schedule
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.running import compose, leaks
from shakeout.fuzz.running.execute import Shared, execute, related
from shakeout.oracles.metamorphic import Derived
from shakeout.oracles.verdict import Outcome

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "docs" / "oracles" / "right.jsonl"

#: Seeds of one row.
BATCH = 100

#: Of every measurement; no campaign of ours has it.
SEED = 20_252

#: Seconds after which a job counts as hanging, and its process ends.
LIMIT = 300

#: Of a kernel that declines nearly everything, as many cases as this for each one wanted are tried, and no more.
PATIENCE = 20

TARGETS = {
    **{name: f"tests.right.kernels:{name}" for name in KERNELS},
    **{name: f"tests.right.runtimes:{name}" for name in RUNTIMES},
}


def results(name: str, index: int, phase: Any = lambda name: None) -> Iterator[tuple[Case, Any]]:
    """Each case of a job with its result: the one that is grown, and the one that a metamorphic relation makes.

    Args:
        name: one of ``TARGETS``, or of any target.
        index: of the job.
        phase: told what comes next.
    """
    job = schedule.job(Config(targets=(TARGETS.get(name, name),), seed=SEED, seconds=None), index)
    torch.manual_seed(job.seed & 0x7FFFFFFFFFFFFFFF)
    phase("grow")
    made = compose.compose(job)
    shared = Shared(grown=made.reference)
    waiting: list[tuple[Case, Derived | None]] = [
        (replace(made.case, setting=setting), None) for setting in (made.case.setting, *made.further)
    ]
    while waiting:
        one, derived = waiting.pop(0)
        result = execute(one, phase, shared=shared, derived=derived, explain=False)
        if not waiting and derived is None and (found := related(one, result, shared)) is not None:
            derived, shared = found
            waiting.append((derived.case, derived))
        yield one, result


def told(name: str, index: int, phase: Any) -> list[dict[str, Any]]:
    """The rows of one job, or that it could not be run."""
    signal.alarm(LIMIT)
    rows = []
    try:
        for case, result in results(name, index, phase):
            row: dict[str, Any] = {"status": result.status, "exact": result.exact}
            row["doubts"] = [
                f"{verdict.oracle}: {verdict.symptom}"
                for verdict in result.verdicts
                if verdict.outcome is Outcome.UNKNOWN and verdict.symptom != "unsupported"
            ]
            if (failure := result.failure) is not None:
                row["finding"] = {"index": index, "case": case.id, "oracle": failure.oracle}
                row["finding"] |= {"symptom": failure.symptom, "message": failure.message, "text": case.text}
            rows.append(row)
    except Exception as error:
        rows.append({"status": "internal", "doubts": [f"{type(error).__name__}: {error}"]})
    signal.alarm(0)
    return rows


class _Phase:
    """The phase that a job is in, where another process can read it after this one has died."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 64)

    def __call__(self, name: str) -> None:
        self._memory[:] = name.encode().ljust(64, b"\0")

    def read(self) -> str:
        return self._memory[:].rstrip(b"\0").decode()


class _Worker:
    """Runs batches, each seed in a child of its own process, which is another one where a seed has killed it."""

    def __init__(self) -> None:
        self._phase = _Phase()
        self._apart = Apart(lambda item: told(item[0], item[1], self._phase))

    def __call__(self, job: tuple[str, int, int]) -> dict[str, Any]:
        """One row: what became of the seeds from the first to the last of a name, which is not among them."""
        name, first, last = job
        began = time.monotonic()
        statuses: Counter[str] = Counter()
        doubts: Counter[str] = Counter()
        findings = []
        exact = 0
        for index in range(first, last):
            found = self._apart((name, index))
            if found is None:
                # A program that eager dies of is nothing that the kernel did.
                phase = self._phase.read()
                found = [{"status": f"process died in the phase {phase}", "doubts": []}]
                if phase == "run":
                    found[0]["finding"] = {"index": index, "case": "", "oracle": "process", "symptom": "process died"}
            for row in found:
                statuses[row["status"]] += 1
                doubts.update(row["doubts"])
                exact += row.get("exact", False)
                if "finding" in row:
                    findings.append(row["finding"])
        return {
            "name": name,
            "seed": SEED,
            "first": first,
            "last": last,
            "compared": statuses["compared"],
            "exact": exact,
            "status": dict(statuses),
            "doubts": dict(doubts),
            "findings": findings,
            "seconds": round(time.monotonic() - began, 2),
            **versions(),
        }


@functools.cache
def versions() -> dict[str, str]:
    """What is measured, and on what."""
    described = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    return {"commit": described.stdout.strip() or "unknown", "torch": torch.__version__, "machine": machine}


def ranges(rows: Sequence[dict[str, Any]], names: Sequence[str], cases: int) -> Iterator[tuple[str, int, int]]:
    """What is still to be run, endlessly: the name that has the fewest compared cases comes first.

    Reads ``rows`` anew for each range, so that rows which arrive meanwhile count; what is under way counts as if it
    gave as many compared cases as its kernel does on average.
    """
    given: dict[str, set[int]] = {name: set() for name in names}
    free: Counter[str] = Counter()  # below it there is no seed that is not given
    compared: Counter[str] = Counter()
    done: Counter[str] = Counter()
    read = 0
    while True:
        for row in rows[read:]:
            read += 1
            if row["name"] in given:
                given[row["name"]].update(range(row["first"], row["last"], BATCH))
                compared[row["name"]] += row["compared"]
                done[row["name"]] += (row["last"] - row["first"]) // BATCH
        expected = {}
        for name in names:
            seeds = BATCH * done[name]
            if compared[name] >= cases or seeds >= PATIENCE * max(cases, BATCH):
                continue
            share = compared[name] / seeds if seeds else 1.0
            expected[name] = compared[name] + share * BATCH * (len(given[name]) - done[name])
        short = [name for name in expected if expected[name] < cases]
        if not short:
            return
        name = min(short, key=expected.__getitem__)
        first = free[name] = next(n for n in range(free[name], sys.maxsize, BATCH) if n not in given[name])
        given[name].add(first)
        yield name, first, first + BATCH


def merged(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with one row for what lies side by side and was measured alike, without the texts of cases."""
    found: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row["name"], row["first"])):
        findings = [{key: value for key, value in one.items() if key != "text"} for one in row["findings"]]
        last = found[-1] if found else {}
        alike = all(row[key] == last.get(key) for key in ("name", "seed", "commit", "torch", "machine"))
        if not alike or last["last"] != row["first"]:
            found.append({**row, "findings": findings})
            continue
        sums = {key: last[key] + row[key] for key in ("compared", "exact")}
        counts = {key: dict(Counter(last[key]) + Counter(row[key])) for key in ("status", "doubts")}
        seconds = round(last["seconds"] + row["seconds"], 2)
        more = {"last": row["last"], "findings": [*last["findings"], *findings], "seconds": seconds}
        found[-1] = {**last, **sums, **counts, **more}
    return found


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Compared cases, findings and the bound on their rate, by name; and each finding."""
    from tests.benchmarks.false_positives import bound

    yield f"{'name':<24}{'seeds':>8}{'compared':>10}{'bit-exact':>11}{'doubt':>8}{'findings':>10}{'below (95 %)':>14}"
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        compared, hits = sum(row["compared"] for row in mine), sum(len(row["findings"]) for row in mine)
        seeds, exact = sum(row["last"] - row["first"] for row in mine), sum(row["exact"] for row in mine)
        doubt = sum(sum(row["doubts"].values()) for row in mine)
        rate = f"{bound(hits, compared):.1e}" if compared else "-"
        yield f"{name:<24}{seeds:>8}{compared:>10}{exact:>11}{doubt:>8}{hits:>10}{rate:>14}"
    for row in rows:
        for one in row["findings"]:
            yield f"{row['name']} {one['index']} {one['case'][:12]} {one['oracle']}: {one['symptom']}. " + one.get(
                "message", ""
            )


def measure(names: Sequence[str], cases: int, workers: int, file: Path | None) -> list[dict[str, Any]]:
    """Run what is missing of each name; all rows of these names, those that the file held first."""
    rows: list[dict[str, Any]] = []
    if file is not None and file.exists():
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows = [row for row in rows if "first" in row and row["name"] in names and row["seed"] == SEED]
    compose.prepare(lambda text: print(text, flush=True))
    for name in names:
        compose.vocabulary_of(TARGETS.get(name, name))
    importlib.import_module("torch._dynamo")  # ``checkpoint`` does, when it is first called
    leaks.look()
    gc.collect()
    gc.freeze()  # children neither look through it nor write to it
    began, done, under_way = time.monotonic(), 0, 0
    todo = ranges(rows, names, cases)

    def following() -> tuple[str, int, int] | None:
        nonlocal todo, under_way
        job = next(todo, None)
        if job is None and not under_way:  # what was under way may have given less than was expected
            todo = ranges(rows, names, cases)
            job = next(todo, None)
        under_way += job is not None
        return job

    total = Counter({name: sum(row["compared"] for row in rows if row["name"] == name) for name in names})
    for _, row in spread(_Worker, following, workers):
        rows.append(row)
        under_way -= 1
        done += sum(row["status"].values())
        total[row["name"]] += row["compared"]
        if file is not None:
            with file.open("a") as out:
                out.write(json.dumps(row) + "\n")
        rate = done / (time.monotonic() - began)
        print(
            f"{row['name']:<24} seeds {row['first']}-{row['last']}: {row['compared']} compared of "
            f"{sum(row['status'].values())}, {total[row['name']]} in all, {len(row['findings'])} findings; "
            f"{rate:.1f} cases/s of {workers} workers",
            flush=True,
        )
    return rows


def main() -> int:
    """Run what is missing, print the table and every finding; 1 where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--cases", type=int, default=100, help="compared cases of each")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1)))
    parser.add_argument("--rows", type=Path, default=ROWS, help="file of JSON lines that is continued")
    parser.add_argument("--merge", action="store_true", help="only make one row of those that lie side by side")
    options = parser.parse_args()
    if options.merge:
        rows = merged([json.loads(line) for line in options.rows.read_text().splitlines()])
        write_whole(options.rows, "".join(json.dumps(row) + "\n" for row in rows).encode())
        print("\n".join(table(rows)))
        return 0
    unknown = [name for name in options.names if name not in TARGETS]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(TARGETS)}")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = measure(options.names or list(TARGETS), options.cases, options.workers, options.rows)
    print("\n".join(table(rows)))
    return int(any(row["findings"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
