"""Proposals: a rule asked for a call, with some of its operands at hand."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shakeout.corpus.program import Arg, TensorType, renumbered
from shakeout.generators.choices import Choices
from shakeout.generators.rules.expressions import Apply, Const, Expr, Symbol, multiply
from shakeout.generators.rules.rule import Rule
from shakeout.generators.rules.solve import Solver

__all__ = ["Limits", "Proposal", "assign", "propose"]

#: Arguments, keyword arguments, and the types of operands that are not at hand.
Proposal = tuple[tuple[Arg, ...], tuple[tuple[str, Arg], ...], tuple[TensorType, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """How large a proposal may be; a rule keeps what it prepared for each of them, so there should be few.

    Attributes:
        size: of a dimension that is drawn.
        elements: of an operand or a result.
        attribute: magnitude of an integer attribute.
        zero: how often empty dimensions are allowed, where the rule knows of them.
        reuse: how often an operand is looked for among those at hand.
        usual: sizes that are tried first, by the operand's rank, the last ones for all larger ranks; those named
            more often come more often.
    """

    size: int = 16
    elements: int = 1 << 12
    attribute: int = 32
    zero: float = 0.1
    reuse: float = 0.6
    usual: tuple[tuple[int, ...], ...] = ()


def assign(
    rule: Rule,
    choices: Choices,
    given: Mapping[int, tuple[int, ...]],
    limits: Limits = Limits(),
    zero: bool = False,
) -> list[int] | None:
    """Values for all symbols of a rule, in the order of its names; None where none were found.

    Args:
        rule: the rule.
        choices: decides between solutions.
        given: shapes of the operands that are there already, by number.
        limits: how large the rest may be.
        zero: drawn dimensions may be empty.
    """
    ranks = rule.variant.ranks
    known: dict[str, int] = {}
    places = rule.places
    for number, shape in given.items():
        if len(shape) != ranks[number]:
            return None
        first = places[number]
        for axis, size in enumerate(shape):
            if size == 0 and not rule.domains[first + axis].zero:
                return None
            known[rule.names[first + axis]] = size
    key = (*given, limits, zero)
    solver = rule.solvers.get(key)
    if solver is None:
        solver = rule.solvers[key] = _solver(rule, frozenset(known), limits, zero)
    return solver.draw(choices, known)


def _solver(rule: Rule, given: frozenset[str], limits: Limits, zero: bool) -> Solver:
    """The constraints of a rule and of the limits, prepared for draws with these symbols known."""
    domains: dict[str, range] = {}
    for place, (name, domain) in enumerate(zip(rule.names, rule.domains, strict=True)):
        if domain.low == domain.high:
            domains[name] = range(domain.low, domain.low + 1)  # nobody saw another value accepted
        elif place < rule.dimensions:
            domains[name] = range(0 if zero and domain.zero else 1, max(limits.size, domain.low) + 1)
        else:
            low, high = max(domain.low, -limits.attribute), min(domain.high, limits.attribute)
            domains[name] = range(low, high + 1) if low <= high else range(domain.low, domain.low + 1)
    constraints: list[Expr] = [given.expr for given in rule.preconditions]
    constraints += rule.assumed
    elements = Const(limits.elements)
    for number, rank in enumerate(rule.variant.ranks):
        names = [f"in[{number}].shape[{axis}]" for axis in range(rank)]
        if rank > 1 and not given.issuperset(names):
            constraints.append(Apply("<=", (multiply(*map(Symbol, names)), elements)))
    if len(rule.cases) == 1:
        for result in rule.cases[0].results:
            sizes = () if result is None else result.shape.sizes
            known = [size for size in sizes if size is not None]
            # What is an operand's size is within the limits already.
            if len(known) == len(sizes) and any(not isinstance(size, Symbol | Const) for size in known):
                constraints += [Apply("<=", (Const(0), size)) for size in known if not isinstance(size, Symbol | Const)]
                constraints.append(Apply("<=", (multiply(*known), elements)))
    usual: dict[str, tuple[int, ...]] = {}
    for first, rank in zip(rule.places, rule.variant.ranks, strict=True):
        likely = limits.usual[min(rank, len(limits.usual) - 1)] if limits.usual else ()
        usual |= dict.fromkeys(rule.names[first : first + rank], likely)
    return _prepared(tuple(domains.items()), tuple(constraints), given, tuple(usual.items()))


@functools.lru_cache(1 << 15)
def _prepared(
    domains: tuple[tuple[str, range], ...],
    constraints: tuple[Expr, ...],
    given: frozenset[str],
    usual: tuple[tuple[str, tuple[int, ...]], ...],
) -> Solver:
    """The solver: the same for an operator, its method, its alias, and for many that ask for nothing."""
    return Solver(dict(domains), constraints, given, dict(usual))


def propose(
    rule: Rule,
    choices: Choices,
    available: Sequence[TensorType],
    limits: Limits = Limits(),
) -> Proposal | None:
    """A call that the rule accepts, or None where none was found.

    Args:
        rule: the rule.
        choices: makes every decision.
        available: types of the values at hand.
        limits: how large the call may be.

    Returns:
        Arguments, keyword arguments, and the types of fresh operands. ``Ref(i)`` is the i-th value at hand; beyond
        them, the fresh operands in order.
    """
    chosen: dict[int, int] = {}
    ranks = rule.variant.ranks
    if ranks and available and choices.boolean(limits.reuse):
        place = choices.integer(0, len(ranks) - 1)
        allowed = rule.dtypes.allowed(place)
        fitting = [
            k for k, type_ in enumerate(available) if len(type_.shape) == ranks[place] and type_.dtype in allowed
        ]
        if fitting:
            chosen[place] = choices.pick(fitting)
    given = {place: available[value].shape for place, value in chosen.items()}
    values = assign(rule, choices, given, limits, choices.boolean(limits.zero))
    dtypes = rule.dtypes.draw(choices, {place: available[value].dtype for place, value in chosen.items()})
    if values is None or dtypes is None:
        return None
    types = []
    for place, (rank, first) in enumerate(zip(ranks, rule.places, strict=True)):
        types.append(TensorType(dtypes[place], tuple(values[first : first + rank])))
    fresh: list[TensorType] = []
    numbers: list[int] = []
    for place, type_ in enumerate(types):
        same = [k for k, other in enumerate(available) if other == type_] if place not in chosen else []
        if place in chosen:
            numbers.append(chosen[place])
        elif same and choices.boolean(limits.reuse):
            numbers.append(choices.pick(same))
        else:
            numbers.append(len(available) + len(fresh))
            fresh.append(type_)
    other = {name: choices.pick(pool) for name, pool in rule.pools if pool}
    args, kwargs = rule.arguments(dict(zip(rule.names, values, strict=True)), other)
    bound = tuple([renumbered(arg, numbers) for arg in args])
    return bound, tuple([(key, renumbered(arg, numbers)) for key, arg in kwargs]), tuple(fresh)
