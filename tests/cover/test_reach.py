"""What functions of people's reach, take and return: models around them, objects, gradients inside."""

import argparse
import collections
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from shakeout.corpus.case import Setting
from shakeout.corpus.intake.capturing import Captured, capture
from shakeout.corpus.intake.reach import reached
from shakeout.corpus.intake.refusal import NotCaptured
from shakeout.corpus.setting import RANDOM
from shakeout.fuzz.intake.checking import on
from shakeout.fuzz.minimise.settings import setting
from shakeout.fuzz.running.execute import execute
from shakeout.oracles.verdict import Outcome


def captured(function: Callable[..., Any], *args: Any, **more: Any) -> Captured:
    return capture(function, args, setting=Setting("eager"), **more)


def leaf(*shape: int) -> torch.Tensor:
    return torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape).requires_grad_()


def _learning() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


class Trainer:
    """A plain object that holds a model, as scripts write them."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.calls = 0

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.model(x).sum()


GLOBAL = nn.Linear(2, 2)


def of_a_global(x: torch.Tensor) -> torch.Tensor:
    return GLOBAL(x)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        ((lambda model: lambda x: model(x))(_learning()), 4),
        (of_a_global, 2),
        (Trainer(_learning()).loss, 4),
        (functools.partial(lambda model, x: model(x), _learning()), 4),
    ],
    ids=["closure", "global", "object", "partial"],
)
def test_a_model_that_a_function_reaches_counts_as_one_that_is_handed_over(
    function: Callable[..., Any], parameters: int
) -> None:
    """In training it asks for gradients, its statistics are put back, and so are the attributes of objects."""
    x = torch.randn(3, 2)
    case = captured(function, x).case
    assert case.setting.mode == "training"
    assert sum(one.role == "parameter" for one in case.program.inputs) == parameters
    modules, _, objects = reached([function])
    (model,) = modules
    assert all(one.calls == 0 for one in objects)
    assert all(one.item() == 0 for one in model.buffers() if one.dim() == 0)  # batches that were counted
    model.eval()
    assert captured(function, x).case.setting.mode == "inference"
    assert all(one.requires_grad for one in model.parameters())


def test_a_model_within_reach_that_is_not_called_asks_for_nothing() -> None:
    model = nn.Linear(2, 2)
    assert (
        captured(lambda x: x.sin() if model is not None else model(x), torch.ones(2)).case.setting.mode == "inference"
    )


def test_objects_are_given_and_returned_with_their_tensors() -> None:
    @dataclasses.dataclass
    class Batch:
        x: torch.Tensor
        scale: float = 2.0

    class Plain:
        def __init__(self, x: torch.Tensor) -> None:
            self.x, self.name = x, "a"

    Pair = collections.namedtuple("Pair", "first second")

    def function(batch: Batch, options: argparse.Namespace) -> dict[str, Any]:
        y = batch.x * batch.scale + options.shift
        return {"batch": Batch(y), "plain": Plain(y.sin()), "pair": Pair(y.cos(), None), "options": options}

    found = captured(function, Batch(leaf(2)), argparse.Namespace(shift=3))
    program = found.case.program
    assert len(program.returns) == 3
    assert found.case.setting.mode == "training"
    assert any("the argument of class Batch stays what it is" in note for note in found.notes)
    assert execute(found.case).outcome is Outcome.PASS


def test_an_object_that_a_call_fills_is_refused() -> None:
    class Cache:
        def __init__(self) -> None:
            self.kept: list[torch.Tensor] = []

        def extended(self, x: torch.Tensor) -> torch.Tensor:
            self.kept.append(x)
            return torch.cat(self.kept)

    with pytest.raises(NotCaptured):
        captured(lambda cache, x: cache.extended(x), Cache(), leaf(2))


def test_gradients_inside_of_a_function() -> None:
    """Of ``torch.autograd.grad`` they are values; what a backward pass leaves behind is none."""
    model = nn.Linear(2, 1)

    def gradients(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(model(x).square().sum(), list(model.parameters()))

    found = captured(gradients, torch.ones(3, 2))
    assert found.level == "aten"
    assert len(found.case.program.returns) == 2
    assert execute(found.case).outcome is Outcome.PASS

    def step(x: torch.Tensor) -> torch.Tensor:
        loss = model(x).square().sum()
        loss.backward()
        return loss.detach()

    for levels in (("torch", "aten"), ("aten",)):
        with pytest.raises(NotCaptured, match="hand over what computes the loss"):
            captured(step, torch.ones(3, 2), levels=levels)
        assert all(one.grad is None for one in model.parameters())


def test_what_is_told_to_a_profiler_is_no_operator() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        with torch.profiler.record_function("part"):
            return x.sin()

    assert captured(function, torch.ones(2)).case.program.operators() == ("torch.Tensor.sin",)


def test_a_reentrant_checkpoint_is_what_compilers_make_of_it() -> None:
    from torch.utils.checkpoint import checkpoint

    layer = nn.Linear(2, 2)

    def function(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(lambda given: nn.functional.dropout(layer(given).sin(), 0.5), x, use_reentrant=True)

    found = captured(function, leaf(3, 2))
    assert found.case.setting.mode == "training"
    (call,) = found.case.program.calls
    assert (call.operator, call.kwargs) == ("torch.utils.checkpoint.checkpoint", (("use_reentrant", False),))
    assert any("which is what compilers make of it" in note for note in found.notes)
    result = execute(found.case.on("aot_eager"))
    assert (result.status, result.outcome) == ("compared", Outcome.PASS)
    with torch.no_grad():
        assert captured(function, torch.ones(3, 2)).case.setting.mode == "inference"


def test_what_draws_random_numbers_is_asked_to_draw_them_alike() -> None:
    """No pass of the minimiser takes that away as long as something is drawn; another one is asked without."""
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    case = captured(module, torch.ones(2, 3)).case
    asked = on(case, "inductor")
    assert asked.setting.knobs == ((RANDOM, True),)
    assert on(case, "aot_eager").setting.knobs == ()
    assert all(one.setting.knob(RANDOM) is True for one in setting(asked))
    also = replace(asked, setting=replace(asked.setting, knobs=((RANDOM, True), ("pattern_matcher", False))))
    assert {one.setting.knobs for one in setting(also)} == {((RANDOM, True),), also.setting.knobs}
    plain = captured(nn.Linear(3, 3), torch.ones(2, 3)).case
    assert on(plain, "inductor").setting.knobs == ()
    left = replace(plain, setting=asked.setting)
    assert () in {one.setting.knobs for one in setting(left)}


@pytest.mark.long
def test_dropout_in_training_agrees_on_inductor() -> None:
    case = captured(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), torch.ones(2, 3)).case
    result = execute(on(case, "inductor"))
    assert (result.status, result.outcome) == ("compared", Outcome.PASS)
