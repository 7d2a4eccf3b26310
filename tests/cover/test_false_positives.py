"""The guises are right by construction, and the bound on a rate is the published one."""

import dataclasses
from typing import Any

import pytest
import torch
from tests.benchmarks import guises
from tests.benchmarks.false_positives import bound, idle, table

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.fuzz.running.execute import execute
from shakeout.oracles.verdict import Outcome, Verdict


def test_no_hit_gives_the_rule_of_three() -> None:
    assert bound(0, 10_000) == pytest.approx(3 / 10_000, rel=2e-3)
    assert bound(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100), rel=1e-9)


def test_hits_give_the_upper_limit_of_clopper_and_pearson() -> None:
    # Upper one-sided 95 % limits for 1 and 5 of 100, from the quantiles of the beta distribution.
    assert bound(1, 100) == pytest.approx(0.046559, abs=1e-5)
    assert bound(5, 100) == pytest.approx(0.102253, abs=1e-5)
    assert bound(3, 3) == 1.0


def test_the_order_of_a_sum_is_another_one() -> None:
    x = torch.tensor([1.0, 2.0, 0.1])
    with guises.Reordered():
        assert torch.equal(torch.softmax(x, 0), torch.softmax(x.flip(0), 0).flip(0))
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(40, 40, generator=generator) for _ in range(2))
    plain = a @ b
    with guises.Reordered():
        other = a @ b
    assert not torch.equal(plain, other)
    assert torch.allclose(plain, other, atol=1e-4)


@pytest.mark.parametrize("guise", ["reordered", "threads"])
def test_nothing_is_found_in_a_guise(guise: str) -> None:
    def network(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x @ y, 1).sum(0)

    def make() -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        return [torch.randn(9, 9, generator=generator).requires_grad_() for _ in range(2)]

    with guises.known():
        result = execute(capture(network, make, setting=Setting(guise, (), "training")))
    assert result.status == "compared"
    assert result.outcome is not Outcome.FAIL


def test_a_guise_takes_branches_and_leaves_none_broken() -> None:
    def network(x: torch.Tensor, p: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.cond(p, lambda x: (x.softmax(0),), lambda x: (x.clone(),), [x])

    one = capture(network, lambda: [torch.arange(3.0), torch.tensor(True)], setting=Setting("reordered", ()))
    assert one.program.structured()
    with guises.known():
        assert [execute(one).status for _ in range(2)] == ["compared", "compared"]


def test_what_a_mode_that_does_nothing_has_as_well_is_not_ours() -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        # Wrong in PyTorch 2.13 while any mode listens: the matrix is not conjugated.
        return torch.linalg.pinv(x)

    def make() -> list[torch.Tensor]:
        return [torch.randn(3, 2, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))]

    one = capture(network, make, setting=Setting("reordered", ()))
    with guises.known():
        result = execute(one)
        assert result.outcome is Outcome.FAIL
        assert idle(one, result)
        heard = dataclasses.replace(result, verdicts=(Verdict("value", Outcome.FAIL, place="output 7"),))
        assert not idle(one, heard)


def test_the_bound_is_of_findings_that_are_not_the_references_own() -> None:
    def finding(oracle: str, **more: bool) -> dict:
        verdicts = [{"oracle": "metadata", "outcome": "pass"}, {"oracle": oracle, "outcome": "fail"}]
        return {"verdicts": verdicts, **more}

    row: dict[str, Any] = {"guise": "reordered", "status": {"compared": 100}, "exact": 0}
    row["oracles"] = {"value": {"pass": 97, "fail": 3}, "metadata": {"pass": 100}}
    row["findings"] = [finding("value", idle=True), finding("value", idle=False), finding("value", idle=True)]
    row["findings"].append({"status": "process died"})
    lines = [line.split() for line in table([row])]
    assert lines[1] == ["reordered", "value", "100", "0", "2", "1", f"{bound(1, 100):.2e}"]
    assert lines[2] == ["reordered", "metadata", "100", "0", "0", "0", f"{bound(0, 100):.2e}"]
    assert lines[3] == ["reordered", "all", "100", "2", "2", f"{bound(2, 100):.2e}"]
