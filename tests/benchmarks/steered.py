"""Guidance against none on planted faults, in one process and by its own processor time.

    python tests/benchmarks/steered.py --target tvm onnxruntime --seconds 60 --append docs/coverage/steered.jsonl

For each target, seed and kind one row. A campaign's own generator and, where it is guided, its own steering decide the
cases; a forked child grows and runs each, judges it, and tells its coverage, while the canaries of all planted faults
of the target listen and no fault has an effect (``tests/faults``). A case costs the processor time of that child, with
the canaries and, where it is guided, with all sources of coverage, so what guidance costs is counted. There is no
triage and no waiting, so a row is what the decisions are worth and nothing else.

With ``--grown`` cases are only grown, nothing is compiled, and each costs by a formula (``COST``): what is decided, and
what of the space of cases that visits, follows from the seed alone.

``--parallel N`` runs N campaigns at a time, each on a core of its own; lists of blocks are made by one campaign first.
Rows are appended as each ends, and what the file has is not run again. ``--wall`` ends each campaign in any case.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from shakeout.corpus import codec
from shakeout.corpus.program import walk
from shakeout.fuzz.campaign import schedule
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.coverage.log import NAME as LOG
from shakeout.fuzz.coverage.log import CoverageLog
from shakeout.fuzz.coverage.sources import Sources, Wanted, sources
from shakeout.fuzz.ground.jobs import Job, Make, Run, job_from_json
from shakeout.fuzz.ground.makers import GROWER, Made, Maker, maker
from shakeout.fuzz.ground.results import Answer, Loss, Reply, Result
from shakeout.fuzz.ground.slot import SlotState
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.steering.steering import Replays, Steering
from shakeout.fuzz.steering.store import NAME, Store
from shakeout.fuzz.workers.protocol import ENVIRONMENT, Channel, Disconnected
from shakeout.targets.registry import facts_of, target

#: Seconds by the clock after which a case counts as hung, and its child ends.
PATIENCE = 60

#: Seconds that a case costs which is only grown, and each call of it.
COST, CALL = 0.1, 0.01

#: Fields that make two rows the same measurement.
SAME = ("target", "seed", "guided", "grown", "seconds", "versions")

#: Parts of the space of cases of which a row has the number.
SPACE = ("operators", "variants", "edges")

#: Columns of the summary.
SHOWN = ("cases", *SPACE, "reached", "triggered", "signatures")


# --- one case, in the child -------------------------------------------------------------------------------------------


def serve(channel: Channel, name: str, grower: Maker, every: Sources, *, grown: bool) -> None:
    """Do jobs as they come."""
    with contextlib.ExitStack() as stack:
        from tests.faults import FAULTS, listening

        heard_of = [] if grown else [fault for fault in FAULTS if fault.target == name]
        canaries = stack.enter_context(listening(heard_of))
        while True:
            for message in channel.receive():
                signal.alarm(message["patience"])
                began = time.process_time()
                reply = run(job_from_json(message["job"]), grower, every, grown=grown)
                every.look_closer(0.25)
                signal.alarm(0)
                heard = {
                    what: [one for one, canary in canaries.items() if getattr(canary, what)]
                    for what in ("reached", "triggered")
                }
                for canary in canaries.values():
                    canary.reached = canary.triggered = 0
                spent = reply.seconds or COST if grown else time.process_time() - began
                channel.send({**heard, "reply": reply.to_json(), "spent": spent})


def run(job: Job, grower: Maker, every: Sources, *, grown: bool) -> Reply:
    """A case as a worker does it, under its first setting."""
    import torch

    from shakeout.fuzz.coverage.space import features
    from shakeout.fuzz.running.execute import Shared, execute

    assert isinstance(job, Make | Run)
    torch.manual_seed(job.seed & 0x7FFFFFFFFFFFFFFF)
    try:
        made = grower.compose(job) if isinstance(job, Make) else Made(codec.decode(job.case))
        if isinstance(job, Run):
            every.rearm(job.claims)
        every.begin(made.case)
        if grown:
            result = Result(made.case.id, made.case.setting.target, "compared")
        else:
            result = execute(made.case, shared=Shared(grown=made.reference), explain=False)
        every.end(made.case, result.status)
    except Exception as error:
        return Reply(internal=f"{type(error).__name__}: {error}", coverage=every.take())
    space = tuple(sorted(features(made.case, result.status)))
    hits = every.take()
    rearmed, shown = every.showed(hits)
    told = Reply(result=result, case=made.case.text, space=space, made=made.mutators, coverage=hits)
    calls = sum(1 for _ in walk(made.case.program.calls))
    return replace(told, rearmed=rearmed, shown=shown, seconds=COST + CALL * calls)


# --- one campaign -----------------------------------------------------------------------------------------------------


class Child:
    """The process that runs cases; another is forked when one ends it."""

    def __init__(self, name: str, grower: Maker, every: Sources, *, grown: bool) -> None:
        self._what = name, grower, every
        self._grown = grown
        self._channel: Channel | None = None
        self._pid = 0

    def ask(self, job: Job, patience: float) -> dict[str, Any]:
        """What came of a job; without a reply where the process ended, at the latest after so many seconds."""
        if self._channel is None:
            self._fork()
        assert self._channel is not None
        began = time.monotonic()
        try:
            self._channel.send({"job": job.to_json(), "patience": max(1, min(PATIENCE, round(patience)))})
            while True:
                for message in self._channel.receive():
                    return message
        except Disconnected:
            self.end()
            return {"spent": time.monotonic() - began}

    def _fork(self) -> None:
        name, grower, every = self._what
        every.before_fork()
        ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            try:
                serve(Channel(theirs), name, grower, every, grown=self._grown)
            finally:
                os._exit(1)
        theirs.close()
        self._channel = Channel(ours)

    def end(self) -> None:
        """End it."""
        if self._channel is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._channel.close()
            self._channel = None


def campaign(name: str, seed: int, seconds: float, wall: float, *, guided: bool, grown: bool) -> dict[str, Any]:
    """What one campaign came to."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    grower = maker(GROWER)
    if not grown:
        target(name).warm()
    grower.prepare(lambda text: None)
    config = Config(targets=(name,), seed=seed, coverage=guided)
    found: dict[str, set[str]] = defaultdict(set)
    counts: Counter[str] = Counter()
    curve: list[tuple[int, int, int]] = []
    spent, number, until = 0.0, 0, time.monotonic() + wall
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        directory = Path(folder)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        log = stack.enter_context(CoverageLog(directory))
        every = sources(Wanted(space=grown) if grown or not guided else config.watched, directory / LOG)
        for _ in every.arm():
            pass
        store = stack.enter_context(Store(directory / NAME)) if guided else None
        steering = None if store is None else Steering(store, (name,), "build")
        child = Child(name, grower, every, grown=grown)
        stack.callback(child.end)

        def cover(answer: Answer) -> Sequence[Any]:
            return log.add(answer.reply.coverage, case=number, target=name, seconds=spent)

        replays = None if steering is None else Replays(steering, "cpu", cover, lambda *finding: None)
        while spent < seconds and time.monotonic() < until:
            again = None if replays is None else replays.next()
            job: Job = again or schedule.job(config, number)
            if again is None:
                number += 1
                if steering is not None:
                    assert isinstance(job, Make)
                    job = steering.decide(job)  # type: ignore[arg-type]
            told = child.ask(job, until - time.monotonic())
            spent += told["spent"]
            answer = _answer(job, told)
            if again is not None and replays is not None:
                counts["again"] += 1
                replays.done(answer)
                continue
            counts["cases"] += 1
            result = answer.reply.result
            if result is None:
                counts["died" if answer.loss else "internal"] += 1
                if steering is not None and answer.loss:
                    steering.lost(answer, None, "ended")
                continue
            counts[result.status] += 1
            if result.signature:
                counts["findings"] += 1
                found["signatures"].add(result.signature)
            for what in ("reached", "triggered"):
                found[what].update(told[what])
            for word in answer.reply.space:
                found[word.partition(":")[0]].add(word)
            if steering is not None and store is not None:
                decision = store.decision(number - 1)
                counts[decision.generator if decision else ""] += 1
                steering.learn(answer, result, cover(answer))
            curve.append((round(spent), len(found["triggered"]), len(found["operators"])))
        totals = dict(log.total)
    return {
        **{what: len(found[what]) for what in (*SPACE, "reached", "triggered", "signatures")},
        "names": sorted(found["triggered"]),
        **counts,
        "spent": round(spent, 1),
        "places": totals,
        "curve": curve[:: max(len(curve) // 20, 1)],
    }


def _answer(job: Job, told: dict[str, Any]) -> Answer:
    if "reply" not in told:
        return Answer(job, 0, Reply(), Loss("crash", "", SlotState(0, 0.0, "", 0.0), told["spent"]))
    data = {**told["reply"], "seconds": told["spent"]}
    return Answer(job, 0, Reply.from_json(data))


# --- all of them ------------------------------------------------------------------------------------------------------


def wanted(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The measurements that are asked for, a pair after the other."""
    packages = describe()["packages"]
    for seed in range(options.first, options.first + options.seeds):
        for name in options.target:
            named = ("torch", *facts_of(name).packages)
            versions = {one: packages[one] for one in named if one in packages}
            for guided in (True, False) if seed % 2 else (False, True):
                yield {
                    "target": name,
                    "seed": seed,
                    "guided": guided,
                    "grown": options.grown,
                    "seconds": options.seconds,
                    "versions": versions,
                }


def _command(one: dict[str, Any], wall: float) -> list[str]:
    return [sys.executable, str(Path(__file__)), "--only", json.dumps(one), "--wall", str(wall)]


def run_all(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Run what has no row yet, so many at a time."""
    waiting = [one for one in wanted(options) if not any(all(row.get(key) == one[key] for key in SAME) for row in rows)]
    if options.parallel > 1:
        # Thirty that begin without lists of blocks would all disassemble the same.
        prime = {"seed": 99, "guided": True, "grown": options.grown, "seconds": options.prime}
        commands = [_command({**prime, "target": name}, options.prime + 5) for name in options.target]
        for primed in [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]:
            primed.wait()
    cores = sorted(os.sched_getaffinity(0))
    free = cores[: options.parallel]
    running: list[tuple[dict[str, Any], int, subprocess.Popen[str]]] = []
    while waiting or running:
        while waiting and free:
            one, core = waiting.pop(0), free.pop(0)
            command = [*_command(one, options.wall), "--core", str(core)]
            running.append((one, core, subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
        time.sleep(0.2)
        for entry in [entry for entry in running if entry[2].poll() is not None]:
            one, core, process = entry
            running.remove(entry)
            free.append(core)
            assert process.stdout is not None
            said = process.stdout.read()
            if process.returncode:
                print(f"{one['target']} {one['seed']}: ended with {process.returncode}", flush=True)
                continue
            row = {"when": time.strftime("%Y-%m-%d"), **one, **json.loads(said.splitlines()[-1])}
            rows.append(row)
            print(json.dumps({key: row.get(key, 0) for key in ("target", "seed", "guided", *SHOWN)}), flush=True)
            if options.append is not None:
                options.append.parent.mkdir(parents=True, exist_ok=True)
                with options.append.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, sort_keys=True) + "\n")


def _summary(rows: Sequence[dict[str, Any]]) -> None:
    print(f"{'target':<14} {'':<9} {'seeds':>5}" + "".join(f"{name:>22}" for name in SHOWN))
    for name in dict.fromkeys(row["target"] for row in rows):
        for guided in (True, False):
            some = [row for row in rows if row["target"] == name and row["guided"] is guided]
            if some:
                told = "".join(f"{_range([row.get(key, 0) for row in some]):>22}" for key in SHOWN)
                print(f"{name:<14} {'guided' if guided else 'unguided':<9} {len(some):>5}{told}")


def _range(values: Sequence[int]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,} to {max(values):,})"


def main() -> None:
    """Run what is not in the file yet, and print what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", nargs="+", default=["tvm", "onnxruntime"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seconds", type=float, default=60.0, help="of processor time in each campaign")
    parser.add_argument("--wall", type=float, default=600.0, help="seconds by the clock in each campaign at most")
    parser.add_argument("--parallel", type=int, default=1, help="campaigns at a time")
    parser.add_argument("--prime", type=float, default=15.0, help="seconds of those that make lists of blocks")
    parser.add_argument("--append", type=Path, help="file of rows")
    parser.add_argument("--grown", action="store_true", help="grow cases only")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if any(os.environ.get(key) != value for key, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    if options.only:
        if options.core is not None:
            os.sched_setaffinity(0, {options.core})
        one = json.loads(options.only)
        row = campaign(
            one["target"], one["seed"], one["seconds"], options.wall, guided=one["guided"], grown=one["grown"]
        )
        print(json.dumps(row))
        return
    rows: list[dict[str, Any]] = []
    if options.append is not None and options.append.exists():
        rows = [json.loads(line) for line in options.append.read_text(encoding="utf-8").splitlines() if line.strip()]
    run_all(options, rows)
    _summary([row for row in rows if row["seconds"] == options.seconds and row["grown"] == options.grown])


if __name__ == "__main__":
    main()
