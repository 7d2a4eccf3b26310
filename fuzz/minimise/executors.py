"""Where candidates run: in this process, or each in an isolated worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.fuzz.isolated import Isolated
from shakeout.fuzz.losses import REFERENCE
from shakeout.fuzz.minimise.predicate import Outcome, failure_of
from shakeout.fuzz.minimise.settle import Demands, Unsettled, settle
from shakeout.fuzz.protocol import Job
from shakeout.fuzz.signature import INTERNAL
from shakeout.fuzz.supervisor import Answer
from shakeout.fuzz.tally import result_of

__all__ = ["Crewed", "in_process"]


def in_process(cases: Sequence[Case], demands: Demands) -> list[Outcome]:
    """Run candidates here, one after the other: for failures that cannot take the process with them."""
    from shakeout.fuzz.execute import execute

    found = []
    for case in cases:
        began = time.monotonic()
        try:
            settled = settle(case, demands)
        except Unsettled:
            found.append(Outcome("invalid", seconds=time.monotonic() - began))
            continue
        result = execute(settled, explain=False).to_json()
        found.append(Outcome(result["status"], failure_of(result), settled, result, seconds=time.monotonic() - began))
    return found


class Crewed(Isolated):
    """Runs candidates on a crew of workers, side by side; a context manager.

    Args:
        directory: for the crew's files.
        target: what the case runs on.
        workers: how many.
        more: as for ``Isolated``.
    """

    def __init__(self, directory: Path, target: str, workers: int, **more: Any) -> None:
        super().__init__(directory, [target], workers, maker="shakeout.fuzz.minimise.settle", **more)

    def __enter__(self) -> Crewed:
        super().__enter__()
        return self

    def __call__(self, cases: Sequence[Case], demands: Demands) -> list[Outcome]:
        """What became of each candidate."""
        answers = self.answers([_job(case, demands) for case in cases])
        return [Outcome("infra") if answer is None else _outcome(answer) for answer in answers]


def _job(case: Case, demands: Demands) -> Job:
    target, device = case.setting.target, case.setting.device
    if target == REFERENCE:
        # A reference that crashes would do so while the candidate is settled, and blame nobody.
        return Job(index=0, target=target, case=case.text, device=device)
    recipe = {"candidate": case.text, "defined": demands.defined, "finite": demands.finite}
    return Job(index=0, target=target, recipe=recipe, device=device)


def _outcome(answer: Answer) -> Outcome:
    message = answer.message
    if str(message.get("internal", "")).startswith(f"{INTERNAL} {Unsettled.__name__}"):
        return Outcome("invalid", seconds=message["seconds"])
    result = result_of(answer)
    text = message.get("case", "")
    if answer.loss is not None:
        seconds = answer.loss.seconds
        text = answer.loss.state.text if answer.loss.state.kind == "case" else ""
    else:
        seconds = float(message["seconds"])
    failure = failure_of(result)
    case = codec.decode(text) if text and failure is not None else None
    # Without a text it died while it was settled: that is the reference's matter, and says nothing of the target.
    if failure is not None and case is None:
        return Outcome("invalid", seconds=seconds)
    return Outcome(str(result["status"]), failure, case, result, seconds)
