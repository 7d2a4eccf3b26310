"""The same bits from the same case: a target that promises them is prepared, run once more and compared with itself.

Policy: which NaN is nobody's promise. A reference that does not repeat itself, or that shows uninitialised memory, is
no evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shakeout.corpus.case import Case
from shakeout.corpus.observation import PARTS, Observation
from shakeout.oracles.difference import AGAIN, POISONED, REPEATS, pairs, same_values
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Answers, Outcome, Question, Verdict

__all__ = ["TURN", "Determinism"]

#: One case of so many is asked: it costs a compilation.
TURN = 16


@dataclass(frozen=True, slots=True)
class Determinism:
    """Compares two runs of the target, each from scratch."""

    name: str = "determinism"

    def questions(self, case: Case) -> Sequence[Question]:
        """The two runs, and the target's second one where it is the case's turn."""
        # Other digits of the id than those by which a metamorphic relation is drawn.
        turn = int(case.id[:8], 16) % TURN == 0
        return (REFERENCE, SUBJECT, AGAIN) if turn else (REFERENCE, SUBJECT)

    def judge(self, case: Case, answers: Answers) -> Verdict | Sequence[Question]:
        """The first part that differs."""
        first, again = answers[SUBJECT], answers.get(AGAIN)
        if again is None or first.error is not None:
            return Verdict(self.name, Outcome.PASS)  # not asked, or the exception oracle's matter
        if again.error is not None:
            said = again.error
            message = f"it ran, and raises {said.kind} when it runs again: {said.template}"
            return Verdict(self.name, Outcome.FAIL, "nondeterministic", message, "the run", {"template": said.template})
        place = next(_differing(first, again), None)
        if place is None:
            return Verdict(self.name, Outcome.PASS)
        others = (*REPEATS, POISONED)
        if any(question not in answers for question in others):
            return others
        if any(place in _differing(answers[REFERENCE], answers[other]) for other in others):
            reason = "the reference itself does not give the same values twice"
            return Verdict(self.name, Outcome.UNKNOWN, "undefined", reason, place)
        message = f"{place}: the target gives other bits when it is prepared and run again"
        return Verdict(self.name, Outcome.FAIL, "nondeterministic", message, place)


def _differing(one: Observation, other: Observation) -> Iterator[str]:
    """The parts in which two runs differ, by name."""
    for part in PARTS:
        if part == "random state":
            continue
        for _, position, a, b in pairs(part, one, other):
            same = a is b or (a is not None and b is not None and a.shape == b.shape and same_values(a, b))
            if not same:
                yield f"{part} {position}"
