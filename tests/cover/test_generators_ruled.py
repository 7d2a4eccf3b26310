"""Programs that grow by learnt rules: what is drawn from them, and what they may not be used for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shakeout.corpus import learnt, script, standalone
from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.commands import doctor
from shakeout.generators.choices import SeededChoices
from shakeout.generators.growth import Growth
from shakeout.generators.growth_config import GrowthConfig
from shakeout.generators.network import grow
from shakeout.generators.proposals import place_by_rule
from shakeout.generators.recipe import Grown, Recipe
from shakeout.generators.rules.examine import Budget, examine
from shakeout.generators.rules.execution import executed
from shakeout.generators.rules.library import Library, drawn_from, pack, spread_to_json
from shakeout.generators.rules.measure import learn_measured
from shakeout.generators.rules.trace import symbols
from shakeout.generators.values import InputSampler
from shakeout.generators.vocabularies.records import Record, Slot
from shakeout.generators.vocabularies.ruled import ruled
from shakeout.generators.vocabularies.torch import Vocabulary, load_records

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch has something to say about many programs

OPERATORS = ("torch.mm", "torch.Tensor.narrow", "torch.gather", "torch.Tensor.mul_", "torch.nn.functional.glu")


@pytest.fixture(scope="module")
def plain() -> Vocabulary:
    """Without rules, whatever was learnt on this machine."""
    return Vocabulary(load_records()._rows)


@pytest.fixture(scope="module")
def content(plain: Vocabulary) -> dict:
    """What is learnt of a few operators from their recorded calls."""
    rows = []
    with torch.no_grad():
        for operator in OPERATORS:
            found = examine(operator, (), plain.records(operator), executed, Budget(variant=70, variants=4))
            for one in learn_measured(found.traces, found.spreads, executed):
                spreads = [spread_to_json(spread) for spread in found.spreads.get(one.variant, ())]
                rule = None if one.rule is None else one.rule.to_json()
                rows.append(
                    {"variant": one.variant.to_json(), "rule": rule, "notes": list(one.notes), "spreads": spreads}
                )
    kept: dict = json.loads(json.dumps(pack(rows)))
    return kept


@pytest.fixture(scope="module")
def vocabulary(plain: Vocabulary, content: dict) -> Vocabulary:
    return Vocabulary(plain._rows, Library(content))


def empty(
    seed: int, avoid: frozenset[str] = frozenset(), foreign: frozenset[str] = frozenset(), **config: object
) -> Growth:
    choices = SeededChoices(seed)
    return Growth(choices, InputSampler(choices, "integers", 0.0), GrowthConfig(**config), avoid, foreign)  # type: ignore[arg-type]


def grown(vocabulary: Vocabulary, seed: int, **recipe: object) -> Grown:
    return grow(SeededChoices(seed), Recipe(only=frozenset(OPERATORS), **recipe), vocabulary)  # type: ignore[arg-type]


def test_each_operator_has_rules(vocabulary: Vocabulary, plain: Vocabulary) -> None:
    assert vocabulary.ruled
    assert all(vocabulary.rules(operator) for operator in OPERATORS)
    assert vocabulary.rules("torch.bmm") == ()
    assert not plain.ruled
    assert plain.rules("torch.mm") == ()
    assert {rule.mutates for rule in vocabulary.rules("torch.Tensor.mul_")} == {(0,)}


def test_most_calls_that_are_drawn_are_taken(vocabulary: Vocabulary) -> None:
    sizes: dict[str, set[tuple[int, ...]]] = {}
    placed = tried = 0
    with torch.no_grad():
        for operator in OPERATORS:
            for rule in vocabulary.rules(operator):
                for seed in range(16):
                    growth = empty(seed, zero=0.2)
                    tried += 1
                    placed += place_by_rule(growth, rule, None)
                    sizes.setdefault(operator, set()).update(growth.shapes)
                    # What is dropped leaves nothing behind.
                    assert bool(growth.steps) == bool(growth.tensors)
    assert placed > 0.9 * tried
    assert all(len(found) > 12 for found in sizes.values())
    assert any(0 in shape for found in sizes.values() for shape in found)


def test_a_value_at_hand_becomes_the_operand_that_was_asked_for(vocabulary: Vocabulary) -> None:
    [rule, *_] = vocabulary.rules("torch.mm")
    with torch.no_grad():
        for seed in range(8):
            growth = empty(seed)
            assert place_by_rule(growth, rule, "float64")
            before = growth.steps[0].first
            assert place_by_rule(growth, rule, None, (before, 1))
            call = growth.steps[1]
            assert call.operands[1] == before
            assert growth.shapes[call.operands[0]][1] == growth.shapes[before][0]
            assert {growth.dtypes[number] for number in call.operands} == {"float64"}
        growth = empty(0)
        made = growth.operand("float32", (3,), Slot("T", (0,)).spread, writes=False, plain=False)
        assert not place_by_rule(growth, rule, None, (made, 0))  # no matrix
        assert growth.rejected == {"its rule has no solution": 1}
        assert len(growth.tensors) == 1


def test_what_is_avoided_or_has_no_gradient_is_not_drawn(vocabulary: Vocabulary) -> None:
    [rule, *_] = vocabulary.rules("torch.mm")
    growth = empty(0, training=True)
    assert not place_by_rule(growth, replace(rule, grad=False), None)
    growth = empty(0, avoid=frozenset({"torch.mm"}))
    assert not place_by_rule(growth, rule, None)
    growth = empty(0, foreign=frozenset(rule.rule.dtypes.allowed(0)))
    assert not place_by_rule(growth, rule, None)
    assert growth.rejected == {"foreign dtype": 1}


def test_a_leaf_is_not_written_to(vocabulary: Vocabulary) -> None:
    rule = vocabulary.rules("torch.Tensor.mul_")[0]
    growth = empty(0, writes=False)
    shape = (3,) * rule.rule.variant.ranks[0]
    made = growth.operand("float32", shape, rule.spreads[0], writes=False, plain=False)
    assert not place_by_rule(growth, rule, None, (made, 0))
    assert not place_by_rule(growth, rule, None)
    assert growth.rejected == {"writes to a leaf": 1, "writes to an input": 1}


@pytest.mark.parametrize("style", ["small", "network"])
def test_programs_are_valid_and_the_same_each_time(vocabulary: Vocabulary, content: dict, style: str) -> None:
    again = Vocabulary(vocabulary._rows, Library(content))  # with nothing prepared yet
    by_rule = calls = 0
    for seed in range(30):
        made = grown(vocabulary, seed, style=style, operators=6)
        assert made == grown(again, seed, style=style, operators=6)
        case = Case(made.program, made.input_sets, Setting("eager", (), made.mode))
        namespace = script.load(case)
        outputs = standalone.run(namespace["bind"], namespace["arguments"], namespace["CALLS"], lambda network: network)
        types = made.program.types()
        for value, output in zip(made.program.returns, outputs[0]["output"], strict=True):
            assert types[value] is not None
            assert tuple(output.shape) == types[value].shape  # type: ignore[union-attr]
        for call in made.program.calls:
            if call.operator == "torch.Tensor.narrow":
                calls += 1
                size = types[call.operands()[0]].shape  # type: ignore[union-attr]
                by_rule += not any(size == record.shape(0) for record in vocabulary.records(call.operator))
    assert by_rule > calls / 3  # recorded calls have other sizes as well, but less often


def test_recorded_calls_remain(vocabulary: Vocabulary) -> None:
    # Of an operator without rules, and some of those with.
    only = frozenset({*OPERATORS, "torch.add", "torch.sum", "torch.relu", "torch.cat"})
    recipe = Recipe(style="network", operators=10, only=only)
    met = {name for seed in range(12) for name in grow(SeededChoices(seed), recipe, vocabulary).program.operators()}
    assert only <= met


def test_without_rules_programs_are_what_they_were(plain: Vocabulary) -> None:
    nothing = Vocabulary(plain._rows, Library({}))
    for seed in range(20):
        assert grown(plain, seed) == grown(nothing, seed)


def test_rules_of_another_structure_or_of_what_draws_numbers(content: dict, plain: Vocabulary) -> None:
    entries = Library(content).entries("torch.Tensor.mul_")
    records = plain.records("torch.Tensor.mul_")
    assert ruled(entries, records)
    other: Sequence[Record] = [replace(record, args=(*record.args, True)) for record in records]
    assert ruled(entries, other) == ()  # it writes, and nobody knows to what
    assert len(ruled(entries, [replace(record, mutates=()) for record in other])) == len(ruled(entries, records))
    assert ruled(entries, [replace(record, draws=True) for record in records]) == ()
    assert ruled(entries, ()) == ()
    imprecise = [replace(entry, rule=replace(entry.rule, precision=0.5)) for entry in entries]
    assert ruled(imprecise, records) == ()


def test_indices_stay_within_the_sizes_that_were_drawn(vocabulary: Vocabulary) -> None:
    refused = 0
    for rule in vocabulary.rules("torch.gather"):
        for seed in range(10):
            growth = empty(seed)
            with torch.no_grad():
                place_by_rule(growth, rule, None)
            refused += any("index" in trace.error for trace in growth.refused)
            for trace in growth.refused:
                assert symbols(trace)
    assert refused <= 2


def test_what_is_shipped_are_the_rules_that_calls_are_drawn_from(content: dict, vocabulary: Vocabulary) -> None:
    library = Library(content)
    entries = [entry for operator in library.operators for entry in library.entries(operator)]
    assert {drawn_from(entry.rule.to_json()) for entry in entries if entry.usable} == {True}
    assert not any(drawn_from(replace(entry.rule, precision=0.5).to_json()) for entry in entries)
    assert not drawn_from(None)
    assert not drawn_from({"variant": 1})


@pytest.mark.parametrize(
    "broken",
    [
        {"operators": []},
        {"operators": {"torch.mm": 3}},
        {"parts": 5, "operators": {}},
        {"operators": {"torch.mm": [[0, 1, 1, 0]]}, "bodies": [[0] * 12], "parts": [{"": 0}], "common": [{"": 0}]},
    ],
)
def test_a_broken_library_is_none(plain: Vocabulary, broken: dict) -> None:
    vocabulary = Vocabulary(plain._rows, Library(broken))
    assert vocabulary.rules("torch.mm") == ()
    assert grown(vocabulary, 0).program.calls


def test_the_doctor_says_whether_there_are_rules(
    content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path))
    monkeypatch.setattr(learnt, "SHIPPED", tmp_path)
    assert doctor._rules().state == "note"
    assert "shakeout learn torch" in doctor._rules().text
    learnt.write(learnt.torch_path(torch.__version__), {"torch": torch.__version__, **content})
    told = doctor._rules()
    assert told.state == "ok"
    assert told.text == f"{told.text.split()[0]} of {len(OPERATORS)} operators, learnt from torch {torch.__version__}"
    learnt.write(learnt.torch_path(torch.__version__), {"operators": ["none"]})
    assert doctor._rules().state == "note"
