"""What a gate takes from a repository, an interpreter and a command line: base, head, and what is fuzzed first."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests import histories

from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.campaign.schedule import FIRST, job, turns
from shakeout.fuzz.cli import main
from shakeout.fuzz.commands.focus import focused
from shakeout.fuzz.commands.places import Mistake
from shakeout.fuzz.gate.declared import declared, declared_in, touched
from shakeout.fuzz.gate.repository import NotASide, repository, worktree
from shakeout.fuzz.gate.sending import versions_of
from shakeout.fuzz.gate.sides import Broken, Side, interpreter, sides
from shakeout.fuzz.ground.exits import Exit

# --- repositories -----------------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path, monkeypatch):
    folder = histories.made(histories.KERNELS, tmp_path / "library")
    monkeypatch.chdir(folder)
    return folder


def test_the_base_is_where_a_change_branched_off(library):
    first = repository(library).commit
    histories.git(library, "checkout", "-q", "-b", "change")
    (library / "klib" / "new.py").write_text("")
    histories.git(library, "add", "-A")
    histories.git(library, "commit", "-q", "-m", "change")
    histories.git(library, "checkout", "-q", "main")
    (library / "README.md").write_text("later")
    histories.git(library, "commit", "-q", "-a", "-m", "later")
    histories.git(library, "checkout", "-q", "change")
    found = repository(library)
    assert found.base("main") == first
    assert found.seed == int(found.commit[:12], 16)
    assert found.files_since(first) == ("klib/new.py",)
    with pytest.raises(NotASide, match="expected a Python environment"):
        found.base("nowhere")


def test_a_worktree_is_made_and_removed_and_one_that_was_left_is_replaced(library, tmp_path):
    found, place = repository(library), tmp_path / "base"
    for _ in range(2):
        with worktree(found, found.commit, place) as top:
            assert (top / "klib" / "exp.py").exists()
            # As if the gate were killed: git still knows of it.
            left = tmp_path / "left"
            subprocess.run(["cp", "-r", top, left], check=True)
        assert not place.exists()
        left.rename(place)
    with worktree(found, found.commit, place) as top:
        assert (top / "klib" / "exp.py").exists()
    assert histories.git(library, "worktree", "list").count("\n") == 0


def test_sources_come_before_what_is_installed_and_two_environments_bring_their_own(library, tmp_path, monkeypatch):
    # What leads to the head must not be found by the base.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(library), str(tmp_path / "elsewhere")]))
    with sides("main", None, repository(library), tmp_path / "base") as (base, head):
        assert base.python == head.python == Path(sys.executable)
        assert base.front == (tmp_path / "base",)
        assert head.front == (library,)
        path = base.environment(tmp_path / "ours")["PYTHONPATH"]
        assert path.split(os.pathsep) == [str(tmp_path / one) for one in ("ours", "base", "elsewhere")]
    with sides(sys.executable, None, repository(library), tmp_path / "base") as (base, head):
        assert base.front == head.front == ()
        assert base.environment(tmp_path / "ours")["PYTHONPATH"] == str(tmp_path / "ours")


def test_sources_of_torch_itself_are_not_put_in_front(library, tmp_path):
    (library / "torch").mkdir()
    (library / "torch" / "__init__.py").touch()
    both = sides("main", None, repository(library), tmp_path / "base")
    with pytest.raises(Broken, match="name two environments"):
        both.__enter__()


def test_an_interpreter_is_an_environment_or_itself(tmp_path):
    assert interpreter(str(tmp_path)) is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    assert interpreter(str(tmp_path)) == tmp_path / "bin" / "python"
    assert interpreter(sys.executable) == Path(sys.executable)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo 3 9", "expected 3.11 or newer"),
        ("echo it is broken >&2; exit 3", "it is broken"),
    ],
)
def test_an_interpreter_that_does_not_run_or_is_too_old_is_told(tmp_path, text, said):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{text}\n")
    python.chmod(0o755)
    with pytest.raises(Broken, match=said):
        versions_of(Side("base", "old", python, tmp_path))


def test_what_a_repository_declares_is_read_from_its_sources(library):
    assert declared(library) == tuple(sorted(histories.KERNELS.targets))
    path = library / "other.py"
    path.write_text(
        textwrap.dedent("""
        from shakeout import kernel as compared, runtime
        @compared(reference=abs)
        def one(x): ...
        @runtime
        class Two: ...
        @kernel
        def three(x): ...
        """)
    )
    assert declared_in(path) == ("one", "Two")


def test_a_change_touches_what_imports_it(library):
    found = repository(library)
    targets = histories.KERNELS.targets
    assert touched(targets, (library,), found.root, ["klib/exp.py"]) == ("klib.exp:exp",)
    shared = touched(targets, (library,), found.root, ["klib/common.py"])
    assert set(targets) - set(shared) == {"klib.square:square"}
    assert touched(targets, (library,), found.root, ["README.md"]) == ()


# --- focus ------------------------------------------------------------------------------------------------------------


def test_focus_is_targets_and_operators(monkeypatch):
    found = focused(["torch.cumsum", "aot_eager", "mine.k:k", "*softmax*"])
    assert found.targets == ("aot_eager", "mine.k:k")
    assert found.operators == ("torch.cumsum", "*softmax*")
    with pytest.raises(Mistake, match=r"did you mean torch\.cumsum"):
        focused(["torch.cumsun"])


def test_what_comes_first_has_more_turns_and_is_not_alone():
    config = Config(targets=("a:a", "b:b"), first=("b:b",))
    circle = turns(config.targets, config.first)
    assert circle.count("b:b") == FIRST * circle.count("a:a") > 0
    assert job(config, 0).target == "a:a"
    assert turns(config.targets, config.targets) == turns(config.targets)


def test_every_program_calls_an_operator_in_focus():
    from shakeout.fuzz.running.compose import compose

    config = Config(targets=("eager",), focus=("torch.cumsum",))
    programs = [compose(job(config, number)).case.program for number in range(12)]
    assert all("torch.cumsum" in program.operators() for program in programs)
    assert len({operator for program in programs for operator in program.operators()}) > 3


# --- what is asked for wrongly ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--error", "2"], "--error: expected a probability"),
        (["--workers", "0"], "--workers: expected a positive whole number"),
        (["--focus", "torch.nothing_like_it"], "--focus torch.nothing_like_it: expected a target"),
        (["--corpus", "shakeout-gate/cases"], "which this gate writes anew"),
        (["--head", "nowhere"], "--head nowhere: expected a Python environment"),
    ],
)
def test_a_wrong_flag_is_told(library, capsys, arguments, said):
    status = main(["gate", "--base", "main", "--target", "klib.exp:exp", *arguments])
    printed = capsys.readouterr()
    assert said in printed.err + printed.out
    assert status == Exit.USAGE


def test_a_wrong_budget_is_told(library, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["gate", "--base", "main", "--target", "klib.exp:exp", "--budget", "soon"])
    assert ended.value.code == Exit.USAGE
    assert "--budget: expected a time such as 90s, 10m or 1h30m, found 'soon'" in capsys.readouterr().err
