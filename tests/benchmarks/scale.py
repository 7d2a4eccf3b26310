"""Measures how the rate of a campaign grows with its workers: whole campaigns, each on as many cores as it has workers.

Run it directly. ``python tests/benchmarks/scale.py --full`` is all of it in one call: the machine itself, a user's
kernel, ONNX Runtime, TVM and Inductor with 1, 16 and 30 workers, as far as there are cores for them, rows appended to
docs/performance/scale.jsonl; called again it goes on where it ended. ``--targets inductor --workers 1 16 --seconds 45
--seconds-total 500 --rows FILE`` is a part of it.
Each cell is one ``shakeout run`` in a fresh directory: a target and a number of workers, pinned to as many cores
(``--loose``: to none). What is measured lies between the first compared case, plus ``--settle`` seconds, and the end of
``--seconds`` of fuzzing; then the campaign is interrupted, so that nothing is waited for that is not measured. The line
of a cell tells the compared cases of each worker-minute by the clock, those of each minute of processor time that was
not spent on confirming, what shares these are of one worker's, and where processor time went. What confirms findings
computes on the same cores: it takes half of a single core and a sixteenth of sixteen, so that shares by the clock
flatter many workers. Processor time tells nothing of cores that wait, so the line says how busy they were as well.
Raw rows are appended to ``--rows`` as each cell ends, and a cell that has its row there, of the same commit on the same
kind of machine, is not run again; cells for which too little of ``--seconds-total`` is left are named and left out.
``--extra`` hands options on to ``shakeout run``; Inductor always has those of ``EXTRA``. Where all workers of a target
were measured, the last line of it says whether they reach ``WANTED`` of as many times one worker, and how many workers
would take all of the one core that the supervisor has.

The target ``kernel`` is a user's kernel that is written down for the occasion: a product whose factors are exchanged,
so that nothing is found in it. The target ``machine`` is no campaign: as many processes as there are workers, with
nothing to do with each other, compile Python for some seconds. What share of one's rate they reach is what the machine
gives to so many at all: cores share caches, memory and heat, and what the system calls a core may be half of one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

KERNEL = "scale_kernel"

_KERNEL = """
import torch

import shakeout


@shakeout.kernel(reference=torch.mul)
def product(x, y):
    return y * x
"""

#: Options of a target's campaigns, so that rows with one and with many workers are of the same programs.
EXTRA = {"inductor": ("--operators", "10", "--mode", "inference")}

#: What ``--full`` measures.
FULL: dict[str, Any] = {
    "targets": ["machine", "kernel", "onnxruntime", "tvm", "inductor"],
    "workers": [1, 16, 30],
    "seconds": 60.0,
}
ROWS = Path(__file__).parents[2] / "docs" / "performance" / "scale.jsonl"

#: Share of as many times one worker's rate that is wanted of many.
WANTED = 0.8

#: Seconds between two looks at processor time and memory.
LOOK = 0.5

#: Seconds that a campaign may take before it fuzzes: it loads torch, warms its target, replays known bugs.
PATIENCE = 240.0

#: Seconds of the processes that share nothing.
MACHINE_SECONDS = 6.0

#: The last step of a campaign's cold start; then it fuzzes.
LAST_STEP = "loading the operators"

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Look:
    """What a campaign's processes had used at some moment.

    Attributes:
        at: seconds of the monotonic clock.
        processor: seconds by who used them: ``supervisor``, ``workers``, ``zygote``, ``joint`` (the server that
            compiles jointly, with its compilers), ``confirming`` (all else that the supervisor started).
        processes: how many there were.
        memory: bytes resident, with what a page is shared by counted once (PSS).
    """

    at: float
    processor: Mapping[str, float]
    processes: int
    memory: int = 0


def look(supervisor: int, weigh: bool) -> Look:
    """Look at a campaign; memory only if it is to be weighed, which takes a while."""
    used: defaultdict[str, float] = defaultdict(float)
    pids: list[int] = []
    own, reaped, children = _stat(supervisor)
    used["supervisor"] = own
    used["confirming"] = reaped
    for child in children:
        with contextlib.suppress(OSError, ValueError):
            words = Path(f"/proc/{child}/cmdline").read_bytes()
            name = "joint" if b"shakeout.targets.joint" in words else "confirming"
            if b"shakeout.fuzz.process.zygote" in words:
                zygote, dead, workers = _stat(child)
                used["zygote"] += zygote
                used["workers"] += dead + sum(_family(one, pids) for one in workers)
                pids.append(child)
            else:
                used[name] += _family(child, pids)
    memory = sum(map(_proportional, [supervisor, *pids])) if weigh else 0
    return Look(time.monotonic(), dict(used), 1 + len(pids), memory)


def _stat(pid: int) -> tuple[float, float, list[int]]:
    """Seconds of a process, of its descendants that were waited for, and the children that it has."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            children += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    own, reaped = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    return own / _TICKS, reaped / _TICKS, children


