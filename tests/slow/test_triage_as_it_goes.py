"""Whole campaigns triage what they find: real workers, real searches, fresh processes, and whatever ends them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shakeout.corpus.codec import decode
from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.campaign.campaign import CLOSING, Campaign
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.cli import main
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.targets import registry

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path / "store"))
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    monkeypatch.setitem(registry._BUILT_IN, "hostile", ("shakeout.targets.planted", "PLANTED"))
    monkeypatch.setattr("shakeout.fuzz.campaign.campaign.selftest", lambda pool, tell, stop: [])


def fuzz(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    faults: dict[int, str],
    hook: Callable[[Campaign, events.Event], None] = lambda campaign, event: None,
    *,
    options: dict[str, Any] | None = None,
    **config: Any,
) -> tuple[events.Finished, list[events.Event]]:
    monkeypatch.setenv("HOSTILE", json.dumps({str(index): fault for index, fault in faults.items()}))
    values = {"targets": ("hostile",), "seconds": None, "cases": 20, "workers": 2, "time_limit": 3.0}
    told: list[events.Event] = []

    def hear(event: events.Event) -> None:
        told.append(event)
        hook(campaign, event)

    more = {"maker": "hostile_cases:Maker", "known": None, "confirmations": 1, **(options or {})}
    with Campaign(Config(**{**values, "memory_limit": 400 << 20, **config}), directory, [hear], **more) as campaign:
        return campaign.run(), told


def test_many_findings_of_two_faults_are_two_bugs_reduced_and_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = dict.fromkeys(range(2, 18), "wrong") | {5: "segmentation fault", 9: "segmentation fault"}
    finished, told = fuzz(tmp_path / "run", monkeypatch, faults)
    assert finished.waiting == 0
    with Database.read(tmp_path / "run" / NAME) as database:
        bugs = {bug.symptom: bug for bug in database.bugs()}
        assert {symptom: (bug.state, bug.count) for symptom, bug in bugs.items()} == {
            "wrong value": ("confirmed", 14),
            "SIGSEGV": ("confirmed", 2),
        }
        smallest = database.smallest_cases()
        assert database.waiting() == 0
        assert sum(row.count for rows in database.sightings().values() for row in rows) == 16
    for bug in bugs.values():
        assert smallest[bug.id].state == "complete"
        assert decode(smallest[bug.id].case_json).program.calls == ()
        assert (bug.k, bug.n, bug.note) == (1, 1, "1 of 1 fresh processes, 3 of 3 fresh workers")
    script = tmp_path / "run" / bugs["wrong value"].id / "case.min.py"
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert subprocess.run([sys.executable, str(script)], env=plain, timeout=100).returncode == 1
    seen = [event for event in told if isinstance(event, events.FindingSeen)]
    assert len(seen) == 16
    # Cases go on while findings are triaged.
    kinds = [type(event).__name__ for event in told]
    assert "CaseDone" in kinds[kinds.index("BugOpened") :]
    # What was settled is not triaged again.
    finished, told = fuzz(tmp_path / "run", monkeypatch, faults, options={"fuzzing": False})
    assert finished.reason == "triaged"
    assert not told[:-1], "nothing is even loaded"


def test_the_time_is_kept_and_what_waits_is_said_and_triaged_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # What the end itself takes is part of what is granted beyond the time.
    monkeypatch.setattr("shakeout.fuzz.campaign.campaign.GRACE", CLOSING + 0.5)
    monkeypatch.setattr("shakeout.fuzz.campaign.campaign.LAST_CASES", 0.5)
    faults = dict(enumerate(["wrong", "abort", "segmentation fault"]))
    began: list[float] = []

    def hook(campaign: Campaign, event: events.Event) -> None:
        if isinstance(event, events.CaseDone) and not began:
            began.append(time.monotonic())

    finished, _ = fuzz(tmp_path / "run", monkeypatch, faults, hook, seconds=3.0, cases=None)
    assert finished.reason == "time"
    assert time.monotonic() - began[0] < 3.0 + 0.5 + 5.0
    assert finished.waiting > 0
    with Database.read(tmp_path / "run" / NAME) as database:
        before = {bug.id: bug.state for bug in database.bugs()}
        assert database.waiting() > 0
    told: list[events.Event] = []
    config = Config(targets=("hostile",), seconds=None, workers=2, memory_limit=400 << 20)
    more = {"maker": "hostile_cases:Maker", "known": None, "confirmations": 1, "fuzzing": False}
    with Campaign(config, tmp_path / "run", [told.append], **more) as campaign:
        assert campaign.run().reason == "triaged"
    assert not [event for event in told if isinstance(event, events.CaseDone)]
    with Database.read(tmp_path / "run" / NAME) as database:
        after = {bug.id: bug.state for bug in database.bugs()}
        assert database.waiting() == 0
    assert set(before) <= set(after)
    assert set(after.values()) == {"confirmed"}
    assert len(after) == 3
    # With nothing left there is nothing to load.
    assert main(["triage", str(tmp_path / "run")]) == Exit.OK
    assert "no finding waits any more" in capsys.readouterr().out


RUN = """
import json, sys
from pathlib import Path
from shakeout.fuzz.campaign import campaign
from shakeout.fuzz.campaign.config import Config
from shakeout.targets import registry

