"""Every output has the memory that its sizes and strides speak of.

One that has not shows whatever lies behind its storage, or ends the process that looks: nobody reads it, and nothing
else is said of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shakeout.corpus.case import Case
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Answers, Outcome, Question, Verdict

__all__ = ["Storage"]


@dataclass(frozen=True, slots=True)
class Storage:
    """Fails where a result reaches beyond its storage."""

    name: str = "storage"

    def questions(self, case: Case) -> Sequence[Question]:
        """The two runs."""
        return (REFERENCE, SUBJECT)

    def judge(self, case: Case, answers: Answers) -> Verdict | Sequence[Question]:
        """The first result that does."""
        if beyond := answers[REFERENCE].beyond:
            place, said = beyond[0]
            return Verdict(self.name, Outcome.UNKNOWN, "undefined", f"the reference's own {place} is {said}", place)
        if beyond := answers[SUBJECT].beyond:
            place, said = beyond[0]
            return Verdict(self.name, Outcome.FAIL, "beyond its memory", f"{place}: {said}", place)
        return Verdict(self.name, Outcome.PASS)
