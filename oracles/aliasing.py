"""Which outputs share memory with an input: what the reference hands out as a view must stay one.

Policy: outputs that share memory with each other but with no input are not compared; compilers copy freely there.
Empty tensors own no memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shakeout.corpus.case import Case
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Answers, Outcome, Question, Verdict

__all__ = ["Aliasing"]


@dataclass(frozen=True, slots=True)
class Aliasing:
    """Compares the owner of each output's memory."""

    name: str = "aliasing"

    def questions(self, case: Case) -> Sequence[Question]:
        """The two runs."""
        return (REFERENCE, SUBJECT)

    def judge(self, case: Case, answers: Answers) -> Verdict | Sequence[Question]:
        """The first output with another owner."""
        for want, got in zip(answers[REFERENCE].calls, answers[SUBJECT].calls, strict=False):
            for position, (a, b) in enumerate(zip(want["aliases"], got["aliases"], strict=False)):
                expected = a if a < want["given"] else None
                found = b if b < got["given"] else None
                if expected == found:
                    continue
                symptom = "alias lost" if found is None else "alias appears" if expected is None else "wrong alias"
                place = f"output {position}"
                owner = ["new memory" if x is None else f"the memory of input {x}" for x in (expected, found)]
                return Verdict(
                    self.name,
                    Outcome.FAIL,
                    symptom,
                    f"{place}: {owner[0]} expected, {owner[1]} found",
                    place,
                    {"expected": expected, "found": found},
                )
        return Verdict(self.name, Outcome.PASS)
