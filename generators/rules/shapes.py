"""Shapes of results: templates that say what an operator does to dimensions, then synthesis dimension by dimension."""

from __future__ import annotations

import functools
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
    Vector,
    add,
    evaluate,
    multiply,
)
from shakeout.generators.rules.parameter_names import names_dimension
from shakeout.generators.rules.synthesise import Bank, Effort, Leaf, synthesise, windowed
from shakeout.generators.rules.table import Table

__all__ = ["Grounds", "Shape", "features", "learn_shape"]

#: Values of an attribute that may each have a case of their own.
MOST_VALUES = 6


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a result.

    Attributes:
        sizes: an expression for each dimension, None where none was found.
        label: what it does to its operand, in words, where that says more than the expressions.
    """

    sizes: tuple[Expr | None, ...]
    label: str = ""


class Grounds:
    """What a shape may be made of: the accepted records of one case, and their symbols by role."""

    def __init__(self, table: Table) -> None:
        self.table, self.columns, self.count = table, table.columns, len(table)
        self.operands: list[list[Symbol]] = [
            [Symbol(f"in[{number}].shape[{axis}]") for axis in range(rank)]
            for number, rank in enumerate(table.variant.ranks)
        ]
        dimensions = {size.name for operand in self.operands for size in operand}
        self.numbers = [Symbol(name) for name in table.names if name not in dimensions]
        self.ranks = table.variant.ranks
        #: Integer attributes that come in sequences, by the name before the bracket.
        self.lists: dict[str, list[Symbol]] = {}
        for symbol in self.numbers:
            if symbol.name.endswith("]"):
                self.lists.setdefault(symbol.name.rpartition("[")[0], []).append(symbol)

    def value(self, expr: Expr) -> tuple[Vector, Mask]:
        """Values of an expression over the records."""
        return evaluate(expr, self.columns, self.count)

    def leaf(self, expr: Expr) -> Leaf | None:
        """The expression with its values, if it is defined in every record."""
        values, defined = self.value(expr)
        return (expr, values) if defined.all() else None

    def fits(self, expr: Expr, target: Vector) -> bool:
        """Whether it has the target's value in every record."""
        values, defined = self.value(expr)
        return bool((defined & (values == target)).all())

    @functools.cached_property
    def axes(self) -> list[tuple[Symbol, ...]]:
        """Groups of attributes that name dimensions: those of one sequence together, and each alone."""
        most = max([*self.ranks, 1]) + 1
        found = []
        for symbol in self.numbers:
            values = self.columns[symbol.name]
            small = bool(((values >= -most) & (values < most)).all())
            if small and names_dimension(symbol.name):
                found.append(symbol)
        groups = [tuple(group) for group in self.lists.values() if len(group) > 1 and set(group) <= set(found)]
        return groups + [(symbol,) for symbol in found]

    @functools.cached_property
    def single_axes(self) -> list[Symbol]:
        """The attributes that name one dimension."""
        return [group[0] for group in self.axes if len(group) == 1]

    @functools.cached_property
    def _neighbours(self) -> tuple[Vector, Vector, Vector, list[Symbol]]:
        """Pairs of records that differ in one symbol only: both records, and the symbol's number."""
        symbols = [Symbol(name) for name in self.table.names]
        matrix = np.array([self.columns[symbol.name] for symbol in symbols], np.int64).reshape(len(symbols), self.count)
        matrix = matrix[:, :160]
        unlike = matrix[:, :, None] != matrix[:, None, :]
        one, other = np.nonzero(np.triu(unlike.sum(axis=0) == 1))
        which = unlike[:, one, other].argmax(axis=0) if len(one) else np.empty(0, np.int64)
        return one, other, which, symbols

    def influence(self, target: Vector) -> dict[Symbol, int]:
        """For each symbol 1 if the target was seen to depend on it, -1 if it was seen not to, 0 if nobody knows."""
        one, other, which, symbols = self._neighbours
        changed = target[one] != target[other]
        found = {}
        for number, symbol in enumerate(symbols):
            mine = changed[which == number]
            found[symbol] = 1 if mine.any() else -1 if len(mine) >= 3 else 0
        return found


def learn_shape(grounds: Grounds, target: Vector, effort: Effort) -> Shape:
    """The shape of one result.

    Args:
        grounds: the records.
        target: the result's sizes, one row for each dimension, one column for each record.
        effort: what may be spent.
    """
    rank = len(target)
    for label, sizes in itertools.chain(_whole(grounds, rank), _edited(grounds, target, effort)):
        if len(sizes) == rank and all(grounds.fits(size, row) for size, row in zip(sizes, target, strict=True)):
            return Shape(sizes, label)
    return Shape(tuple([_dimension(grounds, target[place], place, rank, effort) for place in range(rank)]))


