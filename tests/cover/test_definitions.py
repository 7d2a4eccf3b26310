"""What an operator is defined to do is what it does; a wrong definition would excuse wrong kernels."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.fuzz.running.definitions import ALTERNATIVES, DEFINITIONS
from shakeout.fuzz.running.execute import execute
from shakeout.fuzz.running.replicas import replica
from shakeout.oracles.verdict import Outcome

EDGES = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e30, -1e30, 1e-30]


def drawn(*shape: int, special: bool = False) -> torch.Tensor:
    noise = torch.Generator().manual_seed(sum(shape))
    values = torch.randn(shape, generator=noise, dtype=torch.float64)
    if special:
        chosen = torch.tensor(EDGES, dtype=torch.float64)[torch.randint(len(EDGES), shape, generator=noise)]
        values = torch.where(torch.rand(shape, generator=noise) < 0.15, chosen, values)
    return values


CALLS: list[tuple[str, Callable[..., Any], Sequence[tuple[int, ...]], Sequence[Any], dict[str, Any]]] = [
    ("softmax", torch.softmax, [(9, 6)], (1,), {}),
    ("softmax", F.softmax, [(9, 6)], (-2, 3, torch.float64), {}),
    ("softmax", torch.softmax, [()], (0,), {}),
    ("softmin", F.softmin, [(9, 6)], (1,), {}),
    ("log_softmax", torch.log_softmax, [(9, 6)], (0,), {"dtype": torch.float64}),
    (
        *("scaled_dot_product_attention", F.scaled_dot_product_attention),
        *([(2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)], (), {}),
    ),
    ("scaled_dot_product_attention", F.scaled_dot_product_attention, [(5, 4)] * 3, (), {"is_causal": True}),
    ("scaled_dot_product_attention", F.scaled_dot_product_attention, [(2, 5, 4)] * 3, (None, 0.0), {"scale": 0.3}),
    ("layer_norm", F.layer_norm, [(9, 2, 3), (2, 3), (2, 3)], (), {}),
    ("rms_norm", F.rms_norm, [(9, 6), (6,)], (), {}),
    ("cross_entropy", F.cross_entropy, [(9, 6)], (torch.arange(9) % 6,), {}),
    ("cross_entropy", F.cross_entropy, [(9, 6)], (torch.arange(9) % 6,), {"reduction": "sum"}),
    ("cross_entropy", F.cross_entropy, [(9, 6)], (torch.arange(9) % 6,), {"reduction": "none"}),
    ("gelu", F.gelu, [(9, 6)], (), {}),
    ("gelu", F.gelu, [(9, 6)], (), {"approximate": "tanh"}),
    ("conv1d", F.conv1d, [(2, 4, 9), (6, 2, 3), (6,)], (), {"groups": 2, "dilation": 2, "padding": 1}),
    ("conv2d", F.conv2d, [(2, 4, 7, 6), (6, 4, 3, 2), (6,)], (2, (1, 2), (2, 1)), {}),
    ("conv2d", F.conv2d, [(2, 4, 7, 6), (6, 2, 3, 2)], (None, (2, 1), (1,), 1, 2), {}),
    ("conv3d", F.conv3d, [(2, 2, 4, 5, 6), (3, 2, 2, 3, 2), (3,)], (), {"padding": (1, 0, 2), "stride": (1, 2, 1)}),
]


def arguments(name: str, tensors: Sequence[torch.Tensor], rest: Sequence[Any]) -> list[Any]:
    if name not in ("layer_norm", "rms_norm"):
        return [*tensors, *rest]
    x, *parameters = tensors
    return [x, parameters[0].shape, *parameters]


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("number", range(len(CALLS)))
def test_a_definition_is_what_the_operator_does(number: int, special: bool) -> None:
    name, operator, shapes, rest, kwargs = CALLS[number]
    if special and "is_causal" in kwargs:
        with pytest.raises(NotImplementedError, match="set by another"):
            DEFINITIONS[name](*(drawn(*shape, special=True) for shape in shapes), *rest, **kwargs)
        return
    if not special and name.startswith("conv"):
        with pytest.raises(NotImplementedError, match="half precision"):
            DEFINITIONS[name](*(drawn(*shape) for shape in shapes), *rest, **kwargs)
        return
    shown = []
    for function in (operator, DEFINITIONS[name]):
        tensors = [drawn(*shape, special=special and n == 0).requires_grad_() for n, shape in enumerate(shapes)]
        result = function(*arguments(name, tensors, rest), **kwargs)
        given = torch.linspace(-2, 2, result.numel(), dtype=torch.float64).reshape(result.shape)
        gradients = torch.autograd.grad(result, tensors, given)
        shown.append([result.detach(), *gradients])
    for want, got in zip(*shown, strict=True):
        torch.testing.assert_close(got, want, equal_nan=True, rtol=1e-9, atol=1e-12)


PRODUCTS: dict[str, tuple[Callable[..., Any], Sequence[tuple[int, ...]], dict[str, Any]]] = {
    "linear": (F.linear, [(4, 7), (3, 7), (3,)], {}),
    "mm": (torch.mm, [(4, 7), (7, 3)], {}),
    "bmm": (torch.bmm, [(2, 4, 7), (2, 7, 3)], {}),
    "matmul": (torch.matmul, [(2, 4, 7), (7, 3)], {}),
    "mv": (torch.mv, [(4, 7), (7,)], {}),
    "addmm": (torch.addmm, [(4, 3), (4, 7), (7, 3)], {"beta": 0.5, "alpha": -2}),
    "addmv": (torch.addmv, [(4,), (4, 7), (7,)], {}),
    "addbmm": (torch.addbmm, [(4, 3), (2, 4, 7), (2, 7, 3)], {}),
    "baddbmm": (torch.baddbmm, [(2, 4, 3), (2, 4, 7), (2, 7, 3)], {"beta": 0}),
    "conv1d": (F.conv1d, [(2, 4, 9), (6, 2, 3), (6,)], {"groups": 2, "padding": "same"}),
    "conv2d": (F.conv2d, [(2, 4, 7, 6), (6, 4, 3, 2), (6,)], {"stride": 2, "padding": 1}),
    "conv3d": (F.conv3d, [(2, 2, 4, 5, 6), (3, 2, 2, 3, 2)], {"dilation": (1, 2, 1)}),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_in_half_precision_are_added_up_in_single_and_rounded_once(name: str, dtype: torch.dtype) -> None:
    operator, shapes, kwargs = PRODUCTS[name]
    tensors = [drawn(*shape).to(dtype) for shape in shapes]
    found = DEFINITIONS[name](*tensors, **kwargs)
    assert found.dtype == dtype
    torch.testing.assert_close(found, operator(*[one.double() for one in tensors], **kwargs).to(dtype))
    with pytest.raises(NotImplementedError, match="half precision"):
        DEFINITIONS[name](*[one.float() for one in tensors], **kwargs)


def test_a_definition_does_not_stand_for_what_writes_or_for_what_has_its_operands_the_other_way_round() -> None:
    def make() -> list[torch.Tensor]:
        return [torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.bfloat16), torch.ones(2, 2, dtype=torch.bfloat16)]

    def network(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = y.__rmatmul__(x)
        y.addmm_(x, x)
        return z, y

    seen = replica(capture(network, make, setting=Setting("eager")), 0).calls[0]
    shown = [tensor.float() for tensor in seen["output"]]
    # Rounding moves them by far less than the other way round would.
    torch.testing.assert_close(shown[0], torch.tensor([[3.0, 3.0], [7.0, 7.0]]), rtol=0.1, atol=0)
    torch.testing.assert_close(shown[1], torch.tensor([[8.0, 11.0], [16.0, 23.0]]), rtol=0.1, atol=0)


def test_every_definition_is_looked_at() -> None:
    assert {name for name, *_ in CALLS} | set(PRODUCTS) == set(DEFINITIONS)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_an_activation_has_a_definition_that_does_not_cancel(approximate: str) -> None:
    x = drawn(4, 6)
    torch.testing.assert_close(ALTERNATIVES["gelu"](x, approximate=approximate), F.gelu(x, approximate=approximate))
    x = torch.tensor([-14.0], dtype=torch.float64)
    assert F.gelu(x, approximate=approximate) == 0
    assert -1e-20 < ALTERNATIVES["gelu"](x, approximate=approximate) < 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    x = drawn(4, 6).to(dtype)
    (want,) = DEFINITIONS["softmax"](x.double(), 1).to(dtype)[None]
    assert DEFINITIONS["softmax"](x, 1).dtype == dtype
    assert torch.equal(DEFINITIONS["softmax"](x, 1), want)


def sharp(function: Callable[..., Any], target: str = "eager") -> Any:
    """A case behind a softmax that is all but one."""

    def make() -> list[torch.Tensor]:
        return [torch.tensor([[40.0, 0.0, 1.0, 2.0]]).requires_grad_(), torch.tensor([[3.0, 1.7, -1.3, 0.7]])]

    return capture(function, make, setting=Setting(target, (), "training"))


def test_a_gradient_that_is_a_difference_of_equal_numbers_is_off_by_their_last_digits() -> None:
    def network(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, 1) @ (1000 * w.t())

    one = sharp(network)
    found = [replica(one, number).calls[0]["gradient"][0][0, 0].item() for number in range(16)]
    # Each term is 6000, of which the last digit of single precision is 5e-4; the true gradient is 0.
    assert 1e-4 < max(map(abs, found)) < 0.02
    assert execute(one).outcome is Outcome.PASS


def test_a_result_that_nobody_uses_has_no_gradient_and_that_is_no_error() -> None:
    def make() -> list[torch.Tensor]:
        return [torch.tensor([1.0, 2.0, 4.0]).requires_grad_()]

    one = capture(lambda x: torch.var_mean(x)[1], make, setting=Setting("eager", (), "training"))
    for number in range(4):
        seen = replica(one, number)
        assert seen.error is None
        assert seen.calls[0]["gradient"][0].shape == (3,)


def eliminated(*rows: list[float]) -> list[torch.Tensor]:
    """The factors of a matrix, and the gradient of the matrix, in some replicas."""

    def make() -> list[torch.Tensor]:
        return [torch.tensor(rows).requires_grad_()]

    one = capture(lambda x: x.lu()[0], make, setting=Setting("eager", (), "training"))
    calls = [replica(one, number).calls[0] for number in range(5)]
    return [torch.stack([call[part][0] for call in calls]) for part in ("output", "gradient")]


def test_which_row_an_elimination_takes_next_is_open_where_all_that_is_left_are_rounding_errors() -> None:
    # The third row is the sum of the first two, and of the last but for what single precision holds.
    for found in eliminated([0.1, 0.7, 0.3], [0.2, 0.3, 0.9], [0.3, 1.0, 1.2], [0.5, 1.3, 2.1]):
        assert bool(found.isnan().any(0).all())
    for found in eliminated([0.1, 0.7, 0.3], [0.2, 0.3, 0.9], [0.9, 1.0, 0.2], [0.5, 1.3, 2.9]):
        assert bool(found.isfinite().all())
        torch.testing.assert_close(found, found[:1].expand_as(found), rtol=1e-4, atol=1e-5)
