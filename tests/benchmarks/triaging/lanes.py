"""What campaigns tell, many rows at once: each measured on two cores of its own, side by side.

``python -m tests.benchmarks.triaging.lanes FOLDER [--seconds S] [--cores N]`` cuts a machine into lanes of two cores
and has each run ``tests/benchmarks/triage.py`` for one row after the other, the most wanted first, as long as one more
is likely to end in time. Those processes append their rows to files of ``FOLDER`` themselves, so that what was measured
is kept however this ends, and a row that is there is not measured again. 32 cores and 300 s are enough for the twelve
kernels and a set of faults of four compilers, two minutes each, and behind them for further sets, costs and kills.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.campaigns import read_rows, versions
from tests.benchmarks.triaging.cost import KERNELS
from tests.faults.mistakes import MISTAKES
from tests.faults.together import sets

ROOT = Path(__file__).parents[3]

#: Cores of each campaign: those of somebody who runs one beside other work.
CORES = 2

#: Seconds around the minutes, by what is measured: torch is loaded and targets are warmed before, what waits is triaged
#: behind them, and the bugs of the list run once more. A cost fuzzes for half of its minutes and triages for as long.
#: ``pace`` is one worker of Inductor on one core, as ``tests/benchmarks/scale.py`` measures it.
AROUND = {"kernels": 50, "faults": 80, "time": 70, "kill": 100, "pace": 70}

#: Seconds for what was interrupted to end.
END = 8


@dataclass(frozen=True, slots=True)
class Errand:
    """What one process measures: ``what`` of ``triage.py`` or ``pace``, which row of it, and whether that is there."""

    what: str
    row: tuple[str, ...]
    there: bool = False

    def minutes(self, seconds: float, most: Sequence[float]) -> float | None:
        """Minutes of the campaign for which so many seconds are enough; None if they are not."""
        return next((one for one in most if 60 * one + AROUND[self.what] <= seconds), None)

    def command(self, folder: Path, minutes: float, left: float) -> list[str]:
        """The command line, with rows in a folder, where so many seconds are left."""
        if self.what == "pace":
            asked = ["scale.py", "--targets", "inductor", "--workers", "1", "--seconds", f"{60 * minutes:g}"]
        else:
            asked = ["triage.py", self.what, *self.row, "--minutes", f"{minutes:g}"]
        if self.what == "kill":  # for as long as there is time
            asked += ["--seconds", f"{max(left - AROUND['kill'], 0):.0f}"]
        script, *more = asked
        rows = str(folder / f"{self.what}.jsonl")
        return [sys.executable, str(ROOT / "tests" / "benchmarks" / script), *more, "--rows", rows]


def errands(folder: Path, only: str | None) -> Iterator[Errand]:
    """All that is worth measuring, the most wanted first; what has its row is left out."""
    commit = versions()["commit"]
    rows = {what: [row for row in read_rows(folder / f"{what}.jsonl") if row["commit"] == commit] for what in AROUND}
    kernels = {row["mistake"] for row in rows["kernels"]}
    planted = {(row["target"], row["set"]) for row in rows["faults"]}
    costs = {row["target"] for row in rows["time"]}

    def fault(target: str, number: int) -> Errand:
        return Errand("faults", ("--only", target, "--set", str(number)), (target, number) in planted)

    kinds = [mistake.kind for mistake in MISTAKES]
    found = [Errand("kernels", ("--only", kind), kind in kernels) for kind in kinds[:12]]
    paced = [row for row in rows["pace"] if "operators" in " ".join(row["extra"])]
    found += [fault("inductor", 0), fault("onnxruntime", 0), Errand("pace", ("", "inductor"), bool(paced))]
    found += [fault(target, 0) for target in ("tvm", "aot_eager", "export")]
    found += [Errand("time", ("--only", target), target in costs) for target in ("inductor", KERNELS)]
    kills = [Errand("kill", ("--first", str(1000 * lane + 1))) for lane in range(1, 9)]
    found += [*kills[:5], fault("aot_eager", 1), fault("aot_eager", 2), *kills[5:]]
    found += [fault("aot_eager", number) for number in range(3, len(sets("aot_eager")))]
    found += [Errand("kernels", ("--only", kind), kind in kernels) for kind in kinds[12:]]
    for errand in found:
        if not errand.there and (only is None or only in (errand.what, *errand.row)):
            yield errand


class Lanes:
    """Lanes that take one errand after the other.

    Args:
        folder: for rows and the log.
        until: by ``time.monotonic``, when all must have ended.
        todo: what is to be done, the most wanted first.
        minutes: of a campaign, and further down of one where no more time is left.
    """

    def __init__(self, folder: Path, until: float, todo: list[Errand], minutes: Sequence[float]) -> None:
        self._folder, self._until, self._todo, self._minutes = folder, until, todo, minutes
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def run(self, cores: list[int]) -> None:
        """Do what is left with these cores, until there is too little time for any of it."""
        while (taken := self._take()) is not None:
            errand, minutes = taken
            name = f"{errand.what} {errand.row[1]}{' set ' + errand.row[3] if len(errand.row) > 2 else ''}"
            self._say(f"cores {cores}: {name}, {minutes:g} min")
            command = errand.command(self._folder, minutes, self._left())
            with (self._folder / "log.txt").open("ab") as log:
                process = subprocess.Popen(
                    ["taskset", "-c", ",".join(map(str, cores)), *command],
                    cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            try:
                status = process.wait(max(self._left(), 0))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                try:
                    status = process.wait(END)
                except subprocess.TimeoutExpired:
                    process.kill()
                    status = process.wait()
            self._say(f"cores {cores}: {name} ended with {status}")

    def _take(self) -> tuple[Errand, float] | None:
        with self._lock:
            left = self._left()
            for errand in self._todo:
                if (minutes := errand.minutes(left, self._minutes)) is not None:
                    self._todo.remove(errand)
                    return errand, minutes
        return None

    def _left(self) -> float:
        return self._until - END - time.monotonic()

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.0f} s  {text}", flush=True)


def main() -> None:
    """Measure what there is time for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for rows and the log")
    parser.add_argument("--seconds", type=float, default=300.0, help="in all (default 300)")
    parser.add_argument("--cores", type=int, metavar="N", help="use so many of the cores (default: all)")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.0, 1.0], help="of campaigns (default 2, or 1)")
    parser.add_argument("--only", help="only rows of this WHAT, mistake or target")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["BENCHMARK_COMMIT"] = versions()["commit"]
    cores = sorted(os.sched_getaffinity(0))[: options.cores]
    lanes = Lanes(options.folder, until, list(errands(options.folder, options.only)), options.minutes)
    threads = [
        threading.Thread(target=lanes.run, args=(cores[at : at + CORES],))
        for at in range(0, len(cores) - CORES + 1, CORES)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
