"""Preconditions: what holds of every accepted call and not of some rejected ones; a small set that rejects them all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shakeout.generators.rules.expressions import (
    Apply,
    Const,
    Expr,
    Mask,
    Symbol,
    add,
    all_of,
    evaluate,
    multiply,
    text,
)
from shakeout.generators.rules.shapes import Grounds, broadcast_sizes
from shakeout.generators.rules.synthesise import Effort
from shakeout.generators.rules.table import Table

__all__ = ["Precondition", "assumed_equalities", "holds", "learn_preconditions"]

#: Terms that are compared with each other.
MOST_TERMS = 44
#: Preconditions of one rule; what needs more is not understood.
MOST = 14
#: Attributes among which kernel, dilation and padding of a window are looked for.
MOST_NUMBERS = 9
ZERO, ONE = Const(0), Const(1)


@dataclass(frozen=True, slots=True)
class Precondition:
    """Something that an accepted call fulfils; what is undefined does not hold.

    Attributes:
        expr: true where it is not zero.
        label: in words, where that says more than the expression.
    """

    expr: Expr
    label: str = ""

    def describe(self) -> str:
        """One line."""
        return self.label or text(self.expr)


def holds(expr: Expr, table: Table) -> Mask:
    """In which records it holds."""
    values, defined = evaluate(expr, table.columns, len(table))
    truth: Mask = defined & (values != 0)
    return truth


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A precondition with what it costs to believe it, and the records in which it holds."""

    given: Precondition
    cost: float
    holds: Mask


def learn_preconditions(
    table: Table, shapes: Sequence[Sequence[Expr | None]], effort: Effort
) -> tuple[tuple[Precondition, ...], int]:
    """Preconditions, and how many rejected records fulfil them all the same.

    Args:
        table: accepted records, and those rejected ones whose dtypes were accepted elsewhere.
        shapes: the sizes of each result, where they are known in every case.
        effort: what may be spent.
    """
    valid = table.valid
    rejected = ~valid
    if not valid.any() or not rejected.any():
        return (), int(rejected.sum())
    candidates: list[_Candidate] = []
    for precondition, cost in _quantified(table, shapes):
        truth = holds(precondition.expr, table)
        if truth[valid].all() and not truth.all():
            candidates.append(_Candidate(precondition, cost, truth))
    candidates += _compared(table, effort)
    chosen, left = _cover(candidates, rejected)
    if left.any() and effort.spend(20_000):
        deeper = candidates + _deeper(table, effort)
        chosen, left = _cover(deeper, rejected)
    found = [candidate.given for candidate in _needed(chosen, rejected)]
    # Of results of several dimensions a few rejected calls show one to be too small; the others are no different.
    found += [given for given in _positive(table, shapes) if given not in found]
    return tuple(found[:MOST]), int(left.sum())


def _positive(table: Table, shapes: Sequence[Sequence[Expr | None]]) -> Iterator[Precondition]:
    """That a size of a result is not empty, where no accepted call had an empty one and some rejected call would."""
    sizes = dict.fromkeys(size for row in shapes for size in row if isinstance(size, Apply))
    for size in sizes:
        expr = Apply("<=", (ONE, size))
        truth = holds(expr, table)
        if truth[table.valid].all() and not truth.all():
            yield Precondition(expr)


def _cover(candidates: Sequence[_Candidate], rejected: Mask) -> tuple[list[_Candidate], Mask]:
    """Greedy: again and again what rejects most of those that are left, for its cost."""
    left = rejected.copy()
    chosen: list[_Candidate] = []
    if not candidates:
        return chosen, left
    rejects = np.array([~candidate.holds for candidate in candidates])
    costs = np.array([candidate.cost for candidate in candidates])
    while left.any() and len(chosen) < MOST:
        gains = (rejects & left).sum(axis=1)
        # What is complicated has to explain more than one record.
        scores = np.where(gains >= np.ceil(costs / 2), gains / (1 + 0.2 * costs) - 0.01 * costs, -1.0)
        best = int(scores.argmax())
        if scores[best] <= 0:
            break
        chosen.append(candidates[best])
        left &= candidates[best].holds
    return chosen, left


def _needed(chosen: list[_Candidate], rejected: Mask) -> list[_Candidate]:
    """Without those that reject nothing that the others do not."""
    kept = list(chosen)
    for candidate in reversed(chosen):
        others = [other for other in kept if other is not candidate]
        together = np.logical_and.reduce([other.holds for other in others]) if others else np.ones_like(rejected)
        mine = together & candidate.holds
        if (mine[rejected] == together[rejected]).all():
            kept = others
    return kept


# --- templates --------------------------------------------------------------------------------------------------------


