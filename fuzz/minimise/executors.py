"""Where candidates run: in this process, or each in an isolated worker."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.isolated import Isolated
from shakeout.fuzz.minimise.predicate import Outcome, failure_of
from shakeout.fuzz.minimise.settle import Demands, Unsettled, settle
from shakeout.fuzz.nursery import ZygoteBroken
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


class Crewed:
    """Runs candidates on crews of workers, side by side; a context manager.

    A case on another device than the CPU has two crews, because most of what fails there fails on the CPU as well, and
    the candidate that says so shall not run where the target would first have to be warmed for the CPU. If the target
    does not work on this machine's CPU, candidates there are unsupported.

    Args:
        directory: for the crews' files.
        target: what the case runs on.
        workers: how many, on each device.
        device: of the case.
        more: as for ``Isolated``.
    """

    def __init__(self, directory: Path, target: str, workers: int, *, device: str = "cpu", **more: Any) -> None:
        self._own = device
        self._crews = {
            name: Isolated(
                directory / name, [target], workers, maker="shakeout.fuzz.minimise.settle", device=name, **more
            )
            for name in dict.fromkeys((device, "cpu"))
        }
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Crewed:
        with contextlib.ExitStack() as opened:
            for device, crew in list(self._crews.items()):
                try:
                    opened.enter_context(crew)
                except ZygoteBroken:
                    if device == self._own:
                        raise
                    del self._crews[device]
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def __call__(self, cases: Sequence[Case], demands: Demands) -> list[Outcome]:
        """What became of each candidate."""
        found = [Outcome("unsupported")] * len(cases)
        for device, crew in self._crews.items():
            places = [place for place, case in enumerate(cases) if case.setting.device == device]
            answers = crew.answers([_job(cases[place], demands) for place in places])
            for place, answer in zip(places, answers, strict=True):
                found[place] = Outcome("infra") if answer is None else _outcome(answer)
        return found


def _job(case: Case, demands: Demands) -> Job:
    target, device = case.setting.target, case.setting.device
    if target == vocabulary(case.program.vocabulary).REFERENCE:
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
