"""Where another order of terms may overflow, nothing is told; and replicas move what is added up."""

import math
from collections.abc import Callable

import pytest
import torch
from tests.benchmarks import guises

from shakeout.corpus import script
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.corpus.program import Call, Ref
from shakeout.corpus.vocabularies import torch as words
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.running import replicas, runs
from shakeout.fuzz.running.execute import execute
from shakeout.oracles import summation
from shakeout.oracles.verdict import Outcome

MOST = torch.finfo(torch.float64).max


def doubts(operator: str, *operands: torch.Tensor, **more: object) -> list:
    call = Call(operator, tuple(Ref(n) for n in range(len(operands))), tuple(more.items()))
    return summation.doubtful(call, operands, words)


def run(function: Callable, make: Callable[[], list[torch.Tensor]], guise: str = "reordered") -> Result:
    with guises.known():
        return execute(capture(function, make, setting=Setting(guise, ())))


def test_only_the_sums_that_may_overflow_are_in_doubt() -> None:
    a = torch.tensor([[0.5 * MOST, 0.5 * MOST, -MOST], [1.0, 2.0, 3.0]], dtype=torch.float64)
    b = torch.ones(3, 2, dtype=torch.float64)
    (found,) = doubts("torch.mm", a, b)
    assert found.tolist() == [[True, True], [False, False]]


def test_ordinary_numbers_and_infinities_are_not_in_doubt() -> None:
    a = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    assert doubts("torch.mm", a, a) == []
    a[0, 0] = math.inf
    a[1, 1] = math.nan
    assert doubts("torch.mm", a, a) == []
    assert doubts("torch.fft.fft", a) == []


def test_a_product_is_in_doubt_above_and_below() -> None:
    x = torch.tensor([[1e30, 1e30, 1e-30], [1e-30, 1e-30, 1e30], [1.0, 2.0, 3.0]])
    (found,) = doubts("torch.prod", x, dim=1)
    assert found.tolist() == [True, True, False]


def test_a_transform_is_in_doubt_as_a_whole() -> None:
    assert doubts("torch.fft.fft", torch.tensor([1.0, 3e38]))[0].all()
    assert doubts("torch.fft.fft", torch.tensor([1.0, 3e30])) == []


def test_a_complex_number_whose_magnitude_overflows_is_in_doubt() -> None:
    x = torch.full((2, 2), complex(3e38, 3e38), dtype=torch.complex64)
    assert doubts("torch.mm", x, torch.eye(2, dtype=torch.complex64))[0].all()
    assert doubts("torch.fft.fft", x)[0].all()
    assert doubts("torch.fft.fft", torch.full((2, 2), complex(1, torch.inf))) == []


@pytest.mark.parametrize("operator", ["torch.add", "torch.relu", "torch.exp", "torch.Tensor.view", "mine:sum"])
def test_what_rounds_once_adds_nothing_up(operator: str) -> None:
    assert not words.traits(operator).addition


def test_a_sum_that_overflows_in_one_order_only_is_no_finding() -> None:
    def network(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, y)

    def make() -> list[torch.Tensor]:
        # Backwards, as the guise adds, this is -MOST - MOST + MOST.
        x = torch.tensor([[MOST, -MOST, -MOST]], dtype=torch.float64)
        return [x, torch.ones(3, 1, dtype=torch.float64)]

    result = run(network, make)
    assert result.outcome is Outcome.UNKNOWN
    assert {verdict.symptom for verdict in result.verdicts if verdict.outcome is not Outcome.PASS} == {"unstable"}


