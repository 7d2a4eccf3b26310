"""Nights: how a budget is shared, what has changed between two of them, what is kept, and what the command answers."""

import json
import re
import sqlite3
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakeout.corpus.database import NAME, Database, MalformedDatabase
from shakeout.corpus.rows import Totals
from shakeout.fuzz.campaign import config as configuration
from shakeout.fuzz.campaign.campaign import GRACE, GRACE_SHARE
from shakeout.fuzz.campaign.campaign_folder import DirectoryUnusable, locked
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.cli import main
from shakeout.fuzz.commands import nightly as command
from shakeout.fuzz.commands.spans import seconds
from shakeout.fuzz.coverage.hits import Hits
from shakeout.fuzz.coverage.log import CoverageLog
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.night.backups import back_up, surplus
from shakeout.fuzz.night.difference import between
from shakeout.fuzz.night.folder import LATEST, LOCK, RECORD, REPORT, Nights, age
from shakeout.fuzz.night.night import Asked, Told
from shakeout.fuzz.night.plan import LEAST_BISECTION, Plan, share
from shakeout.fuzz.night.record import BugState, Night, Replay, Shipped, Standing
from shakeout.fuzz.night.report import lines, markdown, summary
from shakeout.fuzz.night.standing import standing
from shakeout.fuzz.reporting.bug_list import BugList
from shakeout.fuzz.workers.zygote_client import Interrupted

SECONDS = st.floats(1, 1e6)


# --- the budget -------------------------------------------------------------------------------------------------------


@given(SECONDS, st.booleans(), st.data())
def test_no_part_goes_beyond_what_a_campaign_may(budget: float, bisecting: bool, data: st.DataObject) -> None:
    plan = Plan(budget, bisecting)
    grace = max(GRACE, GRACE_SHARE * budget)
    assert plan.end == budget + grace
    assert 0 <= plan.fuzzing <= budget
    now = data.draw(st.floats(0, plan.end))
    assert now <= plan.replay(now) <= max(now, plan.fuzzing)
    # Triage may end as late as this, and bisecting still has its share.
    late = plan.fuzzing + max(GRACE, GRACE_SHARE * plan.fuzzing)
    assert plan.bisection(late) <= plan.end
    assert plan.bisection(late) - late >= (min(0.1 * budget, 900.0) if bisecting else 0.0) - 1e-6 * budget
    # Nobody needs triage: it ends within the budget.
    assert plan.bisection(plan.fuzzing) <= max(budget, plan.end - grace)


def test_a_night_of_eight_hours() -> None:
    plan = Plan(8 * 3600)
    assert plan.learning == 2 * 3600
    assert plan.fuzzing == 8 * 3600 - 900 - 10
    assert Plan(8 * 3600, bisecting=False).fuzzing == 8 * 3600 - 10


@given(st.floats(0, 1e5), st.integers(1, 50))
def test_bugs_share_what_is_left_as_long_as_it_is_enough_for_one(left: float, bugs: int) -> None:
    seconds = share(left, bugs)
    assert seconds <= left
    assert seconds == 0 if left < LEAST_BISECTION else seconds >= min(left, LEAST_BISECTION)


# --- the difference ---------------------------------------------------------------------------------------------------


def bug(id_: str = "SH-1", group: str = "bug", life: int = 1) -> BugState:
    return BugState(id_, "first: wrong value", group, ("first",), life=life)


def night(*bugs: BugState, name: str = "2026-11-30b", **more: Any) -> Night:
    standing = {key: more.pop(key) for key in list(more) if key in Standing.__slots__}
    return Night(name, 0.0, 1.0, 60.0, standing=Standing(bugs, **standing), **more)


KINDS = ("new", "reopened", "fixed", "flaky", "internal")


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [
        (None, bug(), "new"),
        (bug(group="waiting"), bug(), "new"),
        (bug(group="flaky"), bug(), "new"),
        (bug(), bug(), None),
        (bug(), bug(group="fixed"), "fixed"),
        (None, bug(group="fixed"), "fixed"),
        (bug(group="fixed"), bug(group="fixed"), None),
        (bug(group="fixed"), bug(life=2), "reopened"),
        (bug(), bug(life=2), "reopened"),  # fixed and back between two nights
        (None, bug(life=2), "reopened"),
        (bug(life=2), bug(life=2), None),
        (bug(life=2), bug(group="fixed", life=2), "fixed"),
        (bug(group="fixed", life=2), bug(life=3), "reopened"),
        (None, bug(group="flaky"), "flaky"),
        (bug(group="flaky"), bug(group="flaky"), None),
        (None, bug(group="internal"), "internal"),
        (None, bug(group="known"), None),
        (None, bug(group="waiting"), None),
        (bug(), bug(group="settled"), None),
        (bug(group="settled"), bug(), None),  # a person took back what was said
    ],
)
def test_what_became_of_a_bug(before: BugState | None, now: BugState, kind: str | None) -> None:
    found = between(night(*filter(None, [before]), name="2026-11-30a"), night(now))
    assert {name: getattr(found, name) for name in KINDS} == {name: (now,) if name == kind else () for name in KINDS}
    assert found.bad == (kind in ("new", "reopened"))
    assert found.still == (now.group == "bug" and kind is None)


