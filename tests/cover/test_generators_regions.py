"""Parts of grown programs in blocks, branches and custom operators: what they are, and who takes them."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.regions import TWO, call, fed

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.corpus.program import Input, Program, Ref, TensorType
from shakeout.corpus.vocabularies.structured import STRUCTURES
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.running.compose import compose
from shakeout.fuzz.running.execute import execute
from shakeout.generators.choices import SeededChoices
from shakeout.generators.regions import enclosed

TRAINING = {"torch.no_grad", "torch.utils.checkpoint.checkpoint", "torch.library.register_autograd"}
INFERENCE = {"torch.enable_grad", "torch.library.custom_op", "torch.func.vmap", "torch.func.grad"}


def chain(mode: str = "inference") -> Case:
    """Six calls one behind the other, of which some are used twice, and one writes."""
    calls = (
        call("torch.sin", Ref(0)),
        call("torch.mul", Ref(2), Ref(1)),
        call("torch.add", Ref(3), Ref(2)),
        call("torch.clone", Ref(4)),
        call("torch.Tensor.add_", Ref(5), 1),
        call("torch.sub", Ref(6), Ref(3)),
    )
    return fed(Program((Input(TWO), Input(TWO)), calls, (7, 4)), "aot_eager", mode, grad=True)  # type: ignore[arg-type]


def words(case: Case) -> set[str]:
    found = {one for one in case.program.operators() if one in STRUCTURES}
    return found | {f"around {block.operator}" for block in case.program.around}


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_every_kind_comes_and_the_reference_takes_it(mode: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(100):
        found = enclosed(SeededChoices(seed), chain(mode))
        if found is None:
            continue
        assert codec.decode(found.text) == found
        assert [one.operator for one in found.program.calls if one.operator == "torch.cond"] or len(
            found.program.inputs
        ) == 2
        result = execute(found.on("eager"))
        assert (result.status, str(result.outcome)) == ("compared", "pass"), result.reason
        seen.update(words(found))
    wanted = {"torch.autocast", "around torch.autocast", "torch.cond"}
    wanted |= TRAINING if mode == "training" else INFERENCE
    assert wanted <= seen.keys(), seen
    assert sum(seen.values()) > 40


def test_a_custom_operator_writes_or_gives() -> None:
    written = set()
    for seed in range(120):
        found = enclosed(SeededChoices(seed), chain())
        customs = [one for one in found.program.calls if one.operator in STRUCTURES] if found else []
        written.update(len(one.args) > 1 for one in customs if one.operator == "torch.library.custom_op")
    assert written == {True, False}


def test_graph_capture_agrees() -> None:
    seen: set[str] = set()
    for seed in range(40):
        found = enclosed(SeededChoices(seed), chain())
        if found is None or words(found) <= seen:
            continue
        seen |= words(found)
        result = execute(found)
        assert (result.status, str(result.outcome)) == ("compared", "pass"), result.reason


def test_what_has_regions_already_is_left_alone() -> None:
    found = next(one for seed in range(9) if (one := enclosed(SeededChoices(seed), chain())) is not None)
    assert enclosed(SeededChoices(0), found) is None


def test_campaigns_have_some_where_the_target_takes_them() -> None:
    grown = [compose(Grow(seed=seed, target="aot_eager", recipe={"operators": 4})).case for seed in range(40)]
    assert 1 <= sum(case.program.structured() for case in grown) <= 20
    none = [compose(Grow(seed=seed, target="tvm", recipe={"operators": 4})).case for seed in range(20)]
    assert not any(case.program.structured() for case in none)


def test_what_the_reference_refuses_as_a_whole_is_not_made() -> None:
    """A view that is taken without gradients of what has one asks for one, and has none."""
    calls = (call("torch.mul", Ref(0), Ref(1)), call("torch.Tensor.mT", Ref(2)))
    one = fed(Program((Input(TWO), Input(TWO)), calls, (2, 3)), "aot_eager", "training", grad=True)
    made = [found for seed in range(30) if (found := enclosed(SeededChoices(seed), one)) is not None]
    plain = [found for found in made if "torch.cond" not in words(found)]  # which takes its time
    assert len(plain) > 10
    assert {execute(found.on("eager")).status for found in plain} == {"compared"}


def test_a_branch_is_taken_whatever_the_sizes_of_earlier_ones() -> None:
    for columns in (2, 6):
        type_ = TensorType("float32", (2, columns))
        calls = (call("torch.reshape", Ref(0), (columns, -1)),)
        one = fed(Program((Input(type_),), calls, (1,)), "aot_eager", "inference", grad=False)
        found = next(
            made
            for seed in range(30)
            if (made := enclosed(SeededChoices(seed), one)) is not None and "torch.cond" in words(made)
        )
        assert execute(found.on("eager")).status == "compared"