registry._BUILT_IN["hostile"] = ("shakeout.targets.planted", "PLANTED")
campaign.selftest = lambda pool, tell, stop: []
config = Config(targets=("hostile",), seconds=None, cases=int(sys.argv[2]), workers=2, memory_limit=400 << 20)
tell = lambda event: print(json.dumps(event.to_json()), flush=True)
with campaign.Campaign(
    config, Path(sys.argv[1]), [tell], maker="hostile_cases:Maker", known=None, confirmations=1
) as one:
    one.run()
"""


def test_a_finding_that_was_in_triage_is_taken_up_again_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTILE", json.dumps({"1": "wrong", "2": "abort"}))
    directory, opened, confirmed = tmp_path / "run", [], []
    for moment, how in (
        ("FindingSeen", signal.SIGINT),
        ("BugOpened", signal.SIGKILL),
        ("Confirmed", signal.SIGKILL),
        ("", None),
    ):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(directory), "6"], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            opened += [event["bug"] for kind in [event["event"]] if kind == "BugOpened"]
            confirmed += [event["bug"] for kind in [event["event"]] if kind == "Confirmed"]
            if event["event"] == moment and how is not None:
                # What it has told until it dies is read to the end.
                process.send_signal(how)
            if event["event"] == "Started":
                assert event["resumed"] == (moment != "FindingSeen")
            if event["event"] == "Finished":
                assert event["reason"] == ("interrupted" if how == signal.SIGINT else "cases")
        process.wait()
        if how == signal.SIGINT:
            with Database.read(directory / NAME) as database:
                assert (database.bugs(), database.waiting() > 0) == ([], True)
    with Database.read(directory / NAME) as database:
        assert {bug.symptom: (bug.state, bug.count) for bug in database.bugs()} == {
            "wrong value": ("confirmed", 1),
            "SIGABRT": ("confirmed", 1),
        }
        assert database.waiting() == 0
        for bug in database.bugs():
            assert "def prepare(" in (directory / bug.id / "case.min.py").read_text()
            assert bug.note == "1 of 1 fresh processes, 3 of 3 fresh workers"
    # One that was committed and not told before the end is told by nobody.
    assert len(opened) == len(set(opened))
    assert len(confirmed) == len(set(confirmed))


def test_who_deletes_the_log_is_not_told_every_bug_as_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, told = fuzz(tmp_path, monkeypatch, {1: "wrong"}, cases=3)
    assert sum(isinstance(event, events.BugOpened) for event in told) == 1
    (tmp_path / events.LOG).unlink()
    finished, told = fuzz(tmp_path, monkeypatch, {1: "wrong"}, cases=3)
    assert finished.bugs == {"confirmed": 1}
    assert not [event for event in told if isinstance(event, events.BugOpened | events.Confirmed)]
