"""The first operator with which a target goes wrong: bisection on tables, and on faults planted in ``aot_eager``."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.fault import Canary, numbers
from tests.faults.graphs import Graph, Site, after, off, some

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Mode, Setting
from shakeout.fuzz.ground import divergence
from shakeout.fuzz.ground.divergence import MOST_RUNS, beginning, boundary
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.running.execute import execute
from shakeout.oracles.verdict import Outcome
from shakeout.targets import shortcuts

aten = torch.ops.aten


def case(function: Callable, *inputs: torch.Tensor, mode: Mode = "inference") -> Case:
    def make() -> list[torch.Tensor]:
        return [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]

    return capture(function, make, setting=Setting("aot_eager", (), mode))


def spoiled(what: Case, operators: Sequence[Any], wrong: Any, when: Any = None) -> Result:
    plant = Graph(tuple(operators), wrong, when) if when else Graph(tuple(operators), wrong)
    with plant.planted(Canary()):
        return execute(what)


@given(st.lists(st.booleans(), max_size=120))
def test_bisection_ends_at_a_boundary(middle: list[bool]) -> None:
    states = [False, *middle, True]
    asked: list[int] = []

    def wrong(count: int) -> bool:
        asked.append(count)
        return states[count]

    found = boundary(len(states) - 1, wrong)
    assert found is not None
    assert states[found]
    assert not states[found - 1]
    assert len(asked) <= MOST_RUNS


def test_bisection_gives_up() -> None:
    assert boundary(1000, lambda count: True, most=3) is None
    assert boundary(1000, lambda count: None) is None


def test_a_beginning_returns_what_the_rest_uses() -> None:
    def network(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = x.sin()
        b = a.cos()
        a.max(0)  # nobody uses it
        return b * a, b

    whole = case(network, numbers(4, 3))
    first, second = beginning(whole, 1), beginning(whole, 3)
    assert first is not None
    assert second is not None
    assert first.program.returns == (1,)
    assert second.program.returns == (1, 2)
    assert beginning(whole, 0) is None


def chain(x: torch.Tensor) -> torch.Tensor:
    y = (x + 1).cos()
    z = torch.tanh(y * 2)
    return (z.exp() - y).sum(0) * 3


def test_the_operator_that_goes_wrong_is_named() -> None:
    result = spoiled(case(chain, numbers(5, 3)), [aten.tanh], off(some("one"), 0.25))
    assert result.divergence is not None
    assert result.divergence.operator == "torch.tanh"
    assert result.divergence.call == 3
    assert result.divergence.runs <= 4
    assert result.signature == "aot_eager | value | wrong value | torch.tanh"
    assert result.to_json()["divergence"]["call"] == 3


def test_a_wrong_write_is_named() -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        y = (x * 2).sin()
        y.mul_(y + 1)
        return (y.abs() + 1).log() - x

    # The second product is the one in place.
    def second(site: Site, args: Sequence[Any]) -> bool:
        return not isinstance(args[1], int | float)

    result = spoiled(case(network, numbers(6)), [aten.mul], after(lambda r: r * 2), second)
    assert result.divergence is not None
    assert result.divergence.operator == "torch.Tensor.mul_"


def test_a_wrong_gradient_is_named() -> None:
    result = spoiled(
        case(lambda x: ((x + 1).sin() * 2).tanh().abs(), numbers(6, grad=True), mode="training"),
        [aten.tanh_backward],
        after(lambda r: r * 2),
    )
    assert result.failure is not None
    assert result.failure.oracle == "gradient"
    assert result.divergence is not None
    assert result.divergence.operator == "torch.Tensor.tanh"


def test_a_fault_that_only_the_whole_program_shows_is_blamed_on_its_last_operator() -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        return (x.sin() + 1).exp().sqrt()

    def fused(site: Site, args: Sequence[Any]) -> bool:
        return any(node.target is aten.sqrt.default for node in site.node.graph.nodes)

    result = spoiled(case(network, numbers(6)), [aten.sin], off(some("all"), 0.25), fused)
    assert result.divergence is not None
    assert result.divergence.operator == "torch.Tensor.sqrt"


def test_a_wait_for_company_is_no_time_of_the_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    client = shortcuts._Client(5)
    monkeypatch.setattr(shortcuts, "_clients", [client])

    def wrong(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        client.waited += 100.0
        time.sleep(0.01)
        return op(*args, **kwargs) + 0.25

    result = spoiled(case(chain, numbers(5, 3)), [aten.tanh], wrong)
    assert result.divergence is not None, "a target that took so long itself would not have been asked again"
    assert result.divergence.runs >= 2, "nor would the search have gone on"
    assert result.seconds["waiting"] == pytest.approx(client.waited)
    assert result.seconds["run"] < 100.0 > abs(result.seconds["explain"])


def test_nothing_is_looked_for_where_nothing_is_to_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = off(some("all"), 0.25)
    assert spoiled(case(torch.tanh, numbers(6)), [aten.tanh], wrong).divergence is None
    with Graph((aten.tanh,), wrong).planted(Canary()):
        assert execute(case(chain, numbers(5, 3)), explain=False).divergence is None
        monkeypatch.setattr(divergence, "TOO_LONG", 0.0)
        result = execute(case(chain, numbers(5, 3)))
    assert result.divergence is None
    assert result.outcome is Outcome.FAIL
    assert result.signature.endswith("| torch.Tensor.mul")  # the one that made the output


def test_whoever_watches_is_told_which_program_runs() -> None:
    told: list[Case] = []
    whole = case(chain, numbers(5, 3))
    with Graph((aten.tanh,), off(some("all"), 0.25)).planted(Canary()):
        execute(whole, about=told.append)
    assert len(told) >= 2
    assert told[-1] is whole
    assert all(len(other.program.calls) < len(whole.program.calls) for other in told[:-1])


@pytest.mark.parametrize("fine", [True, False])
def test_shown_to_a_person(fine: bool) -> None:
    from shakeout.fuzz.reporting.plain import finding_lines

    whole = case(chain, numbers(5, 3))
    result = spoiled(whole, [aten.tanh], off(some("all"), 0.25))
    if not fine:
        result = replace(result, divergence=None)
    lines = "\n".join(finding_lines(whole, result))
    assert ("diverges  first behind v4 (torch.tanh): output" in lines) is fine
