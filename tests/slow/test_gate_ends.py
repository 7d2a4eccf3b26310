"""What may end a gate before it is done: each has its message and its exit status, and leaves nothing at work."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests import histories

from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
from shakeout.corpus.user_objects import ALLOWED, allow
from shakeout.fuzz.gate.cases import Candidate
from shakeout.fuzz.gate.pair import Pair
from shakeout.fuzz.gate.sides import Broken, Side
from shakeout.fuzz.ground.exits import Exit

pytestmark = pytest.mark.timeout(180)

EXP = ("--target", "klib.exp:exp", "--no-shipped", "--workers", "1", "--seed", "1")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library of kernels, with the change that computes whole blocks only on top of ``main``."""
    folder = histories.made(histories.KERNELS, tmp_path / "library")
    change = next(one for one in histories.KERNELS.changes if one.title == "Whole blocks only")
    histories.apply(folder, change)
    return folder


@contextmanager
def begun(library: Path, until: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """A gate that has printed a line which begins so."""
    command = [sys.executable, "-m", "shakeout", "gate", *EXP, *arguments]
    with subprocess.Popen(
        command, cwd=library, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        while lines[-1] and not lines[-1].strip().startswith(until):
            lines.append(process.stdout.readline())
        assert lines[-1], "".join(lines)
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Its exit status and what else it printed."""
    said, _ = process.communicate()
    return process.returncode, said


def failing() -> Case:
    """A case that the change gets wrong: fewer elements than a block."""
    three = TensorType("float32", (3,))
    program = Program((Input(three),), (Call("klib.exp:exp", (Ref(0),), (), (three,)),), (1,), "kernel")
    inputs = InputSet((Storage("float32", 3, Values("integers", 5, 1, 4)),), (View(0, "float32", (3,), (1,)),))
    allow("klib.exp:exp")
    return Case(program, (inputs,), Setting("klib.exp:exp"))


def at_work(library: Path) -> dict[int, str]:
    """Processes that were started for the gate, and their commands."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(entry / "cwd")).is_relative_to(library):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def test_a_killed_gate_leaves_no_process_and_the_next_one_finds_its_way(library):
    with begun(library, "warming", "--base", "main", "--budget", "5m") as process:
        process.kill()
        process.wait()
    late = time.monotonic() + 10
    while (left := at_work(library)) and time.monotonic() < late:
        time.sleep(0.05)
    assert not left
    # Its worktree is still there, and known to git.
    assert histories.git(library, "worktree", "list").count("\n") == 1
    with begun(library, "fuzz", "--base", "main", "--budget", "5s") as process:
        status, said = ended(process)
    assert status in (Exit.FOUND, Exit.VACUOUS), said  # as much as five seconds allow
    assert histories.git(library, "worktree", "list").count("\n") == 0


def test_a_side_that_is_killed_is_told_with_its_log(library):
    with begun(library, "warming", "--base", "main", "--budget", "5m") as process:
        (head,) = [pid for pid, words in at_work(library).items() if "fuzz.gate.errand" in words]
        os.kill(head, signal.SIGKILL)
        status, said = ended(process)
    assert status == Exit.INFRASTRUCTURE, said
    assert "the head (" in said
    assert "ended with status -9" in said
    assert "head-fuzz.log)" in said
    assert not at_work(library)


def test_a_base_that_goes_away_in_the_middle_is_told(library, tmp_path, monkeypatch):
    monkeypatch.setenv(ALLOWED, "")
    python = tmp_path / "base" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    base = Side("base", "old", python, library)
    head = Side("head", "new", Path(sys.executable), library)
    late = time.monotonic() + 60
    pair = Pair(base, head, ("klib.exp:exp",), tmp_path / "out", 1, 1 << 30, lambda event: None, lambda: False)
    found = [Candidate("a", failing(), "corpus")]
    pair.look(late)
    (ran,) = pair.once(head, found, late).values()
    assert ran.failure is not None
    # A pip that fails there half-way: first what is tested cannot be imported, then the interpreter is gone.
    (library / "klib" / "exp.py").rename(library / "klib" / "exp.old")
    with pytest.raises(Broken, match=r"the base old: nothing runs on klib\.exp:exp: .*there is no module klib\.exp"):
        pair.once(base, found, late)
    python.unlink()
    with pytest.raises(Broken, match=r"the base old cannot be started: .*No such file"):
        pair.both(found, found, 2, late)


def test_a_disk_that_fills_up_is_told(library, disk):
    with begun(library, "warming klib", "--base", "main", "--budget", "5m", "--out", str(disk / "gate")) as process:
        # Nothing is left, not even for a report.
        with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        status, said = ended(process)
    assert status == Exit.DIRECTORY, said
    assert f"{disk}" in said
    assert "full" in said
    assert "Traceback" not in said
    assert not at_work(library)
    assert histories.git(library, "worktree", "list").count("\n") == 0


@pytest.mark.exhaustive  # the disk that fills up shows the way of the message
def test_a_limit_on_the_size_of_files_is_told(library):
    command = f"ulimit -f 16; exec {sys.executable} -m shakeout gate {' '.join(EXP)} --base main --budget 5m"
    done = subprocess.run(["bash", "-c", command], cwd=library, capture_output=True, text=True)
    assert done.returncode == Exit.DIRECTORY, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "the disk is full, or broken" in done.stdout


@pytest.mark.exhaustive  # tests/cover has what a gate makes of it
def test_a_case_that_hangs_when_the_time_is_over_is_no_green_gate(library):
    histories.git(library, "checkout", "-q", "main")
    kernel = library / "klib" / "exp.py"
    hanging = "    takes(x)\n    while x.numel() == 1:\n        __import__('time').sleep(60)\n"
    kernel.write_text(kernel.read_text().replace("    takes(x)\n", hanging))
    with begun(library, "fuzz", "--base", "main", "--budget", "40s") as process:
        status, said = ended(process)
    assert status == Exit.VACUOUS, said
    assert "a case on klib.exp:exp was at work for " in said
    assert "far longer than others, and may hang" in said
