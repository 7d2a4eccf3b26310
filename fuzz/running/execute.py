"""One case from source text to verdicts, inside a worker.

The reference runs first, then the target, both from the same text. Oracles judge what the two runs showed and may ask
for more runs of the reference; this module answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shakeout.corpus import script
from shakeout.corpus.case import Case
from shakeout.corpus.edit import alone
from shakeout.corpus.observation import PARTS, Observation, Raised, raised
from shakeout.corpus.symptom import Symptom
from shakeout.fuzz.ground.divergence import Divergence, search
from shakeout.fuzz.ground.results import Result, Status
from shakeout.fuzz.ground.signature import INTERNAL, signature, title
from shakeout.fuzz.ground.slot import WAITING
from shakeout.fuzz.running import leaks, runs
from shakeout.fuzz.running.replicas import replica
from shakeout.oracles import exactness, tolerance, vendor
from shakeout.oracles.difference import AGAIN, Difference, pairs, same_values
from shakeout.oracles.metamorphic import PARENT, Derived, Metamorphic, derive
from shakeout.oracles.registry import oracles
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Note, Oracle, Outcome, Question, Verdict
from shakeout.targets import shortcuts
from shakeout.targets.registry import source, target

__all__ = ["Shared", "answered", "execute", "related", "repro"]

Phase = Callable[[str], None]

#: An oracle asks at most this often before its verdict is ``unknown``: for the two runs, for a proof, for three stages
#: of doubt, for what only the tolerance of another tensor needs, and for a later call alone.
ROUNDS = 7


@dataclass(slots=True)
class Shared:
    """What the settings of one program have in common.

    Attributes:
        grown: what the reference showed while the program grew. It settles the cases in which the target agrees bit for
            bit; in all others the reference runs the same text as the target before anything is judged.
        answers: of the reference.
        kept: what the target can use again.
    """

    grown: Observation | None = None
    answers: dict[Question, Observation] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)


def execute(
    case: Case,
    phase: Phase = lambda name: None,
    shared: Shared | None = None,
    *,
    explain: bool = True,
    about: Callable[[Case], None] = lambda case: None,
    derived: Derived | None = None,
) -> Result:
    """Run a case on its target and judge it.

    Args:
        case: what to run; its setting names the target.
        phase: told the name of each phase as it begins (``reference``, ``run``, ``judge``, ``explain``).
        shared: from other settings of the same program, inputs, mode and device.
        explain: whether to look for the first operator that goes wrong, which takes more runs of the target.
        about: told of each other case that is run meanwhile, before it runs, and of this one again.
        derived: where the case comes from, if a metamorphic relation made it; ``related`` says so.
    """
    clock = _Clock(phase)
    operators = case.program.operators()
    run = _Runs(case, clock, shared or Shared(), () if derived is None else (Metamorphic(derived),))

    def result(status: Status, **more: Any) -> Result:
        common: dict[str, Any] = {"seconds": clock.stop(), "operators": operators, "left": run.left, "fired": run.fired}
        if derived is not None:
            common |= {"relation": derived.relation, "parent": derived.parent}
        return Result(case.id, case.setting.target, status, **common, **more)

    if run.grown_agrees():
        verdicts = run.judged()
        if all(verdict.outcome is Outcome.PASS for verdict in verdicts):
            reference = run.answer(REFERENCE)
            return result("compared", verdicts=verdicts, exact=True, proven=run.proven(), trivial=_trivial(reference))
        run.distrust()
    reference = run.answer(REFERENCE)
    if reference.error is not None:
        return result("invalid", reason=f"{reference.error.kind}: {reference.error.template}")
    subject = run.answer(SUBJECT)
    if subject.error is not None and subject.error.declined:
        return result(
            "unsupported", reason=f"{subject.error.kind}: {subject.error.template}", stage=subject.error.stage
        )
    verdicts = run.judged()
    failing = next((verdict for verdict in verdicts if verdict.outcome is Outcome.FAIL), None)
    status: Status = "compared" if subject.error is None else "failed"
    if failing is None and any(verdict.symptom == "undefined" for verdict in verdicts):
        status = "undefined"
    stage = ""
    divergence = None
    if failing is not None:
        stage = subject.error.stage if subject.error is not None else run.first_wrong()
        if explain and subject.error is None:
            divergence = run.diverges(failing, about)
    return result(
        status,
        verdicts=verdicts,
        exact=failing is None and _exact(reference, subject),
        proven=status == "compared" and run.proven(),
        trivial=_trivial(reference),
        signature="" if failing is None else signature(case, failing, subject.error, stage, divergence),
        stage=stage,
        vendor=None if failing is None else run.points(failing),
        divergence=divergence,
    )


def answered(case: Case) -> Callable[[Question], Observation]:
    """What runs a case for one question after the other, each once, as a campaign does for its oracles."""
    return _Runs(case, _Clock(lambda name: None), Shared()).answer


def related(case: Case, result: Result, shared: Shared) -> tuple[Derived, Shared] | None:
    """The case that a metamorphic relation makes of one that passed, and what ``execute`` needs to judge it.

    Mostly nothing: it is the turn of one case in so many, and what fails or is in doubt would only show that again.
    """
    if result.status != "compared" or result.outcome is not Outcome.PASS or (derived := derive(case)) is None:
        return None
    seen = shared.answers.get(REFERENCE, shared.grown)
    return None if seen is None else (derived, Shared(answers={PARENT: seen}))


def repro(case: Case, result: Result | None = None, *, limit: float = 0, symptom: Symptom | None = None) -> str:
    """The script of a case: what the finding says, as a file that shows it.

    Args:
        case: what to run.
        result: of the case; its failure is what the script looks for.
        limit: as for ``script.standalone``.
        symptom: what the script looks for where there is no result that fails; None if any difference counts.
    """
    subject = target(case.setting.target)
    tolerances = {} if "bits" in subject.facts.promises else dict(tolerance.TABLE)
    failing = result.failure if result is not None else None
    if failing is None:
        headline = f"Case {case.id} on {case.setting.target}."
    else:
        assert result is not None
        if failing.evidence.get("tolerance") == "derived":
            # The least absolute tolerance by which what is told still shows.
            apart = abs(failing.evidence["found"] - failing.evidence["expected"]) / 2
            tolerances = {dtype: (rtol, min(atol, apart)) for dtype, (rtol, atol) in tolerances.items()}
        headline = title(case.setting.target, failing.symptom, failing.message, result.stage)
    return script.standalone(
        case,
        source(case.setting),
        tolerances=tolerances,
        promises=subject.facts.promises,
        packages=subject.facts.packages,
        title=headline.replace("\\", "/"),
        limit=limit,
        repeats=failing is not None and failing.oracle == "determinism",
        symptom=symptom if failing is None else Symptom.seen(failing),
    )


class _Clock:
    """Seconds by phase."""

    def __init__(self, phase: Phase) -> None:
        self._phase = phase
        self._seconds: dict[str, float] = {}
        self._current: tuple[str, float] | None = None

    def start(self, name: str) -> None:
        self.stop()
        self._phase(name)
        self._current = (name, time.monotonic())

    def add(self, name: str, seconds: float) -> None:
        """Seconds that belong to a part of the current phase."""
        assert self._current is not None
        phase, since = self._current
        self._current = (phase, since + seconds)
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def silent(self) -> _Clock:
        """Another clock that names the same phases, and whose seconds count for the current one."""
        return _Clock(self._phase)

    def stop(self) -> dict[str, float]:
        if self._current is not None:
            name, since = self._current
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - since
            self._current = None
        return self._seconds


class _Runs:
    """Answers questions about one case, each once."""

    def __init__(self, case: Case, clock: _Clock, shared: Shared, further: Sequence[Oracle] = ()) -> None:
        self.case = case
        self._further = further
        self.answers: dict[Question, Observation] = dict(shared.answers)
        self._clock = clock
        self._shared = shared
        self.left: tuple[str, ...] = ()
        self.fired: int | None = None
        self._stages: Sequence[tuple[str, Callable[..., Any]]] = ()

    def answer(self, question: Question) -> Observation:
        if question not in self.answers:
            phases = {"reference": "reference", "subject": "run", "alone": "run"}
            self._clock.start(phases.get(question.what, "judge"))
            self.answers[question] = self._run(question)
            if question.what not in ("subject", "alone"):
                self._shared.answers[question] = self.answers[question]
            self._clock.start("judge")
        return self.answers[question]

    def grown_agrees(self) -> bool:
        """Whether the target shows, bit for bit, what the reference showed while the program grew."""
        grown = self._shared.grown
        if grown is None or REFERENCE in self.answers:
            return False
        self.answers[REFERENCE] = grown
        subject = self.answer(SUBJECT)
        if subject.error is None and len(subject.calls) == len(grown.calls) and _exact(grown, subject):
            return True
        self.distrust()
        return False

    def distrust(self) -> None:
        """Have the reference run from the text."""
        del self.answers[REFERENCE]

    def judged(self) -> tuple[Verdict, ...]:
        """What every oracle says."""
        self._clock.start("judge")
        return tuple(_judge(oracle, self.case, self) for oracle in self._oracles())

    def _oracles(self) -> Sequence[Oracle]:
        return (*oracles(target(self.case.setting.target).facts.promises), *self._further)

    def _run(self, question: Question) -> Observation:
        case = self.case
        match question.what:
            case "reference":
                return runs.repeated(case, question.number) if question.number else runs.observe(script.load(case))
            case "subject":
                return self._subject(case, first=question == SUBJECT)
            case "baseline":
                return runs.baseline(case)
            case "relaid":
                return runs.relaid(case)
            case "resaved":
                return runs.resaved(case, question.number)
            case "laid out":
                return runs.laid_out(case, self.answers[SUBJECT].layouts)
            case "poisoned":
                return runs.poisoned(case)
            case "replica":
                return replica(case, question.number)
            case "wide":
                return replica(case, question.number, units=tolerance.UNITS)
            case "conditioned":
                return replica(case, question.number, conditioned=True)
            case "reseeded":
                return runs.reseeded(case)
            case "exact":
                return runs.exact(case)
            case "operand":
                return runs.operand(case, question.number)
            case "parent":
                return runs.NOTHING  # whoever changed the case has given it
            case "alone":
                return self._subject(alone(case, question.number), first=False)
            case "reference alone":
                return runs.observe(script.load(alone(case, question.number)))

    def _subject(self, case: Case, *, first: bool) -> Observation:
        """The target; only the first run may use what other settings kept."""
        namespace = script.load(case)
        text = source(case.setting)
        before, waited = leaks.look(), shortcuts.waited()
        seen = runs.observe(namespace, text, kept=self._shared.kept if first else None)
        if (company := shortcuts.waited() - waited) > 0:
            self._clock.add(WAITING, company)
            seen = replace(seen, seconds=max(seen.seconds - company, 0.0))
        self.left = tuple(dict.fromkeys((*self.left, *before.mend())))
        if first:
            self._stages, self.fired = seen.stages, seen.fired
            for stage, seconds in seen.spent.items():
                self._clock.add(stage, seconds)
        return replace(seen, stages=())  # whoever keeps the answer keeps no compiled program

    def proven(self) -> bool:
        """Whether every result is proven to be exact, so that equality is what the oracles ask for."""
        if not exactness.candidate(self.case):
            return False
        self.answer(exactness.EXACT)
        return exactness.proven(self.answers)

    def points(self, failing: Verdict) -> vendor.Points:
        """How a failure stands before a vendor; a defect of ours here is an objection and keeps the finding."""
        try:
            for question in vendor.questions(self.case, failing, self.answers):
                self.answer(question)
            return vendor.answered(self.case, failing, self.answers)
        except Exception as error:
            return vendor.Points(objections=(f"{INTERNAL} {type(error).__name__}: {error}",))

    def diverges(self, failing: Verdict, about: Callable[[Case], None]) -> Divergence | None:
        """The first operator with which the values go wrong."""
        oracle = next((one for one in self._oracles() if one.name == failing.oracle), None)
        if not isinstance(oracle, Difference):
            return None
        self._clock.start("explain")

        def judge(part: Case) -> Verdict | None:
            about(part)
            run = _Runs(part, self._clock.silent(), Shared())
            subject = run.answer(SUBJECT)
            if subject.error is not None or run.answer(REFERENCE).error is not None:
                return None
            run.answers[AGAIN] = subject  # that it answers alike was seen
            return _judge(oracle, part, run)

        waited = shortcuts.waited()
        try:
            return search(self.case, failing, judge, self.answers[SUBJECT].seconds, _own_time)
        finally:
            about(self.case)
            self._clock.add(WAITING, shortcuts.waited() - waited)

    def first_wrong(self) -> str:
        """The first intermediate form of the program whose values differ from the reference's; the last is the target.

        Compared as in the script that is reported, because that is where a reader sees it.
        """
        from shakeout.corpus.standalone import differences

        want = self.answers[REFERENCE].calls
        tolerances = dict(tolerance.TABLE)
        for name, form in self._stages:
            # A form that trains has to be made of the very network whose parameters are looked at.
            prepare = form if getattr(form, "prepares", False) else lambda network: form  # noqa: B023
            seen = runs.observe(script.load(self.case), prepare=prepare)
            if seen.error is None and differences(want, seen.calls, tolerances, ()):
                return name
        return self.case.setting.target if self._stages else ""


def _own_time() -> float:
    """Seconds on a clock that stands while this process waits for kernels that are compiled with others'."""
    return time.monotonic() - shortcuts.waited()


