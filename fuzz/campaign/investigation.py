"""What is done about a finding: it is stored under its signature, and tried again until its state is known.

First its script runs in fresh processes. If it never fails there, the case runs in a fresh worker, alone, then behind
the cases that its worker had run before it: what fails only so is a *history* finding (a stale guard, a cache, leaked
state), and what does not fail at all is flaky.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shakeout.corpus.codec import decode
from shakeout.corpus.database import Database
from shakeout.corpus.files import write_whole
from shakeout.corpus.rows import Bug, Finding
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.counts import result_of
from shakeout.fuzz.ground.environment import describe
from shakeout.fuzz.ground.failure import repeated
from shakeout.fuzz.ground.finding_folder import OUTPUT, SCRIPT, write_finding, write_sequence
from shakeout.fuzz.ground.jobs import Grow, Job, Run, Script, job_from_json
from shakeout.fuzz.ground.results import Answer, Result
from shakeout.fuzz.ground.signature import INTERNAL, title
from shakeout.fuzz.triage.recognition import Remembered, recognised
from shakeout.fuzz.workers.confirm import RUNS, Confirmation
from shakeout.fuzz.workers.pool import Crew

__all__ = ["Investigation"]

#: Cases of one bug that are tried: a second one if the first did not fail again. More would cost time that other
#: findings need, and two that do not reproduce say enough.
TRIED = 2

#: A side job is given so often if its worker is killed from outside.
ATTEMPTS = 3

#: Seconds after which a script takes a run for a hang: a cold start of torch and a cold compilation of a large network,
#: several times over.
SCRIPT_SECONDS = 180.0

Step = Job | Confirmation


@dataclass(frozen=True, slots=True)
class _Shown:
    """A finding as it came in.

    Attributes:
        bug: id of the bug that it shows.
        number: of the finding.
        job: which showed it.
        result: with a signature and a failing verdict.
        case: its text; empty if it crashed while growing.
        script: its script; empty if its worker died.
        history: jobs that the same worker had run before.
    """

    bug: str
    number: int
    job: Job
    result: Result
    case: str
    script: str
    history: tuple[Job, ...]


@dataclass(slots=True)
class _Inquiry:
    """One finding on its way; ``waiting`` is what it waits for."""

    bug: str
    steps: Generator[Step, Answer | None, None]
    waiting: Step | None = None
    attempts: int = 0


class Investigation:
    """The findings of one campaign."""

    def __init__(
        self,
        database: Database,
        directory: Path,
        crew: Crew,
        tell: events.Listener,
        *,
        memory: int,
        runs: int = RUNS,
    ) -> None:
        #: Id of the shipped known bug that has a signature.
        self.known: dict[str, str] = {}
        #: Known bugs that are recognised by their smallest case, whatever the signature is.
        self.remembered: list[Remembered] = []
        #: Bugs that were confirmed, or kept as history findings, in this run.
        self.confirmed: list[str] = []
        self._database = database
        self._directory = directory
        self._crew = crew
        self._tell = tell
        self._memory = memory
        self._runs = runs
        self._queue: deque[_Inquiry] = deque()
        self._active: list[_Inquiry] = []
        self._tried: Counter[str] = Counter()
        self._jobs: deque[Job] = deque()

    # --- findings come in -------------------------------------------------------------------------------------------

    def found(self, job: Job, result: Result, case: str, script: str, history: Sequence[Job]) -> None:
        """Store a finding, and have it tried if its bug is not settled; inside a transaction of the database.

        Args:
            job: which showed it.
            result: with a signature and a failing verdict.
            case: its text; empty if it crashed while growing.
            script: its script; empty if its worker died.
            history: jobs that the same worker had run before.
        """
        signature, verdict = result.signature, result.failure
        assert verdict is not None
        known = self.known.get(signature, "")
        internal = signature.startswith(INTERNAL)
        if case and not known and not internal:
            known = recognised(decode(case), result, self.remembered)
            # A row of its own: what else has this signature may be another bug.
            signature = f"known | {known}" if known else signature
        bug, number = self._database.add_finding(
            signature=signature,
            title=title(result.target, verdict.symptom, verdict.message, result.stage),
            target=result.target,
            oracle=verdict.oracle,
            symptom=verdict.symptom,
            job=job.number,
            case_id=result.case,
            case_json=case,
            result=_stored(result, job),
            script=script,
            history=[earlier.to_json() for earlier in history],
            state="internal" if internal else "known" if known else "new",
            known=known,
        )
        first = bug.count == 1
        new = (first or self._is_back(bug, job)) and not known and not internal
        bug = self._database.bug(bug.id)
        self._tell(
            events.FindingSeen(bug.id, bug.title, bug.target, bug.symptom, new, job.number, bug.signature, bug.known)
        )
        if number is None:
            return
        if first:
            self._write(bug, case, script, _stored(result, job))
        if bug.state in ("new", "flaky"):
            self._open(_Shown(bug.id, number, job, result, case, script, tuple(history)))

    def _is_back(self, bug: Bug, job: Job) -> bool:
        """Whether a bug was fixed when it ran last; it is tried anew then."""
        if bug.id not in self._database.fixed():
            return False
        note = f"case {job.number} of the campaign showed it"
        self._database.add_replay(bug.id, "back", note, describe()["packages"])
        self._database.reopen(bug.id)
        self._tried[bug.id] = 0
        return True

    def reopen(self, job_of: Callable[[int], Job]) -> None:
        """Try what an earlier run of the campaign had no time to try."""
        for bug in self._database.bugs():
            stored = self._database.findings(bug.id)
            self._tried[bug.id] = sum(finding.n > 0 for finding in stored)
            if bug.state == "new" and stored and not self._tried[bug.id]:
                self._take_up(stored[0], job_of)

    def _take_up(self, finding: Finding, job_of: Callable[[int], Job]) -> None:
        def job(stored: Any, number: int) -> Job:
            # A campaign of an earlier version has written down the number alone.
            return job_from_json(stored) if isinstance(stored, Mapping) and "kind" in stored else job_of(number)

        result = Result.from_json(finding.result)
        found = job(finding.result.get("job"), finding.job)
        history = tuple(job(one, one) for one in finding.history)
        self._open(_Shown(finding.bug, finding.id, found, result, finding.case_json, finding.script, history))

    def _open(self, shown: _Shown) -> None:
        busy = any(inquiry.bug == shown.bug for inquiry in (*self._queue, *self._active))
        if busy or self._tried[shown.bug] >= TRIED:
            return
        self._tried[shown.bug] += 1
        self._queue.append(_Inquiry(shown.bug, self._with_case(shown) if shown.case else self._without_case(shown)))

    # --- findings are tried -----------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether something is still to be tried."""
        return bool(self._queue or self._active)

    @property
    def current(self) -> str:
        """The bugs that are being tried."""
        return ", ".join(inquiry.bug for inquiry in self._active)

    def poll(self, at_once: int) -> None:
        """Move on; at most so many findings are tried at once."""
        while self._queue and len(self._active) < at_once:
            inquiry = self._queue.popleft()
            self._active.append(inquiry)
            self._move(inquiry, None)
        width = max(at_once // max(len(self._active), 1), 1)
        for inquiry in list(self._active):
            if isinstance(inquiry.waiting, Confirmation) and inquiry.waiting.poll(width):
                self._move(inquiry, None)

    def next(self) -> Job | None:
        """The next job: a script that is to be written, or a case that is to run again."""
        return self._jobs.popleft() if self._jobs else None

    def done(self, answer: Answer) -> None:
        """Take the answer to one of its jobs."""
        inquiry = next((one for one in self._active if one.waiting is answer.job), None)
        if inquiry is None or answer.reply.partial:
            return
        inquiry.attempts += 1
        if answer.loss is not None and answer.loss.kind == "interrupted" and inquiry.attempts < ATTEMPTS:
            self._jobs.append(answer.job)
        else:
            self._move(inquiry, answer)

    def stop(self) -> None:
        """End what is running; what is not settled stays new and is tried when the campaign goes on."""
        for inquiry in self._active:
            if isinstance(inquiry.waiting, Confirmation):
                inquiry.waiting.stop()
            inquiry.steps.close()
        self._active.clear()
        self._queue.clear()
        self._jobs.clear()

    def _move(self, inquiry: _Inquiry, answer: Answer | None) -> None:
        try:
            inquiry.waiting, inquiry.attempts = inquiry.steps.send(answer), 0
        except StopIteration:
            self._active.remove(inquiry)
            return
        if isinstance(inquiry.waiting, Job):
            self._jobs.append(inquiry.waiting)

    def _with_case(self, shown: _Shown) -> Generator[Step, Answer | None, None]:
        """Fresh processes, then a fresh worker, then the recorded sequence."""
        bug, number, result, case, script = shown.bug, shown.number, shown.result, shown.case, shown.script
        if not script:
            answer = yield Script(target=result.target, case=case, limit=SCRIPT_SECONDS)
            script = answer.reply.script if answer is not None else ""
            if script:
                self._database.set_script(number, script)
        k = n = 0
        blocked = "" if script else "it has no script; "
        if script:
            self._write(self._database.bug(bug), case, script, _stored(result, shown.job))
            confirmation = self._confirmation(bug, number)
            yield confirmation
            k, n = confirmation.failed, confirmation.tried
            write_whole(self._directory / bug / OUTPUT, confirmation.output)
            if confirmation.confirmed:
                self._conclude(number, "confirmed", k, n, f"{k} of {n} fresh processes")
                return
            if k:
                self._conclude(number, "flaky", k, n, f"only {k} of {n} fresh processes")
                return
            blocked = "its script could not run; " if "cannot run" in confirmation.outcomes else ""
        seed = shown.job.seed if isinstance(shown.job, Grow | Run) else 0
        again = Run(target=result.target, case=case, seed=seed, fresh=True)
        answer = yield again
        if answer is not None and _again(answer, result):
            note = f"{blocked}not in a fresh process, but in a fresh worker: one thread, and a compiler that is warm"
            self._conclude(number, "history", k, n, note)
            return
        if result.failure is not None and result.failure.place == "grow":
            # The case is what ran last; what led there is in the job.
            yield from self._without_case(shown)
            return
        yield from self._sequence(shown, again, case, (k, n))

    def _without_case(self, shown: _Shown) -> Generator[Step, Answer | None, None]:
        """It crashed while growing: there is only the job to run again."""
        k = 0
        for _ in range(self._runs):
            answer = yield replace(_traced(shown.job), fresh=True)
            k += answer is not None and _again(answer, shown.result)
        if k:
            state = "confirmed" if k == self._runs else "flaky"
            note = f"{k} of {self._runs} fresh workers, while growing"
            self._conclude(shown.number, state, k, self._runs, note)
            return
        yield from self._sequence(shown, _traced(shown.job), "", (0, self._runs))

    def _sequence(
        self, shown: _Shown, job: Job, case: str, seen: tuple[int, int]
    ) -> Generator[Step, Answer | None, None]:
        """A job, or a case in it, behind the jobs that ran before it."""
        history = shown.history
        if history:
            answer = yield replace(job, before=history, fresh=False)
            if answer is not None and _again(answer, shown.result):
                cases = answer.reply.sequence
                if answer.loss is not None and case:
                    # A worker that died told nothing; on the reference the case runs behind the same ones.
                    again = yield _on_reference(job, case, history)
                    cases = again.reply.sequence if again is not None else ()
                write_sequence(self._directory / shown.bug, [*cases, *filter(None, [case])])
                note = f"only behind the {len(history)} cases that ran before it"
                self._conclude(shown.number, "history", *seen, note)
                return
        self._conclude(shown.number, "flaky", *seen, "it did not fail again")

    def _conclude(self, number: int, state: str, k: int, n: int, note: str) -> None:
        with self._database.transaction():
            bug = self._database.judge(number, state=state, k=k, n=max(n, 1), note=note)
        if bug.state in ("confirmed", "history") and bug.id not in self.confirmed:
            self.confirmed.append(bug.id)
        folder = str(self._directory / bug.id)
        self._tell(events.Confirmed(bug.id, k, n, state, bug.title, bug.target, bug.symptom, folder))

    def _confirmation(self, bug: str, number: int) -> Confirmation:
        cache = self._directory / "cache"
        return Confirmation(
            bug,
            number,
            self._directory / bug / SCRIPT,
            cache / f"confirm-{bug}",
            headers=self._crew.headers,
            temporary=cache / "tmp",
            memory=self._memory,
            runs=self._runs,
        )

    def _write(self, bug: Bug, case: str, script: str, result: Mapping[str, Any]) -> None:
        write_finding(self._directory / bug.id, case=case, script=script, result=result)


def _stored(result: Result, job: Job) -> dict[str, Any]:
    """A result as it is kept: with the job that showed it."""
    return {**result.to_json(), "job": job.to_json()}


def _traced(job: Job) -> Job:
    """A job that writes down each call before it runs."""
    return replace(job, traced=True) if isinstance(job, Grow) else job


def _on_reference(job: Job, case: str, history: tuple[Job, ...]) -> Run:
    found = decode(case)
    reference = vocabulary(found.program.vocabulary).REFERENCE
    return Run(target=reference, case=found.on(reference).text, device=job.device, before=history)


def _again(answer: Answer, result: Result) -> bool:
    """Whether an answer shows the same failure."""
    interrupted = answer.loss is not None and answer.loss.kind == "interrupted"
    return not interrupted and repeated(result_of(answer), result)
