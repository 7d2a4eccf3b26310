"""Further kinds of what right kernels did in long measurements, each by its rule; what is wrong still is."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tests.cover import test_right as first

import shakeout
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.corpus.program import Ref
from shakeout.fuzz.running.execute import execute
from shakeout.fuzz.running.replicas import replica
from shakeout.oracles.verdict import Outcome

known = first.known
MOST = torch.finfo(torch.float64).max


def test_the_numbers_of_one_operator_that_are_none_may_all_have_one_sign() -> None:
    infinite = torch.full((24,), math.inf)
    one = capture(lambda x: torch.copysign(x, x - x).sum(), lambda: [infinite], setting=Setting("eager", ()))
    seen = {float(replica(one, number).calls[0]["output"][0]) for number in range(32)}
    # Of either sign, and of both, which is no number.
    assert {math.inf, -math.inf} < seen
    assert any(map(math.isnan, seen))


def chain(w: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """One product behind another."""
    return w.mm(x.mm(y))


@shakeout.kernel(reference=chain)
def chain_by_parity(w: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Right: adds up the even terms, the odd terms, and the two."""
    return first.by_parity(w, first.by_parity(x, y))  # type: ignore[no-any-return,operator]


@shakeout.kernel(reference=chain)
def chain_without_nan(w: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Wrong: loses what is no number."""
    return chain(w, x, y).nan_to_num(nan=1.0)


def test_a_sum_of_sums_that_did_not_overflow_may_overflow() -> None:
    w, y = first.row(1.0, 1.0, math.inf, -math.inf), torch.ones(1, 1, dtype=torch.float64)
    # What is the same for all four is made no number by the last two.
    one = first.case(chain_by_parity, w, first.row(0.6 * MOST, 0.9 * MOST, -0.5 * MOST, 0.5 * MOST).t(), y)
    want, got = first.both(one)
    assert (bool(want.isnan()), bool(got.isneginf())) == (True, True)
    assert execute(one).outcome is Outcome.UNKNOWN
    assert first.run(chain_without_nan, w, first.row(1.0, 2.0, 3.0, 3.0).t(), y).outcome is Outcome.FAIL


def fifths(x: torch.Tensor) -> torch.Tensor:
    """A mean of five numbers, with weights."""
    return x.float().mm(torch.full((5, 1), 0.2)).to(x.dtype)


@shakeout.kernel(reference=fifths)
def a_fifth(x: torch.Tensor) -> torch.Tensor:
    """Right: divides the sum."""
    return (x.float().sum(1, keepdim=True) / 5).to(x.dtype)


@shakeout.kernel(reference=fifths)
def without_small(x: torch.Tensor) -> torch.Tensor:
    """Wrong: loses what is small."""
    mean = fifths(x)
    return torch.where(mean.abs() < 0.01, 0.0, mean)


def test_where_all_terms_of_half_precision_cancel_nothing_may_be_left() -> None:
    def lost(kernel: object, *numbers: float) -> object:
        one = first.case(kernel, first.row(*numbers, dtype=torch.bfloat16))
        asked = first.then(one, "torch.logical_not", Ref(1), dtype="bool", shape=(1, 1))
        assert [bool(found) for found in first.both(asked)] == [False, True]
        return execute(asked).outcome

    assert lost(a_fifth, -7.0, -7.0, 1.0, 6.0, 7.0) is Outcome.UNKNOWN
    assert lost(without_small, 0.0, 0.0, 0.0, 0.0, 0.02) is Outcome.FAIL


def seen(function: Callable[..., object], *values: torch.Tensor, training: bool = False) -> list[list[torch.Tensor]]:
    """What each replica of a function gives, its first outputs and gradients."""
    one = capture(function, lambda: [v.clone().requires_grad_(training and v.is_floating_point()) for v in values],
                  setting=Setting("eager", (), "training" if training else "inference"))  # fmt: skip
    found = [replica(one, number) for number in range(16)]
    assert [other.error for other in found] == [None] * 16
    return [[*other.calls[0]["output"], *other.calls[0]["gradient"]] for other in found]


def test_replicas_of_what_has_no_derivative_tell_values_and_the_gradients_that_there_are() -> None:
    x, classes = torch.tensor([0.3, 0.7]), torch.tensor([0, 2])
    # The reference hands its operand on, and is not asked for a derivative.
    told = seen(lambda x: (x.dequantize(), x.exp()), x, training=True)
    assert len({float(one[2][0]) for one in told}) > 1
    told = seen(
        lambda w, i: torch.nn.functional.embedding(i, w, sparse=True) * 3, torch.ones(3, 2), classes, training=True
    )
    assert len({float(one[0][0, 0]) for one in told}) > 1


def test_which_pivot_of_a_singular_matrix_is_zero_is_open() -> None:
    rank_one = torch.tensor([[0.1], [0.3], [0.7]]) @ torch.tensor([[0.3, 0.7, 0.9]])
    assert len({int(one[2]) for one in seen(lambda x: tuple(torch.linalg.lu_factor_ex(x)), rank_one)}) > 1
    regular = rank_one + torch.eye(3)
    assert {int(one[2]) for one in seen(lambda x: tuple(torch.linalg.lu_factor_ex(x)), regular)} == {0}


def test_where_the_largest_terms_cancel_one_of_the_others_may_be_left() -> None:
    x = torch.tensor([[0.25], [1e30], [-1e30], [0.5]]).repeat(1, 64)
    left = torch.stack([one[0] for one in seen(lambda x: x.sum(0), x)])
    assert bool(((left - 0.25).abs() < 1e-6).any())
    assert bool((left == 0).any())


@shakeout.kernel(reference=torch.logsumexp)
def in_single(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Right, and rounds once."""
    return torch.logsumexp(x.float(), dim).to(x.dtype)


def test_a_kernel_rounds_once_where_one_operator_of_torch_does_more_often() -> None:
    x = torch.tensor([[-4.0, 0.0]], dtype=torch.bfloat16)
    one = first.case(by_complement, x)  # of any reference: the call is another one
    call = replace(one.program.calls[0], operator=f"{__name__}:in_single", args=(Ref(0), -1))
    call = replace(call, results=(replace(call.results[0], shape=(1,)),))  # type: ignore[type-var]
    one = replace(one, program=replace(one.program, calls=(call,)))
    want = float(in_single(x, -1))
    assert any(float(replica(one, number).calls[0]["output"][0]) == want for number in range(8))


@shakeout.kernel(reference=torch.erf)
def by_complement(x: torch.Tensor) -> torch.Tensor:
    """Wrong where its result is small: it is what is left of one."""
    return 1 - torch.erfc(x)


@shakeout.kernel(reference=torch.lgamma)
def next_to_it(x: torch.Tensor) -> torch.Tensor:
    """As good as right: the logarithm of the function of a number one rounding error away."""
    return torch.lgamma(torch.nextafter(x, torch.ones_like(x)))


@shakeout.kernel(reference=torch.lgamma)
def flat(x: torch.Tensor) -> torch.Tensor:
    """Wrong next to the roots, where it is small: nothing."""
    y = torch.lgamma(x)
    return torch.where(y.abs() < 1e-5, 0.0, y)


def test_small_results_of_functions_are_judged_as_far_as_they_are_conditioned() -> None:
    assert first.run(by_complement, torch.tensor([3.0, 1e-9])).failure is not None
    assert first.run(by_complement, torch.tensor([3.0, 0.1])).failure is None
    # Next to the root of one a rounding error of the operand is as much as all of the result, and not so further off.
    near, far = torch.tensor([1 + 2.0**-23, 5.0]), torch.tensor([1 + 2.0**-18, 5.0])
    assert first.run(next_to_it, near).failure is None
    assert first.run(flat, near).failure is None
    assert first.run(flat, far).failure is not None


@pytest.mark.filterwarnings("ignore:Use of masked_fill_")
def test_replicas_move_what_was_written_to_one_place_for_several_elements() -> None:
    def network(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # Most operators refuse to write to an expanded tensor. Of the sum, which overflows, any number may be left.
        return x.sqrt().expand(2, 3).fill_(0.7), y.sum().expand(2, 3).masked_fill_(y > MOST, 0.5)

    told = seen(network, torch.full((2, 1), 2.0), torch.full((2, 1), MOST, dtype=torch.float64))
    for outputs in told:
        assert all(torch.equal(one.nan_to_num(), one.nan_to_num()[:, :1].expand(2, 3)) for one in outputs)
    assert len({float(wide[0, 0]) for wide, _ in told}) > 1


@shakeout.kernel(reference=lambda x: x.sqrt().expand(3).fill_(0.7))
def filled_otherwise(x: torch.Tensor) -> torch.Tensor:
    """Wrong: with another number."""
    return torch.full((), 0.7001).expand(3)


def test_a_wrong_number_in_one_place_for_several_elements_is_told() -> None:
    assert first.run(filled_otherwise, torch.tensor(2.0)).outcome is Outcome.FAIL
