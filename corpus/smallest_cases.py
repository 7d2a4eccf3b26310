"""What a campaign's database keeps of a bug after it was found: its smallest case, and each time it was run again."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["REPLAYED", "TABLES", "Replay", "Replayed", "SmallestCase", "SmallestCases"]

TABLES = """
CREATE TABLE IF NOT EXISTS minimals (
    bug TEXT PRIMARY KEY REFERENCES bugs (id), state TEXT NOT NULL, case_json TEXT NOT NULL, result_json TEXT NOT NULL,
    signature_json TEXT NOT NULL, tries INTEGER NOT NULL, seconds REAL NOT NULL, minimised REAL NOT NULL,
    note TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replays (
    id INTEGER PRIMARY KEY, bug TEXT NOT NULL REFERENCES bugs (id), verdict TEXT NOT NULL, note TEXT NOT NULL,
    versions TEXT NOT NULL, replayed REAL NOT NULL
);
"""

#: What minimising came to: ``complete`` (no pass makes it smaller), ``budget`` (stopped), or ``not reproduced``.
State = Literal["complete", "budget", "not reproduced"]

#: What running a bug again came to. ``changed``: it fails otherwise; ``back``: it was fixed, and fails again.
Replayed = Literal["fixed", "still failing", "changed", "flaky", "cannot run", "back"]
REPLAYED: tuple[Replayed, ...] = ("fixed", "still failing", "changed", "flaky", "cannot run", "back")


@dataclass(frozen=True, slots=True)
class SmallestCase:
    """The smallest case of a bug.

    Attributes:
        bug: its id.
        state: what minimising came to.
        case_json: canonical text of the smallest case; empty if it was not reproduced.
        result: of its last run, in the form of ``Result.to_json``.
        signature: of the smallest case, in the form of ``Signature.to_json``; empty if it is unclassified.
        tries: candidates that were run.
        seconds: that it took.
        minimised: seconds since 1970.
        note: why it was not reproduced.
    """

    bug: str
    state: State
    case_json: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    signature: Mapping[str, Any] = field(default_factory=dict)
    tries: int = 0
    seconds: float = 0.0
    minimised: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """A bug was run again.

    Attributes:
        bug: its id.
        verdict: what came of it, one of ``REPLAYED``.
        note: one line.
        versions: what was installed, by name.
        replayed: seconds since 1970.
    """

    bug: str
    verdict: Replayed
    note: str
    versions: Mapping[str, str]
    replayed: float


class SmallestCases:
    """The part of a database with these two tables; an older file has neither until it is opened to be written."""

    @abstractmethod
    def _rows(self, query: str, *values: Any) -> list[Any]: ...

    @abstractmethod
    def _many(self, query: str, rows: Iterable[Sequence[Any]]) -> None: ...

    def _there(self, table: str) -> bool:
        return bool(self._rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table))

    def smallest_cases(self) -> dict[str, SmallestCase]:
        """The smallest cases by bug; not of those that were merged into another."""
        merged = "bug NOT IN (SELECT id FROM bugs WHERE merged != '')" if self._there("groups") else "TRUE"
        return {row.bug: row for row in self._smallest(merged)}

    def smallest_case(self, bug: str) -> SmallestCase | None:
        """The smallest case of one bug, if it was looked for."""
        return next(self._smallest("bug = ?", bug), None)

    def _smallest(self, where: str, *values: str) -> Iterator[SmallestCase]:
        if not self._there("minimals"):
            return
        names = "bug, state, case_json, result_json, signature_json, tries, seconds, minimised, note"
        query = f"SELECT {names} FROM minimals WHERE {where} ORDER BY bug"
        for bug, state, case, result, signature, *rest in self._rows(query, *values):
            yield SmallestCase(bug, state, case, json.loads(result), json.loads(signature), *rest)

    def set_smallest(self, row: SmallestCase) -> None:
        """Store the smallest case of a bug; the one before is forgotten."""
        values = (row.bug, row.state, row.case_json, json.dumps(row.result), json.dumps(row.signature))
        rest = (row.tries, row.seconds, row.minimised or time.time(), row.note)
        self._many("INSERT OR REPLACE INTO minimals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [(*values, *rest)])

    def replays(self, bug: str = "") -> list[Replay]:
        """Every time that bugs were run again, or that one bug was, oldest first."""
        if not self._there("replays"):
            return []
        query = "SELECT bug, verdict, note, versions, replayed FROM replays WHERE ? IN ('', bug) ORDER BY id"
        return [
            Replay(id_, verdict, note, json.loads(versions), at)
            for id_, verdict, note, versions, at in self._rows(query, bug)
        ]

    def add_replay(self, bug: str, verdict: Replayed, note: str, versions: Mapping[str, str]) -> None:
        """Store that a bug was run again."""
        row = (bug, verdict, note, json.dumps(dict(versions)), time.time())
        self._many("INSERT INTO replays (bug, verdict, note, versions, replayed) VALUES (?, ?, ?, ?, ?)", [row])

    def lives(self) -> dict[str, int]:
        """For each bug that came back after it was fixed, which life it is in: 2 for the first return."""
        if not self._there("replays"):
            return {}
        return dict(self._rows("SELECT bug, 1 + COUNT(*) FROM replays WHERE verdict = 'back' GROUP BY bug"))

    def fixed(self) -> frozenset[str]:
        """Bugs that did not fail any more when they were run last."""
        if not self._there("replays"):
            return frozenset()
        # SQLite takes the other columns from the row with the largest number.
        query = "SELECT bug, verdict, MAX(id) FROM replays WHERE verdict != 'cannot run' GROUP BY bug"
        return frozenset(bug for bug, verdict, _ in self._rows(query) if verdict == "fixed")

    def is_fixed(self, bug: str) -> bool:
        """Whether one bug did not fail any more when it was run last: a campaign asks this for each finding of it."""
        query = "SELECT verdict FROM replays WHERE bug = ? AND verdict != 'cannot run' ORDER BY id DESC LIMIT 1"
        return self._there("replays") and self._rows(query, bug) == [("fixed",)]
