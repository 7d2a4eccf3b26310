"""Integer expressions over the symbols of a call: evaluated over many records at once, compiled, printed, stored.

Truth is an integer: a relation is 1 where it holds and 0 where it does not, so a precondition is an expression too. An
expression may be undefined (division by zero, an index outside of its items, sizes that do not broadcast, a number
beyond ``LIMIT``): evaluation over records masks it, the compiled function raises ``Undefined``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "LIMIT",
    "Apply",
    "Const",
    "Expr",
    "Mask",
    "Symbol",
    "Undefined",
    "Vector",
    "add",
    "all_of",
    "compiled",
    "evaluate",
    "expr_from_json",
    "expr_to_json",
    "leaves",
    "mentioned",
    "multiply",
    "text",
]

#: Magnitude beyond which a number counts as overflown; products of two smaller ones fit into 64 bits twice over.
LIMIT = 1 << 62
#: Expressions that are read from a file may be this deep and this large.
MAX_DEPTH, MAX_NODES = 60, 4000

Vector: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]


class Undefined(ArithmeticError):
    """An expression has no value for these symbols."""


@dataclass(frozen=True, slots=True)
class Const:
    """A number."""

    value: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """An integer of the call, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation on expressions; ``OPERATIONS`` says which there are."""

    op: str
    args: tuple[Expr, ...]
    #: Every symbol in it.
    names: frozenset[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        found = [mentioned(arg) for arg in self.args]
        names = found[0] if found else _NOTHING
        for more in found[1:]:
            if not more <= names:
                names = names | more
        object.__setattr__(self, "names", names)


Expr: TypeAlias = "Const | Symbol | Apply"

#: Least and greatest number of arguments.
OPERATIONS: Mapping[str, tuple[int, int]] = {
    "+": (2, 64), "*": (2, 64), "-": (2, 2), "//": (2, 2), "%": (2, 2), "min": (2, 64), "max": (2, 64),
    "==": (2, 2), "!=": (2, 2), "<=": (2, 2), "<": (2, 2), "and": (1, 64), "or": (1, 64), "if": (3, 3),
    # ceil(a, b): the quotient rounded up. at(i, items...): an item, counted from the end where i is negative.
    "ceil": (2, 2), "at": (2, 64),
    # broadcast(sizes...): the common size. distinct(axes..., rank): no two of them are the same dimension.
    # axis(i, rank): i is a dimension of a tensor of that rank, which counts as 1 where it is 0.
    # kept(k, rank, sizes..., axes...): the k-th of the sizes of those dimensions that are not among the axes.
    "broadcast": (1, 64), "distinct": (1, 64), "axis": (2, 2), "kept": (2, 64),
}  # fmt: skip

ONE, ZERO = Const(1), Const(0)


def add(*args: Expr) -> Expr:
    """The sum; a single term stays as it is."""
    return args[0] if len(args) == 1 else Apply("+", args) if args else ZERO


def multiply(*args: Expr) -> Expr:
    """The product; a single factor stays as it is."""
    return args[0] if len(args) == 1 else Apply("*", args) if args else ONE


def all_of(*args: Expr) -> Expr:
    """All of them hold."""
    return args[0] if len(args) == 1 else Apply("and", args) if args else ONE


_NOTHING: frozenset[str] = frozenset()


def mentioned(expr: Expr) -> frozenset[str]:
    """Every symbol in it."""
    if isinstance(expr, Apply):
        return expr.names
    return frozenset((expr.name,)) if isinstance(expr, Symbol) else _NOTHING


def leaves(expr: Expr) -> int:
    """How many symbols and constants it is made of."""
    return sum(map(leaves, expr.args)) if isinstance(expr, Apply) else 1


# --- over many records ------------------------------------------------------------------------------------------------


def evaluate(expr: Expr, columns: Mapping[str, Vector], count: int) -> tuple[Vector, Mask]:
    """Values over all records and where they are defined.

    Args:
        expr: the expression.
        columns: for each symbol its value in every record.
        count: how many records there are.
    """
    if isinstance(expr, Const):
        return np.full(count, expr.value, np.int64), np.ones(count, np.bool_)
    if isinstance(expr, Symbol):
        values = columns[expr.name]
        return values, np.abs(values) < LIMIT
    op, args = expr.op, [evaluate(arg, columns, count) for arg in expr.args]
    if op in ("and", "or", "if"):
        return _lazy(op, args)
    defined = np.logical_and.reduce([ok for _, ok in args])
    with np.errstate(all="ignore"):
        values, ok = _apply(op, [value for value, _ in args])
    return values, defined & ok


def _lazy(op: str, args: Sequence[tuple[Vector, Mask]]) -> tuple[Vector, Mask]:
    """What is decided by its first arguments is defined whatever the others are."""
    value, defined = args[0]
    truth = value != 0
    if op == "if":
        (yes, yes_ok), (no, no_ok) = args[1:]
        return np.where(truth, yes, no), defined & np.where(truth, yes_ok, no_ok)
    for other, ok in args[1:]:
        settled = ~truth if op == "and" else truth
        defined = defined & (settled | ok)
        truth = truth & (other != 0) if op == "and" else truth | (other != 0)
    return truth.astype(np.int64), defined


def _apply(op: str, args: Sequence[Vector]) -> tuple[Vector, Any]:
    """Values, and where they are defined if the arguments are."""
    first = args[0]
    match op:
        case "+" | "*":
            total, scale = first, first.astype(np.float64)
            for other in args[1:]:
                total = total + other if op == "+" else total * other
                scale = scale + other if op == "+" else scale * other
            return total, np.abs(scale) < LIMIT
        case "-":
            return first - args[1], np.abs(first.astype(np.float64) - args[1]) < LIMIT
        case "//" | "%" | "ceil":
            zero = args[1] == 0
            safe = np.where(zero, 1, args[1])
            if op == "ceil":
                return -(-first // safe), ~zero
            return (first // safe if op == "//" else first % safe), ~zero
        case "min":
            return np.minimum.reduce(list(args)), True
        case "max":
            return np.maximum.reduce(list(args)), True
        case "==":
            return (first == args[1]).astype(np.int64), True
        case "!=":
            return (first != args[1]).astype(np.int64), True
        case "<=":
            return (first <= args[1]).astype(np.int64), True
        case "<":
            return (first < args[1]).astype(np.int64), True
        case "axis":
            rank = np.maximum(args[1], 1)
            return ((-rank <= first) & (first < rank)).astype(np.int64), True
        case "at":
            length = len(args) - 1
            index = np.where(first < 0, first + length, first)
            inside = (index >= 0) & (index < length)
            return np.choose(np.where(inside, index, 0), list(args[1:])), inside
        case "broadcast":
            return _broadcast(args)
        case "distinct":
            rank = np.maximum(args[-1], 1)
            axes = np.sort(np.stack([axis % rank for axis in args[:-1]]), axis=0)
            return (np.diff(axes, axis=0) != 0).all(axis=0).astype(np.int64), True
        case "kept":
            return _kept(args)
    raise ValueError(f"{op!r} is no operation")


def _broadcast(sizes: Sequence[Vector]) -> tuple[Vector, Mask]:
    common, ok = sizes[0], np.ones(len(sizes[0]), np.bool_)
    for size in sizes[1:]:
        ok &= (common == size) | (common == 1) | (size == 1)
        common = np.where(common == 1, size, common)
    return common, ok


def _kept(args: Sequence[Vector]) -> tuple[Vector, Mask]:
    which = args[0]
    rank = int(args[1][0]) if len(which) else 0
    sizes, axes = np.stack(args[2 : 2 + rank]), args[2 + rank :]
    gone = np.zeros(sizes.shape, np.bool_)
    ok = np.ones(len(which), np.bool_)
    for axis in axes:
        ok &= (axis >= -rank) & (axis < rank)
        np.put_along_axis(gone, (axis % rank)[None], True, axis=0)
    order = np.argsort(gone, axis=0, kind="stable")
    ok &= (which >= 0) & (which < (~gone).sum(axis=0))
    place = np.take_along_axis(order, np.clip(which, 0, rank - 1)[None], axis=0)
    return np.take_along_axis(sizes, place, axis=0)[0], ok


# --- one call at a time -----------------------------------------------------------------------------------------------


def _at(index: int, *items: int) -> int:
    if not -len(items) <= index < len(items):
        raise Undefined
    return items[index]


def _common(*sizes: int) -> int:
    common = sizes[0]
    for size in sizes[1:]:
        if common == 1:
            common = size
        elif size not in (1, common):
            raise Undefined
    return common


def _distinct(*args: int) -> int:
    rank = max(args[-1], 1)
    return int(len({axis % rank for axis in args[:-1]}) == len(args) - 1)


def _axis(index: int, rank: int) -> int:
    rank = max(rank, 1)
    return int(-rank <= index < rank)


def _kept_one(which: int, rank: int, *rest: int) -> int:
    if any(not -rank <= axis < rank for axis in rest[rank:]):
        raise Undefined
    gone = {axis % rank for axis in rest[rank:]}
    left = [size for number, size in enumerate(rest[:rank]) if number not in gone]
    if not 0 <= which < len(left):
        raise Undefined
    return left[which]


def _quotient(a: int, b: int) -> int:
    if not b:
        raise Undefined
    return a // b


def _rest(a: int, b: int) -> int:
    if not b:
        raise Undefined
    return a % b


def _ceil(a: int, b: int) -> int:
    if not b:
        raise Undefined
    return -(-a // b)


_FUNCTIONS: Mapping[str, Any] = {
    "_at": _at, "_broadcast": _common, "_distinct": _distinct, "_axis": _axis, "_kept": _kept_one,
    "_quotient": _quotient, "_rest": _rest, "_ceil": _ceil, "_min": min, "_max": max,
}  # fmt: skip
_CALLED = {
    "//": "_quotient", "%": "_rest", "ceil": "_ceil", "min": "_min", "max": "_max", "at": "_at", "axis": "_axis",
    "broadcast": "_broadcast", "distinct": "_distinct", "kept": "_kept",
}  # fmt: skip


@functools.lru_cache(1 << 14)
def compiled(exprs: tuple[Expr, ...], names: tuple[str, ...]) -> Callable[[Sequence[int]], tuple[int, ...]]:
    """A function from the values of the named symbols, in order, to the values of the expressions.

    The function raises ``Undefined`` where one of them has no value.
    """
    places = {name: f"s[{number}]" for number, name in enumerate(names)}
    inner = "".join(f"{_source(expr, places)}, " for expr in exprs)
    # Made of numbers, places and the signs below only: no text of a file gets here.
    function: Callable[[Sequence[int]], tuple[int, ...]] = eval(f"lambda s: ({inner})", dict(_FUNCTIONS))
    return function


def _source(expr: Expr, places: Mapping[str, str]) -> str:
    if isinstance(expr, Const):
        return f"({int(expr.value)})"
    if isinstance(expr, Symbol):
        return places[expr.name]
    args = [_source(arg, places) for arg in expr.args]
    op = expr.op
    if op == "if":
        return f"({args[1]} if {args[0]} else {args[2]})"
    if op in ("and", "or"):
        return f"(1 if {f' {op} '.join(args)} else 0)"
    if op in _CALLED:
        return f"{_CALLED[op]}({', '.join(args)})"
    if op not in OPERATIONS:
        raise ValueError(f"{op!r} is no operation")
    return f"({f' {op} '.join(args)})"


# --- as text ----------------------------------------------------------------------------------------------------------

_BINDING = {"if": 0, "or": 1, "and": 2, "==": 3, "!=": 3, "<=": 3, "<": 3, "+": 4, "-": 4, "*": 5, "//": 5, "%": 5}


def text(expr: Expr) -> str:
    """The expression as a person writes it: ``(in[0].shape[2] + 2*padding - 1)//stride + 1``."""
    return _text(expr)[0]


