"""One night: what is known runs again, cases until the deadline, triage, bisection, and what has changed.

A night that is killed leaves what its campaign has stored, and no record. The next one goes on from there and is
compared with the last night that came to its end, so that everything is told, and once.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shakeout.corpus import blobs
from shakeout.corpus.codec import MalformedCase
from shakeout.corpus.database import NAME, Database, MalformedDatabase
from shakeout.fuzz.bisect.kept import within
from shakeout.fuzz.bisect.stored import bisect_stored, chosen
from shakeout.fuzz.campaign.campaign import Campaign
from shakeout.fuzz.campaign.campaign_folder import DirectoryUnusable, check_disk, explained, locked
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.progress import Stop
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.fuzz.night.backups import KEEP, back_up, newest
from shakeout.fuzz.night.difference import Difference, between
from shakeout.fuzz.night.folder import LOCK, Nights
from shakeout.fuzz.night.plan import Plan, share
from shakeout.fuzz.night.record import Night
from shakeout.fuzz.night.report import described, markdown
from shakeout.fuzz.night.standing import replay_of, standing, versions
from shakeout.fuzz.reporting.bug_list import ReportedBug, bug_list
from shakeout.fuzz.reporting.html.write import write_campaign
from shakeout.fuzz.reporting.markdown import write_report
from shakeout.fuzz.triage.replay_bugs import Item, Row, replay_all
from shakeout.fuzz.workers.zygote_client import Interrupted, ZygoteBroken
from shakeout.targets.registry import facts_of

if TYPE_CHECKING:
    from shakeout.fuzz.learning.learn import How

__all__ = ["Asked", "Told", "nightly"]

#: The name of the copy of a database that was there before its first night; older than that of any night.
_FIRST = "0-before-any-night"


#: How often what is known runs again. Two runs tell whether something fails, but a fix is told to people: a bug that
#: was confirmed has failed in four runs of four, so that with a confidence of 95 % it fails in every other one at least
#: (0.47 to the power of 4 is 5 %), and of such a bug four runs pass in a row in 8 % of the nights, two in 28 %.
RUNS = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a night.

    Attributes:
        config: of the campaign; how long it fuzzes follows from the budget.
        directory: of the campaign, made by the first night.
        budget: seconds for everything.
        learn: whether the rules of operators are learnt anew.
        keep: copies of the database.
    """

    config: Config
    directory: Path
    budget: float
    learn: bool = False
    keep: int = KEEP


@dataclass(frozen=True, slots=True)
class Told:
    """A night that is over, what has changed since the last one, and the folder that tells both."""

    night: Night
    difference: Difference
    folder: Path


def nightly(asked: Asked, *, stop: Stop, tell: events.Listener = lambda event: None) -> Told:
    """Work for one night.

    Args:
        asked: what is to be done.
        stop: asked now and then whether somebody wants it to end; the night sets the times of its parts.
        tell: told what goes on: ``NightStep``, and whatever the parts tell.

    Raises:
        Interrupted: somebody wanted it to end; the next night goes on from there.
        DirectoryUnusable, DatabaseError: somebody else works in the directory, or it cannot be used.
        SelfTestFailed, ZygoteBroken: nothing that was found would be worth anything.
    """
    directory = asked.directory
    with explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        check_disk(directory)
        with locked(directory, LOCK):
            with locked(directory):
                pass  # a campaign that is at work here is better told of now than after what is known has run again
            return _Night(asked, stop, tell).run()


