"""What oracles remarked in a campaign beside their verdicts, counted."""

from __future__ import annotations

from dataclasses import dataclass

from shakeout.corpus.database import Database
from shakeout.corpus.rows import Totals
from shakeout.fuzz.campaign.ledger import NOTE
from shakeout.oracles.verdict import Note

__all__ = ["CountedNote", "noted"]


@dataclass(frozen=True, slots=True)
class CountedNote:
    """One remark about one target.

    Attributes:
        target: its name.
        note: what was said.
        count: of how many cases it was said.
        compared: how many cases of the target were compared.
    """

    target: str
    note: Note
    count: int
    compared: int

    @property
    def line(self) -> str:
        """For a person."""
        advice = f"; {self.note.advice}" if self.note.advice else ""
        return f"{self.target}: {self.note.text} in {self.count:,} of {self.compared:,} cases{advice}"


def noted(database: Database) -> tuple[CountedNote, ...]:
    """The notes of a campaign, most frequent first."""
    totals = database.totals()
    return tuple(
        CountedNote(target, Note.read(text), count, totals.get(target, Totals()).compared)
        for target, text, count in database.reasons(NOTE)
    )
