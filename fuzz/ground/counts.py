"""What an answer says in numbers: results of one form, whoever made them, and how far their cases came."""

from __future__ import annotations

from dataclasses import replace

from shakeout.corpus.rows import Totals
from shakeout.fuzz.ground.crashes import lost
from shakeout.fuzz.ground.results import Answer, Loss, Result
from shakeout.fuzz.ground.signature import INTERNAL
from shakeout.oracles.verdict import Outcome, Verdict

__all__ = ["abandoned", "counts", "internal", "result_of", "traced"]


def result_of(answer: Answer) -> Result:
    """The result of any answer."""
    if answer.loss is not None:
        return lost(answer.job, answer.loss).result
    return answer.reply.result or abandoned(answer.reply.internal or "no case was run", answer.job.target)


def traced(loss: Loss, line: str) -> Loss:
    """A loss as if its slot held one line of a trace."""
    state = replace(loss.state, kind="trace", text=f"\n{line}")
    return replace(loss, state=state)


def counts(result: Result, seconds: float) -> Totals:
    """How far one case came."""
    status = result.status
    compared = status == "compared"
    return Totals(
        generated=1,
        valid=int(status not in ("invalid", "infra")),
        executed=int(status in ("compared", "failed", "undefined")),
        compared=int(compared),
        nontrivial=int(compared and not result.trivial),
        exact=int(compared and result.exact),
        unknown=int(result.outcome is Outcome.UNKNOWN),
        unsupported=int(status == "unsupported"),
        undefined=int(status == "undefined"),
        invalid=int(status == "invalid"),
        failed=int(status == "failed"),
        infra=int(status == "infra"),
        findings=int(bool(result.signature)),
        seconds=seconds,
    )


def abandoned(reason: str, target: str = "") -> Result:
    """The result of a job that nobody answered."""
    return Result("", target, "infra", reason=reason)


def internal(answer: Answer) -> Result:
    """A defect of ours as a result: told apart, and never shown as a bug of the target."""
    reply = answer.reply
    lines = [line.strip() for line in reply.traceback.strip().splitlines()]
    places = [line for line in lines if line.startswith("File ")]
    place = places[-1].rpartition("/")[2].replace('"', "") if places else ""
    reason = reply.internal.splitlines()[0][:200]
    verdict = Verdict("internal", Outcome.FAIL, INTERNAL, reason, place, {"traceback": reply.traceback})
    signature = f"{INTERNAL} | {reason.removeprefix(INTERNAL).strip()} | {place}"
    return Result("", answer.job.target, "infra", (verdict,), reason=reason, signature=signature)
