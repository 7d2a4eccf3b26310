"""Which findings are which bug: what waits for triage, what is counted under a bug, and what was merged or split.

A finding that comes in belongs to a *group*, those with one coarse signature. Groups decide which findings are looked
at and nothing else: what is one bug is decided by smallest cases.
"""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from shakeout.corpus.rows import STATES, Bug, Finding, Group, Move, Sighting

__all__ = ["BUGS", "FINDINGS", "GROUPING", "KEPT", "Grouping", "ImpossibleMove"]

#: Cases kept in full for one bug; further ones are counted. A frequent bug would otherwise fill the file.
KEPT = 10

#: In the order of the fields of ``Bug``; behind them, for a bug that was merged into another, that one's id.
BUGS = """
CREATE TABLE bugs (
    id TEXT PRIMARY KEY, signature TEXT NOT NULL, title TEXT NOT NULL, target TEXT NOT NULL,
    oracle TEXT NOT NULL, symptom TEXT NOT NULL, state TEXT NOT NULL, k INTEGER NOT NULL, n INTEGER NOT NULL,
    count INTEGER NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL, first_index INTEGER NOT NULL,
    known TEXT NOT NULL, note TEXT NOT NULL, merged TEXT NOT NULL DEFAULT ''
);
CREATE INDEX bugs_by_signature ON bugs (signature);
"""

#: Without a bug a finding waits.
FINDINGS = """
CREATE TABLE findings (
    id INTEGER PRIMARY KEY, bug TEXT REFERENCES bugs (id), job INTEGER NOT NULL, case_id TEXT NOT NULL,
    case_json TEXT NOT NULL, result_json TEXT NOT NULL, script TEXT NOT NULL, history TEXT NOT NULL,
    seen REAL NOT NULL, state TEXT NOT NULL, k INTEGER NOT NULL, n INTEGER NOT NULL,
    signature TEXT NOT NULL DEFAULT '', small TEXT NOT NULL DEFAULT '', small_result TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX findings_by_bug ON findings (bug, signature);
"""

GROUPING = """
CREATE TABLE groups (
    signature TEXT PRIMARY KEY, bug TEXT NOT NULL, seen INTEGER NOT NULL, pending INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE sightings (
    bug TEXT NOT NULL REFERENCES bugs (id), target TEXT NOT NULL, symptom TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (bug, target, symptom)
) WITHOUT ROWID;
CREATE TABLE moves (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, bug TEXT NOT NULL, other TEXT NOT NULL, findings TEXT NOT NULL,
    count INTEGER NOT NULL, why TEXT NOT NULL, moved REAL NOT NULL
);
"""

_OLD = ("id", "bug", "job", "case_id", "case_json", "result_json", "script", "history", "seen", "state", "k", "n")
_NEW = (*_OLD, "signature", "small", "small_result")

#: A bug without a smallest case takes that of the one that is merged into it.
_INHERIT = """
INSERT OR IGNORE INTO minimals SELECT ?, state, case_json, result_json, signature_json, tries, seconds, minimised, note
FROM minimals WHERE bug = ?
"""


class ImpossibleMove(ValueError):
    """Bugs cannot be merged or split so; the message tells why."""


