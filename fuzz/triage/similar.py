"""Which bugs are probably one: suggested to a person, who merges by ``shakeout bugs set ID duplicate-of OTHER``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from shakeout.corpus.database import Database
from shakeout.fuzz.triage.bug_signature import Signature

__all__ = ["Similar", "near", "similar", "suggestions"]

#: Where two signatures may differ in one point and still be near: what the minimiser sometimes fails to simplify, and
#: what one cause shows in several ways.
_LOOSE = ("stage", "symptom", "dtypes", "layout", "inputs", "deviation", "setting", "growth")

#: A name in a message: quoted, and one word.
_NAME = re.compile(r"""(["'])[\w.:]+\1""")


@dataclass(frozen=True, slots=True)
class Similar:
    """Another bug, and why it may be the same one."""

    bug: str
    why: str


def near(a: Signature, b: Signature) -> str:
    """Why two signatures are probably of one bug; empty if they are not."""
    if a == b:
        return "the same signature"
    if a.oracle != b.oracle:
        return ""
    if a.oracle in ("exception", "crash") and a.culprit == b.culprit and a.symptom == b.symptom and "@" in a.culprit:
        where = "" if a.target == b.target else f" on {b.target}"
        return f"the same message from the same place{where}"
    # A check that is made for each of many operators names the one that it failed for.
    raised = a.oracle == "exception" and a.target == b.target and a.symptom == b.symptom and "@" in a.culprit
    if raised and _NAME.sub("", a.culprit) == _NAME.sub("", b.culprit):
        return "the same message, about another name, from the same place"
    if a.operators != b.operators or not a.operators or a.culprit != b.culprit:
        return ""
    other = [name for name in _LOOSE if getattr(a, name) != getattr(b, name)]
    if a.target != b.target:
        return f"the same program on {b.target}" if not other else ""
    if len(other) == 1:
        return f"the same operators; another {other[0].removesuffix('s')}"
    return ""


def similar(signatures: Mapping[str, Signature], bug: str) -> list[Similar]:
    """The bugs that are near one bug, nearest first."""
    if bug not in signatures:
        return []
    found = [
        Similar(other, why)
        for other, signature in signatures.items()
        if other != bug and (why := near(signatures[bug], signature))
    ]
    return sorted(found, key=lambda row: (row.why != "the same signature", row.bug))


def signatures(database: Database) -> dict[str, Signature]:
    """The fine signatures by bug; unclassified bugs have none."""
    return {
        bug: Signature.from_json(minimal.signature)
        for bug, minimal in database.smallest_cases().items()
        if minimal.signature
    }


def suggestions(database: Database, bug: str) -> list[Similar]:
    """The bugs that are near one, without those that a person has called its duplicates, or it theirs."""
    standing = database.standing()

    def settled(other: str) -> bool:
        said = [standing[one].other for one in (bug, other) if one in standing and standing[one].other]
        return bool(said) and (bug in said or other in said or len(said) > len(set(said)))

    return [row for row in similar(signatures(database), bug) if not settled(row.bug)]