def _judge(oracle: Any, case: Case, run: _Runs) -> Verdict:
    """One oracle's verdict; an oracle that throws, or never has enough, gives ``unknown``.

    So does one whose replicas all fail in code of ours: what rounding may do is not known then.
    """
    try:
        asked = list(oracle.questions(case))
        for _ in range(ROUNDS):
            for question in asked:
                run.answer(question)
            said: Verdict | Sequence[Question] = oracle.judge(case, run.answers)
            if isinstance(said, Verdict):
                replicas = [run.answers[question].error for question in asked if question.what == "replica"]
                if said.outcome is Outcome.FAIL and (broken := _broken(replicas)) is not None:
                    return _internal(oracle, broken)
                return said
            asked += said
        return Verdict(oracle.name, Outcome.UNKNOWN, "undecided", f"still asking after {ROUNDS} rounds")
    except Exception as error:
        return _internal(oracle, raised(error, declined=False))


def _broken(replicas: Sequence[Raised | None]) -> Raised | None:
    """What replicas raised in code of ours, if each of them did: then they say nothing of rounding."""
    if not replicas or not all(error is not None and error.owner == "shakeout" for error in replicas):
        return None
    return replicas[0]


def _internal(oracle: Any, problem: Raised) -> Verdict:
    where = problem.frames[-1] if problem.frames else "?"
    note = Note(f"{INTERNAL} {problem.kind} at {where}", "a defect of Shakeout's own: such a case is not judged")
    message = f"{problem.kind}: {problem.message} at {where}"
    return Verdict(oracle.name, Outcome.UNKNOWN, INTERNAL, message, notes=(note,))


def _exact(reference: Observation, subject: Observation) -> bool:
    """Whether every tensor of the two runs agrees, NaN equal to NaN."""
    return all(
        (want is None and got is None)
        or (want is not None and got is not None and want.shape == got.shape and same_values(want, got))
        for part in PARTS
        for _, _, want, got in pairs(part, reference, subject)
    )


def _trivial(reference: Observation) -> bool:
    """Whether nothing was there to differ: no output with an element, and no memory."""
    return not any(tensor is not None and tensor.numel() for call in reference.calls for tensor in call["output"])
