"""Whether two versions of Shakeout make and judge the same cases: text, verdict and signature of the first ones.

``sameness.py rows FILE [--target T ...] [--cases N]`` runs a campaign of N cases on each target, with the Shakeout that
this interpreter finds, and appends a row for each case; ``sameness.py compare BEFORE AFTER`` prints what differs, and
ends with 1 if something does. The version to compare with needs no environment of its own: its ``src`` first on
PYTHONPATH is enough. Rows come from a campaign's event log and database, so nothing of either version is imported.

A case's id is the hash of its text. What a clock decides may differ: the operator with which a wrong value begins is
looked for as long as there is time, and stands in the signature of networks.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TARGETS = ("eager", "aot_eager", "inductor", "export", "onnxruntime", "openvino", "tvm", "save_on_cpu", "disk_store")
SEED = 2711

#: What is compared, by key.
PARTS = ("case", "status", "outcome", "signature")


def rows(target: str, cases: int, workers: int) -> Iterator[dict[str, Any]]:
    """A campaign's cases, in order of their numbers; of one job several, where it has several settings."""
    with tempfile.TemporaryDirectory(prefix="shakeout-sameness-") as scratch:
        directory = Path(scratch) / "campaign"
        command = ["-m", "shakeout", "run", "--target", target, "--cases", str(cases), "--seed", str(SEED)]
        command += ["--workers", str(workers), "--directory", str(directory)]
        began = time.monotonic()
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        spent = time.monotonic() - began
        if not (directory / "events.jsonl").exists():
            raise SystemExit(f"{target}: the campaign ended with {done.returncode}\n{done.stderr[-2000:]}")
        with sqlite3.connect(directory / "shakeout.sqlite") as database:
            query = "SELECT findings.case_id, bugs.signature FROM findings JOIN bugs ON findings.bug = bugs.id"
            signatures = dict(database.execute(query))
        for line in (directory / "events.jsonl").read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event.get("event") == "CaseDone":
                yield {
                    "target": target,
                    "index": event["index"],
                    "relation": event.get("relation", ""),
                    **{part: event[part] for part in ("case", "status", "outcome")},
                    "signature": signatures.get(event["case"], ""),
                    "campaign_seconds": round(spent, 1),
                }


def compare(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> tuple[int, list[str]]:
    """How many cases both have, and a line for each that differs."""
    theirs, ours = (_by_case(rows) for rows in (before, after))
    lines = [f"only before: {key}" for key in theirs.keys() - ours.keys()]
    lines += [f"only after: {key}" for key in ours.keys() - theirs.keys()]
    shared = sorted(theirs.keys() & ours.keys())
    for key in shared:
        for part in PARTS[1:]:
            if theirs[key][part] != ours[key][part]:
                lines.append(f"{key}: {part} was {theirs[key][part]!r}, is {ours[key][part]!r}")
    return len(shared), lines


def _by_case(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, int, str, int], dict[str, Any]]:
    """Rows by target, number, text, and how often that came for this number."""
    seen: Counter[tuple[str, int, str]] = Counter()
    found = {}
    for row in rows:
        key = (row["target"], row["index"], row["case"])
        found[*key, seen[key]] = row
        seen[key] += 1
    return found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command")
    making = commands.add_parser("rows")
    making.add_argument("file", type=Path)
    making.add_argument("--target", nargs="+", default=TARGETS)
    making.add_argument("--cases", type=int, default=300)
    making.add_argument("--workers", type=int, default=2)
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command is None:
        parser.print_help()
        return 0
    if options.command == "rows":
        for target in options.target:
            found = list(rows(target, options.cases, options.workers))
            with options.file.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in found)
            status = dict(Counter(row["status"] for row in found))
            print(f"{target}: {len(found)} cases, {status}, {found[0]['campaign_seconds']} s", flush=True)
        return 0
    texts = (path.read_text(encoding="utf-8").splitlines() for path in (options.before, options.after))
    count, lines = compare(*([json.loads(line) for line in text] for text in texts))
    print("\n".join(lines))
    print(f"{count} cases in both, {len(lines)} differences")
    return 1 if lines or not count else 0


if __name__ == "__main__":
    sys.exit(main())
