"""Campaigns that are told to end, and directories and disks that cannot be used or become full."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.slow.hostile_campaign import RUN, Fuzzing, gone, lines, start
from tests.tiers import some

from shakeout.corpus.database import MalformedDatabase, NewerDatabase, UnusableDatabase
from shakeout.fuzz.campaign.campaign import Campaign, DirectoryUnusable
from shakeout.fuzz.ground import events

pytestmark = pytest.mark.usefixtures("hostile")


# --- signals ---------------------------------------------------------------------------------------------------------


def test_a_signal_ends_it_cleanly_and_it_goes_on(tmp_path: Path, monkeypatch) -> None:
    directory = tmp_path / "run"
    monkeypatch.setenv("HOSTILE", json.dumps(dict.fromkeys(map(str, range(100)), "slow")))
    before: list[int] = []
    for how in (signal.SIGINT, signal.SIGTERM):
        process = start(directory, 100)
        told = []
        for event in lines(process):
            told.append(event)
            if event["event"] == "CaseDone":
                before.append(event["index"])
                if sum(one["event"] == "CaseDone" for one in told) == 3:
                    process.send_signal(how)
        assert process.wait(30) == 0
        assert (told[-1]["event"], told[-1]["reason"]) == ("Finished", "interrupted")
        assert gone(directory)
    monkeypatch.setenv("HOSTILE", "{}")
    again = [event["index"] for event in lines(start(directory, 16)) if event["event"] == "CaseDone"]
    assert sorted(before + again) == list(range(16))


@pytest.mark.usefixtures("no_selftest", "untried")
def test_a_signal_during_the_cold_start(tmp_path: Path, monkeypatch) -> None:
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch)
    fuzzing.hooks.append(lambda campaign, event: campaign.stop() if isinstance(event, events.Warming) else None)
    began = time.monotonic()
    assert fuzzing.run().reason == "interrupted"
    assert time.monotonic() - began < 3
    assert gone(fuzzing.directory)


# --- directories -----------------------------------------------------------------------------------------------------


def test_two_campaigns_do_not_share_a_directory(tmp_path: Path, monkeypatch) -> None:
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch)
    with (
        Campaign(fuzzing.config, fuzzing.directory, maker="hostile_cases:Maker"),
        pytest.raises(DirectoryUnusable, match="another Shakeout works in"),
        Campaign(fuzzing.config, fuzzing.directory),
    ):
        pass


def test_another_configuration_does_not_go_on(tmp_path: Path, monkeypatch) -> None:
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch)
    with Campaign(fuzzing.config, fuzzing.directory):
        pass
    other = Fuzzing(tmp_path / "run", monkeypatch, seed=9, targets=("eager",))
    with (
        pytest.raises(DirectoryUnusable, match="holds a campaign with other seed, targets"),
        Campaign(other.config, other.directory),
    ):
        pass


def test_damaged_and_newer_databases_are_told(tmp_path: Path, monkeypatch) -> None:
    import sqlite3

    fuzzing = Fuzzing(tmp_path / "run", monkeypatch)
    with Campaign(fuzzing.config, fuzzing.directory):
        pass
    path = fuzzing.directory / "shakeout.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(NewerDatabase, match="install a newer Shakeout"), Campaign(fuzzing.config, fuzzing.directory):
        pass
    path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(MalformedDatabase, match="damaged"), Campaign(fuzzing.config, fuzzing.directory):
        pass


def test_a_read_only_directory_is_told(disk: Path, monkeypatch) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with (
        pytest.raises(DirectoryUnusable, match="cannot be written"),
        Campaign(Fuzzing(disk / "run", monkeypatch).config, disk / "run"),
    ):
        pass


def test_a_full_disk_is_told_before_the_start(small_disk: Path, monkeypatch) -> None:
    with (
        pytest.raises(DirectoryUnusable, match="is full"),
        Campaign(Fuzzing(small_disk / "run", monkeypatch).config, small_disk / "run"),
    ):
        pass


@pytest.mark.usefixtures("no_selftest", "untried")
@pytest.mark.parametrize("left", some([20 << 20, 0], every=2))
def test_a_disk_that_fills_up_ends_the_campaign_and_loses_nothing(disk: Path, monkeypatch, left: int) -> None:
    fuzzing = Fuzzing(disk / "run", monkeypatch, dict.fromkeys(range(3, 1000), "slow"), cases=1000)

    def fill(campaign: Campaign, event: events.Event) -> None:
        if isinstance(event, events.CaseDone) and event.index == 5:
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            with (disk / "ballast").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(free - left, 1))

    fuzzing.hooks.append(fill)
    with pytest.raises((DirectoryUnusable, UnusableDatabase), match="full"):
        fuzzing.run()
    assert gone(fuzzing.directory)
    assert fuzzing.of(events.Finished)[-1].reason == "error"
    (disk / "ballast").unlink()
    told = set(fuzzing.done())
    monkeypatch.setenv("HOSTILE", "{}")
    again = Fuzzing(disk / "run", monkeypatch, cases=12)
    assert again.run().reason == "cases"
    # At most the cases in hand were told and not written down.
    assert len(told & set(again.done())) <= 2
    assert told | set(again.done()) >= set(range(12))


def test_a_file_size_limit_is_told(tmp_path: Path) -> None:
    text = RUN.replace(
        "import json, sys", "import json, sys, resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    )
    done = subprocess.run(
        [sys.executable, "-c", text, str(tmp_path / "run"), "5"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert re.search(r"(DirectoryUnusable|UnusableDatabase): .*full", done.stderr)
