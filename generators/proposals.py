"""Proposals by rule: a learnt rule is solved for the attributes and the fresh operands of a call, given what is there.

The solver answers what NeuRI (Liu et al., ESEC/FSE 2023) asks an SMT solver; the reference then decides, as about every
proposal.
"""

from __future__ import annotations

from collections.abc import Sequence

from shakeout.corpus.program import renumbered
from shakeout.generators.calls import Rejected
from shakeout.generators.growth import Growth
from shakeout.generators.growth_config import LATTICE, MAX_ELEMENTS
from shakeout.generators.indices import ignoring
from shakeout.generators.numbers import attribute
from shakeout.generators.rules.propose import Limits, assign
from shakeout.generators.vocabularies.records import Spread
from shakeout.generators.vocabularies.ruled import Ruled

__all__ = ["place_by_rule"]

#: Small sizes rather than large ones, and those at which compilers change their mind, where that leaves tensors small.
_SMALL = (2, 3, 4, 1, 5, 2, 3, 4)
_USUAL = ((), (*_SMALL, 6, *LATTICE[5:]), (*_SMALL, *_SMALL, 6, *LATTICE[5:]), (*_SMALL, 6, 7, 8, 9), (*_SMALL, 1))
LIMITS = Limits(size=128, elements=MAX_ELEMENTS, usual=_USUAL)
#: Where dimensions may be empty.
_EMPTY = Limits(size=16, elements=MAX_ELEMENTS, usual=((0, 1, 2, 3, 0, 4),))

#: How often all operands have the dtype of the one that is there, where that is taken.
_ALIKE = 0.9


def place_by_rule(growth: Growth, ruled: Ruled, dtype: str | None, focus: tuple[int, int] | None = None) -> bool:
    """Propose a call that a rule accepts, and keep it if torch takes it and it means something.

    Args:
        growth: the program.
        ruled: the rule.
        dtype: of the first operand, if the rule takes it.
        focus: a value and the operand that it is to be.
    """
    if not growth.welcomes(ruled.operator, ruled.mutates, ruled.grad):
        return False
    return growth.attempt(lambda: _place(growth, ruled, dtype, focus))


def _place(growth: Growth, ruled: Ruled, dtype: str | None, focus: tuple[int, int] | None) -> None:
    choices, rule = growth.choices, ruled.rule
    shapes: dict[int, tuple[int, ...]] = {}
    given: dict[int, str] = {}
    if focus is not None:
        if focus[1] in ruled.mutates and not growth.writable(focus[0]):
            raise Rejected("writes to a leaf")
        shapes[focus[1]], given[focus[1]] = growth.shapes[focus[0]], growth.dtypes[focus[0]]
    elif dtype is not None and dtype in rule.dtypes.allowed(0):
        given[0] = dtype
    empty = choices.boolean(growth.config.zero)
    values = assign(rule, choices, shapes, _EMPTY if empty else LIMITS, empty)
    dtypes = rule.dtypes.draw(choices, given, len(rule.variant.ranks) > 1 and choices.boolean(_ALIKE))
    if values is None or dtypes is None:
        raise Rejected("its rule has no solution")
    wanted = [tuple(values[at : at + rank]) for rank, at in zip(rule.variant.ranks, rule.places, strict=True)]
    plain = growth.words.traits(ruled.operator).plain
    numbers: list[int] = []
    for place, (shape, spread) in enumerate(zip(wanted, ruled.spreads, strict=True)):
        if focus is not None and place == focus[1]:
            numbers.append(focus[0])
            continue
        if spread.kind in ("index", "distinct"):
            spread = _within(spread, wanted, ruled.spreads)
        if not place:
            spread = growth.bounded(ruled.operator, spread)
        numbers.append(growth.operand(dtypes[place], shape, spread, writes=place in ruled.mutates, plain=plain))
    other = {name: attribute(choices, pool, growth.config.reach) for name, pool in rule.pools if pool}
    first = rule.dimensions
    args, kwargs = rule.arguments(dict(zip(rule.names[first:], values[first:], strict=True)), other)
    if growth.config.ignore:
        kwargs = ignoring(choices, ruled.operator, kwargs, growth.config.ignore)
    growth.run(
        ruled.operator,
        tuple([renumbered(arg, numbers) for arg in args]),
        tuple([(key, renumbered(arg, numbers)) for key, arg in kwargs]),
        tuple(numbers),
        tuple([numbers[place] for place in ruled.mutates]),
    )


def _within(spread: Spread, shapes: Sequence[tuple[int, ...]], spreads: Sequence[Spread]) -> Spread:
    """Indices that are within every dimension of the other operands: whichever it is that they are for."""
    sizes = [
        size
        for shape, other in zip(shapes, spreads, strict=True)
        if other.kind not in ("index", "distinct")
        for size in shape
    ]
    return Spread(spread.kind, 0, max(min(sizes, default=1) - 1, 0))
