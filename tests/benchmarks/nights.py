"""Two nights in a row over a module of two kernels and a compiler: whether the second tells what changed in between.

    python tests/benchmarks/nights.py --budget 1h
    python tests/benchmarks/nights.py --budget 190s --workers 6 --rows docs/gate/nights.jsonl

Before the second night the mistake in one kernel is mended and one is made in the other. So of the kernels the first
night has to tell new bugs of the first alone; and the second has to tell bugs of the first as fixed, new ones of the
second, and nothing else. What a night tells of the compiler is printed, for a person: nothing of it changed. A row is
appended for each night.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

MODULE = "nightkernels"

KERNELS = """
import torch

import shakeout


@shakeout.kernel(reference=torch.nn.functional.softplus)
def first(x):
    return torch.nn.functional.softplus(x, threshold={linear})


@shakeout.kernel(reference=torch.nn.functional.hardswish)
def second(x):
    return torch.nn.functional.hardswish(x) * {scale}
"""

#: What the kernels are made with: a softplus that is linear too early, then a hardswish that is too large.
NIGHTS = ({"linear": 2, "scale": 1}, {"linear": 20, "scale": 1.25})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="1h", help="of a night")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--compiler", default="aot_eager", help="that both nights run as well; empty for none")
    parser.add_argument("--rows", type=Path, default=Path("docs/gate/nights.jsonl"))
    parser.add_argument("--keep", type=Path, help="folder to work in, which stays; default: a temporary one")
    options = parser.parse_args()
    options.rows = options.rows.absolute()
    with tempfile.TemporaryDirectory(prefix="shakeout-nights-") as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for number, constants in enumerate(NIGHTS, 1):
            (folder / f"{MODULE}.py").write_text(KERNELS.format(**constants))
            row = {"night": number, **night(folder, options)}
            row["right"] = right(row)
            with options.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def night(folder: Path, options: argparse.Namespace) -> dict:
    """One night, as cron has it, and what it told."""
    targets = [f"{MODULE}:first", f"{MODULE}:second", *filter(None, [options.compiler])]
    command = [sys.executable, "-m", "shakeout", "nightly", "--directory", "run", "--plain", "--exit-zero"]
    command += ["--budget", options.budget, "--workers", str(options.workers)]
    command += [word for name in targets for word in ("--target", name)]
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    row = {"budget": options.budget, "workers": options.workers, "torch": version("torch"), "status": done.returncode}
    row["seconds"] = round(time.monotonic() - began, 1)
    if done.returncode:
        return row | {"said": done.stdout[-1000:]}
    record = json.loads((folder / "run" / "nights" / "latest" / "night.json").read_text())
    told = record["difference"]
    kinds = ("new", "reopened", "fixed", "flaky", "internal")
    row |= {kind: [{name: bug[name] for name in ("id", "targets", "title")} for bug in told[kind]] for kind in kinds}
    row |= {kind: told[kind] for kind in ("changed", "joined", "unable", "again", "gone", "still")}
    row["versions"] = [one["name"] for one in told["versions"]]
    row["compared"] = {one["target"]: one["totals"]["nontrivial"] for one in told["targets"]}
    return row | {"bisected": record["bisected"], "notes": record["notes"]}


def right(row: dict) -> bool:
    """Whether a night told of the kernels what was done to them, and nothing else."""
    if row["status"]:
        return False

    def of(kind: str) -> set[str]:
        # One mistake may show in what a kernel gives and in its gradients, which are two bugs.
        return {name for bug in row[kind] for name in bug["targets"] if name.startswith(MODULE)}

    first, second = {f"{MODULE}:first"}, {f"{MODULE}:second"}
    new, fixed, versions = (first, set(), []) if row["night"] == 1 else (second, first, [f"source of {MODULE}"])
    quiet = not (of("reopened") or of("flaky") or row["internal"])
    return (of("new"), of("fixed"), row["versions"]) == (new, fixed, versions) and quiet


if __name__ == "__main__":
    main()
