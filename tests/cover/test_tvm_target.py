"""TVM as a target: what goes in and out, what is declined, and which stage is named."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.tiers import some

pytest.importorskip("tvm", reason="the target needs apache-tvm")

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Mode, Setting
from shakeout.fuzz.running.execute import Shared, execute, repro
from shakeout.oracles.verdict import Outcome
from shakeout.targets.tvm import TVM


def case(function: Callable, *inputs: torch.Tensor, mode: Mode = "inference", **knobs) -> Case:
    def make() -> list[torch.Tensor]:
        return [x.detach().clone() for x in inputs]

    return capture(function, make, setting=Setting("tvm", tuple(sorted(knobs.items())), mode))


def passes(one: Case) -> None:
    result = execute(one)
    assert (result.status, result.outcome) == ("compared", Outcome.PASS), result


@pytest.mark.long
def test_every_setting_builds_and_runs() -> None:
    x = torch.arange(12.0).reshape(3, 4)
    one = case(
        lambda x, y: (torch.softmax(x @ y, 1) + x.sum(), x.permute(1, 0), torch.relu(y - 3).reshape(-1)), x, x.t()
    )
    shared = Shared()
    for knob in TVM.knobs():
        for value in knob.values:
            result = execute(replace(one, setting=Setting("tvm", ((knob.name, value),))), shared=shared)
            assert (result.status, result.outcome) == ("compared", Outcome.PASS), (knob.name, value, result)


def test_passes_that_are_left_out_are_left_out_of_the_pipeline_that_has_them() -> None:
    one = case(lambda x: (torch.sin(x + 1) * 2,), torch.ones(3))
    shared = Shared()
    for name in ("FoldConstant", "FuseOps", "FuseTIR"):
        knobs = (("disabled", name), ("pipeline", "zero"))
        result = execute(replace(one, setting=Setting("tvm", knobs)), shared=shared)
        assert (result.status, result.outcome) == ("compared", Outcome.PASS), (name, result)


@pytest.mark.parametrize(
    "dtype",
    some(
        (
            *("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
            *("bfloat16", "float16", "float32", "float64"),
        ),
        every=3,
    ),
)
def test_dtypes_come_back_as_they_are(dtype: str) -> None:
    x = torch.tensor([[0, 1, 5], [1, 0, 7]]).to(getattr(torch, dtype))
    passes(case(lambda x: (x.t(), x), x))


@pytest.mark.parametrize(
    "x",
    [torch.arange(24.0).reshape(4, 6).t(), torch.arange(9.0)[1::2], torch.ones(3, 1).expand(3, 4), torch.tensor(2.0)],
    ids=["transposed", "offset", "expanded", "scalar"],
)
def test_layouts(x: torch.Tensor) -> None:
    passes(capture(lambda x: (x + 1, x.sum()), lambda: [x], setting=Setting("tvm")))


def test_tensors_without_elements() -> None:
    passes(case(lambda x, y: (x + 1, torch.cat([x, y])), torch.ones(0, 3), torch.ones(2, 3)))
    passes(case(lambda x: (x * 2,), torch.ones(4, 0)))


def test_constants() -> None:
    passes(case(lambda x: (x + torch.ones(3), torch.full((2,), 4.0)), torch.ones(3)))


def test_sizes_may_vary_between_the_calls() -> None:
    one = case(lambda x: (torch.relu(x).sum(0), x * 2), torch.ones(4, 3))
    other = case(lambda x: (torch.relu(x).sum(0), x * 2), torch.ones(7, 3))
    passes(replace(one, input_sets=(*one.input_sets, *other.input_sets)))


def test_without_decompositions_writes_within_the_program_are_declined() -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.sin(x).reshape(2, 2).mul_(2),)

    passes(case(program, torch.ones(4)))
    result = execute(case(program, torch.ones(4), **{"import.decompositions": False}))
    assert result.status == "unsupported"
    assert "writes within" in result.reason


@pytest.mark.parametrize(
    ("function", "x", "said"),
    [
        (lambda x: (x.mul_(2),), torch.ones(3), "writes to its inputs"),
        (lambda x: (x + 1,), torch.ones(3, dtype=torch.complex64), "is not handled yet"),
        (lambda x: (torch.special.i1e(x),), torch.ones(3), "Unsupported function types"),
    ],
)
def test_what_it_does_not_take_is_declined(function: Callable, x: torch.Tensor, said: str) -> None:
    result = execute(case(function, x))
    assert result.status == "unsupported"
    assert said in result.reason


def test_training_is_declined() -> None:
    x = torch.ones(3, requires_grad=True)
    one = capture(
        lambda x: (x * 2,), lambda: [x.detach().clone().requires_grad_()], setting=Setting("tvm", (), "training")
    )
    assert execute(one).status == "unsupported"


def test_errors_of_importer_and_compiler_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import tvm
    from tvm.relax.frontend import torch as frontend

    def broken(*given: object, **named: object) -> None:
        raise ValueError("axis 3 is out of range")

    with monkeypatch.context() as patch:
        patch.setattr(frontend, "from_exported_program", broken)
        result = execute(case(lambda x: (x + 1,), torch.ones(3)))
    assert (result.status, result.stage) == ("failed", "from_exported_program")
    with monkeypatch.context() as patch:
        patch.setattr(tvm.relax, "build", broken)
        result = execute(case(lambda x: (x + 1,), torch.ones(3)))
    assert (result.status, result.stage) == ("failed", "relax.build")


def test_settings_of_one_program_share_the_module() -> None:
    one = case(lambda x: (torch.cos(x),), torch.ones(3))
    shared = Shared()
    first = execute(one, shared=shared)
    second = execute(replace(one, setting=Setting("tvm", (("opt_level", 0),))), shared=shared)
    assert {"torch.export", "from_exported_program", "relax.build"} <= set(first.seconds)
    assert not {"torch.export", "from_exported_program"} & set(second.seconds)
    assert second.outcome is Outcome.PASS


def test_a_wrong_module_and_a_wrong_pass_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import tvm
    from tvm.relax.frontend import torch as frontend

    wrong = frontend.from_exported_program(torch.export.export(torch.nn.Identity(), (torch.ones(3),)))
    with monkeypatch.context() as patch:
        patch.setattr(frontend, "from_exported_program", lambda program, **named: wrong)
        result = execute(case(lambda x: (x * 2,), torch.ones(3)))
    assert (result.status, result.outcome, result.stage) == ("compared", Outcome.FAIL, "unoptimised build")
    with monkeypatch.context() as patch:
        patch.setattr(tvm.relax.transform, "CanonicalizeBindings", lambda: lambda module: wrong)
        result = execute(case(lambda x: (x * 2,), torch.ones(3), further="CanonicalizeBindings"))
    assert (result.status, result.outcome, result.stage) == ("compared", Outcome.FAIL, "tvm")


def test_the_script_runs_by_itself(tmp_path: Path) -> None:
    script = tmp_path / "repro.py"
    one = case(lambda x: (torch.sin(x) @ x.t(), x.sum()), torch.ones(2, 3))
    one = replace(one, setting=Setting("tvm", (("llvm.cpu", "host"), ("pipeline", "zero"))))
    script.write_text(repro(one))
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done
    assert "no difference" in done.stdout


def test_a_missing_or_broken_package_is_told_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert TVM.unavailable() is None
    with monkeypatch.context() as patch:
        patch.setattr("shakeout.targets.packages.module_available", lambda name: name != "tvm_ffi")
        assert "pip install apache-tvm" in (TVM.unavailable() or "")
    (tmp_path / "tvm").mkdir()
    (tmp_path / "tvm" / "__init__.py").touch()
    code = "from shakeout.targets.tvm import TVM; print(TVM.unavailable())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "pip install --force-reinstall apache-tvm" in done.stdout