def test_what_is_doubtful_may_be_any_number_for_what_comes_later() -> None:
    def network(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.mm(x.renorm(2, 0, 0.5), y)

    x = torch.tensor([[MOST, -1.0]], dtype=torch.float64)
    one = capture(network, lambda: [x, torch.full((2, 1), -math.inf, dtype=torch.float64)], setting=Setting("eager"))
    seen = [float(replicas.replica(one, number).calls[0]["output"][0]) for number in range(3)]
    # With 0 as with NaN the product is no number, with 1 it is -inf.
    assert [math.isnan(found) for found in seen] == [True, True, False]


def test_a_window_rounds_at_the_height_of_its_waves() -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.blackman_window(40, periodic=False)[1:4] + x

    one = capture(network, lambda: [torch.zeros(3)], setting=Setting("eager"))
    plain = runs.observe(script.load(one)).calls[0]["output"][0]
    moves = [replicas.replica(one, number).calls[0]["output"][0] - plain for number in range(8)]
    assert 5e-8 < float(torch.stack(moves).abs().max()) < 2e-7
    assert float(plain.max()) < 0.03


def test_terms_of_whole_numbers_move_as_well() -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x).abs()

    x = torch.zeros(64, dtype=torch.int16)
    x[::2] = 3001  # every other frequency is the rest of a cancellation
    one = capture(network, lambda: [x], setting=Setting("eager"))
    (plain,), (moved,) = (replicas.replica(one, number).calls[0]["output"] for number in (0, 1))
    assert not torch.equal(plain, moved)
    assert float((plain - moved).abs().max()) > 1e-4  # the last place of a result that ought to be 0 is far below


def test_whole_numbers_that_weigh_the_terms_stay_whole() -> None:
    def network(x: torch.Tensor, often: torch.Tensor) -> torch.Tensor:
        return x.cov(fweights=often)

    weights = torch.tensor([1, 2, 1])
    for x in (torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([[1, 5, 2], [3, 1, 1]])):

        def make(given: torch.Tensor = x) -> list[torch.Tensor]:
            return [given, weights]

        moved = replicas.replica(capture(network, make, setting=Setting("eager")), 0)
        assert moved.error is None
        assert not torch.equal(moved.calls[0]["output"][0], x.cov(fweights=weights))


def test_what_an_operator_writes_to_is_written() -> None:
    def network(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.addmm_(y, y)

    def make() -> list[torch.Tensor]:
        return [torch.ones(2, 2), torch.full((2, 2), 2.0)]

    seen = replicas.replica(capture(network, make, setting=Setting("eager")), 0).calls[0]
    assert torch.allclose(seen["input after the call"][0], torch.full((4,), 9.0), rtol=1e-5)


def test_how_many_results_hang_on_rounding_is_not_told() -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.argwhere(x.sum(1) - x.cumsum(1)[:, -1])

    def make() -> list[torch.Tensor]:
        return [torch.randn(64, 100, generator=torch.Generator().manual_seed(0))]

    result = run(network, make)
    (verdict,) = [verdict for verdict in result.verdicts if verdict.outcome is not Outcome.PASS]
    assert (verdict.oracle, verdict.outcome, verdict.symptom) == ("metadata", Outcome.UNKNOWN, "unstable")


def test_what_is_chosen_within_the_range_stays_within_it() -> None:
    def bounded(x: torch.Tensor) -> torch.Tensor:
        total = x.sum(1).nan_to_num()
        # Of infinity there is no histogram: a replica with one would tell nothing of what came before.
        return torch.cat([total, torch.histogram(total, 2)[0]])

    numbers = torch.full((64, 2), torch.finfo(torch.float32).max)
    one = capture(bounded, lambda: [numbers], setting=Setting("eager", ()))
    seen = [replicas.replica(one, number) for number in range(8)]
    assert [observation.error for observation in seen] == [None] * 8
    # What was rounded on its way there may have become infinite.
    one = capture(
        lambda x: x.sum(1).nan_to_num().half(), lambda: [torch.full((64, 2), 65504 / 2)], setting=Setting("eager", ())
    )
    found = torch.cat([replicas.replica(one, number).calls[0]["output"][0] for number in range(8)])
    assert set(found.tolist()) >= {math.inf}
