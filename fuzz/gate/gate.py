"""The gate: the regression corpus, a short fuzz of the head, and for what fails there as many runs on head and base."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shakeout.corpus.database import NAME, Database
from shakeout.corpus.rows import Totals
from shakeout.corpus.vocabularies.table import matching
from shakeout.fuzz.gate import cases, unsupported
from shakeout.fuzz.gate.cases import Candidate
from shakeout.fuzz.gate.decision import Behaviour, Decision, Trials, decide, needed, vacuous
from shakeout.fuzz.gate.declared import touched
from shakeout.fuzz.gate.kept import keep, keep_refusal
from shakeout.fuzz.gate.pair import Pair
from shakeout.fuzz.gate.repository import repository, seed_of
from shakeout.fuzz.gate.sending import Done, Failed, Interrupted
from shakeout.fuzz.gate.sides import Broken, sides
from shakeout.fuzz.gate.told import Finding, Outcome, Refusal, Replay, SideTold
from shakeout.fuzz.gate.trials import Runs, trials
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.running.case_file import stored_case
from shakeout.fuzz.triage.steps import BUDGET

__all__ = ["CAMPAIGN", "Asked", "Gate"]

_ABSENT: tuple[Behaviour, ...] = ("absent",)

#: The campaign's directory, in the gate's folder.
CAMPAIGN = "campaign"

#: Of what the budget leaves when the corpus has been replayed, so much is fuzzed. The rest is for findings that come
#: late (a campaign reduces them for half a minute more) and for the runs that decide.
FUZZED = 0.7

#: Findings that are reduced at the end, if nothing that blocks is small; each takes as long as a campaign gives one.
ROUGH = 3

#: More findings than these run once on the base first, which costs loading it once more: of a corpus of known bugs most
#: fail there, and need no K runs on both sides.
FEW = 6

#: Seconds of fuzzing at least, however little the budget leaves.
LEAST_SECONDS = 5.0

#: Seconds that loading the targets takes before the first case, on a slow machine. What the budget says includes it.
LOADING = 15.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a gate is asked to do.

    Attributes:
        base: an environment, an interpreter, or a ref of the repository.
        head: an environment or an interpreter; None for the one that runs the gate.
        folder: where everything is kept.
        targets: what is tested.
        operators: that are fuzzed rather than others, as patterns; empty for all.
        corpus: folders of cases that are replayed.
        shipped: whether what ships for the targets is replayed as well.
        budget: seconds in all.
        workers: cases at work at a time.
        memory: bytes that a case may take.
        device: ``cpu`` or ``cuda``.
        error: probability with which what both sides share may block.
        refusals: whether what became unsupported blocks.
        seed: of the fuzzing; None for that of the commit.
        folders: of the repository to import from, beside ``src`` and the working directory.
    """

    base: str
    folder: Path
    targets: tuple[str, ...]
    head: str | None = None
    operators: tuple[str, ...] = ()
    corpus: tuple[Path, ...] = ()
    shipped: bool = True
    budget: float = 600.0
    workers: int = 1
    memory: int = 4 << 30
    device: str = "cpu"
    error: float = 0.001
    refusals: bool = False
    seed: int | None = None
    folders: tuple[str, ...] = ()


