"""What right kernels did in a long measurement is no finding, each kind by its rule; what is wrong still is."""

import math
from dataclasses import replace

import pytest
import torch
from tests.cover import test_right as first
from tests.right.kernels import tiled_attention

import shakeout
from shakeout.corpus import script
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View
from shakeout.corpus.program import Call, Input, Program, Ref, Slice, TensorType
from shakeout.corpus.vocabularies import torch as words
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.running import runs
from shakeout.fuzz.running.execute import execute
from shakeout.fuzz.running.replicas import replica
from shakeout.generators.definedness import before
from shakeout.oracles.metadata import STRIDES
from shakeout.oracles.verdict import Outcome

known = first.known


def eager(function: object, *values: torch.Tensor, training: bool = False) -> Case:
    mode = "training" if training else "inference"
    return capture(function, lambda: [one.clone().requires_grad_(training) for one in values],  # type: ignore[arg-type]
                   setting=Setting("eager", (), mode))  # fmt: skip


def drawn(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@shakeout.kernel(reference=torch.nn.functional.scaled_dot_product_attention)
def one_way_only(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Wrong: the sum that it divides by is no part of the derivative."""
    weights = ((q / math.sqrt(q.shape[-1])) @ k.mT).exp()
    return (weights @ v) / weights.sum(-1, keepdim=True).detach()


@pytest.mark.parametrize("width", [5, 700])
def test_a_gradient_that_comes_on_two_ways_and_cancels_is_a_rounding_error(width: int) -> None:
    # Of one key alone the weight is one whatever the query, and the gradient of the query is zero.
    operands = drawn(2, 1, 3), drawn(2, 1, 3), drawn(2, 1, width, scale=1e4)
    result = first.run(tiled_attention, *operands, training=True)
    assert result.outcome is Outcome.UNKNOWN
    assert first.run(one_way_only, *operands, training=True).outcome is Outcome.FAIL


def test_each_mention_of_an_operand_has_a_gradient_that_rounds() -> None:
    one = eager(lambda x: x.div(x), torch.tensor([0.01, 0.3, 7.0, 900.0]), training=True)
    most = torch.stack([replica(one, number).calls[0]["gradient"][0].abs() for number in range(8)]).amax(0)
    # Two terms of 1 / x, or of a few of that, by the cotangent, which is 0 for one of the numbers.
    assert int((most > 0).sum()) == 3
    assert bool((most < 1e-6 * torch.tensor([100.0, 3.3, 0.14, 0.0011])).all())


def test_a_number_that_is_copied_is_not_rounded() -> None:
    def network(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        half = torch.full((4,), 0.5)
        return x.clone().remainder(half), torch.cat((x, half)), x.to(torch.float16), x + half

    x = torch.tensor([1.0, 2.5, -3.0, 7.1])
    seen = [replica(eager(network, x), number).calls[0]["output"] for number in range(8)]
    remainders = torch.stack([outputs[0][:3] for outputs in seen])
    assert bool((remainders == 0).all())
    assert all(torch.equal(outputs[1][:4], x) for outputs in seen)
    # A cast rounds, and so does a sum.
    assert len({outputs[2][3].item() for outputs in seen}) > 1
    assert len({outputs[3][3].item() for outputs in seen}) > 1


def test_parts_of_complex_numbers_are_as_many_numbers_in_double_precision() -> None:
    type_ = TensorType("float32", (2, 3))
    program = Program((Input(type_),), (Call("torch.exp", (Ref(0),), (), (type_,)),), (1,))
    storage = Storage("complex64", 6, Values("uniform", 3, -1, 1))
    inputs = InputSet((storage,), (View(0, "float32", (2, 3), (6, 2), 1),))
    one = Case(program, (inputs,), Setting("eager"))
    (want,) = runs.observe(script.load(one)).calls[0]["output"]
    (wide,) = runs.baseline(one).calls[0]["output"]
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), want)
    # The bytes of a number as two others have no wider version.
    inputs = InputSet((replace(storage, dtype="float64"),), inputs.views)
    assert runs.baseline(replace(one, input_sets=(inputs,))) is runs.NOTHING


def test_of_an_inverse_of_a_singular_matrix_nothing_is_known() -> None:
    def spread(x: torch.Tensor) -> float:
        one = eager(lambda x: x.pinverse(), x)
        (want,) = runs.observe(script.load(one)).calls[0]["output"]
        seen = [replica(one, number).calls[0]["output"][0] for number in range(5)]
        return max(float(((other - want).abs() / want.abs().amax()).nan_to_num(nan=math.inf).amax()) for other in seen)

    assert spread(drawn(1, 5).expand(4, 5) * 1.0) == math.inf  # its rows are equal but for rounding errors
    assert spread(drawn(4, 5)) < 1e-4


@shakeout.kernel(reference=torch.relu)
def turned(x: torch.Tensor) -> torch.Tensor:
    """Right, and of one index in two dimensions, of which the strides are nobody's affair."""
    return x.relu().as_strided(x.shape, (1, 7, 9))


@shakeout.kernel(reference=torch.relu, strides=True)
def turned_and_promised(x: torch.Tensor) -> torch.Tensor:
    """The same, of a kernel that promises its strides, and keeps those that mean something."""
    return x.relu().as_strided(x.shape, (1, 7, 9))


def test_strides_that_follow_those_of_a_kernel_are_its_own_affair() -> None:
    def read(kernel: object) -> Result:
        one = first.case(kernel, drawn(4, 1, 1))
        (call,), index = one.program.calls, TensorType("int64", (2,))
        taken = Call(
            *("torch.Tensor.__getitem__", (Ref(2), (Slice(None, None, None), Ref(1), Slice(None, None, None))), ()),
            (TensorType("float32", (4, 2, 1)),),
        )
        program = replace(one.program, inputs=(*one.program.inputs, Input(index)), calls=(call, taken), returns=(3,))
        storage = Storage("int64", 2, Values("literal", items=(0, 0)))
        given = InputSet(
            (*one.input_sets[0].storages, storage), (*one.input_sets[0].views, View(1, "int64", (2,), (1,)))
        )
        return execute(replace(one, program=program, input_sets=(given,)))

    result = read(turned)
    assert result.outcome is Outcome.PASS
    assert [note for verdict in result.verdicts for note in verdict.notes] == [STRIDES]
    result = read(turned_and_promised)
    assert result.failure is not None
    assert result.failure.symptom == "wrong strides"


@shakeout.kernel(reference=torch.mm)
def limited(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Wrong: loses what is infinite."""
    return (x @ y).clamp(-1e9, 1e9)


def test_what_is_asked_about_a_sum_that_may_overflow_is_open() -> None:
    most = torch.finfo(torch.float64).max

    def asked(kernel: object, *numbers: float) -> object:
        one = first.case(kernel, first.row(*numbers), torch.ones(4, 1, dtype=torch.float64))
        want, got = first.both(one)
        assert want.item() != got.item()
        return execute(first.then(one, "torch.eq", Ref(2), got.item(), dtype="bool", shape=(1, 1))).outcome

    assert asked(first.by_parity, 0.7, most, 0.0, -most) is Outcome.UNKNOWN
    # Not so of one that may not, and of what is infinite in any order.
    assert asked(first.without_nan, 0.7, math.nan, 0.0, 1.0) is Outcome.FAIL
    assert asked(limited, 0.7, math.inf, 0.0, 1.0) is Outcome.FAIL


IMAGE, FAR = drawn(1, 1, 4, 3), torch.full((1, 2, 2, 2), 3e38)


@pytest.mark.parametrize(
    ("operator", "operands", "args", "allowed"),
    [
        ("torch.nn.functional.pdist", (torch.empty(0, 3),), (), False),
        ("torch.nn.functional.pdist", (torch.empty(1, 3),), (), True),
        ("torch.nn.functional.grid_sample", (IMAGE, FAR), ("bilinear", "reflection"), False),
        ("torch.nn.functional.grid_sample", (IMAGE, FAR), ("bilinear", "border"), True),
        ("torch.nn.functional.grid_sample", (IMAGE, drawn(1, 2, 2, 2)), ("bilinear", "reflection"), True),
    ],
)
def test_calls_whose_backward_pass_ends_the_process(operator: str, operands: tuple, args: tuple, allowed: bool) -> None:
    given = (*map(Ref, range(len(operands))), *args)
    assert (before(words.traits(operator), operands, (), given, ()) is None) is allowed
