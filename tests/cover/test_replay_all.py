"""Replaying everything: what is fixed, still failing, changed or flaky, and a bug that comes back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shakeout.corpus.database import KEPT, NAME, Database
from shakeout.corpus.smallest_cases import SmallestCase
from shakeout.corpus.storage import Values
from shakeout.fuzz.campaign import selftest
from shakeout.fuzz.cli import main
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.triage import replay_bugs
from shakeout.fuzz.triage.replay_bugs import Item, Row
from shakeout.oracles.verdict import Outcome, Verdict

WRONG = Failure("planted", "value", "wrong value")


def item(fault: str, failure: Failure | None = WRONG, **more: Any) -> Item:
    return Item("bug", fault, fault, selftest.case(fault), failure, **more)


def result(status: str = "compared", oracle: str = "", symptom: str = "wrong value") -> Result:
    verdicts = (Verdict(oracle, Outcome.FAIL, symptom, place="run"),) if oracle else ()
    return Result("", "planted", status, verdicts, reason="why")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        ([result(), result()], "fixed"),
        ([result(oracle="value"), result(oracle="value")], "still failing"),
        ([result(oracle="value"), result(oracle="mutation")], "changed"),
        ([result(oracle="value", symptom="NaN lost")] * 2, "changed"),
        ([result(), result(oracle="value")], "flaky"),
        ([result("unsupported"), result("unsupported")], "cannot run"),
        ([result(oracle="value"), result("infra")], "cannot run"),
    ],
)
def test_each_verdict(results: list[Result], verdict: str) -> None:
    assert replay_bugs._judged(item("wrong value"), results).verdict == verdict


def test_what_no_failure_is_remembered_of_still_fails_in_any_way() -> None:
    assert replay_bugs._judged(item("wrong value", None), [result(oracle="crash")] * 2).verdict == "still failing"


def test_a_regression_that_does_something_else_than_expected_is_surprising() -> None:
    failing = item("wrong value", expected="fails")
    assert not Row(failing, "still failing").surprising
    assert not Row(failing, "cannot run").surprising
    assert Row(failing, "fixed").surprising
    assert Row(failing, "changed").surprising
    assert Row(item("wrong value", expected="fixed"), "still failing").surprising
    assert not Row(item("wrong value"), "fixed").surprising


# --- a campaign's bugs ------------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with Database.create(tmp_path / NAME):
        return tmp_path


def stored(database: Database, state: str = "confirmed", name: str = "one") -> str:
    case = selftest.case("wrong value")
    bug, _ = database.add_finding(
        signature=name,
        title=f"{name} is wrong",
        target="planted",
        oracle="value",
        symptom="wrong value",
        job=1,
        case_id=case.id,
        case_json=case.text,
        result=result(oracle="value").to_json(),
        state=state,
    )
    return bug.id


def replayed(directory: Path, monkeypatch: pytest.MonkeyPatch, verdict: str, *more: str) -> int:
    def run(items: list[Item], *, tell: Any, **options: Any) -> list[Row]:
        for one in items:
            tell(Row(one, verdict, "", 2, 2))  # type: ignore[arg-type]
        return []

    monkeypatch.setattr(replay_bugs, "replay", run)
    monkeypatch.setattr(replay_bugs, "shipped", lambda versions: [])
    return main(["replay", "--all", str(directory), *more])


def test_a_bug_that_was_fixed_and_fails_again_begins_its_second_life(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Database.open(directory / NAME) as database:
        bug = stored(database)
        database.judge(1, state="confirmed", k=3, n=3)
        database.decide(bug, "reported", note="with a link")
    assert replayed(directory, monkeypatch, "still failing") == Exit.FOUND
    assert replayed(directory, monkeypatch, "fixed") == Exit.OK
    assert replayed(directory, monkeypatch, "cannot run") == Exit.INFRASTRUCTURE
    capsys.readouterr()
    assert replayed(directory, monkeypatch, "still failing") == Exit.FOUND
    said = capsys.readouterr().out
    assert "back, it was fixed" in said
    assert f"{bug} (2)  one is wrong" in said
    with Database.read(directory / NAME) as database:
        assert [row.verdict for row in database.replays(bug)] == ["still failing", "fixed", "cannot run", "back"]
        assert database.bug(bug).state == "new"
        assert [said.status for said in database.decisions()] == ["reported", "open"]
    assert main(["bugs", "--directory", str(directory)]) == Exit.OK
    assert "of float32 (2)" in capsys.readouterr().out
    assert main(["bugs", "show", bug, "--directory", str(directory)]) == Exit.OK
    assert "life      2: it was fixed, and is back" in capsys.readouterr().out


def test_a_fixed_bug_that_a_campaign_finds_again_is_new(directory: Path) -> None:
    from shakeout.fuzz.campaign.investigation import Investigation
    from shakeout.fuzz.ground.jobs import Grow

    told: list[events.Event] = []
    case = replace(selftest.case("wrong value"), program=replace(selftest.case("wrong value").program, returns=(2,)))
    found = replace(result(oracle="value"), signature="one", case=case.id)
    with Database.open(directory / NAME) as database:
        bug = stored(database)
        database.judge(1, state="confirmed", k=3, n=3)
        database.add_replay(bug, "fixed", "", {})
        database.set_smallest(SmallestCase(bug, "complete", case.text, found.to_json()))
        investigation = Investigation(database, directory, None, told.append, memory=1)  # type: ignore[arg-type]
        with database.transaction():
            investigation.found(Grow(number=7, seed=7, target="planted"), found, case.text, "print()", ())
        assert database.lives() == {bug: 2}
        assert investigation.waiting == 1
        with database.transaction():
            investigation.found(Grow(number=8, seed=8, target="planted"), found, case.text, "print()", ())
        assert database.lives() == {bug: 2}
        assert investigation.waiting == 1
        assert (database.bug(bug).state, database.bug(bug).count) == ("new", 3)
    assert [event.bug for event in told if isinstance(event, events.FindingSeen)] == [bug, bug]


def test_the_finding_that_brings_a_bug_back_is_kept_and_is_the_one_that_is_tried(directory: Path) -> None:
    from shakeout.fuzz.ground.jobs import Grow
    from shakeout.fuzz.triage.store import Store

    def case(number: int) -> Any:
        one = selftest.case("wrong value")
        inputs = replace(one.input_sets[0].storages[0], values=Values("integers", number, -4, 4))
        calls = (replace(one.input_sets[0], storages=(inputs, *one.input_sets[0].storages[1:])),)
        return replace(one, input_sets=calls)

    job = Grow(number=7, seed=7, target="planted")
    with Database.open(directory / NAME) as database:
        bug = stored(database)
        for number in range(KEPT + 3):
            told = replace(result(oracle="value"), signature="one", case=case(number).id).to_json()
            more = {"job": 1, "case_id": case(number).id, "case_json": case(number).text, "result": told}
            database.store(bug, signature="one", state="confirmed", **more)
        database.judge(1, state="confirmed", k=3, n=3)
        assert len(database.findings(bug)) == KEPT
        found = replace(result(oracle="value"), signature="one", case=case(99).id)
        database.set_smallest(SmallestCase(bug, "complete", selftest.case("wrong value").text, found.to_json()))
        store = Store(database, directory, lambda event: None)
        with database.transaction():
            assert store.found(job, found, case(99).text, "print()", ()) is None  # it is open: one more of it
        database.add_replay(bug, "fixed", "", {})
        with database.transaction():
            shown = store.found(job, found, case(99).text, "print()", ())
        assert shown is not None
        assert (shown.bug, shown.case) == (bug, case(99).text)
        kept = database.findings(bug)
        assert len(kept) == KEPT
        assert kept[0].k == 3  # what shows most stays
        assert [one.case for one in store.waiting(lambda number: job)] == [case(99).text]


def test_known_and_internal_bugs_are_left_out_and_the_smallest_case_is_taken(directory: Path) -> None:
    with Database.open(directory / NAME) as database:
        bug = stored(database)
        for state in ("known", "internal"):
            stored(database, state, state)
        smallest = selftest.case("wrong stride")
        shown = result(oracle="metadata", symptom="wrong strides")
        row = SmallestCase(bug, "complete", smallest.text, shown.to_json())
        database.set_smallest(row)
        history = stored(database, "history", "history")
        (directory / history).mkdir()
        (directory / history / "sequence.jsonl").write_text(f"{smallest.text}\n{smallest.text}\n")
        items = {one.id: one for one in replay_bugs.stored(directory, database)}
    assert set(items) == {bug, history}
    assert items[bug].case == smallest
    assert items[bug].failure == Failure("planted", "metadata", "wrong strides")
    assert items[history].before == (smallest.text,)


def test_what_is_shipped_counts_only_where_it_is_not_as_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    def status(verdict: Any, expected: Any = None) -> int:
        one = Row(replace(item("wrong value", expected=expected), kind="regression"), verdict)
        monkeypatch.setattr(replay_bugs, "shipped", lambda versions: [one.item])
        monkeypatch.setattr(replay_bugs, "replay", lambda items, tell, **options: [tell(one)])
        return main(["replay", "--all"])

    monkeypatch.chdir("/")
    assert status("still failing") == Exit.OK
    assert status("still failing", "fails") == Exit.OK
    assert status("fixed", "fails") == Exit.FOUND
    assert status("changed", "fails") == Exit.FOUND
    assert status("cannot run", "fails") == Exit.INFRASTRUCTURE


def test_whoever_asks_is_told_and_answered_and_nothing_is_printed(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(items: list[Item], *, tell: Any, **options: Any) -> list[Row]:
        for one in items:
            tell(Row(one, "still failing" if one.kind == "bug" else "fixed", "", 2, 2))
        return []

    shipped = replace(item("wrong value", expected="fails"), kind="regression")
    monkeypatch.setattr(replay_bugs, "replay", run)
    monkeypatch.setattr(replay_bugs, "shipped", lambda versions: [shipped])
    with Database.open(directory / NAME) as database:
        bug = stored(database)
        database.add_replay(bug, "fixed", "", {})
    told: list[events.Event] = []
    done = replay_bugs.replay_all(directory, workers=1, memory=1, tell=told.append)
    assert [(row.item.id, row.verdict) for row in done.rows] == [(bug, "back"), ("wrong value", "fixed")]
    assert told == [
        events.Replayed("bug", bug, "one is wrong", "back", life=2),
        events.Replayed("regression", "wrong value", "wrong value", "fixed", expected="fails", surprising=True),
    ]
    assert done.counts == {"back": 1, "fixed": 1}
    assert done.failing == done.rows[:1]
    assert done.surprising == 1
    assert "torch" in done.versions
    with Database.read(directory / NAME) as database:
        assert [row.verdict for row in database.replays(bug)] == ["fixed", "back"]
    assert capsys.readouterr() == ("", "")


def test_json_for_programs(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Database.open(directory / NAME) as database:
        bug = stored(database)
    assert replayed(directory, monkeypatch, "flaky", "--json") == Exit.FOUND
    data = json.loads(capsys.readouterr().out)
    assert data["counts"] == {"flaky": 1}
    assert data["rows"][0]["id"] == bug
    assert data["rows"][0]["target"] == "planted"
    assert "torch" in data["versions"]


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay"]) == Exit.USAGE
    assert main(["replay", "known", "--json"]) == Exit.USAGE
    assert main(["replay", "--all", "--runs", "0"]) == Exit.USAGE
    assert main(["replay", "--all", "--target", "eager"]) == Exit.USAGE
    assert main(["replay", "--all", str(tmp_path)]) == Exit.DIRECTORY
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5
    assert all(line.startswith("shakeout: ") for line in said)