def _family(pid: int, pids: list[int]) -> float:
    try:
        own, reaped, children = _stat(pid)
    except (OSError, ValueError):
        return 0.0
    pids.append(pid)
    return own + reaped + sum(_family(child, pids) for child in children)


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


@dataclass(frozen=True)
class Cell:
    """One campaign: what the row of a cell that was measured is found by."""

    target: str
    workers: int
    seconds: float
    settle: float
    pinned: bool
    extra: tuple[str, ...]


@dataclass
class Course:
    """What the event log of a campaign has told so far."""

    log: Path
    began: float | None = None
    first: float | None = None
    compared: list[float] = field(default_factory=list)
    status: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    findings: int = 0
    confirmed: int = 0
    _file: IO[str] | None = None
    _half: str = ""

    def read(self) -> None:
        """Take in what was written since the last time; times become those of the monotonic clock."""
        if self._file is None:
            with contextlib.suppress(OSError):
                self._file = self.log.open(encoding="utf-8")
        if self._file is None:
            return
        shift = time.monotonic() - time.time()
        *lines, self._half = (self._half + self._file.read()).split("\n")
        for event in map(json.loads, lines):
            self._take(event, event["time"] + shift)

    def _take(self, event: Mapping[str, Any], at: float) -> None:
        match event["event"]:
            case "Warming" if event["step"] == LAST_STEP and event["done"]:
                self.began = at
            case "CaseDone":
                self.status[event["status"]] += 1
                self.phases.update(event["phases"])
                if event["status"] == "compared":
                    self.first = at if self.first is None else self.first
                    self.compared.append(at)
            case "FindingSeen":
                self.findings += 1
            case "Confirmed":
                self.confirmed += 1


def run(cell: Cell, cores: Sequence[int], until: float) -> dict[str, Any]:
    """Run one campaign and give its row; one that has no end before ``until`` is broken off, and its row says so."""
    with tempfile.TemporaryDirectory(prefix="shakeout-scale-") as scratch:
        (Path(scratch) / f"{KERNEL}.py").write_text(_KERNEL)
        name = f"{KERNEL}:product" if cell.target == "kernel" else cell.target
        words = [sys.executable, "-m", "shakeout", "run", "--plain", "--target", name, "--workers", str(cell.workers)]
        # Some seconds more than are measured: the campaign is interrupted before it knows that its time is over.
        words += ["--minutes", str(cell.seconds / 60 + 1), "--directory", "campaign", *cell.extra]
        with (Path(scratch) / "output").open("wb") as output:
            process = subprocess.Popen(
                words,
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cell.pinned else None,
            )
        began = time.monotonic()
        course = Course(Path(scratch) / "campaign" / "events.jsonl")
        looks: list[Look] = []
        try:
            said = _follow(cell, process, course, looks, until)
        finally:
            _end(process)
        course.read()
        if said:
            text = (Path(scratch) / "output").read_text(errors="replace").strip().splitlines()
            said = f"{said}: {' / '.join(text[-3:])}" if text else said
    return {**_row(cell, course, looks, began), "broken": said}


_COMPILE = """
import ast, sys, time
text = open(ast.__file__, encoding="utf-8").read()
end, done = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    compile(text, "ast.py", "exec")
    done += 1
print(done)
"""


def run_machine(cell: Cell, cores: Sequence[int]) -> dict[str, Any]:
    """What so many processes that share nothing do; a row with the same names as a campaign's."""
    began = time.monotonic()
    seconds = min(cell.seconds, MACHINE_SECONDS)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _COMPILE, str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cell.pinned else None,
        )
        for _ in range(cell.workers)
    ]
    done = sum(int(process.communicate()[0]) for process in processes)
    return {
        **_head(cell),
        "window": round(time.monotonic() - began, 2),
        "compared": done,
        "per_minute": round(60 * done / seconds, 1),
        "per_worker_minute": round(60 * done / seconds / cell.workers, 1),
        "broken": "",
    }


