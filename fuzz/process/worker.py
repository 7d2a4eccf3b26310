"""A worker: takes jobs from the supervisor, makes cases, runs them and sends back what came of it.

Forked from the zygote. What it is about to do stands in its slot first, so whatever happens to it is an observation.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import resource
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.corpus import codec
from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.coverage.sources import Sources
from shakeout.fuzz.coverage.space import features
from shakeout.fuzz.ground.child import resident
from shakeout.fuzz.ground.jobs import (
    Candidate,
    Examine,
    Job,
    Learn,
    Make,
    Recall,
    Reduce,
    Run,
    Script,
    Session,
    Trial,
    job_from_json,
)
from shakeout.fuzz.ground.makers import Made
from shakeout.fuzz.ground.makers import maker as load_maker
from shakeout.fuzz.ground.results import Reply, Result
from shakeout.fuzz.ground.signature import INTERNAL
from shakeout.fuzz.ground.slot import WAITING, Slot
from shakeout.fuzz.workers.protocol import LOG, TELL_STACK, Channel, Disconnected
from shakeout.targets.shortcuts import alone, occupied, watched

if TYPE_CHECKING:
    from shakeout.oracles.metamorphic import Derived

__all__ = ["load", "main"]

#: Files that compilers wrote are deleted once so many cases have run: some 20 files a case with Inductor.
PRUNE_EVERY = 20

#: Seconds between two cases in which coverage looks closer at what the last one hit for the first time. Soon that is
#: nothing; at a worker's beginning it is some thousand functions, a fifth of a millisecond each.
CLOSER = 0.25

#: With less room on the disk than this, a failure is the disk's.
LEAST_FREE = 32 << 20


def load() -> None:
    """Import what every job needs; in the zygote, before any fork.

    A case that fails goes through every oracle and every kind of run, which load some hundreds of modules, in seconds.
    """
    from shakeout.fuzz.campaign.selftest import case
    from shakeout.fuzz.running.execute import execute, repro

    failing = case("wrong value")
    repro(failing, execute(failing))


def main(sock: socket.socket, slot_path: Path, home: Path, maker: str, sources: Sources | None = None) -> None:
    """Serve jobs until the supervisor hangs up.

    Args:
        sock: one end of the worker's channel.
        slot_path: its slot, where nothing is yet.
        home: its directory; what the compilers write goes there.
        maker: name of what grows cases.
        sources: of coverage, armed before the fork.
    """
    _make_home(home)
    _mend()
    worker = _Worker(Channel(sock), Slot(slot_path), home, maker, sources)
    worker.channel.send({"resident": resident(os.getpid()), "began": time.monotonic()})
    with contextlib.suppress(Disconnected):
        while True:
            for message in worker.channel.receive():
                worker.serve(message["serial"], job_from_json(message["job"]))
    worker.slot.close()


def _mend() -> None:
    """Have torch replace the pool of threads that no forked process can use, while there is one thread.

    Where torch was built for an accelerator, the first gradient may start several more (in 2.11.0); all of them ask for
    the pool at once, and the one that finds none aborts the process (``Invalid thread pool!``).
    """
    import torch

    torch.set_num_threads(torch.get_num_threads())


def _make_home(home: Path) -> None:
    """A place of its own for everything that this process and its compilers write."""
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(home / "inductor")
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = str(temporary)
    file = os.open(home / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    # A crash is told by the signal and by the stack; writing a core of a gigabyte would only take time.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(all_threads=False)
    faulthandler.register(TELL_STACK, all_threads=False)
    # If the machine runs out of memory, the kernel shall take a worker and not the supervisor.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


class _Kept:
    """What targets kept of the last program, for the next job if it asks for that program under another setting.

    Whoever looks for the smallest case or for a culprit asks for one program under dozens of settings, of which each
    would have it exported anew. A setting that comes again gets nothing: it was asked for to see everything once more.
    """

    def __init__(self) -> None:
        self._program: tuple[Any, ...] = ()
        self._settings: set[Setting] = set()
        self._kept: dict[str, Any] = {}

    def of(self, case: Case) -> dict[str, Any]:
        """What may be used again for a case, and where its target leaves more."""
        program = (replace(case, setting=replace(case.setting, knobs=())).id,)
        if program != self._program or case.setting in self._settings:
            self._program, self._settings, self._kept = program, set(), {}
        self._settings.add(case.setting)
        return self._kept


def _broken(device: str) -> bool:
    """Whether the device answers no more: after an illegal access every later call of the process fails."""
    if device == "cpu":
        return False
    import torch

    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _avoided(case: Case, job: Job) -> Result | None:
    """The result of a case that is not run, because a known bug occurs in it; None if it runs."""
    from shakeout.fuzz.triage.recognition import contained

    if not (isinstance(job, Make) and (bug := contained(case, job.avoid))):
        return None
    operators = case.program.operators()
    return Result(case.id, case.setting.target, "avoided", operators=operators, reason=f"contains {bug}")


class _Worker:
    def __init__(self, channel: Channel, slot: Slot, home: Path, maker: str, sources: Sources | None = None) -> None:
        self.channel = channel
        self.slot = slot
        self._home = home
        self._sources = Sources() if sources is None else sources
        watched(lambda waiting: self.slot.phase(WAITING if waiting else "run"))
        self._maker = load_maker(maker)
        self._kept = _Kept()
        self._done = 0

    def serve(self, serial: int, job: Job) -> None:
        """One job, and the replies to it."""
        began = time.monotonic()
        with contextlib.suppress(OSError):
            os.ftruncate(1, 0)
        self.slot.begin(serial, json.dumps(job.to_json()))
        # Whoever asks for a fresh worker waits for it, and has no use for kernels that come with others' after a while.
        with occupied(), alone() if job.fresh else contextlib.nullcontext():
            for reply in self._replies(serial, job):
                self._send(reply, serial, time.monotonic() - began)
                self._sources.look_closer(CLOSER)
                began = time.monotonic()
        self.slot.end()
        self._done += 1
        if self._done % PRUNE_EVERY == 0:
            self._prune()

    def _send(self, reply: Reply, serial: int, spent: float = 0.0) -> None:
        hits = self._sources.take()
        rearmed, shown = self._sources.showed(hits)
        reply = replace(reply, rearmed=rearmed, shown=shown)
        told = replace(reply, serial=serial, seconds=spent, resident=resident(os.getpid()), coverage=hits)
        self.channel.send(told.to_json())

    def _replies(self, serial: int, job: Job) -> Iterator[Reply]:
        """What came of a job, one reply for each setting; an error of our own is a reply too."""
        try:
            match job:
                case Examine() | Learn() | Recall():
                    from shakeout.fuzz.learning.maker import work

                    yield work(job, self.slot)
                case Reduce():
                    from shakeout.fuzz.triage.reducing import reduced

                    yield reduced(job, self.slot, lambda reply: self._send(reply, serial), self._kept.of)
                case Session():
                    from shakeout.fuzz.engines.session import fuzz

                    # It ends with the process.
                    fuzz(job, serial, self.slot, self._maker, self._cases, lambda one, t: self._send(one, serial, t))
                case Script():
                    from shakeout.fuzz.running.execute import repro

                    yield Reply(script=repro(codec.decode(job.case), limit=job.limit))
                case _:
                    sequence = tuple(text for earlier in job.before for text, _ in self._cases(earlier))
                    for _, reply in self._cases(job):
                        yield replace(reply, sequence=sequence)
        except MemoryError:
            yield Reply(internal=f"{INTERNAL} MemoryError", traceback=traceback.format_exc())
        except Exception as error:
            yield Reply(internal=f"{INTERNAL} {type(error).__name__}: {error}", traceback=traceback.format_exc())

    def _cases(self, job: Job) -> Iterator[tuple[str, Reply]]:
        """Make a case, run it under each of its settings, and what a metamorphic relation makes of it if it passed.

        With each reply comes the text of its case. All replies but the last are ``partial``, and the last of the job's
        own is ``answered``: if the worker ends while it runs the changed case, the job has been answered all the same.
        """
        import torch

        from shakeout.fuzz.running.execute import Shared, execute, related
        from shakeout.fuzz.running.leaks import THREADS

        # What follows from random states of the process would differ between a first run and a replay.
        seed = job.seed if isinstance(job, Make | Run) else 0
        random.seed(seed)
        torch.manual_seed(seed & 0x7FFFFFFFFFFFFFFF)
        began = time.monotonic()
        made = self._made(job)
        cases = [made.case, *(replace(made.case, setting=setting) for setting in made.further)]
        fed, traces = tuple(sorted(set(made.fed))), tuple(made.traces)
        # Somebody looks for a smaller case or a culprit: they ask whether a case fails, again and again, and not where.
        searching = isinstance(job, Candidate | Trial)
        shared = Shared(grown=made.reference, kept=self._kept.of(cases[0]) if searching else {})
        derived: Derived | None = None
        waiting = deque(cases)
        while waiting:
            case = waiting.popleft()
            text = case.text
            self.slot.case(text)
            spent = time.monotonic() - began
            if isinstance(job, Run) and job.claims and case is cases[0]:
                self._sources.rearm(job.claims)
            self._sources.begin(case)
            result = _avoided(case, job) or execute(
                case,
                self.slot.phase,
                shared,
                explain=not searching,
                about=lambda other: self.slot.case(other.text),
                derived=derived,
            )
            self._sources.end(case, result.status)
            result = replace(result, seconds={"grow": spent, **result.seconds})
            reply = Reply(result=result, fed=fed, traces=traces)
            if isinstance(job, Make | Run) and job.told:
                space = tuple(sorted(features(case, result.status)))
                reply = replace(reply, case=text, space=space, made=made.mutators)
            traces = ()  # once is enough
            if result.failure is not None:
                reply = self._explained(case, reply, result)
            elif result.status == "unsupported" and isinstance(job, Make):
                reply = replace(reply, case=text)  # whoever compares two versions asks the other one
            if len(os.listdir("/proc/self/task")) > THREADS or _broken(case.setting.device):
                reply = replace(reply, spent=True)  # neither is mended; another worker starts anew
            if case is cases[0]:
                found = None if isinstance(job, Run) else related(case, result, shared)
                # What is not taken under the default setting is not taken under the others, each time at full price.
                if result.status in ("invalid", "unsupported", "failed"):
                    waiting.clear()
            if not waiting and found is not None:
                derived, shared = found
                waiting.append(derived.case)
                found = None
                reply = replace(reply, answered=True)
            yield text, replace(reply, partial=bool(waiting))
            began = time.monotonic()

    def _made(self, job: Job) -> Made:
        """The case of a job, and what else its making gives."""
        match job:
            case Run():
                return Made(codec.decode(job.case))
            case Make():
                self.slot.phase("grow")
                return self._maker.compose(job, self.slot.trace if job.traced else None)
            case Candidate():
                from shakeout.generators.validity import Requirements, validated

                self.slot.phase("grow")
                return Made(validated(codec.decode(job.case), Requirements(job.defined, job.finite)))
            case Trial():
                from shakeout.fuzz.bisect.hooks import limit_process

                self.slot.phase("grow")
                limit_process(job)
                return Made(codec.decode(job.case))
        raise TypeError(f"a worker cannot do {type(job).__name__}")

    def _explained(self, case: Case, reply: Reply, result: Result) -> Reply:
        """A reply with what a failing case needs, its text and its script; unless the disk is to blame."""
        from shakeout.fuzz.running.execute import repro

        try:
            free = shutil.disk_usage(self._home).free
        except OSError:
            free = 0
        if free < LEAST_FREE:
            return replace(reply, result=replace(result, status="infra", signature="", reason="the disk is full"))
        return replace(reply, case=case.text, script=repro(case, result))

    def _prune(self) -> None:
        """Delete what compilers wrote for finished cases; what is loaded stays loaded."""
        for name in ("inductor", "tmp"):
            for path in sorted((self._home / name).glob("*")):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        path.unlink()
