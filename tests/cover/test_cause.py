"""What is one bug, and how much of the cores its triage takes."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.campaign.investigation import AHEAD, BEHIND, Share
from shakeout.fuzz.ground.divergence import Divergence
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.triage.bug_signature import signature_of
from shakeout.fuzz.triage.cause import cause_of, told_at_once, unclassified, unreduced
from shakeout.oracles.verdict import Outcome, Verdict

X = torch.tensor([1.0, 2.0])


def case_of(program: Any, *tensors: torch.Tensor, target: str = "aot_eager", **setting: Any) -> Case:
    return capture(program, lambda: list(tensors or (X,)), setting=Setting(target, **setting))


def result_of(target: str = "aot_eager", oracle: str = "value", symptom: str = "wrong value", **more: Any) -> Result:
    evidence = more.pop("evidence", {})
    return Result("", target, "compared", (Verdict(oracle, Outcome.FAIL, symptom, "", "output 0", evidence),), **more)


def cause(case: Case, result: Result, growth: str = "") -> str:
    signature = signature_of(case, result, growth)
    assert signature is not None
    return cause_of(signature, result, case)


def raised(target: str, template: str, *frames: str, stage: str = "", symptom: str = "ValueError") -> Result:
    evidence = {"template": template, "frames": list(frames)}
    return result_of(target, "exception", symptom, evidence=evidence, stage=stage)


def test_equal_fine_signatures_are_one_cause_and_others_are_not() -> None:
    one = cause(case_of(lambda x: x.sin()), result_of(), "2 all")
    assert one == cause(case_of(torch.sin, torch.ones(3, dtype=torch.float64)), result_of(), "2 all")
    others = [
        cause(case_of(lambda x: x.sin()), result_of(), "2 one"),
        cause(case_of(lambda x: x.cos()), result_of(), "2 all"),
        cause(case_of(lambda x: x.sin(), X.half()), result_of(), "2 all"),
        cause(case_of(lambda x: x.sin(), target="inductor"), result_of("inductor"), "2 all"),
        cause(case_of(lambda x: x.sin()), result_of(symptom="NaN lost"), "2 all"),
    ]
    assert len({one, *others}) == 6
    assert unclassified("coarse") not in (one, *others)


def test_what_a_shared_stage_refuses_is_one_cause_under_every_target() -> None:
    targets = ("export", "onnxruntime", "tvm")
    found = {
        cause(
            case_of(program, target=target),
            raised(target, "no such size N", "run.py:go", "fake.py:infer", stage="torch.export"),
        )
        for target in targets
        for program in (lambda x: x.sin(), lambda x: x.double().cos())
    }
    assert len(found) == 1
    elsewhere = [
        raised("tvm", "no such size N", "other.py:infer", stage="torch.export"),
        raised("tvm", "no such dtype", "fake.py:infer", stage="torch.export"),
        raised("tvm", "no such size N", "fake.py:infer", stage="relax.build"),
        raised("tvm", "no such size N", "fake.py:infer", stage="torch.export", symptom="TypeError"),
    ]
    causes = {cause(case_of(lambda x: x.sin(), target="tvm"), result) for result in elsewhere}
    assert len(causes | found) == 5


def test_outside_of_a_shared_stage_the_operators_of_an_exception_matter_and_its_inputs_do_not() -> None:
    told = raised("aot_eager", "no such size N", "fake.py:infer")
    one = cause(case_of(lambda x: x.sin()), told)
    assert one == cause(case_of(lambda x: x.sin(), torch.ones(2, 3).t().to(torch.int8)), told)
    assert one == cause(case_of(lambda x: x.sin(), target="inductor"), replace(told, target="inductor"))
    assert one != cause(case_of(lambda x: x.cos()), told)
    nowhere = raised("aot_eager", "no such size N")
    assert cause(case_of(lambda x: x.sin()), nowhere) != cause(case_of(lambda x: x.sin(), X.half()), nowhere)


def test_a_stage_that_gives_other_values_is_wrong_under_every_target() -> None:
    found = {
        cause(case_of(lambda x: x.sin(), target=name), result_of(name, stage="torch.export"))
        for name in ("tvm", "export")
    }
    assert len(found) == 1


KERNEL = "mine.kernels:norm"


def kernel_case(*behind: str, dtype: str = "float32") -> Case:
    case = case_of(lambda x: torch.exp(torch.abs(x)), X.to(getattr(torch, dtype)), target=KERNEL)
    first, second = case.program.calls
    calls = (replace(first, operator=KERNEL), *([second] if behind else []))
    returns = case.program.returns if behind else (1,)
    return replace(case, program=replace(case.program, vocabulary="kernel", calls=calls, returns=returns))


def test_what_is_wrong_of_a_kernel_is_one_cause_for_each_place() -> None:
    def at(oracle: str, symptom: str, **case: Any) -> str:
        return cause(kernel_case(**case), result_of(KERNEL, oracle, symptom))

    outputs = f"kernel | {KERNEL} | outputs"
    assert at("value", "wrong value") == at("value", "NaN", dtype="float16") == at("metadata", "wrong shape") == outputs
    assert at("gradient", "wrong value").endswith("gradients")
    assert at("mutation", "wrong value").endswith("inputs")
    refused = raised(KERNEL, "no such dtype", "kernels.py:norm", symptom="RuntimeError")
    assert cause(kernel_case(), refused).endswith("exception")
    behind = kernel_case("exp")
    assert cause(behind, result_of(KERNEL)) == f"{outputs} | with others", "a tolerance may be what is wrong with it"
    assert unreduced(result_of(KERNEL), behind, "coarse") == outputs
    assert unreduced(refused, behind, "coarse") == unclassified("coarse"), "what comes behind may refuse its input"
    first = result_of(KERNEL, divergence=Divergence(0, KERNEL, "", 1))
    assert told_at_once(first, behind) == outputs
    assert told_at_once(result_of(KERNEL, divergence=Divergence(1, "torch.exp", "", 1)), behind) == ""
    assert told_at_once(result_of(KERNEL), behind) == ""
    assert told_at_once(result_of(KERNEL), kernel_case()) == outputs


def test_what_a_kernel_writes_to_is_the_cause_of_what_is_made_of_it() -> None:
    wrote = Verdict("mutation", Outcome.FAIL, "wrong mutation", "", "input after the call 0")

    def both(told: Result) -> str:
        return cause(kernel_case(), replace(told, verdicts=(*told.verdicts, wrote)))

    found = {both(result_of(KERNEL, oracle)) for oracle in ("value", "metadata", "gradient", "mutation")}
    assert found == {f"kernel | {KERNEL} | inputs"}
    assert both(raised(KERNEL, "no such dtype", "kernels.py:norm")).endswith("exception")


def test_a_write_that_is_needed_behind_a_kernel_shows_that_it_shares_memory() -> None:
    written = kernel_case("exp")
    first, second = written.program.calls
    calls = (first, replace(second, operator="Tensor.exp_"))
    written = replace(written, program=replace(written.program, calls=calls))
    outputs = f"kernel | {KERNEL} | outputs"
    assert cause(written, result_of(KERNEL)) == outputs
    behind = result_of(KERNEL, divergence=Divergence(1, "Tensor.exp_", "", 1))
    assert cause(written, behind) == outputs
    assert told_at_once(behind, written) == "", "of a network nobody knows what is needed"


def test_every_operator_is_a_bystander_inside_of_a_runtime() -> None:
    for name in ("save_on_cpu", "mine.offload:store"):
        cases = [case_of(lambda x: x.sin(), target=name), case_of(lambda x: x.cos() + 1, target=name)]
        assert {cause(case, result_of(name)) for case in cases} == {f"runtime | {name} | outputs"}
        assert told_at_once(result_of(name, "gradient"), cases[1]) == f"runtime | {name} | gradients"


def test_a_stage_s_exception_is_told_at_once() -> None:
    case = case_of(lambda x: x.sin().cos(), target="tvm")
    told = raised("tvm", "no such size N", "fake.py:infer", stage="torch.export")
    assert told_at_once(told, case) == cause(case_of(lambda x: x.sin(), target="tvm"), told)
    assert told_at_once(replace(told, stage="tvm"), case) == ""


# --- shares -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "waiting", "cores"),
    [(2, 0, 0), (2, 1, 0.4), (2, 4, 1), (2, 100, 1.5), (30, 1, 30 / 61), (30, 180, 22.5)],
)
def test_the_share_follows_the_backlog(workers: int, waiting: int, cores: float) -> None:
    assert Share(workers).cores(waiting) == pytest.approx(cores)


def test_one_worker_is_shared_in_time() -> None:
    now = 0.0
    share = Share(1, lambda: now)
    assert share.allows(1, 0)
    left = worked = 0.0
    for _ in range(4000):
        if not left and share.allows(1, 0):
            left = 10.0  # a search
        busy = int(left > 0)
        now += 0.5
        share.at_work(1, busy)
        worked += 0.5 * busy
        left = max(left - 0.5, 0.0)
    assert worked / now == pytest.approx(1 / 3, abs=0.02)


def test_a_debt_is_bounded_and_nothing_is_saved_up() -> None:
    now = 0.0
    share = Share(4, lambda: now)
    now = 10_000.0
    share.at_work(1, 4)
    assert share._credit == -AHEAD
    now = 20_000.0
    share.at_work(4, 0)
    assert share._credit == BEHIND
    assert share.allows(4, 1)
    assert not share.allows(4, 2), "never more at once than its share"
