"""What a vendor asks of a finding: each point on real runs of the reference, with a target that is wrong by hand."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from shakeout.corpus import script
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.observation import Observation, Raised
from shakeout.fuzz.reporting.plain import vendor_lines
from shakeout.fuzz.running import replicas, runs
from shakeout.fuzz.running.execute import execute
from shakeout.oracles import tolerance, vendor
from shakeout.oracles.difference import Difference
from shakeout.oracles.exception import ExceptionParity
from shakeout.oracles.vendor import Points
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Outcome, Question, Verdict

RUNS: dict[str, Callable[..., Observation]] = {
    "reference": lambda case, number: runs.observe(script.load(case)),
    "exact": lambda case, number: runs.exact(case),
    "baseline": lambda case, number: runs.baseline(case),
    "relaid": lambda case, number: runs.relaid(case),
    "resaved": runs.resaved,
    "poisoned": lambda case, number: runs.poisoned(case),
    "replica": replicas.replica,
    "conditioned": lambda case, number: replicas.replica(case, number, conditioned=True),
    "wide": lambda case, number: replicas.replica(case, number, units=tolerance.UNITS),
    "reseeded": lambda case, number: runs.reseeded(case),
    "operand": runs.operand,
}


def case(function: Callable, *inputs: torch.Tensor) -> Case:
    return capture(function, lambda: [x.clone() for x in inputs], setting=Setting("inductor"))


def points(one: Case, wrong: Callable[[list[torch.Tensor]], Any], exact: bool = False) -> Points:
    """The points of a case on a target whose outputs ``wrong`` has changed."""

    def prepare(network: Callable) -> Callable:
        def changed(*given: torch.Tensor) -> list[torch.Tensor]:
            outputs = [output.clone() for output in network(*given)]
            wrong(outputs)
            return outputs

        return changed

    subject = runs.observe(script.load(one), prepare=prepare)
    answers = {REFERENCE: runs.observe(script.load(one)), SUBJECT: subject}
    said: Any = ()
    while not isinstance(said, Verdict):
        for question in said:
            answers[question] = subject if question.what == "subject" else RUNS[question.what](one, question.number)
        said = Difference("value", "output", exact).judge(one, answers)
    assert said.outcome is Outcome.FAIL
    for question in vendor.questions(one, said, answers):
        answers[question] = RUNS[question.what](one, question.number)
    return vendor.answered(one, said, answers)


def add(position: int, index: tuple[int, ...], amount: float) -> Callable[[list[torch.Tensor]], None]:
    def wrong(outputs: list[torch.Tensor]) -> None:
        outputs[position][index] += amount

    return wrong


def test_nothing_speaks_against_a_plain_wrong_value() -> None:
    found = points(case(lambda x: x.exp(), torch.ones(3)), add(0, (1,), 0.5))
    assert (found.tolerances, found.double, found.random, found.indices) == ("violated", "agrees", "fixed", "no")
    assert found.reference_error is not None
    assert found.reference_error < 1e-6
    assert found.target_error == pytest.approx(0.5, abs=1e-6)
    assert found.reportable
    assert not found.unusual


def test_a_target_that_promises_bits_may_keep_to_the_tolerances() -> None:
    found = points(case(lambda x: x + 1, torch.ones(3)), add(0, (1,), 2.0**-21), exact=True)
    assert found.tolerances == "kept"
    assert any("default tolerances" in objection for objection in found.objections)


def test_a_reference_that_is_as_wrong_is_an_objection() -> None:
    def cancels(x: torch.Tensor) -> torch.Tensor:
        return (x + 1e8) - 1e8

    # Eager gives 0, double precision 1; a target that gives 3 is wrong, but the case shows nothing.
    found = points(case(cancels, torch.ones(1)), add(0, (0,), 3.0), exact=True)
    assert (found.double, found.reference_error, found.target_error) == ("disagrees", 1.0, 2.0)
    assert [objection for objection in found.objections if "double precision does not agree" in objection]
    assert [objection for objection in found.objections if "as close to double precision" in objection]
    assert not found.reportable


def test_what_is_not_finite_has_no_error() -> None:
    found = points(case(lambda x: x * 1, torch.ones(2)), add(0, (0,), math.nan))
    assert (found.double, found.reference_error, found.target_error) == ("agrees", 0.0, None)
    assert found.reportable
    json.dumps(found.to_json(), allow_nan=False)


def test_values_that_hang_on_the_random_state() -> None:
    one = case(lambda x: torch.nn.functional.dropout(x, 0.5), torch.ones(64))
    found = points(one, lambda outputs: outputs[0].fill_(3.0), exact=True)
    assert found.random == "drawn"
    assert any("random state" in objection for objection in found.objections)
    # Everything is dropped, whatever is drawn.
    settled = case(lambda x: torch.nn.functional.dropout(x, 1.0), torch.ones(64))
    assert points(settled, add(0, (0,), 1.0), exact=True).random == "fixed"


TIED = torch.tensor([[1.0, 2.0, 2.0], [5.0, 5.0, 0.0]])


@pytest.mark.parametrize(
    ("function", "position", "place", "change", "indices"),
    [
        (lambda x: x.argmax(), 0, 0, 1, "ties"),
        (lambda x: x.argmax(), 0, 0, 2, "distinct"),
        (lambda x: x.argmax(1), 0, 0, 1, "ties"),
        (lambda x: x.argmax(1), 0, 1, 2, "distinct"),
        (lambda x: x.max(1), 1, 0, 1, "ties"),
        (lambda x: x.max(dim=1, keepdim=True), 1, 0, 1, "ties"),
        (lambda x: x.max(1), 1, 0, 7, "distinct"),
        (lambda x: x.sort(), 1, 0, 1, "distinct"),
        (lambda x: x.topk(1, 1), 1, 0, 1, "ties"),
        (lambda x: x.max(1), 0, 0, 1, "no"),
        (lambda x: x.argmax(1) + 1, 0, 0, 1, "no"),
    ],
)
def test_indices(function: Callable, position: int, place: int, change: int, indices: str) -> None:
    one = case(function, TIED)

    def wrong(outputs: list[torch.Tensor]) -> None:
        outputs[position].view(-1)[place] += change

    found = points(one, wrong, exact=True)
    assert found.indices == indices
    assert found.reportable is (indices == "no")


def test_values_and_indices_together_are_no_matter_of_indices() -> None:
    def both(outputs: list[torch.Tensor]) -> None:
        outputs[0][0] += 1
        outputs[1][0] += 1

    assert points(case(lambda x: x.max(1), TIED), both, exact=True).indices == "no"


def test_an_exception_has_no_values() -> None:
    one = case(lambda x: x.exp(), torch.ones(2))
    answers = {
        REFERENCE: runs.observe(script.load(one)),
        SUBJECT: Observation(error=Raised("LoweringException", "no", ("graph.py:run",))),
    }
    said: Any = ExceptionParity().judge(one, answers)
    answers |= {question: RUNS[question.what](one, question.number) for question in said}
    said = ExceptionParity().judge(one, answers)
    assert isinstance(said, Verdict)
    assert vendor.questions(one, said, answers) == ()
    found = vendor.answered(one, said, answers)
    assert (found.tolerances, found.double, found.indices) == ("not compared", "not known", "no")
    assert found.reportable


def test_what_is_unusual() -> None:
    assert vendor.unusual(case(lambda x: x.as_strided((2,), (1,)).relu(), torch.ones(4))) == (
        "torch.Tensor.as_strided",
    )
    assert vendor.unusual(case(lambda x: x + 1, torch.ones(2, dtype=torch.complex64))) == ("complex64",)
    assert vendor.unusual(case(lambda x: x - 1 + x @ x.T, torch.ones(2, 2))) == ()


def test_a_failing_case_carries_its_points_as_json() -> None:
    one = capture(lambda x: x * 2, lambda: [torch.ones(2, 2)], setting=Setting("planted", (("fault", "wrong value"),)))
    result = json.loads(json.dumps(execute(one).to_json()))
    assert result["vendor"]["reportable"] is True
    assert result["vendor"]["unusual"] == ["knobs"]
    first, *more = vendor_lines(Points.from_json(result["vendor"]))
    assert "default tolerances violated" in first
    assert "double precision agrees with the reference (off by 0, the target by 1)" in first
    assert not more
    passing = capture(lambda x: x * 2, lambda: [torch.ones(2, 2)], setting=Setting("planted"))
    assert execute(passing).to_json()["vendor"] is None


def test_a_defect_in_answering_keeps_the_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Points:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(vendor, "answered", broken)
    one = capture(lambda x: x * 2, lambda: [torch.ones(2, 2)], setting=Setting("planted", (("fault", "wrong value"),)))
    result = execute(one)
    assert result.failure is not None
    assert result.vendor is not None
    assert not result.vendor.reportable
    assert "SHAKEOUT-INTERNAL ZeroDivisionError" in result.vendor.objections[0]


def test_an_operand_is_what_the_reference_has_there() -> None:
    one = case(lambda x: (x * 2).exp().argmax(), torch.arange(3.0))
    assert torch.equal(runs.operand(one, 1).calls[0]["output"][0], torch.arange(3.0) * 2)
    assert torch.equal(runs.operand(one, 0).calls[0]["output"][0], torch.arange(3.0))
    assert Question("operand", 2) != Question("operand", 1)
