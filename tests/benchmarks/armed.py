"""Whether watching coverage changes what a case shows, and what it costs, case by case.

``armed.py [--target NAME ...] [--cases N] [--first N] [--source S ...] [--library L ...] [--append FILE]``. What is
watched is what ``--coverage`` watches of the target, by all sources or those that are named. For each target three
processes are forked from one in which it is warm: *plain* and *control*, in which nothing is armed, and *armed*. Each
grows and runs the same cases, one after the other in turns, reference and target, so that a machine that is slow for a
while is slow for all. Compared is every bit of every tensor that a run shows, with its dtype, shape and strides, and
the class of what it raised; where plain and control differ already, the case says nothing. ``runs`` are those of all
rounds. The cost is a process's own
processor time for case, report and what is done between two cases; that of compilers which are started is left out,
since nothing is armed in them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.campaign.schedule import job
from shakeout.fuzz.coverage.hits import by_source
from shakeout.fuzz.coverage.sources import Sources, Wanted, sources
from shakeout.fuzz.ground.makers import GROWER, Maker, maker
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.workers.protocol import ENVIRONMENT, Channel, Disconnected
from shakeout.targets.registry import target

_T = TypeVar("_T")

ROLES = ("plain", "armed", "control")

#: Of a campaign in which these cases come.
SEED = 2511

#: What is said of a case begins with this where no two runs can be compared: it could not be grown, or it ended its
#: process, which all three have to agree on.
NOTHING = "nothing:"

#: All cases come once to meet functions, once more to meet the blocks of those, and once more: what that costs is what
#: a case costs after warm-up.
ROUNDS = 3


def digest(value: Any) -> str:
    """A hash of everything in nested containers of tensors and plain values."""
    import torch

    hashed = hashlib.sha256()

    def add(one: Any) -> None:
        if isinstance(one, torch.Tensor):
            hashed.update(f"{one.dtype} {tuple(one.shape)} {one.layout} {one.requires_grad}".encode())
            if one.layout == torch.strided:
                hashed.update(repr(one.stride()).encode())
                flat = torch.empty(one.numel(), dtype=one.dtype).copy_(one.detach().reshape(-1))
                hashed.update(flat.view(torch.uint8).numpy().tobytes())
        elif isinstance(one, dict):
            for key in one:
                hashed.update(repr(key).encode())
                add(one[key])
        elif isinstance(one, list | tuple):
            hashed.update(f"{type(one).__name__} {len(one)}".encode())
            for item in one:
                add(item)
        else:
            hashed.update(type(one).__name__.encode() + (repr(one).encode() if isinstance(one, _PLAIN) else b""))

    add(value)
    return hashed.hexdigest()[:24]


_PLAIN = (int, float, complex, str, bytes, bool, type(None))


def show(maker: Maker, name: str, index: int, every: Sources) -> str:
    """Grow a case, run it on reference and target, and give a hash of what both showed."""
    import torch

    from shakeout.fuzz.running.execute import answered
    from shakeout.oracles.verdict import REFERENCE, SUBJECT

    wanted = job(Config(targets=(name,), seed=SEED), index)
    random.seed(wanted.seed)
    torch.manual_seed(wanted.seed & 0x7FFFFFFFFFFFFFFF)
    case = maker.compose(wanted).case
    every.begin(case)
    answer = answered(case)
    shown = []
    for question in (REFERENCE, SUBJECT):
        seen = answer(question)
        error = None if seen.error is None else (seen.error.kind, seen.error.declined, seen.error.stage)
        shown.append((error, list(seen.calls)))
    every.end(case, "compared")
    return f"{case.id} {digest(shown)}"


def serve(channel: Channel, maker: Maker, name: str, every: Sources) -> None:
    """Do cases as they are asked for."""
    while True:
        for message in channel.receive():
            began = time.process_time()
            try:
                seen = show(maker, name, message["case"], every)
            except Exception as error:
                seen = f"{NOTHING} {type(error).__name__}: {error}"
            hits = every.take()
            sent = [one.to_json() for one in hits]
            spent = time.process_time() - began
            every.look_closer(0.25)
            between = time.process_time() - began - spent
            reached = by_source(hits)
            channel.send({"seen": seen, "spent": spent, "between": between, "reached": reached, "hits": sent})


class Child:
    """One of the processes; it is forked anew when a case ends it."""

    def __init__(self, begin: Callable[[Channel], None]) -> None:
        self._begin = begin
        self.pid = 0
        self.channel = self._fork()

    def _fork(self) -> Channel:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            try:
                self._begin(Channel(theirs))
            finally:
                os._exit(1)
        theirs.close()
        return Channel(ours)

    def ask(self, case: int) -> dict[str, Any]:
        """What it says of a case, or of what it died."""
        try:
            self.channel.send({"case": case})
            replies: list[dict[str, Any]] = []
            while not replies:
                replies = [row for row in self.channel.receive() if "armed" not in row]
            return replies[0]
        except Disconnected:
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.channel.close()
            self.channel = self._fork()
            return {"seen": f"{NOTHING} ended with {status}", "spent": 0.0, "between": 0.0, "reached": {}}

    def end(self) -> None:
        """Kill it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.channel.close()


