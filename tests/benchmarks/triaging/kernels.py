"""A campaign against each of the kernels of ``tests/faults/kernels``, which have one mistake each.

Counted are the bugs in the list that the campaign ends with, and whether the first one is the mistake: its smallest
program calls the kernel, it fails as a call of that kernel does (``tests/faults/mistakes.py`` says which oracle and
symptom those are), and it does not fail where the kernel is mended.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.campaigns import BEYOND, Row, command, ended_well, events, listed, run, waiting
from tests.benchmarks.triaging.again import failing
from tests.faults.mistakes import FOLDER, MISTAKES, Mistake


def is_mistake(mistake: Mistake, bug: Row, mended: str | None) -> bool:
    """Whether a bug in the list is the mistake, by its smallest case, which fails as ``mended`` without the mistake."""
    return mistake.target in bug.operators and mistake.told(bug.oracle, bug.symptom) and mended == ""


def kernel(mistake: Mistake, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One row: what a campaign against a kernel ends with."""
    directory = scratch / "run"
    asked = ["run", "--target", mistake.target, "--minutes", str(options.minutes), "--workers", str(options.workers)]
    ended = run(
        command(*asked, "--directory", str(directory), "--plain"),
        folder=FOLDER,
        limit=60 * options.minutes + BEYOND,
        log=scratch / "log",
    )
    compared = ended_well(directory, ended)
    bugs = listed(directory, FOLDER)
    mended = failing([bug.case for bug in bugs], mended=True)
    mistakes = [is_mistake(mistake, bug, without) for bug, without in zip(bugs, mended, strict=True)]
    return {
        "kernel": mistake.target,
        "mistake": mistake.kind,
        "minutes": options.minutes,
        "workers": options.workers,
        "bugs": len(bugs),
        "first": bool(mistakes) and mistakes[0],
        "mistakes": sum(mistakes),
        "right when mended": sum(without == "" for without in mended),
        "reduced": sum(bug.small for bug in bugs),
        "confirmed": sum(bug.state in ("confirmed", "history") for bug in bugs),
        "findings": sum(1 for _ in events(directory, "FindingSeen")),
        "waiting": waiting(directory),
        "compared": compared,
        "seconds": ended.seconds,
        "core_seconds": ended.core_seconds,
        "status": ended.status,
        "list": [
            f"{bug.state}, seen {bug.seen}, {bug.oracle}/{bug.symptom}, {len(bug.operators)} operators, "
            f"mended: {'dies' if without is None else without or 'passes'}"
            for bug, without in zip(bugs[:10], mended, strict=False)
        ],
    }


def measure(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each kernel that has none."""
    done = {row["kernel"] for row in rows}
    for mistake in MISTAKES:
        if mistake.target in done or (options.only and mistake.kind not in options.only):
            continue
        with tempfile.TemporaryDirectory(prefix="shakeout-bench-") as scratch:
            yield kernel(mistake, Path(scratch), options)


def told(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The table of the kernels."""
    head = f"{'mistake':<12}{'bugs':>6}{'first':>7}{'reduced':>9}{'confirmed':>11}"
    yield f"{head}{'findings':>10}{'waiting':>9}{'compared':>10}"
    for row in rows:
        cells = f"{row['bugs']:>6}{'yes' if row['first'] else 'no':>7}{row['reduced']:>9}{row['confirmed']:>11}"
        yield f"{row['mistake']:<12}{cells}{row['findings']:>10}{row['waiting']:>9}{row['compared']:>10}"
    few, first = sum(0 < row["bugs"] <= 3 for row in rows), sum(row["first"] for row in rows)
    yield f"of {len(rows)}: one to three bugs {few}, the first is the mistake {first}"
