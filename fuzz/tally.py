"""What an answer says in numbers: results of one form, whoever made them, and how far their cases came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shakeout.corpus.rows import Totals
from shakeout.fuzz.losses import lost
from shakeout.fuzz.signature import INTERNAL
from shakeout.fuzz.supervisor import Answer, Loss

__all__ = ["abandoned", "counts", "internal", "result_of", "traced"]

NOTHING: dict[str, Any] = {
    "case": "",
    "target": "",
    "status": "infra",
    "outcome": "infra",
    "verdicts": [],
    "seconds": {},
    "exact": False,
    "proven": False,
    "trivial": False,
    "operators": [],
    "reason": "",
    "signature": "",
    "stage": "",
    "left": [],
}


def result_of(answer: Answer) -> Mapping[str, Any]:
    """The result of any answer."""
    if answer.loss is not None:
        return lost(answer.job, answer.loss).result
    if "internal" in answer.message:
        return {**NOTHING, "reason": answer.message["internal"]}
    result: Mapping[str, Any] = answer.message["result"]
    return result


def traced(loss: Loss, line: str) -> Loss:
    """A loss as if its slot held one line of a trace."""
    state = replace(loss.state, kind="trace", text=f"\n{line}")
    return replace(loss, state=state)


def counts(result: Mapping[str, Any], seconds: float) -> Totals:
    """How far one case came."""
    status = result["status"]
    compared = status == "compared"
    return Totals(
        generated=1,
        valid=int(status not in ("invalid", "infra")),
        executed=int(status in ("compared", "failed", "undefined")),
        compared=int(compared),
        nontrivial=int(compared and not result["trivial"]),
        exact=int(compared and result["exact"]),
        unknown=int(result["outcome"] == "unknown"),
        unsupported=int(status == "unsupported"),
        undefined=int(status == "undefined"),
        invalid=int(status == "invalid"),
        failed=int(status == "failed"),
        infra=int(status == "infra"),
        findings=int(bool(result["signature"])),
        seconds=seconds,
    )


def abandoned(reason: str) -> Mapping[str, Any]:
    """The result of a job that nobody answered."""
    return {**NOTHING, "reason": reason}


def internal(answer: Answer) -> Mapping[str, Any]:
    """A defect of ours as a result: told apart, and never shown as a bug of the target."""
    message = answer.message
    lines = [line.strip() for line in message["traceback"].strip().splitlines()]
    places = [line for line in lines if line.startswith("File ")]
    place = places[-1].rpartition("/")[2].replace('"', "") if places else ""
    reason = message["internal"].splitlines()[0][:200]
    verdict = {"oracle": "internal", "outcome": "fail", "symptom": INTERNAL, "message": reason, "place": place}
    return {
        **NOTHING,
        "target": answer.job.target,
        "reason": reason,
        "verdicts": [{**verdict, "evidence": {"traceback": message["traceback"]}}],
        "signature": f"{INTERNAL} | {reason.removeprefix(INTERNAL).strip()} | {place}",
    }
