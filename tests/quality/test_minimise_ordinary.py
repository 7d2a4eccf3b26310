"""Shrinks to exactly this: of equally large cases the one with the numbers that a person would write."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from shakeout.corpus import script
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.minimise.order import size
from shakeout.fuzz.minimise.predicate import Outcome
from shakeout.fuzz.minimise.search import Minimised, minimise
from shakeout.generators.inputsets import tensors_of
from shakeout.generators.validity import InvalidCandidate, Requirements, validated

WRONG = Failure("x", "value", "wrong value")
Wrong = Callable[[Case, list[torch.Tensor]], bool]


def shrunk(network: Callable[..., Any], given: Sequence[torch.Tensor], wrong: Wrong, budget: int = 400) -> Minimised:
    """The smallest case for a compiler that gets the last operator wrong where ``wrong`` says so."""
    original = capture(network, lambda: list(given), setting=Setting("eager"))
    operator = original.program.operators()[-1]
    seen: list[Case] = []

    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        found = []
        for case in cases:
            try:
                valid = validated(case, requirements)
            except InvalidCandidate:
                found.append(Outcome("invalid"))
                continue
            inputs = list(tensors_of(valid.input_sets[0], False))
            fails = bool(inputs) and operator in valid.program.operators() and wrong(valid, inputs)
            if fails:
                seen.append(valid)
            found.append(Outcome("compared", WRONG if fails else None, valid))
        return found

    found = minimise(original, run)
    assert found.complete
    assert found.tries <= budget
    # The order is total, so no case that failed on the way is as small as the last one.
    assert all(size(found.case) <= size(case) for case in seen)
    return found


def body(found: Minimised) -> str:
    return script.network(found.case.program).partition("\n\n\n")[0].partition("\n    ")[2]


def items(found: Minimised) -> list[list[Any]]:
    """What each input holds."""
    return [tensor.reshape(-1).tolist() for tensor in tensors_of(found.case.input_sets[0], False)]


def always(case: Case, given: list[torch.Tensor]) -> bool:
    return True


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("given", [torch.zeros(3, 4), torch.full((3, 4), 0.37), noise(3, 4)])
def test_values_that_do_not_matter_count_from_one(given: torch.Tensor) -> None:
    found = shrunk(lambda x: x.cos(), [given], always)
    assert items(found) == [[1.0]]
    three = shrunk(lambda x: x.cos(), [given.flatten()], lambda case, t: t[0].numel() >= 3)
    assert items(three) == [[1.0, 2.0, 3.0]]


def test_inputs_side_by_side_are_told_apart() -> None:
    def wrong(case: Case, given: list[torch.Tensor]) -> bool:
        return len(given) == 2 and given[0].numel() >= 2

    assert items(shrunk(torch.dot, [torch.zeros(5), torch.zeros(5)], wrong)) == [[1.0, 2.0], [3.0, 4.0]]


def test_a_zero_that_matters_stays_and_its_neighbours_do_not_become_one() -> None:
    def wrong(case: Case, given: list[torch.Tensor]) -> bool:
        return given[0].numel() == 3 and given[0].reshape(-1)[1].item() == 0

    assert items(shrunk(lambda x: x.sin(), [torch.zeros(3)], wrong)) == [[1.0, 0.0, 3.0]]
    assert items(shrunk(lambda x: x.sin(), [noise(3) * torch.tensor([1.0, 0.0, 1.0])], wrong)) == [[1.0, 0.0, 3.0]]


def test_the_sign_of_a_zero_and_a_nan_stay_where_they_matter() -> None:
    negative = torch.tensor([0.0, -0.0, 0.5])

    def signed(case: Case, given: list[torch.Tensor]) -> bool:
        return any(item == 0 and math.copysign(1, item) < 0 for item in given[0].reshape(-1).tolist())

    assert str(items(shrunk(lambda x: x.sin(), [negative], signed))) == "[[-0.0]]"

    def nan(case: Case, given: list[torch.Tensor]) -> bool:
        return given[0].numel() >= 2 and bool(given[0].isnan().any())

    assert str(items(shrunk(lambda x: x.sin(), [torch.tensor([0.0, 0.0, math.nan])], nan))) == "[[1.0, nan]]"


def test_ones_where_different_numbers_do_not_fail() -> None:
    def wrong(case: Case, given: list[torch.Tensor]) -> bool:
        return given[0].numel() == 4 and bool((given[0] == given[0].reshape(-1)[0]).all())

    assert items(shrunk(lambda x: x.sin(), [torch.full((4,), 0.3)], wrong)) == [[1.0, 1.0, 1.0, 1.0]]


def test_a_sign_that_matters_is_kept_by_small_numbers() -> None:
    def wrong(case: Case, given: list[torch.Tensor]) -> bool:
        flat = given[0].reshape(-1).tolist()
        return len(flat) == 2 and flat[0] < 0 < flat[1]

    assert items(shrunk(lambda x: x.sin(), [torch.tensor([-0.31, 0.21])], wrong)) == [[-1.0, 1.0]]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.complex64])
def test_every_dtype_has_ordinary_numbers(dtype: torch.dtype) -> None:
    def wrong(case: Case, given: list[torch.Tensor]) -> bool:
        return given[0].numel() >= 2 and given[0].dtype == dtype

    found = shrunk(lambda x: x.clone(), [torch.zeros(3, dtype=dtype)], wrong)
    assert items(found) == [[True, True] if dtype == torch.bool else [1, 2]]


def test_a_large_input_is_not_all_zeros() -> None:
    found = shrunk(lambda x: x.sin(), [torch.zeros(40, 40)], lambda case, given: given[0].numel() >= 300)
    (flat,) = items(found)
    assert min(flat) >= 1
    assert max(flat) <= 9
    assert len(set(flat)) > 1


def test_zeros_of_a_long_list_that_matter_cost_few_tries() -> None:
    def wrong(case: Case, given: list[torch.Tensor]) -> bool:
        return given[0].numel() == 60 and not given[0].any()

    assert items(shrunk(lambda x: x.sin(), [torch.zeros(60)], wrong, budget=100)) == [[0.0] * 60]


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (lambda x: x.add_(0), "v1 = x0.add_(1)"),
        (lambda x: x.mul(0), "v1 = x0.mul(1)"),
        (lambda x: torch.add(x, x, alpha=0), "v1 = torch.add(x0, x0)"),
        (lambda x: torch.full_like(x, 0.0), "v1 = torch.full_like(x0, 1.0)"),
        (lambda x: x.clamp_max(0), "v1 = x0.clamp_max(1)"),
        (lambda x: x.masked_fill(x > 0, 0), "v2 = x0.masked_fill(x1, 1)"),
    ],
)
def test_a_factor_of_zero_that_does_not_matter_goes(network: Callable[..., Any], expected: str) -> None:
    said = body(shrunk(network, [torch.zeros(2)], always))
    assert expected in said


def test_a_factor_that_must_not_be_one_is_two() -> None:
    def wrong(case: Case, given: list[torch.Tensor]) -> bool:
        return dict(case.program.calls[-1].kwargs).get("alpha", 1) != 1

    said = body(shrunk(lambda x, y: torch.sub(x, y, alpha=-7), [torch.zeros(2), torch.zeros(2)], wrong))
    assert "alpha=2)" in said


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (lambda x, y: torch.sub(x, y), "torch.sub(x0, 1)"),
        (lambda x: x.div(x), "x0.div(1)"),
        (lambda x, y: torch.mul(x, y), "torch.mul(x0, x0)"),
    ],
)
def test_a_difference_or_quotient_of_equals_becomes_one_of_a_number(network: Callable[..., Any], expected: str) -> None:
    given = [noise(2), noise(2)][: network.__code__.co_argcount]
    assert expected in body(shrunk(network, given, always))
    assert "x0.sub(x0)" in body(
        shrunk(
            lambda x: x.sub(x),
            [noise(2)],
            lambda case, t: case.program.calls[-1].args[0] == case.program.calls[-1].args[-1],
        )
    )


def test_a_factor_of_zero_that_matters_stays() -> None:
    def wrong(case: Case, given: list[torch.Tensor]) -> bool:
        return any(call.args[1:] == (0,) for call in case.program.calls)

    assert "x0.add_(0)" in body(shrunk(lambda x: x.add_(0), [torch.zeros(2)], wrong))


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (lambda x: torch.softmax(x, -1), "torch.softmax(x0, -1)"),
        (lambda x: torch.softmax(x, -2), "torch.softmax(x0, -1)"),
        (lambda x: torch.softmax(x, 0), "torch.softmax(x0, 1)"),
        (lambda x: torch.nn.functional.log_softmax(x, dim=1), "torch.nn.functional.log_softmax(x0, dim=1)"),
        (lambda x: x.cumsum(1), "x0.cumsum(0)"),
        (lambda x: x.cumsum(-2), "x0.cumsum(-1)"),
        (lambda x: x.unsqueeze(-1), "x0.unsqueeze(-1)"),
        (lambda x: x.flip(-1), "x0.flip(-1)"),
    ],
)
def test_dimensions_are_those_that_people_write_and_keep_their_sign(network: Callable[..., Any], expected: str) -> None:
    def wrong(case: Case, given: list[torch.Tensor]) -> bool:
        return given[0].dim() == 2

    assert expected in body(shrunk(network, [noise(2, 3)], wrong))


def test_a_dimension_counted_from_the_end_follows_when_the_rank_shrinks() -> None:
    def four(case: Case, given: list[torch.Tensor]) -> bool:
        (_, dim) = case.program.calls[-1].args
        return isinstance(dim, int) and given[0].shape[dim] == 4

    for network, said in ((lambda x: x.cumsum(-2), "cumsum(-1)"), (lambda x: x.cumsum(0), "cumsum(0)")):
        found = shrunk(network, [noise(4, 1)], four)
        assert said in body(found)
        assert items(found) == [[1.0, 2.0, 3.0, 4.0]]
        assert found.case.program.inputs[0].type.shape == (4,)