@dataclass(slots=True)
class _Night:
    """A night at work."""

    asked: Asked
    stop: Stop
    tell: events.Listener
    plan: Plan = field(init=False)
    nights: Nights = field(init=False)
    last: Night = field(init=False)
    began: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plan = Plan(self.asked.budget, any(facts_of(name).ladder for name in self.asked.config.targets))
        self.nights = Nights(self.asked.directory)

    def run(self) -> Told:
        """All parts, in order."""
        directory, wall = self.asked.directory, time.time()
        self._check()
        self.nights.tidy()
        self.last = self.nights.last() or self._first()
        back_up(directory, self.last.name or _FIRST, self.asked.keep)
        name = self.nights.next()
        self._step("night", f"{name}, {self._against()}", self.asked.budget)
        if self.asked.learn:
            with self._part(self.plan.learning):
                self._learn()
        rows: Sequence[Row] = ()
        with self._part(self.plan.replay(self._now)):
            rows = self._replay()
        with self._part(None):
            self._campaign()
        bisected: dict[str, str] = {}
        with self._part(self.plan.bisection(self._now)):
            self._bisect(bisected)
        self._step("report", "writing the report", self.plan.end - self._now)
        night = Night(
            name=name,
            began=wall,
            ended=time.time(),
            budget=self.asked.budget,
            versions=versions(self.asked.config.targets),
            standing=standing(directory, self.last.standing.shipped, rows),
            replays=tuple(map(replay_of, rows)),
            bisected=bisected,
            notes=tuple(self.notes),
        )
        return self._told(night)

    # --- its parts --------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """The database can be used; of one that is damaged there may be a copy."""
        path = self.asked.directory / NAME
        if not path.exists():
            return
        try:
            with Database.open(path):
                pass
        except MalformedDatabase as error:
            copy = newest(self.asked.directory)
            if copy is None:
                raise
            raise DirectoryUnusable(
                f"{error}, or put the newest copy in its place: rm {path}*; cp {copy} {path}"
            ) from None

    def _first(self) -> Night:
        """How things stand before the first night."""
        now = time.time()
        found = versions(self.asked.config.targets)
        night = Night("", now, now, 0.0, found, standing(self.asked.directory, {}))
        self.nights.start(night)
        return night

    def _learn(self) -> None:
        from shakeout.fuzz.campaign.traces import NAME as TRACES
        from shakeout.fuzz.learning.learn import CannotLearn, learn_campaign, learn_torch, torch_is_learnt

        self._step("learning", "the rules of operators", self._left)
        try:
            learnt = learn_torch(self._how(), anew=torch_is_learnt(), whole=True)
            self.notes.append(f"{learnt.done:,} of torch's {len(learnt.names):,} operators are learnt")
            if (self.asked.directory / TRACES).exists() and not self.stop():
                for one in learn_campaign(self.asked.directory, self._how()):
                    self.notes.append(f"{len(one.names)} operators learnt from calls of the campaign")
        except (CannotLearn, DirectoryUnusable) as error:
            self.notes.append(f"the rules were not learnt: {error}")
        except Interrupted:
            if not self.stop():
                raise
        if self.stop():
            self.notes.append("learning used up its share of the budget; the next --learn goes on")

    def _how(self) -> How:
        from shakeout.fuzz.learning.learn import How

        return How(self.asked.config.workers, None, self._left, None, self.tell, self.stop)

    def _replay(self) -> Sequence[Row]:
        """Run again the campaign's bugs and the regressions of its targets; known bugs are run by the campaign."""
        config, directory = self.asked.config, self.asked.directory

        def wanted(item: Item) -> bool:
            if item.kind != "regression" or item.case is None:
                return item.kind == "bug"
            setting = item.case.setting
            return setting.target in config.targets and setting.device == config.device

        self._step("replay", "bugs and regressions, with the installed versions", self._left)
        done = replay_all(
            directory if (directory / NAME).exists() else None,
            workers=config.workers,
            memory=config.memory_limit,
            runs=RUNS,
            wanted=wanted,
            tell=self.tell,
            stop=self.stop,
        )
        if done.left:
            of = len(done.rows) + done.left
            self.notes.append(f"{done.left} of {of} cases did not run again: their share of the budget was used up")
        return done.rows

    def _campaign(self) -> None:
        directory = self.asked.directory
        until = self.began + self.plan.fuzzing
        config = replace(self.asked.config, seconds=self.asked.budget)
        self._step("campaign", "cases", self.plan.fuzzing - self._now)
        left_out: list[str] = []

        def hear(event: events.Event) -> None:
            if isinstance(event, events.Notice) and "is left out" in event.message:
                left_out.append(event.message)
            self.tell(event)

        with Campaign(config, directory, [hear], until=until) as campaign:
            outcome = campaign.run()
        if outcome.reason == "interrupted":
            self.stop.asked = True
        self.notes += dict.fromkeys(left_out)

    def _bisect(self, bisected: dict[str, str]) -> None:
        directory = self.asked.directory
        blobs.tell([str(directory.absolute() / blobs.FOLDER)])
        with Database.read(directory / NAME) as database:
            bugs = self._to_bisect(bug_list(directory, database).ranked)
        if bugs:
            self._step("bisection", f"{len(bugs)} bug{'s' if len(bugs) > 1 else ''}", self._left)
        until = self.stop.until
        for number, bug in enumerate(bugs):
            seconds = share(self._left, len(bugs) - number)
            if not seconds or self.stop.asked:
                self.notes.append(f"{len(bugs) - number} of {len(bugs)} bugs were not bisected: no time was left")
                return
            bisected[bug.bug.id] = self._bisected(bug, seconds)
            self.stop.until = until

    def _bisected(self, bug: ReportedBug, seconds: float) -> str:
        """What bisecting one bug came to, in words."""
        config = self.asked.config
        self.tell(events.Notice(f"{bug.bug.id}  {bug.title}"))
        try:
            job = chosen(self.asked.directory / bug.bug.id)
            answer = bisect_stored(
                job, workers=config.workers, memory=config.memory_limit, seconds=seconds, tell=self.tell, stop=self.stop
            )
        except (NotReproduced, Interrupted) as error:
            return "its time was up before it was reproduced" if self.stop() else str(error)
        except (ZygoteBroken, MalformedCase) as error:
            return str(error).splitlines()[-1]
        found = str(answer.bisection.culprit or "no culprit found")
        return found if answer.bisection.complete else f"{found}; its time was up, and the next night goes on"

    def _to_bisect(self, bugs: Sequence[ReportedBug]) -> list[ReportedBug]:
        """What nobody has bisected to the end, or not since it came back; what is new first, the worst first."""
        lives = {bug.id: bug.life for bug in self.last.standing.open}
        able = [bug for bug in bugs if bug.alone is not None and facts_of(bug.bug.target).ladder is not None]
        new = [bug for bug in able if lives.get(bug.bug.id) != bug.life]
        known = {bug.bug.id: within(self.asked.directory / bug.bug.id).read() for bug in able}
        return new + [bug for bug in able if bug not in new and not ((one := known[bug.bug.id]) and one.complete)]

    def _told(self, night: Night) -> Told:
        difference = between(self.last, night)
        if not any(one.totals.generated for one in difference.targets):
            night = replace(night, notes=(*night.notes, "no time was left for a case: --budget has to be larger"))
        night = replace(night, rates={one.target: one.rate for one in difference.targets})
        directory = self.asked.directory
        write_report(directory)
        write_campaign(directory)
        with Database.read(directory / NAME) as database:
            bugs = bug_list(directory, database)
        record = {**night.to_json(), "difference": described(difference)}
        folder = self.nights.publish(night.name, record, markdown(night, difference, bugs))
        back_up(directory, night.name, self.asked.keep)
        return Told(night, difference, folder)

    # --- time -------------------------------------------------------------------------------------------------------

    @property
    def _now(self) -> float:
        """Seconds since the night began."""
        return time.monotonic() - self.began

    @property
    def _left(self) -> float:
        """Seconds until the part that is at work has to end."""
        return math.inf if self.stop.until is None else max(self.stop.until - time.monotonic(), 0.0)

    @contextlib.contextmanager
    def _part(self, until: float | None) -> Iterator[None]:
        """One part of the work, which is asked to end when its time is over; Interrupted if somebody wants an end."""
        self.stop.until = None if until is None else self.began + until
        try:
            yield
        except Interrupted:
            if not self.stop():
                raise
        if self.stop.asked:
            raise Interrupted
        self.stop.until = None

    def _step(self, step: str, doing: str, seconds: float) -> None:
        self.tell(events.NightStep(step, doing, max(seconds, 0.0)))  # type: ignore[arg-type]

    def _against(self) -> str:
        return f"compared with {self.last.name}" if self.last.name else "the first one here"
