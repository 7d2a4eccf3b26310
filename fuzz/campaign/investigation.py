"""The findings of a campaign on their way: which of them are at work, and how much of the cores that may take.

What is done about one finding stands in ``shakeout.fuzz.triage.steps``, and how it is stored in
``shakeout.fuzz.triage.store``. Here several of them go on side by side, as a source of jobs for the campaign's own
pool: a search, a case that runs again, a script that is to be written; and scripts in fresh processes beside it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path

from shakeout.corpus.database import Database
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.counts import internal
from shakeout.fuzz.ground.jobs import Job
from shakeout.fuzz.ground.results import Answer, Result
from shakeout.fuzz.triage.recognition import Remembered
from shakeout.fuzz.triage.shown import Shown
from shakeout.fuzz.triage.steps import BUDGET, Tools, TriageTask
from shakeout.fuzz.triage.store import Store
from shakeout.fuzz.workers.confirm import RUNS, Confirmation, stock_environment
from shakeout.fuzz.workers.pool import WorkerPool
from shakeout.fuzz.workers.stock import DYNAMO, INDUCTOR, TORCH, Stock
from shakeout.targets.registry import facts_of

__all__ = ["Investigation", "Share"]

#: A side job is given so often if its worker is killed from outside.
ATTEMPTS = 3

#: Findings of one group that are at work at a time: what comes of one may explain the others. None is, with 0.
AT_ONCE = 1

#: Triage never takes more than this share of the cores from fuzzing. A finding is worth nothing to anybody before it is
#: triaged, but where nothing is fuzzed any more, nothing is found behind the bugs that are frequent.
MOST = 0.75

#: Cores that each waiting finding asks for, where each worker that could fuzz asks for one. In the long run triage
#: takes what the findings cost, whatever this is: it only says how many wait meanwhile, and how much of a short
#: campaign goes to its first findings. Where they cost a third of the cores, with a half one finding waits for each
#: worker, which is what the half minute after the end is enough for, at 15 to 40 core-seconds for each. With a whole
#: one half as many waited, and a campaign on one core spent half of its time on the first finding.
ASKS = 0.5

#: Core-seconds that triage may be ahead of its share or behind it. Ahead: searches end when they end, and a debt of
#: half an hour would stop triage for too long. Behind: what was not needed is not saved up for later.
AHEAD, BEHIND = 120.0, 5.0


class Share:
    """How much of the cores triage may take, by how many findings wait.

    Each waiting finding asks for half a core (``ASKS``), each worker that could fuzz for a whole one; the cores are
    shared in that proportion, up to ``MOST``. So one finding among many workers is triaged at once and goes unnoticed,
    and a backlog of six times the workers takes all that it may. What a share means where there is one core, or where a
    search takes half a minute and a case a tenth of a second, is kept in an account of core-seconds.

    Args:
        workers: cases at work at a time.
        clock: in seconds.
    """

    def __init__(self, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._workers = workers
        self._clock = clock
        self._now = clock()
        self._credit = 0.0

    def cores(self, waiting: int) -> float:
        """How many of the workers may work at findings, on average."""
        asked = ASKS * waiting
        return self._workers * min(asked / (asked + self._workers), MOST)

    def at_work(self, waiting: int, busy: int) -> None:
        """Account for the time since the last look, in which so many cores worked at findings."""
        now = self._clock()
        self._credit += (now - self._now) * (self.cores(waiting) - busy)
        self._credit = min(max(self._credit, -AHEAD), BEHIND)
        self._now = now

    def allows(self, waiting: int, busy: int) -> bool:
        """Whether one more core may work at findings, of which so many do already."""
        return self._credit >= 0 and busy < max(self.cores(waiting), 1)


class Investigation:
    """The findings of one campaign.

    Args:
        database: of the campaign.
        directory: of the campaign.
        pool: whose workers do the jobs.
        tell: told of what was stored.
        targets: of the campaign, whose scripts load what they need.
        workers: cases at work at a time.
        memory: bytes that a script may take.
        runs: fresh processes for a script that nobody has reduced.
    """

    def __init__(
        self,
        database: Database,
        directory: Path,
        pool: WorkerPool,
        tell: events.Listener,
        *,
        targets: Sequence[str] = (),
        workers: int = 1,
        memory: int,
        runs: int = RUNS,
    ) -> None:
        #: Bugs that were confirmed, or kept as history findings, in this run.
        self.confirmed: list[str] = []
        #: Bugs that were opened in this run, in whatever state they are.
        self._opened: list[str] = []
        #: Whether triage has all the cores, because nothing is fuzzed.
        self.alone = False
        self._tell = tell
        self.store = Store(database, directory, self._told)
        self._database = database
        self._directory = directory
        self._pool = pool
        self._memory = memory
        self._workers = workers
        self._share = Share(workers)
        cache = directory / "cache"
        self._stock = Stock(_loaded(targets), stock_environment(cache / "stock", cache / "tmp"), cache / "stock.log")
        self._tools = Tools(self.store, self._confirmation, runs, BUDGET)
        self._queue: deque[Shown] = deque()
        #: Findings of targets that cannot be loaded, about which nothing can be done in this run.
        self.left = 0
        self._active: list[TriageTask] = []
        self._jobs: deque[Job] = deque()
        self._busy: set[int] = set()  # jobs in hand, by identity

    @property
    def known(self) -> dict[str, str]:
        """Id of the shipped known bug that has a coarse signature."""
        return self.store.known

    @property
    def remembered(self) -> Sequence[Remembered]:
        """Known bugs that are recognised by their smallest case, whatever the coarse signature is."""
        return self.store.remembered

    # --- findings come in -------------------------------------------------------------------------------------------

    def found(self, job: Job, result: Result, case: str, script: str, history: Sequence[Job]) -> None:
        """Store a finding, and have it triaged if nothing explains it; inside a transaction of the database.

        Args:
            job: which showed it.
            result: with a signature and a failing verdict.
            case: its text; empty if it crashed while growing.
            script: its script; empty if its worker died.
            history: jobs that the same worker had run before.
        """
        shown = self.store.found(job, result, case, script, history)
        if shown is not None:
            self._queue.append(shown)

    def reopen(self, job_of: Callable[[int], Job]) -> None:
        """Triage what an earlier run of the campaign had no time for."""
        self._queue.extend(self.store.waiting(job_of))

    def leave(self, target: str) -> None:
        """Findings of a target that cannot be loaded wait on, for a run in which it can."""
        waiting = len(self._queue)
        self._queue = deque(shown for shown in self._queue if shown.job.target != target)
        self.left += waiting - len(self._queue)

    # --- findings are triaged ---------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Findings that wait, those at work included."""
        return len(self._queue) + len(self._active)

    @property
    def new(self) -> tuple[str, ...]:
        """Bugs that are news of this run: those confirmed, or opened with a smallest case that could not be tried yet.

        What such a case is, has failed in several fresh workers already: what it waits for is the stock toolchain.
        """
        opened = map(self._database.bug, self._opened)
        return tuple(dict.fromkeys((*self.confirmed, *(bug.id for bug in opened if bug.state == "new"))))

    @property
    def busy(self) -> bool:
        """Whether something is still to be done about a finding."""
        return bool(self._active) or (bool(self._queue) and AT_ONCE > 0)

    @property
    def active(self) -> int:
        """Findings at work."""
        return len(self._active)

    def poll(self) -> None:
        """Move on with what needs no worker; never waits."""
        self._share.at_work(self.waiting, self._cores())
        for task in list(self._active):
            if isinstance(task.waiting, Confirmation) and task.waiting.poll(self._width()):
                self._move(task, None)
        self._begin()

    def next(self) -> Job | None:
        """The next job: a search, a case that is to run again, a script that is to be written."""
        if not self._jobs:
            return None
        job = self._jobs.popleft()
        self._busy.add(id(job))
        return job

    def done(self, answer: Answer) -> None:
        """Take an answer to one of its jobs."""
        task = next((one for one in self._active if one.waiting is answer.job), None)
        if answer.loss is None and answer.reply.partial:
            if task is not None:
                task.hear(answer.reply)
            return
        self._busy.discard(id(answer.job))
        if task is None:
            return
        if answer.loss is None and answer.reply.internal:
            self.found(answer.job, internal(answer), "", "", answer.history)
        task.attempts += 1
        if answer.loss is not None and answer.loss.kind == "interrupted" and task.attempts < ATTEMPTS:
            self._jobs.append(answer.job)
        else:
            self._move(task, answer)

    def stop(self) -> None:
        """End what is running; findings that no bug has got wait, and are triaged when the campaign goes on."""
        for task in self._active:
            task.stop()
        for one in (self._active, self._queue, self._jobs, self._busy):
            one.clear()
        self._stock.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _cores(self) -> int:
        """Cores that work at findings: a job in hand, or a script in a fresh process."""
        return len(self._busy) + sum(isinstance(one.waiting, Confirmation) for one in self._active)

    def _width(self) -> int:
        """Fresh processes of one script side by side."""
        return max(self._workers // max(len(self._active), 1), 1) if self.alone else 1

    def _begin(self) -> None:
        """Take findings up, as many as there may be at work, those first of whose group nothing is known.

        What is taken up goes on to its end, since a finding is worth nothing on the way.
        """
        while self._queue and self._may_begin():
            busy = Counter(one.shown.group for one in self._active)
            free = [shown for shown in self._queue if busy[shown.group] < AT_ONCE]
            if not free:
                return
            shown = next((one for one in free if not self._database.group(one.group).bug), free[0])
            self._queue.remove(shown)
            if self.store.recognised(shown):
                continue
            task = TriageTask(shown, self._tools)
            self._active.append(task)
            self._move(task, None)

    def _may_begin(self) -> bool:
        busy = len(self._active)
        return busy < self._workers if self.alone else self._share.allows(self.waiting, busy)

    def _move(self, task: TriageTask, answer: Answer | None) -> None:
        if not task.move(answer):
            self._active.remove(task)
        elif isinstance(task.waiting, Job):
            self._jobs.append(task.waiting)

    def note(self, event: events.Event) -> None:
        """What this run tells of a bug: that it was opened, that it was confirmed or kept as a history finding."""
        match event:
            case events.BugOpened(bug=bug):
                self._opened.append(bug)
            case events.Confirmed(bug=bug, state=state) if state != "flaky" and bug not in self.confirmed:
                self.confirmed.append(bug)

    def _told(self, event: events.Event) -> None:
        self.note(event)
        self._tell(event)

    def _confirmation(self, name: str, script: Path, runs: int) -> Confirmation:
        cache = self._directory / "cache"
        return Confirmation(
            name,
            script,
            cache / f"confirm-{name}",
            headers=self._pool.headers,
            temporary=cache / "tmp",
            memory=self._memory,
            runs=runs,
            stock=self._stock,
        )


def _loaded(targets: Sequence[str]) -> tuple[str, ...]:
    """What the scripts of a campaign begin with."""
    facts = [facts_of(name) for name in targets]
    compiled = any("joint" in one.shortcuts for one in facts)
    return TORCH + DYNAMO * any(one.compiler for one in facts) + INDUCTOR * compiled
