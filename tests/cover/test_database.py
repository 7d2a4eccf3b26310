"""The campaign's database: what is committed stays, what is broken is told in words."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from tests.older_database import downgrade

from shakeout.corpus.database import (
    KEPT,
    Database,
    ImpossibleMove,
    MalformedDatabase,
    NewerDatabase,
    UnknownBug,
    UnusableDatabase,
)
from shakeout.corpus.rows import Bug, Group, KnownBugReplay, LedgerRow, Sighting, Totals
from shakeout.corpus.smallest_cases import SmallestCase


@pytest.fixture
def database(tmp_path: Path):
    with Database.create(tmp_path / "shakeout.sqlite", {"plan": {"seed": 7}}) as made:
        yield made


def finding(
    database: Database, signature: str = "inductor | value | NaN lost | torch.mul", **more
) -> tuple[Bug, int | None]:
    values = {
        "signature": signature,
        "title": "NaN lost",
        "target": "inductor",
        "oracle": "value",
        "symptom": "NaN lost",
        "job": 3,
        "case_id": "abc",
        "case_json": "{}",
        "result": {"status": "compared"},
        "script": "print()",
        "history": [0, 1],
    }
    return database.add_finding(**{**values, **more})


def test_totals_and_ledger_add_up(database: Database) -> None:
    one = Totals(generated=1, valid=1, executed=1, compared=1, nontrivial=1, exact=1, seconds=0.5)
    two = Totals(generated=1, valid=1, unsupported=1, seconds=0.25)
    with database.transaction():
        database.add("inductor", one, operators=["torch.add", "torch.mul", "torch.add"], fed=["torch.mul"])
        database.add("inductor", two, operators=["torch.add"], status="unsupported", reason="no such thing")
        database.add("aot_eager", one, operators=["torch.add"], phases={"run": 0.5})
    assert database.totals() == {"aot_eager": one, "inductor": one + two}
    assert database.ledger()[1:] == [
        LedgerRow("inductor", "torch.add", 2, 2, 1, 1, 1, 1, 1, 0),
        LedgerRow("inductor", "torch.mul", 1, 1, 1, 1, 1, 1, 0, 1),
    ]
    assert database.reasons("unsupported") == [("inductor", "no such thing", 1)]
    assert database.phases() == {"aot_eager": {"run": 0.5}}


def test_a_transaction_is_whole(database: Database) -> None:
    def work() -> None:
        with database.transaction():
            database.add("inductor", Totals(generated=1))
            with database.transaction():
                database.hand_out(5, "")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert database.totals() == {}
    assert database.meta("next") == 0


def test_jobs_in_flight(database: Database) -> None:
    for job in (0, 2, 1):
        database.hand_out(job, f"job {job}")
    database.hand_out(1, "job 1")
    database.land(0)
    assert [(flight.job, flight.attempts) for flight in database.flights()] == [(1, 2), (2, 1)]
    assert database.meta("next") == 3


def test_findings_of_one_signature_are_one_bug(database: Database) -> None:
    first, number = finding(database)
    assert (first.id[:3], len(first.id), first.count, first.state) == ("SH-", 7, 1, "new")
    again, second = finding(database, case_id="def")
    assert (again.id, again.count, again.first_index) == (first.id, 2, 3)
    assert number != second
    other, _ = finding(database, signature="another")
    assert other.id != first.id
    stored = database.findings(first.id)
    assert [one.case_id for one in stored] == ["abc", "def"]
    assert (stored[0].result, stored[0].history) == ({"status": "compared"}, (0, 1))
    assert database.states() == {"new": 2}


def test_a_case_is_kept_once_and_few_for_one_bug(database: Database) -> None:
    assert finding(database)[1] is not None
    assert finding(database)[1] is None
    for number in range(2 * KEPT):
        bug, _ = finding(database, case_id=str(number))
    assert len(database.findings(bug.id)) == KEPT
    assert bug.count == 2 * KEPT + 2


def test_ids_stay_apart_when_hashes_begin_alike(database: Database) -> None:
    seen: dict[str, str] = {}
    for number in count():
        head = hashlib.sha256(str(number).encode()).hexdigest()[:4]
        if head in seen:
            break
        seen[head] = str(number)
    short, long = finding(database, seen[head])[0], finding(database, str(number))[0]
    assert (len(short.id), len(long.id)) == (7, 8)
    assert database.bug(short.id) == short


def test_a_bug_takes_the_strongest_state(database: Database) -> None:
    bug, first = finding(database)
    _, second = finding(database, case_id="def")
    assert first is not None
    assert second is not None
    assert database.judge(first, state="flaky", k=1, n=3).state == "flaky"
    assert database.judge(second, state="confirmed", k=3, n=3, note="3 of 3").state == "confirmed"
    assert database.judge(first, state="flaky", k=0, n=3).state == "confirmed"
    found = database.bug(bug.id)
    assert (found.k, found.n, found.note) == (3, 3, "3 of 3")


def test_bugs_are_found_by_a_beginning(database: Database) -> None:
    bug, _ = finding(database)
    digits = bug.id.removeprefix("SH-")
    for text in (bug.id, bug.id.lower(), digits, digits[:2]):
        assert database.bug(text).id == bug.id
    with pytest.raises(UnknownBug, match=f"no bug begins with 'SH-zzzz'; there are: {bug.id}"):
        database.bug("SH-zzzz")
    with pytest.raises(UnknownBug):
        database.bug("")


def test_known_bugs_are_kept(database: Database) -> None:
    row = KnownBugReplay("mul-by-zero", "x * 0", "https://example.org", "still there", "", "signature", "inductor")
    database.set_known(row)
    database.set_known(row)
    assert database.known() == [row]


def test_a_reader_sees_what_is_committed(database: Database) -> None:
    with Database.read(database.path) as reader:
        with database.transaction():
            database.hand_out(0, "")
            assert reader.flights() == []
        assert len(reader.flights()) == 1
        with pytest.raises(UnusableDatabase):
            reader.set_meta(next=5)


def test_what_was_committed_survives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "shakeout.sqlite"
    text = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "from shakeout.corpus.database import Database\n"
        "d = Database.create(Path(sys.argv[1]))\n"
        "with d.transaction(): d.hand_out(41, '')\n"
        "d._connection.execute('BEGIN'); d.hand_out(99, '')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", text, str(path)], timeout=60)
    assert done.returncode == -9
    with Database.open(path) as database:
        assert (database.meta("next"), [flight.job for flight in database.flights()]) == (42, [41])


def test_a_half_made_file_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "shakeout.sqlite.new").write_bytes(b"half")
    Database.create(tmp_path / "shakeout.sqlite").close()


def test_a_new_campaign_does_not_overwrite(database: Database) -> None:
    with pytest.raises(UnusableDatabase, match="exists already"):
        Database.create(database.path)


def test_a_missing_file(tmp_path: Path) -> None:
    for how in (Database.open, Database.read):
        with pytest.raises(UnusableDatabase, match="does not exist"):
            how(tmp_path / "shakeout.sqlite")


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_file_of_an_earlier_version_is_read_and_written(database: Database, version: int) -> None:
    bug, number = finding(database)
    finding(database, case_id="another")
    known, _ = finding(database, signature="known | one", state="known", known="one")
    rows = database.bugs()
    database.close()
    downgrade(database.path, version)
    with Database.read(database.path) as reader:
        assert reader.standing() == {}
        assert reader.bugs() == rows
        assert [one.id for one in reader.findings(bug.id)] == [number, 2]
        assert (reader.waiting(), reader.moves(), reader.smallest_cases()) == (0, [], {})
        assert reader.sightings()[bug.id] == (Sighting("inductor", "NaN lost", 2),)
        assert reader.bug(bug.id[:5]).id == bug.id
    with Database.open(database.path) as writer:
        writer.decide(bug.id, "invalid", note="undefined behaviour")
    with Database.open(database.path) as again, Database.read(database.path) as reader:
        assert [decision.note for decision in again.decisions()] == ["undefined behaviour"]
        assert reader.standing()[bug.id].status == "invalid"
        assert reader.bugs() == rows
        assert [(one.id, one.signature) for one in reader.findings(bug.id)] == [(1, bug.signature), (2, bug.signature)]
        assert reader.group(bug.signature) == Group(bug.signature, bug.id, 2, 0)
        assert reader.group(known.signature).bug == ""
        assert reader.sightings()[bug.id] == (Sighting("inductor", "NaN lost", 2),)


# --- findings that wait, and bugs that become one or two --------------------------------------------------------------


FAILED = {"target": "inductor", "verdicts": [{"outcome": "fail", "oracle": "value", "symptom": "NaN lost"}]}


def waits(database: Database, case_id: str, signature: str = "coarse") -> int:
    group = database.meet(signature)
    common = {"signature": signature, "job": group.seen, "case_json": "{}", "result": FAILED}
    number = database.store(None, case_id=case_id, **common)
    assert number is not None
    return number


def opened(database: Database, identity: str = "fine", signature: str = "coarse") -> Bug:
    said = {"title": "NaN lost", "target": "inductor", "oracle": "value", "symptom": "NaN lost", "state": "new"}
    return database.open_bug(identity, signature=signature, index=1, seen=1.0, **said)


def test_what_waits_is_no_bug_and_then_brings_its_group_along(database: Database) -> None:
    first, second = waits(database, "a"), waits(database, "b")
    database.meet("coarse")
    database.pend("coarse")
    assert (database.bugs(), database.waiting()) == ([], 2)
    assert [one.id for one in database.waiting_findings()] == [first, second]
    bug = opened(database)
    database.assign(first, bug.id)
    assert database.group("coarse") == Group("coarse", bug.id, 3, 0)
    assert (database.bug(bug.id).count, database.waiting()) == (2, 1)
    other = opened(database, "another cause of one coarse signature")
    database.assign(second, other.id)
    assert database.group("coarse").bug == bug.id
    assert {one.id: one.count for one in database.bugs()} == {bug.id: 2, other.id: 1}
    assert database.sightings()[bug.id] == (Sighting("inductor", "NaN lost", 2),)
    database.set_small(first, "small", {"status": "compared"})
    assert [(one.bug, one.small) for one in database.reduced()] == [(bug.id, "small")]


def test_a_frequent_bug_does_not_fill_the_file(database: Database) -> None:
    bug = opened(database)
    for number in range(KEPT + 3):
        database.assign(waits(database, str(number)), bug.id)
    assert len(database.findings(bug.id)) == KEPT
    assert (database.bug(bug.id).count, database.waiting()) == (KEPT + 3, 0)


def test_a_merge_is_one_row_and_is_taken_back_whole(database: Database) -> None:
    one, other = opened(database, "one"), opened(database, "other")
    numbers = [waits(database, name) for name in "abc"]
    for number, bug in zip(numbers, (one, other, other), strict=True):
        database.assign(number, bug.id)
    database.count(other.id, "export", "wrong value", 4)
    database.judge(numbers[1], state="confirmed", k=3, n=3, note="3 of 3")
    database.set_smallest(SmallestCase(other.id, "complete", "{}"))
    before = database.bugs()
    merged = database.merge(one.id, other.id)
    assert [bug.id for bug in database.bugs()] == [one.id]
    assert (merged.count, merged.state, merged.k) == (7, "confirmed", 3)
    assert database.bug(other.id).id == one.id, "its name still leads to it"
    assert set(database.smallest_cases()) == {one.id}
    assert database.states() == {"confirmed": 1}
    assert {(row.target, row.count) for row in database.sightings()[one.id]} == {("inductor", 3), ("export", 4)}
    with pytest.raises(ImpossibleMove, match="cannot be merged with itself"):
        database.merge(other.id, one.id)
    assert not database.apart(one.id, other.id)
    back = database.split(one.id, numbers[1:])
    assert back.id == other.id
    assert [(bug.id, bug.count) for bug in database.bugs()] == [(bug.id, bug.count) for bug in before]
    assert database.sightings()[one.id] == (Sighting("inductor", "NaN lost", 1),)
    assert database.apart(one.id, other.id)
    assert [(move.kind, move.bug, move.other) for move in database.moves(other.id)] == [
        ("merge", one.id, other.id),
        ("split", one.id, other.id),
    ]


def test_what_is_split_off_is_a_new_bug(database: Database) -> None:
    bug = opened(database)
    numbers = [waits(database, name) for name in "abc"]
    for number in numbers:
        database.assign(number, bug.id)
    other = database.split(bug.id, [numbers[2]])
    assert (other.state, other.count, database.bug(bug.id).count) == ("new", 1, 2)
    assert [one.id for one in database.findings(other.id)] == [numbers[2]]
    listed = f"{numbers[0]}, {numbers[1]}"
    with pytest.raises(ImpossibleMove, match=f"has the findings {listed}; say which"):
        database.split(bug.id, [numbers[2]])
    with pytest.raises(ImpossibleMove, match="one has to stay"):
        database.split(bug.id, numbers[:2])


def test_a_decision_is_written_while_a_campaign_writes(database: Database) -> None:
    bug, _ = finding(database)
    with Database.open(database.path) as person:
        person.decide(bug.id, "wontfix")
        finding(database, case_id="another")
        person.decide(bug.id, "reported")
    assert [decision.status for decision in database.decisions()] == ["wontfix", "reported"]
    assert database.bug(bug.id).count == 2


def _later(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize("how", [Database.open, Database.read])
def test_a_newer_file(database: Database, how) -> None:
    _later(database.path)
    with pytest.raises(NewerDatabase, match=r"newer Shakeout \(tables of version 99"):
        how(database.path)


def _text(path: Path) -> None:
    path.write_text("not a database at all, but long enough to look like one " * 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _scrambled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[200:-200] = bytes(reversed(data[200:-200]))
    path.write_bytes(data)


def _another(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE meta (a); PRAGMA user_version = 1;")
    connection.close()


@pytest.mark.parametrize("damage", [_text, _empty, _truncated, _scrambled, _another])
def test_a_damaged_file(tmp_path: Path, damage) -> None:
    path = tmp_path / "shakeout.sqlite"
    with Database.create(path) as database:
        for number in range(300):
            finding(database, signature=str(number))
    damage(path)
    with pytest.raises(MalformedDatabase, match=r"damaged|not a database of Shakeout"):
        Database.open(path)


def test_a_read_only_place(disk: Path) -> None:
    path = disk / "shakeout.sqlite"
    with Database.create(path) as database:
        database.hand_out(0, "")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with Database.read(path) as reader:
        assert len(reader.flights()) == 1
    with pytest.raises(UnusableDatabase, match="cannot be written"):
        Database.create(disk / "other.sqlite")
    with pytest.raises(UnusableDatabase, match=r"cannot be written"), Database.open(path) as database:
        database.hand_out(1, "")


def test_a_full_disk(small_disk: Path) -> None:
    with Database.create(small_disk / "shakeout.sqlite") as database:

        def fill() -> None:
            for number in range(10_000):
                with database.transaction():
                    finding(database, signature=str(number), case_json="x" * 1000)

        with pytest.raises(UnusableDatabase, match=r"the disk is full, .*free some space"):
            fill()
        # What was committed before is there.
        kept = len(database.bugs())
    with Database.read(small_disk / "shakeout.sqlite") as reader:
        assert len(reader.bugs()) == kept > 0
