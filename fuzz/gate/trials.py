"""Cases run some times on a side, and what each run showed as a behaviour that a decision is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from shakeout.corpus import blobs
from shakeout.fuzz.gate.cases import Candidate
from shakeout.fuzz.gate.decision import Behaviour, Trials
from shakeout.fuzz.gate.sending import Errand
from shakeout.fuzz.gate.sides import Side
from shakeout.fuzz.ground.failure import Failure, remembered
from shakeout.fuzz.ground.results import Result

__all__ = ["Run", "Runs", "replaying", "rows", "trials"]

_UNCLEAR: tuple[Behaviour, ...] = ("unclear",)
_LATE: tuple[Behaviour, ...] = ("late",)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a case.

    Attributes:
        result: what came of it.
        failure: how it failed; None if it did not.
        reason: what was said: why it failed, was declined, or says nothing.
    """

    result: Result
    failure: Failure | None
    reason: str


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of one case on one side.

    Attributes:
        runs: in the order in which they ended; none if it could not run.
        note: why it could not run.
        script: what shows the failure, if one failed.
        title, text: the failure in a line, and whole, for a person; empty if none failed or nobody asked.
    """

    runs: tuple[Run, ...] = ()
    note: str = ""
    script: str = ""
    title: str = ""
    text: str = ""

    @property
    def failure(self) -> Failure | None:
        """How it failed first."""
        return next((one.failure for one in self.runs if one.failure is not None), None)

    @property
    def passed(self) -> bool:
        """Whether it ran and failed in no run."""
        return bool(self.runs) and self.failing is None

    @property
    def failing(self) -> Run | None:
        """The first run that failed."""
        return next((one for one in self.runs if one.failure is not None), None)


def replaying(
    side: Side,
    scratch: Path,
    candidates: Sequence[Candidate],
    runs: int,
    *,
    workers: int,
    memory: int,
    lacking: Sequence[str] = (),
    ready: Sequence[str] = (),
    told: bool = False,
) -> Errand:
    """The errand that runs candidates so many times each, each time in a fresh worker.

    Args:
        lacking: packages that the side has not.
        ready: targets of which it is known that the side can use them.
        told: whether what fails is told in words.
    """
    files = [storage.values.places for one in candidates for storage in blobs.held(one.case)]
    return Errand(
        side,
        scratch,
        {
            "errand": "replay",
            "cases": [
                {
                    "id": one.id,
                    "case": one.case.text,
                    "before": list(one.before),
                    "failure": None if one.failure is None else astuple(one.failure),
                }
                for one in candidates
            ],
            "blobs": sorted({place for places in files for place in places}),
            "runs": runs,
            "ready": list(ready),
            "workers": workers,
            "memory": memory,
            "told": told,
        },
        lacking,
    )


def rows(messages: Sequence[Mapping[str, Any]]) -> dict[str, Runs]:
    """What an errand told of each candidate, by id."""
    found: dict[str, Runs] = {}
    for message in messages:
        if "row" in message:
            runs = tuple(
                Run(
                    Result.from_json(one["result"]),
                    None if one["failure"] is None else Failure(*one["failure"]),
                    str(one["reason"]),
                )
                for one in message["results"]
            )
            found[str(message["row"])] = Runs(runs, str(message["note"]), str(message["script"]))
        elif "told" in message:
            name = str(message["told"])
            found[name] = replace(found[name], title=str(message["title"]), text=str(message["text"]))
    return found


def trials(runs: Runs | None, wanted: Failure | None, k: int) -> Trials:
    """The runs of a case as behaviours.

    Args:
        runs: None if there was no time for them.
        wanted: the failure that is asked for; None for any.
        k: how many were asked for, for a case that could not run.
    """
    if runs is None:
        return Trials(_LATE * k, "the budget was over")
    if not runs.runs:
        return Trials(_UNCLEAR * k, runs.note)
    seen = tuple(_behaviour(run, wanted) for run in runs.runs)
    note = next((run.reason for run, what in zip(runs.runs, seen, strict=True) if what not in ("passes", "fails")), "")
    return Trials(seen, " ".join(note.split())[:200])


def _behaviour(run: Run, wanted: Failure | None) -> Behaviour:
    if run.failure is not None:
        return "fails" if remembered(run.failure, wanted) else "otherwise"
    if run.result.status == "compared":
        return "passes"
    return "declined" if run.result.status == "unsupported" else "unclear"
