"""The gate, whole: repositories, environments and processes as a user has them."""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
from tests import histories

from shakeout.corpus.user_objects import ALLOWED, allow
from shakeout.fuzz.gate.sending import Errand, waited
from shakeout.fuzz.gate.sides import Side
from shakeout.fuzz.ground.exits import Exit


def gate(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "shakeout", "gate", "--workers", "2", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def told(folder: Path) -> dict:
    return json.loads((folder / "shakeout-gate" / "gate.json").read_text())


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library of kernels, with the change that computes whole blocks only on top of ``main``."""
    folder = histories.made(histories.KERNELS, tmp_path / "library")
    change = next(one for one in histories.KERNELS.changes if one.title == "Whole blocks only")
    histories.apply(folder, change)
    return folder


def test_what_breaks_is_red_with_a_small_program_and_what_only_declines_is_vacuous(library):
    # One kernel is broken by the change; another one declines everything in what is not committed yet.
    declining = library / "klib" / "silu.py"
    declining.write_text(declining.read_text().replace("    takes(x)\n", "    takes(x, 99)\n"))
    both = ("--target", "klib.exp:exp", "--target", "klib.silu:silu")
    done = gate(library, "--base", "main", *both, "--budget", "30s", "--seed", "1")
    assert done.returncode == Exit.FOUND, done.stdout + done.stderr
    found = told(library)
    blocking = [one for one in found["findings"] if one["decision"]["blocking"]]
    assert {one["target"] for one in blocking} == {"klib.exp:exp"}
    first = blocking[0]
    assert first["operators"].count("klib.exp:exp") >= 1
    assert len(first["operators"]) <= 3
    assert (first["file"], first["reduced"]) == ("klib/exp.py", True)
    assert set(first["decision"]["base"]["runs"]) == {"passes"}
    assert any("floating-point tensors of rank" in one["reason"] for one in found["refusals"])
    assert "the head holds what is not committed; the seed is that of its last commit" in found["notes"]
    assert found["seconds"]["all"] < 30 + 30
    out = library / "shakeout-gate"
    shown = subprocess.run([sys.executable, out / first["script"]], cwd=library, capture_output=True, text=True)
    assert shown.returncode == 1, shown.stdout + shown.stderr
    assert list(xml.parse(out / "junit.xml").iter("failure"))
    assert "wrong value" in (out / "summary.md").read_text()
    assert histories.git(library, "worktree", "list").count("\n") == 0
    # What was kept is a corpus: with the mistake mended it passes, and its fix is no finding.
    (library / "regressions").mkdir()
    (out / first["case"]).rename(library / "regressions" / "exp.json")
    histories.git(library, "checkout", "-q", "main", "--", "klib/exp.py")
    corpus = ("--corpus", "regressions", "--allow", "klib.exp")
    again = gate(library, "--base", "main", "--target", "klib.silu:silu", "--budget", "20s", *corpus)
    assert again.returncode == Exit.VACUOUS, again.stdout + again.stderr
    assert "vacuous: klib.silu:silu: 0 of" in again.stdout
    assert [one["state"] for one in told(library)["replays"]] == ["passes"]


def test_a_base_that_cannot_be_used_is_no_finding(library, tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    done = gate(library, "--base", str(bare), "--target", "klib.exp:exp")
    assert done.returncode == Exit.INFRASTRUCTURE, done.stdout + done.stderr
    assert f"the base {bare} has no torch and no numpy; install it there" in done.stdout
    assert "pip install torch numpy" in told(library)["verdict"]
    (error,) = xml.parse(library / "shakeout-gate" / "junit.xml").iter("error")
    assert "has no torch" in error.get("message", "")


def test_an_environment_without_shakeout_is_lent_it_and_what_it_needs(library, tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv(ALLOWED, "")
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path / "store"))

    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    (site,) = bare.glob("lib/python3*/site-packages")
    missing = ("hakeout", "safetensors", "expecttest", "__editable__", ".pth")
    for path in Path(torch.__file__).parents[1].iterdir():
        if not any(word in path.name for word in missing):
            (site / path.name).symlink_to(path)
    side = Side("head", "bare", bare / "bin" / "python", library, (library,))
    request = {"errand": "about", "targets": ["klib.silu:silu", "klib.silu:nothing", "nowhere", "eager"]}
    allow("klib.silu:silu")
    first = waited([Errand(side, tmp_path / "scratch", request).start()])[0].answer
    assert first["lacking"] == ["safetensors", "expecttest"]
    assert first["targets"]["klib.silu:silu"]["file"] == str(library / "klib" / "silu.py")
    states = {name: found["state"] for name, found in first["targets"].items()}
    expected = ("ready", "absent", "absent", "ready")
    assert states == dict(zip(request["targets"], expected, strict=True))
    assert first["versions"]["torch"] == torch.__version__
    again = waited([Errand(side, tmp_path / "scratch", request, first["lacking"]).start()])[0].answer
    assert again["lacking"] == []


def test_a_head_that_cannot_be_imported_is_told_and_so_is_an_unknown_base(library):
    (library / "klib" / "exp.py").write_text("import shakeout\nraise RuntimeError('half a merge')\n")
    done = gate(library, "--base", "main", "--target", "klib.exp:exp")
    assert done.returncode == Exit.INFRASTRUCTURE, done.stdout + done.stderr
    assert "RuntimeError: half a merge" in done.stdout
    done = gate(library, "--base", "nowhere", "--target", "klib.exp:exp")
    assert done.returncode == Exit.USAGE
    assert "--base nowhere: expected a Python environment or interpreter, or a branch" in done.stderr


def test_a_signal_ends_a_gate_with_what_is_known_and_leaves_no_process_and_no_worktree(library):
    command = [sys.executable, "-m", "shakeout", "gate", "--base", "main", "--target", "klib.exp:exp", "--budget", "5m"]
    with subprocess.Popen(command, cwd=library, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("fuzz"):
                break
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(30) == Exit.INTERRUPTED, rest
    assert "interrupted" in rest
    assert told(library)["status"] == Exit.INTERRUPTED
    assert histories.git(library, "worktree", "list").count("\n") == 0
    assert not _processes_in(library)


def _processes_in(folder: Path) -> list[str]:
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if Path(os.readlink(f"/proc/{entry.name}/cwd")).is_relative_to(folder):
                    found.append(entry.name)
            except OSError:
                continue
    return found