# --- templates --------------------------------------------------------------------------------------------------------


def _whole(grounds: Grounds, rank: int) -> Iterator[tuple[str, tuple[Expr, ...]]]:
    """Shapes that are an operand's, or made of operands' and attributes alone."""
    if not rank:
        yield "a single number", ()
        return
    operands = grounds.operands
    for number, operand in enumerate(operands):
        if len(operand) == rank:
            yield f"in[{number}].shape", tuple(operand)
    counts = range(len(operands), 1, -1) if len(operands) <= 6 else (len(operands), 2)
    for count in counts:
        for chosen in [range(count)] if count > 4 else itertools.combinations(range(len(operands)), count):
            if max(len(operands[number]) for number in chosen) == rank:
                names = ", ".join(f"in[{number}]" for number in chosen)
                yield f"broadcast of {names}", broadcast_sizes([operands[number] for number in chosen])
    for name, group in grounds.lists.items():
        yield from _listed(grounds, name, group, rank)
    for axes in grounds.axes:
        for number, operand in enumerate(operands):
            yield from _moved(number, operand, axes, rank)
    for one, other in itertools.permutations(grounds.single_axes, 2):
        for number, operand in enumerate(operands):
            if len(operand) == rank:
                yield from _exchanged(number, operand, one, other)


def broadcast_sizes(operands: Sequence[Sequence[Expr]]) -> tuple[Expr, ...]:
    """The common shape of operands, aligned at their last dimension."""
    rank = max(map(len, operands))
    sizes: list[Expr] = []
    for place in range(rank):
        meeting = [operand[place - rank + len(operand)] for operand in operands if place - rank + len(operand) >= 0]
        sizes.append(meeting[0] if len(meeting) == 1 else Apply("broadcast", tuple(meeting)))
    return tuple(sizes)


def _listed(grounds: Grounds, name: str, group: Sequence[Symbol], rank: int) -> Iterator[tuple[str, tuple[Expr, ...]]]:
    """A sequence of attributes as the shape, with -1 for what follows from the operand, or as factors."""
    if len(group) != rank:
        return
    yield name, tuple(group)
    minus = Const(-1)
    for number, operand in enumerate(grounds.operands):
        lacking = rank - len(operand)
        # All sizes with the -1 among them multiply to the negative of what is known.
        rest = Apply("//", (multiply(*operand), Apply("-", (Const(0), multiply(*group)))))
        inferred = tuple([Apply("if", (Apply("==", (size, minus)), rest, size)) for size in group])
        yield f"{name}, -1 inferred from in[{number}]", inferred
        if lacking >= 0:
            aligned = [size if place < lacking else operand[place - lacking] for place, size in enumerate(group)]
            kept = [
                Apply("if", (Apply("==", (size, minus)), own, size)) for size, own in zip(group, aligned, strict=True)
            ]
            yield f"{name}, -1 as in in[{number}]", tuple(kept)
            grown: list[Expr] = [*group]
            for place in range(lacking, rank):
                grown[place] = Apply("*", (operand[place - lacking], group[place]))
            yield f"in[{number}].shape times {name}", tuple(grown)
        if lacking == 0:
            permuted = [Apply("at", (axis, *operand)) for axis in group]
            yield f"in[{number}].shape permuted by {name}", tuple(permuted)


def _normal(axis: Expr, rank: int) -> Expr:
    """An axis counted from the front."""
    return Apply("%", (axis, Const(max(rank, 1))))


def _moved(
    number: int, operand: Sequence[Symbol], group: Sequence[Symbol], rank: int
) -> Iterator[tuple[str, tuple[Expr, ...]]]:
    """Dimensions removed, reduced to one, or inserted."""
    own, names = len(operand), ", ".join(symbol.name for symbol in group)
    if own and rank == own - len(group):
        kept = [Apply("kept", (Const(place), Const(own), *operand, *group)) for place in range(rank)]
        yield f"in[{number}].shape without dimension {names}", tuple(kept)
    if own and rank == own:
        ones = []
        for place, size in enumerate(operand):
            hits = [Apply("==", (_normal(axis, own), Const(place))) for axis in group]
            ones.append(Apply("if", (hits[0] if len(hits) == 1 else Apply("or", tuple(hits)), Const(1), size)))
        yield f"in[{number}].shape with 1 at dimension {names}", tuple(ones)


