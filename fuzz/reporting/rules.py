"""By which rules of the oracles differences were forgiven in a campaign, counted."""

from __future__ import annotations

from dataclasses import dataclass

from shakeout.corpus.database import Database
from shakeout.corpus.rows import Totals
from shakeout.fuzz.campaign.ledger import FORGIVEN

__all__ = ["CountedRule", "forgiving"]


@dataclass(frozen=True, slots=True)
class CountedRule:
    """One rule about one target and operator.

    Attributes:
        target: its name.
        rule: the oracle and the rule.
        operator: behind which differences were forgiven; empty where that is not known, or the case was as a whole.
        count: in how many cases.
        compared: how many cases of the target were compared.
    """

    target: str
    rule: str
    operator: str
    count: int
    compared: int


def forgiving(database: Database) -> tuple[CountedRule, ...]:
    """The rules of a campaign, most frequent first."""
    totals = database.totals()
    found = []
    for target, text, count in database.reasons(FORGIVEN):
        rule, _, operator = text.rpartition("|")
        found.append(CountedRule(target, rule, operator, count, totals.get(target, Totals()).compared))
    return tuple(found)
