"""A finding on its way through triage, and the smallest case that was made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.corpus.smallest_cases import SmallestCase
from shakeout.fuzz.ground.failure import Failure, failure_of
from shakeout.fuzz.ground.jobs import Job
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.triage.bug_signature import Signature, signature_of
from shakeout.fuzz.triage.cause import cause_of, unreduced

__all__ = ["Shown", "Small", "stored_small"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A finding that is to be triaged.

    Attributes:
        number: of the finding in the database.
        job: which showed it.
        result: with a coarse signature and a failing verdict.
        case: its text; empty if it crashed while growing.
        script: its script; empty if its worker died.
        history: jobs that the same worker had run before.
        bug: id of the bug that it is of; empty as long as that is not known.
    """

    number: int
    job: Job
    result: Result
    case: str
    script: str
    history: tuple[Job, ...]
    bug: str = ""

    @property
    def group(self) -> str:
        """Its coarse signature."""
        return self.result.signature


@dataclass(frozen=True, slots=True)
class Small:
    """The smallest case of a finding.

    Attributes:
        case: the case.
        failure: how it fails, which may be nearer to the root than how the finding did.
        result: of its run.
        script: its script.
        growth: which elements are wrong when it has more of them.
        complete: no pass makes it smaller.
        tries: candidates that were run.
        seconds: that it took.
    """

    case: Case
    failure: Failure
    result: Result
    script: str = ""
    growth: str = ""
    complete: bool = False
    tries: int = 0
    seconds: float = 0.0

    @property
    def signature(self) -> Signature | None:
        """The fine signature; None if it is unclassified."""
        return signature_of(self.case, self.result, self.growth)

    def cause(self, coarse: str) -> str:
        """What tells its bug apart.

        Args:
            coarse: the finding's coarse signature.
        """
        signature = self.signature
        if signature is None:
            return unreduced(self.result, self.case, coarse)
        return cause_of(signature, self.result, self.case)

    def row(self, bug: str) -> SmallestCase:
        """As a row of the database."""
        signature = self.signature
        return SmallestCase(
            bug,
            "complete" if self.complete else "budget",
            self.case.text,
            self.result.to_json(),
            {} if signature is None else signature.to_json(),
            self.tries,
            self.seconds,
        )


def stored_small(text: str, result: Mapping[str, Any]) -> Small:
    """A smallest case as it was stored."""
    told = Result.from_json(result)
    failure = failure_of(told)
    return Small(codec.decode(text), failure or Failure("", "", ""), told)
