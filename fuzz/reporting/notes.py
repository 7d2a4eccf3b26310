"""What oracles remarked in a campaign beside their verdicts, counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shakeout.corpus.database import Database
from shakeout.corpus.rows import Totals
from shakeout.fuzz.campaign.ledger import FIRED, NOTE, PASSED
from shakeout.oracles.verdict import Note

__all__ = ["CHANGED", "NEVER", "CountedNote", "noted"]


@dataclass(frozen=True, slots=True)
class CountedNote:
    """One remark about one target.

    Attributes:
        target: its name.
        note: what was said.
        count: of how many cases it was said.
        compared: how many cases of the target were compared, or ran with its pass.
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
    """The notes of a campaign: first how often passes changed a graph, then what oracles said, most frequent first."""
    totals = database.totals()
    return (
        *_fired(database),
        *(
            CountedNote(target, Note.read(text), count, totals.get(target, Totals()).compared)
            for target, text, count in database.reasons(NOTE)
        ),
    )


#: What a pass did, and what to do about one that did nothing.
CHANGED = Note("the pass changed a graph")
NEVER = Note(
    "the pass changed a graph",
    "it was not tested: declare programs that contain what it looks for, as it meets them at its level",
)


def _fired(database: Database) -> Iterator[CountedNote]:
    fired = database.meta(FIRED, {})
    for target, cases in sorted(database.meta(PASSED, {}).items()):
        count = fired.get(target, 0)
        yield CountedNote(target, CHANGED if count else NEVER, count, cases)
