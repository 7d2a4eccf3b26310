"""The gate: the regression corpus, a short fuzz of the head, and for what fails there as many runs on head and base."""

from __future__ import annotations

import shutil
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
from shakeout.fuzz.gate.repository import Repository, repository, seed_of
from shakeout.fuzz.gate.sending import SILENCE, Done, Errand, Failed, Interrupted, versions_of
from shakeout.fuzz.gate.sides import Broken, Side, sides
from shakeout.fuzz.gate.told import Finding, Outcome, Refusal, Replay, SideTold
from shakeout.fuzz.gate.trials import Runs, replaying, rows, trials
from shakeout.fuzz.ground.exits import Exit

__all__ = ["CAMPAIGN", "Asked", "Gate"]

_ABSENT: tuple[Behaviour, ...] = ("absent",)

#: The campaign's directory, in the gate's folder.
CAMPAIGN = "campaign"

#: Of what the budget leaves when the corpus has been replayed, so much is fuzzed. The rest is for findings that come
#: late (a campaign reduces them for half a minute more) and for the runs that decide.
FUZZED = 0.7

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
        self._scratch = asked.folder / "scratch"
        self._about: dict[str, Mapping[str, Any]] = {}
        self._repository: Repository | None = None
        self._corpus: dict[Path, list[Candidate]] = {}
        self._began = time.monotonic()
        self._state = _State(SideTold("base", asked.base, ""), SideTold("head", asked.head or "", ""))

    def run(self) -> Outcome:
        """Everything, in order; what went wrong with an environment is an outcome too.

        Raises:
            NoBase: base is nothing that git knows.
            MalformedCase: a file of the corpus holds no case.
            OSError: the folder cannot be written.
        """
        asked, state = self._asked, self._state
        self._repository = repository(Path.cwd())
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._corpus = {folder: cases.in_folder(folder) for folder in asked.corpus}
        try:
            with sides(asked.base, asked.head, self._repository, self._scratch / "base", asked.folders) as (base, head):
                state.base, state.head = _side(base), _side(head)
                self._look(base, head)
                self._compare(base, head)
        except Interrupted:
            return self._outcome(Exit.INTERRUPTED, "interrupted")
        except Broken as error:
            return self._outcome(Exit.INFRASTRUCTURE, str(error))
        except Failed as error:
            return self._outcome(error.status, str(error))
        finally:
            shutil.rmtree(self._scratch / "base", ignore_errors=True)
        return self._judged()

    # --- the sides --------------------------------------------------------------------------------------------------

    def _look(self, base: Side, head: Side) -> None:
        """What is installed and how each target stands, on both sides at once."""
        with self._timed("environments"):
            errands = []
            for side in (head, base):
                self._say(f"{side.role:<8} {side.name}, {side.python}")
                versions_of(side)
                named = (one.case.setting.target for found in self._corpus.values() for one in found)
                request = {"errand": "about", "targets": list(dict.fromkeys((*self._asked.targets, *named)))}
                errands.append(Errand(side, self._scratch, request).start())
            try:
                for side, errand in zip((head, base), errands, strict=True):
                    self._about[side.role] = self._checked(side, errand.wait(stop=self._stop, silence=SILENCE).answer)
            finally:
                for errand in errands:
                    errand.end()
        for told, role in ((self._state.base, "base"), (self._state.head, "head")):
            about = self._about[role]
            versions = {"python": str(about["python"]), **about["versions"]}
            setattr(self._state, role, replace(told, versions=versions))
        state, repo = self._state, self._repository
        if self._asked.seed is not None:
            state.seed = self._asked.seed
        else:
            state.seed = seed_of(str(sorted(state.head.versions.items()))) if repo is None else repo.seed
        if repo is not None and repo.changed and head.front:
            state.notes.append("the head holds what is not committed; the seed is that of its last commit")

    def _checked(self, side: Side, about: Mapping[str, Any]) -> Mapping[str, Any]:
        missing = [name for name in about["lacking"] if name in ("torch", "numpy")]
        if missing:
            raise Broken(
                f"the {side.role} {side.name} has no {' and no '.join(missing)}; install it there: "
                f"{side.python} -m pip install {' '.join(missing)}"
            )
        # A target of the corpus alone is none that somebody asked for: what it cannot run is told with the case.
        for name in self._asked.targets:
            found = about["targets"][name]
            if found["state"] == "broken":
                raise Broken(f"the {side.role} {side.name}: target {name} cannot be used: {found['why']}")
            if found["state"] == "absent" and side.role == "head":
                raise Failed(f"the head {side.name}: {found['why']}", Exit.USAGE)
            if found["state"] == "absent":
                self._state.notes.append(f"{name} is new: the base has none")
        return about

    def _absent(self, name: str) -> bool:
        return bool(self._about["base"]["targets"].get(name, {}).get("state") == "absent")

    # --- the comparison ---------------------------------------------------------------------------------------------

    def _compare(self, base: Side, head: Side) -> None:
        failing = self._replayed(head)
        found, others, refused = self._fuzzed(head)
        with self._timed("deciding"):
            told = self._decided(base, head, [*failing, *found])
            # What a bug of the base hides: another finding that was counted under it.
            hidden = {finding.id for finding in told if not finding.decision.blocking}
            rest = self._lacked(base, [one for one in others if one.group in hidden])
            told += [one for one in self._decided(base, head, rest) if one.decision.blocking]
            self._state.findings = sorted(told, key=lambda one: not one.decision.blocking)
            self._refusals(base, head, refused)

    def _replayed(self, head: Side) -> list[Candidate]:
        """The regression corpus on the head: what fails there."""
        asked, state = self._asked, self._state
        candidates = [one for found in self._corpus.values() for one in found]
        candidates = [*candidates, *(cases.shipped(asked.targets, asked.device) if asked.shipped else ())]
        if not candidates:
            return []
        with self._timed("replay"):
            self._say(f"replay   {len(candidates)} cases of the regression corpus on the head")
            seen = self._rows(head, candidates, 1)
        failing = []
        for one in candidates:
            runs = seen.get(one.id, Runs((), "it did not come to an end"))
            state.replays.append(_replay(one, runs))
            if runs.failure is not None:
                failing.append(replace(one, failure=runs.failure))
        return failing

    def _fuzzed(self, head: Side) -> tuple[list[Candidate], list[Candidate], list[unsupported.Declined]]:
        """A campaign on the head: its bugs, further findings of them, what it declined."""
        asked, state = self._asked, self._state
        left = asked.budget - (time.monotonic() - self._began) - LOADING
        seconds = max(left * FUZZED, LEAST_SECONDS)
        directory = (asked.folder / CAMPAIGN).absolute()
        state.changed = self._first(head)
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
        request = {"errand": "fuzz", "config": config, "directory": str(directory)}
        with self._timed("fuzzing"):
            self._say(f"fuzz     {seconds:.0f} s on the head, seed {state.seed}")
            done = self._do(Errand(head, self._scratch, request, self._lacking(head)))
        if done.answer["reason"] == "interrupted":
            raise Interrupted
        if done.answer["left"]:
            raise Broken(f"the head {head.name}: {', '.join(done.answer['left'])} cannot be used; {_last_notice(done)}")
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

    def _first(self, head: Side) -> tuple[str, ...]:
        """The targets whose sources, or what these import from the repository, changed since the base."""
        if self._repository is None or not head.front:
            return ()
        changed = self._repository.files_since(self._state.base.commit)
        found = touched(self._asked.targets, head.front, self._repository.root, changed)
        if found and len(found) < len(self._asked.targets):
            self._say(f"changed  {', '.join(found)}")
        return found

    def _decided(self, base: Side, head: Side, candidates: Sequence[Candidate]) -> list[Finding]:
        """Each candidate K times on the head and K times on the base, both at once."""
        asked = self._asked
        found: list[Finding] = []
        for k in sorted({needed(one.tried, asked.error) for one in candidates}):
            group = [one for one in candidates if needed(one.tried, asked.error) == k]
            steady = [one for one in group if not one.flaky]
            there = [one for one in steady if not self._absent(one.case.setting.target)]
            if steady:
                self._say(f"decide   {len(steady)} findings, {k} runs each on head and base")
            on_head, on_base = self._both(head, steady, base, there, k)
            for one in group:
                runs = on_head.get(one.id)
                wanted = one.failure or (None if runs is None else runs.failure)
                ours = Trials() if one.flaky else trials(runs, wanted, k)
                if one.flaky:
                    theirs = Trials()
                elif one in there:
                    theirs = trials(on_base.get(one.id), wanted, k)
                else:
                    theirs = Trials(_ABSENT * k, "its target is new")
                decision = decide(ours, theirs, flaky=one.flaky)
                found.append(self._told(one, runs, decision))
        return found

    def _lacked(self, base: Side, others: Sequence[Candidate]) -> list[Candidate]:
        """Those of some findings that may not be there on the base: each runs there once."""
        if not others:
            return []
        self._say(f"decide   {len(others)} further findings of bugs that do not block, on the base")
        seen = self._rows(base, others, 1)
        return [one for one in others if (runs := seen.get(one.id)) is not None and runs.runs and runs.failing is None]

    def _refusals(self, base: Side, head: Side, refused: Sequence[unsupported.Declined]) -> None:
        """What became unsupported since the base."""
        there = [one for one in refused if not self._absent(one.candidate.case.setting.target)]
        if not there:
            return
        k = needed(0, self._asked.error)
        self._say(f"refusals {len(there)} cases that the head declines, on the base")
        candidates = [one.candidate for one in there]
        may = unsupported.taken(there, self._rows(base, candidates, 1))
        if not may:
            return
        again = [one.candidate for one in may]
        on_head, on_base = self._both(head, again, base, again, k)
        for one in unsupported.newly(may, on_head, on_base):
            case = one.candidate.case
            self._state.refusals.append(
                Refusal(
                    id=case.id[:12],
                    target=case.setting.target,
                    reason=one.reason,
                    operators=case.program.operators(),
                    blocking=self._asked.refusals,
                    case=keep_refusal(self._asked.folder, case),
                    count=one.count,
                    **self._place(case.setting.target),
                )
            )

    # --- errands ----------------------------------------------------------------------------------------------------

    def _both(
        self, head: Side, ours: Sequence[Candidate], base: Side, theirs: Sequence[Candidate], k: int
    ) -> tuple[dict[str, Runs], dict[str, Runs]]:
        """Candidates on both sides at once."""
        workers = max(self._asked.workers // 2, 1)
        errands = [
            self._replaying(side, chosen, k, workers).start() if chosen else None
            for side, chosen in ((head, ours), (base, theirs))
        ]
        try:
            found = [{} if one is None else rows(self._waited(one).messages) for one in errands]
        finally:
            for one in errands:
                if one is not None:
                    one.end()
        return found[0], found[1]

    def _rows(self, side: Side, candidates: Sequence[Candidate], runs: int) -> dict[str, Runs]:
        return rows(self._do(self._replaying(side, candidates, runs, self._asked.workers)).messages)

    def _replaying(self, side: Side, candidates: Sequence[Candidate], runs: int, workers: int) -> Errand:
        return replaying(
            side,
            self._scratch,
            candidates,
            runs,
            workers=workers,
            memory=self._asked.memory,
            lacking=self._lacking(side),
            told=side.role == "head" and runs > 1,
        )

    def _do(self, errand: Errand) -> Done:
        errand.start()
        try:
            return self._waited(errand)
        finally:
            errand.end()

    def _waited(self, errand: Errand) -> Done:
        def tell(message: Mapping[str, Any]) -> None:
            if "event" in message:
                self._hear(message["event"])

        return errand.wait(tell, self._stop)

    def _lacking(self, side: Side) -> Sequence[str]:
        return tuple(self._about[side.role]["lacking"])

    # --- telling ----------------------------------------------------------------------------------------------------

    def _told(self, one: Candidate, runs: Runs | None, decision: Decision) -> Finding:
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
            **self._place(target),
        )
        if decision.blocking or not one.group:
            self._say(f"{'BLOCKS' if decision.blocking else 'note':<8} {finding.title}: {decision.reason}")
        return finding

    def _place(self, target: str) -> dict[str, Any]:
        """File and line of a target's source, from the repository's root on."""
        about, repo = self._about["head"]["targets"].get(target, {}), self._repository
        if repo is None or not about.get("file"):
            return {}
        try:
            file = Path(about["file"]).resolve().relative_to(repo.root.resolve())
        except ValueError:
            return {}
        return {"file": file.as_posix(), "line": max(int(about.get("line", 1)), 1)}

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
        empty = [folder for folder, found in self._corpus.items() if not ran & {one.id for one in found}]
        totals = {name: state.totals.get(name, Totals()) for name in asked.targets}
        counts = {name: (row.generated, row.nontrivial) for name, row in totals.items()}
        why = [f"{folder} holds no case that runs here" for folder in empty]
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
            tuple(state.findings),
            tuple(state.refusals),
            tuple(state.replays),
            state.totals,
            state.seed,
            state.seconds,
            tuple(state.notes),
        )


def _side(one: Side) -> SideTold:
    return SideTold(one.role, one.name, str(one.python), one.commit)


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
