"""Exact mode: what is proven to be exact must agree bit for bit, and what is not proven keeps its tolerance."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.fault import Canary
from tests.faults.graphs import Graph, after

from shakeout.corpus import script
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Mode, Setting
from shakeout.corpus.vocabularies import torch as words
from shakeout.fuzz.running import runs
from shakeout.fuzz.running.execute import execute
from shakeout.oracles.exactness import EXACT, candidate, proven
from shakeout.oracles.verdict import REFERENCE

aten = torch.ops.aten


def whole(*shape: int, reach: int = 4, dtype: torch.dtype = torch.float32, grad: bool = False) -> torch.Tensor:
    size = torch.Size(shape).numel()
    ramp = torch.arange(size) * 7 % (2 * reach + 1) - reach
    return ramp.reshape(shape).to(dtype).requires_grad_(grad)


def case(function: Callable, *inputs: torch.Tensor, target: str = "eager", mode: Mode = "inference") -> Case:
    def make() -> list[torch.Tensor]:
        return [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]

    return capture(function, make, setting=Setting(target, (), mode))


def shown(function: Callable, *inputs: torch.Tensor, mode: Mode = "inference") -> str:
    """``proven``, ``no candidate``, or why nothing is proven."""
    one = case(function, *inputs, mode=mode)
    if not candidate(one):
        return "no candidate"
    seen = runs.exact(one)
    return "proven" if seen.error is None else seen.error.message


X, Y = whole(4, 5), whole(5, 3)

PROVEN: list[tuple[str, Callable, tuple[torch.Tensor, ...]]] = [
    ("a product", lambda x, y: x @ y, (X, Y)),
    ("a difference", lambda x: x - x.flip(0) * 3, (X,)),
    ("one through its factor", lambda x: torch.add(x, x.flip(1), alpha=-2), (X,)),
    ("a convolution", torch.nn.functional.conv1d, (whole(1, 2, 9), whole(3, 2, 3))),
    ("a running sum", lambda x: x.cumsum(0).sum(), (X,)),
    ("choices", lambda x: torch.where(x > 0, x, -1.0).relu().max(1).values.clamp(-2, 2), (X,)),
    ("writes", lambda x: x.mul_(2).sub_(x), (X,)),
    ("an indexed write", lambda x: (x[0].fill_(-7), x * 2)[1], (X,)),
    ("half precision", lambda x: x * x + x, (whole(9, dtype=torch.float16),)),
    ("whole numbers that become floats", lambda x: x.to(torch.float32) * 2, (torch.arange(6),)),
    ("a transposed input", lambda x: x.t().reshape(20) + 1, (X,)),
]
NOT: list[tuple[str, str, Callable, tuple[torch.Tensor, ...]]] = [
    ("a quotient", "no candidate", lambda x: x / 3, (X,)),
    ("a fraction", "not a whole number", lambda x: x * 0.5, (X,)),
    ("an input that is none", "no candidate", lambda x: x + 1, (X + 0.25,)),
    ("too large", "may not hold", lambda x: x * 4000 * 4000, (X,)),
    ("cancelling terms that are too large", "may not hold", lambda x: (x + 2.0**24) - 2.0**24, (X,)),
    ("too large for half", "may not hold", lambda x: x * 600, (whole(9, dtype=torch.float16),)),
    ("too large for bfloat16", "may not hold", lambda x: x * 65, (whole(9, dtype=torch.bfloat16),)),
    ("complex numbers", "no candidate", lambda x: x + x, (whole(4).to(torch.complex64),)),
]


@pytest.mark.parametrize(("name", "function", "inputs"), PROVEN, ids=[row[0] for row in PROVEN])
def test_what_is_exact_is_proven(name: str, function: Callable, inputs: tuple) -> None:
    assert shown(function, *inputs) == "proven"


@pytest.mark.parametrize(("name", "why", "function", "inputs"), NOT, ids=[row[0] for row in NOT])
def test_what_is_not_exact_is_not_proven(name: str, why: str, function: Callable, inputs: tuple) -> None:
    assert why in shown(function, *inputs)


def test_gradients_are_bounded_as_well() -> None:
    def small(x: torch.Tensor) -> torch.Tensor:
        return (x * x * 3).sum(0)

    assert shown(small, whole(4, 5, grad=True), mode="training") == "proven"

    def large(x: torch.Tensor) -> torch.Tensor:
        return (x * 0) * 5000 * 5000  # the result is zero, its slope is not small

    assert "gradient is larger" in shown(large, whole(4, grad=True), mode="training")
    assert shown(lambda x: x.relu(), whole(4, grad=True), mode="training") == "no candidate"


@given(st.lists(st.integers(-(2**22), 2**22), min_size=1, max_size=12), st.randoms())
def test_what_is_proven_gives_one_number_in_every_order(numbers: list[int], random: Any) -> None:
    values = torch.tensor(numbers, dtype=torch.float32)
    if shown(lambda x: x.sum(), values) != "proven":
        assert sum(map(abs, numbers)) > 2**24
        return
    expected = float(sum(numbers))
    for _ in range(3):
        shuffled = list(numbers)
        random.shuffle(shuffled)
        total = torch.zeros(())
        for number in shuffled:
            total = total + number
        assert total.item() == expected


def unit_off(r: torch.Tensor) -> torch.Tensor:
    """The last element one unit in the last place off."""
    flat = r.clone().reshape(-1)
    flat[-1] = torch.nextafter(flat[-1], torch.tensor(torch.inf))
    return flat.reshape(r.shape)


def test_one_unit_in_the_last_place_of_one_element_is_seen() -> None:
    product = case(lambda x, y: x @ y + 1, X, Y, target="aot_eager")
    with Graph((aten.mm,), after(unit_off)).planted(Canary()):
        result = execute(product)
    assert result.failure is not None
    assert result.failure.evidence["exact"]
    assert result.failure.evidence["wrong"] == 1
    # What is not proven keeps its tolerance.
    rounded = case(lambda x, y: x @ y + 1, X + 0.1, Y, target="aot_eager")
    with Graph((aten.mm,), after(unit_off)).planted(Canary()):
        assert execute(rounded).failure is None


def test_the_ledger_is_told() -> None:
    result = execute(case(lambda x, y: x @ y, X, Y, target="aot_eager"))
    assert result.proven
    assert result.to_json()["proven"] is True
    assert not execute(case(lambda x: x.exp(), X, target="aot_eager")).proven


def test_a_campaign_has_its_share_of_cases_that_can_be_exact() -> None:
    from shakeout.fuzz.campaign import schedule
    from shakeout.fuzz.campaign.config import Config
    from shakeout.fuzz.running import compose

    config = Config(targets=("eager",), seconds=None, seed=3)
    jobs = [job for job in (schedule.job(config, i) for i in range(200)) if compose._exact_turn(job.seed)]
    assert 10 <= len(jobs) <= 40
    cases = [compose.compose(job).case for job in jobs]
    assert all(
        words.traits(operator).exactness
        for one in cases
        for operator in one.program.operators()
        if operator != "torch.neg"
    )
    assert sum(runs.exact(one).error is None for one in cases if candidate(one)) >= len(jobs) // 3


def test_a_reference_that_shows_something_else_proves_nothing() -> None:
    # Equality with a reference that is not exact itself would be no measure.
    one = case(lambda x, y: x @ y, X, Y)
    reference, double = runs.observe(script.load(one)), runs.exact(one)
    assert proven({REFERENCE: reference, EXACT: double})
    reference.calls[0]["output"][0] = unit_off(reference.calls[0]["output"][0])
    assert not proven({REFERENCE: reference, EXACT: double})
    assert not proven({REFERENCE: reference})


def test_what_keeps_whole_numbers_is_told_by_the_vocabulary() -> None:
    assert words.traits("torch.Tensor.add_").exactness == "sums"
    assert words.traits("torch.exp").exactness == words.traits("mine:add").exactness == ""
