"""What "fails for the same reason" means, and how often a candidate runs before it counts as failing or not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shakeout.corpus.case import Case
from shakeout.generators.validity import Demands

__all__ = ["Executor", "Failure", "NotReproduced", "Outcome", "Reliability", "doubts", "failure_of", "repetitions"]

#: Runs that measure how reliably a case fails. One that fails in all of five has, with 95 % confidence, a reliability
#: of more than a half (0.5**5 = 3 %), and a single run of a candidate is then a fair answer.
MEASURED = 5

#: A case is measured once that takes at most this share of the search's time. One that takes longer is cut first, each
#: step on the evidence of one run, and what is left of it is measured.
SHARE = 0.1

#: A candidate that fails as often as the original is dropped by mistake in at most one of twenty cases. More runs
#: would be spent on every candidate, and a mistake only costs a step that a later round may find again.
MISSED = 0.05

#: A candidate runs at most so often: enough for what fails in one run of seven (0.86**20 = 5 %). What fails more
#: rarely needs another tool.
MOST_REPETITIONS = 20

_LISTED = re.compile(r"N(?:, N)+,?")
_PLACED = re.compile(r"device='cuda(?::N)?'(?:, )?")


class NotReproduced(Exception):
    """The case to minimise does not fail in the wanted way where candidates are tried."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason of a failure: equal for failures that count as the same one.

    Attributes:
        target: what failed; ``eager`` if the reference crashed.
        oracle: which oracle saw it.
        symptom: its class: ``wrong value``, ``NaN lost``, an exception's class, a signal.
        culprit: what tells failures of one symptom apart, as far as it stays the same while a case shrinks: the
            message of an exception without numbers, the stage of a target that works in stages, the phase in which a
            process died and the assertion that ended it.
    """

    target: str
    oracle: str
    symptom: str
    culprit: str = ""

    def __str__(self) -> str:
        parts = (self.target, self.oracle, self.symptom, self.culprit)
        return " | ".join(part for part in parts if part)


def failure_of(result: Mapping[str, Any]) -> Failure | None:
    """The failure that a result tells, in the form of ``Result.to_json``; None if nothing failed."""
    verdict = next((verdict for verdict in result["verdicts"] if verdict["outcome"] == "fail"), None)
    if verdict is None or result["status"] == "infra":
        return None
    parts = [result["stage"]] if result["stage"] not in ("", result["target"]) else []
    if verdict["oracle"] == "exception":
        # A message lists sizes; a tensor with fewer dimensions is still the same message. It also says where a tensor
        # is, if that is not the CPU.
        parts.append(_LISTED.sub("N", _PLACED.sub("", verdict["evidence"]["template"])))
    elif verdict["oracle"] in ("crash", "hang", "memory"):
        parts.append(f"phase {verdict['place']}")
        said = verdict["message"].partition(": ")[2]
        # What an allocator complains about depends on what was overwritten; an assertion is always the same one.
        if "assert" in said.lower():
            parts.append(re.sub(r"\d+", "N", said))
    return Failure(result["target"], verdict["oracle"], verdict["symptom"], " | ".join(parts))


def doubts(result: Mapping[str, Any]) -> list[str]:
    """What differs in a result without being a failure, and why it is none: a line for each oracle that doubts."""
    unknown = [verdict for verdict in result.get("verdicts", ()) if verdict["outcome"] == "unknown"]
    return [f"{verdict['oracle']}: no failure, {verdict['symptom']}. {verdict['message']}" for verdict in unknown]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one candidate.

    Attributes:
        status: as in ``Result.status``; ``invalid`` too if it does not keep the demands, ``infra`` if nothing is known.
        failure: why it failed; None if it did not.
        case: the candidate with the result types that it really has; given where it failed.
        result: in the form of ``Result.to_json``; empty for a candidate that is invalid.
        seconds: that it took.
    """

    status: str
    failure: Failure | None = None
    case: Case | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


#: Runs candidates under some demands and tells what became of each, in order. Whatever a candidate does to a process is
#: an outcome too.
Executor = Callable[[Sequence[Case], Demands], Sequence[Outcome]]


@dataclass(frozen=True, slots=True)
class Reliability:
    """A case failed in the wanted way in ``failed`` of ``runs`` runs."""

    failed: int
    runs: int

    @property
    def rate(self) -> float:
        """Failures for each run."""
        return self.failed / self.runs if self.runs else 0.0

    def __str__(self) -> str:
        return f"{self.failed} of {self.runs}"


def repetitions(reliability: Reliability) -> int:
    """How often a candidate runs before it counts as one that does not fail.

    One that fails once is run as often again and must fail a second time. So one as reliable as the original is taken
    with a probability of 0.9, and one ten times less reliable hardly ever: without that, luck would lead to cases that
    nobody can reproduce.
    """
    if reliability.failed == reliability.runs:
        return 1
    if not reliability.failed:
        return MOST_REPETITIONS
    return min(MOST_REPETITIONS, math.ceil(math.log(MISSED) / math.log(1 - reliability.rate)))
