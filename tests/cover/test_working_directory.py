"""Where people work lie folders and files with the names of what is installed; Shakeout finds what is installed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shakeout.corpus.interpreter import installed
from shakeout.corpus.known import DIRECTORY
from shakeout.fuzz.ground.exits import Exit

#: As the console script does it: without the working directory on ``sys.path``.
SCRIPT = ["-P", "-c", "import sys; from shakeout.fuzz.cli import main; sys.exit(main())"]

CASE = DIRECTORY / "mul-by-zero-loses-nan.json"

KERNEL = """
import torch
import shakeout

@shakeout.kernel(reference=torch.nn.functional.relu, examples=lambda: [torch.ones(2, 3)])
def my_relu(x):
    return torch.where(x > 0, x, torch.zeros_like(x))
"""

TEST = """
import torch
from mine import my_relu

def test_relu():
    assert my_relu(torch.ones(3)).sum() == my_relu(torch.ones(1, 3)).sum() == 3
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory in which nothing may be imported but ``mine``."""
    for name in ("torch", "numpy", "tvm", "onnx", "onnxruntime", "openvino", "not_installed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('a folder of the working directory')\n")
    for name in ("random", "json", "typing", "re", "enum", "argparse"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('a file of the working directory')\n")
    (tmp_path / "mine.py").write_text(KERNEL)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mine.py").write_text(TEST)
    return tmp_path


def shakeout(directory: Path, *arguments: str, start: list[str] = SCRIPT) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=250,
        check=False,
    )
    assert "SHAKEOUT-INTERNAL" not in done.stdout, done.stdout
    assert "of the working directory" not in done.stdout, done.stdout
    return done.returncode, done.stdout


@pytest.mark.parametrize("start", [SCRIPT, ["-m", "shakeout"]], ids=["script", "module"])
def test_what_is_installed_is_found_before_the_working_directory(checkout: Path, start: list[str]) -> None:
    # A folder shakeout/ is passed over too, but not by -m, which Python itself looks up there.
    if start is SCRIPT:
        (checkout / "shakeout").mkdir()
        (checkout / "shakeout" / "__init__.py").write_text("raise ImportError('a folder of the working directory')\n")
    status, said = shakeout(checkout, "targets", start=start)
    assert (status, "MODULE:NAME" in said) == (0, True), said
    status, said = shakeout(checkout, "replay", str(CASE), "--target", "aot_eager", start=start)
    assert (status, "no difference" in said) == (0, True), said


def test_a_script_in_the_working_directory_and_its_children_find_what_is_installed(checkout: Path) -> None:
    (checkout / "repro.py").write_text(
        "import json, subprocess, sys\nimport torch\n"
        "if sys.argv[1:]:\n    print('the child too')\n"
        "else:\n    sys.exit(subprocess.run([sys.executable, __file__, 'child']).returncode)\n"
    )
    assert shakeout(checkout, "replay", "repro.py") == (0, "the child too\n")


def test_a_folder_is_no_installed_package(checkout: Path) -> None:
    code = (
        "from shakeout.corpus.interpreter import add_working_directory, installed; add_working_directory(); "
        "import mine; print(installed('torch'), installed('not_installed'))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=checkout, capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
    assert installed("torch")
    assert not installed("no_such_package")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_a_replay_that_is_ended_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "repro.py").write_text(
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(200)'])\n"
        "print(os.getpid(), child.pid, flush=True)\nchild.wait()\n"
    )
    command = [sys.executable, *SCRIPT, "replay", "repro.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pids = [int(word) for word in running.stdout.readline().split()]
        assert len(pids) == 2
        running.send_signal(number)
        _, said = running.communicate(timeout=30)
    assert running.returncode == Exit.INTERRUPTED
    assert said == "shakeout: interrupted\n"
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.exhaustive
def test_every_command_that_runs_something_works_there(checkout: Path) -> None:
    (checkout / "case.json").write_text(CASE.read_text())
    status, said = shakeout(
        checkout,
        "run",
        "--target",
        "mine:my_relu",
        "--target",
        "aot_eager",
        "--cases",
        "4",
        "--workers",
        "1",
        "--plain",
    )
    assert status in (0, 1), said
    assert "mine:my_relu" in said
    for arguments, words in (
        (["minimise", "case.json", "--seconds", "60", "--workers", "1", "--plain"], "fails 5 of 5"),
        (["bisect", "case.min.json", "--workers", "1", "--plain"], "culprit   stage inductor"),
        (["report", "case.min.json", "--anyway"], "PyTorch version: 2"),
        (["learn", "mine:my_relu", "--examples", "tests", "--plain"], "1 of 1 operators learnt"),
        (["operators", "torch.nn.functional.relu"], "1 operators"),
        (["doctor"], "ok       torch"),
        (["selftest"], "ok      abort"),
    ):
        status, said = shakeout(checkout, *arguments)
        assert (status, words in said) == (0, True), said
