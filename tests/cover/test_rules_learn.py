"""Rules learnt from few traces: a toy operator with an odd constraint, and traces that are not worth learning from."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from shakeout.corpus.program import Ref, TensorType
from shakeout.generators.rules.learn import FEWEST, by_variant, learn, learn_all
from shakeout.generators.rules.rule import Rule
from shakeout.generators.rules.trace import Trace


def trace(args: tuple[object, ...], shapes: tuple[tuple[int, ...], ...], result: tuple[int, ...] | None) -> Trace:
    operands = tuple(TensorType("float32", shape) for shape in shapes)
    results = () if result is None else (TensorType("float32", result),)
    return Trace("toy:odd", args, (), operands, results, error="odd" if result is None else "", source="user")  # type: ignore[arg-type]


def toy(rows: int, columns: int, factor: int) -> Trace:
    """Repeats columns ``factor`` times, if that divides the rows."""
    accepted = factor > 0 and rows % factor == 0
    return trace((Ref(0), factor), ((rows, columns),), (rows // factor, columns * factor + 1) if accepted else None)


TWELVE = [
    *(toy(4, 3, 2), toy(6, 5, 3), toy(6, 2, 2), toy(8, 4, 4), toy(9, 1, 3), toy(5, 7, 1), toy(0, 2, 3), toy(10, 6, 5)),
    *(toy(4, 3, 3), toy(7, 5, 2), toy(6, 2, 0), toy(9, 4, -3)),
]


def rule_of(traces: list[Trace]) -> Rule:
    learnt = learn(traces)
    assert learnt.rule is not None, learnt.notes
    return learnt.rule


def test_a_toy_operator_is_learnt_from_twelve_examples() -> None:
    rule = rule_of(TWELVE)
    assert rule.precise
    fresh = [toy(rows, columns, factor) for rows in range(1, 13) for columns in (1, 3, 8) for factor in range(-1, 7)]
    wrong = [call for call in fresh if rule.accepts(call) != call.accepted]
    assert len(wrong) <= len(fresh) // 50, "\n".join(rule.describe())
    assert all(rule.predict(call) == call.results for call in fresh if call.accepted and rule.accepts(call))
    told = "\n".join(rule.describe())
    assert "in[0].shape[0] % arg1 == 0" in told
    assert "out[0] = in[0].shape[0]//arg1" in told
    assert "out[1] = in[0].shape[1]*arg1 + 1" in told
    assert "empty dimensions seen: in[0].shape[0]" in told


def test_a_rule_survives_json() -> None:
    rule = rule_of(TWELVE)
    assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


def test_the_same_traces_give_the_same_rule() -> None:
    assert rule_of(TWELVE) == rule_of(list(TWELVE))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: row.pop("cases"),
        lambda row: row.update(domains=[]),
        lambda row: row.update(preconditions=[[["<=", 0, "in[7].shape[0]"], ""]]),
        lambda row: row.update(preconditions=[["__import__('os')", ""]]),
        lambda row: row.update(variant=["toy:odd", [], {}, [2]]),
        lambda row: row.update(variant=None),
        lambda row: row.update(counts=[1]),
        lambda row: row.update(cases=[[None, "matrix", []]]),
        lambda row: row.update(dtypes=[[[]], [[]], []]),
        lambda row: row.update(precision="good"),
    ],
)
def test_a_rule_that_is_none_is_told(spoil: Callable[[dict[str, object]], object]) -> None:
    row = rule_of(TWELVE).to_json()
    spoil(row)
    with pytest.raises(ValueError, match=r"."):
        Rule.from_json(row)


def test_an_empty_dimension_is_taken_only_where_one_was_seen() -> None:
    rule = rule_of(TWELVE)
    assert rule.accepts(toy(0, 2, 3))
    assert not rule.accepts(toy(4, 0, 2))


def test_rejections_that_values_explain_are_set_aside() -> None:
    both = [trace((Ref(0), 2), ((4, 3),), None), *TWELVE]
    rule = rule_of(both)
    assert rule.precise
    assert any("rejected with others" in note for note in rule.notes)


def test_results_that_depend_on_values_are_not_predicted() -> None:
    rule = rule_of([*TWELVE, trace((Ref(0), 2), ((4, 3),), (3, 3))])
    assert not rule.predicts
    assert rule.unexplained == 0
    assert any("depend on values" in note for note in rule.notes)
    assert rule.predict(toy(4, 3, 2)) is None


def test_rejections_that_nothing_explains_are_counted() -> None:
    scattered = [trace((Ref(0), n), ((n * 37 % 11 + 1, 3),), (1,) if n * 7919 % 5 < 3 else None) for n in range(1, 40)]
    rule = rule_of(scattered)
    assert rule.unexplained > 0
    assert not rule.precise
    assert "does not explain" in "\n".join(rule.describe())


def test_huge_numbers_are_set_aside_and_told() -> None:
    huge = [trace((Ref(0), 1 << 70), ((4, 3),), (4, 3)), trace((Ref(0), -(1 << 40)), ((4, 3),), None)]
    rule = rule_of([*TWELVE, *huge])
    assert rule.precise
    assert any("2**31" in note for note in rule.notes)
    assert learn(huge * 3).rule is None


def test_too_few_and_no_traces_are_told() -> None:
    few = learn(TWELVE[: FEWEST - 1])
    assert few.rule is None
    assert "accepted calls" in few.notes[-1]
    with pytest.raises(ValueError, match="at least one"):
        learn([])
    with pytest.raises(ValueError, match="another variant"):
        learn([TWELVE[0], trace((Ref(0), 2.0), ((4, 3),), (4, 3))])


def test_one_hostile_variant_stops_nobody() -> None:
    bottomless: object = 1
    for _ in range(40):
        bottomless = (bottomless,)
    hostile = [
        Trace("toy:deep", (Ref(0), bottomless), (), (TensorType("no dtype", (n,)),), (TensorType("?", (n,)),))  # type: ignore[arg-type]
        for n in range(1, 9)
    ]
    types = [TensorType("float32", (n,)) for n in range(1, 9)]
    wide = [Trace("toy:wide", (Ref(0),), (), (type_,), (type_,) * 500, "sequence") for type_ in types]
    named = [Trace("toy:named", (Ref(0),), (("a b]'[0].shape", 3),), (type_,), (type_,)) for type_ in types]
    rows = [*hostile, *wide, *named, *TWELVE]
    learnt = {result.variant.operator: result for result in learn_all(rows)}
    assert set(learnt) == {"toy:deep", "toy:wide", "toy:named", "toy:odd"}
    assert learnt["toy:odd"].rule == rule_of(TWELVE)
    assert len(by_variant(rows)) == 4


def test_two_names_that_collide_do_not_stop_the_learner() -> None:
    rows = [
        Trace("toy:twice", (Ref(0), n), (("arg1", 2),), (TensorType("float32", (n,)),), (TensorType("float32", (n,)),))
        for n in range(1, 9)
    ]
    [result] = learn_all(rows)
    assert result.rule is None or result.rule.names == ("in[0].shape[0]", "arg1")
