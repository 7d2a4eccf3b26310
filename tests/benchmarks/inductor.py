"""Measures compared cases per core-minute against Inductor: with the stock toolchain, and with each shortcut.

Run it directly: ``python tests/benchmarks/inductor.py [--cases N] [--kinds inference,training,dynamic]``. The same
seeds run through pools of real workers, warm, one for each set of shortcuts, which take turns. A core-minute is a
minute of processor time of everything below this process (workers, compilers, linkers, server, supervisor), so that
other processes on the machine show less. ``--check N`` runs N networks with and without the shortcuts and compares
every output's bits.
When a block of cases ends, its line is printed, and the row of its variant so far is appended to ``--rows`` as a JSON
line; the last row of a variant, with as many cases as were asked for, is its result.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shakeout.fuzz.ground.jobs import Grow, Job
from shakeout.fuzz.ground.results import Answer
from shakeout.fuzz.workers.pool import Limits, WorkerPool
from shakeout.fuzz.workers.protocol import ENVIRONMENT
from shakeout.targets.shortcuts import SHORTCUTS, environment

VARIANTS: tuple[tuple[str, ...], ...] = ((), *((name,) for name in SHORTCUTS), tuple(SHORTCUTS))

#: Cases for each worker before the first that is measured; where kernels are compiled jointly, that is two for each of
#: those that wait.
WARM = 8
WARM_JOINT = 40

KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "inference": ({"mode": "inference", "dynamic": False, "repeat": False}, {"dynamic": False}),
    "training": ({"mode": "training", "dynamic": False, "repeat": False}, {"dynamic": False}),
    "dynamic": ({"mode": "inference", "dynamic": True, "repeat": False}, {"dynamic": True}),
}


def spent(root: int) -> float:
    """Processor seconds of a process, its live descendants, and all of theirs that were waited for."""
    ticks, total, pending = os.sysconf("SC_CLK_TCK"), 0, [root]
    while pending:
        pid = pending.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
            for task in os.listdir(f"/proc/{pid}/task"):
                pending += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        except (OSError, ValueError):
            continue
    return total / ticks


@dataclass
class Tally:
    """What one variant has done so far: its pool, its answers, and seconds of clock and processor."""

    pool: WorkerPool
    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0
    shares: Counter[str] = field(default_factory=Counter)


def measure(
    kind: str, variants: Sequence[Sequence[str]], cases: int, workers: int, block: int
) -> Iterator[dict[str, Any]]:
    """A row for each block of a variant: what the variant has done with the seeds of a kind so far.

    The variants take turns, ``block`` cases at a time, so that a machine that is slow for a while is slow for all.
    """
    recipe, knobs = KINDS[kind]
    recipe = {"style": "network", "operators": 10, **recipe}

    def jobs(seeds: Iterable[int]) -> list[Job]:
        return [Grow(number=seed, target="inductor", seed=seed, recipe=recipe, knobs=knobs) for seed in seeds]

    with contextlib.ExitStack() as stack:
        tallies = []
        for shortcuts in variants:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="shakeout-bench-"))
            pool = WorkerPool(Path(scratch), ["inductor"], workers, shortcuts=shortcuts, recycle=10_000)
            stack.callback(pool.stop)
            pool.start()
            tallies.append(Tally(pool))
            # One round that is not measured: workers are forked as they are wanted, connect, and copy shared pages.
            _serve(pool, jobs(range((WARM_JOINT if "joint" in shortcuts else WARM) * workers)))
            print(f"{kind:<10} {_name(shortcuts):<30} is warm", flush=True)
        for first in range(0, cases, block):
            for shortcuts, tally in zip(variants, tallies, strict=True):
                began, before = time.monotonic(), _shares()
                tally.answers += _serve(tally.pool, jobs(range(1000 + first, 1000 + min(first + block, cases))))
                tally.seconds += time.monotonic() - began
                tally.shares.update({name: used - before[name] for name, used in _shares().items()})
                yield _row(kind, shortcuts, min(first + block, cases), workers, block, tally)


def _name(shortcuts: Sequence[str]) -> str:
    return "all" if tuple(shortcuts) == VARIANTS[-1] else "+".join(shortcuts) or "stock"


def _row(kind: str, shortcuts: Sequence[str], cases: int, workers: int, block: int, tally: Tally) -> dict[str, Any]:
    results = [answer.reply.result for answer in tally.answers]
    status: Counter[str] = Counter("lost" if result is None else result.status for result in results)
    phases: Counter[str] = Counter()
    for result in results:
        phases.update({} if result is None else result.seconds)
    return {
        "kind": kind,
        "shortcuts": list(shortcuts),
        "cases": cases,
        "workers": workers,
        "block": block,
        "status": dict(status),
        "seconds": round(tally.seconds, 2),
        "processor": {name: round(used, 2) for name, used in tally.shares.items()},
        "compared_per_core_minute": round(60 * status["compared"] / tally.shares["all"], 1),
        "compared_per_minute": round(60 * status["compared"] / tally.seconds, 1),
        "phases": {name: round(value, 2) for name, value in phases.items()},
        "outcomes": dict(Counter("lost" if result is None else str(result.outcome) for result in results)),
        "versions": _versions(),
        "load": os.getloadavg()[0],
        "at": time.strftime("%Y-%m-%d %H:%M"),
    }


def _shares() -> dict[str, float]:
    """Processor seconds of everything, of this process alone, and of the server with its compilers."""
    used = {"all": spent(os.getpid()), "supervisor": time.process_time(), "joint server": 0.0}
    for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        if b"shakeout.targets.joint" in Path(f"/proc/{child}/cmdline").read_bytes():
            used["joint server"] += spent(int(child))
    return used


def _serve(pool: WorkerPool, jobs: list[Job]) -> list[Answer]:
    waiting, found, wanted = list(reversed(jobs)), [], len(jobs)
    while sum(not answer.reply.partial for answer in found) < wanted:
        found += pool.step(lambda: waiting.pop() if waiting else None, lambda job: Limits(300.0, 8 << 30))
    return found


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    compiler = subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True).stdout.strip()
    return {"torch": version("torch"), "python": platform.python_version(), "g++": compiler}


# --- bits -------------------------------------------------------------------------------------------------------------


def digests(seeds: Sequence[int], shortcuts: Sequence[str], processes: int) -> dict[int, str]:
    """What each network's outputs are, to the bit, when so many processes compile at the same time."""
    with tempfile.TemporaryDirectory(prefix="shakeout-bench-") as scratch:
        door = -1
        server = None
        if "joint" in shortcuts or "linker" in shortcuts:
            from shakeout.targets.joint import ENOUGH, LARGEST, find_linker

            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            largest = str(LARGEST if "joint" in shortcuts else 1)
            linker = find_linker() if "linker" in shortcuts else ""
            server = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "shakeout.targets.joint",
                    str(theirs.fileno()),
                    scratch,
                    "2",
                    str(processes),
                    str(ENOUGH),
                    largest,
                    linker,
                ],
                pass_fds=[theirs.fileno()],
            )
            theirs.close()
            door = ours.fileno()
        context = multiprocessing.get_context("fork")
        with context.Pool(processes, _prepare, (scratch, tuple(shortcuts), door)) as pool:
            found = dict(pool.imap_unordered(_digest, seeds))
        if server is not None:
            ours.close()
            server.wait()
        return found