def _quantified(table: Table, shapes: Sequence[Sequence[Expr | None]]) -> Iterator[tuple[Precondition, float]]:
    """What operators are known to ask for, with its cost."""
    grounds = Grounds(table.where(table.valid))
    operands = grounds.operands
    ranks = sorted({*map(len, operands), *(len(operand) + 1 for operand in operands)})
    groups = grounds.axes
    for group in groups:
        for rank in ranks:
            bounds = [Apply("axis", (axis, Const(rank))) for axis in group]
            name = ", ".join(axis.name for axis in group)
            if len(group) > 1:
                yield Precondition(all_of(*bounds), f"{name}: dimensions of a tensor of rank {rank}"), 1
                distinct = Apply("distinct", (*group, Const(rank)))
                whole = "a permutation" if len(group) == rank else "distinct dimensions"
                yield Precondition(all_of(*bounds, distinct), f"{name}: {whole} of rank {rank}"), 1.2
            else:
                yield Precondition(bounds[0]), 1
    for one, other in itertools.combinations(grounds.single_axes, 2):
        for rank in ranks:
            yield Precondition(Apply("distinct", (one, other, Const(rank)))), 1.5
            yield Precondition(Apply("<=", (_front(one, rank), _front(other, rank)))), 1.5
    if len(operands) <= 8:
        yield from _between(grounds)
    for sizes in shapes:
        known = [size for size in sizes if size is not None]
        if len(known) == len(sizes) and sizes:
            whole_shape = multiply(*known)
            for number, operand in enumerate(operands):
                if operand:
                    same = Apply("==", (multiply(*operand), whole_shape))
                    yield Precondition(same, f"as many elements as in[{number}]"), 1.5
        for size in dict.fromkeys(known):
            if not isinstance(size, Const | Symbol):
                yield Precondition(Apply("<=", (ZERO, size))), 1.6
                yield Precondition(Apply("<=", (ONE, size))), 1.5
    yield from _windows(grounds)
    for name, numbers in grounds.lists.items():
        if len(numbers) > 1:
            minus = add(*[Apply("==", (number, Const(-1))) for number in numbers])
            yield Precondition(Apply("<=", (minus, ONE)), f"at most one -1 in {name}"), 1.2
            for bound in (-1, 0, 1):
                every = all_of(*[Apply("<=", (Const(bound), number)) for number in numbers])
                yield Precondition(every, f"every {name} >= {bound}"), 1.1


def _windows(grounds: Grounds) -> Iterator[tuple[Precondition, float]]:
    """A window that fits into a dimension with what is put around it, and one that is not all padding."""
    numbers: list[Expr] = list(grounds.numbers)
    if not 1 <= len(numbers) <= MOST_NUMBERS:
        return
    sizes = [size for operand in grounds.operands[:1] for size in operand[-3:]]
    for kernel in numbers:
        for dilation in (ONE, *[number for number in numbers if number != kernel]):
            reach = add(multiply(dilation, Apply("-", (kernel, ONE))), ONE) if dilation != ONE else kernel
            for padding in (ZERO, *[number for number in numbers if number not in (kernel, dilation)]):
                around = multiply(Const(2), padding)
                if padding != ZERO:
                    yield Precondition(Apply("<=", (around, reach))), 1.4
                for size in sizes:
                    whole = size if padding == ZERO else add(size, around)
                    yield Precondition(Apply("<=", (reach, whole))), 1.5


def _front(axis: Expr, rank: int) -> Expr:
    return Apply("%", (axis, Const(max(rank, 1))))