def _text(expr: Expr) -> tuple[str, int]:
    if isinstance(expr, Const):
        return str(expr.value), 9 if expr.value >= 0 else 4
    if isinstance(expr, Symbol):
        return expr.name, 9
    op, binding = expr.op, _BINDING.get(expr.op, 9)
    if op == "ceil":
        return f"ceil({text(expr.args[0])} / {text(expr.args[1])})", 9
    if op == "axis":
        rank = expr.args[1]
        bound = str(max(rank.value, 1)) if isinstance(rank, Const) else text(rank)
        return f"-{bound} <= {_within(expr.args[0], 4)} < {bound}", 3
    if op == "distinct":
        return f"distinct({', '.join(map(text, expr.args[:-1]))})", 9
    if op == "at" and (whole := _shape_of(expr.args[1:])):
        return f"{whole}[{text(expr.args[0])}]", 9
    if op == "kept" and isinstance(expr.args[1], Const):
        own = expr.args[1].value
        sizes = _shape_of(expr.args[2 : 2 + own]) or f"({', '.join(map(text, expr.args[2 : 2 + own]))})"
        gone = ", ".join(map(text, expr.args[2 + own :]))
        return f"{sizes}.without({gone})[{text(expr.args[0])}]", 9
    if binding == 9:
        return f"{op}({', '.join(map(text, expr.args))})", 9
    if op == "if":
        test, yes, no = expr.args
        return f"{_within(yes, 1)} if {_within(test, 1)} else {_within(no, 0)}", 0
    sign = op if op in ("*", "//") else f" {op} "
    # What stands to the right of a minus or a division needs its parentheses at the same level.
    first, rest = expr.args[0], expr.args[1:]
    inner = 0 if op in ("+", "*", "and", "or") else 1
    return sign.join([_within(first, binding), *(_within(arg, binding + inner) for arg in rest)]), binding


