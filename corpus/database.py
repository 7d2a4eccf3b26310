"""The campaign's SQLite file: totals, ledger, findings and bugs, what people decided, and which jobs were handed out.

One process writes (the campaign's supervisor), any number read; what a person decides about a bug is written in
between, in one short transaction.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from shakeout.corpus.grouping import BUGS, FINDINGS, GROUPING, KEPT, Grouping, ImpossibleMove
from shakeout.corpus.rows import STATES, STATUSES, Bug, Decision, Flight, KnownBugReplay, LedgerRow, Totals
from shakeout.corpus.smallest_cases import TABLES, SmallestCases
from shakeout.corpus.sqlite_file import (
    DatabaseError,
    Kind,
    MalformedDatabase,
    NewerDatabase,
    SqliteFile,
    UnusableDatabase,
    version_of,
)

__all__ = [
    "KEPT",
    "NAME",
    "VERSION",
    "Database",
    "DatabaseError",
    "ImpossibleDecision",
    "ImpossibleMove",
    "MalformedDatabase",
    "NewerDatabase",
    "UnknownBug",
    "UnusableDatabase",
]

#: File name in a campaign's directory.
NAME = "shakeout.sqlite"

#: Version of the tables, in ``PRAGMA user_version``; decisions came with the second one, smallest cases with the third;
#: since the fourth a job is stored whole, where before it was a number that a schedule explained; since the fifth a bug
#: is no longer all findings of one coarse signature, and findings wait for triage.
VERSION = 5
_DECISIONS_SINCE = 2

#: "SHKO", in the header of the file: told apart from other programs' databases.
APPLICATION = 0x53484B4F

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE totals (
    target TEXT PRIMARY KEY, {totals}
) WITHOUT ROWID;
CREATE TABLE phases (
    target TEXT NOT NULL, phase TEXT NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (target, phase)
) WITHOUT ROWID;
CREATE TABLE ledger (
    target TEXT NOT NULL, operator TEXT NOT NULL, {ledger}, PRIMARY KEY (target, operator)
) WITHOUT ROWID;
CREATE TABLE reasons (
    target TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (target, status, reason)
) WITHOUT ROWID;
{bugs}{findings}CREATE TABLE known (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, reference TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
    signature TEXT NOT NULL, target TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE flights (job INTEGER PRIMARY KEY, text TEXT NOT NULL, attempts INTEGER NOT NULL);
{decisions}{minimals}{grouping}
"""

_DECISIONS = """
CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY, bug TEXT NOT NULL REFERENCES bugs (id), status TEXT NOT NULL, other TEXT NOT NULL,
    note TEXT NOT NULL, decided REAL NOT NULL
);
"""


class ImpossibleDecision(ValueError):
    """A person said something of a bug that cannot be; the message tells why."""


class UnknownBug(KeyError):
    """There is no bug of that id; the message lists those there are."""

    def __str__(self) -> str:
        return str(self.args[0])


_TOTALS = tuple(f.name for f in fields(Totals))
_LEDGER = tuple(f.name for f in fields(LedgerRow))[2:]


