"""How a failure grows: larger cases made of the smallest one, and what they add to its signature."""

from typing import Any

import pytest
import torch
from tests.faults import FAULTS, planted

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.minimise.executors import in_process
from shakeout.fuzz.minimise.predicate import Outcome
from shakeout.fuzz.triage.bug_signature import Signature, signature_of
from shakeout.fuzz.triage.scaling import SIZES, grown, growth
from shakeout.fuzz.triage.similar import near
from shakeout.oracles.verdict import Outcome as VerdictOutcome
from shakeout.oracles.verdict import Verdict

WRONG = Failure("aot_eager", "value", "wrong value")
FAULT = {fault.name: fault for fault in FAULTS}


def case_of(program: Any, *tensors: torch.Tensor, **setting: Any) -> Case:
    return capture(program, lambda: list(tensors), setting=Setting("aot_eager", **setting))


def test_the_last_dimension_of_every_input_has_each_size() -> None:
    case = case_of(lambda x, y: x * y, torch.tensor(1.5), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    larger = grown(case)
    assert tuple(larger) == SIZES
    views = larger[3].input_sets[0].views
    assert [view.shape for view in views] == [(3,), (2, 3)]
    assert [one.type.shape for one in larger[3].program.inputs] == [(3,), (2, 3)]
    storages = larger[3].input_sets[0].storages
    assert storages[views[0].storage].values.items == (1.5, 1.5, 1.5)
    assert storages[views[1].storage].values.items == (1.0, 2.0, 3.0, 4.0, 1.0, 2.0)


@pytest.mark.parametrize(
    "tensors",
    [(torch.zeros(2, 3).t(),), (torch.zeros(4)[1:],), (torch.zeros(0),), (torch.zeros(1).expand(3),), ()],
)
def test_what_is_no_plain_tensor_does_not_grow(tensors: tuple[torch.Tensor, ...]) -> None:
    assert not grown(case_of(lambda *given: torch.ones(2) + sum(one.sum() for one in given), *tensors))


def test_inputs_of_one_memory_do_not_grow() -> None:
    base = torch.zeros(4)
    assert not grown(case_of(lambda x, y: x + y, base, base))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("product of all wrong: always", "2 all, 3 all, 17 all, 257 all"),
        ("product of one wrong: always", "2 one, 3 one, 17 one, 257 one"),
        ("product of 1 % wrong: an odd number of elements", "2 none, 3 one, 17 one, 257 some"),
        ("product of all wrong: a dimension of 8 or more", "2 none, 3 none, 17 all, 257 all"),
    ],
)
def test_faults_whose_smallest_cases_look_alike_grow_otherwise(name: str, told: str) -> None:
    case = case_of(lambda x: torch.mul(x, x), torch.tensor(0.0))
    with planted(FAULT[name]):
        assert growth(case, WRONG, in_process) == told


def test_what_has_no_elements_or_is_rejected_says_nothing() -> None:
    square = case_of(lambda x: torch.linalg.det(x), torch.eye(1))
    assert growth(square, WRONG, in_process) == "", "no larger one is square"
    mine = case_of(lambda x: x * 2, torch.tensor(0.0))
    assert growth(mine, Failure("aot_eager", "exception", "RuntimeError", "text"), in_process) == ""
    other = Outcome("compared", Failure("aot_eager", "metadata", "wrong strides"))
    assert growth(mine, WRONG, lambda cases, requirements: [other] * len(cases)).startswith("2 other")
    infra = Outcome("infra")
    assert growth(mine, WRONG, lambda cases, requirements: [infra] * len(cases)) == ""


def test_growth_tells_signatures_apart_and_leaves_them_near() -> None:
    case = case_of(lambda x: x * 2, torch.tensor(0.0))
    verdict = Verdict("value", VerdictOutcome.FAIL, "wrong value", place="output 0")
    result = Result("", "aot_eager", "compared", (verdict,))
    always, odd = (signature_of(case, result, text) for text in ("2 all, 3 all", "2 none, 3 all"))
    assert always is not None
    assert odd is not None
    assert always != odd
    assert always.text.endswith(" | 2 all, 3 all")
    assert near(always, odd) == "the same operators; another growth"
    older = {key: value for key, value in always.to_json().items() if key != "growth"}
    assert Signature.from_json(older).growth == "", "what an older campaign has stored"
