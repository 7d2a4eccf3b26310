"""Verdicts, and what an oracle is.

An oracle never runs anything. It says which observations it needs (questions), sees them (answers) and judges, or
asks again. ``fail`` outranks ``infra``, which outranks ``unknown``, which outranks ``pass``; only ``fail`` is a
finding.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from shakeout.corpus.case import Case
from shakeout.corpus.observation import Observation

__all__ = ["REFERENCE", "SUBJECT", "Answers", "Note", "Oracle", "Outcome", "Question", "Verdict", "merge"]


class Outcome(enum.StrEnum):
    """What an oracle says."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"


_RANK = {Outcome.PASS: 0, Outcome.UNKNOWN: 1, Outcome.FAIL: 2}


def merge(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of several: any failure fails, else doubt."""
    return max(outcomes, key=_RANK.__getitem__, default=Outcome.PASS)


@dataclass(frozen=True, slots=True)
class Question:
    """One observation that an oracle needs.

    ``reference`` and ``subject`` are the two runs; a further ``number`` is one more run from scratch. ``baseline`` is
    the reference in double precision. ``replica`` is the reference with each result moved by rounding errors, by
    ``number``; ``conditioned`` is one in which what functions are given is moved as well, ``wide`` one with larger
    errors. ``relaid`` is the reference on row-major copies of the inputs, and ``poisoned`` the reference while
    uninitialised memory is filled with NaN: a program whose meaning is defined does not notice either. ``resaved`` is
    the reference whose backward pass finds copies in another layout, by ``number``, of what autograd saved. ``laid
    out`` is the reference with what it gives for a user's kernel where the kernel left its own results. ``reseeded`` is
    the reference from another random state. ``operand`` is the reference that returns value ``number`` of the program
    alone. ``exact`` is the reference in double precision where all of its results are proven to be exact. ``parent`` is
    what the reference showed of the case that a metamorphic relation changed. ``alone`` and ``reference alone`` are the
    two runs of input set ``number`` as the only call.
    """

    what: Literal[
        "reference",
        "subject",
        "baseline",
        "replica",
        "conditioned",
        "wide",
        "relaid",
        "resaved",
        "laid out",
        "poisoned",
        "reseeded",
        "operand",
        "exact",
        "parent",
        "alone",
        "reference alone",
    ]
    number: int = 0


REFERENCE = Question("reference")
SUBJECT = Question("subject")

Answers = Mapping[Question, Observation]


@dataclass(frozen=True, slots=True)
class Note:
    """A remark about what a case showed that says nothing of right or wrong.

    A campaign counts the cases of which it is made, by target and by what it says; so it names no numbers. It makes no
    finding, no bug and no exit status.

    Attributes:
        text: in few words what was seen, which goes on with "in 40 of 200 cases".
        advice: what whoever minds can do about it; may be empty.
    """

    text: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.advice}" if self.advice else self.text

    @classmethod
    def read(cls, line: str) -> Note:
        """The note that was printed as this line."""
        text, _, advice = line.partition("; ")
        return cls(text, advice)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one oracle says of one case.

    Attributes:
        oracle: its name.
        outcome: pass, fail, unknown or infra.
        symptom: the class of the failure, in few words (``wrong value``, ``lost mutation``).
        message: one line for a person.
        place: what shows it (``output 1``, ``gradient 0``).
        evidence: JSON values: expected, found, index, counts.
        notes: remarks beside it, whatever the outcome.
    """

    oracle: str
    outcome: Outcome
    symptom: str = ""
    message: str = ""
    place: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values; notes only where there are any, so that what has none reads as it always did."""
        found = {
            "oracle": self.oracle,
            "outcome": str(self.outcome),
            "symptom": self.symptom,
            "message": self.message,
            "place": self.place,
            "evidence": dict(self.evidence),
        }
        return {**found, "notes": [str(note) for note in self.notes]} if self.notes else found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """Read what ``to_json`` wrote."""
        notes = tuple(map(Note.read, data.get("notes", ())))
        return cls(**{**data, "outcome": Outcome(data["outcome"]), "notes": notes})


class Oracle(Protocol):
    """One way of being wrong that is looked for."""

    @property
    def name(self) -> str:
        """Its name in verdicts."""

    def questions(self, case: Case) -> Sequence[Question]:
        """What it needs to begin."""

    def judge(self, case: Case, answers: Answers) -> Verdict | Sequence[Question]:
        """The verdict, or what else it needs to know."""
