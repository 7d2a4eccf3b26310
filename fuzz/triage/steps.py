"""What is done about one finding, step by step: repeated and reduced, told apart, and only a bug is confirmed.

A finding is reduced first, in a fresh worker, whose first run repeats it. What is left is cheap to run and says which
bug it is. If that bug is there already, nothing more is done. A new bug's smallest case runs in further fresh workers,
and then its script in a fresh process with the stock toolchain.

What cannot be repeated in a fresh worker goes a longer way: its own script in several fresh processes, the case in a
fresh worker, alone and then behind the cases that its worker had run before it. What fails only there is a *history*
finding (a stale guard, a cache, leaked state), and what does not fail at all is flaky.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from shakeout.corpus import codec
from shakeout.corpus.rows import Bug
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.ground.counts import result_of
from shakeout.fuzz.ground.crashes import lost
from shakeout.fuzz.ground.failure import Failure, failure_of, repeated
from shakeout.fuzz.ground.finding_folder import SMALL_SCRIPT
from shakeout.fuzz.ground.jobs import Job, Make, Reduce, Run, Script
from shakeout.fuzz.ground.results import Answer, Reply, Result
from shakeout.fuzz.minimise.search import Budget
from shakeout.fuzz.triage.reducing import SCRIPT_SECONDS
from shakeout.fuzz.triage.shown import Shown, Small
from shakeout.fuzz.triage.store import Store
from shakeout.fuzz.workers.confirm import Confirmation

__all__ = ["BUDGET", "Step", "Tools", "TriageTask"]

#: The search for the smallest case while a campaign runs. Half of the networks with a planted fault were down to their
#: smallest case after 1 to 23 seconds, by target, and 22 to 34 candidates (docs/triage/deduplication.jsonl). What is a
#: network still gets as much once more, since nothing can be told of it; for what is small by then ``minimise --all``
#: takes its time.
BUDGET = Budget(seconds=30.0, tries=300)

#: A smallest case has to fail in so many fresh workers, each forked anew. One that fails by chance in half of all runs
#: passes that bar once in eight, together with the run that ended the search once in sixteen.
FORKS = 3

#: Fresh processes for a bug whose smallest case failed in all those workers. What the workers did not say is whether it
#: is there with the stock toolchain and a cold compiler, which no further process would say better than the first.
SMALL_RUNS = 1

#: Workers that one search may lose to candidates. A case that kills its process is reduced by some twenty steps, each
#: of which does the same.
MOST_LOSSES = 40

#: One thing to wait for: the answer to a job, or a script in fresh processes.
Step: TypeAlias = Job | Confirmation
Steps: TypeAlias = Generator[Step, Answer | None, None]

#: Makes a confirmation: of a bug, with the path of a script, in so many processes.
Confirming = Callable[[str, Path, int], Confirmation]


@dataclass(frozen=True, slots=True)
class Tools:
    """What the steps are done with.

    Attributes:
        store: where everything is kept.
        confirming: makes what tries a script in fresh processes.
        runs: fresh processes for a script that nobody has reduced.
        budget: of a search.
    """

    store: Store
    confirming: Confirming
    runs: int
    budget: Budget = BUDGET


@dataclass(slots=True)
class _Search:
    """How far the search of a finding is, as its worker told it."""

    case: str
    result: Result | None = None
    seen: list[str] = field(default_factory=list)

    def hear(self, reply: Reply) -> None:
        self.seen += reply.sequence
        if reply.case and reply.result is not None:
            self.case, self.result = reply.case, reply.result


class TriageTask:
    """The triage of one finding, step by step; ``waiting`` is what it waits for.

    Args:
        shown: the finding.
        tools: what its steps are done with.
    """

    def __init__(self, shown: Shown, tools: Tools) -> None:
        self.shown = shown
        self.waiting: Step | None = None
        self.attempts = 0
        self._tools = tools
        self._store = tools.store
        self._search = _Search(shown.case)
        self._steps = self._go()

    def move(self, answer: Answer | None) -> bool:
        """Go on with what was waited for; False when nothing is left to do."""
        try:
            self.waiting, self.attempts = self._steps.send(answer), 0
        except StopIteration:
            self.waiting = None
            return False
        return True

    def hear(self, reply: Reply) -> None:
        """A partial answer to the job that is waited for."""
        self._search.hear(reply)

    def stop(self) -> None:
        """End it; a finding that no bug has got waits on."""
        if isinstance(self.waiting, Confirmation):
            self.waiting.stop()
        self._steps.close()

    # --- steps ------------------------------------------------------------------------------------------------------

    def _go(self) -> Steps:
        shown, store = self.shown, self._store
        if not shown.case:
            yield from self._without_case()
            return
        stored = store.small(shown.bug) if shown.bug else None
        # That of a bug which was fixed and came back with another case may not fail any more.
        fails = stored is not None and (yield from self._fails_anew(stored))
        small = stored if fails else (yield from self._reduced())
        if small is not None:
            there = "" if fails else store.bug_of(shown, small)
            if there not in ("", shown.bug):
                yield from self._of_another(small, there)
                return
            if fails or (yield from self._fails_anew(small)):
                bug = store.database.bug(shown.bug) if fails else store.assign(shown, small)
                self.shown = replace(shown, bug=bug.id)
                if bug.state == "confirmed" or (yield from self._confirmed(bug)):
                    return
        elif shown.bug:
            store.gone(shown, "it did not fail again in a fresh worker")
            if store.database.bug(shown.bug).state == "confirmed":
                return
        yield from self._whole()

    def _of_another(self, small: Small, there: str) -> Steps:
        """A finding is one of a bug that is there; one that lacks a smallest case is shown by this one from now on.

        Only if it fails as that of a new bug has to: what such a bug is shown by may be confirmed.
        """
        shown, store = self.shown, self._store
        if shown.bug or not store.improvable(there, small):
            store.assign(shown, small)
            return
        tried = None
        if (yield from self._fails_anew(small)):
            script = store.scratch(f"finding-{shown.number}.py", small.script)
            tried = yield from self._fails_everywhere(f"finding-{shown.number}", script)
        if tried is None:
            store.count(shown, there)
            return
        self.shown = replace(shown, bug=store.assign(shown, small).id)
        self._conclude_smallest(tried)

    def _reduced(self) -> Generator[Step, Answer | None, Small | None]:
        """The smallest case; None if the finding does not fail in a fresh worker."""
        shown, search, budget = self.shown, self._search, self._tools.budget
        wanted = failure_of(shown.result)
        if wanted is None:
            return None
        began, tries, lost_workers, again = time.monotonic(), budget.tries, 0, False
        while True:
            spent = time.monotonic() - began if lost_workers < MOST_LOSSES else budget.seconds
            answer = yield Reduce(
                target=shown.result.target,
                device=codec.decode(shown.case).setting.device,
                case=search.case,
                failure=astuple(wanted),
                seconds=max(budget.seconds - spent, 0.0),
                tries=max(tries - len(search.seen), 0),
                seed=_seed(shown.job),
                result={} if search.result is None else search.result.to_json(),
                seen=tuple(search.seen),
                fresh=True,
            )
            if answer is None:
                return None
            if answer.loss is None:
                small = _small(answer.reply)
                if again or small is None or small.complete or small.signature is not None:
                    return small
                # A network still, of which nothing can be told: once more so long.
                again, wanted = True, small.failure
                began, tries = time.monotonic(), len(search.seen) + budget.tries
                search.case, search.result = small.case.text, small.result
                continue
            lost_workers += 1
            found = lost(answer.job, answer.loss)
            if found.case is not None and failure_of(found.result) == wanted:
                search.case, search.result = found.case.text, found.result
            elif search.result is None or lost_workers > MOST_LOSSES:
                return None

    def _fails_anew(self, small: Small) -> Generator[Step, Answer | None, bool]:
        """Whether a smallest case fails in each of some fresh workers."""
        device, text, seed = small.case.setting.device, small.case.text, _seed(self.shown.job)
        for _ in range(FORKS):
            answer = yield Run(target=small.failure.target, device=device, case=text, seed=seed, fresh=True)
            if answer is None or _interrupted(answer) or failure_of(result_of(answer)) != small.failure:
                return False
        return True

    def _confirmed(self, bug: Bug) -> Generator[Step, Answer | None, bool]:
        """Whether a bug's smallest case fails with the stock toolchain."""
        tried = yield from self._fails_everywhere(bug.id, self._store.directory / bug.id / SMALL_SCRIPT)
        if tried is None:
            return False
        self._conclude_smallest(tried)
        return True

    def _fails_everywhere(self, name: str, script: Path) -> Generator[Step, Answer | None, Confirmation | None]:
        """The runs of a smallest case's script in fresh processes; None if it does not fail in each."""
        confirmation = self._tools.confirming(name, script, min(SMALL_RUNS, self._tools.runs))
        yield confirmation
        return confirmation if confirmation.tried and confirmation.failed == confirmation.tried else None

    def _conclude_smallest(self, tried: Confirmation) -> None:
        k, n = tried.failed, tried.tried
        note = f"{k} of {n} fresh processes, {FORKS} of {FORKS} fresh workers"
        self._conclude("confirmed", k, n, note, output=tried.output)

    def _whole(self) -> Steps:
        """What could not be reduced: its own script in fresh processes, a fresh worker, the recorded sequence."""
        store, result, case = self._store, self.shown.result, self.shown.case
        if not self.shown.script:
            answer = yield Script(target=result.target, case=case, limit=SCRIPT_SECONDS)
            if answer is not None and answer.reply.script:
                self.shown = store.set_script(self.shown, answer.reply.script)
        k = n = 0
        blocked = "it has no script; "
        if self.shown.script:
            script = store.scratch(f"finding-{self.shown.number}.py", self.shown.script)
            confirmation = self._tools.confirming(f"finding-{self.shown.number}", script, self._tools.runs)
            yield confirmation
            k, n = confirmation.failed, confirmation.tried
            if k:
                state = "confirmed" if confirmation.confirmed else "flaky"
                note = f"{k} of {n} fresh processes" if k == n else f"only {k} of {n} fresh processes"
                self._conclude(state, k, n, note, output=confirmation.output)
                return
            blocked = "its script could not run; " if "cannot run" in confirmation.outcomes else ""
        again = Run(target=result.target, case=case, seed=_seed(self.shown.job), fresh=True)
        answer = yield again
        if answer is not None and _again(answer, result):
            note = f"{blocked}not in a fresh process, but in a fresh worker: one thread, and a compiler that is warm"
            self._conclude("history", k, n, note)
            return
        if result.failure is not None and result.failure.place == "grow":
            # The case is what ran last; what led there is in the job.
            yield from self._without_case()
            return
        yield from self._sequence(again, case, (k, n))

    def _without_case(self) -> Steps:
        """It crashed while growing: there is only the job to run again."""
        k, runs, job = 0, self._tools.runs, _traced(self.shown.job)
        for _ in range(runs):
            answer = yield replace(job, fresh=True)
            k += answer is not None and _again(answer, self.shown.result)
        if k:
            self._conclude(
                "confirmed" if k == runs else "flaky", k, runs, f"{k} of {runs} fresh workers, while growing"
            )
            return
        yield from self._sequence(job, "", (0, runs))

    def _sequence(self, job: Job, case: str, seen: tuple[int, int]) -> Steps:
        """A job, or a case in it, behind the jobs that ran before it."""
        history = self.shown.history
        if history:
            answer = yield replace(job, before=history, fresh=False)
            if answer is not None and _again(answer, self.shown.result):
                cases = answer.reply.sequence
                if answer.loss is not None and case:
                    # A worker that died told nothing; on the reference the case runs behind the same ones.
                    again = yield _on_reference(job, case, history)
                    cases = again.reply.sequence if again is not None else ()
                note = f"only behind the {len(history)} cases that ran before it"
                self._conclude("history", *seen, note, sequence=[*cases, *filter(None, [case])])
                return
        self._conclude("flaky", *seen, "it did not fail again")

    def _conclude(self, state: str, k: int, n: int, note: str, **files: Any) -> None:
        self._store.conclude(self.shown, state, k, n, note, **files)


def _small(reply: Reply) -> Small | None:
    """What a worker says of the smallest case; None if the finding did not fail again."""
    said = reply.learnt
    if "failure" not in said or reply.result is None:
        return None
    return Small(
        codec.decode(reply.case),
        Failure(*said["failure"]),
        reply.result,
        reply.script,
        said["growth"],
        said["complete"],
        said["tries"],
        said["seconds"],
    )


def _seed(job: Job) -> int:
    return job.seed if isinstance(job, Make | Run) else 0


def _traced(job: Job) -> Job:
    """A job that writes down each call before it runs."""
    return replace(job, traced=True) if isinstance(job, Make) else job


def _on_reference(job: Job, case: str, history: tuple[Job, ...]) -> Run:
    found = codec.decode(case)
    reference = vocabulary(found.program.vocabulary).REFERENCE
    return Run(target=reference, case=found.on(reference).text, device=job.device, before=history)


def _interrupted(answer: Answer) -> bool:
    return answer.loss is not None and answer.loss.kind == "interrupted"


def _again(answer: Answer, result: Result) -> bool:
    """Whether an answer shows the same failure."""
    return not _interrupted(answer) and repeated(result_of(answer), result)