def test_what_is_told_once_is_not_told_again() -> None:
    last, now = night(bug(), name="a"), night(bug(), bug("SH-2"), bug("SH-3", "fixed"))
    assert between(last, now).new == (bug("SH-2"),)
    again = between(now, replace(now, name="c"))
    assert (again.bad, again.fixed, again.still) == (0, (), 2)


def replayed(verdict: str, note: str = "", id_: str = "SH-1") -> Replay:
    return Replay("bug", id_, "title", verdict, note)


def test_a_bug_that_fails_now_and_then_or_otherwise_is_told_when_that_begins() -> None:
    steady, unsteady = (replayed("still failing"),), (replayed("flaky", "fails in 1 of 2 runs"),)
    assert between(night(bug(), replays=steady), night(bug(), replays=unsteady)).flaky == (bug(),)
    assert between(night(bug(), replays=unsteady), night(bug(), replays=unsteady)).flaky == ()
    other = (replayed("changed", "now NaN lost"),)
    assert between(night(bug(), replays=steady), night(bug(), replays=other)).changed == {"SH-1": "now NaN lost"}
    assert between(night(bug(), replays=other), night(bug(), replays=other)).changed == {}
    unable = (replayed("cannot run", "no tvm"),)
    found = between(night(bug(), replays=steady), night(bug(), replays=unable))
    assert (found.unable, found.fixed, found.still) == ({"SH-1": "no tvm"}, (), 1)


def test_bugs_that_became_one_are_told_and_are_not_fixed() -> None:
    last, now = night(bug(), bug("SH-2")), night(bug(), joined={"SH-2": "SH-1", "SH-9": "SH-1"})
    found = between(last, now)
    assert (found.joined, found.fixed, found.new) == ({"SH-2": "SH-1"}, (), ())
    assert between(now, now).joined == {}


def test_what_ships_is_told_when_it_does_something_else_than_last_night_or_than_it_should() -> None:
    def states(before: dict[str, Shipped], now: dict[str, Shipped]) -> tuple[list[str], list[str]]:
        found = between(night(shipped=before), night(shipped=now))
        return [one.id for one in found.again], [one.id for one in found.gone]

    fails, fixed = Shipped("regression", "t", "fails"), Shipped("regression", "t", "fixed")
    assert states({"one": fixed}, {"one": fails}) == (["one"], [])
    assert states({"one": fails}, {"one": fixed}) == ([], ["one"])
    assert states({"one": fails}, {"one": fails}) == ([], [])
    assert states({}, {"one": fails, "two": fixed}) == ([], [])
    assert states({}, {"one": replace(fails, expected="fixed")}) == (["one"], [])
    assert states({}, {"one": replace(fixed, expected="fails"), "two": replace(fails, expected="fails")}) == (
        [],
        ["one"],
    )


def test_versions_rates_and_what_was_compared() -> None:
    some = Totals(generated=100, compared=90, nontrivial=80)
    last = night(totals={"first": some}, operators={"first": 10}, seconds=600.0, rates={"first": 9.0}, name="a")
    last = replace(last, versions={"torch": "2.13.0", "numpy": "2.0", "tvm": "0.20"})
    more = {"first": some + some, "second": Totals(generated=50)}
    now = night(totals=more, operators={"first": 12}, seconds=1800.0, versions={"torch": "2.14.1", "numpy": "2.0"})
    found = between(last, now)
    assert [(one.name, one.before, one.now) for one in found.versions] == [
        ("torch", "2.13.0", "2.14.1"),
        ("tvm", "0.20", None),
    ]
    first, second = found.targets
    assert (first.totals, first.rate, first.rate_before, first.operators, first.operators_new) == (
        some,
        4.5,
        9.0,
        12,
        2,
    )
    assert first.remark == "50% slower than last night"
    assert second.remark == "nothing was compared: its silence means nothing"
    assert not found.vacuous
    assert between(now, now).vacuous
    # Before the first night there is nothing that another version could be compared with.
    assert between(replace(last, name=""), now).versions == ()


