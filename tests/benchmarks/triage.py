"""Measures what a campaign tells its user: how many bugs, whether they are bugs apart, and what it takes to tell them.

Run it directly: ``python tests/benchmarks/triage.py WHAT [--rows FILE] [--most N]``. All of it is measured from the
outside, by the commands that a user has and by the database that a campaign leaves. Rows are appended to a file of JSON
lines with the commit of the Shakeout that was measured; what there is for that commit is not measured again.
``--most`` ends after so many new rows, ``--seconds`` after so long; ``--scores`` only prints what the rows say. Each
WHAT is a module of ``tests/benchmarks/triaging``, which says how it is measured.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
import time
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.campaigns import read_rows, versions, write_row
from tests.faults.mistakes import MODULES

ROWS = Path(__file__).parents[2] / "docs" / "triage"

#: What can be measured, and the module for it, with ``measure(rows, options)``, which gives the rows that are missing,
#: and ``told(rows)``, which gives the lines that say what the rows come to.
WHAT = {"kernels": "kernels", "faults": "faults", "kill": "kill", "night": "night", "time": "cost"}


def main() -> None:
    """Measure what is not measured yet, and print what the rows say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=WHAT, help="default: only print what the rows in docs/triage say")
    parser.add_argument("--rows", type=Path, help="file of JSON lines that is continued (default: in docs/triage)")
    parser.add_argument("--most", type=int, metavar="N", help="end after so many new rows")
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="begin no row after so long")
    parser.add_argument("--scores", action="store_true", help="only print what the rows say")
    parser.add_argument("--minutes", type=float, default=2.0, help="of fuzzing in each campaign (default 2)")
    parser.add_argument("--workers", type=int, default=2, help="of each campaign (default 2)")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this mistake or target; may be repeated")
    parser.add_argument("--set", type=int, metavar="N", help="only this set of a target's faults")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="of the campaigns that are killed")
    parser.add_argument("--kills", type=int, default=200, help="of campaigns, in all (default 200)")
    options = parser.parse_args()
    os.environ["SHAKEOUT_ALLOW"] = ",".join(MODULES)
    for what in WHAT if options.what is None else (options.what,):
        module = importlib.import_module(f"tests.benchmarks.triaging.{WHAT[what]}")
        path = options.rows or ROWS / f"{what}.jsonl"
        if options.what is not None and not options.scores:
            extend(path, module, options)
        rows = read_rows(path)
        for commit in dict.fromkeys(row["commit"] for row in rows):
            print(f"\n{what}, {commit}")
            print("\n".join(module.told([row for row in rows if row["commit"] == commit])))


def extend(path: Path, module: ModuleType, options: argparse.Namespace) -> None:
    """Measure what is missing for the Shakeout that is imported; each row is appended as it is there."""
    began = time.monotonic()
    mine = [row for row in read_rows(path) if row["commit"] == versions()["commit"]]
    for count, row in enumerate(module.measure(mine, options), 1):
        write_row(path, row)
        print({key: value for key, value in row.items() if key != "list"}, flush=True)
        if count == options.most or time.monotonic() - began > options.seconds:
            return


if __name__ == "__main__":
    main()