def _between(grounds: Grounds) -> Iterator[tuple[Precondition, float]]:
    """Relations between the shapes of operands."""
    operands = grounds.operands
    sets: list[Sequence[int]] = [range(len(operands))] if len(operands) > 2 else []
    sets += list(itertools.combinations(range(len(operands)), 2)) if len(operands) <= 5 else []
    for chosen in sets:
        names = ", ".join(f"in[{number}]" for number in chosen)
        shapes = [operands[number] for number in chosen]
        least = min(map(len, shapes))
        if not least:
            continue
        whole = broadcast_sizes(shapes)
        meets = all_of(*[Apply("<=", (ZERO, size)) for size in whole])
        yield Precondition(meets, f"{names} broadcast"), 1
        for spare in (1, 2):
            if least > spare:
                heads = broadcast_sizes([shape[:-spare] for shape in shapes])
                meets = all_of(*[Apply("<=", (ZERO, size)) for size in heads])
                yield Precondition(meets, f"{names} broadcast but for the last {spare} dimensions"), 1.1
        for number in chosen:
            if len(operands[number]) == max(map(len, shapes)) and len(chosen) == 2:
                into = all_of(*[Apply("==", pair) for pair in zip(whole, operands[number], strict=True)])
                yield Precondition(into, f"{names} broadcast to in[{number}]"), 1.1
        if len({len(shape) for shape in shapes}) > 1:
            continue
        same = [all_of(*[Apply("==", (shapes[0][k], s[k])) for s in shapes[1:]]) for k in range(least)]
        yield Precondition(all_of(*same), f"{names} have one shape"), 1
        if least > 1:
            yield Precondition(all_of(*same[1:]), f"{names} have one shape but for dimension 0"), 1.3
            yield Precondition(all_of(*same[:-1]), f"{names} have one shape but for the last dimension"), 1.3
        for axis in grounds.single_axes:
            there = _front(axis, least)
            but = [Apply("or", (Apply("==", (there, Const(k))), equal)) for k, equal in enumerate(same)]
            label = f"{names} have one shape but for dimension {axis.name}"
            yield Precondition(all_of(Apply("axis", (axis, Const(least))), *but), label), 1
        if len(chosen) == 2:
            one, other = operands[chosen[0]], operands[chosen[1]]
            for axis in grounds.single_axes:
                there = _front(axis, least)
                for first, second in itertools.permutations(chosen):
                    pairs = zip(operands[first], operands[second], strict=True)
                    fits = [
                        Apply("or", (Apply("==", (there, Const(k))), Apply("<=", pair))) for k, pair in enumerate(pairs)
                    ]
                    label = f"in[{first}] is no larger than in[{second}] but at dimension {axis.name}"
                    yield Precondition(all_of(*fits), label), 1.3
            within = all_of(*[Apply("<=", pair) for pair in zip(one, other, strict=True)])
            yield Precondition(within, f"in[{chosen[0]}] is no larger than in[{chosen[1]}]"), 1.3


# --- comparisons ------------------------------------------------------------------------------------------------------


def _terms(table: Table) -> list[Expr]:
    """What is compared: symbols, sizes at a named dimension, sums and products of a sequence."""
    grounds = Grounds(table.where(table.valid))
    found: list[Expr] = [*grounds.numbers]
    for axis in grounds.single_axes:
        found += [Apply("at", (axis, *operand)) for operand in grounds.operands if operand]
    found += [size for operand in grounds.operands for size in operand]
    for group in grounds.lists.values():
        if len(group) > 1:
            found += [add(*group), multiply(*group)]
    found += [multiply(*operand) for operand in grounds.operands if len(operand) > 1]
    return list(dict.fromkeys(found))[:MOST_TERMS]


def _compared(table: Table, effort: Effort) -> list[_Candidate]:
    """Each term with constants and with each other term."""
    valid = table.valid
    found: list[_Candidate] = []
    terms, values, defined = [], [], []
    for term in _terms(table):
        value, ok = evaluate(term, table.columns, len(table))
        if ok[valid].all():
            terms.append(term)
            values.append(np.where(ok, value, 0))
            defined.append(ok)
    if not terms:
        return found
    matrix, known = np.array(values), np.array(defined)

    def offer(expr: Expr, truth: Mask, cost: float) -> None:
        found.append(_Candidate(Precondition(expr), cost, truth))

    least, most = matrix[:, valid].min(axis=1), matrix[:, valid].max(axis=1)
    for k, term in enumerate(terms):
        low, high = int(least[k]), int(most[k])
        if low == high:
            offer(Apply("==", (term, Const(low))), (matrix[k] == low) & known[k], 1.5)
        for bound in (-1, 0, 1, 2, low):
            if low >= bound:
                # A bound that no accepted call reaches may as well lie elsewhere.
                cost = (1.0 if bound in (0, 1) else 1.5) + (0 if low == bound else 1.5)
                offer(Apply("<=", (Const(bound), term)), (matrix[k] >= bound) & known[k], cost)
        if ((matrix[k] == high + 1) & ~valid).any():
            offer(Apply("<=", (term, Const(high))), (matrix[k] <= high) & known[k], 2.5)
        if (matrix[k, valid] % 2 == 0).all() and high != low:
            even = Apply("==", (Apply("%", (term, Const(2))), ZERO))
            offer(even, (matrix[k] % 2 == 0) & known[k], 1.6)
        if (matrix[k, valid] != 0).all():
            offer(Apply("!=", (term, ZERO)), (matrix[k] != 0) & known[k], 1.4)
    if not effort.spend(3 * matrix.size * len(terms)):
        return found
    both = known[:, None, :] & known[None, :, :]
    gaps = matrix[None, :, :] - matrix[:, None, :]  # [a, b] = b - a
    gaps_valid = gaps[:, :, valid]
    smallest = gaps_valid.min(axis=2)
    largest = gaps_valid.max(axis=2)
    sums = matrix[None, :, :] + matrix[:, None, :]
    smallest_sum = sums[:, :, valid].min(axis=2)
    varied = (matrix[:, valid] != matrix[:, valid][:, :1]).any(axis=1)
    for a, b in itertools.permutations(range(len(terms)), 2):
        # A relation that does not move may be a coincidence of two bounds.
        coincidence = 0.0 if varied[a] and varied[b] else 1.0
        one, other = terms[a], terms[b]
        if smallest[a, b] == largest[a, b] == 0:
            if a < b:
                offer(Apply("==", (one, other)), (gaps[a, b] == 0) & both[a, b], 1.2 + coincidence)
        elif smallest[a, b] >= 0:
            tight = 0.0 if smallest[a, b] == 0 else 1.2
            offer(Apply("<=", (one, other)), (gaps[a, b] >= 0) & both[a, b], 1.4 + tight + coincidence)
            if smallest[a, b] > 0:
                tight = 0.0 if smallest[a, b] == 1 else 1.2
                offer(Apply("<", (one, other)), (gaps[a, b] > 0) & both[a, b], 1.4 + tight + coincidence)
        if a < b and smallest_sum[a, b] >= 0 and (least[a] < 0 or least[b] < 0):
            tight = 0.0 if smallest_sum[a, b] == 0 else 1.0
            negated = Apply("<=", (Apply("-", (ZERO, one)), other))
            offer(negated, (sums[a, b] >= 0) & both[a, b], 1.5 + tight)
        if least[b] > 0 and not (smallest[a, b] == largest[a, b] == 0):
            divides = np.where(matrix[b] == 0, 1, matrix[a] % np.where(matrix[b] == 0, 1, matrix[b])) == 0
            if divides[valid].all():
                expr = Apply("==", (Apply("%", (one, other)), ZERO))
                offer(expr, divides & both[a, b] & (matrix[b] != 0), 1.5 + coincidence)
    return [candidate for candidate in found if candidate.holds[valid].all() and not candidate.holds.all()]


