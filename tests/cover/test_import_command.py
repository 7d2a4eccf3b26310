"""``shakeout import`` and ``check``, and the same in Python: what they write, and what they are not to do."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import torch

from shakeout.corpus import blobs
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.cli import main
from shakeout.fuzz.ground import child
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.origin import read_origin, write_origin
from shakeout.fuzz.intake import checking
from shakeout.fuzz.intake.importing import CannotImport, import_file
from shakeout.fuzz.intake.told import Told
from shakeout.fuzz.running import fresh
from shakeout.fuzz.running.case_file import read_case
from shakeout.fuzz.running.fresh import Replay

# --- the commands -----------------------------------------------------------------------------------------------------

TO_IMPORT = """
import torch
from torch import nn
def case():
    print("said by the file")
    torch.manual_seed(0)
    return nn.Linear(40, 20), (torch.randn(2, 40),)
"""


def test_import_writes_a_case_that_other_commands_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(blobs.VARIABLE, "")
    Path("bug.py").write_text(TO_IMPORT)
    assert main(["import", "bug.py:case", "--target", "eager"]) == Exit.OK
    out, err = capsys.readouterr()
    assert "running bug.py in a process of its own" in err
    assert "said by the file" not in out
    (file,) = Path("imported").glob("*/case.json")
    assert f"case    {file}" in out
    case = read_case(file, None)
    assert case.id == file.parent.name
    assert out.startswith(f"{case.id}  case (bug.py): 1 operator, 3 inputs, training, eager")
    assert (file.parent / "blobs").is_dir()
    assert read_origin(file.parent) == "bug.py"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import", "absent.py"], "'absent.py' is no file"),
        (["import", "folder.py"], "'folder.py' is no file"),
        (["import", "case.json"], "expected a Python file"),
        (["import", "bug.py:a-b"], "expected FILE:NAME with a name of Python"),
        (["import", "bug.py", "--seconds", "0"], "--seconds: expected a positive number"),
        (["import", "bug.py", "--target", "absent"], "absent"),
        (["check", "bug.py", "--target", "absent"], "absent"),
    ],
)
def test_bad_arguments_are_told_before_anything_runs(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("case.json").write_text("{}")
    Path("folder.py").mkdir()
    Path("bug.py").write_text("open('ran', 'w')\n")
    assert main(arguments) == Exit.USAGE
    assert said in capsys.readouterr().err
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("text", "limits", "said"),
    [
        ("import time\nprint('before')\ntime.sleep(60)\n", {"seconds": 1.0}, "took longer than 1 s and was ended"),
        ("import os\nprint('before', flush=True)\nos.abort()\n", {}, "ended its process with SIGABRT\n"),
        ("import os\nos._exit(7)\n", {}, "ended its process with status 7"),
        ("held = bytearray(1 << 30)\nimport time\ntime.sleep(60)\n", {"memory": 700 << 20}, "and was ended: it held"),
    ],
)
def test_a_file_that_hangs_crashes_or_takes_all_memory_is_ended_and_told(
    text: str, limits: dict, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "bug.py"
    file.write_text(text)
    with pytest.raises(CannotImport) as caught:
        import_file(file, output=tmp_path / "out", **{"seconds": 120.0, "memory": 8 << 30, **limits})
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_defect_of_ours_is_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from shakeout.fuzz.intake import importing

    monkeypatch.setattr(importing, "_told", lambda *given: Told(problem="SHAKEOUT-INTERNAL KeyError: 3"))
    (tmp_path / "bug.py").write_text("")
    assert main(["import", str(tmp_path / "bug.py")]) == Exit.INTERNAL
    assert "SHAKEOUT-INTERNAL RuntimeError: KeyError: 3" in capsys.readouterr().err


def test_pickles_are_not_read_whoever_asks(tmp_path: Path) -> None:
    import pickle  # noqa: TID251

    class Evil:
        def __reduce__(self) -> tuple:
            return (Path(tmp_path / "ran").touch, ())

    with (tmp_path / "weights.pt").open("wb") as file:
        pickle.dump(Evil(), file)
    (tmp_path / "bug.py").write_text(
        f"import torch\nstate = torch.load({str(tmp_path / 'weights.pt')!r}, weights_only=False)\n"
    )
    with pytest.raises(CannotImport):
        import_file(tmp_path / "bug.py", output=tmp_path / "out", seconds=120, memory=8 << 30)
    assert not (tmp_path / "ran").exists()


def test_a_command_that_holds_too_much_memory_is_ended() -> None:
    command = [sys.executable, "-c", "held = bytearray(300 << 20)\nimport time\ntime.sleep(60)"]
    with pytest.raises(child.OutOfMemory):
        child.run(command, 60, subprocess.DEVNULL, environment={}, memory=200 << 20)


def test_what_is_told_is_json() -> None:
    from shakeout.fuzz.intake.told import Found, Refused

    told = Told((Found("a", "{}", ("b",)),), (Refused("c", "d"),), ("e",), "f")
    assert Told.from_json(json.loads(json.dumps(told.to_json()))) == told


# --- in Python --------------------------------------------------------------------------------------------------------


def test_a_test_suite_hands_its_failing_example_over_in_one_line(tmp_path: Path) -> None:
    import shakeout

    module = torch.nn.Linear(40, 20).eval()
    x = torch.randn(2, 40)
    case = shakeout.capture(module, x, knobs={"epilogue_fusion": False}, directory=tmp_path)
    assert case.setting == Setting("inductor", (("epilogue_fusion", False),))
    assert read_case(tmp_path / "case.json", None) == case
    with pytest.raises(ValueError, match="has no knob 'absent'"):
        shakeout.capture(module, x, knobs={"absent": 1})
    with pytest.raises(ValueError, match="absent"):
        shakeout.check(module, x, targets=["absent"])
    with pytest.raises(ValueError, match=r"test_import_command\.py"):
        shakeout.capture(lambda x: x * x.sum().item(), x)


def test_check_asks_targets_in_fresh_processes(tmp_path: Path) -> None:
    import shakeout

    (seen,) = shakeout.check(lambda x: x * 0, torch.tensor([float("nan"), 1.0]), targets=["aot_eager"])
    assert (seen.target, seen.status) == ("aot_eager", "agrees")


def test_targets_are_asked_side_by_side_and_told_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the others to have begun; whoever gives up ends what still runs."""
    names = ["export", "aot_eager", "dynamo"]
    begun, ended = threading.Barrier(3, timeout=60), []

    def answer(case: Case, seconds: float, stop: Callable[[], bool]) -> Replay:
        begun.wait()
        if case.setting.target == "dynamo":
            while not stop():
                time.sleep(0.01)
            ended.append(case.setting.target)
        return Replay(0, ("no difference",))

    monkeypatch.setattr(fresh, "answer", answer)
    monkeypatch.setattr(checking, "at_a_time", lambda: 3)
    case = capture(torch.sin, lambda: [torch.ones(2)], setting=Setting("eager"))
    asked = checking.check_case(case, names, 60.0)
    assert [next(asked).target, next(asked).target] == names[:2]
    assert isinstance(asked, Generator)
    asked.close()
    assert ended == ["dynamo"]


def test_a_report_says_that_a_person_brought_it(tmp_path: Path) -> None:
    from shakeout.fuzz.reporting.draft import Draft
    from shakeout.fuzz.reporting.exported import Exported
    from shakeout.fuzz.reporting.forms import written

    case = capture(torch.sin, lambda: [torch.ones(2)], setting=Setting("inductor"))
    script = Exported("pass", "short", True, "exit status 1", "")
    for brought, said in [("bug.py", "A person brought it (bug.py)"), ("", "It was found by a fuzzer")]:
        assert said in written(Draft("a title", case, False, script, brought=brought), "pytorch")
    assert read_origin(tmp_path) == ""
    write_origin(tmp_path, "bug.py", "f (bug.py:3)", ["a note"])
    assert read_origin(tmp_path) == "bug.py"
    (tmp_path / "origin.json").write_text("[3]")
    assert read_origin(tmp_path) == ""
