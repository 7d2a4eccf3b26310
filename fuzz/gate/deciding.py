"""What becomes of each case that fails or is declined on the head: as many runs on both sides as it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from shakeout.fuzz.gate import unsupported
from shakeout.fuzz.gate.asked import Asked
from shakeout.fuzz.gate.budget import Budget
from shakeout.fuzz.gate.cases import Candidate
from shakeout.fuzz.gate.decision import Behaviour, Decision, Trials, decide, needed
from shakeout.fuzz.gate.kept import keep, keep_refusal
from shakeout.fuzz.gate.pair import Pair
from shakeout.fuzz.gate.record import Record
from shakeout.fuzz.gate.told import Finding, Refusal
from shakeout.fuzz.gate.trials import Runs, trials
from shakeout.fuzz.running.case_file import stored_case
from shakeout.fuzz.triage.steps import BUDGET

__all__ = ["Deciding"]

_ABSENT: tuple[Behaviour, ...] = ("absent",)

#: Findings that are reduced at the end, if nothing that blocks is small; each takes as long as a campaign gives one.
ROUGH = 3

#: Seconds below which none is reduced: loading the target alone takes that.
LEAST_REDUCING = 10.0

#: More findings than these run once on the base first, which costs loading it once more: of a corpus of known bugs most
#: fail there, and need no K runs on both sides.
FEW = 6


@dataclass(frozen=True, slots=True)
class Deciding:
    """Decides about candidates; what it decides goes into the record.

    Attributes:
        asked: what the gate is asked to do.
        budget: its time.
        pair: the sides.
        record: what is known so far.
        say: told in words what is done.
    """

    asked: Asked
    budget: Budget
    pair: Pair
    record: Record
    say: Callable[[str], None]

    def everything(
        self, bugs: Sequence[Candidate], others: Sequence[Candidate], refused: Sequence[unsupported.Declined]
    ) -> None:
        """Decide about all that came in.

        Args:
            bugs: what fails, each for itself.
            others: further findings of each bug.
            refused: what the head declines.
        """
        # What is small first: once that blocks, what triage did not come to is of use only if there is time for it.
        told = self.decided([one for one in bugs if one.reduced])
        rough = [one for one in bugs if not one.reduced]
        if rough and time.monotonic() > self.budget.end and any(one.decision.blocking for one in told):
            self.record.notes.append(f"{len(rough)} further findings were not decided about, since one blocks already")
            rough = []
        told += self.decided(rough)
        # What a bug of the base hides: another finding that was counted under it.
        hidden = {finding.id for finding in told if not finding.decision.blocking}
        rest = [one for one in others if one.group in hidden]
        if rest:
            self.say(f"decide   {len(rest)} further findings of bugs that do not block, on the base")
            seen = self.pair.once(self.pair.base, rest, self.budget.last)
            self.decided([one for one in rest if (runs := seen.get(one.id)) and runs.passed])
            if late := sum(one.id not in seen for one in rest):
                self.record.notes.append(f"{late} further findings of bugs that the base has too were not tried there")
        self.reduced([*bugs, *others])
        self.refusals(refused)

    def decided(self, candidates: Sequence[Candidate]) -> list[Finding]:
        """What becomes of each candidate."""
        found = [self._told(one, None, decide(Trials(), Trials(), flaky=one.flaky)) for one in candidates if one.flaky]
        steady = [one for one in candidates if not one.flaky]
        if len(steady) > FEW:
            self.say(f"decide   {len(steady)} findings, once each on the base")
            seen = self.pair.once(self.pair.base, self._there(steady), self.budget.last)
            for one in list(steady):
                base = trials(seen[one.id], one.failure, 1) if one.id in seen else Trials()
                if base.failed:
                    steady.remove(one)
                    found.append(self._told(one, None, decide(Trials(("fails",)), base)))
        if steady:
            # All at once: starting both sides once more takes longer than one run more of each.
            found += self._tried(steady, max(needed(one.tried, self.asked.error) for one in steady))
        return found

    def _there(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those whose target the base has."""
        return [one for one in candidates if not self.pair.absent(one.case.setting.target)]

    def _tried(self, group: Sequence[Candidate], k: int) -> list[Finding]:
        """Candidates that ran K times on both sides."""
        self.say(f"decide   {len(group)} finding{'' if len(group) == 1 else 's'}, {k} runs on head and base each")
        there = self._there(group)
        on_head, on_base = self.pair.both(group, there, k, self.budget.last)
        found = []
        for one in group:
            ours = on_head.get(one.id)
            wanted = one.failure or (None if ours is None else ours.failure)
            new = Trials(_ABSENT * k, "its target is new")
            theirs = trials(on_base.get(one.id), wanted, k) if one in there else new
            found.append(self._told(one, ours, decide(trials(ours, wanted, k), theirs)))
        return found

    def reduced(self, candidates: Sequence[Candidate]) -> None:
        """Make what blocks small where the campaign had no time for it, and see that it blocks still."""
        record = self.record
        rough = [one for one in record.findings if one.decision.blocking and not one.reduced][:ROUGH]
        if not rough or any(one.decision.blocking and one.reduced for one in record.findings):
            return  # what is small shows enough
        seconds = self.budget.half(time.monotonic())
        if seconds < LEAST_REDUCING:
            return  # its report says that it is not reduced, and how that goes on
        self.say(f"reduce   {len(rough)} case{'' if len(rough) == 1 else 's'} that the campaign had no time for")
        files = {one.id: self.asked.folder / one.case for one in rough}
        each = min(BUDGET.seconds, seconds / len(rough))
        smaller = self.pair.reduce(files, each, time.monotonic() + seconds)
        before = {one.id: one for one in candidates}
        small = []
        for id_, path in smaller.items():
            case = stored_case(path)
            small.append(replace(before[id_], id=f"{id_}.min", case=case, reduced=True, tried=0, folder=None))
        for one in self.decided(small):
            # The smallest case of a bug that the base has as well shows nothing of this one.
            gone = one.id.removesuffix(".min") if one.decision.blocking else one.id
            record.findings = [finding for finding in record.findings if finding.id != gone]

    def refusals(self, refused: Sequence[unsupported.Declined]) -> None:
        """What became unsupported since the base."""
        there = [one for one in refused if not self.pair.absent(one.candidate.case.setting.target)]
        if not there:
            return
        self.say(f"refusals {len(there)} cases that the head declines, on the base")
        base = self.pair.once(self.pair.base, [one.candidate for one in there], self.budget.last)
        left = sum(one.candidate.id not in base for one in there)
        if may := unsupported.taken(there, base):
            again = [one.candidate for one in may]
            k = needed(0, self.asked.error)
            head, base = self.pair.both(again, again, k, self.budget.last)
            left += sum(one.id not in head or one.id not in base for one in again)
            for one in unsupported.newly(may, head, base):
                self._refused(one)
        if left:
            told = f"{left} cases that the head declines were not tried on the base"
            # Where refusals block, a gate that did not look for them is not green.
            (self.record.undone if self.asked.refusals else self.record.notes).append(told)

    def _refused(self, one: unsupported.Declined) -> None:
        case = one.candidate.case
        refusal = Refusal(
            id=case.id[:12],
            target=case.setting.target,
            reason=one.reason,
            operators=case.program.operators(),
            blocking=self.asked.refusals,
            case=keep_refusal(self.asked.folder, case),
            count=one.count,
            **self.pair.place(case.setting.target),
        )
        self.record.refusals.append(refusal)
        self.say(f"{'BLOCKS' if refusal.blocking else 'note':<8} {refusal.target} declines now: {refusal.reason}")

    def _told(self, one: Candidate, runs: Runs | None, decision: Decision) -> Finding:
        kept = keep(self.asked.folder, one, runs)
        finding = Finding(
            id=one.id,
            title=kept.title,
            signature=kept.signature,
            target=one.case.setting.target,
            symptom=one.failure.symptom if one.failure is not None else "",
            origin=one.origin,
            decision=decision,
            reduced=one.reduced,
            operators=one.case.program.operators(),
            text=kept.text,
            case=kept.case,
            script=kept.script,
            **self.pair.place(one.case.setting.target),
        )
        # A further finding of a bug is told where it is another bug.
        if decision.blocking or decision.late or not one.group:
            self.record.findings.append(finding)
            self.say(f"{'BLOCKS' if decision.blocking else 'note':<8} {finding.title}: {decision.reason}")
        return finding
