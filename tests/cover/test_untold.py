"""What a killed campaign had stored and not told is told by its next run, and nothing else is."""

from pathlib import Path
from typing import Any

import pytest

from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.campaign.untold import untold
from shakeout.fuzz.ground import events

ABOUT = {"title": "wrong", "target": "t", "symptom": "wrong value", "signature": "coarse"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with Database.create(tmp_path / NAME) as database, database.transaction():
        for number, state in enumerate(("new", "confirmed", "history", "flaky", "known", "internal")):
            bug = database.open_bug(state, oracle="value", state=state, index=number, seen=float(number), **ABOUT)
            stored: dict[str, Any] = {"job": number, "case_id": state, "case_json": "{}", "signature": "coarse"}
            found = database.store(bug.id, result={"operators": ["a", "b"]}, **stored)
            assert found is not None
    return tmp_path


def told(directory: Path) -> list[tuple[str, str]]:
    with Database.read(directory / NAME) as database:
        states = {bug.id: bug.state for bug in database.bugs()}
        return [(type(event).__name__, states[event.bug]) for event in untold(directory, database)]


def log(directory: Path, *told: events.Event) -> None:
    with events.EventLog(directory / events.LOG) as write:
        for event in told:
            write(event)


def test_what_the_log_does_not_know_is_told_once(directory: Path) -> None:
    log(directory, events.Notice("hello"))
    opened = [("BugOpened", state) for state in ("new", "confirmed", "history", "flaky")]
    tried = [("Confirmed", state) for state in ("confirmed", "history", "flaky")]
    assert sorted(told(directory)) == sorted(opened + tried)
    with Database.read(directory / NAME) as database:
        missing = list(untold(directory, database))
    assert missing[0] == events.BugOpened(missing[0].bug, "wrong", "t", "wrong value", "coarse", 2)
    log(directory, *missing)
    assert told(directory) == []


def test_a_death_between_two_events_leaves_the_second(directory: Path) -> None:
    with Database.read(directory / NAME) as database:
        missing = [one for one in untold_of(directory, database) if not isinstance(one, events.Confirmed)]
    log(directory, *missing)
    assert told(directory) == [("Confirmed", state) for state in ("confirmed", "history", "flaky")]


def untold_of(directory: Path, database: Database) -> list[events.Event]:
    log(directory)
    return list(untold(directory, database))


def test_what_findings_were_counted_under_was_told_and_what_was_split_off_is_no_news(directory: Path) -> None:
    with Database.open(directory / NAME) as database:
        ids = {bug.state: bug.id for bug in database.bugs()}
        log(directory, *[events.FindingSeen(id_, "wrong", "t", "wrong value", 1) for id_ in ids.values()])
        assert [type(one).__name__ for one in untold(directory, database)] == ["Confirmed"] * 3
        log(directory, *[events.Confirmed(id_, 1, 1, "confirmed") for id_ in ids.values()])
        with database.transaction():
            database.count(ids["confirmed"], "t", "wrong value", 2)
            more = {"job": 9, "case_id": "more", "case_json": "{}", "signature": "coarse"}
            number = database.store(ids["confirmed"], result={}, **more)
        assert number is not None
        database.split(ids["confirmed"], [number], "another cause")
    assert told(directory) == []
