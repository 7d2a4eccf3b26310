"""Metamorphic relations: each is kept by the reference, is drawn, and shows faults that the unchanged case does not."""

import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.faults.fault import Canary
from tests.faults.graphs import Graph

from shakeout.corpus import codec, script
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.observation import Observation
from shakeout.fuzz.ground.jobs import Grow, Run
from shakeout.fuzz.ground.makers import GROWER
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.ground.slot import Slot
from shakeout.fuzz.process.worker import _Worker
from shakeout.fuzz.running import runs
from shakeout.fuzz.running.compose import compose
from shakeout.fuzz.running.execute import Shared, execute, related
from shakeout.fuzz.workers.protocol import Channel
from shakeout.oracles import metamorphic
from shakeout.oracles.metamorphic import PARENT, TURN, Derived, Metamorphic, derive
from shakeout.oracles.relations import RELATIONS
from shakeout.oracles.verdict import REFERENCE, Outcome, Question, Verdict

aten = torch.ops.aten


def case(function: Any, *inputs: torch.Tensor, target: str = "eager") -> Case:
    def make() -> list[torch.Tensor]:
        return [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]

    mode = "training" if any(x.requires_grad for x in inputs) else "inference"
    return capture(function, make, setting=Setting(target, (), mode))


def network(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    h = torch.sin(x)
    w = torch.mm(h, y)
    y.add_(1)
    return w, h.relu() + 1, y.T


A, B = (torch.arange(9, dtype=torch.float32).reshape(3, 3) * step - 1 for step in (0.5, 0.25))


def by(relation: str, parent: Case, place: int = 0) -> Derived:
    found = RELATIONS[relation](parent, place)
    assert found is not None
    return Derived(found.case, relation, parent.id, found.outputs)


def judged(derived: Derived, parent: Observation, reference: Observation | None = None) -> Verdict:
    oracle = Metamorphic(derived)
    answers = {REFERENCE: reference or runs.observe(script.load(derived.case)), PARENT: parent}
    said = oracle.judge(derived.case, answers)
    if not isinstance(said, Verdict):
        from shakeout.fuzz.running.replicas import replica

        answers |= {question: replica(derived.case, question.number) for question in said}
        said = oracle.judge(derived.case, answers)
    assert isinstance(said, Verdict)
    return said


@pytest.mark.parametrize("relation", [name for name in RELATIONS if name != "input made a constant"])
@pytest.mark.parametrize("place", [0, 1, 5])
def test_outputs_stay_what_they_are(relation: str, place: int) -> None:
    parent = case(network, A, B)
    derived = by(relation, parent, place)
    assert derived.case.id != parent.id
    assert codec.decode(derived.case.text) == derived.case
    old = runs.observe(script.load(parent)).calls[0]["output"]
    new = runs.observe(script.load(derived.case)).calls[0]["output"]
    assert len(new) == len(derived.outputs)
    assert {number for number in derived.outputs if number is not None} == {0, 1, 2}
    for number, tensor in zip(derived.outputs, new, strict=True):
        assert number is None or torch.equal(tensor, old[number])
    assert execute(derived.case, shared=Shared(), derived=derived).outcome is Outcome.PASS


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64]
)
def test_an_input_becomes_the_same_constant(dtype: torch.dtype) -> None:
    y = torch.tensor([[1.0, -2.25, 0.1]]).to(dtype)
    parent = case(lambda x, y: x.unsqueeze(0) + y, torch.ones(2, 3), y)
    derived = by("input made a constant", parent, 1)
    assert len(derived.case.program.inputs) == 1
    old, new = (runs.observe(script.load(one)).calls[0]["output"][0] for one in (parent, derived.case))
    assert torch.equal(old, new)
    assert old.dtype == new.dtype


