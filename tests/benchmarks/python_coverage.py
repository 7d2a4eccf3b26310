"""What watching Inductor's Python costs: lines as ``--coverage`` tells them, and the tracer of ``--coverage-report``.

``python_coverage.py [--rounds N] [--append FILE]``. Three small networks are compiled again and again in one process,
without caches. Told is the processor time of the process itself for one compilation, and for reading what it reached
afterwards, each as a mean in milliseconds. That of C++ compilers is left out, since nothing is watched in them. The
plain rounds come before and after all others: what they differ by is noise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shakeout.fuzz.coverage.python import PythonSource
from shakeout.fuzz.coverage.traced import TracedSource
from shakeout.fuzz.ground.versions import describe
from shakeout.targets.registry import facts_of


def _networks() -> list[Callable[[Any], Any]]:
    import torch

    return [
        lambda x: torch.softmax(x @ x.t(), -1).relu(),
        lambda x: torch.cumsum(x, 0).sum() + x.mean(),
        lambda x: torch.nn.functional.layer_norm(x, (8,)) * 2,
    ]


def _nothing() -> object:
    return None


def measure(rounds: int) -> dict[str, Any]:
    """One row."""
    import torch

    torch.set_num_threads(1)
    networks, given = _networks(), torch.ones(8, 8)

    def compile_each(
        times: int, begin: Callable[[], object] = _nothing, read: Callable[[], object] = _nothing
    ) -> dict[str, Any]:
        spent, reading = [], []
        for _ in range(times):
            for network in networks:
                torch.compiler.reset()
                begin()
                at = time.process_time()
                torch.compile(network)(given)
                done = time.process_time()
                read()
                spent.append(1000 * (done - at))
                reading.append(1000 * (time.process_time() - done))
        return {
            "compilations": len(spent),
            "milliseconds": round(statistics.mean(spent), 1),
            "reading": round(statistics.mean(reading), 1),
        }

    compile_each(2)
    rows = {"plain": compile_each(rounds)}
    lines = PythonSource(facts_of("inductor").modules)
    at = time.process_time()
    functions = sum(one.watched for one in lines.arm())
    arming = time.process_time() - at
    rows["lines, first"] = compile_each(1, read=lines.take)
    rows["lines, later"] = compile_each(rounds, read=lines.take)
    traced = TracedSource(facts_of("inductor").modules)
    traced.arm()

    def begin() -> None:
        traced.begin(None)  # type: ignore[arg-type]

    def read() -> None:
        traced.end(None, "")  # type: ignore[arg-type]
        traced.take()

    rows["traced, first"] = compile_each(1, begin, read)
    rows["traced, later"] = compile_each(rounds, begin, read)
    rows["plain, again"] = compile_each(rounds)
    return {
        "when": time.strftime("%Y-%m-%d"),
        "rows": rows,
        "functions": functions,
        "arming_seconds": round(arming, 2),
        "load": os.getloadavg()[0],
        "versions": {"python": describe()["python"], **describe()["packages"]},
        "processor": describe()["processor"],
    }


def main() -> None:
    """Print one row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--append", type=Path, help="file of rows")
    options = parser.parse_args()
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    warnings.simplefilter("ignore")
    row = measure(options.rounds)
    print(json.dumps(row, indent=1))
    if options.append is not None:
        with options.append.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
