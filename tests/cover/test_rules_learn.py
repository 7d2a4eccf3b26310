"""Rules learnt from few traces: a toy operator with an odd constraint, and traces that are not worth learning from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from shakeout.corpus.program import Ref, TensorType
from shakeout.generators.choices import SeededChoices
from shakeout.generators.rules.learn import FEWEST, by_variant, learn
from shakeout.generators.rules.measure import learn_measured
from shakeout.generators.rules.propose import propose
from shakeout.generators.rules.rule import Rule
from shakeout.generators.rules.trace import Trace
from shakeout.generators.vocabularies.records import Spread


def trace(args: tuple[object, ...], shapes: tuple[tuple[int, ...], ...], result: tuple[int, ...] | None) -> Trace:
    operands = tuple(TensorType("float32", shape) for shape in shapes)
    results = () if result is None else (TensorType("float32", result),)
    return Trace("toy:odd", args, (), operands, results, error="odd" if result is None else "", source="user")  # type: ignore[arg-type]


def nothing(call: Trace, spreads: Sequence[Spread]) -> None:
    """Of no call can anything be said."""


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
    learnt = {result.variant.operator: result for result in learn_measured(rows, {}, nothing)}
    assert set(learnt) == {"toy:deep", "toy:wide", "toy:named", "toy:odd"}
    assert learnt["toy:odd"].rule is not None
    assert len(by_variant(rows)) == 4


def test_two_names_that_collide_do_not_stop_the_learner() -> None:
    rows = [
        Trace("toy:twice", (Ref(0), n), (("arg1", 2),), (TensorType("float32", (n,)),), (TensorType("float32", (n,)),))
        for n in range(1, 9)
    ]
    [result] = learn_measured(rows, {}, nothing)
    assert result.rule is None or result.rule.names == ("in[0].shape[0]", "arg1")


def square(batch: int, rows: int, columns: int) -> Trace:
    """Takes square matrices, and looks only where there is one."""
    return trace((Ref(0),), ((batch, rows, columns),), (batch,) if rows == columns or not batch else None)


def test_what_holds_of_all_but_empty_calls_is_learnt_without_them() -> None:
    sizes = [(2, 3), (3, 2), (4, 4), (5, 5), (1, 1), (2, 2), (6, 3), (3, 3), (1, 7), (5, 4)]
    calls = [square(batch, rows, columns) for batch in (0, 1, 3) for rows, columns in sizes]
    rule = rule_of(calls)
    assert rule.precise
    assert rule.unexplained == 0
    assert rule.valid == 20
    assert any("empty dimension" in note for note in rule.notes)
    assert rule.accepts(square(4, 8, 8))
    assert not rule.accepts(square(4, 8, 9))
    assert not rule.accepts(square(0, 8, 9)), "none of an empty batch was learnt from"


def test_a_complex_attribute_has_the_values_that_were_seen() -> None:
    calls = [trace((Ref(0), value), ((n, 2),), (n, 2)) for n, value in enumerate((1j, 2 + 1j, -1j, 0.5 + 0j, 1j), 1)]
    rule = rule_of(calls)
    assert dict(rule.pools)["arg1"] == (1j, 2 + 1j, -1j, 0.5 + 0j)
    drawn = [propose(rule, SeededChoices(seed), ()) for seed in range(20)]
    assert {call[0][1] for call in drawn if call is not None} == {1j, 2 + 1j, -1j, 0.5 + 0j}
    assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


def patches(height: int, width: int, kernel: int, dilation: int, padding: int) -> Trace:
    """Lays a window wherever it fits, and tells only how many places that are."""
    across = [size + 2 * padding - dilation * (kernel - 1) for size in (height, width)]
    result = (across[0] * across[1],) if min(across) > 0 else None
    return trace((Ref(0), kernel, dilation, padding), ((height, width),), result)


def test_a_window_must_fit_into_every_dimension() -> None:
    numbers = [(3, 1, 0), (2, 2, 1), (5, 1, 2), (4, 3, 1), (3, 4, 0), (1, 2, 0), (5, 2, 3)]
    sizes = [(3, 9), (9, 3), (5, 5), (2, 8), (8, 2), (12, 10), (1, 4), (6, 1)]
    rule = rule_of([patches(*size, *number) for size in sizes for number in numbers])
    assert rule.unexplained == 0
    fresh = [
        patches(h, w, k, d, p) for h in (2, 7, 20) for w in (3, 8, 20) for k in (2, 4) for d in (1, 3) for p in (0, 2)
    ]
    wrong = [call for call in fresh if rule.accepts(call) and not call.accepted]
    assert not wrong, "\n".join(rule.describe())


def test_of_a_result_with_two_sizes_neither_is_empty() -> None:
    def pooled(height: int, width: int, kernel: int) -> Trace:
        result = (height // kernel, width // kernel)
        return trace((Ref(0), kernel), ((height, width),), result if min(result) else None)

    # Of those that are rejected all are too low, and one is too narrow as well.
    taken = [(9, 6, 2), (8, 8, 4), (7, 9, 3), (6, 5, 1), (4, 2, 1), (5, 5, 2), (12, 7, 4)]
    rule = rule_of([pooled(*sizes) for sizes in (*taken, (2, 9, 3), (1, 8, 2), (3, 9, 4), (2, 3, 5))])
    assert not rule.accepts(pooled(20, 3, 5))
    assert not rule.accepts(pooled(3, 20, 5))
    assert rule.accepts(pooled(9, 12, 3))
