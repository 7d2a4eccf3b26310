"""Workers, zygote and supervisor that die at any moment, what targets leave behind, and what is told of it."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.slow.hostile_campaign import Fuzzing, gone, lines, processes, shown, start

from shakeout.corpus.codec import decode
from shakeout.corpus.database import Database
from shakeout.fuzz.ground import events
from shakeout.fuzz.workers.zygote_client import ZygoteBroken

pytestmark = pytest.mark.usefixtures("hostile")


# --- cases that end their worker -------------------------------------------------------------------------------------

WAYS = {
    1: ("segmentation fault", "crash", "SIGSEGV"),
    3: ("exit", "crash", "exit status 3"),
    4: ("abort", "crash", "SIGABRT"),
    6: ("kill", "crash", "SIGKILL"),
    7: ("hang with a child", "hang", "hang"),
    9: ("out of memory", "memory", "memory"),
    10: ("blow-up in a child", "memory", "memory"),
    12: ("close files", "crash", "its channel was closed"),
}


@pytest.mark.usefixtures("no_selftest", "untried")
def test_each_setting_of_a_program_is_a_case(tmp_path: Path, monkeypatch) -> None:
    faults = {
        1: "settings: none, wrong, slow, none",
        2: "settings: none, slow, segmentation fault, wrong",
        3: "settings: sys.exit, none",  # what fails under the first setting is not tried under the others
    }
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch, faults, cases=5, time_limit=3.0)
    assert fuzzing.run().reason == "cases"
    done: dict[int, list[str]] = {}
    for event in fuzzing.of(events.CaseDone):
        done.setdefault(event.index, []).append(event.status)
    compared = "compared"
    assert done == {0: [compared], 1: [compared] * 4, 2: [compared] * 2 + ["failed"], 3: ["failed"], 4: [compared]}
    with fuzzing.database as database:
        assert sorted(shown(one)["symptom"] for one in database.waiting_findings()) == [
            "SIGSEGV",
            "SystemExit",
            "wrong value",
        ]
        assert database.flights() == []
        assert sum(total.generated for total in database.totals().values()) == 10


@pytest.mark.usefixtures("no_selftest", "untried")
def test_every_way_to_die_is_an_observation(tmp_path: Path, monkeypatch) -> None:
    faults = {index: way[0] for index, way in WAYS.items()} | {13: "sys.exit", 14: "chatter", 15: "leak"}
    # On a busy machine a child needs seconds to start and to take the memory that is too much.
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch, faults, time_limit=8.0)
    finished = fuzzing.run()
    assert finished.reason == "cases"
    done = fuzzing.done()
    assert set(done) == set(range(20))
    for index, event in done.items():
        assert event.status == ("failed" if index in {*WAYS, 13} else "compared"), (index, event)
    found = {finding.job: finding for finding in fuzzing.database.waiting_findings()}
    for index, (_, oracle, symptom) in WAYS.items():
        verdict = shown(found[index])
        assert (verdict["oracle"], verdict["symptom"]) == (oracle, symptom), WAYS[index]
        assert decode(found[index].case_json).id == found[index].case_id == done[index].case
        assert found[index].result["signature"] == found[index].signature
    # A sys.exit in the target is an exception, and no death.
    assert shown(found[13])["oracle"] == "exception"
    for died in fuzzing.of(events.WorkerDied):
        assert died.seconds < 1.0
    (verdict,) = found[7].result["verdicts"]
    assert "File" in verdict["evidence"]["output"], "the stack of a hang is told"
    assert gone(fuzzing.directory)
    assert {path.name for path in fuzzing.directory.iterdir()} >= {"campaign.toml", "events.jsonl", "shakeout.sqlite"}
    assert not (fuzzing.directory / "cache").exists()


@pytest.mark.usefixtures("no_selftest")
def test_crashes_while_growing(tmp_path: Path, monkeypatch) -> None:
    faults = {
        2: "grow: segmentation fault",
        4: "grow: exit",
        6: "grow: hang",
        8: "grow: exception",
        9: "grow: once",
        11: "grow: sys.exit",
    }
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch, faults)
    fuzzing.run()
    done = fuzzing.done()
    assert set(done) == set(range(20))
    assert {index for index, event in done.items() if event.status != "compared"} == {2, 4, 6, 8, 11}
    bugs = {bug.first_index: bug for bug in fuzzing.database.bugs()}
    assert set(bugs) == {2, 4, 8, 9, 11}
    assert bugs[2].signature == "eager | crash | SIGSEGV | torch.bincount"
    assert [bugs[index].state for index in (2, 4, 8, 9)] == ["confirmed", "confirmed", "internal", "flaky"]
    assert bugs[8].signature.startswith("SHAKEOUT-INTERNAL | RuntimeError: the generator is broken | hostile_cases.py")
    # A slow generator is no bug of anybody else.
    assert (done[6].status, done[6].reason) == ("invalid", "grow: hang")


# --- processes that are killed ---------------------------------------------------------------------------------------


def kill_often(directory: Path, pick: Callable[[list[int]], list[int]], times: int, stop: threading.Event) -> list[int]:
    """Kill some process now and then."""
    dice = random.Random(7)
    killed: list[int] = []
    while not stop.wait(dice.uniform(0.05, 0.6)) and len(killed) < times:
        chosen = pick(processes(directory))
        if chosen:
            victim = dice.choice(chosen)
            try:
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
            except ProcessLookupError:
                continue
    return killed


def is_zygote(pid: int) -> bool:
    # A worker has the zygote's command line, but it leads a group in a session that is not its own.
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def under_fire(fuzzing: Fuzzing, pick: Callable[[list[int]], list[int]], times: int) -> tuple[events.Finished, int]:
    stop = threading.Event()
    killed: list[int] = []
    begun = threading.Event()
    fuzzing.hooks.append(lambda campaign, event: begun.set() if isinstance(event, events.CaseDone) else None)

    def fire() -> None:
        begun.wait(120)
        killed.extend(kill_often(fuzzing.directory, pick, times, stop))

    thread = threading.Thread(target=fire)
    thread.start()
    try:
        return fuzzing.run(), len(killed)
    finally:
        stop.set()
        thread.join()


@pytest.mark.usefixtures("no_selftest", "untried")
def test_workers_killed_at_any_moment(tmp_path: Path, monkeypatch) -> None:
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch, {5: "wrong", **dict.fromkeys(range(20, 40), "slow")}, cases=40)
    finished, killed = under_fire(fuzzing, lambda pids: [pid for pid in pids if not is_zygote(pid)], 12)
    assert killed >= 3
    assert finished.reason == "cases"
    # A case whose worker was killed once is run again; one that was there twice is taken for the killer.
    assert set(fuzzing.done()) == set(range(40))
    found = fuzzing.database.waiting_findings()
    assert all(one.job == 5 or shown(one)["symptom"] == "SIGKILL" for one in found)
    assert all(died.seconds < 1.0 for died in fuzzing.of(events.WorkerDied))
    assert gone(fuzzing.directory)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("no_selftest", "untried")
def test_the_zygote_killed_again_and_again(tmp_path: Path, monkeypatch) -> None:
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch, dict.fromkeys(range(24), "slow"), cases=24)
    finished, killed = under_fire(fuzzing, lambda pids: [pid for pid in pids if is_zygote(pid)], 2)
    assert killed == 2
    assert finished.reason == "cases"
    assert set(fuzzing.done()) == set(range(24))
    assert len(fuzzing.of(events.Notice)) == 2
    assert gone(fuzzing.directory)


def test_a_zygote_that_never_lives_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOSTILE_WARM", "no module named hostility; pip install hostility")
    with pytest.raises(ZygoteBroken, match="pip install hostility"):
        Fuzzing(tmp_path / "run", monkeypatch).run()
    assert gone(tmp_path / "run")


@pytest.mark.usefixtures("no_selftest")
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("abort", "died 2 times"),
        pytest.param("no module named hostility", "hostility", marks=pytest.mark.exhaustive),
    ],
)
def test_a_target_that_cannot_be_loaded_is_left_out(tmp_path: Path, monkeypatch, how: str, said: str) -> None:
    monkeypatch.setenv("HOSTILE_WARM", how)
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch, targets=("hostile", "eager"), cases=6)
    assert fuzzing.run().reason == "cases"
    notices = [event.message for event in fuzzing.of(events.Notice)]
    assert any(text.startswith("hostile cannot be used and is left out") and said in text for text in notices), notices
    assert {event.target for event in fuzzing.done().values()} == {"eager"}


@pytest.mark.usefixtures("no_selftest")
def test_what_a_target_leaves_behind_is_put_right_and_told(tmp_path: Path, monkeypatch) -> None:
    faults = {1: "flush", 3: "rounding", 4: "half", 6: "threads", 8: "flush", 10: "locale"}
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch, faults, workers=1, cases=14)
    assert fuzzing.run().reason == "cases"
    assert {event.status for event in fuzzing.done().values()} == {"compared"}
    assert {event.outcome for event in fuzzing.done().values()} == {"pass"}
    notices = [event.message for event in fuzzing.of(events.Notice) if event.message.startswith("hostile left ")]
    for what in ("subnormal numbers flushed to zero", "another rounding mode", "default dtype", "200 threads or more"):
        assert sum(what in text for text in notices) == 1, (what, notices)


def test_the_supervisor_killed_at_any_moment_loses_at_most_what_is_in_hand(tmp_path: Path, monkeypatch) -> None:
    directory = tmp_path / "run"
    monkeypatch.setenv("HOSTILE", json.dumps({"7": "wrong", "11": "abort"}))
    dice = random.Random(3)
    answered: set[int] = set()
    for after in (3, 17, 31):
        process = start(directory, 2000)
        seen = 0
        began = 0.0
        for event in lines(process):
            if event["event"] == "CaseDone":
                assert event["index"] not in answered, "a case that was answered is not run again"
                answered.add(event["index"])
                seen += 1
                began = began or time.monotonic()
            # The first time at once, later when the case with a finding, which takes longest, had its time.
            if seen >= after and (after == 3 or time.monotonic() - began > 0.5):
                break
        time.sleep(dice.uniform(0, 0.01))
        process.kill()
        # What it told before it died counts as well.
        for event in lines(process):
            if event["event"] == "CaseDone":
                answered.add(event["index"])
        process.wait()
        assert gone(directory), "zygote and workers die with their supervisor"
        with Database.open(directory / "shakeout.sqlite") as database:
            counted = sum(total.generated for total in database.totals().values())
            # A commit and its telling are two steps, and each of two workers has one case in hand.
            assert len(answered) - 2 <= counted <= len(answered) + 2
            assert len(database.flights()) <= 4
            answered |= _answered(directory)
    process = start(directory, len(answered) + 30)
    finished = [event for event in lines(process) if event["event"] == "Finished"]
    assert process.wait() == 0
    assert finished[0]["reason"] == "cases"
    with Database.read(directory / "shakeout.sqlite") as database:
        assert database.flights() == []
        assert {one.job for one in database.waiting_findings()} == {7, 11}
        generated = sum(total.generated for total in database.totals().values())
    told = set(_indices(directory))
    # What was committed and not told when it died is in the database only: at most two answers for each of three kills.
    missing = set(range(max(told) + 1)) - told
    assert len(missing) <= 6
    assert generated >= len(told | missing)


def _indices(directory: Path) -> Iterator[int]:
    for event in events.read_log(directory / "events.jsonl"):
        if event["event"] == "CaseDone":
            yield event["index"]


def _answered(directory: Path) -> set[int]:
    return set(_indices(directory))
