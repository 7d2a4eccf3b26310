"""Measures what a campaign tells its user: how many bugs, whether they are bugs apart, and what it takes to tell them.

Run it directly: ``python tests/benchmarks/triage.py WHAT [--rows FILE] [--most N]``. All of it is measured from the
outside, by the commands that a user has and by the database that a campaign leaves. Rows are appended to a file of JSON
lines with the commit of the Shakeout that was measured; what there is for that commit is not measured again, and
``--most`` ends after so many new rows. ``--scores`` only prints what the rows say.

``kernels``: each of the twelve kernels of ``tests/faults/kernels``, which have one mistake each, gets a campaign of its
own. Counted are the bugs in the list that the campaign ends with, and whether the first one is the mistake: its
smallest program calls the kernel, it fails as a call of that kernel does (``tests/faults/mistakes.py`` says which oracle
and symptom those are), and it does not fail where the kernel is mended.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.apart import each
from tests.benchmarks.campaigns import Row, command, events, listed, read_rows, run, versions, waiting, write_row
from tests.faults.mistakes import FOLDER, MENDED, MISTAKES, MODULES, Mistake

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "docs" / "triage"

#: Seconds that a campaign may take beyond its time, for its start, and for triage when the time is over.
BEYOND = 240


def rerun(texts: Sequence[str], mended: bool = False) -> list[str | None]:
    """How each case fails in a process like a worker, as ``oracle/symptom``; None where the process dies of it."""

    def fails(place: int) -> str:
        import torch

        from shakeout.corpus import codec
        from shakeout.fuzz.running.execute import execute

        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        if mended:
            os.environ[MENDED] = "1"
        if str(FOLDER) not in sys.path:
            sys.path.append(str(FOLDER))
        failing = execute(codec.decode(texts[place]), explain=False).failure
        return "" if failing is None else f"{failing.oracle}/{failing.symptom}"

    return [found for _, found in sorted(each(fails, range(len(texts))))]


# --- a mistake in a user's kernel -------------------------------------------------------------------------------------


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
    bugs = listed(directory)
    mended = rerun([bug.case for bug in bugs], mended=True)
    told = [is_mistake(mistake, bug, without) for bug, without in zip(bugs, mended, strict=True)]
    totals = list(events(directory, "Finished"))[-1]["totals"].values()
    return {
        "kernel": mistake.target,
        "mistake": mistake.kind,
        "minutes": options.minutes,
        "workers": options.workers,
        "bugs": len(bugs),
        "first": bool(told) and told[0],
        "mistakes": sum(told),
        "right when mended": sum(without == "" for without in mended),
        "reduced": sum(bug.small for bug in bugs),
        "confirmed": sum(bug.state in ("confirmed", "history") for bug in bugs),
        "findings": sum(1 for _ in events(directory, "FindingSeen")),
        "waiting": waiting(directory),
        "compared": sum(total["compared"] for total in totals),
        "seconds": ended.seconds,
        "core_seconds": ended.core_seconds,
        "status": ended.status,
        "list": [
            f"{bug.state}, seen {bug.seen}, {bug.oracle}/{bug.symptom}, {len(bug.operators)} operators, "
            f"mended: {'dies' if without is None else without or 'passes'}"
            for bug, without in zip(bugs[:10], mended, strict=False)
        ],
    }


def kernels(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each kernel that has none."""
    done = {row["kernel"] for row in rows}
    for mistake in MISTAKES:
        if mistake.target in done or (options.only and mistake.kind not in options.only):
            continue
        with tempfile.TemporaryDirectory(prefix="shakeout-bench-") as scratch:
            yield kernel(mistake, Path(scratch), options)


def kernels_told(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The table of the kernels."""
    head = f"{'mistake':<12}{'bugs':>6}{'first':>7}{'reduced':>9}{'confirmed':>11}"
    yield f"{head}{'findings':>10}{'waiting':>9}{'compared':>10}"
    for row in rows:
        cells = f"{row['bugs']:>6}{'yes' if row['first'] else 'no':>7}{row['reduced']:>9}{row['confirmed']:>11}"
        yield f"{row['mistake']:<12}{cells}{row['findings']:>10}{row['waiting']:>9}{row['compared']:>10}"
    few, first = sum(0 < row["bugs"] <= 3 for row in rows), sum(row["first"] for row in rows)
    yield f"of {len(rows)}: one to three bugs {few}, the first is the mistake {first}"


# --- the command ------------------------------------------------------------------------------------------------------

Measure = Callable[[Sequence[dict[str, Any]], argparse.Namespace], Iterator[dict[str, Any]]]
Told = Callable[[Sequence[dict[str, Any]]], Iterator[str]]

#: What can be measured, by name: what makes the rows that are missing, and what tells the rows.
MEASURES: dict[str, tuple[Measure, Told]] = {"kernels": (kernels, kernels_told)}


def main() -> None:
    """Measure what is not measured yet, and print what the rows say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MEASURES)
    parser.add_argument("--rows", type=Path, help="file of JSON lines that is continued (default: in docs/triage)")
    parser.add_argument("--most", type=int, metavar="N", help="end after so many new rows")
    parser.add_argument("--scores", action="store_true", help="only print what the rows say")
    parser.add_argument("--minutes", type=float, default=2.0, help="of fuzzing in each campaign (default 2)")
    parser.add_argument("--workers", type=int, default=2, help="of each campaign (default 2)")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this mistake or target; may be repeated")
    options = parser.parse_args()
    os.environ["SHAKEOUT_ALLOW"] = ",".join(MODULES)
    measure, told = MEASURES[options.what]
    path = options.rows or ROWS / f"{options.what}.jsonl"
    rows = read_rows(path)
    if not options.scores:
        mine = [row for row in rows if row["commit"] == versions()["commit"]]
        for count, row in enumerate(measure(mine, options), 1):
            write_row(path, row)
            print({key: value for key, value in row.items() if key != "list"}, flush=True)
            if count == options.most:
                break
        rows = read_rows(path)
    for commit in dict.fromkeys(row["commit"] for row in rows):
        print(f"\n{commit}")
        print("\n".join(told([row for row in rows if row["commit"] == commit])))


if __name__ == "__main__":
    main()