def _exchanged(
    number: int, operand: Sequence[Symbol], one: Symbol, other: Symbol
) -> Iterator[tuple[str, tuple[Expr, ...]]]:
    """Two dimensions swapped, or one moved to another place."""
    rank = len(operand)
    if not rank:
        return
    a, b = _normal(one, rank), _normal(other, rank)
    if one.name < other.name:
        swapped: list[Expr] = []
        for place in range(rank):
            here = Const(place)
            from_b = Apply("if", (Apply("==", (b, here)), a, here))
            swapped.append(Apply("at", (Apply("if", (Apply("==", (a, here)), b, from_b)), *operand)))
        yield f"in[{number}].shape with {one.name} and {other.name} swapped", tuple(swapped)
    if rank > 1:
        moved: list[Expr] = []
        for place in range(rank):
            here = Const(place)
            rest = Apply("-", (here, Apply("<", (b, here))))
            still = Apply("kept", (rest, Const(rank), *operand, one))
            moved.append(Apply("if", (Apply("==", (b, here)), Apply("at", (one, *operand)), still)))
        yield f"in[{number}].shape with {one.name} moved to {other.name}", tuple(moved)


def _edited(grounds: Grounds, target: Vector, effort: Effort) -> Iterator[tuple[str, tuple[Expr, ...]]]:
    """An operand's shape with another size at a dimension, a dimension more there, and perhaps further ones behind."""
    rank, count = target.shape
    everything = np.arange(count)
    for axis in grounds.single_axes:
        index = grounds.columns[axis.name]
        for number, operand in enumerate(grounds.operands):
            own = len(operand)
            if not own or own > rank or not ((index >= -own - 1) & (index <= own)).all():
                continue
            name = f"in[{number}].shape"
            # The same rank or further dimensions: everywhere else the operand's own size.
            if ((index >= -own) & (index < own)).all():
                place = index % own
                others = np.array([grounds.columns[size.name] for size in operand]) == target[:own]
                others[place, everything] = True
                if others.all():
                    size = _at_axis(grounds, target[place, everything], axis, number, effort)
                    if size is not None:
                        here = [
                            Apply("if", (Apply("==", (_normal(axis, own), Const(k))), size, old))
                            for k, old in enumerate(operand)
                        ]
                        more = [_dimension(grounds, target[k], k, rank, effort) for k in range(own, rank)]
                        if all(extra is not None for extra in more):
                            yield f"{name} except at dimension {axis.name}", (*here, *[e for e in more if e])
            if rank != own + 1 or not ((index >= -rank) & (index < rank)).all():
                continue
            place = index % rank
            inserted = []
            at = _at_axis(grounds, target[place, everything], axis, number, effort)
            if at is None:
                continue
            for k in range(rank):
                where = _normal(axis, rank)
                before: Expr = operand[k] if k < own else Const(0)
                after: Expr = operand[k - 1] if k else Const(0)
                otherwise = Apply("if", (Apply("<", (Const(k), where)), before, after))
                inserted.append(Apply("if", (Apply("==", (where, Const(k))), at, otherwise)))
            yield f"{name} with a dimension inserted at {axis.name}", tuple(inserted)


def _at_axis(grounds: Grounds, target: Vector, axis: Symbol, number: int, effort: Effort) -> Expr | None:
    """The size at a dimension that an attribute names: made of the operands' sizes there and of numbers."""
    there: list[Expr] = []
    for operand in grounds.operands:
        if operand:
            there.append(Apply("at", (axis, *operand)))
    same = [operand for operand in grounds.operands if len(operand) == grounds.ranks[number]]
    whole = [add(*[Apply("at", (axis, *operand)) for operand in same])] if len(same) > 1 else []
    count = [Const(len(grounds.operands))] if len(grounds.operands) > 1 else []
    if number:
        there = [there[number], *there[:number], *there[number + 1 :]] if len(there) > number else there
    others = [symbol for symbol in grounds.numbers if symbol != axis]
    sums = [add(*group) for group in grounds.lists.values() if len(group) > 1]
    sizes = [size for operand in grounds.operands if len(operand) == 1 for size in operand]
    exprs = [*there[:2], *whole, *others, *count, *sums, *sizes, *there[2:]]
    given = [leaf for expr in exprs if (leaf := grounds.leaf(expr)) is not None]
    return synthesise(target, given, effort, 2) or _conditional(grounds, target, given, effort)


# --- one dimension ----------------------------------------------------------------------------------------------------


