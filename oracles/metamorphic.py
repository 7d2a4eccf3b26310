"""Metamorphic relations as an oracle: a case that passed is changed in a way that must not matter, and runs again.

The changed case is a case of its own: every other oracle judges it, its script shows it, and it is minimised like any
other. What this oracle adds is whether the relation is worth anything here: the reference must keep it as well. Where
the reference gives other outputs for the changed case than rounding explains, it contradicts itself, and the case is no
evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shakeout.corpus.case import Case
from shakeout.oracles import tolerance
from shakeout.oracles.difference import same_values
from shakeout.oracles.relations import RELATIONS, Related
from shakeout.oracles.verdict import REFERENCE, Answers, Outcome, Question, Verdict

if TYPE_CHECKING:
    import torch

__all__ = ["PARENT", "TURN", "Derived", "Metamorphic", "derive"]

#: What the reference showed of the case that was changed.
PARENT = Question("parent")

#: One case of so many is changed and runs again.
TURN = 8

_DOUBTS = tuple(Question("replica", number) for number in range(tolerance.REPLICAS[1]))


@dataclass(frozen=True, slots=True)
class Derived:
    """A case that a relation made of another one.

    Attributes:
        case: the new one.
        relation: by name, one of ``RELATIONS``.
        parent: id of the old one.
        outputs: for each output the old case's output that it equals; None for one that is new.
    """

    case: Case
    relation: str
    parent: str
    outputs: tuple[int | None, ...]


def derive(case: Case, *, always: bool = False) -> Derived | None:
    """What a case becomes by the relation whose turn it is, or by the next one that applies; mostly nothing.

    Args:
        case: its id decides whether it is its turn, by which relation, and where.
        always: whether it is its turn whatever its id is.
    """
    number = int(case.id, 16)
    turn, number = number % TURN, number // TURN
    if turn and not always:
        return None
    if case.setting.cotangent != "whole":
        return None  # they say of gradients what holds for the usual one
    if case.program.structured():
        return None  # what the relations say of a call they say of one without regions
    names = tuple(RELATIONS)
    start, place = number % len(names), number // len(names)
    for name in (*names[start:], *names[:start]):
        found: Related | None = RELATIONS[name](case, place)
        if found is not None:
            return Derived(found.case, name, case.id, found.outputs)
    return None


@dataclass(frozen=True, slots=True)
class Metamorphic:
    """Asks whether the reference itself keeps the relation.

    Attributes:
        derived: the case that is judged, and where it comes from.
        name: in verdicts.
    """

    derived: Derived
    name: str = "metamorphic"

    def questions(self, case: Case) -> Sequence[Question]:
        """The reference's run of both cases."""
        return (REFERENCE, PARENT)

    def judge(self, case: Case, answers: Answers) -> Verdict | Sequence[Question]:
        """Pass, or unknown where the reference contradicts itself."""
        for number, position, want, got in self._outputs(answers):
            place = f"output {position}"
            if want.shape != got.shape or want.dtype != got.dtype:
                return self._broken(place, f"{want.dtype}{list(want.shape)} became {got.dtype}{list(got.shape)}")
            if same_values(want, got) or bool((close := tolerance.within(want, got)).all()):
                continue
            if any(question not in answers for question in _DOUBTS):
                return _DOUBTS
            replicas = [
                moved
                for question in _DOUBTS
                if (moved := _output(answers, question, number, position)) is not None and moved.shape == got.shape
            ]
            bad = ~close & ~tolerance.moved(got, want, None, replicas)
            if bool(bad.any()):
                index = tuple(int(i) for i in bad.nonzero()[0])
                return self._broken(place, f"{want[index].item()} became {got[index].item()} at {list(index)}")
        return Verdict(self.name, Outcome.PASS)

    def _outputs(self, answers: Answers) -> Iterator[tuple[int, int, torch.Tensor, torch.Tensor]]:
        """Call, position, the old output and the new one that should equal it."""
        for number, call in enumerate(answers[REFERENCE].calls):
            for position, old in enumerate(self.derived.outputs):
                want = None if old is None else _output(answers, PARENT, number, old)
                got = call["output"][position]
                if want is not None and got is not None:  # one without all of its memory is the storage oracle's matter
                    yield number, position, want, got

    def _broken(self, place: str, what: str) -> Verdict:
        reason = f"the reference itself does not keep the relation {self.derived.relation!r}: {place}, {what}"
        return Verdict(self.name, Outcome.UNKNOWN, "undefined", reason, place)


def _output(answers: Answers, question: Question, number: int, position: int) -> torch.Tensor | None:
    """An output of one run, if that run got so far."""
    calls = answers[question].calls
    if number >= len(calls) or position >= len(calls[number]["output"]):
        return None
    found: torch.Tensor = calls[number]["output"][position]
    return found