def _deeper(table: Table, effort: Effort) -> list[_Candidate]:
    """Sums, differences and products of two terms, and twice a term, compared with a third."""
    valid = table.valid
    terms: list[Expr] = []
    values = []
    for term in _terms(table)[:18]:
        value, ok = evaluate(term, table.columns, len(table))
        if ok.all():
            terms.append(term)
            values.append(value)
    if len(terms) < 2:
        return []
    exprs: list[Expr] = []
    made = []
    for a, b in itertools.combinations(range(len(terms)), 2):
        exprs += [Apply("+", (terms[a], terms[b])), Apply("*", (terms[a], terms[b]))]
        made += [values[a] + values[b], values[a] * values[b]]
        exprs += [Apply("-", (terms[a], terms[b])), Apply("-", (terms[b], terms[a]))]
        made += [values[a] - values[b], values[b] - values[a]]
    for term, value in zip(terms, values, strict=True):
        exprs.append(Apply("*", (Const(2), term)))
        made.append(2 * value)
    left, right = np.array(made), np.array([*values, np.zeros_like(values[0])])
    rights: list[Expr] = [*terms, ZERO]
    if not effort.spend(2 * left.size * len(right)):
        return []
    found: list[_Candidate] = []
    for number, expr in enumerate(rights):
        gap = right[number] - left
        low, high = gap[:, valid].min(axis=1), gap[:, valid].max(axis=1)
        rejects_most = np.flatnonzero((low >= 0) & ~(gap >= 0).all(axis=1))
        for k in rejects_most:
            if low[k] == high[k] == 0:
                found.append(_Candidate(Precondition(Apply("==", (exprs[k], expr))), 2.6, gap[k] == 0))
            elif low[k] <= 1:
                found.append(_Candidate(Precondition(Apply("<=", (exprs[k], expr))), 3.2, gap[k] >= 0))
        for k in np.flatnonzero((high <= 0) & (high >= -1) & (low < 0) & ~(gap <= 0).all(axis=1)):
            found.append(_Candidate(Precondition(Apply("<=", (expr, exprs[k]))), 3.2, gap[k] <= 0))
    return found


def assumed_equalities(table: Table) -> list[Expr]:
    """Equal sizes in every accepted record, with nothing to show that they need be: kept when calls are proposed."""
    grounds = Grounds(table.where(table.valid))
    symbols = [size for operand in grounds.operands for size in operand] + grounds.numbers
    groups: dict[bytes, Symbol] = {}
    found: list[Expr] = []
    for symbol in symbols:
        values = grounds.columns[symbol.name]
        if len(values) < 2 or (values == values[0]).all():
            continue
        first = groups.setdefault(values.tobytes(), symbol)
        if first is not symbol:
            found.append(Apply("==", (first, symbol)))
    return found