def _prepare(scratch: str, shortcuts: tuple[str, ...], door: int) -> None:
    os.environ |= environment(shortcuts)
    import torch

    from shakeout.generators.vocabularies.torch import load_records
    from shakeout.targets.shortcuts import install

    torch.set_num_threads(1)
    # One for each process where a server compiles, as in a campaign; the stock ones share their headers.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{scratch}/{os.getpid() if shortcuts else 'stock'}"
    load_records()
    if shortcuts:
        install(shortcuts, door)


def _digest(seed: int) -> tuple[int, str]:
    import torch

    from shakeout.corpus import script
    from shakeout.corpus.case import Case, Setting
    from shakeout.fuzz.running import runs
    from shakeout.generators.choices import SeededChoices
    from shakeout.generators.network import grow
    from shakeout.generators.recipe import Recipe
    from shakeout.generators.vocabularies.torch import load_records
    from shakeout.targets.registry import target

    recipe, _ = KINDS["inference"]
    grown = grow(SeededChoices(seed), Recipe(style="network", operators=10, **recipe), load_records())
    case = Case(grown.program, grown.input_sets, Setting("inductor", (), grown.mode))
    seen = runs.observe(script.load(case), target("inductor").source(case.setting))
    if seen.error is not None:
        return seed, f"{seen.error.kind}: {seen.error.template}"
    text = hashlib.sha256()
    for call in seen.calls:
        for tensor in call["output"]:
            if tensor is not None:
                text.update(f"{tensor.dtype} {tuple(tensor.shape)} {tuple(tensor.stride())}".encode())
                flat = tensor.detach().reshape(-1).clone(memory_format=torch.contiguous_format)
                text.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return seed, text.hexdigest()


def main() -> None:
    """Print one line as each block of a variant ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=96)
    parser.add_argument("--kinds", default="inference")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--only", nargs="+", metavar="NAMES", help="variants: names with commas between, all, or stock; each otherwise"
    )
    parser.add_argument("--block", type=int, default=24, help="cases until it is the next variant's turn")
    parser.add_argument("--check", type=int, default=0, metavar="N", help="compare the bits of N networks instead")
    parser.add_argument("--rows", type=Path, help="append raw rows to this file")
    options = parser.parse_args()
    os.environ |= ENVIRONMENT
    if options.check:
        seeds = range(5000, 5000 + options.check)
        # As many that compile at the same time as make the server put kernels of several programs together.
        stock, quick = digests(seeds, (), 2), digests(seeds, VARIANTS[-1], max(2, min(8, options.check // 2)))
        differ = [seed for seed in seeds if stock[seed] != quick[seed]]
        print(f"{len(seeds)} networks, {len(differ)} differ between stock and shortcuts {differ[:10]}")
        sys.exit(bool(differ))
    variants = VARIANTS
    if options.only is not None:
        variants = tuple(
            tuple(name for name in text.replace("stock", "").replace("all", ",".join(SHORTCUTS)).split(",") if name)
            for text in options.only
        )
    for kind in options.kinds.split(","):
        for row in measure(kind, variants, options.cases, options.workers, options.block):
            if options.rows is not None:
                with options.rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            print(
                f"{kind:<10} {_name(row['shortcuts']):<30} {row['cases']:4} cases: "
                f"{row['compared_per_core_minute']:6.1f} compared per core-minute "
                f"({row['compared_per_minute']:.1f} a minute; {row['status']}, load {row['load']:.1f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
