"""What is told of a failure in two or three sentences made of facts: what, since when, which part, where it begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from shakeout.corpus.case import SANITIZE, Case, Setting
from shakeout.corpus.known import KnownBug
from shakeout.corpus.known import load_all as public
from shakeout.corpus.regressions import Regression
from shakeout.corpus.regressions import load_all as regressions
from shakeout.corpus.symptom import MEMORY_SIGNALS
from shakeout.fuzz.bisect.facts import Bisection
from shakeout.fuzz.ground.results import LOSSES, Result
from shakeout.fuzz.ground.signature import spoken, what
from shakeout.fuzz.reporting.exported import observed
from shakeout.oracles.verdict import Verdict
from shakeout.targets.registry import facts_of, reference_called, target

__all__ = ["Answered", "Shipped", "ablation", "memory_error", "sanitized", "sentences", "shipped"]

Shipped = KnownBug | Regression

#: What a part of a compiler answers that is right.
_RIGHT = "as eager"


@dataclass(frozen=True, slots=True)
class Answered:
    """What one part of a compiler makes of a case.

    Attributes:
        name: of the back end: ``aot_eager``.
        answer: in words: ``as eager``, ``output 0 = 2``, ``raises ValueError``.
        fails: whether that is a failure.
    """

    name: str
    answer: str
    fails: bool


def shipped(case: Case) -> Shipped | None:
    """The bug that ships with this very case as its smallest one; None if none does."""
    bugs: list[Shipped] = [*regressions(), *public()]
    return next((bug for bug in bugs if bug.case.id == case.id), None)


# --- runs -------------------------------------------------------------------------------------------------------------


def ablation(case: Case, result: Result | None) -> tuple[Answered, ...]:
    """What the parts of a compiler make of a case, each in a fresh process, the least first, the whole one last.

    Nothing for a target that is not made of back ends that can run alone.
    """
    ladder = target(case.setting.target).facts.ladder
    if ladder is None or not ladder.below or result is None or result.failure is None:
        return ()
    found = []
    for name in ladder.below:
        setting = replace(case.setting, target=name, knobs=_knobs(name, case.setting))
        found.append(_answered(name, observed(replace(case, setting=setting))))
    return (*found, _answered(case.setting.target, result))


def sanitized(case: Case, result: Result | None) -> str:
    """What AddressSanitizer says of the kernels, where a process died or values change from run to run; else nothing.

    Only of a compiler whose kernels can be compiled with it.
    """
    if not memory_error(result) or not _takes(case.setting.target):
        return ""
    knobs = (*(pair for pair in case.setting.knobs if pair[0] != SANITIZE), (SANITIZE, "address"))
    found = observed(replace(case, setting=replace(case.setting, knobs=tuple(sorted(knobs)))))
    failing = None if found is None else found.failure
    return "" if failing is None else _told_by_address(failing)


def _takes(name: str) -> bool:
    return any(knob.name == SANITIZE for knob in target(name).knobs())


def _knobs(name: str, setting: Setting) -> tuple[tuple[str, int | float | str | bool | None], ...]:
    """Those of a setting's knobs that a lesser back end has too."""
    known = {knob.name for knob in target(name).knobs()}
    return tuple(pair for pair in setting.knobs if pair[0] in known)


def _answered(name: str, result: Result | None) -> Answered:
    if result is None:
        return Answered(name, "the process died, or gave no answer", fails=True)
    failing = result.failure
    if failing is None:
        said = _RIGHT if result.status == "compared" else f"not compared: {result.reason or result.status}"[:80]
        return Answered(name, said, fails=False)
    return Answered(name, _answer(failing), fails=True)


def _answer(failing: Verdict) -> str:
    if failing.oracle == "exception":
        return f"raises {failing.symptom}"
    if "found" in failing.evidence:
        return f"{failing.place}{failing.evidence.get('index') or ''} = {failing.evidence['found']}"
    return what(failing)


# --- sentences --------------------------------------------------------------------------------------------------------


def memory_error(result: Result | None) -> bool:
    """Whether a failure is what reads or writes of foreign memory look like."""
    failing = None if result is None else result.failure
    if failing is None:
        return False
    dies = failing.oracle in LOSSES and failing.symptom in MEMORY_SIGNALS
    return dies or failing.symptom.startswith("nondeterministic") or bool(_told_by_address(failing))


