"""How many cases one core compares in a second on ONNX Runtime: models that are grown, and by way of the exporter.

    python tests/benchmarks/onnx_models.py rows FILE [--seconds 20] [--only native exporter] [--operators 10]
    python tests/benchmarks/onnx_models.py table FILE

A row is one way, run for so many seconds of processor time in this process: a program is grown, then prepared, run and
compared under several settings. What rows there are already is not run again. Programs are told beside cases, since one
program makes several; so is what was declined, and what differed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

#: How each way is measured: its target, and the settings under which one program runs.
WAYS = {
    "native, 2 settings": ("onnx.onnxruntime", 2),
    "native, 4 settings": ("onnx.onnxruntime", 4),
    "exporter, 2 settings": ("onnxruntime", 2),
    "exporter, 24 settings": ("onnxruntime", 24),
}

#: Seconds of warming that do not count: imports, and the first sessions.
WARM = 5.0


def measured(target_name: str, settings: int, operators: int, seconds: float) -> dict[str, Any]:
    """Grow, run and compare for so many seconds of processor time."""
    import torch

    from shakeout.fuzz.ground.jobs import Grow
    from shakeout.fuzz.running.compose import compose
    from shakeout.fuzz.running.execute import Shared, execute
    from shakeout.targets.registry import target

    torch.set_num_threads(1)
    target(target_name).warm()
    outcomes: Counter[str] = Counter()
    programs: set[str] = set()
    spent: dict[str, float] = {"growing": 0.0, "running and comparing": 0.0}

    def one(seed: int) -> None:
        began = time.process_time()
        recipe = {"operators": operators, "style": "network", "mode": "inference"}
        made = compose(Grow(target=target_name, number=seed, seed=seed, recipe=recipe, settings=settings))
        spent["growing"] += time.process_time() - began
        began = time.process_time()
        shared = Shared(made.reference)
        for setting in (made.case.setting, *made.further):
            case = replace(made.case, setting=setting)
            result = execute(case, shared=shared, explain=False)
            outcomes[result.status if result.status != "compared" else f"compared, {result.outcome.name.lower()}"] += 1
            if result.status == "compared":
                programs.add(repr(case.program))
        spent["running and comparing"] += time.process_time() - began

    began, seed = time.process_time(), 1 << 20
    while time.process_time() - began < WARM:
        one(seed)
        seed += 1
    outcomes.clear()
    spent.update(dict.fromkeys(spent, 0.0))
    programs.clear()
    began, seed = time.process_time(), 0
    while (total := time.process_time() - began) < seconds:
        one(seed)
        seed += 1
    compared = sum(count for name, count in outcomes.items() if name.startswith("compared"))
    return {
        "seconds": round(total, 1),
        "grown": seed,
        "programs compared": len(programs),
        "cases": sum(outcomes.values()),
        "compared": compared,
        "compared a second": round(compared / total, 1),
        "programs a second": round(len(programs) / total, 1),
        "outcomes": dict(sorted(outcomes.items())),
        "seconds by part": {name: round(value, 1) for name, value in sorted(spent.items())},
    }


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue  # the last one, which was cut off


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rows", "table"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--operators", type=int, default=10)
    parser.add_argument("--only", nargs="+", default=["native", "exporter"])
    options = parser.parse_args(argv)
    if options.what == "rows":
        known = {(row["way"], row["operators"]) for row in _rows(options.file)}
        for way, (target_name, settings) in WAYS.items():
            if (way, options.operators) in known or not way.startswith(tuple(options.only)):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                row = measured(target_name, settings, options.operators, options.seconds)
            with options.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps({"way": way, "operators": options.operators, **row}) + "\n")
    for row in _rows(options.file):
        print(
            f"{row['way']}, {row['operators']} operators: {row['compared a second']} compared a second "
            f"({row['compared']} cases of {row['programs compared']} programs in {row['seconds']} s); "
            f"{row['outcomes']}; {row['seconds by part']}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