def test_coverage_is_compared_where_there_is_some(tmp_path: Path) -> None:
    last, now = night(reached={"functions": 900, "gone": 1}, name="a"), night(reached={"functions": 1234, "space": 5})
    found = between(last, now)
    assert [(one.source, one.total, one.new) for one in found.reached] == [("functions", 1234, 334), ("space", 5, 5)]
    assert "reached  functions: 1,234, 334 for the first time" in list(lines(now, found))
    text = markdown(now, found, BugList((), 0, {}))
    assert "## Coverage since last night\n\n- functions: 1,234, 334 for the first time\n" in text
    # It is read from what a campaign has written.
    with Database.create(tmp_path / NAME, {}):
        pass
    assert standing(tmp_path, {}).reached == {}
    with CoverageLog(tmp_path) as log:
        hits = [
            Hits("native", "one", "libone.so", "functions", (1, 2, 3), of=10),
            Hits("space", "", "", "operators", ("add",)),
        ]
        log.add(hits, case=1, target="eager", seconds=1.0)
    assert standing(tmp_path, {}).reached == {"native": 3, "space": 1}


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_written_and_nothing_else_is() -> None:
    whole = night(
        bug(),
        replays=(replayed("fixed"),),
        bisected={"SH-1": "a pass"},
        rates={"first": 4.5},
        notes=("said",),
        joined={"SH-2": "SH-1"},
        shipped={"one": Shipped("known", "t", "fails")},
        totals={"first": Totals(generated=3)},
        versions={"torch": "2.13.0"},
        reached={"functions": 7},
    )
    data = json.loads(json.dumps({**whole.to_json(), "difference": {}}))
    assert Night.from_json(data) == whole
    del data["standing"]["reached"]  # as an earlier Shakeout wrote it
    assert Night.from_json(data).standing.reached == {}
    for broken in ({}, [], None, {**data, "format": 99}, {**data, "standing": 1}, {**data, "began": "x"}):
        with pytest.raises(ValueError, match=r"record of a night|format 99|could not convert"):
            Night.from_json(broken)


def test_nights_appear_whole_and_in_order(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    assert nights.last() is None
    nights.start(night(bug(), name=""))
    assert nights.last() == night(bug(), name="")
    for name in ("2026-11-30z", "2026-11-30aa", "2026-12-01a"):
        nights.publish(name, night(name=name).to_json(), "# text")
    (tmp_path / "nights" / "2026-12-02a.part").mkdir()
    (tmp_path / "nights" / "2026-12-02a.part" / RECORD).write_text("{")
    (tmp_path / "nights" / LATEST).unlink()  # killed between the folder and the link
    assert nights.names() == ["2026-11-30z", "2026-11-30aa", "2026-12-01a"]
    assert nights.last() == night(name="2026-12-01a")
    nights.tidy()
    assert sorted(path.name for path in (tmp_path / "nights").glob("*.part")) == []
    assert (tmp_path / "nights" / LATEST / REPORT).read_text() == "# text"
    (tmp_path / "nights" / "2026-12-01a" / RECORD).write_text("{")
    with pytest.raises(DirectoryUnusable, match=r"2026-12-01a/night\.json is no record .*; remove it"):
        nights.last()


@given(st.from_regex(r"[a-z]{1,3}", fullmatch=True))
def test_a_night_has_a_name_behind_those_that_are_over(letters: str) -> None:
    class Some(Nights):
        def names(self) -> list[str]:
            return [f"2026-11-30{letters}"]

    nights = Some(Path())
    names = [nights.next(date(2026, 11, day)) for day in (29, 30)]
    assert names[0] == names[1]  # whatever the clock says
    assert age(names[0]) > age(nights.names()[0])
    assert re.fullmatch(r"2026-11-30[a-z]+", names[0])
    assert nights.next(date(2026, 12, 1)) == "2026-12-01a"


def test_copies_of_the_database_are_made_once_a_night_and_the_oldest_go(tmp_path: Path) -> None:
    assert back_up(tmp_path, "2026-11-01a") is None
    with Database.create(tmp_path / NAME) as database:
        for day in range(1, 5):
            with database.transaction():
                database.set_meta(day=day)
            back_up(tmp_path, f"2026-11-0{day}a", keep=2)
            with database.transaction():
                database.set_meta(day="later")
            copy = back_up(tmp_path, f"2026-11-0{day}a", keep=2)
    assert sorted(path.name for path in (tmp_path / "backups").iterdir()) == [
        "2026-11-03a.sqlite",
        "2026-11-04a.sqlite",
    ]
    assert copy is not None
    with Database.read(copy) as restored:
        assert restored.meta("day") == 4


def test_a_damaged_database_pushes_no_copy_out_and_what_to_do_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Database.create(tmp_path / NAME):
        pass
    back_up(tmp_path, "2026-11-01a", keep=1)
    path = tmp_path / NAME
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 6] = b"\xff" * 4096 * 4
    path.write_bytes(content)
    (tmp_path / "backups" / "2026-11-02a.sqlite.17.part").write_bytes(b"half")
    with pytest.raises(MalformedDatabase):
        back_up(tmp_path, "2026-11-02a", keep=1)
    assert [one.name for one in (tmp_path / "backups").iterdir()] == ["2026-11-01a.sqlite"]
    assert main(["nightly", "--budget", "1m", "--target", "eager", "--directory", str(tmp_path)]) == Exit.DIRECTORY
    said = capsys.readouterr().err
    assert f"put the newest copy in its place: rm {path}*; cp {tmp_path}/backups/2026-11-01a.sqlite {path}" in said
    with sqlite3.connect(tmp_path / "backups" / "2026-11-01a.sqlite") as copy:
        assert copy.execute("PRAGMA quick_check").fetchone() == ("ok",)


