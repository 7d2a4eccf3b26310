"""``make fuzz``, with a real make: it succeeds when bugs are found, and fails when anything else goes wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shakeout.fuzz.ground.exits import Exit

ROOT = Path(__file__).parents[2]

KERNEL = """
import torch, shakeout

@shakeout.kernel(reference=torch.relu, examples=lambda: [(torch.randn(5),), (torch.randn(2, 3),)])
def relu(x):
    return torch.relu(x) + 1
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkout with an environment that is ready."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    program = tmp_path / ".venv" / "bin" / "shakeout"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m shakeout "$@"\n')
    program.chmod(0o755)
    (tmp_path / ".venv" / "shakeout-environment").write_text("torch of a test\n")
    (tmp_path / "wrong.py").write_text(KERNEL)
    return tmp_path


def make(place: Path, arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "fuzz", f"FUZZ_ARGS={arguments}"], cwd=place, capture_output=True, text=True, timeout=280, check=False
    )


def test_bugs_are_no_failure_of_make(place: Path) -> None:
    wrong = "--target wrong:relu --cases 6 --workers 1 --operators 1 --mode inference --plain"
    done = make(place, wrong)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Error" not in done.stderr
    summary, report, following = done.stdout.splitlines()[-3:]
    assert summary.startswith("summary  "), done.stdout
    assert "cases compared" in summary
    assert "exit 0 (" in report
    assert "new bug" in report
    assert following.startswith("next     see `shakeout bugs --top 10`")
    # Who asks for the status gets it: without make it is 1.
    again = [str(place / ".venv/bin/shakeout"), "run", "--new", *wrong.split()]
    run = subprocess.run(again, cwd=place, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == Exit.FOUND, run.stdout + run.stderr
    assert "exit 1 (" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("--minutes x", Exit.USAGE, "--minutes"),
        ("--target no_such", Exit.USAGE, "no_such"),
        ("--directory Makefile/campaign --plain", Exit.DIRECTORY, "Makefile"),
    ],
)
def test_other_failures_are(place: Path, arguments: str, status: Exit, words: str) -> None:
    done = make(place, arguments)
    assert done.returncode == 2, done.stdout  # make's own for a target that failed
    assert words in done.stderr
    assert f"Error {int(status)}" in done.stderr


@pytest.mark.parametrize("status", [1, 3, 4, 70, 130])
def test_whatever_status_it_fails_with(place: Path, status: int) -> None:
    # 1 is also what Python says of a program that cannot even begin.
    (place / ".venv/bin/shakeout").write_text(f"#!/bin/sh\nexit {status}\n")
    done = make(place, "")
    assert (done.returncode, f"Error {status}" in done.stderr) == (2, True)


def test_an_interrupted_campaign_is_no_success(place: Path) -> None:
    arguments = "FUZZ_ARGS=--target wrong:relu --workers 1 --plain"
    process = subprocess.Popen(
        ["make", "fuzz", arguments], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(place.glob("runs/*/shakeout.sqlite")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=120)[0].decode()
    assert process.returncode != 0, said
    assert "the same command resumes" in said
