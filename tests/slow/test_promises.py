"""What a campaign promises: what becomes of findings, what the self-test sees, and the same cases for the same seed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.slow.hostile_campaign import Fuzzing

from shakeout.corpus.codec import decode
from shakeout.fuzz.campaign.campaign import Campaign, SelfTestFailed
from shakeout.fuzz.campaign.schedule import job
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.makers import GROWER
from shakeout.fuzz.running.compose import compose

pytestmark = pytest.mark.usefixtures("hostile")


# --- findings --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_selftest")
def test_findings_are_confirmed_or_history_or_flaky(tmp_path: Path, monkeypatch) -> None:
    faults = {2: "wrong", 5: "remember", 6: "recall", 8: "wrong in workers", 9: "wrong once", 10: "abort", 11: "wrong"}
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch, faults, workers=1, cases=12)
    finished = fuzzing.run()
    bugs = {bug.first_index: bug for bug in fuzzing.database.bugs()}
    assert {index: (bug.state, bug.k, bug.n, bug.count) for index, bug in bugs.items()} == {
        2: ("confirmed", 1, 1, 2),
        6: ("history", 0, 1, 1),
        8: ("history", 0, 1, 1),
        9: ("flaky", 0, 1, 1),
        10: ("confirmed", 1, 1, 1),
    }
    assert "only behind the" in bugs[6].note
    assert "in a fresh worker" in bugs[8].note
    assert set(finished.new) == {bugs[index].id for index in (2, 6, 8, 10)}
    assert len(fuzzing.of(events.FindingSeen)) == 6
    assert len(fuzzing.of(events.BugOpened)) == 5
    # What has to run before a history finding is kept.
    cases = [decode(line) for line in (fuzzing.directory / bugs[6].id / "sequence.jsonl").read_text().splitlines()]
    assert [case.setting.knob("fault") for case in cases[-2:]] == ["remember", "recall"]
    folder = fuzzing.directory / bugs[10].id
    files = {"case.json", "case.min.json", "case.min.py", "environment.json", "output.txt", "repro.py", "result.json"}
    assert {path.name for path in folder.iterdir()} == files
    # The script shows a crash to anybody, without us.
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert subprocess.run([sys.executable, str(folder / "repro.py")], env=plain, timeout=100).returncode == 1


# --- the self-test ---------------------------------------------------------------------------------------------------


def test_the_selftest_sees_all_eight_and_a_quiet_one_and_a_listener_that_fails_ends_nothing(
    tmp_path: Path, monkeypatch
) -> None:
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch, cases=3)

    def broken(campaign: Campaign, event: events.Event) -> None:
        raise RuntimeError("the display is broken")

    fuzzing.hooks.append(broken)
    assert fuzzing.run().reason == "cases"
    log = list(events.read_log(fuzzing.directory / "events.jsonl"))
    assert any("the display is broken" in event.get("message", "") for event in log)
    assert log[-1]["event"] == "Finished"
    tested = [event for event in log if event["event"] == "SelfTested"]
    assert len(tested) == 9
    assert [event for event in tested if not event["seen"]] == []
    assert {event["fault"] for event in tested} >= {"hang", "no fault", "out of memory"}


def test_a_blind_oracle_stops_the_campaign(tmp_path: Path, monkeypatch) -> None:
    # As if the oracle of crashes were expected to see a wrong value, and did not.
    monkeypatch.setattr("shakeout.fuzz.campaign.selftest.FAULTS", {"wrong value": "crash", "abort": "crash"})
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch, cases=1)
    with pytest.raises(SelfTestFailed, match="missed: wrong value; the campaign would miss bugs"):
        fuzzing.run()
    assert fuzzing.of(events.CaseDone) == []
    missed = [event for event in fuzzing.of(events.SelfTested) if not event.seen]
    assert "expected crash, saw value" in missed[0].message


# --- determinism -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_selftest", "untried")
def test_the_same_seed_gives_the_same_cases_in_any_process(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("SHAKEOUT_CACHE")  # the operators are collected once for each user, in half a minute
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch, targets=("eager",), cases=40, time_limit=20.0, seed=5)
    fuzzing.options["maker"] = GROWER
    fuzzing.run()
    found = {index: event.case for index, event in fuzzing.done().items()}
    # Which of the workers had a job, and what it did before, changes nothing.
    assert found == {index: compose(job(fuzzing.config, index)).case.id for index in range(40)}
    assert len(set(found.values())) == 40
