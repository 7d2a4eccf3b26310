"""The functions that are printed into scripts: the same numbers everywhere, and every difference in words."""

import math

import pytest
import torch

from shakeout.corpus import standalone

DTYPES = [
    getattr(torch, name)
    for name in (
        "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 complex64 complex128 complex32 "
        "int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool"
    ).split()
]


GOLDEN_INTEGERS = [1, 4, 0, 1, 0, -5]
GOLDEN_UNIFORM = [0.6335790157318115, -0.9643914699554443, 0.49899694323539734, 1.128596544265747]


def test_the_numbers_are_fixed() -> None:
    # Stored cases name a seed, not values: a change here changes the meaning of every one of them.
    assert standalone.fill(torch.int64, (6,), "integers", 7, -5, 5).tolist() == GOLDEN_INTEGERS
    assert standalone.fill(torch.float32, (4,), "uniform", 3, -2.0, 2.0).tolist() == GOLDEN_UNIFORM


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["integers", "uniform", "special"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (100,)], ids=str)
def test_every_dtype_can_be_filled(dtype: torch.dtype, kind: str, shape: tuple[int, ...]) -> None:
    low, high = (0, 3) if dtype.is_signed is False else (-2, 2)
    once = standalone.fill(dtype, shape, kind, 5, low, high)
    again = standalone.fill(dtype, shape, kind, 5, low, high)
    assert once.dtype == dtype
    assert once.shape == shape
    assert once.clone().untyped_storage().tolist() == again.clone().untyped_storage().tolist()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_can_be_compared(dtype: torch.dtype) -> None:
    want, got = torch.tensor([1, 0, 1]).to(dtype), torch.tensor([1, 1, 1]).to(dtype)
    for tolerances in ({}, {str(dtype).removeprefix("torch."): (0.1, 0.01)}):
        assert standalone.compare("output 0", want, want.clone(), tolerances) == []
        (said,) = standalone.compare("output 0", want, got, tolerances)
        assert said.startswith("output 0: 1 of 3 elements differ, first at [1]")


def test_values_stay_in_their_range_and_vary() -> None:
    whole = standalone.fill(torch.int32, (1000,), "integers", 1, -3, 3)
    assert set(whole.tolist()) == set(range(-3, 4))
    real = standalone.fill(torch.float64, (1000,), "uniform", 1, 0.25, 0.5)
    assert real.min() >= 0.25
    assert real.max() < 0.5
    assert real.unique().numel() == 1000


def test_special_values_are_there() -> None:
    real = standalone.fill(torch.float16, (400,), "special", 1, -2, 2)
    assert real.isnan().any()
    assert real.isposinf().any()
    assert real.isneginf().any()
    assert ((real == 0) & real.signbit()).any()
    assert ((real != 0) & (real.abs() < torch.finfo(torch.float16).tiny)).any()
    assert real.isfinite().sum() > 250
    whole = standalone.fill(torch.int8, (200,), "special", 1, -2, 2)
    assert {-128, 127} <= set(whole.tolist())
    large = standalone.fill(torch.uint64, (200,), "special", 1, 0, 2)
    assert 2**64 - 1 in large.tolist()


def both(x: torch.Tensor, y: torch.Tensor) -> list[str]:
    return standalone.compare("output 0", x, y, {"float32": (1e-6, 1e-6)})


def test_differences_are_told_in_words() -> None:
    x = torch.tensor([[1.0, math.nan, 3.0], [4.0, 5.0, 6.0]])
    assert both(x, x.clone()) == []
    assert both(x, x + 1e-7) == []
    assert both(x, x.nan_to_num(0.0)) == [
        "output 0: 1 of 6 elements differ, first at [0, 1]: nan expected, 0.0 found: NaN lost"
    ]
    assert "dtype torch.float32 expected, torch.float64 found" in both(x, x.double())[0]
    assert "shape" in both(x, x[:1])[0]
    assert "strides (3, 1) expected, (1, 2) found" in both(x, x.t().contiguous().t())[0]
    # A dimension of size one has no meaningful stride.
    assert both(x[:1], x.t().contiguous().t()[:1].clone(memory_format=torch.preserve_format).contiguous()) == []


def test_which_memory_an_output_shares() -> None:
    x, y = torch.ones(3), torch.ones(4)
    assert standalone.aliases([x[1:], y + 1, y.view(2, 2)], [x, y]) == [0, 3, 1]
    assert standalone.aliases([torch.empty(0), torch.empty(0)], [x]) == [1, 2]


def test_memory_shows_what_lies_outside_the_window() -> None:
    base = torch.arange(6.0)
    assert standalone.memory(base[1:5:2]).tolist() == base.tolist()


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = torch.nn.Parameter(torch.tensor([2.0, 3.0]))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x * self.p]


def run(prepare, calls: int = 2) -> list[dict]:
    makers = [lambda: [torch.tensor([4.0, 2.0], requires_grad=True)]] * calls
    return standalone.run(lambda tensors: Linear(), lambda tensors: tensors, makers, prepare)


def test_parameters_take_a_step_and_inputs_do_not() -> None:
    first, second = run(lambda network: network)
    # The cotangent of two elements is (-2, -1): the gradient of p is (-8, -2), and p moves by minus half of it.
    assert [memory.tolist() for memory in first["input after the call"]] == [[4.0, 2.0], [6.0, 4.0]]
    assert [x.tolist() for x in first["output"]] == [[8.0, 6.0]]
    assert [x.tolist() for x in second["output"]] == [[24.0, 8.0]]


def test_a_context_lies_around_forward_and_backward() -> None:
    told: list[str] = []

    class Around:
        def __enter__(self) -> None:
            told.append("enter")

        def __exit__(self, *error: object) -> None:
            told.append("exit")

    def prepare(network):
        def inside(x: torch.Tensor) -> list[torch.Tensor]:
            told.append("forward")
            x.register_hook(lambda gradient: told.append("backward"))
            return network(x)

        inside.around = Around  # type: ignore[attr-defined]
        return inside

    run(prepare)
    assert told == ["enter", "forward", "backward", "exit"] * 2


def test_the_random_state_is_seen_and_starts_anew_with_each_call() -> None:
    def drawing(network):
        return lambda x: [network(x)[0] + torch.rand(2)]

    quiet, drawn = run(lambda network: network), run(drawing)
    assert torch.equal(quiet[0]["random state"][0], quiet[1]["random state"][0])
    found = standalone.differences(quiet, drawn, {"float32": (0.0, 2.0)}, {"bits"})
    assert [line.partition(":")[0] for line in found] == ["call 0, random state 0", "call 1, random state 0"]


def test_a_target_that_forgets_gradients_is_seen() -> None:
    want = run(lambda network: network, 1)
    got = run(lambda network: lambda x: [y.detach() for y in network(x)], 1)
    assert standalone.differences(want, got, {}, {"layout"}) == [
        "gradient 0: none found",
        "gradient 1: none found",
        "input after the call 1: 2 of 2 elements differ, first at [0]: 6.0 expected, 2.0 found: wrong value",
    ]
    # No gradient and one of nothing but zeros are the same.
    assert standalone.compare("gradient 0", None, torch.zeros(2), {}) == []