def _dimension(grounds: Grounds, target: Vector, place: int, rank: int, effort: Effort) -> Expr | None:
    """One size of a result by itself."""
    influence = grounds.influence(target)
    aligned = [
        operand[k]
        for operand in grounds.operands
        for k in dict.fromkeys((place, place - rank + len(operand)))
        if 0 <= k < len(operand)
    ]
    sizes = [size for operand in grounds.operands for size in operand]
    ordered = list(dict.fromkeys((*aligned, *_indexed(grounds, place, rank), *sizes, *grounds.numbers)))
    ordered.sort(key=lambda symbol: -influence[symbol])
    known = [symbol for symbol in ordered if influence[symbol] > 0]
    plain = [leaf for symbol in ordered if influence[symbol] >= 0 and (leaf := grounds.leaf(symbol)) is not None]
    for expr, vector in plain:
        if (vector == target).all():
            return expr
    if (target == target[0]).all() and not known:
        return Const(int(target[0]))
    made = [leaf for expr in _combined(grounds, place, rank) if (leaf := grounds.leaf(expr)) is not None]
    for expr, vector in made:
        if (vector == target).all():
            return expr
    vary = [(expr, vector) for expr, vector in plain if not (vector == vector[0]).all()]
    own = set(sizes)
    given = vary[:7] + [leaf for leaf in made if not (leaf[1] == leaf[1][0]).all()][:3]
    if (small := synthesise(target, given, effort, 2)) is not None:
        return small
    windows = windowed(
        target,
        [leaf for leaf in vary if leaf[0] in own][:4],
        [leaf for leaf in vary if leaf[0] not in own or not grounds.numbers or leaf[0] not in aligned[:1]][:5],
        effort,
    )
    if windows is not None:
        return windows
    return synthesise(target, given, effort) or _conditional(grounds, target, given, effort)


def _indexed(grounds: Grounds, place: int, rank: int) -> list[Symbol]:
    """Attributes of sequences that belong to this dimension, counted from either end."""
    found = []
    for group in grounds.lists.values():
        for k in dict.fromkeys((place - rank + len(group), place)):
            if 0 <= k < len(group):
                found.append(group[k])
    return found


def _combined(grounds: Grounds, place: int, rank: int) -> Iterator[Expr]:
    """What several operands or attributes say together about one dimension."""
    operands = grounds.operands
    fromend = [operand[place - rank] for operand in operands if len(operand) >= rank - place]
    if len(fromend) > 1:
        yield Apply("broadcast", tuple(fromend))
        if len(fromend) > 2:
            yield Apply("broadcast", tuple(fromend[:2]))
    alike = [operand for operand in operands if len(operand) == len(operands[0])] if operands else []
    if len(alike) > 1:
        for k in range(len(alike[0])):
            yield add(*[operand[k] for operand in alike])
    for axis in grounds.single_axes:
        for operand in operands:
            if operand:
                yield Apply("at", (axis, *operand))
    for operand in operands:
        if len(operand) > 1:
            yield multiply(*operand)
    for group in grounds.lists.values():
        if len(group) > 1:
            yield multiply(*group)
            yield add(*group)


# --- cases ------------------------------------------------------------------------------------------------------------


def features(grounds: Grounds) -> list[tuple[Expr, Mask]]:
    """What may make a case of its own: an attribute's value, a size of one or zero, a sign, an order."""
    found: list[tuple[Expr, Mask]] = []

    def offer(expr: Expr) -> None:
        values, defined = grounds.value(expr)
        mask = (values != 0) & defined
        if mask.any() and not mask.all():
            found.append((expr, mask))

    axes = set(grounds.single_axes)
    for symbol in grounds.numbers:
        values = grounds.columns[symbol.name]
        if symbol in axes:
            rank = max([*grounds.ranks, 1])
            for value in sorted(set((values % rank).tolist()))[:MOST_VALUES]:
                offer(Apply("==", (_normal(symbol, rank), Const(value))))
        elif (values < 0).any():
            offer(Apply("<", (symbol, Const(0))))
        distinct = sorted(set(values.tolist()))
        if symbol not in axes and len(distinct) <= MOST_VALUES:
            for value in distinct:
                offer(Apply("==", (symbol, Const(value))))
    sizes = [size for operand in grounds.operands for size in operand]
    for size in sizes:
        offer(Apply("==", (size, Const(1))))
    for size in sizes:
        offer(Apply("==", (size, Const(0))))
    for one, other in itertools.islice(itertools.combinations([*sizes, *grounds.numbers], 2), 40):
        offer(Apply("<=", (one, other)))
    return found


def _conditional(grounds: Grounds, target: Vector, given: Sequence[Leaf], effort: Effort) -> Expr | None:
    """Two expressions and what decides between them."""
    if len(target) < 6 or not given:
        return None
    bank = Bank(list(given)[:7], (0, 1))
    if not bank.grow(effort):
        return None
    pool = np.concatenate(bank.levels)[:2500]
    if not effort.spend(pool.size):
        return None
    hits = pool == target
    useful = np.flatnonzero(hits.mean(axis=1) >= 0.15)
    for test, mask in features(grounds):
        if mask.sum() < 3 or (~mask).sum() < 3:
            continue
        yes = useful[hits[useful][:, mask].all(axis=1)]
        if not len(yes):
            continue
        no = useful[hits[useful][:, ~mask].all(axis=1)]
        if len(no):
            return Apply("if", (test, bank.expr(int(yes[0])), bank.expr(int(no[0]))))
    return None