def _within(expr: Expr, binding: int) -> str:
    inner, own = _text(expr)
    return inner if own >= binding else f"({inner})"


def _shape_of(items: Sequence[Expr]) -> str:
    """The tensor whose sizes these are, ``in[0].shape``; empty if they are not."""
    names = [item.name if isinstance(item, Symbol) else "" for item in items]
    whole = names[0].rpartition("[")[0] if names else ""
    return whole if whole.endswith(".shape") and names == [f"{whole}[{i}]" for i in range(len(names))] else ""


# --- as JSON ----------------------------------------------------------------------------------------------------------


def expr_to_json(expr: Expr) -> Any:
    """A number, the name of a symbol, or a list that opens with the operation."""
    if isinstance(expr, Const):
        return expr.value
    if isinstance(expr, Symbol):
        return expr.name
    return [expr.op, *map(expr_to_json, expr.args)]


def expr_from_json(data: object) -> Expr:
    """Read what ``expr_to_json`` wrote.

    Raises:
        ValueError: it is no expression, or one too large.
    """
    budget = [MAX_NODES]
    return _read(data, 0, budget)


def _read(data: object, depth: int, budget: list[int]) -> Expr:
    budget[0] -= 1
    if depth > MAX_DEPTH or budget[0] < 0:
        raise ValueError(f"an expression is deeper than {MAX_DEPTH} or larger than {MAX_NODES} nodes")
    if type(data) is int:
        if abs(data) >= LIMIT:
            raise ValueError("a number of an expression is too large")
        return Const(data)
    if isinstance(data, str):
        return Symbol(data)
    if isinstance(data, list) and data and isinstance(data[0], str) and data[0] in OPERATIONS:
        least, most = OPERATIONS[data[0]]
        if least <= len(data) - 1 <= most:
            args = tuple([_read(item, depth + 1, budget) for item in data[1:]])
            if data[0] != "kept" or (isinstance(args[1], Const) and 1 <= args[1].value <= len(args) - 2):
                return Apply(data[0], args)
    raise ValueError(f"no expression: {repr(data)[:80]}")
