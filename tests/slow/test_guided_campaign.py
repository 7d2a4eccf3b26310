"""A real guided campaign: cases are kept, mutants made of them and told, it is killed, goes on, and is thinned."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shakeout.fuzz.steering.store import NAME, Store

pytestmark = pytest.mark.timeout(400)


def shakeout(*words: str) -> list[str]:
    return [sys.executable, "-m", "shakeout", *words]


def told(directory: Path) -> dict:  # type: ignore[type-arg]
    done = subprocess.run(shakeout("status", "--json", str(directory)), capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_a_guided_campaign_is_killed_goes_on_and_makes_mutants(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    command = shakeout(
        *("run", "--coverage", "--target", "aot_eager", "--cases", "20", "--workers", "2", "--settings", "1"),
        *("--mode", "inference", "--plain", "--exit-zero", "--directory", str(directory)),
    )
    began = time.monotonic()
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    # As soon as something was made of what was kept.
    while time.monotonic() - began < 200 and killed.poll() is None:
        if (directory / NAME).exists():
            with Store(directory / NAME, write=False) as store:
                if any(one.generator == "mutate" and one.reward is not None for one in store.decisions()):
                    break
        time.sleep(0.2)
    assert killed.poll() is None, "it ended before anything was made of what was kept"
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    with Store(directory / NAME, write=False) as store:
        before = {one.id for one in store.entries()}
        decided = {one.number: one for one in store.decisions() if one.reward is not None}
    assert before
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with Store(directory / NAME, write=False) as store:
        entries, decisions = store.entries(), store.decisions()
    assert before <= {one.id for one in entries}
    # What was decided and answered stays so; and every case of the campaign was decided.
    after = {one.number: one for one in decisions}
    assert all(after[number] == one for number, one in decided.items())
    assert sorted(after) == list(range(20))
    assert all(one.reward is not None for one in decisions)
    kept = {one.id for one in entries if one.again}
    assert kept
    mutants = [one for one in decisions if one.generator == "mutate"]
    assert mutants
    assert {parent for one in mutants for parent in one.parents} <= kept
    status = told(directory)["steering"]
    assert status["decided"] == 20
    assert set(status["arms"]) >= {"generator for aot_eager", "mutator", "target"}
    text = subprocess.run(shakeout("status", str(directory)), capture_output=True, text=True, check=True).stdout
    assert "steering: 20 cases decided" in text
    thinned = subprocess.run(
        shakeout("corpus", "distil", "--directory", str(directory)), capture_output=True, text=True, check=True
    )
    assert "entries kept" in thinned.stdout