def measure(name: str, cases: int, first: int, wanted: Wanted) -> dict[str, Any]:
    """One row for a target."""
    import torch

    torch.set_num_threads(1)
    grower = maker(GROWER)
    target(name).warm()
    grower.prepare(lambda text: None)

    def begin(role: str) -> Callable[[Channel], None]:
        def work(channel: Channel) -> None:
            if role != "armed":
                serve(channel, grower, name, Sources())
                return
            began = time.monotonic()
            every = sources(wanted)
            told = list(every.arm())
            channel.send(
                {"armed": [(one.name, one.watched, one.reason) for one in told], "seconds": time.monotonic() - began}
            )
            serve(channel, grower, name, every)

        return work

    children = {role: Child(begin(role)) for role in ROLES}
    armed = children["armed"].channel.receive()[0]
    rows: dict[str, list[dict[str, Any]]] = {role: [] for role in ROLES}
    order = [index for _ in range(ROUNDS) for index in range(first, first + cases)]
    for index in order:
        # Whose turn comes first changes, since the first finds no file in the cache.
        turn = index % len(ROLES)
        for role in (*ROLES[turn:], *ROLES[:turn]):
            rows[role].append(children[role].ask(index))
    for child in children.values():
        child.end()
    seen = [tuple(rows[role][place]["seen"] for role in ROLES) for place in range(len(order))]
    steady = [plain == control and not plain.startswith(NOTHING) for plain, _, control in seen]
    different = [order[place] for place, (plain, other, _) in enumerate(seen) if steady[place] and other != plain]
    return {
        "when": time.strftime("%Y-%m-%d"),
        "target": name,
        "sources": wanted.to_json(),
        "armed": armed["armed"],
        "arming_seconds": round(armed["seconds"], 2),
        "cases": cases,
        "first": first,
        "runs": len(order),
        "repeatable": sum(steady),
        "nothing_to_compare": sum(one.startswith(NOTHING) for one, _, _ in seen),
        "different_when_armed": len(different),
        "different": different[:20],
        "reached": [_total(row["reached"] for row in some) for some in _rounds(rows["armed"], cases)],
        "armed_to_plain": _ratios(rows["armed"], rows["plain"], cases),
        "control_to_plain": _ratios(rows["control"], rows["plain"], cases),
        "versions": {"python": describe()["python"], **describe()["packages"]},
        "processor": describe()["processor"],
    }


def _ratios(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]], cases: int) -> dict[str, Any]:
    """Processor time against processor time, by round; of the last round also an interval and the median of pairs."""
    pairs = [(one["spent"] + one["between"], other["spent"]) for one, other in zip(ours, theirs, strict=True)]
    warm = [pair for pair in pairs[-cases:] if min(pair) > 0]
    dice = random.Random(0)
    drawn = sorted(_of_sums(dice.choices(warm, k=len(warm))) for _ in range(1000))
    return {
        "by_round": [round(_of_sums(some), 4) for some in _rounds(pairs, cases)],
        "interval": [round(drawn[25], 4), round(drawn[974], 4)],
        "median_pair": round(statistics.median(a / b for a, b in warm), 4),
        "seconds_each": round(sum(b for _, b in warm) / len(warm), 4),
    }


def _total(every: Iterable[dict[str, int]]) -> dict[str, int]:
    """How much was reached, by source."""
    found: Counter[str] = Counter()
    for one in every:
        found.update(one)
    return dict(found)


def _rounds(rows: Sequence[_T], cases: int) -> list[Sequence[_T]]:
    return [rows[begin : begin + cases] for begin in range(0, len(rows), cases)]


def _of_sums(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(a for a, _ in pairs) / sum(b for _, b in pairs)


#: Sources by name, and what of ``Wanted`` each needs.
_SOURCES = {
    "native": ("libraries",),
    "python": ("modules",),
    "traced": ("modules", "traced"),
    "passes": ("witnesses",),
    "space": ("space",),
}


def _wanted(name: str, chosen: Sequence[str] | None, libraries: Sequence[str]) -> Wanted:
    """What is watched of a target."""
    every = Config(targets=(name,), coverage=True, coverage_report="traced" in (chosen or ())).watched
    if libraries:
        every = replace(every, libraries=tuple(libraries))
    if chosen is None:
        return every
    kept = {part for one in chosen for part in _SOURCES[one]}
    return Wanted(**{part: getattr(every, part) for part in kept})


def main() -> None:
    """Print one row for each target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", nargs="+", default=["tvm"])
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--library", nargs="+", default=[], help="instead of the target's own")
    parser.add_argument("--append", type=Path, help="file of rows")
    parser.add_argument("--source", nargs="+", choices=_SOURCES, help="only these (default: all but traced)")
    options = parser.parse_args()
    # Before torch is imported, and in a process with this hash seed from its beginning.
    if any(os.environ.get(key) != value for key, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    for name in options.target:
        with tempfile.TemporaryDirectory(prefix="shakeout-bench-") as scratch:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = scratch
            row = measure(name, options.cases, options.first, _wanted(name, options.source, options.library))
        print(json.dumps(row, indent=1))
        if options.append is not None:
            options.append.parent.mkdir(parents=True, exist_ok=True)
            with options.append.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
