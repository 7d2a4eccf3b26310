"""Sessions of libFuzzer as a source of jobs: it decides which cases run, and the campaign keeps the books of each.

A session is one job with many answers. Each of them becomes the answer of a single case here, which is entered as if
the case had been a job of the campaign's own: totals, findings, triage and what is done about a dead worker are the
same.
One session after the other runs until the time is over; they have in common what lies in the corpus.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

from shakeout.corpus.database import Database
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.campaign.schedule import seed_of
from shakeout.fuzz.campaign.seeds import Seeds
from shakeout.fuzz.engines.units import folder_of
from shakeout.fuzz.ground.jobs import Grow, Job, Run, Session, job_from_json
from shakeout.fuzz.ground.results import Answer, Reply

__all__ = ["CORPUS", "SECONDS", "Sessions", "engine_lines"]

#: The folder of the corpora, in the campaign's directory: one for each target.
CORPUS = "atheris"

#: Seconds of a session, and its cases at most. Compilers leak, targets take turns, and a new session has to run the
#: corpus again, so neither too long nor too short.
SECONDS = 120.0
CASES = 5000

#: Cases that are kept as what ran before a finding.
HISTORY = 100

#: Under which the database has what is told of the engine.
META = "engine"


@dataclass(slots=True)
class _Hand:
    """A session in hand: how many of its cases were answered, and the last of them."""

    job: Session
    answered: int = 0
    before: deque[Job] = field(default_factory=lambda: deque(maxlen=HISTORY))


class Sessions:
    """Has libFuzzer run the cases of one campaign.

    Args:
        config: of the campaign, with the targets that work.
        directory: of the campaign.
        database: of the campaign.
        seeds: where cases are entered, and what is to be done once more comes from.
    """

    def __init__(self, config: Config, directory: Path, database: Database, seeds: Seeds) -> None:
        #: When fuzzing ends.
        self.until: float | None = None
        self._config, self._directory, self._database, self._seeds = config, directory, database, seeds
        self._number = int(database.meta("next", 0))
        self._begun = int(database.meta(META, {}).get("sessions", 0))
        self._hands: dict[int, _Hand] = {}
        self._repeated: set[int] = set()
        self._closed = False

    # --- jobs -------------------------------------------------------------------------------------------------------

    def take_up(self) -> None:
        """Go on with what was to be done once more."""
        self._seeds.take_up()

    def job(self, number: int) -> Grow:
        """A job that an earlier campaign had in hand."""
        return self._seeds.job(number)

    def next(self) -> Job | None:
        """Something that is to be done once more, or another session as long as there is a core for it."""
        if self._closed:
            return None
        if self._seeds.again:
            job = self._seeds.next()
            if job is not None:
                self._repeated.add(id(job))
            return job
        now = time.monotonic()
        if len(self._hands) >= self._config.workers or not self._left or (self.until is not None and now >= self.until):
            return None
        like = self._seeds.job(self._begun)
        recipe = {name: value for name, value in like.recipe.items() if name != "index"}
        job = Session(
            target=like.target,
            device=like.device,
            number=self._number,
            fresh=True,
            # The end of the campaign's seeds: those of its own jobs count from the beginning.
            seed=seed_of(self._config.seed, -1 - self._begun),
            recipe=recipe,
            knobs=like.knobs,
            knob_share=like.knob_share,
            avoid=like.avoid,
            corpus=str((self._directory / CORPUS / folder_of(like.target)).absolute()),
            most=min(self._left, CASES),
            until=min(now + SECONDS, self.until if self.until is not None else math.inf),
        )
        self._begun += 1
        self._hands[id(job)] = _Hand(job)
        return job

    def close(self) -> None:
        """Give no job any more."""
        self._closed = True
        self._seeds.close()

    @property
    def at_work(self) -> bool:
        """Whether a session or a case is in hand."""
        return bool(self._hands) or self._seeds.at_work

    @property
    def over(self) -> bool:
        """Whether all the cases that were asked for have run, or will in the sessions in hand."""
        return not self._left and not self._seeds.again

    @property
    def _left(self) -> int:
        """Cases that no session in hand has yet."""
        if self._config.cases is None:
            return CASES
        promised = sum(hand.job.most - hand.answered for hand in self._hands.values())
        return max(self._config.cases - self._number - promised, 0)

    @property
    def handed(self) -> bool:
        """Whether something has to be written down."""
        return self._seeds.handed

    def write_down(self) -> None:
        """Note what was given once more; inside a transaction."""
        self._seeds.write_down()

    # --- answers ----------------------------------------------------------------------------------------------------

    def done(self, answer: Answer) -> None:
        """Write down what came of a case of a session; inside a transaction."""
        hand = self._hands.get(id(answer.job))
        if hand is None:
            self._seeds.done(answer)
            return
        if answer.loss is not None or not answer.reply.partial:
            del self._hands[id(answer.job)]
            self._tell(hand, answer)
        if answer.loss is not None:
            self._lost(hand, answer)
            return
        reply = answer.reply
        if reply.result is None and not reply.internal:
            return  # its time was over between two cases
        case = _job_of(hand.job, reply)
        if reply.result is not None and reply.result.failure is None:
            # Of what passes nobody keeps the text, and a script has the next one's place.
            reply = replace(reply, case=reply.case if reply.result.status == "unsupported" else "")
        self._enter(hand, replace(answer, reply=reply), case)
        if isinstance(case, Run):
            hand.before.append(case)
        if answer.reply.engine:
            self._tell(hand, answer)

    def _lost(self, hand: _Hand, answer: Answer) -> None:
        """A session's worker ended: what stands in its slot is a case's own job, or the case itself."""
        assert answer.loss is not None
        state = answer.loss.state
        if state.kind == "case":
            self._enter(hand, answer, Run(target=hand.job.target, device=hand.job.device, case=state.text))
            return
        try:
            job = job_from_json(json.loads(state.text.splitlines()[0]))
        except (ValueError, IndexError):
            return  # it had not begun, or the text was being written
        if not isinstance(job, Session):
            self._enter(hand, answer, job)

    def _enter(self, hand: _Hand, answer: Answer, job: Job) -> None:
        numbered = replace(job, number=self._number)
        self._number += 1
        hand.answered += 1
        self._database.set_meta(next=self._number)
        self._seeds.enter(replace(answer, job=numbered, history=tuple(hand.before)))

    def _tell(self, hand: _Hand, answer: Answer) -> None:
        """Keep how far libFuzzer has come with a target."""
        told = self._database.meta(META, {})
        targets = dict(told.get("targets", {}))
        row = dict(targets.get(hand.job.target, {}))
        for name, value in answer.reply.engine.items():
            row[name] = max(int(row.get(name, 0)), int(value))
        if answer.loss is not None and answer.loss.kind != "interrupted":
            row["lost"] = int(row.get("lost", 0)) + 1
        targets[hand.job.target] = row
        self._database.set_meta(**{META: {"name": "atheris", "sessions": self._begun, "targets": targets}})


def _job_of(session: Session, reply: Reply) -> Job:
    """The job of which a reply tells: a case, or in what a defect of ours showed."""
    if not reply.case and "job" in reply.learnt:
        return job_from_json(reply.learnt["job"])
    return Run(target=session.target, device=session.device, case=reply.case)


def engine_lines(database: Database) -> list[str]:
    """How far the engine has come, a line for each target; none where a campaign had its own loop alone."""
    told = database.meta(META, {})
    lines = []
    for name, row in sorted(told.get("targets", {}).items()):
        lost = f", {row['lost']:,} ended by a case" if row.get("lost") else ""
        lines.append(
            f"libFuzzer on {name}: {row.get('branches', 0):,} branches and {row.get('features', 0):,} features of its "
            f"instrumented Python, {row.get('units', 0):,} inputs kept in one session{lost}"
        )
    return lines
