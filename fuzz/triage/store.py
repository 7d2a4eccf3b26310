"""A campaign's findings and bugs as they are stored: recognised, counted, opened, joined, each in one transaction.

What is written to a bug's folder is written before the transaction ends in which the bug is told of: a death in between
leaves a folder that the next attempt writes again, and never a bug without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shakeout.corpus import blobs, codec
from shakeout.corpus.case import Case
from shakeout.corpus.database import Database
from shakeout.corpus.files import write_whole
from shakeout.corpus.rows import Bug, Finding
from shakeout.corpus.smallest_cases import SmallestCase
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.finding_folder import MINIMISED, OUTPUT, SMALL_SCRIPT, write_finding, write_sequence
from shakeout.fuzz.ground.jobs import Job, job_from_json
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.ground.signature import INTERNAL, title
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.triage.bug_signature import MOST_OPERATORS, Signature
from shakeout.fuzz.triage.cause import cause_of, told_at_once, unclassified, unreduced
from shakeout.fuzz.triage.recognition import Recognition, Remembered
from shakeout.fuzz.triage.shown import Shown, Small, stored_small

__all__ = ["Store", "looked_at"]

#: Of the findings of one coarse signature that nothing explains the first three are looked at, and then the fourth, the
#: eighth, the sixteenth and so on. Of all pairs of findings with one coarse signature 84 % were of two bugs where
#: every bug sat in the same few operators, and 1 to 22 % elsewhere (docs/triage.md); three show a second bug that is as
#: frequent as the first with a probability of 7/8. Beyond them a bug that makes a share s of the group is looked at
#: once after some 1/s findings, for which the powers of two cost log2(1/s) looks. A frequent bug costs a dozen looks
#: in a night of four thousand findings.
FIRST_FEW = 3


def looked_at(nth: int) -> bool:
    """Whether the ``nth`` finding of a group, counted from 1, is triaged; the others are counted."""
    return nth <= FIRST_FEW or nth & (nth - 1) == 0


class Store:
    """The findings and bugs of one campaign.

    Args:
        database: of the campaign.
        directory: of the campaign.
        tell: told of what was stored; what is told inside a transaction has to be passed on after it.
    """

    def __init__(self, database: Database, directory: Path, tell: events.Listener) -> None:
        #: Id of the shipped known bug that has a coarse signature.
        self.known: dict[str, str] = {}
        #: Known bugs that are recognised by their smallest case.
        self.remembered: list[Remembered] = []
        self.database = database
        self.directory = directory
        self._tell = tell
        self._shipped = Recognition()
        self._own = Recognition()
        self._causes: dict[str, str] = {}
        for finding in database.reduced():
            small = stored_small(finding.small, finding.small_result)
            self._own.add(Remembered(finding.bug, small.case, small.failure))
        smallest = database.smallest_cases()
        for bug in database.bugs():
            minimal = smallest.get(bug.id)
            if minimal is not None and minimal.case_json:
                small = stored_small(minimal.case_json, minimal.result)
                self._own.add(Remembered(bug.id, small.case, small.failure))
                if minimal.signature:  # with the growth that was looked at
                    cause = cause_of(Signature.from_json(minimal.signature), small.result, small.case)
                    self._causes.setdefault(cause, bug.id)
                else:
                    self._causes.setdefault(small.cause(bug.signature), bug.id)
            if (minimal is None or not minimal.signature) and bug.state not in ("known", "internal"):
                self._causes.setdefault(unclassified(bug.signature), bug.id)
                for finding in database.findings(bug.id)[:1]:
                    told = Result.from_json(finding.result)
                    self._causes.setdefault(_without_small(told, finding.case_json, bug.signature, bug.state), bug.id)

    def remember(self, bugs: Iterable[Remembered]) -> None:
        """Recognise known bugs from now on."""
        for bug in bugs:
            self.remembered.append(bug)
            self._shipped.add(bug)

    # --- findings come in -------------------------------------------------------------------------------------------

    def found(self, job: Job, result: Result, case: str, script: str, history: Sequence[Job]) -> Shown | None:
        """Store a finding, counted under a bug or waiting; inside a transaction of the database.

        Args:
            job: which showed it.
            result: with a coarse signature and a failing verdict.
            case: its text; empty if it crashed while growing.
            script: its script; empty if its worker died.
            history: jobs that the same worker had run before.

        Returns:
            What is to be triaged, if it is.
        """
        signature, verdict = result.signature, result.failure
        assert verdict is not None
        stored: dict[str, Any] = {
            "job": job.number,
            "case_id": result.case,
            "case_json": case,
            "result": {**result.to_json(), "job": job.to_json()},
            "script": script,
            "history": [earlier.to_json() for earlier in history],
        }
        internal = signature.startswith(INTERNAL)
        decoded = codec.decode(case) if case and not internal else None
        known = self.known.get(signature, "") or ("" if decoded is None else self._shipped.find(decoded, result))
        if internal or known:
            state = "internal" if internal else "known"
            # A row of its own: what else has this coarse signature may be another bug.
            row = f"known | {known}" if known and signature not in self.known else signature
            bug, number = self.database.add_finding(
                signature=row,
                title=_title(result),
                target=result.target,
                oracle=verdict.oracle,
                symptom=verdict.symptom,
                state=state,
                known=known,
                **stored,
            )
            if number is not None and bug.count == 1:
                self._write(bug.id, result, job, case, script)
            self._seen(bug.id, result, job, known)
            return None
        if bug_id := ("" if decoded is None else self._recognised(decoded, result)):
            self.database.count(bug_id, result.target, verdict.symptom)
            self._make_room(bug_id)
            state = self.database.bug(bug_id).state
            self.database.store(bug_id, signature=signature, state=state, **stored)
            self._seen(bug_id, result, job)
            return self._back(bug_id, job)
        group = self.database.meet(signature)
        if not looked_at(group.seen):
            self._seen(group.bug, result, job)
            if not group.bug:
                self.database.pend(signature)
                return None
            self.database.count(group.bug, result.target, verdict.symptom)
            if self._make_room(group.bug):
                self.database.store(group.bug, signature=signature, state="new", **stored)
            return self._back(group.bug, job)
        number = self.database.store(None, signature=signature, **stored)
        if number is None:  # the very case waits already
            self.database.pend(signature)
            return None
        self._seen("", result, job, waiting=True)
        return Shown(number, job, result, case, script, tuple(history))

    def recognised(self, shown: Shown) -> bool:
        """Whether a finding that waits is one of a bug that became known meanwhile; it is counted there then."""
        if not shown.case or shown.bug:
            return False
        bug = self._recognised(codec.decode(shown.case), shown.result)
        if bug:
            self.count(shown, bug)
        return bool(bug)

    def count(self, shown: Shown, bug: str) -> None:
        """A finding that waited is one of a bug that is there."""
        with self.database.transaction():
            self._make_room(bug)
            self.database.assign(shown.number, bug)
            self._back(bug, shown.job)

    def _recognised(self, case: Case, result: Result) -> str:
        found = self._own.find(case, result)
        if not found:
            found = self._causes.get(told_at_once(result, case), "")
            if found and self._is_network(self.database.bug(found).id):
                return ""  # this one may become the smallest case that the bug lacks
        return self.database.bug(found).id if found else ""

    def _seen(self, bug: str, result: Result, job: Job, known: str = "", *, waiting: bool = False) -> None:
        assert result.failure is not None
        told = (_title(result), result.target, result.failure.symptom, job.number, result.signature, known)
        self._tell(events.FindingSeen(bug, *told, waiting=waiting))

    def _make_room(self, bug: str) -> bool:
        """Whether a bug was fixed when it ran last; the finding that shows such a one again is kept in any case."""
        back = self.database.is_fixed(bug)
        if back:
            self.database.make_room(bug)
        return back

    def _back(self, bug: str, job: Job) -> Shown | None:
        """A bug that was fixed when it ran last is in its next life; what is to be confirmed anew of it then."""
        if not self.database.is_fixed(bug):
            return None
        note = f"case {job.number} of the campaign showed it"
        self.database.add_replay(bug, "back", note, describe()["packages"])
        self.database.reopen(bug)
        # What an earlier version stored by number cannot be made again here; it was confirmed long ago.
        return self._best(bug, lambda number: job)

    # --- what becomes of them ---------------------------------------------------------------------------------------

    def bug_of(self, shown: Shown, small: Small | None, state: str = "new") -> str:
        """Id of the bug that has the cause of a finding, as far as it is known; empty if there is none."""
        found = self._causes.get(_cause(shown, small, state), "")
        if not found and small is not None:
            found = self._own.find(small.case, small.result)
        return self.database.bug(found).id if found else ""

    def improvable(self, bug: str, small: Small) -> bool:
        """Whether a bug is shown by a network still, or by nothing reduced, and a smallest case tells what it is."""
        return small.signature is not None and self._is_network(bug)

    def _is_network(self, bug: str) -> bool:
        """Whether a bug is shown by a program of more operators than tell what it is."""
        stored = self.database.smallest_case(bug)
        if stored is not None and stored.case_json:
            return not stored.signature
        return all(len(one.result.get("operators", ())) > MOST_OPERATORS for one in self.database.findings(bug))

    def assign(self, shown: Shown, small: Small | None, state: str = "new") -> Bug:
        """A finding is one of the bug with its cause, which is opened if there is none; the bug as it is then."""
        verdict = (shown.result if small is None else small.result).failure
        assert verdict is not None
        with self.database.transaction():
            there = self.bug_of(shown, small, state)
            if state == "flaky" and not there:
                # What others of its group show for certain was probably seen once more.
                there = self.database.group(shown.group).bug
            if small is not None:
                self.database.set_small(shown.number, small.case.text, small.result.to_json())
            if shown.bug:  # a bug that was stored before it was triaged
                return self.database.bug(shown.bug) if small is None else self.improve(shown.bug, small)
            if there:
                back = self._make_room(there)
                better = small is not None and self.improvable(there, small)
                if better:
                    self.database.make_room(there)  # this finding shows most of it
                self.database.assign(shown.number, there)
                self._learn(there, small, _cause(shown, small, state))
                self._back(there, shown.job)
                if small is not None and (back or better):
                    # The one of its life before fails no more, or it would not have been fixed.
                    self._write_small(there, small)
                    self.database.set_smallest(small.row(there))
                return self.database.bug(there)
            told = shown.result if small is None else small.result
            bug = self.database.open_bug(
                _cause(shown, small, state),
                signature=shown.group,
                title=_title(told),
                target=told.target,
                oracle=verdict.oracle,
                symptom=verdict.symptom,
                state=state,
                index=shown.job.number,
                seen=self.database.seen(shown.number),
            )
            self.database.assign(shown.number, bug.id)
            if small is not None and small.failure != failure_of(shown.result):
                # Nearer to the root than the finding: that is the bug's case.
                self._write(bug.id, small.result, shown.job, small.case.text, small.script)
            else:
                # A worker that died sent no script; that of the smallest case shows as much.
                script = shown.script or (small.script if small is not None else "")
                self._write(bug.id, shown.result, shown.job, shown.case, script)
            if small is not None:
                self._write_small(bug.id, small)
                self.database.set_smallest(small.row(bug.id))
            self._learn(bug.id, small, _cause(shown, small, state))
            bug = self.database.bug(bug.id)
            size = len((shown.result if small is None else small.result).operators)
            self._tell(events.BugOpened(bug.id, bug.title, bug.target, bug.symptom, bug.signature, size))
            return bug

    def improve(self, id_: str, small: Small) -> Bug:
        """A bug that is there has a smallest case, or a smaller one; by its cause it may be another bug.

        Returns:
            The bug that it is; another one than ``id_`` if they were merged.
        """
        with self.database.transaction():
            bug = self.database.bug(id_)
            self._write_small(bug.id, small)
            self.database.set_smallest(small.row(bug.id))
            there = self._causes.get(small.cause(bug.signature), "")
            other = self.database.bug(there).id if there else bug.id
            self._learn(bug.id, small, small.cause(bug.signature))
            if other == bug.id or self.database.apart(other, bug.id):
                return bug
            # The older one keeps its name.
            pair = sorted((bug, self.database.bug(other)), key=lambda one: one.first_seen)
            self._tell(events.Merged(pair[0].id, pair[1].id, "one cause"))
            merged = self.database.merge(pair[0].id, pair[1].id, "one cause")
            if self.improvable(merged.id, small):
                self._write_small(merged.id, small)
                self.database.set_smallest(small.row(merged.id))
            return merged

    def gone(self, shown: Shown, note: str) -> None:
        """A stored bug's case does not fail any more, so it has no smallest one."""
        if shown.bug and shown.bug not in self.database.smallest_cases():
            with self.database.transaction():
                self.database.set_smallest(SmallestCase(shown.bug, "not reproduced", note=note))

    def conclude(
        self,
        shown: Shown,
        state: str,
        k: int,
        n: int,
        note: str,
        *,
        output: str = "",
        sequence: Sequence[str] = (),
    ) -> Bug:
        """Store what became of a finding where it was tried; one that is of no bug yet gets one.

        It is told if it says more of its bug than was known: a bug is news once.

        Args:
            shown: the finding.
            state: of its bug from now on, if that is not known for stronger reasons.
            k, n: in how many of how many fresh processes it failed.
            note: one line about that.
            output: what its script printed.
            sequence: texts of the cases behind which it fails, and of its own.
        """
        with self.database.transaction():
            id_ = self.database.assigned(shown.number) or shown.bug or self.assign(shown, None, state).id
            before = self.database.bug(id_)
            bug = self.database.judge(shown.number, state=state, k=k, n=max(n, 1), note=note) or before
            folder = self.directory / bug.id
            if output:
                write_whole(folder / OUTPUT, output)
            if sequence:
                write_sequence(folder, sequence)
            if (bug.state, bug.n > 0) != (before.state, before.n > 0):
                self._tell(events.Confirmed(bug.id, k, n, state, bug.title, bug.target, bug.symptom, str(folder)))
        return bug

    def scratch(self, name: str, text: str) -> Path:
        """A file for as long as the campaign runs."""
        path = self.directory / "cache" / name
        path.parent.mkdir(exist_ok=True)
        write_whole(path, text)
        return path

    def set_script(self, shown: Shown, script: str) -> Shown:
        """A script was written for a finding whose worker had died before it could send one."""
        with self.database.transaction():
            self.database.set_script(shown.number, script)
        return replace(shown, script=script)

    # --- what an earlier run left -----------------------------------------------------------------------------------

    def waiting(self, job_of: Callable[[int], Job]) -> list[Shown]:
        """The findings that wait, and bugs that were stored and not tried; those first that nobody knows anything of.

        Args:
            job_of: the job with a number, for what a campaign of an earlier version has stored.
        """
        found = [self._shown(finding, job_of) for finding in self.database.waiting_findings()]
        smallest, standing = self.database.smallest_cases(), self.database.standing()
        for bug in self.database.bugs():
            if bug.state not in ("new", "confirmed") or bug.id in standing:
                continue
            if bug.id in smallest and (bug.state == "confirmed" or bug.n):
                continue
            best = self._best(bug.id, job_of)
            if best is not None and (best.case or bug.state == "new"):
                found.append(best)
        return found

    def _best(self, bug: str, job_of: Callable[[int], Job]) -> Shown | None:
        """The finding by which a bug is tried, if one is kept: the best, or the last of a bug that came back."""
        stored = self.database.findings(bug)
        if bug in self.database.lives() and not self.database.bug(bug).n:
            best = max(stored, key=lambda one: one.id, default=None)
        else:
            best = max(stored, key=lambda one: (one.k, bool(one.small), -len(one.case_json)), default=None)
        return None if best is None else replace(self._shown(best, job_of), bug=bug)

    def small(self, bug: str) -> Small | None:
        """The smallest case of a bug, if it has one."""
        minimal = self.database.smallest_case(bug)
        if minimal is None or not minimal.case_json:
            return None
        return stored_small(minimal.case_json, minimal.result)

    def _shown(self, finding: Finding, job_of: Callable[[int], Job]) -> Shown:
        def job(stored: Any, number: int) -> Job:
            # A campaign of an earlier version has written down the number alone.
            return job_from_json(stored) if isinstance(stored, Mapping) and "kind" in stored else job_of(number)

        result = Result.from_json(finding.result)
        if not result.signature:
            result = replace(result, signature=finding.signature)
        history = tuple(job(one, one) for one in finding.history)
        shown = job(finding.result.get("job"), finding.job)
        return Shown(finding.id, shown, result, finding.case_json, finding.script, history)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _learn(self, bug: str, small: Small | None, cause: str) -> None:
        """Recognise a bug by its cause, and by a smallest case."""
        self._causes.setdefault(cause, bug)
        if small is not None:
            self._own.add(Remembered(bug, small.case, small.failure))

    def _write(self, bug: str, result: Result, job: Job, case: str, script: str) -> None:
        told = {**result.to_json(), "job": job.to_json()}
        write_finding(self.directory / bug, case=case, script=script, result=told)

    def _write_small(self, bug: str, small: Small) -> None:
        folder = self.directory / bug
        folder.mkdir(parents=True, exist_ok=True)
        blobs.copy(small.case, folder)
        write_whole(folder / MINIMISED, small.case.text + "\n")
        write_whole(folder / SMALL_SCRIPT, small.script)


def _cause(shown: Shown, small: Small | None, state: str) -> str:
    """What tells the bug of a finding apart.

    Args:
        shown: the finding.
        small: its smallest case; None if it has none.
        state: of a bug that would be opened for it.
    """
    if small is not None:
        return small.cause(shown.group)
    return _without_small(shown.result, shown.case, shown.group, state)


def _without_small(result: Result, case: str, coarse: str, state: str) -> str:
    """The cause of what has no smallest case.

    What fails only behind other cases is apart from what fails by itself, which can be shown with one case, and so that
    is no cause by which findings are recognised when they come in. What did not fail again says nothing of a cause.
    """
    if state == "flaky":
        return unclassified(coarse)
    found = unreduced(result, codec.decode(case) if case else None, coarse)
    return f"history | {found}" if state == "history" and found != unclassified(coarse) else found


def _title(result: Result) -> str:
    verdict = result.failure
    assert verdict is not None
    return title(result.target, verdict.symptom, verdict.message, result.stage)