@dataclass(slots=True)
class _State:
    """What is known so far; told whole at the end, however the gate ends."""

    base: SideTold
    head: SideTold
    seed: int = 0
    findings: list[Finding] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    totals: Mapping[str, Totals] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    focused: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Gate:
    """One run of the gate.

    Args:
        asked: what it is asked to do.
        say: told in words what it does.
        hear: told each event of what runs in the environments, as JSON values.
        stop: asked now and then whether to give up.
    """

    def __init__(
        self,
        asked: Asked,
        say: Callable[[str], None] = lambda text: None,
        hear: Callable[[Mapping[str, Any]], None] = lambda event: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._asked = asked
        self._say = say
        self._hear = hear
        self._stop = stop
        self._repository = repository(Path.cwd())
        self._corpus: dict[Path, list[Candidate]] = {}
        self._began = time.monotonic()
        self._state = _State(SideTold("base", asked.base, ""), SideTold("head", asked.head or "", ""))

    def run(self) -> Outcome:
        """Everything, in order; what went wrong with an environment is an outcome too.

        Raises:
            NotASide: base or head is no environment, and base nothing that git knows.
            MalformedCase: a file of the corpus holds no case.
            OSError: the folder cannot be written.
        """
        asked = self._asked
        scratch = asked.folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        self._corpus = cases.in_folders(asked.corpus)
        try:
            with sides(asked.base, asked.head, self._repository, scratch / "base", asked.folders) as (base, head):
                pair = Pair(base, head, asked.targets, scratch, asked.workers, asked.memory, self._hear, self._stop)
                try:
                    self._look(pair)
                    self._compare(pair)
                finally:
                    self._state.base, self._state.head = pair.told(base), pair.told(head)
        except Interrupted:
            return self._outcome(Exit.INTERRUPTED, "interrupted")
        except Broken as error:
            return self._outcome(Exit.INFRASTRUCTURE, str(error))
        except Failed as error:
            return self._outcome(error.status, str(error))
        return self._judged()

    def _look(self, pair: Pair) -> None:
        """What is installed and how each target stands; and with that the seed."""
        asked, state, repo = self._asked, self._state, self._repository
        for side in (pair.head, pair.base):
            self._say(f"{side.role:<8} {side.name}, {side.python}")
        with self._timed("environments"):
            pair.look([one.case.setting.target for found in self._corpus.values() for one in found])
        state.notes += [f"{name} is new: the base has none" for name in asked.targets if pair.absent(name)]
        if asked.seed is not None:
            state.seed = asked.seed
        else:
            versions = sorted(pair.told(pair.head).versions.items())
            state.seed = seed_of(str(versions)) if repo is None else repo.seed
        if repo is not None and pair.head.front:
            if repo.changed:
                state.notes.append("the head holds what is not committed; the seed is that of its last commit")
            changed = repo.files_since(pair.base.commit)
            state.changed = touched(asked.targets, pair.head.front, repo.root, changed)
            if state.changed and len(state.changed) < len(asked.targets):
                self._say(f"changed  {', '.join(state.changed)}")

    # --- the comparison ---------------------------------------------------------------------------------------------

    def _compare(self, pair: Pair) -> None:
        failing, stored = self._replayed(pair)
        found, others, refused = self._fuzzed(pair)
        refused = [*stored, *refused]
        with self._timed("deciding"):
            told = self._decided(pair, [*failing, *found])
            # What a bug of the base hides: another finding that was counted under it.
            hidden = {finding.id for finding in told if not finding.decision.blocking}
            rest = [one for one in others if one.group in hidden]
            if rest:
                self._say(f"decide   {len(rest)} further findings of bugs that do not block, on the base")
                seen = pair.once(pair.base, rest)
                self._decided(pair, [one for one in rest if (runs := seen.get(one.id)) and runs.passed])
            self._reduced(pair, [*failing, *found, *others])
            self._refusals(pair, refused)

    def _reduced(self, pair: Pair, candidates: Sequence[Candidate]) -> None:
        """Make what blocks small where the campaign had no time for it, and see that it blocks still."""
        state = self._state
        rough = [one for one in state.findings if one.decision.blocking and not one.reduced][:ROUGH]
        if not rough or any(one.decision.blocking and one.reduced for one in state.findings):
            return  # what is small shows enough
        self._say(f"reduce   {len(rough)} case{'' if len(rough) == 1 else 's'} that the campaign had no time for")
        files = {one.id: self._asked.folder / one.case for one in rough}
        smaller = pair.reduce(files, BUDGET.seconds)
        before = {one.id: one for one in candidates}
        small = []
        for id_, path in smaller.items():
            case = stored_case(path)
            small.append(replace(before[id_], id=f"{id_}.min", case=case, reduced=True, tried=0, folder=None))
        for one in self._decided(pair, small):
            # The smallest case of a bug that the base has as well shows nothing of this one.
            gone = one.id.removesuffix(".min") if one.decision.blocking else one.id
            state.findings = [finding for finding in state.findings if finding.id != gone]

    def _replayed(self, pair: Pair) -> tuple[list[Candidate], list[unsupported.Declined]]:
        """The regression corpus on the head: what fails there, and what is declined."""
        asked, state = self._asked, self._state
        own = [one for found in self._corpus.values() for one in found]
        seen = {one.case.id for one in own}
        ships = cases.shipped(asked.targets, asked.device) if asked.shipped else []
        candidates = [*own, *(one for one in ships if one.case.id not in seen)]
        if not candidates:
            return [], []
        with self._timed("replay"):
            count = f"{len(candidates)} case{'' if len(candidates) == 1 else 's'}"
            self._say(f"replay   {count} of the regression corpus on the head")
            ran = pair.once(pair.head, candidates)
        failing: list[Candidate] = []
        refused: list[unsupported.Declined] = []
        for one in candidates:
            runs = ran.get(one.id, Runs((), "it did not come to an end"))
            state.replays.append(_replay(one, runs))
            if runs.failure is not None:
                failing.append(replace(one, failure=runs.failure))
            elif runs.runs and runs.runs[0].result.status == "unsupported":
                # Somebody keeps this very case: it is a reason of its own.
                refused.append(unsupported.Declined(one, runs.runs[0].reason[:300], 1, one.case.id))
        return failing, refused

    def _fuzzed(self, pair: Pair) -> tuple[list[Candidate], list[Candidate], list[unsupported.Declined]]:
        """A campaign on the head: its bugs, further findings of them, what it declined."""
        asked, state = self._asked, self._state
        left = asked.budget - (time.monotonic() - self._began) - LOADING
        seconds = max(left * FUZZED, LEAST_SECONDS)
        directory = (asked.folder / CAMPAIGN).absolute()
        config = {
            "targets": list(asked.targets),
            "seconds": seconds,
            "workers": asked.workers,
            "memory_limit": asked.memory,
            "device": asked.device,
            "seed": state.seed,
            "focus": list(asked.operators),
            "first": list(state.changed),
        }
        with self._timed("fuzzing"):
            self._say(f"fuzz     {seconds:.0f} s on the head, seed {state.seed}")
            done = pair.fuzz(config, directory)
        if done.answer["reason"] == "interrupted":
            raise Interrupted
        if done.answer["left"]:
            left_out = ", ".join(done.answer["left"])
            raise Broken(f"the head {pair.head.name}: {left_out} cannot be used; {_last_notice(done)}")
        with Database.read(directory / NAME) as database:
            state.totals = dict(database.totals())
            ledger = database.ledger()
        if asked.operators:
            named = set(matching(asked.operators, [row.operator for row in ledger]))
            state.focused = sum(row.nontrivial for row in ledger if row.operator in named)
        found, others, notes = cases.found_by(directory)
        state.notes += notes
        refused, more = unsupported.declined(done.messages)
        if more:
            state.notes.append(f"{more} further reasons for which the head declines cases were not tried on the base")
        return found, others, refused

    def _decided(self, pair: Pair, candidates: Sequence[Candidate]) -> list[Finding]:
        """What becomes of each candidate."""
        found = [
            self._told(pair, one, None, decide(Trials(), Trials(), flaky=one.flaky)) for one in candidates if one.flaky
        ]
        steady = [one for one in candidates if not one.flaky]
        if len(steady) > FEW:
            self._say(f"decide   {len(steady)} findings, once each on the base")
            there = [one for one in steady if not pair.absent(one.case.setting.target)]
            for id_, runs in pair.once(pair.base, there).items():
                one = next(one for one in steady if one.id == id_)
                base = trials(runs, one.failure, 1)
                if base.failed:
                    steady.remove(one)
                    found.append(self._told(pair, one, None, decide(Trials(("fails",)), base)))
        for k in sorted({needed(one.tried, self._asked.error) for one in steady}):
            group = [one for one in steady if needed(one.tried, self._asked.error) == k]
            self._say(f"decide   {len(group)} finding{'' if len(group) == 1 else 's'}, {k} runs on head and base each")
            there = [one for one in group if not pair.absent(one.case.setting.target)]
            on_head, on_base = pair.both(group, there, k)
            for one in group:
                ours = on_head.get(one.id)
                wanted = one.failure or (None if ours is None else ours.failure)
                new = Trials(_ABSENT * k, "its target is new")
                theirs = trials(on_base.get(one.id), wanted, k) if one in there else new
                found.append(self._told(pair, one, ours, decide(trials(ours, wanted, k), theirs)))
        return found

    def _refusals(self, pair: Pair, refused: Sequence[unsupported.Declined]) -> None:
        """What became unsupported since the base."""
        there = [one for one in refused if not pair.absent(one.candidate.case.setting.target)]
        if not there:
            return
        self._say(f"refusals {len(there)} cases that the head declines, on the base")
        may = unsupported.taken(there, pair.once(pair.base, [one.candidate for one in there]))
        if not may:
            return
        again = [one.candidate for one in may]
        for one in unsupported.newly(may, *pair.both(again, again, needed(0, self._asked.error))):
            case = one.candidate.case
            refusal = Refusal(
                id=case.id[:12],
                target=case.setting.target,
                reason=one.reason,
                operators=case.program.operators(),
                blocking=self._asked.refusals,
                case=keep_refusal(self._asked.folder, case),
                count=one.count,
                **self._place(pair, case.setting.target),
            )
            self._state.refusals.append(refusal)
            self._say(f"{'BLOCKS' if refusal.blocking else 'note':<8} {refusal.target} declines now: {refusal.reason}")

    # --- telling ----------------------------------------------------------------------------------------------------

    def _told(self, pair: Pair, one: Candidate, runs: Runs | None, decision: Decision) -> Finding:
        kept = keep(self._asked.folder, one, runs)
        target = one.case.setting.target
        finding = Finding(
            id=one.id,
            title=kept.title,
            signature=kept.signature,
            target=target,
            symptom=one.failure.symptom if one.failure is not None else "",
            origin=one.origin,
            decision=decision,
            reduced=one.reduced,
            operators=one.case.program.operators(),
            text=kept.text,
            case=kept.case,
            script=kept.script,
            **self._place(pair, target),
        )
        # A further finding of a bug is told where it is another bug.
        if decision.blocking or not one.group:
            self._state.findings.append(finding)
            self._say(f"{'BLOCKS' if decision.blocking else 'note':<8} {finding.title}: {decision.reason}")
        return finding

    def _place(self, pair: Pair, target: str) -> dict[str, Any]:
        return pair.place(target, None if self._repository is None else self._repository.root)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._state.seconds[phase] = round(time.monotonic() - began, 1)

    def _judged(self) -> Outcome:
        asked, state = self._asked, self._state
        blocking = [one for one in state.findings if one.decision.blocking]
        refused = [one for one in state.refusals if one.blocking]
        if blocking or refused:
            told = [f"{len(blocking)} new bug{'' if len(blocking) == 1 else 's'}"] if blocking else []
            told += [f"{len(refused)} newly unsupported"] if refused else []
            return self._outcome(Exit.FOUND, f"blocked: {' and '.join(told)}")
        ran = {one.id for one in state.replays if one.state != "cannot run"}
        why = [
            f"{folder} holds no case that runs here"
            for folder, found in self._corpus.items()
            if not ran & {one.id for one in found}
        ]
        totals = {name: state.totals.get(name, Totals()) for name in asked.targets}
        counts = {name: (row.generated, row.nontrivial) for name, row in totals.items()}
        why += vacuous(counts, state.changed, state.focused)
        if why:
            return self._outcome(Exit.VACUOUS, f"vacuous: {'; '.join(why)}")
        noted = len(state.findings)
        return self._outcome(Exit.OK, f"nothing new{f', {noted} noted' if noted else ''}")

    def _outcome(self, status: Exit, verdict: str) -> Outcome:
        state = self._state
        state.seconds["all"] = round(time.monotonic() - self._began, 1)
        return Outcome(
            status,
            verdict,
            state.base,
            state.head,
            tuple(sorted(state.findings, key=lambda one: not one.decision.blocking)),
            tuple(state.refusals),
            tuple(state.replays),
            state.totals,
            state.seed,
            state.seconds,
            tuple(state.notes),
        )


def _replay(one: Candidate, runs: Runs) -> Replay:
    target = one.case.setting.target
    if not runs.runs:
        return Replay(one.id, target, "cannot run", runs.note)
    run = runs.runs[0]
    if run.failure is not None:
        return Replay(one.id, target, "fails", str(run.failure))
    if run.result.status == "compared":
        return Replay(one.id, target, "passes")
    return Replay(one.id, target, "declined" if run.result.status == "unsupported" else "cannot run", run.reason[:200])


def _last_notice(done: Done) -> str:
    notices = [m["event"]["message"] for m in done.messages if m.get("event", {}).get("event") == "Notice"]
    return notices[-1] if notices else "nothing was said"
