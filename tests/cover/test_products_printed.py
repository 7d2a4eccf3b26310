"""Reports of what goes wrong behind a converter or importer: the model alone, which needs no PyTorch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shakeout.corpus import regressions
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.reporting.models import behind_model, model_script
from shakeout.oracles.verdict import Outcome, Verdict
from shakeout.targets import tvm_printed
from shakeout.targets.registry import target

SHIPPED = {bug.id: bug.case for bug in regressions.load_all()}
ALONE = (
    "import runpy, sys; sys.modules['shakeout'] = sys.modules['torch'] = None; "
    "runpy.run_path(sys.argv[1], run_name='__main__')"
)


def installed(name: str) -> None:
    if (lacking := target(name).unavailable()) is not None:
        pytest.skip(lacking)


def case_of(name: str, function: Callable[..., object], *given: torch.Tensor) -> Case:
    return capture(function, lambda: list(given), setting=Setting(name))


def ran(text: str | None, folder: Path) -> tuple[int, str]:
    """Exit status and standard output of a script in a process where torch cannot be imported."""
    assert text is not None
    path = folder / "repro.py"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize(
    ("bug", "written", "said"),
    [
        ("openvino-clamp-loses-nan", 'opset1.create("Maximum", [parameter_0, constant_1]', "nan"),
        ("tvm-pow-of-bfloat16", "R.power(given_0, given_0)", "power only applies to float"),
    ],
)
def test_a_shipped_bug_is_shown_by_the_model_alone(bug: str, written: str, said: str, tmp_path: Path) -> None:
    installed(SHIPPED[bug].setting.target)
    text = model_script(SHIPPED[bug])
    assert text is not None
    assert written in text
    assert len(text.splitlines()) < 60
    status, found = ran(text, tmp_path)
    if (status, found) == (0, "no difference"):
        pytest.skip("fixed in the installed release")
    assert status == 1
    assert said in found


@pytest.mark.parametrize("name", ["openvino", "tvm"])
def test_what_is_right_shows_no_difference(name: str, tmp_path: Path) -> None:
    installed(name)
    # Two outputs of one operator, attributes, an operand of integers, and no constant that TVMScript cannot write.
    case = case_of(
        name,
        lambda x, y: (*torch.topk(x, 2), y + 1, torch.nn.functional.max_pool1d(x, 2)),
        torch.tensor([[0.5, float("inf"), 2.0, 1.0]]),
        torch.arange(3),
    )
    assert ran(model_script(case), tmp_path) == (0, "no difference")


def test_what_nobody_would_read_has_no_such_script(monkeypatch: pytest.MonkeyPatch) -> None:
    installed("tvm")
    assert model_script(case_of("tvm", lambda x: x.sin(), torch.ones(300))) is None  # and as many expected
    monkeypatch.setattr(tvm_printed, "LINES", 5)
    assert model_script(case_of("tvm", lambda x: x.sin(), torch.ones(3))) is None


@pytest.mark.parametrize(
    ("name", "stage", "behind"),
    [
        ("openvino", "convert_model", False),
        ("openvino", "compile_model", True),
        ("tvm", "from_exported_program", False),
        ("tvm", "relax.build", True),
        ("tvm", "unoptimised build", False),  # nobody evaluates Relax, so the importer may be to blame
    ],
)
def test_only_what_begins_behind_the_converter_is_shown_so(name: str, stage: str, behind: bool) -> None:
    case = case_of(name, lambda x: x.sin(), torch.ones(3))
    failing = Verdict("exception", Outcome.FAIL, "ValueError")
    assert behind_model(case, Result(case.id, name, "compared", (failing,), stage=stage)) is behind
