"""Guided campaigns beside unguided ones: what they reach and find in the same time, with the same generator.

    python tests/benchmarks/guidance.py --target tvm --seeds 5 --minutes 2 --append docs/coverage/guidance.jsonl

For each seed and target one campaign with ``--coverage``, and one that watches the same shared libraries (``--cover``)
and is steered by nothing; which of the two goes first changes from seed to seed. A row says what one campaign came to:
places of the libraries, cases, findings, bugs, and places over time. Rows append; those that the file has of the same
target, seed, minutes, workers, versions and kind are not run again, so the benchmark goes on where it was stopped. At
the end the medians over all seeds of the file are printed, with the lowest and highest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from shakeout.fuzz.ground.versions import describe
from shakeout.targets.registry import facts_of

#: Fields that make two rows the same measurement.
SAME = ("target", "seed", "guided", "minutes", "workers", "versions")


def main() -> None:
    """Run what is not in the file yet, and print what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", help="default: tvm and onnxruntime")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=2.0, help="of fuzzing in each campaign")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--most", type=int, help="campaigns that are run now at most")
    parser.add_argument("--append", type=Path, help="file of rows")
    options = parser.parse_args()
    rows = _read(options.append)
    packages = describe()["packages"]
    left = options.most
    for target in options.target or ["tvm", "onnxruntime"]:
        names = ("torch", *facts_of(target).packages)
        versions = {name: packages[name] for name in names if name in packages}
        for seed in range(options.seeds):
            for guided in (True, False) if seed % 2 else (False, True):
                wanted = {
                    "target": target, "seed": seed, "guided": guided, "minutes": options.minutes,
                    "workers": options.workers, "versions": versions,
                }  # fmt: skip
                if any(all(row.get(key) == wanted[key] for key in SAME) for row in rows):
                    continue
                if left == 0:
                    break
                left = None if left is None else left - 1
                row = {**wanted, **_campaign(wanted)}
                rows.append(row)
                print(json.dumps({key: row[key] for key in ("target", "seed", "guided", "places", "cases", "bugs")}))
                if options.append is not None:
                    options.append.parent.mkdir(parents=True, exist_ok=True)
                    with options.append.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row, sort_keys=True) + "\n")
    _summary([row for row in rows if row["minutes"] == options.minutes and row["workers"] == options.workers])


def _read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _campaign(wanted: dict[str, Any]) -> dict[str, Any]:
    """What one campaign came to."""
    watch = ["--coverage"]
    if not wanted["guided"]:
        watch = [word for name in facts_of(wanted["target"]).libraries for word in ("--cover", name)]
    with tempfile.TemporaryDirectory(prefix="guidance-") as folder:
        command = [sys.executable, "-m", "shakeout", "run", "--plain", "--exit-zero", "--new", *watch]
        command += ["--target", wanted["target"], "--seed", str(wanted["seed"]), "--directory", folder]
        command += ["--minutes", str(wanted["minutes"]), "--workers", str(wanted["workers"])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        status = [sys.executable, "-m", "shakeout", "status", "--json", folder]
        told = json.loads(subprocess.run(status, capture_output=True, text=True, check=True).stdout)
    totals = told["totals"].get(wanted["target"], {})
    curve = [[round(point["seconds"]), point.get("native", 0)] for point in told["coverage"]["curve"]]
    steering = told["steering"]
    return {
        "places": curve[-1][1] if curve else 0,
        "curve": curve[:: max(len(curve) // 20, 1)],
        "cases": totals.get("generated", 0),
        "compared": totals.get("compared", 0),
        "findings": totals.get("findings", 0),
        "bugs": sum(told["bugs"].values()),
        "corpus": None if steering is None else steering["corpus"],
    }


def _summary(rows: list[dict[str, Any]]) -> None:
    print(f"{'target':<14} {'':<9} {'seeds':>5}  {'places':>28}  {'cases compared':>16}  {'findings':>12}  bugs")
    for target in dict.fromkeys(row["target"] for row in rows):
        for guided in (True, False):
            some = [row for row in rows if row["target"] == target and row["guided"] is guided]
            if some:
                told = [_range([row[key] for row in some]) for key in ("places", "compared", "findings", "bugs")]
                kind = "guided" if guided else "unguided"
                print(f"{target:<14} {kind:<9} {len(some):>5}  {told[0]:>28}  {told[1]:>16}  {told[2]:>12}  {told[3]}")


def _range(values: list[int]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,} to {max(values):,})"


if __name__ == "__main__":
    main()
