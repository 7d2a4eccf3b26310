"""Interesting cases of a campaign, and what was learnt of what competes: an SQLite file in its directory.

A file of its own beside the campaign's database: it is merged and exported, and to lose it would cost time, and no
finding. One process writes. Every change is one transaction under write-ahead logging, so ``kill -9`` loses at most
what the case in hand would have added.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from shakeout.corpus.sqlite_file import Kind, SqliteFile
from shakeout.fuzz.steering.arms import Arm
from shakeout.fuzz.steering.features import packed, unpacked

__all__ = ["NAME", "Decision", "Entry", "State", "Store"]

#: File name in a campaign's directory.
NAME = "corpus.sqlite"

#: "SHKC", in the header of the file: told apart from other programs' databases.
APPLICATION = 0x53484B43
VERSION = 1

#: What an entry is: it added something (``candidate``), and did so again (``kept``) or not (``dropped``); it ended its
#: worker, or ran out of its time (``quarantined``), and nothing is made of it; or it was kept by another build of what
#: is tested, or comes from another campaign, and has to show again what it is worth (``stale``).
State = Literal["candidate", "kept", "dropped", "quarantined", "stale"]
STATES: tuple[State, ...] = get_args(State)

_TABLES = """
CREATE TABLE entries (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, target TEXT NOT NULL, text TEXT NOT NULL, build TEXT NOT NULL,
    generator TEXT NOT NULL, mutators TEXT NOT NULL, parents TEXT NOT NULL, counts TEXT NOT NULL, keys BLOB NOT NULL,
    words TEXT NOT NULL, status TEXT NOT NULL, seconds REAL NOT NULL, tries INTEGER NOT NULL, again INTEGER NOT NULL,
    chosen INTEGER NOT NULL, yielded REAL NOT NULL, reward REAL NOT NULL, number INTEGER NOT NULL, found REAL NOT NULL,
    reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE words (word TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE arms (
    kind TEXT NOT NULL, name TEXT NOT NULL, tries INTEGER NOT NULL, reward REAL NOT NULL, seconds REAL NOT NULL,
    recent REAL NOT NULL, spent REAL NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY, target TEXT NOT NULL, generator TEXT NOT NULL, mutators TEXT NOT NULL,
    parents TEXT NOT NULL, reward REAL, seconds REAL
);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One interesting case.

    Attributes:
        id: of the case.
        state: one of ``STATES``.
        target: that it ran on.
        text: the case.
        build: versions of what was tested, as text.
        generator: what made it: ``grow``, ``motif``, ``mutate``, ``transfer``.
        mutators: in order, where it was made of another case; the motif where of one.
        parents: ids of the cases that it was made of.
        counts: how many features it added, by source.
        keys: the features that it added, of all sources but the space of cases.
        words: its features in the space of cases, all of them.
        status: of its result.
        seconds: that it took.
        tries: how often it was run again, to see whether it shows the same.
        again: how often it did.
        chosen: cases that were made of it.
        yielded: their reward.
        reward: its own.
        number: of the job that made it; -1 if another campaign's did.
        found: seconds since 1970.
        reason: why it was dropped or quarantined.
    """

    id: str
    state: State
    target: str
    text: str
    build: str = ""
    generator: str = "grow"
    mutators: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    counts: Mapping[str, int] | None = None
    keys: frozenset[int] = frozenset()
    words: tuple[str, ...] = ()
    status: str = ""
    seconds: float = 0.0
    tries: int = 0
    again: int = 0
    chosen: int = 0
    yielded: float = 0.0
    reward: float = 0.0
    number: int = -1
    found: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about one job, and what came of it.

    Attributes:
        number: of the job.
        target: that it was given to.
        generator: that made its case.
        mutators: that were asked for, or the motif.
        parents: ids of the cases that it was made of.
        reward: what its cases added; None while it is in hand.
        seconds: that they took.
    """

    number: int
    target: str
    generator: str
    mutators: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    reward: float | None = None
    seconds: float | None = None


_ENTRY = tuple(Entry.__slots__)
_ARM = tuple(Arm.__slots__)


class Store(SqliteFile):
    """The file of one campaign, or one that was exported. Use it as a context manager.

    Args:
        path: of the file; it is made where there is none.
        write: whether it will be written to.

    Raises:
        DatabaseError: with what to do about it.
    """

    KIND = Kind(
        APPLICATION,
        VERSION,
        "corpus",
        absent="the campaign of {0} was none with --coverage",
        anew="move it away, and the campaign begins another one",
    )

    def __init__(self, path: Path, *, write: bool = True) -> None:
        if write and not path.exists():
            self._make(path, _TABLES)
        super().__init__(path, self._opened(path) if write else self._opened_to_read(path))

    # --- entries ----------------------------------------------------------------------------------------------------

    def entries(self, *states: State) -> list[Entry]:
        """Entries in these states, or all, in the order in which they were found."""
        wanted = states or STATES
        marks = ", ".join("?" * len(wanted))
        query = f"SELECT {', '.join(_ENTRY)} FROM entries WHERE state IN ({marks}) ORDER BY found, id"
        return [_entry(row) for row in self._rows(query, *wanted)]

    def entry(self, id_: str) -> Entry | None:
        """The entry whose id begins so, if there is just one."""
        query = f"SELECT {', '.join(_ENTRY)} FROM entries WHERE substr(id, 1, ?) = ? LIMIT 2"
        rows = self._rows(query, len(id_), id_) if id_ else []
        return _entry(rows[0]) if len(rows) == 1 else None

    def put(self, entry: Entry) -> None:
        """Store an entry; what stood under its id before is forgotten."""
        row = (
            *(entry.id, entry.state, entry.target, entry.text, entry.build, entry.generator),
            *map(json.dumps, (entry.mutators, entry.parents, dict(entry.counts or {}))),
            packed(entry.keys),
            json.dumps(entry.words),
            *(entry.status, entry.seconds, entry.tries, entry.again, entry.chosen, entry.yielded, entry.reward),
            *(entry.number, entry.found or time.time(), entry.reason),
        )
        self._write(f"INSERT OR REPLACE INTO entries VALUES ({', '.join('?' * len(row))})", [row])

    def use(self, id_: str, reward: float) -> None:
        """One more case was made of an entry, and yielded so much; the rest of the entry stays."""
        query = "UPDATE entries SET chosen = chosen + 1, yielded = yielded + ? WHERE id = ?"
        self._write(query, [(reward, id_)])

    def counts(self) -> dict[str, int]:
        """How many entries there are in each state."""
        found = dict(self._rows("SELECT state, COUNT(*) FROM entries GROUP BY state"))
        return {state: found.get(state, 0) for state in STATES}

    # --- what was learnt --------------------------------------------------------------------------------------------

    def words(self) -> dict[str, int]:
        """In how many cases each feature was seen."""
        return dict(self._rows("SELECT word, count FROM words"))

    def count(self, words: Iterable[str]) -> None:
        """One more case with these features."""
        query = "INSERT INTO words VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1"
        self._write(query, [(word,) for word in words])

    def arms(self) -> dict[str, dict[str, Arm]]:
        """What is known of what competes, by kind and name."""
        found: dict[str, dict[str, Arm]] = {}
        for kind, name, *rest in self._rows(f"SELECT kind, name, {', '.join(_ARM)} FROM arms ORDER BY kind, name"):
            found.setdefault(kind, {})[name] = Arm(*rest)
        return found

    def learn(self, kind: str, name: str, arm: Arm) -> None:
        """Store what is known of an arm."""
        row = (kind, name, *(getattr(arm, field) for field in _ARM))
        self._write("INSERT OR REPLACE INTO arms VALUES (?, ?, ?, ?, ?, ?, ?)", [row])

    def decide(self, decision: Decision) -> None:
        """Write a decision down, or what came of it."""
        told = (*map(json.dumps, (decision.mutators, decision.parents)), decision.reward, decision.seconds)
        row = (decision.number, decision.target, decision.generator, *told)
        self._write("INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?)", [row])

    def decisions(self, last: int | None = None) -> list[Decision]:
        """Decisions in order; only so many, the last ones."""
        query = "SELECT * FROM decisions ORDER BY number DESC LIMIT ?"
        rows = self._rows(query, -1 if last is None else last)
        return [
            Decision(number, target, generator, tuple(json.loads(mutators)), tuple(json.loads(parents)), *rest)
            for number, target, generator, mutators, parents, *rest in reversed(rows)
        ]

    def decided(self) -> int:
        """How many decisions there were."""
        return int(self._rows("SELECT COUNT(*) FROM decisions")[0][0])

    def decision(self, number: int) -> Decision | None:
        """The decision about a job."""
        rows = self._rows("SELECT * FROM decisions WHERE number = ?", number)
        for found, target, generator, mutators, parents, *rest in rows:
            return Decision(found, target, generator, tuple(json.loads(mutators)), tuple(json.loads(parents)), *rest)
        return None

    # --- between campaigns ------------------------------------------------------------------------------------------

    def merge(self, other: Store) -> int:
        """Take the entries of another file that this one lacks; how many.

        They come as ``stale``, and show again here what they are worth, but for what ended a worker, which stays apart.
        """
        known = {entry.id for entry in self.entries()}
        taken = 0
        with self.transaction():
            for entry in other.entries("kept", "candidate", "stale", "quarantined"):
                if entry.id in known:
                    continue
                state: State = "quarantined" if entry.state == "quarantined" else "stale"
                self.put(replace(entry, state=state, number=-1, chosen=0, yielded=0.0, tries=0, again=0))
                taken += 1
        return taken

    def export(self, path: Path, entries: Iterable[Entry]) -> None:
        """Write entries as a file of their own, which appears whole.

        Raises:
            UnusableDatabase: it cannot be written.
        """
        draft = path.with_name(path.name + ".part")
        with self._explained(path):
            draft.unlink(missing_ok=True)
            with closing(Store(draft)) as made:
                with made.transaction():
                    for entry in entries:
                        made.put(entry)
                made._connection.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
            draft.rename(path)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _write(self, query: str, rows: list[Any]) -> None:
        with self.transaction():
            self._many(query, rows)


def _entry(row: tuple[Any, ...]) -> Entry:
    values = dict(zip(_ENTRY, row, strict=True))
    for name in ("mutators", "parents", "words"):
        values[name] = tuple(json.loads(values[name]))
    return Entry(**{**values, "counts": json.loads(values["counts"]), "keys": unpacked(values["keys"])})