class Database(SqliteFile, SmallestCases, Grouping):
    """One campaign's database. Open it with ``create``, ``open`` or ``read``."""

    KIND = Kind(
        APPLICATION,
        VERSION,
        "database",
        absent="is {0} the directory of a campaign?",
        anew="start a new campaign in another directory",
    )

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, Any] | None = None) -> Database:
        """A new file with empty tables.

        Raises:
            UnusableDatabase: it exists already, or cannot be written.
        """
        if path.exists():
            raise UnusableDatabase(f"{path} exists already; resume that campaign, or choose another directory")
        counts = ", ".join(f"{name} {'REAL' if name == 'seconds' else 'INTEGER'} NOT NULL" for name in _TOTALS)
        ledger = ", ".join(f"{name} INTEGER NOT NULL" for name in _LEDGER)
        parts = {
            "decisions": _DECISIONS,
            "minimals": TABLES,
            "bugs": BUGS,
            "findings": FINDINGS,
            "grouping": GROUPING,
        }
        first = {"next": 0, "spent": 0.0, **(meta or {})}
        rows = [("INSERT INTO meta VALUES (?, ?)", (key, json.dumps(value))) for key, value in first.items()]
        cls._make(path, _SCHEMA.format(totals=counts, ledger=ledger, **parts), rows)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Database:
        """An existing file, to write to it.

        Raises:
            MalformedDatabase, NewerDatabase, UnusableDatabase: with what to do about it.
        """
        return cls(path, cls._opened(path))

    @classmethod
    def read(cls, path: Path) -> Database:
        """An existing file, only to read; also while a campaign writes to it."""
        return cls(path, cls._opened_to_read(path))

    @classmethod
    def _migrate(cls, connection: sqlite3.Connection) -> None:
        """Bring the tables of an earlier version up to date, all at once; ids and rows stay."""
        if version_of(connection) == VERSION:
            return
        # Else what refers to a table would go with it when that takes another name.
        connection.execute("PRAGMA legacy_alter_table=ON")
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Somebody else may have done it while this process waited for the lock.
            if version_of(connection) < VERSION:
                for statement in (*_statements(_DECISIONS + TABLES), *_statements(_TO_FIVE)):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={VERSION}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        connection.execute("PRAGMA legacy_alter_table=OFF")

    # --- reading ----------------------------------------------------------------------------------------------------

    def meta(self, key: str, default: Any = None) -> Any:
        """A value of the table ``meta``: ``plan``, ``next`` (the first job never handed out), ``spent`` (seconds)."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return json.loads(rows[0][0]) if rows else default

    def totals(self) -> dict[str, Totals]:
        """Counts by target."""
        rows = self._rows(f"SELECT target, {', '.join(_TOTALS)} FROM totals ORDER BY target")
        return {row[0]: Totals(*row[1:]) for row in rows}

    def phases(self) -> dict[str, dict[str, float]]:
        """Seconds in workers by target and phase."""
        found: dict[str, dict[str, float]] = {}
        for target, phase, seconds in self._rows("SELECT target, phase, seconds FROM phases ORDER BY target, phase"):
            found.setdefault(target, {})[phase] = seconds
        return found

    def ledger(self) -> list[LedgerRow]:
        """Counts by target and operator."""
        rows = self._rows(f"SELECT target, operator, {', '.join(_LEDGER)} FROM ledger ORDER BY target, operator")
        return [LedgerRow(*row) for row in rows]

    def reasons(self, status: str) -> list[tuple[str, str, int]]:
        """Why cases were ``unsupported``, ``invalid`` or ``infra``: target, reason and count, most frequent first."""
        query = "SELECT target, reason, count FROM reasons WHERE status = ? ORDER BY count DESC, target, reason"
        return [(target, reason, count) for target, reason, count in self._rows(query, status)]

    def bugs(self) -> list[Bug]:
        """Every bug as one row, in the order in which they were first seen; not those that were merged into another."""
        return [_bug(row) for row in self._rows(f"SELECT {_BUG} FROM bugs {self._own} ORDER BY first_seen, id")]

    @property
    def _own(self) -> str:
        """A clause that leaves out what was merged into another bug."""
        return "WHERE merged = ''" if self._there("groups") else "WHERE 1"

    def bug(self, id_: str) -> Bug:
        """One bug, by id or by an unambiguous beginning of it, with or without ``SH-``; of a merged one, where it went.

        Raises:
            UnknownBug: there is none, or there are several.
        """
        exactly = self._rows(f"SELECT {_BUG} FROM bugs {self._own} AND id = ?", id_)
        if exactly:
            return _bug(exactly[0])
        wanted = id_.upper().removeprefix("SH-").lower()
        if self._there("groups") and (gone := self._rows(_GONE, f"SH-{wanted}")):
            return self.bug(gone[0][0])
        known = self.bugs()
        found = [bug for bug in known if bug.id.removeprefix("SH-").startswith(wanted)] if wanted else []
        exact = [bug for bug in found if bug.id.removeprefix("SH-") == wanted]
        if len(exact or found) == 1:
            return (exact or found)[0]
        listed = ", ".join(bug.id for bug in known[:20]) or "none"
        raise UnknownBug(f"{'several bugs begin' if found else 'no bug begins'} with {id_!r}; there are: {listed}")

    def bug_of(self, signature: str) -> Bug | None:
        """The first bug that was opened with a coarse signature."""
        query = f"SELECT {_BUG} FROM bugs {self._own} AND signature = ? ORDER BY first_seen, id LIMIT 1"
        rows = self._rows(query, signature)
        return _bug(rows[0]) if rows else None

    def decisions(self) -> list[Decision]:
        """All that people said of bugs, oldest first; the last one about a bug counts."""
        with self._explained(self.path):
            if version_of(self._connection) < _DECISIONS_SINCE:
                return []
        return [Decision(*row) for row in self._rows(f"SELECT {_DECISION} FROM decisions ORDER BY id")]

    def standing(self) -> dict[str, Decision]:
        """By bug, what was said last; nothing of those that are open."""
        last = {decision.bug: decision for decision in self.decisions()}
        return {bug: decision for bug, decision in last.items() if decision.status != "open"}

    def states(self) -> dict[str, int]:
        """Number of bugs by state."""
        return dict(self._rows(f"SELECT state, COUNT(*) FROM bugs {self._own} GROUP BY state"))

    def known(self) -> list[KnownBugReplay]:
        """What became of the shipped known bugs."""
        query = "SELECT id, title, reference, state, reason, signature, target FROM known ORDER BY id"
        return [KnownBugReplay(*row) for row in self._rows(query)]

    def flights(self) -> list[Flight]:
        """Jobs handed out and never answered."""
        return [Flight(*row) for row in self._rows("SELECT job, text, attempts FROM flights ORDER BY job")]

    # --- writing ----------------------------------------------------------------------------------------------------

    def set_meta(self, **values: Any) -> None:
        """Set values of the table ``meta``."""
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        self._many("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", rows)

    def hand_out(self, job: int, text: str) -> None:
        """Note that a job is in flight, and that it is not new any more."""
        query = "INSERT INTO flights VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET attempts = attempts + 1"
        self._many(query, [(job, text)])
        # The value is JSON, and a whole number's JSON is its digits.
        query = "UPDATE meta SET value = MAX(CAST(value AS INTEGER), ?) WHERE key = 'next'"
        self._many(query, [(job + 1,)])

    def land(self, job: int) -> None:
        """Note that a job was answered."""
        self._many("DELETE FROM flights WHERE job = ?", [(job,)])

    def add(
        self,
        target: str,
        counts: Totals,
        *,
        operators: Iterable[str] = (),
        fed: Iterable[str] = (),
        phases: Mapping[str, float] | None = None,
        status: str = "",
        reason: str = "",
    ) -> None:
        """Add one case to totals, ledger and reasons."""
        names = ", ".join(_TOTALS)
        update = ", ".join(f"{name} = {name} + excluded.{name}" for name in _TOTALS)
        values = [getattr(counts, name) for name in _TOTALS]
        marks = ", ".join("?" * len(_TOTALS))
        self._many(
            f"INSERT INTO totals (target, {names}) VALUES (?, {marks}) ON CONFLICT DO UPDATE SET {update}",
            [(target, *values)],
        )
        fed = set(fed)
        row = [getattr(counts, name) for name in _LEDGER[:-1]]
        update = ", ".join(f"{name} = {name} + excluded.{name}" for name in _LEDGER)
        marks = ", ".join("?" * len(_LEDGER))
        self._many(
            f"INSERT INTO ledger VALUES (?, ?, {marks}) ON CONFLICT DO UPDATE SET {update}",
            [(target, operator, *row, int(operator in fed)) for operator in sorted(set(operators))],
        )
        self._many(
            "INSERT INTO phases VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds",
            [(target, phase, seconds) for phase, seconds in (phases or {}).items()],
        )
        if reason:
            query = "INSERT INTO reasons VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1"
            self._many(query, [(target, status, reason[:200])])

    def add_finding(
        self,
        *,
        signature: str,
        title: str,
        target: str,
        oracle: str,
        symptom: str,
        job: int,
        case_id: str,
        case_json: str,
        result: Mapping[str, Any],
        script: str = "",
        history: Sequence[Mapping[str, Any]] = (),
        state: str = "new",
        known: str = "",
    ) -> tuple[Bug, int | None]:
        """Store a finding of the bug with its coarse signature, which is opened if there is none.

        Returns:
            The bug, and the finding's number if the case was kept in full.
        """
        bug = self.bug_of(signature)
        if bug is None:
            said = {"title": title, "target": target, "oracle": oracle, "symptom": symptom, "known": known}
            bug = self.open_bug(signature, signature=signature, state=state, index=job, seen=time.time(), **said)
        self.count(bug.id, target, symptom)
        number = self.store(
            bug.id,
            signature=signature,
            job=job,
            case_id=case_id,
            case_json=case_json,
            result=result,
            script=script,
            history=history,
            state=state,
        )
        return self.bug(bug.id), number

    def set_script(self, finding: int, script: str) -> None:
        """Store the script of a finding, where the worker that found it died before it could send one."""
        self._many("UPDATE findings SET script = ? WHERE id = ?", [(script, finding)])

    def judge(self, finding: int, *, state: str, k: int, n: int, note: str = "") -> Bug | None:
        """Store what became of a finding in fresh processes; its bug takes the strongest state of its findings.

        None if the finding was not kept.
        """
        self._many("UPDATE findings SET state = ?, k = ?, n = ? WHERE id = ?", [(state, k, n, finding)])
        rows = self._rows("SELECT bug FROM findings WHERE id = ?", finding)
        if not rows:
            return None
        bug_id = rows[0][0]
        bug = self.bug(bug_id)
        if bug.n == 0 or STATES.index(state) > STATES.index(bug.state):
            query = "UPDATE bugs SET state = ?, k = ?, n = ?, note = ? WHERE id = ?"
            self._many(query, [(state, k, n, note, bug_id)])
        return self.bug(bug_id)

    def decide(self, bug: str, status: str, *, other: str = "", note: str = "") -> Decision:
        """Store what a person says of a bug; what was said before stays in the history.

        Raises:
            UnknownBug: there is no such bug, or no such other one.
            ImpossibleDecision: no such status; a duplicate of nothing, of itself, or of one of its own duplicates.
        """
        if status not in STATUSES:
            raise ImpossibleDecision(f"{status!r} is no status; choose one of {', '.join(STATUSES)}")
        if (status == "duplicate-of") != bool(other):
            raise ImpossibleDecision("duplicate-of takes the id of the other bug, and only duplicate-of does")
        with self.transaction():
            id_ = self.bug(bug).id
            original = self.bug(other).id if other else ""
            standing, seen = self.standing(), original
            while seen:
                if seen == id_:
                    raise ImpossibleDecision(f"{original} is {id_} itself, or counts as its duplicate already")
                seen = standing[seen].other if seen in standing else ""
            decision = Decision(id_, status, original, note, time.time())
            values = [getattr(decision, f.name) for f in fields(Decision)]
            self._many(f"INSERT INTO decisions ({_DECISION}) VALUES (?, ?, ?, ?, ?)", [values])
        return decision

    def reopen(self, bug: str) -> None:
        """A bug that was fixed is back: it is new again, and what a person said of it stays in the history.

        A person's decision that closed it is taken back, because it was about its life before.
        """
        self._many("UPDATE bugs SET state = 'new', k = 0, n = 0, note = '' WHERE id = ?", [(bug,)])
        said = self.standing().get(bug)
        if said is not None and said.status in ("reported", "invalid", "wontfix"):
            self.decide(bug, "open", note="it was fixed, and is back")

    def set_known(self, row: KnownBugReplay) -> None:
        """Store what became of a shipped known bug."""
        values = tuple(getattr(row, f.name) for f in fields(row))
        self._many("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?, ?, ?)", [values])

    # --- inside -----------------------------------------------------------------------------------------------------

    def _fresh_id(self, identity: str) -> str:
        digest = hashlib.sha256(identity.encode()).hexdigest()
        taken = {row[0] for row in self._rows("SELECT id FROM bugs")}
        for length in range(4, len(digest)):
            if (found := f"SH-{digest[:length]}") not in taken:
                return found
        raise AssertionError("too many bugs with one identity")


_BUG = ", ".join(f.name for f in fields(Bug))
_DECISION = ", ".join(f.name for f in fields(Decision))
_GONE = "SELECT merged FROM bugs WHERE id = ? AND merged != ''"


def _bug(row: Sequence[Any]) -> Bug:
    return Bug(*row)


def _statements(text: str) -> list[str]:
    return [part for part in text.split(";") if part.strip()]


#: A bug was all findings of one coarse signature; so each is the bug of a group now, and all of it was seen where its
#: first finding was.
_TO_FIVE = f"""
ALTER TABLE bugs RENAME TO old_bugs;
ALTER TABLE findings RENAME TO old_findings;
DROP INDEX IF EXISTS findings_by_bug;
{BUGS}{FINDINGS}{GROUPING}
INSERT INTO bugs SELECT {_BUG}, '' FROM old_bugs;
INSERT INTO findings SELECT f.id, f.bug, f.job, f.case_id, f.case_json, f.result_json, f.script, f.history, f.seen,
    f.state, f.k, f.n, b.signature, '', '{{}}' FROM old_findings f JOIN old_bugs b ON b.id = f.bug;
INSERT INTO groups SELECT signature, id, count, 0 FROM bugs WHERE state NOT IN ('known', 'internal');
INSERT INTO sightings SELECT id, target, symptom, count FROM bugs;
DROP TABLE old_findings;
DROP TABLE old_bugs
"""
