"""What a dead worker's slot says: the loss of a job as a result, as a worker would have sent it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.ground.jobs import Job
from shakeout.fuzz.ground.results import Loss, Result, Status
from shakeout.fuzz.ground.signature import SMALL
from shakeout.oracles.verdict import Outcome, Verdict

__all__ = ["Lost", "lost"]

#: What generators grow is made of operators of this vocabulary, whatever target it is for.
_GROWN = "torch"


@dataclass(frozen=True, slots=True)
class Lost:
    """A loss as a result.

    Attributes:
        result: without a signature it is no finding.
        case: the case, on the target that is blamed; None if it was not made yet.
        growing: it crashed while growing, and where is not known: run the job again with each call written down.
    """

    result: Result
    case: Case | None
    growing: bool = False


def lost(job: Job, loss: Loss) -> Lost:
    """Judge a loss: a crash belongs to whoever was running, a slow or large reference run is no finding."""
    state = loss.state
    case = _case(state.text) if state.kind == "case" else None
    phase = state.phase or "start"
    if case is None:
        return _without_case(job, loss, phase)
    operators = case.program.operators()
    if phase in ("start", "reference"):
        if loss.kind == "crash":
            # What a crash is blamed on as long as no target is involved.
            reference = vocabulary(case.program.vocabulary).REFERENCE
            case = case.on(reference)
            return Lost(_failed(case.id, reference, loss, phase, operators, _named(operators)), case)
        reason = f"the reference: {loss.kind}"
        return Lost(Result(case.id, job.target, "invalid", operators=operators, reason=reason), case)
    if phase == "judge" and loss.kind != "crash":
        reason = f"while judging: {loss.kind}"
        return Lost(Result(case.id, job.target, "infra", operators=operators, reason=reason), case)
    return Lost(_failed(case.id, case.setting.target, loss, phase, operators, _named(operators)), case)


def _without_case(job: Job, loss: Loss, phase: str) -> Lost:
    if loss.kind != "crash" or phase != "grow":
        status: Status = "invalid" if phase == "grow" else "infra"
        return Lost(Result("", job.target, status, reason=f"{phase}: {loss.kind}"), None)
    lines = loss.state.text.splitlines()[1:] if loss.state.kind == "trace" else []
    if not lines:
        return Lost(Result("", job.target, "invalid", reason=f"{phase}: {loss.symptom}"), None, growing=True)
    # Only the last call can be the one that crashed; the ones before it are what led there.
    told = _told(lines[-1])
    identity, operators = ("", ()) if told is None else (told.id, told.program.operators())
    reference, blamed = vocabulary(_GROWN).REFERENCE, _operator(lines[-1])
    return Lost(_failed(identity, reference, loss, phase, operators, blamed, call=lines[-1][:2000]), told)


def _failed(
    case: str, target: str, loss: Loss, phase: str, operators: tuple[str, ...], blamed: str, **evidence: str
) -> Result:
    symptom = loss.symptom if loss.kind == "crash" else loss.kind
    message = f"{loss.symptom} in phase {phase}"
    if said := _said(loss.output):
        message += f": {said}"
    told = {"seconds": round(loss.seconds, 3), "output": loss.output[-4000:], **evidence}
    verdict = Verdict(loss.kind, Outcome.FAIL, symptom, message, phase, told)
    signature = " | ".join((target, loss.kind, symptom, blamed))
    return Result(case, target, "failed", (verdict,), operators=operators, signature=signature)


def _case(text: str) -> Case | None:
    try:
        return codec.decode(text)
    except codec.MalformedCase:
        return None


def _told(line: str) -> Case | None:
    """The case that a traced run would have been."""
    try:
        return codec.from_json(json.loads(line)["case"])
    except (ValueError, KeyError, TypeError):
        return None


def _named(operators: tuple[str, ...]) -> str:
    return "+".join(sorted(set(operators))) if len(operators) <= SMALL else "a network"


def _operator(line: str) -> str:
    """The operator of a traced call, which is a JSON object or Python-like text."""
    try:
        data = json.loads(line)
        return str(data["operator"])
    except (ValueError, KeyError, TypeError):
        return line.split("(")[0].strip()[:80]


def _said(output: str) -> str:
    """The line of a dying process that says why: an assertion, an allocator's complaint."""
    words = (
        "assert",
        "terminate called",
        "what():",
        "corruption",
        "free()",
        "malloc",
        "fatal python error",
        "sanitizer",
    )
    lines = [line.strip() for line in output.splitlines()]
    return next((line[:200] for line in lines if any(word in line.lower() for word in words)), "")
