"""The reference accepts the program; so must the target, unless it says that it does not support it.

An error that the reference itself raises once its numbers are moved by rounding errors is none: so it is where a shape
depends on them. Nor is one that it raises as soon as the results of a user's kernel lie in memory where that left them:
a kernel's layout is its own affair, and of dimensions of one index and tensors without elements no operator changes it.

Policy: a target that accepts what the reference rejects is not looked for; only valid programs are generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shakeout.corpus.case import Case
from shakeout.corpus.observation import Raised
from shakeout.oracles import tolerance
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Answers, Note, Outcome, Question, Verdict

__all__ = ["LAID_OUT", "LAYOUT", "ExceptionParity"]

LAID_OUT = Question("laid out")

#: What is said of a kernel whose layout an operator behind it does not take.
LAYOUT = Note(
    "a later operator does not take the strides of its results",
    "those of dimensions of one index, or of a tensor without elements, which .contiguous() leaves as they are",
)

#: A shape that depends on numbers depends on their rounding errors, and so does what a later operator says to it.
_DOUBTS = tuple(Question("replica", number) for number in range(tolerance.REPLICAS[1]))


def _same(one: Raised | None, other: Raised) -> bool:
    return one is not None and (one.kind, one.template) == (other.kind, other.template)


@dataclass(frozen=True, slots=True)
class ExceptionParity:
    """Fails where only the target raises."""

    name: str = "exception"

    def questions(self, case: Case) -> Sequence[Question]:
        """The two runs."""
        return (REFERENCE, SUBJECT)

    def judge(self, case: Case, answers: Answers) -> Verdict | Sequence[Question]:
        """Fail for an error; unknown for a declared refusal, and where the reference, moved a little, raises too."""
        error = answers[SUBJECT].error
        if error is None:
            return Verdict(self.name, Outcome.PASS)
        if error.declined:
            return Verdict(self.name, Outcome.UNKNOWN, "unsupported", error.template)
        if any(question not in answers for question in _DOUBTS):
            return _DOUBTS
        if any(_same(answers[question].error, error) for question in _DOUBTS):
            reason = f"the reference, moved by rounding errors, raises it as well: {error.template}"
            return Verdict(self.name, Outcome.UNKNOWN, "unstable", reason)
        if answers[SUBJECT].layouts:
            if LAID_OUT not in answers:
                return (LAID_OUT,)
            if _same(answers[LAID_OUT].error, error):
                reason = f"the reference raises it as well where its results lie as the kernel's do: {error.template}"
                return Verdict(self.name, Outcome.UNKNOWN, "undefined", reason, notes=(LAYOUT,))
        return Verdict(
            self.name,
            Outcome.FAIL,
            error.kind,
            f"{error.kind}: {error.template}\n{error.message.strip()[:2000]}",
            "the run",
            {"template": error.template, "frames": list(error.frames[-3:]), "owner": error.owner},
        )