def _told_by_address(failing: Verdict) -> str:
    """What AddressSanitizer said, where that is the failure; the other sanitizer tells of more than memory."""
    if failing.symptom != "SanitizerReport":
        return ""
    named = "AddressSanitizer: "
    return next((line.removeprefix(named) for line in failing.message.splitlines() if line.startswith(named)), "")


def sentences(
    case: Case,
    result: Result | None,
    bug: Shipped | None,
    bisection: Bisection | None,
    parts: Sequence[Answered],
    sanitizer: str,
) -> Iterator[str]:
    """What is wrong, since when, which part is right, and where in the source it begins."""
    yield _what(case, result)
    if memory_error(result):
        yield _memory(result, sanitizer)
    if since := _since(bug, bisection):
        yield since
    if right := _right(case, result, parts):
        yield right
    begins = bug.culprit if isinstance(bug, Regression) else ""
    culprit = bisection.culprit if bisection is not None else None
    if begins:
        yield f"Where it begins: {begins}."
    elif culprit is not None:
        yield f"Found by leaving out one thing after the other: {culprit}."


def _what(case: Case, result: Result | None) -> str:
    name, failing = _called(case.setting.target), None if result is None else result.failure
    reference = reference_called(case.program.vocabulary)
    if failing is None:
        return f"{name} does not do what {reference} does for {spoken(case)}."
    if failing.oracle == "exception":
        said = (failing.message.splitlines() or [""])[0].removeprefix(f"{failing.symptom}: ")[:200].rstrip(". ")
        return f"{name} raises {failing.symptom} for {spoken(case)}, which {reference} runs{': ' * bool(said)}{said}."
    if failing.oracle in LOSSES:
        return f"{name}: {what(failing)} for {spoken(case)}, which {reference} runs."
    seen: Mapping[str, object] = failing.evidence
    where = ""
    if "expected" in seen and "found" in seen:
        place = f"{failing.place}{seen.get('index') or ''}"  # of a scalar there is no index
        where = f": {place} is {seen['found']}, and {seen['expected']} in {reference}"
    count = f" ({seen['wrong']} of {seen['total']} elements are wrong)" if "wrong" in seen else ""
    return f"{name}, {what(failing)} for {spoken(case)}{where}{count}."


def _called(name: str) -> str:
    """What a target's users call it."""
    ladder = facts_of(name).ladder
    backend = ladder is not None and bool(ladder.below)
    return f'`torch.compile(backend="{name}")`' if backend or name in ("aot_eager", "dynamo") else f"`{name}`"


def _memory(result: Result | None, sanitizer: str) -> str:
    failing = None if result is None else result.failure
    if failing is not None:
        sanitizer = _told_by_address(failing) or sanitizer
    if sanitizer:
        return f"This is a memory error: AddressSanitizer says {sanitizer}."
    dies = failing is not None and failing.oracle in LOSSES
    how = f"the process dies ({failing.symptom})" if dies and failing is not None else "values change from run to run"
    return f"This looks like a memory error: {how}."


def _since(bug: Shipped | None, bisection: Bisection | None) -> str:
    """Which releases have it."""
    said = []
    releases = bisection.releases if bisection is not None else None
    if releases is not None and releases.first_bad is not None:
        if releases.last_good:
            said += [f"the first release that has it is {releases.first_bad}", f"{releases.last_good} has it not"]
        else:
            said.append(f"it is there in {releases.first_bad} already, and no older release was found to be good")
    if isinstance(bug, Regression):
        for word, verb in (("fails", "it is there in"), ("fixed", "it is gone in")):
            if found := [release for release, status in bug.status.items() if status == word]:
                said.append(f"{verb} {', '.join(found)}")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _right(case: Case, result: Result | None, parts: Sequence[Answered]) -> str:
    right = [part.name for part in parts if part.answer == _RIGHT]
    wrong = next((part for part in parts if part.fails), None)
    if wrong is not None:
        untold = [part.name for part in parts[: parts.index(wrong)] if part.answer != _RIGHT]
        alike = f"{_names(right)} give{'s' if len(right) == 1 else ''} what eager gives; " if right else ""
        if untold:
            return f"{alike}`{wrong.name}` does not; of {_names(untold)} it is not known."
        return f"{alike}`{wrong.name}` is the first back end that does not."
    if result is not None and result.stage not in ("", case.setting.target):
        return f"Of the stages on the way, `{result.stage}` is the first that goes wrong."
    return ""


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
