"""Synthesis of one integer expression from records: bottom-up, smallest first, equal vectors kept once.

Enumeration over all records at once with observational equivalence follows NeuRI (Liu et al., ESEC/FSE 2023) and the
bottom-up synthesis it builds on (Albarghouthi et al., CAV 2013); here a vector is known by a linear hash, so that sums
of two known expressions are found by looking up differences of hashes, without writing them down.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from shakeout.generators.rules.expressions import (
    Apply,
    Const,
    Expr,
    Vector,
    add,
    leaves,
    multiply,
)

__all__ = ["Bank", "Effort", "Leaf", "synthesise", "windowed"]

Leaf: TypeAlias = "tuple[Expr, Vector]"

#: Records that an enumeration looks at; what it finds is checked on all of them.
ROWS = 48
#: Symbols that an expression of two or more operations may be made of.
MOST_LEAVES = 9
#: Expressions of one size that are built upon.
WIDTH = 1200
#: Magnitude beyond which an intermediate value is of no use.
BOUND = 1 << 31


class Effort:
    """How much work is left; counted in evaluated numbers rather than in time, so that the same records give the same
    rule on every machine."""

    def __init__(self, numbers: int) -> None:
        self.left = numbers

    def spend(self, numbers: int) -> bool:
        """Whether there was that much left."""
        self.left -= numbers
        return self.left >= 0


class Bank:
    """Expressions over some leaves by the vector of their values, one of each vector."""

    def __init__(self, given: Sequence[Leaf], constants: Sequence[int] = (1, 2)) -> None:
        count = len(given[0][1]) if given else 0
        self._weights = np.random.default_rng(7919).integers(1, 1 << 62, count, np.uint64) * np.uint64(2) + np.uint64(1)
        self._leaves: list[Expr] = []
        self._made: list[tuple[npt.NDArray[np.int64], ...]] = []  # by level: operation, left, right
        self.levels: list[npt.NDArray[np.int64]] = []
        self._starts: list[int] = []
        self.hashes = np.empty(0, np.uint64)
        vectors = [vector for _, vector in given] + [np.full(count, number, np.int64) for number in constants]
        exprs = [expr for expr, _ in given] + [Const(number) for number in constants]
        matrix = np.array(vectors, np.int64).reshape(len(vectors), count)
        first = np.sort(np.unique(self.hash(matrix), return_index=True)[1])
        self._leaves = [exprs[place] for place in first]
        self._constant = np.array([isinstance(expr, Const) for expr in self._leaves])
        self._append(matrix[first], ())

    def hash(self, matrix: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """A number for each row, linear in the row."""
        result: npt.NDArray[np.uint64] = (matrix.astype(np.uint64) * self._weights).sum(axis=-1, dtype=np.uint64)
        return result

    def _append(self, matrix: npt.NDArray[np.int64], made: tuple[npt.NDArray[np.int64], ...]) -> None:
        self._starts.append(sum(map(len, self.levels)))
        self.levels.append(matrix)
        self._made.append(made)
        self.hashes = np.concatenate([self.hashes, self.hash(matrix)])

    def grow(self, effort: Effort) -> bool:
        """Add the next level: the last one combined with the leaves. False where the effort does not suffice."""
        base, last = self.levels[0], self.levels[-1][:WIDTH]
        start, work = self._starts[-1], len(base) * len(last) * base.shape[1]
        if not effort.spend(9 * work):
            return False
        found: list[npt.NDArray[np.int64]] = []
        made: list[tuple[npt.NDArray[np.int64], ...]] = []
        left, right = np.meshgrid(np.arange(len(last)) + start, np.arange(len(base)), indexing="ij")
        for code, values, swapped in _combined(last, base):
            flat = values.reshape(-1, base.shape[1])
            usable = (np.abs(flat) < BOUND).all(axis=1) & (flat != flat[:, :1]).any(axis=1)
            rows = np.flatnonzero(usable)
            pair = (right, left) if swapped else (left, right)
            found.append(flat[rows])
            made.append((np.full(len(rows), code), pair[0].ravel()[rows], pair[1].ravel()[rows]))
        matrix = np.concatenate(found)
        keys = self.hash(matrix)
        fresh = np.sort(np.unique(keys, return_index=True)[1])
        fresh = fresh[~np.isin(keys[fresh], self.hashes)]
        columns = [np.concatenate(parts)[fresh] for parts in zip(*made, strict=True)]
        self._append(matrix[fresh], tuple(columns))
        return True

    def expr(self, place: int) -> Expr:
        """The expression at a place, counted over all levels."""
        if place < len(self._leaves):
            return self._leaves[place]
        level = max(number for number, start in enumerate(self._starts) if start <= place)
        code, left, right = (int(column[place - self._starts[level]]) for column in self._made[level])
        return Apply(_OPS[code], (self.expr(left), self.expr(right)))

    def find(self, target: Vector) -> Iterator[Expr]:
        """Expressions with these values that are in the bank or sums and differences of what is; small ones first."""
        wanted = self.hash(target)
        for place in np.flatnonzero(self.hashes == wanted)[:1]:
            yield self.expr(int(place))
        order = np.argsort(self.hashes, kind="stable")
        ordered = self.hashes[order]
        # a + b = t, a - b = t
        for op, others in (("+", wanted - self.hashes), ("-", self.hashes - wanted)):
            places = np.clip(np.searchsorted(ordered, others), 0, len(ordered) - 1)
            hits = np.flatnonzero(ordered[places] == others)
            pairs = sorted((int(hit) + int(order[places[hit]]), int(hit), int(order[places[hit]])) for hit in hits)
            for _, one, other in pairs[:4]:
                first, second = self.expr(one), self.expr(other)
                # A sum is written with its number behind.
                yield Apply(op, (second, first) if op == "+" and isinstance(first, Const) else (first, second))

    def divided(self, target: Vector, effort: Effort) -> Iterator[Expr]:
        """Quotients, bounds and products of a known expression and a leaf with these values, give or take one."""
        base = self.levels[0]
        for level, matrix in enumerate(self.levels):
            for number, leaf in enumerate(base):
                if not effort.spend(4 * matrix.size):
                    return
                safe = np.where(leaf == 0, 1, leaf)
                # Where the quotient is the target, what is divided lies between two multiples of the divisor.
                for op, values in (("//", matrix // safe), ("ceil", -(-matrix // safe))):
                    if (leaf == 0).any():
                        continue
                    gap = target - values
                    steady = np.flatnonzero((gap == gap[:, :1]).all(axis=1) & (np.abs(gap[:, 0]) <= 1))
                    for row in steady[:2]:
                        quotient = Apply(op, (self.expr(self._starts[level] + int(row)), self._leaves[number]))
                        yield _moved(quotient, int(gap[row, 0]))
                for op, values in (
                    ("*", matrix * leaf), ("max", np.maximum(matrix, leaf)), ("min", np.minimum(matrix, leaf))
                ):  # fmt: skip
                    for row in np.flatnonzero((values == target).all(axis=1))[:1]:
                        yield Apply(op, (self.expr(self._starts[level] + int(row)), self._leaves[number]))


_OPS = ("+", "*", "min", "max", "-", "//", "%", "ceil")


def _combined(
    last: npt.NDArray[np.int64], base: npt.NDArray[np.int64]
) -> Iterator[tuple[int, npt.NDArray[np.int64], bool]]:
    """Each operation on each pair: its number, values, and whether the operands are swapped."""
    a, b = last[:, None, :], base[None, :, :]
    yield 0, a + b, False
    yield 1, a * b, False
    yield 2, np.minimum(a, b), False
    yield 3, np.maximum(a, b), False
    yield 4, a - b, False
    yield 4, b - a, True
    for x, y, swapped in ((a, b, False), (b, a, True)):
        zero = y == 0
        safe = np.where(zero, 1, y)
        # What cannot be divided is made unusable.
        yield 5, np.where(zero, BOUND, x // safe), swapped
        yield 6, np.where(zero, BOUND, x % safe), swapped
        yield 7, np.where(zero, BOUND, -(-x // safe)), swapped


def _moved(expr: Expr, by: int) -> Expr:
    if not by:
        return expr
    return Apply("+" if by > 0 else "-", (expr, Const(abs(by))))


def synthesise(target: Vector, given: Sequence[Leaf], effort: Effort, depth: int = 3) -> Expr | None:
    """The smallest expression over the leaves that has the target's values, or None.

    Args:
        target: its value in every record.
        given: expressions that it may be made of with their values, the likeliest first.
        effort: what may be spent.
        depth: levels that are written down.
    """
    for expr, vector in given:
        if (vector == target).all():
            return expr
    if len(target) and (target == target[0]).all():
        return Const(int(target[0]))
    if len(target) < 3:
        return None
    rows = _spread(target)
    some = [(expr, vector[rows]) for expr, vector in given[:MOST_LEAVES]]
    whole = dict(given)
    bank = Bank(some)
    if (found := _first(bank.find(target[rows]), target, whole)) is not None:
        return found
    for _ in range(depth - 1):
        if not bank.grow(effort):
            return None
        if (found := _first(bank.find(target[rows]), target, whole)) is not None:
            return found
        if (found := _first(bank.divided(target[rows], effort), target, whole)) is not None:
            return found
    return None


def _spread(target: Vector) -> Vector:
    """Rows to look at: different targets, evenly spread."""
    if len(target) <= ROWS:
        return np.arange(len(target))
    order = np.argsort(target, kind="stable")
    return np.sort(order[np.arange(ROWS) * len(target) // ROWS])


def _first(candidates: Iterator[Expr], target: Vector, whole: dict[Expr, Vector]) -> Expr | None:
    """The first candidate that is right in every record and not more than the records can tell apart."""
    distinct = len(np.unique(target))
    best: Expr | None = None
    for expr in itertools.islice(candidates, 12):
        size = leaves(expr)
        # An expression of many parts that fits a handful of values was looked for until it did.
        if len(target) < size + 2 or distinct < min(size - 1, 4):
            continue
        if best is not None and size >= leaves(best):
            continue
        if _right(expr, target, whole):
            best = expr
    return best


def _right(expr: Expr, target: Vector, whole: dict[Expr, Vector]) -> bool:
    values = _value(expr, whole, len(target))
    return values is not None and bool((values == target).all())


def _value(expr: Expr, whole: dict[Expr, Vector], count: int) -> Vector | None:
    """Values of an expression over leaves that are expressions themselves."""
    if expr in whole:
        return whole[expr]
    if isinstance(expr, Const):
        return np.full(count, expr.value, np.int64)
    assert isinstance(expr, Apply)
    args = [_value(arg, whole, count) for arg in expr.args]
    if any(arg is None for arg in args):
        return None
    a, b = args[0], args[1]
    assert a is not None
    assert b is not None
    match expr.op:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "min":
            return np.minimum(a, b)
        case "max":
            return np.maximum(a, b)
    if (b == 0).any():
        return None
    return a // b if expr.op == "//" else a % b if expr.op == "%" else -(-a // b)


# --- sliding windows --------------------------------------------------------------------------------------------------


def windowed(target: Vector, sizes: Sequence[Leaf], numbers: Sequence[Leaf], effort: Effort) -> Expr | None:
    """The formula of a convolution or a pooling, forward or transposed, that has the target's values, or None.

    Args:
        target: size of the result in every record.
        sizes: what may be the size of the input.
        numbers: what may be the kernel's size, the stride, the padding, the dilation and the output padding.
    """
    if len(target) < 4 or not sizes or not numbers:
        return None
    one, zero = (Const(1), np.ones_like(target)), (Const(0), np.zeros_like(target))
    steps, paddings, dilations = [*numbers, one], [zero, *numbers], [one, *numbers]
    work = len(sizes) * len(numbers) * len(steps) * len(paddings) * len(dilations) * len(target)
    if not effort.spend(work // 4):
        return None
    for (size, n), (dilation, d), (kernel, k) in itertools.product(sizes, dilations, numbers):
        if dilation == kernel:
            continue
        reach = d * (k - 1)
        for padding, p in paddings:
            if padding == kernel or (padding == dilation and padding != one[0]):
                continue
            span = n + 2 * p - reach - 1
            for step, s in steps:
                if step == padding or (step == dilation and step != one[0]) or (s <= 0).any():
                    continue
                inner = _padded(size, padding, dilation, kernel)
                if (span // s + 1 == target).all():
                    return Apply("+", (Apply("//", (inner, step)), Const(1)) if step != Const(1) else (inner, Const(1)))
                # The last window is dropped where it would lie in the padding to the right.
                up = -(-span // s)
                late = up * s >= n + p
                if (np.where(late, up, up + 1) == target).all():
                    count = Apply("ceil", (inner, step))
                    test = Apply("<", (multiply(count, step), add(*_plus(size, padding))))
                    return Apply("if", (test, Apply("+", (count, Const(1))), count))
                whole = (n - 1) * s - 2 * p + reach + 1
                for extra, o in paddings:
                    if extra != zero[0] and extra in (padding, step, kernel, dilation):
                        continue
                    if (whole + o == target).all():
                        return _transposed(size, step, padding, dilation, kernel, extra)
    return None


def _plus(size: Expr, padding: Expr) -> tuple[Expr, ...]:
    return (size,) if padding == Const(0) else (size, padding)


def _reach(dilation: Expr, kernel: Expr) -> Expr:
    less = Apply("-", (kernel, Const(1)))
    return less if dilation == Const(1) else multiply(dilation, less)


def _padded(size: Expr, padding: Expr, dilation: Expr, kernel: Expr) -> Expr:
    padded = size if padding == Const(0) else Apply("+", (size, multiply(Const(2), padding)))
    if dilation == Const(1):
        return Apply("-", (padded, kernel))
    return Apply("-", (Apply("-", (padded, _reach(dilation, kernel))), Const(1)))


def _transposed(size: Expr, step: Expr, padding: Expr, dilation: Expr, kernel: Expr, extra: Expr) -> Expr:
    less = Apply("-", (size, Const(1)))
    whole: Expr = less if step == Const(1) else multiply(less, step)
    if padding != Const(0):
        whole = Apply("-", (whole, multiply(Const(2), padding)))
    terms = [whole, _reach(dilation, kernel), *([] if extra == Const(0) else [extra]), Const(1)]
    return add(*terms)
