"""Rows of a campaign's database: what is counted, found, decided, and at work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = [
    "STATES",
    "STATUSES",
    "Bug",
    "Decision",
    "Finding",
    "Flight",
    "Group",
    "KnownBugReplay",
    "LedgerRow",
    "Move",
    "Sighting",
    "Totals",
]

#: A bug's life in this file, from weakest to strongest evidence. ``internal`` is Shakeout's own failure.
STATES = ("new", "flaky", "history", "confirmed", "known", "internal")

#: What a person can say of a bug; ``open`` takes back what was said before.
STATUSES = ("open", "reported", "invalid", "wontfix", "duplicate-of")


@dataclass(frozen=True, slots=True)
class Totals:
    """How many cases of one target came how far.

    ``generated`` cases are handed out and answered; ``valid`` ones the reference accepts; ``executed`` ones the target
    ran; ``compared`` ones it answered and were judged; ``nontrivial`` ones had an element to compare; ``exact`` ones
    agreed bit for bit. The others count what stopped a case on its way. ``seconds`` is time in workers.
    """

    generated: int = 0
    valid: int = 0
    executed: int = 0
    compared: int = 0
    nontrivial: int = 0
    exact: int = 0
    unknown: int = 0
    unsupported: int = 0
    undefined: int = 0
    invalid: int = 0
    failed: int = 0
    infra: int = 0
    findings: int = 0
    seconds: float = 0.0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """How many cases with one operator came how far on one target; ``fed``: with another operator's result."""

    target: str
    operator: str
    generated: int = 0
    valid: int = 0
    executed: int = 0
    compared: int = 0
    nontrivial: int = 0
    exact: int = 0
    unsupported: int = 0
    fed: int = 0


@dataclass(frozen=True, slots=True)
class Bug:
    """Findings that have one cause, as far as is known.

    Attributes:
        id: ``SH-`` and the first hexadecimal digits of a hash of what told it apart when it was opened.
        signature: the coarse one of the finding with which it was opened.
        title: one line.
        target, oracle, symptom: of the first finding.
        state: one of STATES.
        k, n: in how many of how many fresh processes the best finding failed.
        count: cases that showed it.
        first_seen, last_seen: seconds since 1970.
        first_index: the first job that showed it.
        known: id of the shipped known bug that it is, or empty.
        note: one line about the confirmation.
    """

    id: str
    signature: str
    title: str
    target: str
    oracle: str
    symptom: str
    state: str
    k: int
    n: int
    count: int
    first_seen: float
    last_seen: float
    first_index: int
    known: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One case that failed, as it is stored.

    ``bug`` is empty while it waits for triage. ``result`` is the JSON of the worker's result, ``history`` the jobs that
    ran before it in the same worker. ``small`` is the text of the smallest case that was made of it, and
    ``small_result`` what came of that; empty where there is none. ``signature`` is the coarse one.
    """

    id: int
    bug: str
    job: int
    case_id: str
    case_json: str
    result: Mapping[str, Any]
    script: str
    history: tuple[Any, ...]
    seen: float
    state: str
    k: int
    n: int
    signature: str = ""
    small: str = ""
    small_result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Findings with one coarse signature that no smallest case explained when they came in.

    Attributes:
        signature: the coarse one.
        bug: under which those are counted that are not looked at; empty until one of them is triaged.
        seen: how many there were.
        pending: how many of them are counted under no bug yet, beside those that wait.
    """

    signature: str
    bug: str = ""
    seen: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Sighting:
    """How often a bug was seen on one target with one symptom."""

    target: str
    symptom: str
    count: int


@dataclass(frozen=True, slots=True)
class Move:
    """Findings changed their bug: two bugs became one, or one became two.

    Attributes:
        kind: ``merge`` (all of ``other`` went to ``bug``) or ``split`` (from ``bug`` to ``other``).
        bug: id of the bug that was named.
        other: id of the other one.
        findings: numbers of those that moved.
        count: cases that are counted with them.
        why: in words; ``by hand`` if a person did it.
        moved: seconds since 1970.
    """

    kind: str
    bug: str
    other: str
    findings: tuple[int, ...]
    count: int
    why: str
    moved: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person said of a bug.

    Attributes:
        bug: its id.
        status: one of STATUSES.
        other: id of the bug of which it is a duplicate, or empty.
        note: in the person's words.
        decided: seconds since 1970.
    """

    bug: str
    status: str
    other: str
    note: str
    decided: float


@dataclass(frozen=True, slots=True)
class Flight:
    """A job that was handed out and not answered when the campaign ended; ``attempts`` counts how often."""

    job: int
    text: str
    attempts: int


@dataclass(frozen=True, slots=True)
class KnownBugReplay:
    """What became of a shipped known bug when it was replayed last."""

    id: str
    title: str
    reference: str
    state: str
    reason: str
    signature: str
    target: str
