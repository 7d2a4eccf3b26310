"""A campaign: self-test, known bugs, then cases until the time is up; resumable, and never losing what it has found."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from shakeout.corpus.database import NAME, Database, DatabaseError
from shakeout.corpus.known import DIRECTORY as KNOWN
from shakeout.corpus.known import KnownBug, load_all
from shakeout.fuzz.campaign import config as configuration
from shakeout.fuzz.campaign.campaign_folder import (
    DirectoryUnusable,
    check_disk,
    explained,
    locked,
    next_directory,
    usage,
)
from shakeout.fuzz.campaign.config import ENGINES
from shakeout.fuzz.campaign.investigation import Investigation
from shakeout.fuzz.campaign.known_replay import KnownReplay
from shakeout.fuzz.campaign.ledger import Ledger
from shakeout.fuzz.campaign.sanity import check
from shakeout.fuzz.campaign.seeds import Declined, Seeds
from shakeout.fuzz.campaign.selftest import NO_FAULT, selftest
from shakeout.fuzz.campaign.sessions import Sessions
from shakeout.fuzz.campaign.sources import InOrder
from shakeout.fuzz.campaign.traces import TraceLog
from shakeout.fuzz.campaign.untold import untold
from shakeout.fuzz.coverage.log import CoverageLog
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.jobs import Job
from shakeout.fuzz.ground.makers import GROWER, INSTRUMENTING, MODEL_GROWER
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.steering.steering import Replays, Steering
from shakeout.fuzz.steering.store import NAME as CORPUS
from shakeout.fuzz.steering.store import Store
from shakeout.fuzz.triage.recognition import expected
from shakeout.fuzz.workers.confirm import RUNS
from shakeout.fuzz.workers.pool import Limits, WorkerPool
from shakeout.fuzz.workers.timing import LEAST, TimeLimits
from shakeout.fuzz.workers.worker_kind import WorkerKind
from shakeout.fuzz.workers.zygote_client import Interrupted, ZygoteBroken
from shakeout.targets.registry import facts_of

__all__ = ["Campaign", "DirectoryUnusable", "SelfTestFailed", "next_directory"]

#: Seconds between two looks at the clock, the disk and the display.
BEAT = 1.0

#: Seconds between two looks at what the compilers have written: some thousand files.
WEIGH = 20.0

#: Seconds that cases in hand may still take when the time is over.
LAST_CASES = 5.0

#: When the time is over, findings that wait have all the cores for half a minute more, or for a tenth of the time if
#: that is more: enough for what came in last, and nobody waits for much longer than was said. What is not done then
#: waits for ``resume`` or ``triage``.
GRACE = 30.0
GRACE_SHARE = 0.1

#: Of that time, seconds for the end itself: processes die, what compilers wrote is weighed and deleted, the report is
#: written. That took 2 s on a quiet machine, and 9 where four times as much wanted to run as there were cores.
CLOSING = 6.0


class SelfTestFailed(Exception):
    """Planted faults were missed; the message names them."""


class Campaign:
    """The campaign of one directory: a context manager, of which ``run`` is called once.

    Entering it makes or opens the directory and locks it; leaving it ends every process.

    Args:
        config: what is asked for.
        directory: a new one, or that of a campaign, which then goes on.
        listeners: told of each event. One that raises is not told again.
        maker: name of what grows cases; empty for what the engine needs.
        known: folder of known bugs that are replayed first; None for none, and for no regressions either.
        confirmations: fresh processes in which a finding is tried.
        recycle: cases after which a worker is replaced.
        fuzzing: whether there are new cases; without, findings that wait are triaged, and that is all.
        declined: told of each case that its target declined, with its text.
        until: the time, as ``time.monotonic`` gives it, at which fuzzing ends, whatever the configuration says and
            however long it took to begin; None for what the configuration says.
    """

    def __init__(
        self,
        config: configuration.Config,
        directory: Path,
        listeners: Sequence[events.Listener] = (),
        *,
        maker: str = "",
        known: Path | None = KNOWN,
        confirmations: int = RUNS,
        recycle: int = 150,
        fuzzing: bool = True,
        declined: Declined = lambda result, case: None,
        until: float | None = None,
    ) -> None:
        self.config = config
        self._declined = declined
        self._fuzzing = fuzzing
        self._until = until
        self._active = config  # without the targets that turn out not to work
        self.directory = directory
        self.resumed = False
        #: Targets of cases that seemed to hang when the time was over, too short a time to tell, and their seconds.
        self.overdue: list[tuple[str, float]] = []
        self._listeners = list(listeners)
        self._maker = maker or _maker(config)
        self._known = known
        self._confirmations = confirmations
        self._recycle = recycle
        self._stopped = False
        self._began = time.monotonic()
        self._beaten = self._weighed = 0.0
        self._most_written = 0
        self._times = TimeLimits(config.time_limit)
        self._untold: deque[events.Event] = deque()
        self._open = contextlib.ExitStack()

    # --- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Campaign:
        with contextlib.ExitStack() as stack:
            with explained(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self.directory))
                check_disk(self.directory)
                # What a killed campaign left running writes there at most.
                for name in ("cache", "slots"):
                    shutil.rmtree(self.directory / name, ignore_errors=True)
                self.database = stack.enter_context(self._open_database())
                self._logged = (self.directory / events.LOG).exists()
                self._log = stack.enter_context(events.EventLog(self.directory / events.LOG))
                traces = stack.enter_context(TraceLog(self.directory))
                self._coverage = stack.enter_context(CoverageLog(self.directory))
                self._ledger = Ledger(self.database, traces, self._coverage, self._untold)
                # Another engine decides by itself what is interesting, and keeps it.
                guided = self._fuzzing and self.config.coverage and self.config.engine == ENGINES[0]
                self._corpus = stack.enter_context(Store(self.directory / CORPUS)) if guided else None
                if self._fuzzing:
                    configuration.write(self.config, self.directory / "campaign.toml")
            self.pool = WorkerPool(
                self.directory,
                self.config.targets,
                # Sessions of an engine have a core each for long, and findings a place beside them.
                self.config.workers + (self.config.engine != ENGINES[0]),
                tell=self._tell,
                maker=self._maker,
                recycle=self._recycle,
                kind=WorkerKind.pinned(self.config.device, dict(self.config.knobs)),
                shortcuts=self.config.shortcuts,
                cover=self.config.watched,
            )
            stack.callback(self.pool.stop)
            self.investigation = Investigation(
                self.database,
                self.directory,
                self.pool,
                self._untold.append,
                targets=self.config.targets,
                workers=self.config.workers,
                memory=self.config.memory_limit,
                runs=self._confirmations,
            )
            stack.callback(self.investigation.stop)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def left(self) -> tuple[str, ...]:
        """Targets that turned out not to work and were left out."""
        return tuple(name for name in self.config.targets if name not in self._active.targets)

    def stop(self) -> None:
        """End soon and cleanly; safe in a signal handler."""
        self._stopped = True

    def run(self) -> events.Finished:
        """Everything, in order. Ctrl-C and SIGTERM end it cleanly while it runs in the main thread.

        Raises:
            SelfTestFailed: a planted fault was missed.
            ZygoteBroken: a target could not be loaded.
            DirectoryUnusable, DatabaseError: the disk is full, or the directory cannot be written any more.
        """
        self._began = time.monotonic()
        with explained(self.directory), self._signals():
            try:
                reason = self._run() if self._fuzzing else self._run_triage()
            except Interrupted:
                reason = "interrupted"
            except (OSError, DatabaseError, DirectoryUnusable) as error:
                self._listeners_only(self._finished("error", str(error)))
                raise
            finished = self._finished(reason)
            # The log tells whether there are cases to go on with, and of that triage knows nothing.
            (self._tell if self._fuzzing else self._listeners_only)(finished)
        return finished

    def _started(self) -> events.Started:
        return events.Started(
            directory=str(self.directory),
            targets=self.config.targets,
            workers=self.config.workers,
            seconds=self.config.seconds if self._until is None else max(self._until - time.monotonic(), 0.0),
            cases=self.config.cases,
            seed=self.config.seed,
            resumed=self.resumed,
            next_index=self.database.meta("next", 0),
            versions={"shakeout": str(describe()["shakeout"]), **describe()["packages"]},
        )

    def _run_triage(self) -> str:
        """Triage what waits, with all the cores; the reason for the end."""
        self._catch_up()
        seeds = self._seeds()
        self.investigation.reopen(seeds.job)
        if not self.investigation.waiting:
            return "triaged"
        self._listeners_only(self._started())
        self.pool.start(lambda: self._stopped, complete=False)
        for name in self.pool.in_order(self.config.targets):
            if not self._stopped and (text := self.pool.warm([name]).get(name)):
                self.investigation.leave(name)
                self._tell_left(name, text)
        self.pool.prepare()
        budget, began = self.config.seconds, time.monotonic()
        self._triage(InOrder(self.investigation), seeds, began, None if budget is None else began + budget)
        self.pool.abandon()
        return "interrupted" if self._stopped else "time" if self.investigation.waiting else "triaged"

    def _run(self) -> str:
        self._tell(self._started())
        self._catch_up()
        self.pool.start(lambda: self._stopped, complete=False)
        if missed := selftest(self.pool, self._tell, lambda: self._stopped):
            what = ", ".join("a false alarm where there was no fault" if one == NO_FAULT else one for one in missed)
            raise SelfTestFailed(f"the self-test missed: {what}; the campaign would miss bugs, so it does not start")
        self._warm()
        self.pool.prepare()
        reason = self._fuzz()
        self.pool.abandon()
        return reason

    def _warm(self) -> None:
        """Warm one target after the other, and replay its known bugs while the next ones still wait.

        One that cannot be used here is left out, as long as there is another one.
        """
        bugs = () if self._known is None else load_all(self._known)
        known = KnownReplay(
            self.pool, self.database, self.investigation, self._tell, self._limits, lambda: self._stopped
        )
        if self._known is not None:
            self.investigation.store.remember(expected(describe()["packages"]))
        broken: dict[str, str] = {}
        for name in self.pool.in_order(self.config.targets):
            if self._stopped:
                return
            if text := self.pool.warm([name]).get(name) or self._check(name):
                broken[name] = text
                self._tell_left(name, text)
            else:
                known.run([bug for bug in bugs if self._concerns(bug, name)])
        left = tuple(name for name in self.config.targets if name not in broken)
        if not left:
            raise ZygoteBroken("\n".join(f"{name}: {text}" for name, text in broken.items()))
        self._active = replace(self.config, targets=left)
        for bug in bugs:
            if not any(self._concerns(bug, name) for name in left):
                known.skip(bug)

    def _tell_left(self, name: str, text: str) -> None:
        said = (text.strip().splitlines() or ["it said nothing"])[-1]
        self._tell(events.Notice(f"{name} cannot be used and is left out: {said[:300]}"))

    def _check(self, name: str) -> str:
        """Why nothing that a compiler shows here would be worth anything; what a user wrote may fail with any case."""
        if not facts_of(name).compiler:
            return ""
        memory, device = self.config.memory_limit, self.config.device
        return check(self.pool, name, device=device, memory=memory, stop=lambda: self._stopped)

    def _concerns(self, bug: KnownBug, target: str) -> bool:
        return bug.case.setting.target == target and bug.case.setting.device == self.config.device

    # --- cases ------------------------------------------------------------------------------------------------------

    def _seeds(self, steering: Steering | None = None) -> Seeds | Sessions:
        books = self.database, self._ledger, self.investigation, self._times
        seeds = Seeds(self._active, *books, self._untold.append, self._declined, steering)
        if self.config.engine == ENGINES[0]:
            return seeds
        return Sessions(self._active, self.directory, self.database, seeds)

    def _steering(self) -> Steering | None:
        """What decides, in a campaign that is guided."""
        if self._corpus is None:
            return None
        config = self._active
        packages = describe()["packages"]
        build = ", ".join(f"{name} {packages[name]}" for name in sorted(packages))
        grown = bool(config.focus or config.operators or config.motifs)
        return Steering(self._corpus, config.targets, build, modes=config.mode is None, only_grown=grown)

    def _fuzz(self) -> str:
        """Cases until the time is over, then findings that wait, for a while; the reason for the end."""
        steering = self._steering()
        seeds = self._seeds(steering)
        seeds.take_up()
        self.investigation.reopen(seeds.job)
        for name in set(self.config.targets) - set(self._active.targets):
            self.investigation.leave(name)
        # The findings say themselves how much of the cores they take.
        sources = InOrder(self.investigation, seeds)
        replays = None
        if steering is not None:
            replays = Replays(steering, self.config.device, self._ledger.cover, self.investigation.found)
            sources = InOrder(self.investigation, replays, seeds)
        spent = float(self.database.meta("spent", 0.0))
        began = time.monotonic()
        budget = self._budget(began, spent)
        seeds.until = deadline = None if budget is None else began + budget
        reason = ""
        until = 0.0
        while True:
            now = time.monotonic()
            if not reason:
                reason = self._over(seeds, now, deadline)
                until = now + LAST_CASES
                if reason:
                    self.pool.no_more()
            if reason == "interrupted" or (reason == "time" and now > until):
                break
            if reason and not seeds.at_work and (seeds.over or reason == "time"):
                break
            if reason and replays is not None:
                replays.closed = True
            if reason == "time":
                seeds.close()
            self._turn(sources, seeds)
            if self._stopped:
                reason = "interrupted"
            self._beat("fuzzing", began, deadline, spent)
        seeds.close()
        self.overdue = seeds.overdue(LAST_CASES) if isinstance(seeds, Seeds) else []
        fuzzed = time.monotonic() - began
        with self.database.transaction():
            self.database.set_meta(spent=spent + fuzzed)
        if reason != "interrupted":
            # Whoever said how many cases and not how long gets everything triaged.
            grace = max(GRACE, GRACE_SHARE * (budget or 0.0)) - CLOSING
            self._triage(sources, seeds, began, None if deadline is None else deadline + grace)
        return reason

    def _budget(self, began: float, spent: float) -> float | None:
        """Seconds for cases: what is left of all that the campaign has, or as much again where nothing is left."""
        if self._until is not None:
            return max(self._until - began, 0.0)
        budget = self.config.seconds
        return budget - spent if budget is not None and spent < budget else budget

    def _triage(self, sources: InOrder, seeds: Seeds | Sessions, began: float, until: float | None) -> None:
        """Nothing is fuzzed, and what waits has all the cores until then, or until nothing waits."""
        self.investigation.alone = True
        while self.investigation.busy and not self._stopped and (until is None or time.monotonic() < until):
            self._turn(sources, seeds)
            self._beat("triage", began, until, None)

    def _turn(self, sources: InOrder, seeds: Seeds | Sessions) -> None:
        """One round: hand out, collect, write down, go on with findings."""
        answers = self.pool.step(sources.next, self._limits)
        if answers or seeds.handed:
            with self.database.transaction():
                seeds.write_down()
                for answer in answers:
                    sources.done(answer)
                    # What triage reaches counts as well; what a case did was counted with the case.
                    self._ledger.cover(answer)
        self.investigation.poll()
        # What is told was committed.
        while self._untold:
            self._tell(self._untold.popleft())

    def _over(self, seeds: Seeds | Sessions, now: float, deadline: float | None) -> str:
        if self._stopped:
            return "interrupted"
        if deadline is not None and now >= deadline:
            return "time"
        return "cases" if seeds.over else ""

    def _limits(self, job: Job) -> Limits:
        seconds = self._times.limit(job.target) * (1 + len(job.before))
        return Limits(seconds, self.config.memory_limit, min(LEAST, seconds))

    # --- telling ----------------------------------------------------------------------------------------------------

    def _beat(self, stage: Any, began: float, deadline: float | None, spent: float | None) -> None:
        now = time.monotonic()
        if now - self._beaten < BEAT:
            return
        self._beaten = now
        check_disk(self.directory)
        if now - self._weighed > WEIGH:
            self._weighed = now
            self._most_written = max(self._most_written, usage(self.directory / "cache"))
        if spent is not None:
            with self.database.transaction():
                self.database.set_meta(spent=spent + now - began)
        self._tell(
            events.Progress(
                stage=stage,
                elapsed=now - began,
                remaining=None if deadline is None else max(deadline - now, 0.0),
                totals=dict(self._ledger.totals),
                limits={name: self._times.limit(name) for name in self.config.targets},
                bugs=self.database.states(),
                waiting=self.investigation.waiting,
                triaging=self.investigation.active,
                coverage=self._coverage.total,
            )
        )

    def _catch_up(self) -> None:
        """Tell what an earlier run stored and was killed before it could tell it.

        A campaign begins its log before its first case: where there was none, somebody has deleted it, and nothing says
        what had been told.
        """
        for event in untold(self.directory, self.database) if self.resumed and self._logged else ():
            self._tell(event)
            self.investigation.note(event)

    def _finished(self, reason: Any, message: str = "") -> events.Finished:
        bugs: dict[str, int] = {}
        new = tuple(self.investigation.confirmed)
        with contextlib.suppress(DatabaseError):
            bugs, new = self.database.states(), self.investigation.new
        seconds = round(time.monotonic() - self._began, 3)
        compilers = usage(self.directory / "cache")
        disk = {
            "kept": usage(self.directory) - compilers - usage(self.directory / "slots"),
            "compilers": max(self._most_written, compilers),
            "headers": self.pool.headers.stored,
        }
        with contextlib.suppress(DatabaseError), self.database.transaction():
            self.database.set_meta(disk=disk)
        waiting = self.investigation.waiting + self.investigation.left
        return events.Finished(reason, seconds, self._ledger.totals, bugs, new, message, waiting, disk)

    def _tell(self, event: events.Event) -> None:
        self._log(event)
        self._listeners_only(event)

    def _listeners_only(self, event: events.Event) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception as error:
                # What shows a campaign must not end it.
                self._listeners.remove(listener)
                self._log(events.Notice(f"a listener failed and is not told any more: {error!r}"))

    # --- the directory ----------------------------------------------------------------------------------------------

    def _open_database(self) -> Database:
        path = self.directory / NAME
        identity = {
            "targets": list(self.config.targets),
            "seed": self.config.seed,
            "device": self.config.device,
            "mode": self.config.mode,
            "operators": self.config.operators,
            "settings": self.config.settings,
            "knobs": dict(self.config.knobs),
            "focus": list(self.config.focus),
            "first": list(self.config.first),
            "motifs": list(self.config.motifs),
        }
        if not path.exists():
            return Database.create(path, {"identity": identity})
        database = Database.open(path)
        # A campaign of an earlier version had none of these.
        stored = {"focus": [], "first": [], "motifs": [], **database.meta("identity", identity)}
        if changed := sorted(key for key, value in identity.items() if stored.get(key) != value):
            database.close()
            raise DirectoryUnusable(
                f"{self.directory} holds a campaign with other {', '.join(changed)}; choose another directory"
            )
        self.resumed = True
        return database

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self.stop()
            # A second Ctrl-C does not wait.
            signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _maker(config: configuration.Config) -> str:
    """The name of what grows cases as the engine and the targets need it."""
    if config.engine != ENGINES[0]:
        return f"{INSTRUMENTING}:{','.join(config.instrumented)}"
    return MODEL_GROWER if all(facts_of(name).vocabulary == "onnx" for name in config.targets) else GROWER
