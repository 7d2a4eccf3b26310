"""Programs that write to what the backward pass needs: eager refuses them, and a runtime must too, or be right."""

import sys
from pathlib import Path

import pytest

from shakeout.corpus.case import OVERWRITES, Case, InputSet, Setting, Storage, Values, View, contiguous
from shakeout.corpus.edit import Builder
from shakeout.corpus.program import TensorType
from shakeout.corpus.user_objects import ALLOWED
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.running.compose import compose
from shakeout.fuzz.running.execute import Shared, execute, repro
from shakeout.oracles.verdict import Outcome
from shakeout.targets.registry import target

RUNTIMES = """
import torch
from torch.autograd.graph import saved_tensors_hooks

import shakeout


@shakeout.runtime
def copies():
    return saved_tensors_hooks(lambda tensor: tensor.clone(), lambda held: held)


@shakeout.runtime
def keeps():
    return saved_tensors_hooks(lambda tensor: tensor, lambda held: held)


@shakeout.runtime
def looks():
    def unpack(held):
        tensor, version = held
        if tensor._version != version:
            raise RuntimeError("a tensor has been modified by an inplace operation")
        return tensor

    return saved_tensors_hooks(lambda tensor: (tensor, tensor._version), unpack)
"""


@pytest.fixture
def runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "overwritten_runtimes"
    (tmp_path / f"{name}.py").write_text(RUNTIMES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(ALLOWED, name)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def case(name: str, *, overwrites: bool = True) -> Case:
    """``exp`` saves its result, which is doubled in place."""
    builder, given = Builder(), TensorType("float32", (3,))
    made = builder.call("torch.exp", (builder.input(given),), given)
    written = builder.call("torch.Tensor.mul_", (made, 2), given)
    program = builder.program([written.index])
    values = Storage("float32", 3, Values("uniform", 0, -1, 1))
    inputs = InputSet((values,), (View(0, "float32", (3,), contiguous((3,)), requires_grad=True),))
    return Case(program, (inputs,), Setting(name, ((OVERWRITES, True),) if overwrites else (), "training"))


def test_a_stale_tensor_is_found_and_one_that_was_copied_or_refused_is_not(runtimes: str) -> None:
    stale = execute(case(f"{runtimes}:keeps"))
    assert (stale.status, stale.outcome) == ("compared", Outcome.FAIL)
    assert stale.failure is not None
    assert "gradient 0" in stale.failure.message
    right = execute(case(f"{runtimes}:copies"))
    assert (right.status, right.outcome) == ("compared", Outcome.PASS)
    assert execute(case(f"{runtimes}:looks")).status == "unsupported"
    # Eager itself refuses; without the knob there is nothing to compare with.
    assert execute(case(f"{runtimes}:keeps", overwrites=False)).status == "invalid"


def test_the_script_shows_it_alone(runtimes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = case(f"{runtimes}:keeps")
    namespace = {"__name__": "script"}
    exec(compile(repro(found, execute(found)), "script", "exec"), namespace)
    assert namespace["main"](namespace["prepare"]) == 1  # type: ignore[operator]
    assert "gradient 0: 2 of 3 elements differ" in capsys.readouterr().out


def test_a_runtime_is_given_such_programs_and_no_other_target_is(runtimes: str) -> None:
    name, seeds = f"{runtimes}:copies", range(58, 200)  # the first does, with the records and rules of torch 2.13
    grown = (compose(Grow(target=name, number=64 + seed, seed=seed, recipe={"index": seed})) for seed in seeds)
    made = next(made for made in grown if made.case.setting.knob(OVERWRITES))
    # What the reference showed while the program grew is what its text shows.
    assert execute(made.case, shared=Shared(made.reference)).outcome is Outcome.PASS
    assert execute(made.case).outcome is Outcome.PASS
    others = ("eager", "aot_eager", "save_on_cpu")
    assert OVERWRITES not in {knob.name for other in others for knob in target(other).knobs()}
