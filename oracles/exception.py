"""The reference accepts the program; so must the target, unless it says that it does not support it.

Policy: a target that accepts what the reference rejects is not looked for; only valid programs are generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shakeout.corpus.case import Case
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Answers, Outcome, Question, Verdict

__all__ = ["ExceptionParity"]


@dataclass(frozen=True, slots=True)
class ExceptionParity:
    """Fails where only the target raises."""

    name: str = "exception"

    def questions(self, case: Case) -> Sequence[Question]:
        """The two runs."""
        return (REFERENCE, SUBJECT)

    def judge(self, case: Case, answers: Answers) -> Verdict | Sequence[Question]:
        """Fail for an error, unknown for a declared refusal, infra for an error of Shakeout's own."""
        error = answers[SUBJECT].error
        if error is None:
            return Verdict(self.name, Outcome.PASS)
        if error.declined:
            return Verdict(self.name, Outcome.UNKNOWN, "unsupported", error.template)
        return Verdict(
            self.name,
            Outcome.FAIL,
            error.kind,
            f"{error.kind}: {error.template}\n{error.message.strip()[:2000]}",
            "the run",
            {"template": error.template, "frames": list(error.frames[-3:]), "owner": error.owner},
        )