@given(st.sets(st.from_regex(r"2026-1[0-2]-[0-2][0-9][a-z]{1,2}", fullmatch=True)), st.integers(1, 9))
def test_the_newest_copies_stay(names: set[str], keep: int) -> None:
    gone = surplus(names, keep)
    assert len(names) - len(gone) == min(len(names), keep)
    assert surplus(names - set(gone), keep) == []


# --- the report and the command ---------------------------------------------------------------------------------------


def test_a_report_shows_hostile_text_as_text() -> None:
    hostile = replace(bug(), title="first: <img src=x> | `rm` **bold**\n# head", reason="a | b", targets=("first",))
    now = night(hostile, notes=("<script>",))
    found = between(night(name="a"), now)
    text = markdown(now, found, BugList((), 0, {}))
    assert not re.search(r"(?<!\\)[<`]", text)
    assert r"\*\*bold\*\*" in text
    assert "\n# head" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| SH-1")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 8
    assert summary(found) == "1 new bug; 0 open from before"
    assert "\n" not in "".join(lines(now, found)).replace(hostile.title.removeprefix("first: "), "")


@pytest.mark.parametrize(
    ("text", "found"), [("8h", 28800), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("0.5h", 1800), ("5min", 300)]
)
def test_a_budget(text: str, found: float) -> None:
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["8", "h", "0s", "-1h", "1d", "1h x", "", "1..5h", "inf"])
def test_no_budget(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nightly", f"--budget={text}"])
    assert ended.value.code == Exit.USAGE
    assert "expected a time such as 90s, 10m or 1h30m" in capsys.readouterr().err


@pytest.mark.parametrize("name", [LOCK, "lock"])
def test_whoever_works_in_the_directory_is_left_alone(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(tmp_path, name):
        assert main(["nightly", "--budget", "1m", "--target", "eager", "--directory", str(tmp_path)]) == Exit.DIRECTORY
    assert capsys.readouterr().err == (
        f"shakeout: another Shakeout works in {tmp_path}; wait for it, or choose another directory\n"
    )
    assert not (tmp_path / "nights").exists()


def test_a_full_disk_is_told_before_anything_is_done(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nightly", "--budget", "1m", "--target", "eager", "--directory", str(small_disk)]) == Exit.DIRECTORY
    assert f"shakeout: the disk of {small_disk} is full" in capsys.readouterr().err
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize(
    ("bugs", "compared", "exit_zero", "status"),
    [
        ([bug()], 1, False, Exit.FOUND),
        ([bug()], 0, False, Exit.FOUND),
        ([bug()], 1, True, Exit.OK),
        ([bug(group="fixed")], 1, False, Exit.OK),
        ([], 0, False, Exit.VACUOUS),
        ([], 0, True, Exit.VACUOUS),
    ],
)
def test_statuses(bugs: list[BugState], compared: int, exit_zero: bool, status: Exit, tmp_path: Path) -> None:
    from rich.console import Console

    now = night(*bugs, totals={"first": Totals(generated=1, nontrivial=compared)})
    told = Told(now, between(night(name="a"), now), tmp_path)
    assert command._conclude(told, Console(quiet=True), exit_zero=exit_zero) == status


def test_the_machine_of_tonight_decides_how_many_work_and_the_first_night_what_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Config(targets=("eager",), seed=5, mode="training", workers=31, memory_limit=1 << 40)
    configuration.write(first, tmp_path / "campaign.toml")
    asked: list[Asked] = []

    def told(night: Asked, **_: Any) -> Told:
        asked.append(night)
        raise Interrupted

    monkeypatch.setattr("shakeout.fuzz.night.night.nightly", told)
    for words in (), ("--workers", "3"):
        assert main(["nightly", "--budget", "1m", "--directory", str(tmp_path), *words]) == Exit.INTERRUPTED
    here = Config(targets=())
    found = [(one.config.workers, one.config.memory_limit) for one in asked]
    assert found == [(here.workers, here.memory_limit), (3, here.memory_limit)]
    assert {(one.config.targets, one.config.seed, one.config.mode) for one in asked} == {(("eager",), 5, "training")}
