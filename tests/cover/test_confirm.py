"""Confirmation in fresh processes, with small scripts in place of real ones."""

import os
import time
from pathlib import Path

import pytest

from shakeout.fuzz.workers.confirm import Confirmation, stock_environment
from shakeout.fuzz.workers.headers import Headers


def confirmation(tmp_path: Path, text: str, **more) -> Confirmation:
    script = tmp_path / "repro.py"
    script.write_text(text)
    values = {"headers": Headers(tmp_path, tmp_path / "store"), "temporary": tmp_path, "memory": 1 << 30}
    return Confirmation("SH-1234", script, tmp_path / "scratch", **{**values, **more})


def finish(one: Confirmation, at_once: int = 1) -> Confirmation:
    until = time.monotonic() + 60
    while not one.poll(at_once):
        assert time.monotonic() < until
        time.sleep(0.01)
    return one


@pytest.mark.parametrize("at_once", [1, 3])
def test_what_always_fails_is_confirmed(tmp_path: Path, at_once: int) -> None:
    one = finish(confirmation(tmp_path, "print('torch 2.13')\nprint('output 0 differs')\nraise SystemExit(1)"), at_once)
    assert (one.failed, one.tried, one.confirmed) == (3, 3, True)
    assert one.output == "torch 2.13\noutput 0 differs\n"
    assert not (tmp_path / "scratch").exists()


def test_what_fails_sometimes_is_not(tmp_path: Path) -> None:
    text = (
        "import pathlib, sys\nmark = pathlib.Path(__file__).with_name('mark')\n"
        "if mark.exists(): sys.exit(0)\nmark.touch(); print('torch'); print('differs'); sys.exit(1)"
    )
    one = finish(confirmation(tmp_path, text))
    assert (one.failed, one.tried, one.confirmed) == (1, 3, False)
    assert "differs" in one.output


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("raise SystemExit(0)", "passes"),
        ("raise SystemExit(125)", "cannot run"),
        # Python's own exit status for an exception is that of a difference.
        ("print('torch 2.13')\nraise ImportError", "cannot run"),
        ("def broken(:", "cannot run"),
        ("import os; os.abort()", "fails"),
    ],
)
def test_outcomes(tmp_path: Path, text: str, outcome: str) -> None:
    one = finish(confirmation(tmp_path, text, runs=1))
    assert one.outcomes == [outcome]
    assert one.confirmed == (outcome == "fails")


def test_a_script_without_end_and_its_children_are_killed(tmp_path: Path) -> None:
    text = "import subprocess, time\np = subprocess.Popen(['sleep', '600'])\nprint(p.pid, flush=True)\ntime.sleep(600)"
    one = finish(confirmation(tmp_path, text, runs=1, seconds=1.0))
    assert one.outcomes == ["cannot run"]
    child = int(one.output.split()[0])
    until = time.monotonic() + 5
    while os.path.exists(f"/proc/{child}") and time.monotonic() < until:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{child}")


def test_a_script_that_eats_the_memory_is_killed_and_fails(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("shakeout.fuzz.workers.confirm.OWN_BYTES", 0)
    text = "import time\nkept = b'x' * (200 << 20)\ntime.sleep(600)"
    one = finish(confirmation(tmp_path, text, runs=1, memory=100 << 20))
    assert one.outcomes == ["fails"]
    assert "more memory" in one.output


def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    one = confirmation(tmp_path, "import time; time.sleep(600)")
    one.poll(3)
    pids = [run.process.pid for run in one._running]
    one.stop()
    assert len(pids) == 3
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert one.outcomes == []


def test_the_toolchain_is_the_stock_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_FREEZING", "1")
    monkeypatch.setenv("TORCH_LOGS", "+inductor")
    found = stock_environment(tmp_path / "cache", tmp_path)
    assert "TORCHINDUCTOR_FREEZING" not in found
    assert "TORCH_LOGS" not in found
    assert found["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "cache")
    assert found["PATH"] == os.environ["PATH"]
