"""Which calls mean nothing although eager runs them."""

import pytest
import torch

from shakeout.corpus.program import Ref
from shakeout.corpus.vocabularies import torch as words
from shakeout.generators.definedness import (
    after,
    before,
    disjoint,
    in_range,
    ordinary,
    overlaps_itself,
    undefined_results,
)
from shakeout.generators.vocabularies import probe

X = torch.arange(12.0)


def test_a_view_that_autograd_has_no_history_of_is_looked_at() -> None:
    base = torch.tensor([1.0, torch.nan], requires_grad=True) * 1
    number, nan = base.unbind()
    base.add_(1)  # from here on whoever asks autograd about one of several views is told off
    with pytest.raises(RuntimeError, match="multiple views"):
        number.isfinite()
    kind = words.traits("torch.linalg.svd")
    assert kind.finite
    assert before(kind, [number], [], (), ()) is None
    assert before(kind, [nan], [], (), ()) == "not finite"


@pytest.mark.parametrize(
    ("tensor", "answer"),
    [
        (X, False),
        (X.view(3, 4).T, False),
        (X.view(3, 4)[:, ::2], False),
        (X[:1].expand(3), True),
        (X.as_strided((3, 3), (1, 1)), True),
        (X.as_strided((2, 3), (3, 1)), False),
        (X.as_strided((2, 3), (2, 1)), True),
        (X[:0].expand(3, 0), False),
        (X[0].expand(1), False),
    ],
)
def test_tensors_with_two_elements_in_one_place(tensor: torch.Tensor, answer: bool) -> None:
    assert overlaps_itself(tensor) is answer


@pytest.mark.parametrize(
    ("one", "other", "answer"),
    [
        (X[:3], X[3:], True),
        (X[:4], X[3:], False),
        (X[::2], X[1::2], True),
        (X[::2], X[::3], False),
        (X, X.clone(), True),
        (X, X, False),
        (X[:0], X, True),
        (X.view(torch.int32)[:2], X[2:], True),
        (X.view(torch.int16)[:2], X[1:], True),
    ],
)
def test_tensors_without_a_common_place(one: torch.Tensor, other: torch.Tensor, answer: bool) -> None:
    assert disjoint(one, other) is answer
    assert disjoint(other, one) is answer


def asked(operator: str, *operands: torch.Tensor, args: tuple = (), kwargs: dict | None = None) -> str | None:
    written = operands[:1] if operator.endswith("_") else ()
    return before(words.traits(operator), operands, written, args, tuple((kwargs or {}).items()))


I32 = torch.tensor([-(2**31), 5, 7], dtype=torch.int32)


@pytest.mark.parametrize(
    ("operator", "operands", "args", "allowed"),
    [
        ("torch.Tensor.add_", (X[:1].expand(4), X[4:8]), (), False),
        ("torch.Tensor.add_", (X[:4], X[1:5]), (), False),
        ("torch.Tensor.add_", (X[:4], X[4:8]), (), True),
        ("torch.floor_divide", (I32, -torch.ones_like(I32)), (), False),
        ("torch.remainder", (I32,), (-1,), False),
        ("torch.floor_divide", (I32[1:], -torch.ones_like(I32)[1:]), (), True),
        ("torch.Tensor.__truediv__", (I32, -torch.ones_like(I32)), (), False),
        ("torch.Tensor.__lshift__", (I32[1:], torch.tensor([1, 32], dtype=torch.int32)), (), False),
        ("torch.bitwise_right_shift", (I32[1:], torch.tensor([1, -1], dtype=torch.int32)), (), False),
        ("torch.bitwise_left_shift", (I32[1:], torch.tensor([1, 31], dtype=torch.int32)), (), True),
        ("torch.bitwise_left_shift", (I32,), (40,), False),
        ("torch.bincount", (torch.tensor([1 << 40]),), (), False),
        ("torch.special.hermite_polynomial_h", (X, torch.tensor(1e9)), (), False),
        ("torch.linalg.svdvals", (torch.tensor([[float("nan")]]),), (), False),
        ("torch.lu_unpack", (torch.ones(3, 3), torch.tensor([1, 2, 4], dtype=torch.int32)), (), False),
        ("torch.lu_unpack", (torch.ones(3, 3), torch.tensor([1, 2, 3], dtype=torch.int32)), (), True),
        (
            "torch.nn.functional.scaled_dot_product_attention",
            (torch.ones(1, 2, 4), torch.ones(1, 9, 4), torch.ones(1, 3, 4)),
            (),
            False,
        ),
        (
            "torch.nn.functional.scaled_dot_product_attention",
            (torch.ones(1, 2, 4), torch.ones(1, 9, 4), torch.ones(1, 9, 3)),
            (),
            True,
        ),
    ],
)
def test_calls_that_must_not_be_made(operator: str, operands: tuple, args: tuple, allowed: bool) -> None:
    assert (asked(operator, *operands, args=args) is None) is allowed


