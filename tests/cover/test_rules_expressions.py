"""Expressions: what is evaluated over records, compiled and interpreted agrees, prints readably and survives JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shakeout.generators.rules.expressions import (
    LIMIT,
    Apply,
    Const,
    Expr,
    Symbol,
    Undefined,
    compiled,
    evaluate,
    expr_from_json,
    expr_to_json,
    text,
)

NAMES = ("a", "b", "c")
A, B, C = map(Symbol, NAMES)


_LEAF: st.SearchStrategy[Expr] = st.one_of(st.integers(-3, 4).map(Const), st.sampled_from(NAMES).map(Symbol))
_ARITIES = [(op, 2) for op in ("-", "//", "%", "==", "!=", "<=", "<", "ceil", "axis")] + [("if", 3)]
_ARITIES += [(op, n) for op in ("+", "*", "min", "max", "broadcast", "at", "and", "or", "distinct") for n in (2, 3)]


def _applied(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    plain = st.tuples(st.sampled_from(_ARITIES), inner, inner, inner).map(
        lambda drawn: Apply(drawn[0][0], drawn[1 : 1 + drawn[0][1]])
    )
    kept = st.tuples(inner, inner, inner, inner).map(lambda drawn: Apply("kept", (drawn[0], Const(2), *drawn[1:])))
    return st.one_of(plain, kept)


EXPRESSIONS = st.recursive(_LEAF, _applied, max_leaves=8)


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, st.lists(st.tuples(*[st.integers(-4, 6)] * 3), min_size=1, max_size=6))
def test_over_records_and_one_at_a_time_agree(expr: Expr, rows: list[tuple[int, int, int]]) -> None:
    columns = {name: np.array([row[i] for row in rows], np.int64) for i, name in enumerate(NAMES)}
    values, defined = evaluate(expr, columns, len(rows))
    function = compiled((expr,), NAMES)
    for row, value, ok in zip(rows, values, defined, strict=True):
        try:
            assert ok
            assert function(row) == (value,)
        except Undefined:
            assert not ok
        except AssertionError:
            if ok:
                raise
            with pytest.raises(Undefined):
                function(row)
    assert expr_from_json(json.loads(json.dumps(expr_to_json(expr)))) == expr
    assert text(expr)


@pytest.mark.parametrize(
    ("expr", "printed"),
    [
        (Apply("-", (A, Apply("-", (B, C)))), "a - (b - c)"),
        (Apply("-", (Apply("-", (A, B)), C)), "a - b - c"),
        (Apply("+", (Apply("//", (Apply("+", (A, Const(1))), B)), Const(1))), "(a + 1)//b + 1"),
        (Apply("*", (Const(2), A)), "2*a"),
        (Apply("ceil", (A, B)), "ceil(a / b)"),
        (Apply("at", (A, Symbol("in[0].shape[0]"), Symbol("in[0].shape[1]"))), "in[0].shape[a]"),
        (Apply("if", (Apply("==", (A, Const(-1))), B, C)), "b if a == -1 else c"),
        (Apply("axis", (A, Const(3))), "-3 <= a < 3"),
    ],
)
def test_expressions_print_as_people_write_them(expr: Expr, printed: str) -> None:
    assert text(expr) == printed


def test_what_is_too_large_or_divided_by_zero_is_masked() -> None:
    columns = {"a": np.array([1 << 40, 2, 5], np.int64), "b": np.array([1 << 40, 3, 0], np.int64)}
    assert evaluate(Apply("*", (A, B)), columns, 3)[1].tolist() == [False, True, True]
    assert evaluate(Apply("%", (A, B)), columns, 3)[1].tolist() == [True, True, False]
    assert evaluate(Symbol("a"), {"a": np.array([LIMIT, 0], np.int64)}, 2)[1].tolist() == [False, True]
    lazy = Apply("and", (Apply("!=", (B, Const(0))), Apply("%", (A, B))))
    assert evaluate(lazy, columns, 3)[1].tolist() == [True, True, True]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        ["eval", "a"],
        ["+", 1],
        ["if", 1, 2],
        1.5,
        True,
        1 << 70,
        ["kept", 0, 7, "a"],
        ["kept", 0, "a", "b"],
        {"+": [1, 2]},
        ["+", *range(100)],
    ],
)
def test_what_is_no_expression_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match="expression"):
        expr_from_json(data)


def test_a_bottomless_expression_is_refused() -> None:
    data: object = 1
    for _ in range(2000):
        data = ["+", data, 1]
    with pytest.raises(ValueError, match="deeper"):
        expr_from_json(data)