class Grouping:
    """The part of a database that says which findings are which bug."""

    @abstractmethod
    def _rows(self, query: str, *values: Any) -> list[Any]: ...

    @abstractmethod
    def _many(self, query: str, rows: Iterable[Sequence[Any]]) -> None: ...

    @abstractmethod
    def _insert(self, query: str, values: Sequence[Any]) -> int: ...

    @abstractmethod
    def _there(self, table: str) -> bool: ...

    @abstractmethod
    def _fresh_id(self, identity: str) -> str: ...

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside are committed together, or none."""

    @abstractmethod
    def bug(self, id_: str) -> Bug:
        """One bug."""

    # --- reading ----------------------------------------------------------------------------------------------------

    def findings(self, bug: str) -> list[Finding]:
        """The stored findings of a bug, oldest first."""
        return list(self._found("WHERE bug = ?", bug))

    def waiting(self) -> int:
        """How many findings wait for triage."""
        return int(self._rows("SELECT COUNT(*) FROM findings WHERE bug IS NULL")[0][0])

    def waiting_findings(self) -> list[Finding]:
        """The findings that wait for triage, oldest first."""
        return list(self._found("WHERE bug IS NULL"))

    def seen(self, finding: int) -> float:
        """When a finding was seen, in seconds since 1970."""
        return float(self._rows("SELECT seen FROM findings WHERE id = ?", finding)[0][0])

    def assigned(self, finding: int) -> str:
        """Id of the bug that a finding is of; empty if it waits, or was counted under one and forgotten."""
        rows = self._rows("SELECT bug FROM findings WHERE id = ?", finding)
        return str(rows[0][0] or "") if rows else ""

    def reduced(self) -> Iterator[Finding]:
        """The findings of bugs of which a smallest case was made, oldest first."""
        if self._there("groups"):
            yield from self._found("WHERE bug IS NOT NULL AND small != ''")

    def group(self, signature: str) -> Group:
        """The findings with one coarse signature."""
        rows = self._rows("SELECT signature, bug, seen, pending FROM groups WHERE signature = ?", signature)
        return Group(*rows[0]) if rows else Group(signature)

    def sightings(self) -> dict[str, tuple[Sighting, ...]]:
        """For each bug on which targets and with which symptoms it was seen, most often first."""
        if not self._there("groups"):
            return {
                id_: (Sighting(target, symptom, count),)
                for id_, target, symptom, count in self._rows("SELECT id, target, symptom, count FROM bugs")
            }
        found: dict[str, list[Sighting]] = {}
        query = "SELECT bug, target, symptom, count FROM sightings ORDER BY count DESC, target, symptom"
        for bug, *rest in self._rows(query):
            found.setdefault(bug, []).append(Sighting(*rest))
        return {bug: tuple(rows) for bug, rows in found.items()}

    def moves(self, bug: str = "") -> list[Move]:
        """What was merged and split, of all bugs or of one, oldest first."""
        if not self._there("groups"):
            return []
        query = (
            "SELECT kind, bug, other, findings, count, why, moved FROM moves WHERE ? IN ('', bug, other) ORDER BY id"
        )
        return [
            Move(kind, one, other, tuple(json.loads(findings)), count, why, moved)
            for kind, one, other, findings, count, why, moved in self._rows(query, bug)
        ]

    def _found(self, where: str, *values: Any) -> Iterator[Finding]:
        names = _NEW if self._there("groups") else _OLD
        for row in self._rows(f"SELECT {', '.join(names)} FROM findings {where} ORDER BY id", *values):
            data = dict(zip(names, row, strict=True))
            data["bug"] = data["bug"] or ""
            data["result"] = json.loads(data.pop("result_json"))
            data["history"] = tuple(json.loads(data["history"]))
            data["small_result"] = json.loads(data.get("small_result", "{}"))
            yield Finding(**data)

    # --- findings come in; all inside a transaction of the owner ------------------------------------------------------

    def meet(self, signature: str) -> Group:
        """One more finding of a group that nothing explained; the group with it."""
        query = "INSERT INTO groups VALUES (?, '', 1, 0) ON CONFLICT DO UPDATE SET seen = seen + 1"
        self._many(query, [(signature,)])
        return self.group(signature)

    def pend(self, signature: str) -> None:
        """A finding of a group will be counted under the bug that one of the group turns out to be."""
        self._many("UPDATE groups SET pending = pending + 1 WHERE signature = ?", [(signature,)])

    def store(
        self,
        bug: str | None,
        *,
        signature: str,
        job: int,
        case_id: str,
        case_json: str,
        result: Mapping[str, Any],
        script: str = "",
        history: Sequence[Mapping[str, Any]] = (),
        state: str = "new",
    ) -> int | None:
        """Keep a finding in full, of a bug or waiting; its number, or None where enough are kept or this case is."""
        # Of a bug a few are kept, and thousands may wait: an index leads to those of the group.
        where, value = ("bug IS NULL AND signature = ?", signature) if bug is None else ("bug = ?", bug)
        kept, same = self._rows(f"SELECT COUNT(*), SUM(case_id = ?) FROM findings WHERE {where}", case_id, value)[0]
        if (bug is not None and kept >= KEPT) or (same and case_id):
            return None
        row = (bug, job, case_id, case_json, json.dumps(result), script, json.dumps(list(history)), time.time(), state)
        return self._insert(
            "INSERT INTO findings (bug, job, case_id, case_json, result_json, script, history, seen, state, k, n,"
            " signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?)",
            (*row, signature),
        )

    def make_room(self, bug: str) -> None:
        """See to it that one more finding of a bug can be kept: where enough are, forget the one that shows least."""
        kept = self.findings(bug)
        if len(kept) >= KEPT:
            least = min(kept, key=lambda one: (one.k, bool(one.small), -len(one.case_json), one.id))
            self._many("DELETE FROM findings WHERE id = ?", [(least.id,)])

    def count(self, bug: str, target: str, symptom: str, cases: int = 1) -> None:
        """Count cases that showed a bug."""
        self._many("UPDATE bugs SET count = count + ?, last_seen = ? WHERE id = ?", [(cases, time.time(), bug)])
        self._sight(bug, target, symptom, cases)

    def _sight(self, bug: str, target: str, symptom: str, cases: int) -> None:
        query = "INSERT INTO sightings VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"
        self._many(query, [(bug, target, symptom, cases)])

    def open_bug(
        self,
        identity: str,
        *,
        signature: str,
        title: str,
        target: str,
        oracle: str,
        symptom: str,
        state: str,
        known: str = "",
        index: int,
        seen: float,
    ) -> Bug:
        """A new bug without findings.

        Args:
            identity: what tells it apart; its id is made of that.
            signature: the coarse one of the finding with which it is opened.
            title, target, oracle, symptom: of that finding.
            state: one of ``STATES``.
            index: the job that showed it first.
            seen: when that was.
            known: id of the shipped known bug that it is.
        """
        id_ = self._fresh_id(identity)
        row = (id_, signature, title, target, oracle, symptom, state, 0, 0, 0, seen, seen, index, known, "")
        self._many(f"INSERT INTO bugs VALUES ({', '.join('?' * 15)}, '')", [row])
        return self.bug(id_)

    def assign(self, finding: int, bug: str) -> None:
        """A waiting finding is one of a bug, and with it those of its group that wait to be counted.

        Where enough are kept of the bug it is only counted, and its case forgotten.
        """
        (signature, text), *_ = self._rows("SELECT signature, result_json FROM findings WHERE id = ?", finding)
        if self._rows("SELECT COUNT(*) FROM findings WHERE bug = ?", bug)[0][0] < KEPT:
            self._many("UPDATE findings SET bug = ? WHERE id = ?", [(bug, finding)])
        else:
            self._many("DELETE FROM findings WHERE id = ?", [(finding,)])
        target, symptom = _seen(json.loads(text))
        group = self.group(signature)
        self.count(bug, target, symptom, 1 + group.pending)
        query = "UPDATE groups SET pending = 0, bug = CASE bug WHEN '' THEN ? ELSE bug END WHERE signature = ?"
        self._many(query, [(bug, signature)])

    def set_small(self, finding: int, case: str, result: Mapping[str, Any]) -> None:
        """Store the smallest case that was made of a finding, and what came of it."""
        query = "UPDATE findings SET small = ?, small_result = ? WHERE id = ?"
        self._many(query, [(case, json.dumps(result), finding)])

    # --- bugs become one, or two ------------------------------------------------------------------------------------

    def merge(self, bug: str, other: str, why: str = "by hand") -> Bug:
        """All findings of ``other`` are of ``bug`` from now on; ``split`` takes it back.

        Raises:
            UnknownBug: there is no such bug.
            ImpossibleMove: both are one already.
        """
        with self.transaction():
            into, gone = self.bug(bug), self.bug(other)
            if into.id == gone.id:
                raise ImpossibleMove(f"{into.id} cannot be merged with itself")
            findings = [finding.id for finding in self.findings(gone.id)]
            self._shift(gone.id, into.id, findings)
            for one in self.sightings().get(gone.id, ()):
                self._sight(into.id, one.target, one.symptom, one.count)
            self._many("UPDATE groups SET bug = ? WHERE bug = ?", [(into.id, gone.id)])
            self._many("UPDATE bugs SET merged = ? WHERE id = ?", [(into.id, gone.id)])
            self._many("UPDATE bugs SET merged = ? WHERE merged = ?", [(into.id, gone.id)])
            self._many(_INHERIT, [(into.id, gone.id)])
            times = (min(into.first_seen, gone.first_seen), max(into.last_seen, gone.last_seen))
            query = "UPDATE bugs SET count = count + ?, first_seen = ?, last_seen = ? WHERE id = ?"
            self._many(query, [(gone.count, *times, into.id)])
            if STATES.index(gone.state) > STATES.index(into.state):
                query = "UPDATE bugs SET state = ?, k = ?, n = ?, note = ? WHERE id = ?"
                self._many(query, [(gone.state, gone.k, gone.n, gone.note, into.id)])
            self._move("merge", into.id, gone.id, findings, gone.count, why)
            return self.bug(into.id)

    def split(self, bug: str, findings: Sequence[int], why: str = "by hand") -> Bug:
        """Some findings of a bug are another one: the one that they were before it was merged, or a new one.

        Raises:
            UnknownBug: there is no such bug.
            ImpossibleMove: they are not all of this bug, or nothing would be left of it.
        """
        with self.transaction():
            whole = self.bug(bug)
            stored = {finding.id: finding for finding in self.findings(whole.id)}
            chosen = sorted(set(findings))
            listed = ", ".join(map(str, stored)) or "none"
            if not chosen or not set(chosen) <= set(stored):
                raise ImpossibleMove(f"{whole.id} has the findings {listed}; say which of them are another bug")
            if len(chosen) == len(stored):
                raise ImpossibleMove(f"{whole.id} has no other findings than {listed}; one has to stay")
            before = self._before(whole.id, chosen)
            if before is not None:
                other, count = before.other, before.count
                self._many("UPDATE bugs SET merged = '' WHERE id = ?", [(other,)])
                seen = {(one.target, one.symptom): one.count for one in self.sightings().get(other, ())}
            else:
                first = stored[chosen[0]]
                count, seen = len(chosen), Counter(_seen(stored[one].result) for one in chosen)
                (target, symptom), verdict = _seen(first.result), _failing(first.result)
                identity = f"{whole.id} {' '.join(map(str, chosen))}"
                other = self.open_bug(
                    identity,
                    signature=first.signature or whole.signature,
                    title=f"{target}: {symptom}. {verdict.get('message', '')}".splitlines()[0][:200],
                    target=target,
                    oracle=str(verdict.get("oracle", whole.oracle)),
                    symptom=symptom,
                    state="new",
                    index=first.job,
                    seen=first.seen,
                ).id
                self._many("UPDATE bugs SET count = ? WHERE id = ?", [(count, other)])
                for (target, symptom), cases in seen.items():
                    self._sight(other, target, symptom, cases)
            self._shift(whole.id, other, chosen)
            for (target, symptom), cases in seen.items():
                self._sight(whole.id, target, symptom, -cases)
            self._many("DELETE FROM sightings WHERE bug = ? AND count <= 0", [(whole.id,)])
            self._many("UPDATE bugs SET count = MAX(count - ?, 0) WHERE id = ?", [(count, whole.id)])
            self._move("split", whole.id, other, chosen, count, why)
            return self.bug(other)

    def apart(self, bug: str, other: str) -> bool:
        """Whether somebody split two bugs, so that they are not merged by themselves."""
        pair = {bug, other}
        last = next((move for move in reversed(self.moves(bug)) if {move.bug, move.other} == pair), None)
        return last is not None and last.kind == "split"

    def _before(self, bug: str, findings: Sequence[int]) -> Move | None:
        """The merge that brought exactly these findings, if nothing has taken it back."""
        for move in reversed(self.moves(bug)):
            if move.bug == bug and list(move.findings) == list(findings):
                return move if move.kind == "merge" else None
        return None

    def _shift(self, source: str, sink: str, findings: Sequence[int]) -> None:
        query = "UPDATE findings SET bug = ? WHERE bug = ? AND id = ?"
        self._many(query, [(sink, source, finding) for finding in findings])

    def _move(self, kind: str, bug: str, other: str, findings: Sequence[int], count: int, why: str) -> None:
        query = "INSERT INTO moves (kind, bug, other, findings, count, why, moved) VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._many(query, [(kind, bug, other, json.dumps(list(findings)), count, why, time.time())])


def _failing(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first failing verdict of a stored result."""
    verdicts: Sequence[Mapping[str, Any]] = result.get("verdicts", ())
    return next((verdict for verdict in verdicts if verdict.get("outcome") == "fail"), {})


def _seen(result: Mapping[str, Any]) -> tuple[str, str]:
    """Target and symptom of a stored result."""
    return str(result.get("target", "")), str(_failing(result).get("symptom", ""))
