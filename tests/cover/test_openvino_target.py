"""OpenVINO as a target: what goes in and out, what is declined, and which stage is named."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.tiers import some

pytest.importorskip("openvino", reason="the target needs openvino")

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Mode, Setting
from shakeout.fuzz.running.execute import Shared, execute, repro
from shakeout.oracles.verdict import Outcome
from shakeout.targets.openvino import OPENVINO


def case(function: Callable, *inputs: torch.Tensor, mode: Mode = "inference", **knobs) -> Case:
    def make() -> list[torch.Tensor]:
        return [x.detach().clone() for x in inputs]

    return capture(function, make, setting=Setting("openvino", tuple(sorted(knobs.items())), mode))


def passes(one: Case) -> None:
    result = execute(one)
    assert (result.status, result.outcome) == ("compared", Outcome.PASS), result


KNOBS = [{}, *({k.name: v} for k in OPENVINO.knobs() for v in k.values[1:])]


@pytest.mark.parametrize("knobs", some(KNOBS, every=3))
def test_every_setting_compiles_and_runs(knobs: dict) -> None:
    x = torch.arange(12.0).reshape(3, 4)
    passes(case(lambda x, y: (torch.softmax(x @ y, 1) + x.sum(), x.t(), torch.relu(y - 3)), x, x.t(), **knobs))


@pytest.mark.parametrize(
    "dtype",
    some(["bool", "uint8", "int8", "bfloat16", "int16", "int32", "int64", "float16", "float32"], every=3),
)
def test_dtypes_come_back_as_they_are(dtype: str) -> None:
    x = torch.tensor([[0, 1, 5], [1, 0, 7]]).to(getattr(torch, dtype))
    passes(case(lambda x: (x.t(), torch.cat([x, x]), x), x))


@pytest.mark.parametrize(
    "x",
    [torch.arange(24.0).reshape(4, 6).t(), torch.arange(9.0)[1::2], torch.ones(3, 1).expand(3, 4), torch.tensor(2.0)],
    ids=["transposed", "offset", "expanded", "scalar"],
)
def test_layouts(x: torch.Tensor) -> None:
    one = capture(lambda x: (x + 1, x.sum()), lambda: [x], setting=Setting("openvino"))
    passes(one)


@pytest.mark.parametrize("knobs", [{}, {"shapes": "static"}, {"reload": "ir"}, {"reload": "blob"}], ids=str)
def test_inputs_that_no_result_comes_from(knobs: dict) -> None:
    whole, x, y = torch.arange(3), torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])
    passes(case(lambda a, x, b, y: (a.float().sqrt(), b.neg(), x - 2 * y)[2], whole, x, x, y, **knobs))


def test_results_that_no_input_goes_into() -> None:
    passes(case(lambda x: torch.ones(2), torch.zeros(3)))


def test_tensors_without_elements() -> None:
    passes(case(lambda x, y: (x + 1, torch.cat([x, y])), torch.ones(0, 3), torch.ones(2, 3)))


def test_constants_and_parameters() -> None:
    passes(case(lambda x: (x + torch.ones(3), torch.full((2,), 4.0)), torch.ones(3)))


def test_sizes_may_vary_between_the_calls() -> None:
    for knobs in ({}, {"shapes": "static"}):
        one = case(lambda x: (torch.relu(x).sum(0), x * 2), torch.ones(4, 3), **knobs)
        other = case(lambda x: (torch.relu(x).sum(0), x * 2), torch.ones(7, 3))
        passes(replace(one, input_sets=(*one.input_sets, *other.input_sets)))


@pytest.mark.parametrize(
    ("function", "x", "said"),
    [
        (lambda x: (x.mul_(2),), torch.ones(3), "writes to its inputs"),
        (lambda x: (x + 1,), torch.ones(3, dtype=torch.float64), "computes float"),
        (lambda x: (x + 1,), torch.ones(3, dtype=torch.complex64), "takes no torch.complex"),
        (lambda x: (x + 1,), torch.tensor([2**40]), "computes int"),
        (lambda x: (x * 2**20,), torch.tensor([2**20]), "computes int"),
        (lambda x: (x * x,), torch.tensor([100], dtype=torch.int8), "integer overflows"),
        (lambda x: (x.to(torch.int8),), torch.tensor([300.0]), "integer overflows"),
        (  # within an operator that is made of others
            lambda x: (torch.nn.functional.margin_ranking_loss(x[:1], x, x),),
            torch.tensor([0, 32767], dtype=torch.int16),
            "integer overflows",
        ),
        (lambda x: (torch.special.i1e(x),), torch.ones(3), "OpConversionFailure"),
    ],
)
def test_what_it_does_not_take_is_declined(function: Callable, x: torch.Tensor, said: str) -> None:
    result = execute(case(function, x))
    assert result.status == "unsupported"
    assert said in result.reason


def test_training_is_declined() -> None:
    x = torch.ones(3, requires_grad=True)
    one = capture(
        lambda x: (x * 2,), lambda: [x.detach().clone().requires_grad_()], setting=Setting("openvino", (), "training")
    )
    assert execute(one).status == "unsupported"


def test_errors_of_converter_and_plugin_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    def broken(*given: object, **named: object) -> None:
        raise RuntimeError("Check 'rank == 2' failed")

    with monkeypatch.context() as patch:
        patch.setattr(openvino, "convert_model", broken)
        result = execute(case(lambda x: (x + 1,), torch.ones(3)))
    assert (result.status, result.stage) == ("failed", "convert_model")
    with monkeypatch.context() as patch:
        patch.setattr(openvino.Core, "compile_model", broken)
        result = execute(case(lambda x: (x + 1,), torch.ones(3)))
    assert (result.status, result.stage) == ("failed", "compile_model")


def test_settings_of_one_program_share_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    one = case(lambda x: (torch.cos(x),), torch.ones(3))
    shared = Shared()
    first = execute(one, shared=shared)
    second = execute(replace(one, setting=Setting("openvino", (("reload", "ir"),))), shared=shared)
    assert {"torch.export", "convert_model", "compile_model"} <= set(first.seconds)
    assert not {"torch.export", "convert_model"} & set(second.seconds)
    assert second.outcome is Outcome.PASS


def test_a_wrong_model_and_a_wrong_plugin_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    convert = openvino.convert_model
    other = torch.export.export(torch.nn.Identity(), (torch.ones(3),))
    with monkeypatch.context() as patch:
        patch.setattr(openvino, "convert_model", lambda program: convert(other))
        result = execute(case(lambda x: (x * 2,), torch.ones(3)))
    assert (result.status, result.outcome, result.stage) == ("compared", Outcome.FAIL, "OpenVINO model")
    wrong = convert(other)
    compiled = openvino.Core.compile_model
    with monkeypatch.context() as patch:
        patch.setattr(openvino.Core, "compile_model", lambda core, model, *more: compiled(core, wrong, *more))
        result = execute(case(lambda x: (x * 2,), torch.ones(3)))
    assert (result.status, result.outcome, result.stage) == ("compared", Outcome.FAIL, "openvino")


def test_nothing_is_left_behind_that_a_fork_dies_of() -> None:
    code = """
import os
from shakeout.targets.openvino import OPENVINO
OPENVINO.warm()
child = os.fork()
if child == 0:
    OPENVINO.warm()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
import sys
assert not sys.modules.get("openvino_telemetry")
import torch
assert (torch.full((4,), 1e-40) * 1.0).min() > 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_script_runs_by_itself(tmp_path: Path) -> None:
    script = tmp_path / "repro.py"
    script.write_text(repro(case(lambda x: (torch.sin(x) @ x.t(), x.sum()), torch.ones(2, 3), reload="blob")))
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done
    assert "no difference" in done.stdout


def test_a_missing_or_broken_package_is_told_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert OPENVINO.unavailable() is None
    with monkeypatch.context() as patch:
        patch.setattr("shakeout.targets.packages.module_available", lambda name: name == "torch")
        assert "pip install openvino" in (OPENVINO.unavailable() or "")
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").touch()
    code = "from shakeout.targets.openvino import OPENVINO; print(OPENVINO.unavailable())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "pip install --force-reinstall openvino" in done.stdout
