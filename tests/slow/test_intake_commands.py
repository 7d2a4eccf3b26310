"""The commands that run what people hand over: what they say, and that nothing outlives them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shakeout.fuzz.ground.exits import Exit

SLEEPER = """
import os, time
with open("pid.part", "w") as file:
    file.write(str(os.getpid()))
os.rename("pid.part", "pid")
time.sleep(600)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130)])
def test_what_is_run_ends_with_the_command(number: signal.Signals, status: int, tmp_path: Path) -> None:
    (tmp_path / "bug.py").write_text(SLEEPER)
    command = [sys.executable, "-m", "shakeout", "import", "bug.py"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pid = int(_eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == status
    assert _eventually(lambda: not _runs(pid))
    assert not (tmp_path / "imported").exists()


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "bug.py").write_text("import torch\ntorch.compile(torch.sin)(torch.ones(2))\n")
    (tmp_path / "imported").write_text("a file in the way")
    command = [sys.executable, "-m", "shakeout", "import", "bug.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == Exit.DIRECTORY
    assert "imported" in done.stderr
    assert "Traceback" not in done.stderr


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"


def _eventually(look):  # type: ignore[no-untyped-def]
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError("nothing happened within two minutes")


DIFFERS = """
import torch

def function(x, w):
    with torch.autocast("cpu", enabled=False):
        return x.float() @ w.float().T

def run(backend):
    x = torch.linspace(-1, 1, 64, dtype=torch.bfloat16).reshape(4, 16).requires_grad_()
    w = torch.linspace(-1, 1, 256).reshape(16, 16).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return torch.compile(function, backend=backend)(x, w)

run("aot_eager")
run("eager")
"""


def test_check_says_what_differs_once_for_each_target(tmp_path: Path) -> None:
    (tmp_path / "bug.py").write_text(DIFFERS)
    command = [sys.executable, "-m", "shakeout", "check", "bug.py", "--target", "eager", "--target", "aot_eager"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    lines = done.stdout.splitlines()
    assert done.returncode == Exit.FOUND, done.stderr
    assert [line.split()[:2] for line in lines if line.startswith("  ")] == [
        ["eager", "agrees:"],
        ["aot_eager", "differs:"],
    ]
    assert "gradient" in done.stdout
    assert sum("5 operators" in line for line in lines) == 2
    assert not (tmp_path / "imported").exists()


def test_check_is_quiet_where_nothing_differs(tmp_path: Path) -> None:
    (tmp_path / "bug.py").write_text("import torch\ntorch.compile(torch.sin)(torch.ones(2))\n")
    command = [sys.executable, "-m", "shakeout", "check", "bug.py", "--target", "aot_eager"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == Exit.OK, done.stderr
    assert "  aot_eager    agrees: no difference" in done.stdout
