"""A session of libFuzzer in a worker: it decides what runs, and each case is run, judged and answered as any other.

libFuzzer ends with its process and never returns, so the session's process is a worker that is forked for it, from a
zygote in which all is loaded and instrumented. Whatever the session is about to do stands in the slot, so whoever finds
the worker dead knows the case. Signals, time and memory are left to the supervisor, as with every worker.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, TypeAlias

from shakeout.fuzz.engines.units import Refused, job_of, stated
from shakeout.fuzz.ground.jobs import Grow, Job, Mutate, Session
from shakeout.fuzz.ground.makers import Maker
from shakeout.fuzz.ground.results import Reply
from shakeout.fuzz.ground.signature import INTERNAL
from shakeout.fuzz.ground.slot import Slot

__all__ = ["LARGEST", "fuzz", "quarantine"]

#: Bytes of a unit at most. Most cases have two to twenty thousand.
LARGEST = 1 << 18

#: A new session runs what the corpus has for at most this share of its time; what is left then waits for another one.
SEEDS_SHARE = 0.25

#: How often the mutator gives a program that is grown anew, and where decisions are at hand, other ones.
FRESH, OTHER = 0.1, 0.4

#: Numbers of bytes from which programs are grown anew: small programs need few, networks of ten operators some hundred.
_LENGTHS = (32, 64, 128, 256, 512)

#: Programs that an empty corpus begins with.
FIRST = 8

#: Cases of which parts are taken, the last ones.
PARTNERS = 64

#: Bytes of its own output in which libFuzzer says how far it is.
_TAIL = 1 << 16

#: Signals of which libFuzzer is not told: a worker dies of them, and the supervisor sees it.
_SIGNALS = ("segv", "bus", "abrt", "ill", "fpe", "int", "term", "xfsz", "usr1", "usr2")

Cases: TypeAlias = Callable[[Job], Iterator[tuple[str, Reply]]]
Send: TypeAlias = Callable[[Reply, float], None]


def fuzz(job: Session, serial: int, slot: Slot, maker: Maker, cases: Cases, send: Send) -> NoReturn:
    """Run libFuzzer until the session is over; the process ends with it.

    Args:
        job: the session.
        serial: its number, for the slot.
        slot: where everything is told before it happens.
        maker: makes cases from decisions, and of others.
        cases: runs what a job asks for, and gives text and reply of each case.
        send: sends a reply with the seconds that it took.
    """
    import atheris

    one = _Session(job, serial, slot, maker, cases, send)
    arguments = {
        "seed": job.seed % (1 << 31) + 1,
        "max_len": LARGEST,
        # Never: with 0 Atheris takes each case for one that hangs.
        "timeout": 10**8,
        "rss_limit_mb": 0,
        "malloc_limit_mb": 0,
        "detect_leaks": 0,
        # What other sessions of the same target find.
        "reload": 1,
        "artifact_prefix": f"{os.environ['TMPDIR']}/",
        **{f"handle_{name}": 0 for name in _SIGNALS},
    }
    one.begin()
    atheris.Setup(
        ["shakeout", *(f"-{name}={value}" for name, value in arguments.items()), job.corpus],
        one.run,
        custom_mutator=one.mutate,
        internal_libfuzzer=True,
    )
    atheris.Fuzz()
    os._exit(0)


class _Session:
    def __init__(self, job: Session, serial: int, slot: Slot, maker: Maker, cases: Cases, send: Send) -> None:
        self._job, self._serial, self._slot = job, serial, slot
        self._maker, self._cases, self._send = maker, cases, send
        self._began = time.monotonic()
        self._seeding = True
        self._ran = 0
        #: Files of the corpus, by the hash of what is in them.
        self._files: dict[str, Path] = {}
        #: Of every unit, so that libFuzzer finds one at the beginning of which something can be said.
        self._alive = 0
        self._over = False
        self._inner: Job | None = None
        #: Texts of the cases that units made of decisions stand for, by the unit.
        self._grown: OrderedDict[bytes, str] = OrderedDict()
        self._partners: list[str] = []

    def begin(self) -> None:
        """Look at the corpus, and grow something where there is none."""
        import atheris

        self._alive = atheris._reserve_counter()
        corpus = Path(self._job.corpus)
        corpus.mkdir(parents=True, exist_ok=True)
        quarantine(corpus).mkdir(exist_ok=True)
        for path in corpus.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_size <= LARGEST:
                    self._files[_name(path.read_bytes())] = path
        if not self._files:
            draw = random.Random(self._job.seed)
            for unit in (_fresh(draw, LARGEST) for _ in range(FIRST)):
                self._files[_name(unit)] = corpus / _name(unit)
                self._files[_name(unit)].write_bytes(unit)

    # --- libFuzzer asks -----------------------------------------------------------------------------------------------

    def run(self, unit: bytes) -> int:
        """One unit; -1 where libFuzzer is not to keep it."""
        import atheris

        atheris._trace_branch(self._alive)
        if not unit:
            return 0  # libFuzzer's own trial
        try:
            with self._quarantined(unit):
                kept = self._run(unit)
        except BaseException as error:
            self._internal(error)
            os._exit(0)
        if self._over:
            os._exit(0)
        return kept

    @contextlib.contextmanager
    def _quarantined(self, unit: bytes) -> Iterator[None]:
        """A unit that was there before is set apart while it runs: if it ends the process, that was the last time."""
        path = self._files.pop(_name(unit), None)
        apart = None if path is None else quarantine(Path(self._job.corpus)) / path.name
        if path is None or apart is None:
            yield
            return
        with contextlib.suppress(OSError):
            path.replace(apart)
        yield
        with contextlib.suppress(OSError):
            apart.replace(path)

    def _run(self, unit: bytes) -> int:
        now = time.monotonic()
        if now >= self._job.until:
            self._send(Reply(spent=True), 0.0)
            self._over = True
            return -1
        if self._seeding and now - self._began > SEEDS_SHARE * (self._job.until - self._began):
            return -1
        try:
            job = job_of(unit, self._job)
        except Refused:
            return -1
        self._about(job)
        kept = -1
        waiting: Reply | None = None
        for text, reply in self._cases(job):
            if waiting is None:
                kept = self._seen(unit, text, reply)
            else:
                self._answer(waiting, now)
                now = time.monotonic()
            waiting = reply
        assert waiting is not None
        self._ran += 1
        over = waiting.spent or self._ran >= self._job.most or time.monotonic() >= self._job.until
        self._slot.end()
        self._answer(waiting, now, last=over)
        if over:
            self._over = True
        return kept

    def mutate(self, unit: bytes, most: int, seed: int) -> bytes:
        """Another unit that is made of one: of its program, its inputs and its setting."""
        self._seeding = False
        draw = random.Random(seed)
        text = self._text(unit)
        if draw.random() < FRESH or text is None:
            return _fresh(draw, most)
        if unit in self._grown and draw.random() < OTHER:
            import atheris

            other: bytes = atheris.Mutate(unit, min(most, max(_LENGTHS)))
            return other
        try:
            made = self._mutated(text, draw).encode()
        except Exception as error:
            self._internal(error)
            os._exit(0)
        return made if len(made) <= most else _fresh(draw, most)

    # --- what it is told ----------------------------------------------------------------------------------------------

    def _seen(self, unit: bytes, text: str, reply: Reply) -> int:
        """What is remembered of a case that ran, and whether libFuzzer may keep it."""
        result = reply.result
        if result is None or result.status in ("invalid", "infra", "avoided"):
            return -1
        if not unit.lstrip().startswith(b"{"):
            self._grown[unit] = text
            while len(self._grown) > 1024:
                self._grown.popitem(last=False)
        self._partners = [*self._partners[1 - PARTNERS :], text]
        return 0

    def _text(self, unit: bytes) -> str | None:
        """The text of the case that a unit stands for; None where it stands for none, or was never run."""
        if not unit.lstrip().startswith(b"{"):
            return self._grown.get(unit)
        with contextlib.suppress(Refused):
            job = job_of(unit, self._job)
            return None if isinstance(job, Grow) else job.case
        return None

    def _mutated(self, parent: str, draw: random.Random) -> str:
        job = Mutate(
            target=self._job.target,
            device=self._job.device,
            seed=draw.getrandbits(64),
            parent=parent,
            partner=draw.choice(self._partners) if self._partners else "",
            knobs=self._job.knobs,
            knob_share=self._job.knob_share,
            settings=1,
            modes="mode" not in self._job.recipe,
            told=True,
        )
        self._about(job)
        self._slot.phase("grow")
        text = self._maker.compose(job).case.text
        self._slot.end()
        return text

    # --- what it tells ------------------------------------------------------------------------------------------------

    def _answer(self, reply: Reply, began: float, *, last: bool = False) -> None:
        """One case's reply; all of them but the last are partial, and each has answered a case of its own."""
        told = replace(reply, partial=not last, answered=True, spent=last, engine=self._stated())
        self._send(told, time.monotonic() - began)

    def _stated(self) -> dict[str, int]:
        """How far libFuzzer is, as it last printed it; then its output begins anew."""
        with contextlib.suppress(OSError):
            size = os.fstat(2).st_size
            with open("/proc/self/fd/2", "rb") as file:
                file.seek(max(size - _TAIL, 0))
                found = dict(stated(file.read()))
            os.ftruncate(2, 0)
            return found
        return {}

    def _about(self, job: Job) -> None:
        """What is about to be done, as a job that any worker can do."""
        self._inner = job
        self._slot.begin(self._serial, json.dumps(job.to_json()))

    def _internal(self, error: BaseException) -> None:
        """A defect of ours, with the job in which it shows."""
        text = f"{INTERNAL} {type(error).__name__}: {error}"
        learnt = {} if self._inner is None else {"job": self._inner.to_json()}
        self._send(Reply(internal=text, traceback=traceback.format_exc(), learnt=learnt, spent=True), 0.0)


def quarantine(corpus: Path) -> Path:
    """The folder for units that ended a session, or were in hand when it was ended."""
    return corpus.with_name(f"{corpus.name}.quarantine")


def _name(unit: bytes) -> str:
    """The name of a unit's file, as libFuzzer has it."""
    return hashlib.sha1(unit, usedforsecurity=False).hexdigest()


def _fresh(draw: random.Random, most: int) -> bytes:
    """Decisions for a program that is grown anew; they must not look like a case."""
    unit = draw.randbytes(min(draw.choice(_LENGTHS), most))
    return b"\0" + unit[1:] if unit.lstrip().startswith(b"{") else unit