def test_what_is_written_and_given_once_more() -> None:
    # Eager normalises with the weights before or after the running mean, which is the same memory, has moved.
    mean = X[:3]
    kind = words.traits("torch.nn.functional.batch_norm")
    assert before(kind, (torch.ones(4, 3), mean, X[3:6], mean), (mean,), (), ()) == "reads what it writes"
    assert before(kind, (torch.ones(4, 3), mean, X[3:6], X[6:9]), (mean,), (), ()) is None
    assert asked("torch.Tensor.mul_", X, X) is None
    square = X[:9].view(3, 3)
    assert asked("torch.Tensor.addmm_", square, square, X[:9].view(3, 3).clone()) is not None


def test_an_order_that_is_not_asked_for_is_not_defined() -> None:
    assert asked("torch.topk", X, args=(2,)) is None
    assert asked("torch.topk", X, args=(2,), kwargs={"sorted": False}) is not None


def test_least_squares_need_a_driver_without_pivots() -> None:
    # With `gelsy`, the default on a processor, equal calls give different bits.
    operands = [torch.eye(3), torch.ones(3, 1)]
    assert asked("torch.linalg.lstsq", *operands) is not None
    assert asked("torch.linalg.lstsq", *operands, kwargs={"driver": "gelsy"}) is not None
    assert asked("torch.linalg.lstsq", *operands, kwargs={"driver": "gelsd"}) is None


@pytest.mark.parametrize(
    ("values", "dtype", "defined"),
    [
        ([1.5, -2.0], torch.int8, True),
        ([200.0], torch.int8, False),
        ([-1.0], torch.uint8, False),
        ([float("nan")], torch.int64, False),
        ([float("inf")], torch.int32, False),
        ([3e9], torch.int32, False),
        ([float("inf")], torch.bool, True),
        ([1e30], torch.float16, True),
    ],
)
def test_floats_that_become_whole_numbers_have_to_fit(values: list[float], dtype: torch.dtype, defined: bool) -> None:
    result = torch.zeros(len(values), dtype=dtype)
    assert (after([torch.tensor(values)], [], [result]) is None) is defined
    assert (after([torch.tensor(values)], [result], []) is None) is defined


def test_places_of_equal_elements_are_not_defined() -> None:
    ties, clear = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([1.0, 3.0, 2.0])
    for operator in ("torch.max", "torch.sort", "torch.Tensor.kthvalue"):
        results = [ties, torch.tensor([0, 1, 2])]
        assert undefined_results(words.traits(operator), [ties], results, False) == {1}
        assert undefined_results(words.traits(operator), [clear], results, False) == set()
        assert undefined_results(words.traits(operator), [ties], results, True) is None
    assert undefined_results(words.traits("torch.argmax"), [ties], [torch.tensor(1)], False) == {0}
    whole = torch.tensor([1, 2, 2])
    assert undefined_results(words.traits("torch.max"), [whole], [torch.tensor(2)], False) == set()
    assert undefined_results(words.traits("torch.argsort"), [whole], [whole], False) == {0}
    assert undefined_results(words.traits("torch.add"), [ties], [ties], True) == set()


def test_factors_that_are_unique_up_to_a_sign_are_not_compared() -> None:
    matrix = torch.ones(2, 2)
    assert undefined_results(words.traits("torch.linalg.svd"), [matrix], [matrix] * 3, False) == {0, 2}
    assert words.traits("torch.linalg.eig").meaningless
    assert not words.traits("torch.linalg.eigvalsh").meaningless


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.complex64, torch.float8_e5m2, torch.bfloat16])
def test_ordinary_tensors_are_finite(dtype: torch.dtype) -> None:
    assert ordinary(torch.tensor([1.0, -2.0]).to(dtype))
    assert ordinary(torch.zeros(0, dtype=dtype))
    assert not ordinary(torch.tensor([1.0, float("nan")]).to(dtype))
    assert not ordinary(torch.tensor([1.0, float("inf")]).to(dtype))


def test_what_does_not_check_its_bounds_is_not_run_past_them() -> None:
    # torch would write past the matrix here, and the heap would decide what the probe finds out.
    arguments = (Ref(0), Ref(1))
    good = [torch.eye(3), torch.tensor([1, 2, 3], dtype=torch.int32)]
    assert probe._run("torch.lu_unpack", arguments, (), good) is not None
    bad = [torch.eye(3), torch.tensor([1, 2, 7], dtype=torch.int32)]
    assert probe._run("torch.lu_unpack", arguments, (), bad) is None
    assert "torch.segment_reduce" not in words.operators()


def test_booleans_that_have_a_gradient_have_a_range() -> None:
    compared = torch.tensor([True, False]).lt_(torch.ones(2).requires_grad_())
    assert compared.requires_grad
    assert in_range(compared, 0, 1)
    assert not in_range(compared, 2, 3)