def test_what_is_written_to_or_needs_a_gradient_is_no_constant() -> None:
    relation = RELATIONS["input made a constant"]
    assert relation(case(lambda x, y: (x.add_(1), y.view(-1).mul_(2)), torch.ones(2), torch.ones(2)), 0) is None
    x = torch.ones(2, requires_grad=True)
    assert relation(case(lambda x, y: x * y, x, x), 0) is None


def test_gradients_keep_a_relation_as_well() -> None:
    x = A.clone().requires_grad_()
    parent = case(lambda x, y: torch.mm(torch.sin(x), y), x, B)
    old = runs.observe(script.load(parent)).calls[0]["gradient"][0]
    for relation in ("scaled", "batch split", "transposed twice", "dead code"):
        new = runs.observe(script.load(by(relation, parent).case)).calls[0]["gradient"][0]
        assert torch.equal(old, new), relation


def test_only_what_is_homogeneous_is_scaled() -> None:
    relation = RELATIONS["scaled"]
    assert relation(case(lambda x: torch.exp(x), A), 0) is None
    assert relation(case(lambda x: torch.mm(x, x), A), 0) is None, "of degree two"
    assert relation(case(lambda x, y: torch.nn.functional.linear(x, y, x[0]), A, B), 0) is None, "a bias"
    assert relation(case(lambda x: torch.sum(x, dtype=torch.float64), A), 0) is None
    assert relation(case(lambda x: torch.sum(x.long()), A), 0) is None


def test_cutting_depends_on_the_sizes() -> None:
    parent = case(torch.sin, A)
    assert RELATIONS["batch split"](parent, 0) is not None
    other = case(torch.sin, torch.ones(2, 3)).input_sets[0]
    assert RELATIONS["batch split"](replace(parent, input_sets=(*parent.input_sets, other)), 0) is None


def test_grown_programs_keep_every_relation() -> None:
    ran: Counter[str] = Counter()
    for seed in range(60):
        made = compose(Grow(number=seed, target="eager", seed=seed)).case
        seen = runs.observe(script.load(made))
        if seen.error is not None:
            continue
        for number, relation in enumerate(RELATIONS):
            if (seed + number) % 3 or (found := RELATIONS[relation](made, seed)) is None:
                continue
            derived = Derived(found.case, relation, made.id, found.outputs)
            told = runs.observe(script.load(derived.case))
            assert told.error is None, (seed, relation, told.error)
            verdict = judged(derived, seen, told)
            assert verdict.outcome is Outcome.PASS, (seed, relation, verdict)
            ran[relation] += 1
    assert set(ran) == set(RELATIONS), ran


def test_one_case_in_eight_has_its_turn() -> None:
    one = case(network, A, B)
    cases = [one.on("eager", (("number", number),)) for number in range(200)]
    found = [derived for each in cases if (derived := derive(each)) is not None]
    assert 200 / TURN / 2 < len(found) < 200 / TURN * 2
    assert len({derived.relation for derived in found}) > 4
    assert derive(one, always=True) == derive(one, always=True) is not None


# --- what it is good for ----------------------------------------------------------------------------------------------


def _dropped(site: Any, operator: Any, args: Any, kwargs: Any) -> Any:
    """What a wrong simplification makes of a call: its operand."""
    return args[0]


def _first_of_two(site: Any, args: Any) -> bool:
    """Whether a call exchanges the dimensions of a square matrix, the first one in its graph to do so."""
    square = args[0].shape[0] == args[0].shape[1] and args[1:] == (0, 1)
    return square and site.memory.setdefault("first", site.node) is site.node


def _first_twice(site: Any, operator: Any, args: Any, kwargs: Any) -> Any:
    """What becomes of a concatenation that takes its first operand for all of them."""
    return operator([args[0][0]] * 2)[: sum(len(t) for t in args[0])]


FAULTS = {
    "transposed twice": Graph((aten.transpose.int,), _dropped, _first_of_two),
    "scaled": Graph((aten.mul.Tensor,), _dropped, lambda site, args: args[1] == 4.0),
    "batch split": Graph((aten.cat.default,), _first_twice),
}


