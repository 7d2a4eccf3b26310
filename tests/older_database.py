"""A campaign's database as an earlier version of the tables had it, made of a new one."""

import sqlite3
from pathlib import Path

#: What version 4 had where there is something else now.
BEFORE_FIVE = """
PRAGMA foreign_keys = OFF;
PRAGMA legacy_alter_table = ON;
ALTER TABLE bugs RENAME TO new_bugs;
ALTER TABLE findings RENAME TO new_findings;
DROP INDEX findings_by_bug;
CREATE TABLE bugs (
    id TEXT PRIMARY KEY, signature TEXT NOT NULL UNIQUE, title TEXT NOT NULL, target TEXT NOT NULL,
    oracle TEXT NOT NULL, symptom TEXT NOT NULL, state TEXT NOT NULL, k INTEGER NOT NULL, n INTEGER NOT NULL,
    count INTEGER NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL, first_index INTEGER NOT NULL,
    known TEXT NOT NULL, note TEXT NOT NULL
);
CREATE TABLE findings (
    id INTEGER PRIMARY KEY, bug TEXT NOT NULL REFERENCES bugs (id), job INTEGER NOT NULL, case_id TEXT NOT NULL,
    case_json TEXT NOT NULL, result_json TEXT NOT NULL, script TEXT NOT NULL, history TEXT NOT NULL,
    seen REAL NOT NULL, state TEXT NOT NULL, k INTEGER NOT NULL, n INTEGER NOT NULL
);
CREATE INDEX findings_by_bug ON findings (bug);
INSERT INTO bugs SELECT id, signature, title, target, oracle, symptom, state, k, n, count, first_seen, last_seen,
    first_index, known, note FROM new_bugs;
INSERT INTO findings SELECT id, bug, job, case_id, case_json, result_json, script, history, seen, state, k, n
    FROM new_findings;
DROP TABLE new_findings;
DROP TABLE new_bugs;
DROP TABLE groups;
DROP TABLE sightings;
DROP TABLE moves;
"""


def downgrade(path: Path, version: int) -> None:
    """Make a file what version 1, 2, 3 or 4 of the tables would have written."""
    text = BEFORE_FIVE
    if version < 3:
        text += "DROP TABLE minimals; DROP TABLE replays;"
    if version < 2:
        text += "DROP TABLE decisions;"
    connection = sqlite3.connect(path)
    connection.executescript(f"{text} PRAGMA user_version = {version};")
    connection.close()
