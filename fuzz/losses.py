"""What a dead worker's slot says: the loss of a job as a result, of the same form as a worker sends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.protocol import Job
from shakeout.fuzz.signature import SMALL
from shakeout.fuzz.supervisor import Loss

__all__ = ["Lost", "lost"]

#: What generators grow is made of operators of this vocabulary, whatever target it is for.
_GROWN = "torch"


@dataclass(frozen=True, slots=True)
class Lost:
    """A loss as a result.

    Attributes:
        result: like ``Result.to_json``; without a signature it is no finding.
        case: the case, on the target that is blamed; None if it was not made yet.
        growing: it crashed while growing, and where is not known: run the job again with each call written down.
    """

    result: dict[str, Any]
    case: Case | None
    growing: bool = False


def lost(job: Job, loss: Loss) -> Lost:
    """Judge a loss: a crash belongs to whoever was running, a slow or large reference run is no finding."""
    state = loss.state
    case = _case(state.text) if state.kind == "case" else None
    phase = state.phase or "start"
    if case is None:
        return _without_case(job, loss, phase)
    operators = list(case.program.operators())
    if phase in ("start", "reference"):
        if loss.kind == "crash":
            # What a crash is blamed on as long as no target is involved.
            reference = vocabulary(case.program.vocabulary).REFERENCE
            case = case.on(reference)
            return Lost(_failed(case.id, reference, loss, phase, operators, _named(operators)), case)
        return Lost(_other(case.id, job, loss, "invalid", f"the reference: {loss.kind}", operators), case)
    if phase == "judge" and loss.kind != "crash":
        return Lost(_other(case.id, job, loss, "infra", f"while judging: {loss.kind}", operators), case)
    return Lost(_failed(case.id, case.setting.target, loss, phase, operators, _named(operators)), case)


def _without_case(job: Job, loss: Loss, phase: str) -> Lost:
    if loss.kind != "crash" or phase != "grow":
        status = "invalid" if phase == "grow" else "infra"
        return Lost(_other("", job, loss, status, f"{phase}: {loss.kind}", []), None)
    lines = loss.state.text.splitlines()[1:] if loss.state.kind == "trace" else []
    if not lines:
        return Lost(_other("", job, loss, "invalid", f"{phase}: {loss.symptom}", []), None, growing=True)
    # Only the last call can be the one that crashed; the ones before it are what led there.
    result = _failed("", vocabulary(_GROWN).REFERENCE, loss, phase, [], _operator(lines[-1]))
    result["verdicts"][0]["evidence"]["call"] = lines[-1][:2000]
    if (told := _told(lines[-1])) is not None:
        result |= {"case": told.id, "operators": list(told.program.operators())}
    return Lost(result, told)


def _failed(case: str, target: str, loss: Loss, phase: str, operators: list[str], blamed: str) -> dict[str, Any]:
    symptom = loss.symptom if loss.kind == "crash" else loss.kind
    message = f"{loss.symptom} in phase {phase}"
    if said := _said(loss.output):
        message += f": {said}"
    verdict = {
        "oracle": loss.kind,
        "outcome": "fail",
        "symptom": symptom,
        "message": message,
        "place": phase,
        "evidence": {"seconds": round(loss.seconds, 3), "output": loss.output[-4000:]},
    }
    return {
        **_empty(case, target, "failed", operators),
        "outcome": "fail",
        "verdicts": [verdict],
        "signature": " | ".join((target, loss.kind, symptom, blamed)),
    }


def _other(case: str, job: Job, loss: Loss, status: str, reason: str, operators: list[str]) -> dict[str, Any]:
    text = {"invalid": "pass", "infra": "infra"}[status]
    return {**_empty(case, job.target, status, operators), "outcome": text, "reason": reason}


def _empty(case: str, target: str, status: str, operators: list[str]) -> dict[str, Any]:
    return {
        "case": case,
        "target": target,
        "status": status,
        "outcome": "pass",
        "verdicts": [],
        "seconds": {},
        "exact": False,
        "proven": False,
        "trivial": False,
        "operators": operators,
        "reason": "",
        "signature": "",
        "stage": "",
        "left": [],
    }


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


def _named(operators: list[str]) -> str:
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