@pytest.mark.parametrize("relation", FAULTS)
def test_a_fault_shows_only_in_the_changed_case(relation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = case(lambda x, y: torch.mm(torch.sin(x), y), A, B, target="aot_eager")
    monkeypatch.setattr(metamorphic, "RELATIONS", {relation: RELATIONS[relation]})
    monkeypatch.setattr(metamorphic, "TURN", 1)
    with FAULTS[relation].planted(Canary()):
        shared = Shared()
        first = execute(parent, shared=shared)
        assert (first.status, first.outcome) == ("compared", Outcome.PASS)
        found = related(parent, first, shared)
        assert found is not None
        derived, shared = found
        second = execute(derived.case, shared=shared, derived=derived)
    assert second.outcome is Outcome.FAIL
    assert second.failure is not None
    assert second.failure.oracle == "value"
    assert (second.relation, second.parent) == (relation, parent.id)
    assert second.to_json()["relation"] == relation
    assert execute(derived.case).outcome is Outcome.PASS, "something is still planted"


def test_only_what_passed_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metamorphic, "TURN", 1)
    one = case(network, A, B)
    shared = Shared(grown=Observation())
    passed = Result(one.id, "eager", "compared")
    assert related(one, passed, shared) is not None
    assert related(one, passed, Shared()) is None, "nothing is known of it"
    assert related(one, replace(passed, status="failed"), shared) is None
    doubt = Verdict("value", Outcome.UNKNOWN, "unstable")
    assert related(one, replace(passed, verdicts=(doubt,)), shared) is None


def test_a_reference_that_contradicts_itself_is_no_evidence() -> None:
    parent = case(network, A, B)
    derived = by("transposed twice", parent)
    seen = runs.observe(script.load(parent))
    seen.calls[0]["output"][1] = seen.calls[0]["output"][1] + 1
    verdict = judged(derived, seen)
    assert (verdict.outcome, verdict.symptom, verdict.place) == (Outcome.UNKNOWN, "undefined", "output 1")
    assert "transposed twice" in verdict.message
    result = execute(derived.case, shared=Shared(answers={PARENT: seen}), derived=derived)
    assert result.status == "undefined"

    seen.calls[0]["output"][1] = torch.ones(2)
    assert judged(derived, seen).outcome is Outcome.UNKNOWN


def test_rounding_is_no_contradiction() -> None:
    parent = case(lambda x: torch.exp(x * 30).sum(0), A)
    derived = by("transposed twice", parent)
    seen = runs.observe(script.load(parent))
    seen.calls[0]["output"][0] = seen.calls[0]["output"][0] * (1 + 2e-6)
    assert judged(derived, seen).outcome is Outcome.PASS


def test_what_a_question_about_the_parent_gives_without_one_is_nothing() -> None:
    parent = case(network, A, B)
    result = execute(parent, derived=Derived(parent, "scaled", "0" * 16, (0, 1, 2)))
    assert (result.status, result.outcome) == ("compared", Outcome.PASS)
    assert Question("parent") == PARENT


def test_a_worker_runs_the_changed_case_behind_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metamorphic, "TURN", 1)
    ours, theirs = socket.socketpair()
    worker = _Worker(Channel(ours), Slot(tmp_path / "slot"), tmp_path, GROWER)
    for seed in range(20):
        answers = list(worker._cases(Grow(number=seed, target="eager", seed=seed)))
        if len(answers) == 2:
            break
    (before, first), (text, second) = answers
    assert (first.partial, first.answered) == (True, True)
    assert (second.partial, second.answered) == (False, False)
    assert (first.result.relation, second.result.parent) == ("", first.result.case)
    assert second.result.relation in RELATIONS
    assert codec.decode(text).id == second.result.case != first.result.case
    again = list(worker._cases(Run(target="eager", case=before)))
    assert len(again) == 1, "a stored case runs alone"
    worker.slot.close()
    ours.close()
    theirs.close()
