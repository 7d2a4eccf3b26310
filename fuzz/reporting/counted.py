"""How much a campaign did and found, in numbers: programs, settings and cases apart, for a program makes many cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shakeout.corpus.database import Database
from shakeout.corpus.rows import Totals
from shakeout.fuzz.reporting.bug_list import Group, groups, waiting

__all__ = ["Counted", "counted"]


@dataclass(frozen=True, slots=True)
class Counted:
    """What is counted of a campaign.

    Attributes:
        totals: how far the cases came, by target.
        programs: of which a case was compared, by target; empty for a campaign of a version that did not count them.
        settings: under which they were compared, each program's own, by target; what a metamorphic relation made of
            them, and ran as a case, is none.
        bugs: by where they stand.
        waiting: findings that triage has not come to.
    """

    totals: Mapping[str, Totals]
    programs: Mapping[str, int]
    settings: Mapping[str, int]
    bugs: Mapping[Group, int]
    waiting: int

    @property
    def summary(self) -> str:
        """One line on how the campaign went."""
        whole = sum(self.totals.values(), Totals())
        programs, settings = sum(self.programs.values()), sum(self.settings.values())
        parts = []
        if programs:
            each = f" under {settings / programs:.1f} settings each" if settings > programs else ""
            parts.append(f"{_many(programs, 'program')}{each}")
        parts += [
            f"{_many(whole.compared, 'case')} compared",
            f"{whole.exact:,} bit-exact",
            _many(self.bugs.get("bug", 0), "new bug"),
            f"{self.bugs.get('flaky', 0)} flaky",
            f"{self.bugs.get('internal', 0)} internal",
        ]
        if self.waiting:
            parts.append(f"{_many(self.waiting, 'finding')} waiting for triage")
        return ", ".join(parts)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def counted(database: Database) -> Counted:
    """What a campaign's database counts."""
    return Counted(
        totals=database.totals(),
        programs=database.meta("programs", {}),
        settings=database.meta("settings", {}),
        bugs={group: len(bugs) for group, bugs in groups(database).items()},
        waiting=waiting(database),
    )