def _follow(cell: Cell, process: subprocess.Popen[bytes], course: Course, looks: list[Look], until: float) -> str:
    """Watch a campaign until it has fuzzed for its seconds; what went wrong, if anything did."""
    began = time.monotonic()
    while process.poll() is None:
        time.sleep(LOOK)
        course.read()
        now = time.monotonic()
        if course.began is None and now - began > PATIENCE:
            return f"no fuzzing within {PATIENCE:.0f} s"
        if now > until:
            return "the total time was over"
        if course.first is not None:
            weigh = not looks or now - looks[0].at > 5 * (1 + sum(one.memory > 0 for one in looks))
            with contextlib.suppress(OSError):
                looks.append(look(process.pid, weigh))
        if course.began is not None and now - course.began >= cell.seconds:
            return ""
    return f"it ended by itself, status {process.returncode}"


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGINT, 10), (signal.SIGKILL, 10)):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)


def _row(cell: Cell, course: Course, looks: Sequence[Look], started: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        **_head(cell),
        "status": dict(course.status),
        "findings": course.findings,
        "confirmed": course.confirmed,
        "phases": {name: round(spent, 2) for name, spent in course.phases.items()},
    }
    if course.began is not None:
        row["start_seconds"] = round(course.began - started, 1)
    if course.began is None or course.first is None:
        return row
    row["first_compared_after"] = round(course.first - course.began, 2)
    minutes = Counter(int((at - course.began) // 60) for at in course.compared)
    row["compared_by_minute"] = [
        minutes[minute] for minute in range(1 + int((course.compared[-1] - course.began) // 60))
    ]
    begin, end = course.first + cell.settle, course.began + cell.seconds
    inside = [one for one in looks if begin <= one.at <= end]
    if len(inside) < 2:
        return row
    begin, end = inside[0].at, inside[-1].at
    compared = sum(begin < at <= end for at in course.compared)
    took = end - begin
    used = {name: inside[-1].processor.get(name, 0.0) - inside[0].processor.get(name, 0.0) for name in _names(inside)}
    comparing = sum(spent for name, spent in used.items() if name != "confirming")
    return row | {
        "window": round(took, 2),
        "compared": compared,
        "per_minute": round(60 * compared / took, 1),
        "per_worker_minute": round(60 * compared / took / cell.workers, 1),
        "per_worker_cpu_minute": round(60 * compared / comparing, 1) if comparing else 0.0,
        "processor": {name: round(spent, 2) for name, spent in used.items()},
        "busy": round(sum(used.values()) / took / cell.workers, 3),
        "supervisor_ms_per_case": round(1000 * used["supervisor"] / max(1, compared), 2),
        "supervisor_share": round(used["supervisor"] / took, 3),
        "memory": max(one.memory for one in looks),
        "processes": max(one.processes for one in looks),
    }


def _head(cell: Cell) -> dict[str, Any]:
    """What was asked for, and where."""
    return {
        **asdict(cell),
        "cores": os.cpu_count(),
        "allowed": len(os.sched_getaffinity(0)),
        "model": _model(),
        "at": time.strftime("%Y-%m-%d %H:%M"),
        "commit": _commit(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _names(looks: Sequence[Look]) -> list[str]:
    return sorted({name for one in looks for name in one.processor})


def _model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    words = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parent)
    return found.stdout.strip()


def spread(wanted: int, allowed: Sequence[int]) -> list[int]:
    """So many cores, of different ones first where two share what computes (hyper-threads)."""
    seen: Counter[str] = Counter()

    def rank(core: int) -> tuple[int, int]:
        path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        siblings = path.read_text() if path.exists() else str(core)
        seen[siblings] += 1
        return seen[siblings], core

    return sorted(allowed, key=rank)[:wanted]


def _measured(rows: Path | None) -> Iterator[dict[str, Any]]:
    if rows is not None and rows.exists():
        for line in rows.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


#: What a row tells of the rate, and how its line calls it.
RATES = {
    "per_worker_minute": "compared per worker-minute",
    "per_worker_cpu_minute": "per CPU minute without confirming",
}


def _line(row: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """A row in words; ``one`` is that of one worker, or empty."""
    head = f"{row['target']:<12} {row['workers']:3} workers"
    if row.get("broken") or "per_minute" not in row:
        return f"{head}  not measured: {row.get('broken') or 'too few cases'} ({row.get('status')})"

    def rate(name: str, unit: str) -> str:
        share = f", {100 * row[name] / one[name]:.0f} % of one worker's" if one.get(name) else ""
        return f"{row[name]:7.1f} {unit}{share}"

    if row["target"] == "machine":
        return f"{head}  {rate('per_worker_minute', 'files compiled per process-minute')}"
    used = ", ".join(f"{name} {spent:.0f}" for name, spent in row["processor"].items())
    # Rows of earlier versions have fewer rates.
    rates = "; ".join(rate(name, unit) for name, unit in RATES.items() if name in row)
    return (
        f"{head}  {rates}  ({row['compared']} in "
        f"{row['window']:.0f} s; first after {row['first_compared_after']:.0f} s; busy {100 * row['busy']:.0f} % of "
        f"{row['workers']} cores; seconds: {used}; supervisor {row['supervisor_ms_per_case']:.1f} ms a case; "
        f"{row['processes']} processes, {row['memory'] / (1 << 30):.1f} GiB; started in {row['start_seconds']:.0f} s)"
    )


def told(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the rows of one target come to; empty without one worker and more."""
    rate = "per_worker_cpu_minute" if all("per_worker_cpu_minute" in row for row in rows) else "per_worker_minute"
    rated = {row["workers"]: row for row in rows if row.get(rate)}
    if len(rated) < 2 or 1 not in rated:
        return ""
    many = [row for workers, row in sorted(rated.items()) if workers > 1]
    shares = [row["per_worker_minute"] / rated[1]["per_worker_minute"] for row in many]
    said = ", ".join(f"{row['workers']} workers {share:.0%}" for row, share in zip(many, shares, strict=True))
    reached = all(share >= WANTED for share in shares)
    line = f"{rows[0]['target']:<12} by the clock {said}: {'reached' if reached else 'NOT'} {WANTED:.0%}"
    loads = [row["supervisor_share"] / row["workers"] for row in many if row.get("supervisor_share")]
    return f"{line}; the supervisor is full with {1 / max(loads):.0f} workers" if loads else line


def main() -> None:
    """Print one line as each cell ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = sorted(os.sched_getaffinity(0))
    parser.add_argument(
        "--targets", nargs="+", default=["machine", "kernel"], metavar="NAME", help="targets, kernel, or machine"
    )
    parser.add_argument("--workers", nargs="+", type=int, default=sorted({1, len(cores)}), metavar="N")
    parser.add_argument("--seconds", type=float, default=20.0, help="of fuzzing, for each cell (default 20)")
    parser.add_argument("--full", action="store_true", help="all that is wanted, on a machine with 32 cores")
    parser.add_argument("--settle", type=float, default=None, help="after the first compared case (default: a sixth)")
    parser.add_argument("--seconds-total", type=float, default=600.0, help="for all cells together (default 600)")
    parser.add_argument("--rows", type=Path, help="append raw rows to this file; what is there is not measured again")
    parser.add_argument("--loose", action="store_true", help="do not pin a campaign to as many cores as workers")
    parser.add_argument("--extra", default="", help="further options of shakeout run, in one string")
    if parser.parse_known_args()[0].full:
        fitting = [workers for workers in FULL["workers"] if workers <= len(cores)]
        parser.set_defaults(**{**FULL, "workers": fitting}, rows=ROWS, seconds_total=math.inf)
    options = parser.parse_args()
    until = time.monotonic() + options.seconds_total
    settle = options.seconds / 6 if options.settle is None else options.settle
    form = Cell("", 0, options.seconds, settle, not options.loose, tuple(shlex.split(options.extra)))
    here = {name: _head(form)[name] for name in ("commit", "model", "allowed")}
    measured = {
        Cell(**{name: row[name] for name in asdict(form)} | {"extra": tuple(row["extra"])}): row
        for row in _measured(options.rows)
        if not row.get("broken") and "per_minute" in row and all(row.get(name) == here[name] for name in here)
    }
    spent = options.seconds + 60.0
    for target in options.targets:
        one: Mapping[str, Any] = {}
        rows = []
        for workers in options.workers:
            extra = form.extra + EXTRA.get(target, ())
            cell = replace(form, target=target, workers=workers, extra=extra)
            if cell in measured:
                row = measured[cell]
            elif time.monotonic() + spent > until:
                print(f"{target:<12} {workers:3} workers  left out: {spent:.0f} s are not left", flush=True)
                continue
            else:
                print(f"{target:<12} {workers:3} workers  ...", flush=True)
                began = time.monotonic()
                if target == "machine":
                    row = run_machine(cell, spread(workers, cores))
                else:
                    row = run(cell, spread(workers, cores), until)
                    spent = time.monotonic() - began
                if options.rows is not None:
                    with options.rows.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            print(_line(row, one), flush=True)
            rows.append(row)
            if workers == 1:
                one = row
        if said := told(rows):
            print(said, flush=True)


if __name__ == "__main__":
    main()
