"""Whole campaigns on compilers with several planted faults: whether what they list are the faults, each once.

A dozen faults that do not meet are planted at once (``tests/faults/together.py``), in the workers and in the processes
that confirm. When the campaign is over, the stored cases of each bug in its list run once more: without any fault, and
with each one alone. A bug is of the faults with which its smallest case fails. It is *one cause* if one of these
explains each stored case of it that fails with a planted fault; what fails without any is a bug of the stock compiler,
and counts neither for precision nor against it. *Precision* is the share of bugs that are one cause, and *rows for one
fault* is the number of bugs in the list over the number of faults that any of them is of.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.campaigns import BEYOND, Row, command, ended_well, events, listed, run, waiting
from tests.benchmarks.triaging.again import STOCK, causes
from tests.faults import Fault
from tests.faults.together import environment, sets

TARGETS = ("aot_eager", "inductor", "export", "onnxruntime", "tvm")

#: Stored cases of one bug that run once more, beside the smallest one.
LOOKED_AT = 5


def judged(bug: Row, found: Sequence[Sequence[str] | None]) -> dict[str, Any]:
    """What a bug in the list is.

    Args:
        bug: as it is listed.
        found: the causes of its smallest case, and of others that are stored with it.
    """
    first, *others = found
    told = [set(one) for one in others if one and STOCK not in one]
    cause = set(first or ())
    shared = cause.intersection(*told) if cause and STOCK not in cause else cause
    return {
        "state": bug.state,
        "seen": bug.seen,
        "shows": f"{bug.oracle}/{bug.symptom}",
        "program": "+".join(operator.removeprefix("torch.") for operator in bug.operators[:5]),
        "operators": len(bug.operators),
        "small": bug.small,
        "causes": sorted(cause),
        "one": bool(shared),
        "others": [sorted(one) for one in told],
    }


def campaign(target: str, number: int, faults: Sequence[Fault], options: argparse.Namespace) -> dict[str, Any]:
    """One row: what a campaign lists while some faults are planted."""
    with tempfile.TemporaryDirectory(prefix="shakeout-bench-") as scratch:
        directory = Path(scratch) / "run"
        asked = ["run", "--target", target, "--minutes", str(options.minutes), "--workers", str(options.workers)]
        ended = run(
            command(*asked, "--directory", str(directory), "--plain"),
            folder=Path(scratch),
            environment=environment(faults),
            limit=60 * options.minutes + BEYOND,
            log=Path(scratch) / "log",
        )
        compared = ended_well(directory, ended)
        bugs = listed(directory, Path(scratch))
        told = [[bug.case, *[text for text in bug.findings if text != bug.case][:LOOKED_AT]] for bug in bugs]
        told = [[text for text in texts if text] for texts in told]
        found = iter(causes([text for texts in told for text in texts], faults))
        rows = [judged(bug, [next(found) for _ in texts] or [None]) for bug, texts in zip(bugs, told, strict=True)]
        return {
            "target": target,
            "set": number,
            "faults": [fault.name for fault in faults],
            "minutes": options.minutes,
            "workers": options.workers,
            "compared": compared,
            "findings": sum(1 for _ in events(directory, "FindingSeen")),
            "waiting": waiting(directory),
            "seconds": ended.seconds,
            "core_seconds": ended.core_seconds,
            "status": ended.status,
            "list": rows,
        }


def measure(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each set of faults that has none; the first set of every target before the second one of any."""
    done = {(row["target"], row["set"]) for row in rows}
    every = [(number, target, faults) for target in TARGETS for number, faults in enumerate(sets(target))]
    for number, target, faults in sorted(every, key=lambda row: (row[0], TARGETS.index(row[1]))):
        if (target, number) in done or (options.only and target not in options.only):
            continue
        if options.set not in (None, number):
            continue
        yield campaign(target, number, faults, options)


def scores(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Counts over campaigns: bugs of faults, those that are one cause, faults that any of them is of."""
    planted = [bug for row in rows for bug in row["list"] if bug["causes"] and STOCK not in bug["causes"]]
    seen = {(row["target"], row["set"], cause(bug)) for row in rows for bug in row["list"] if cause(bug)}
    return {
        "campaigns": len(rows),
        "bugs": sum(len(row["list"]) for row in rows),
        "stock": sum(STOCK in bug["causes"] for row in rows for bug in row["list"]),
        "nothing": sum(not bug["causes"] for row in rows for bug in row["list"]),
        "planted": len(planted),
        "one": sum(bug["one"] for bug in planted),
        "faults": len(seen),
        "findings": sum(row["findings"] for row in rows),
        "waiting": sum(row["waiting"] for row in rows),
    }


def cause(bug: dict[str, Any]) -> str:
    """The fault that a bug counts as a row of: the first with which all of its cases fail; empty if of none."""
    if STOCK in bug["causes"]:
        return ""
    shared = [name for name in bug["causes"] if all(name in one for one in bug["others"])]
    return next(iter(shared or bug["causes"]), "")


#: Counts of ``scores`` in the table, with their widths.
COLUMNS = {"campaigns": 10, "findings": 10, "waiting": 9, "bugs": 8, "stock": 7, "nothing": 11, "planted": 11}
COLUMNS |= {"one": 11, "faults": 8}


def told(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Precision and rows for one fault by target, and which faults have several rows."""
    head = f"{'target':<13}{'campaigns':>10}{'findings':>10}{'waiting':>9}{'listed':>8}{'stock':>7}{'not again':>11}"
    yield f"{head}{'of faults':>11}{'one cause':>11}{'faults':>8}{'precision':>11}{'rows/fault':>12}"
    targets = [name for name in TARGETS if any(row["target"] == name for row in rows)]
    for name in [*targets, "all"]:
        s = scores([row for row in rows if name in (row["target"], "all")])
        cells = "".join(f"{s[column]:>{width}}" for column, width in COLUMNS.items())
        precision = f"{s['one'] / s['planted']:.2f}" if s["planted"] else "-"
        each = f"{s['planted'] / s['faults']:.2f}" if s["faults"] else "-"
        yield f"{name:<13}{cells}{precision:>11}{each:>12}"
    for row in rows:
        split = Counter(cause(bug) for bug in row["list"] if cause(bug))
        for name, count in split.items():
            if count > 1:
                ways = ", ".join(f"{b['program']} {b['shows']}" for b in row["list"] if cause(b) == name)
                yield f"{count} rows: {row['target']}: {name}: {ways}"
        for bug in row["list"]:
            if bug["causes"] and not bug["one"]:
                what = f"{bug['program']} {bug['shows']}"
                yield f"several causes: {row['target']}: {what}: {bug['causes']} and {bug['others']}"
