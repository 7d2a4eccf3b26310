"""A campaign's own cases as a source of jobs: one number after the other, and what becomes of the answers."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from shakeout.corpus.codec import encode
from shakeout.corpus.database import Database
from shakeout.fuzz.campaign import schedule
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.campaign.investigation import Investigation
from shakeout.fuzz.campaign.ledger import Ledger
from shakeout.fuzz.coverage.source import FOREIGN
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.counts import abandoned, internal, traced
from shakeout.fuzz.ground.crashes import lost
from shakeout.fuzz.ground.jobs import Grow, Job, Make, job_from_json
from shakeout.fuzz.ground.results import Answer, Loss, Result
from shakeout.fuzz.steering.steering import Steering
from shakeout.fuzz.workers.timing import TimeLimits

__all__ = ["Declined", "Seeds"]

#: Told of a case that its target declined, with its text.
Declined: TypeAlias = Callable[[Result, str], None]

#: A job that was in hand when its worker or the zygote was killed from outside is given once more; then it is taken
#: for the cause. One that was in hand each time the campaign itself died is given up sooner or later, but blamed for
#: nothing: a campaign dies of many things.
ATTEMPTS = 2
FLIGHTS = 3

_TRAPPED = "a breakpoint of coverage was hit where signals are blocked; without --coverage and --cover there are none"


class Seeds:
    """Grows the cases of one campaign, from the number at which it stands.

    Args:
        config: of the campaign, with the targets that work.
        database: where each job is written down before it is done, and struck out when it is answered.
        ledger: where each case is counted.
        investigation: told of each finding.
        times: told of each case's seconds.
        tell: told of what else is seen.
        declined: told of each case that its target declined, with its text.
        steering: decides what each job is; None where the schedule does.
    """

    def __init__(
        self,
        config: Config,
        database: Database,
        ledger: Ledger,
        investigation: Investigation,
        times: TimeLimits,
        tell: events.Listener,
        declined: Declined = lambda result, case: None,
        steering: Steering | None = None,
    ) -> None:
        self._steering = steering
        self._declined = declined
        self._config = config
        self._database = database
        self._ledger = ledger
        self._investigation = investigation
        self._times = times
        self._tell = tell
        self._number = int(database.meta("next", 0))
        self._again: deque[Job] = deque()
        self._handed: list[Job] = []
        self._attempts: Counter[int] = Counter()
        self._left: set[tuple[str, str]] = set()
        self._grown_twice: dict[int, Answer] = {}
        self._closed = False
        self._in_hand: dict[int, tuple[Job, float]] = {}  # with the time since when, of its setting

    #: When fuzzing ends, as ``time.monotonic`` tells it, for whoever gives jobs of many cases; None for never.
    until: float | None = None

    # --- jobs -------------------------------------------------------------------------------------------------------

    def take_up(self) -> None:
        """Go on where the campaign ended: what was in hand comes first, but not what may have ended it."""
        for flight in self._database.flights():
            # A campaign of an earlier version has written down the number alone.
            job = job_from_json(json.loads(flight.text)) if flight.text else self.job(flight.job)
            if flight.attempts < FLIGHTS:
                self._again.append(job)
                continue
            with self._database.transaction():
                reason = f"in hand {FLIGHTS} times when the campaign died"
                self._ledger.count(Answer(job, 0), abandoned(reason, job.target))

    def job(self, number: int) -> Grow:
        """Job number ``number`` of the schedule, which stays away from what is known if that is wanted."""
        job = schedule.job(self._config, number)
        if not self._config.avoid_known:
            return job
        remembered = self._investigation.remembered
        return replace(job, avoid=tuple(bug.id for bug in remembered if bug.case.setting.target == job.target))

    def next(self) -> Job | None:
        """The next job, or None if there is none any more."""
        if self._closed:
            return None
        if self._again:
            job = self._again.popleft()
        elif self._exhausted:
            return None
        else:
            usual = self.job(self._number)
            job = usual if self._steering is None else self._steering.decide(usual)
            self._number += 1
        self._handed.append(job)
        self._in_hand[id(job)] = job, time.monotonic()
        return job

    def close(self) -> None:
        """Give no job any more."""
        self._closed = True

    @property
    def again(self) -> bool:
        """Whether something is to be done once more."""
        return bool(self._again)

    @property
    def at_work(self) -> bool:
        """Whether a case is in hand."""
        return bool(self._in_hand)

    def overdue(self, least: float) -> list[tuple[str, float]]:
        """Cases in hand that take far longer than others did, as if they hung: target, and seconds.

        Args:
            least: seconds that no case is suspected for; they are counted from the last setting that was answered.
        """
        now = time.monotonic()
        taken = [(job.target, now - since) for job, since in self._in_hand.values()]
        return [(name, spent) for name, spent in taken if spent > max(least, self._times.overdue(name))]

    @property
    def over(self) -> bool:
        """Whether all the cases that were asked for are handed out, and none is to be done again."""
        return self._exhausted and not self._again

    @property
    def _exhausted(self) -> bool:
        return self._config.cases is not None and self._number >= self._config.cases

    @property
    def handed(self) -> bool:
        """Whether a job was given that is not written down yet."""
        return bool(self._handed)

    def write_down(self) -> None:
        """Note the jobs that were given since the last time, whole; inside a transaction."""
        for job in self._handed:
            self._database.hand_out(job.number, json.dumps(job.to_json()))
        self._handed.clear()

    # --- answers ----------------------------------------------------------------------------------------------------

    def done(self, answer: Answer) -> None:
        """Write down what came of a job; inside a transaction."""
        if answer.loss is not None or not answer.reply.partial:
            self._in_hand.pop(id(answer.job), None)
        elif id(answer.job) in self._in_hand:
            self._in_hand[id(answer.job)] = answer.job, time.monotonic()  # what others took is one setting's time
        self.enter(answer)

    def enter(self, answer: Answer) -> None:
        """Write down what came of a case, whoever had it run; inside a transaction."""
        if answer.loss is not None:
            self._lost(answer, answer.loss)
            return
        job, reply, result = answer.job, answer.reply, answer.reply.result
        if result is None:
            self._internal(answer)
            return
        self._times.add(job.target, reply.seconds)
        new = self._ledger.count(answer, result)
        if self._steering is not None:
            self._steering.learn(answer, result, new)
        for what in result.left:
            if (job.target, what) not in self._left:
                self._left.add((job.target, what))
                self._tell(events.Notice(f"{job.target} left {what} behind; each time it is put right"))
        if result.signature:
            self._investigation.found(job, result, reply.case, reply.script, answer.history)
        elif result.status == "unsupported":
            self._declined(result, reply.case)
        if (crashed := self._grown_twice.pop(job.number, None)) is not None:
            # It crashed while growing, and did not when each call was written down.
            assert crashed.loss is not None
            found = lost(crashed.job, traced(crashed.loss, "growing")).result
            self._investigation.found(crashed.job, found, "", "", crashed.history)

    def _lost(self, answer: Answer, loss: Loss) -> None:
        """A worker ended with a case in hand: that is what the case showed."""
        job = answer.job
        if loss.kind == "interrupted":
            self._attempts[job.number] += 1
            if self._attempts[job.number] < ATTEMPTS:
                self._again.append(job)
                return
            loss = replace(loss, kind="crash")
        if loss.symptom == "SIGTRAP" and self._config.watched.libraries and FOREIGN not in loss.output:
            # The case ran with SIGTRAP blocked, so the breakpoint's handler could not: that says nothing of its target.
            self._ledger.count(answer, Result("", job.target, "infra", reason=_TRAPPED))
            return
        found = lost(job, loss)
        if found.growing and isinstance(job, Make) and not job.traced:
            self._grown_twice[job.number] = answer
            self._again.append(replace(job, traced=True, fresh=True))
            return
        self._grown_twice.pop(job.number, None)
        self._times.add(job.target, loss.seconds)
        self._ledger.count(answer, found.result)
        if self._steering is not None:
            self._steering.lost(answer, found.case, f"{loss.kind} {loss.symptom}".strip())
        if found.result.signature:
            case = encode(found.case) if found.case is not None else ""
            self._investigation.found(job, found.result, case, "", answer.history)

    def _internal(self, answer: Answer) -> None:
        """A defect of ours."""
        result = internal(answer)
        self._ledger.count(answer, result)
        self._investigation.found(answer.job, result, "", "", answer.history)
