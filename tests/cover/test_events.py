"""The event log: whole lines, whatever happens to the writer."""

import json
import subprocess
from pathlib import Path

import pytest

from shakeout.corpus.rows import Totals
from shakeout.fuzz.ground import events

SAMPLES = [
    events.Started("runs/x", ("inductor",), 2, 300.0, None, 0, versions={"torch": "2.13.0"}),
    events.Warming("loading torch"),
    events.CoverageArmed("libtvm_compiler.so", 206_666, 0.6),
    events.SelfTested("hang", True, 3.0),
    events.KnownReplayed("mul", "x * 0", "https://example.org", "still there"),
    events.Replayed("bug", "SH-1234", "title", "flaky", "fails in 1 of 2 runs"),
    events.Shrinking(1, 0, 0.5, 3, 60, "first run", 0.5),
    events.CallsRecorded("toy:odd", 7, 5, 1, {"RuntimeError: no": 1}),
    events.Collecting("abs", 3, 900),
    events.Learning("torch.abs", 3, 900, 12, 1),
    events.Shortening(1, 11, 15, 3.3, 0.3, True),
    events.Minimising("inductor", 2),
    events.Minimised("SH-1234", "complete", 3, 1, 20, 1.5, "value: torch.sin"),
    events.Unusable("inductor", "it said nothing"),
    events.Asking("the stages", 5, 2.0),
    events.FactFound("rung", "dynamo good"),
    events.Comparing("preparing torch==2.12.0"),
    events.CaseDone(0, "inductor", "compared", "pass", 0.5, 3, True, phases={"run": 0.4}),
    events.FindingSeen("", "title", "inductor", "NaN lost", 0, waiting=True),
    events.BugOpened("SH-1", "NaN", "inductor", "NaN lost", "inductor | value", 2),
    events.Merged("SH-1", "SH-2", "one cause"),
    events.Confirmed("SH-1234", 3, 3, "confirmed"),
    events.WorkerDied(1, "crash: SIGSEGV", 4, 0.03),
    events.Notice("something"),
    events.NightStep("replay", "what is known", 60.0),
    events.Finished("time", 300.0, {"inductor": Totals(generated=1)}, {"confirmed": 1}, ("SH-1234",)),
]


def test_every_event_is_logged_and_read(tmp_path: Path) -> None:
    with events.EventLog(tmp_path / "events.jsonl") as log:
        for event in SAMPLES:
            log(event)
        log(events.Progress("fuzzing", 1.0, 299.0, {"inductor": Totals()}))
    read = list(events.read_log(tmp_path / "events.jsonl"))
    assert [line["event"] for line in read] == [type(event).__name__ for event in SAMPLES]
    assert read[0] == {"time": read[0]["time"], **json.loads(json.dumps(SAMPLES[0].to_json()))}
    assert read[-1]["totals"]["inductor"]["generated"] == 1


def test_every_kind_of_event_has_a_sample() -> None:
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}
    kinds -= {events.Event, events.Progress}
    assert kinds == {type(event) for event in SAMPLES}


def test_a_line_that_was_cut_off_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event":"Notice","message":"one"}\n{"event":"Not')
    with events.EventLog(path) as log:
        log(events.Notice("two"))
    assert [line["message"] for line in events.read_log(path)] == ["one", "two"]


def test_a_full_disk_is_an_error(small_disk: Path) -> None:
    def fill() -> None:
        with events.EventLog(small_disk / "events.jsonl") as log:
            for _ in range(10_000):
                log(events.Notice("x" * 1000))

    with pytest.raises(OSError, match="No space left"):
        fill()
    lines = (small_disk / "events.jsonl").read_bytes().split(b"\n")
    assert all(json.loads(line)["message"] == "x" * 1000 for line in lines[:-1])


def test_a_read_only_place_is_an_error(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OSError, match="Read-only"):
        events.EventLog(disk / "events.jsonl")
