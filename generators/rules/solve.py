"""Solves constraints over integers with small domains: propagation of bounds, then a bounded backtracking search.

As ConstrINT does for tile sizes, equalities, orders, divisibility and alternatives over sums and products are
propagated through their terms; here what propagation leaves open is searched for. Everything that hangs on the
constraints alone (order of the variables, how each is bounded by those before it and by the domains of those behind)
is worked out once, so that drawing a solution costs some tens of microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shakeout.generators.choices import Choices
from shakeout.generators.rules.expressions import (
    Apply,
    Const,
    Expr,
    Symbol,
    Undefined,
    add,
    all_of,
    compiled,
    mentioned,
    multiply,
)

__all__ = ["Solver", "interval", "isolated"]

#: Assignments that are tried before a draw gives up.
STEPS = 300
#: Domains larger than this are not looked through one by one when they are prepared.
SCANNED = 2048
_STRIDES = (7919, 104_729, 1_299_709)
_UNBOUNDED = 1 << 40
ZERO, ONE = Const(0), Const(1)

Interval = tuple[int, int]
Values = Sequence[int]


@dataclass(frozen=True, slots=True)
class _Stage:
    """How one variable is assigned, given those before it."""

    place: int
    check: Callable[[Values], tuple[int, ...]] | None
    exact: Callable[[Values], tuple[int, ...]] | None
    lows: Callable[[Values], tuple[int, ...]] | None
    highs: Callable[[Values], tuple[int, ...]] | None
    hints: tuple[int, ...]
    usual: tuple[int, ...]


class Solver:
    """Constraints over named variables, prepared for drawing solutions.

    Args:
        domains: for each variable its values: a range, or a sequence of distinct numbers.
        constraints: expressions that must be defined and not zero.
        given: variables that get their value with each draw.
        usual: for some variables the values that are tried first where nothing else says which.
    """

    def __init__(
        self,
        domains: Mapping[str, Sequence[int]],
        constraints: Sequence[Expr],
        given: frozenset[str] = frozenset(),
        usual: Mapping[str, Sequence[int]] = {},
    ) -> None:
        self.names = tuple(domains)
        self._places = {name: place for place, name in enumerate(self.names)}
        parts = [part for constraint in constraints for part in _conjuncts(constraint)]
        self.constraints = tuple(dict.fromkeys(parts))
        self.domains = _narrowed(domains, self.constraints, given)
        self._given = given
        self._usual = usual
        self._stages: list[_Stage] = []
        self._ground = self._compiled([part for part in self.constraints if mentioned(part) <= given])
        self._arrange()

    def _compiled(self, exprs: Sequence[Expr]) -> Callable[[Values], tuple[int, ...]] | None:
        return compiled((all_of(*exprs),), self.names) if exprs else None

    # --- preparing ---------------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        """Order the variables and compile how each is bounded."""
        left = [name for name in self.names if name not in self._given]
        known = set(self._given)
        pending = [(part, mentioned(part)) for part in self.constraints]
        bounds = _bounds(self.domains, self._given)
        while left:
            name = self._next(left, known, pending, bounds)
            left.remove(name)
            known.add(name)
            mine = [part for part, names in pending if name in names and names <= known]
            open_ = [part for part, names in pending if name in names and not names <= known]
            unknown = {other: bounds[other] for other in left if other in bounds}
            self._stages.append(self._stage(name, mine, open_, bounds, unknown))

    def _next(
        self,
        left: Sequence[str],
        known: set[str],
        pending: Sequence[tuple[Expr, frozenset[str]]],
        bounds: Mapping[str, Interval],
    ) -> str:
        """The next variable: one that an equality determines, else one that most constraints speak of."""
        best, score = left[0], -1.0
        for name in left:
            value = 0.0
            for part, names in pending:
                if name not in names:
                    continue
                if names - known == {name}:
                    exact = isolated(part, name, bounds)
                    value += 100 if exact is not None and exact[0] == "==" else 1
                value += 1 / (len(names) + 1)
            value -= 1e-4 * min(len(self.domains[name]), 1000)
            if value > score:
                best, score = name, value
        return best

    def _stage(
        self,
        name: str,
        mine: Sequence[Expr],
        open_: Sequence[Expr],
        known: Mapping[str, Interval],
        unknown: Mapping[str, Interval],
    ) -> _Stage:
        bounds: dict[str, list[Expr]] = {"==": [], "<=": [], ">=": []}
        hints: dict[int, None] = {}
        for part in mine:
            found = isolated(part, name, known)
            if found is not None:
                bounds[found[0]].append(found[1])
            else:
                hints.update(dict.fromkeys(self._places[other] for other in sorted(mentioned(part)) if other != name))
        for part in open_:
            found = isolated(part, name, known)
            if found is None:
                continue
            for relation, upper in (("<=", True), (">=", False)):
                if found[0] in ("==", relation):
                    relaxed = _relaxed(found[1], upper, known, unknown)
                    if relaxed is not None:
                        bounds[relation].append(relaxed)
        return _Stage(
            self._places[name],
            self._compiled(mine),
            self._each(bounds["=="][:1]),
            self._each(bounds[">="]),
            self._each(bounds["<="]),
            tuple(hints)[:4],
            tuple(self._usual.get(name, ())),
        )

    def _each(self, exprs: Sequence[Expr]) -> Callable[[Values], tuple[int, ...]] | None:
        return compiled(tuple(exprs), self.names) if exprs else None

    # --- solving -----------------------------------------------------------------------------------------------------

    def draw(self, choices: Choices, given: Mapping[str, int] | None = None, steps: int = STEPS) -> list[int] | None:
        """One solution, in the order of ``names``, or None if none was found within so many steps."""
        values = self._started(given or {})
        if values is None:
            return None
        budget = [steps]
        return values if self._search(0, values, choices, budget) else None

    def solutions(self, given: Mapping[str, int] | None = None) -> Iterator[tuple[int, ...]]:
        """Every solution."""
        values = self._started(given or {})
        if values is not None:
            yield from self._all(0, values)

    def _started(self, given: Mapping[str, int]) -> list[int] | None:
        if set(given) != self._given:
            raise ValueError(f"values are needed for {sorted(self._given)}, not for {sorted(given)}")
        values = [0] * len(self.names)
        for name, value in given.items():
            values[self._places[name]] = value
        return values if _true(self._ground, values) else None

    def _search(self, depth: int, values: list[int], choices: Choices, budget: list[int]) -> bool:
        stages = self._stages
        candidates: Sequence[int] = ()
        while depth < len(stages):
            stage = stages[depth]
            candidates = self._candidates(stage, values)
            if len(candidates) != 1:
                break
            # Nothing to choose, and nothing to come back to.
            values[stage.place] = candidates[0]
            budget[0] -= 1
            if budget[0] < 0 or not _true(stage.check, values):
                return False
            depth += 1
        else:
            return True
        for value in self._ordered(stage, candidates, values, choices) if candidates else ():
            budget[0] -= 1
            if budget[0] < 0:
                return False
            values[stage.place] = value
            if _true(stage.check, values) and self._search(depth + 1, values, choices, budget):
                return True
        return False

    def _all(self, depth: int, values: list[int]) -> Iterator[tuple[int, ...]]:
        if depth == len(self._stages):
            yield tuple(values)
            return
        stage = self._stages[depth]
        for value in self._candidates(stage, values):
            values[stage.place] = value
            if _true(stage.check, values):
                yield from self._all(depth + 1, values)

    def _candidates(self, stage: _Stage, values: list[int]) -> Sequence[int]:
        """What a variable may be; bounds that are undefined bound nothing."""
        domain = self.domains[self.names[stage.place]]
        if stage.exact is not None:
            try:
                value = stage.exact(values)[0]
            except Undefined:
                pass
            else:
                return (value,) if value in domain else ()
        if stage.lows is None and stage.highs is None:
            return domain
        if not domain:
            return ()
        low, high = domain[0], domain[-1]
        try:
            if stage.lows is not None:
                low = max(low, *stage.lows(values))
            if stage.highs is not None:
                high = min(high, *stage.highs(values))
        except Undefined:
            return domain
        if isinstance(domain, range):
            return range(low, high + 1)
        return [value for value in domain if low <= value <= high]

    def _ordered(self, stage: _Stage, candidates: Sequence[int], values: list[int], choices: Choices) -> Iterator[int]:
        """Two candidates or more in drawn order; values of related variables are likely ones."""
        count = len(candidates)
        if stage.usual and (first := choices.pick(stage.usual)) in candidates:
            start = candidates.index(first)
        else:
            start = choices.integer(0, count - 1)
        if not stage.hints:
            yield candidates[start]
        else:
            likely = dict.fromkeys([values[place] for place in stage.hints] + [1])
            if choices.boolean(0.3):
                yield candidates[start]
            for value in likely:
                if value in candidates:
                    yield value
        stride = next((step for step in _STRIDES if math.gcd(step, count) == 1), 1)
        for k in range(0 if stage.hints else 1, count):
            yield candidates[(start + k * stride) % count]


def _true(check: Callable[[Values], tuple[int, ...]] | None, values: Values) -> bool:
    try:
        return check is None or bool(check(values)[0])
    except Undefined:
        return False


def _conjuncts(expr: Expr) -> Iterator[Expr]:
    if isinstance(expr, Apply) and expr.op == "and":
        for arg in expr.args:
            yield from _conjuncts(arg)
    elif expr != ONE:
        yield expr


# --- one variable in terms of the others ------------------------------------------------------------------------------

_FLIPPED = {"==": "==", "<=": ">=", ">=": "<="}


def isolated(constraint: Expr, name: str, known: Mapping[str, Interval]) -> tuple[str, Expr] | None:
    """What a constraint says of one variable: ``==``, ``<=`` or ``>=`` an expression of the others.

    It is implied by the constraint wherever it is defined, but need not imply it. None where nothing was found.

    Args:
        constraint: a relation.
        name: the variable.
        known: bounds of variables.
    """
    if not isinstance(constraint, Apply) or constraint.op not in ("==", "<=", "<"):
        return None
    left, right = constraint.args
    within = [name in mentioned(side) for side in (left, right)]
    if within[0] == within[1]:
        return None
    side, other = (left, right) if within[0] else (right, left)
    relation = constraint.op
    if relation == "<":
        relation = "<="
        other = Apply("-", (other, ONE)) if within[0] else add(other, ONE)
    return _peeled(side, relation if within[0] else _FLIPPED[relation], other, name, known)


def _peeled(
    side: Expr, relation: str, other: Expr, name: str, known: Mapping[str, Interval]
) -> tuple[str, Expr] | None:
    """From ``side relation other``, where only ``side`` mentions the variable."""
    while not isinstance(side, Symbol):
        assert isinstance(side, Apply)
        inside = [arg for arg in side.args if name in mentioned(arg)]
        if len(inside) != 1:
            return None
        inner = inside[0]
        rest = [arg for arg in side.args if arg is not inner]
        if len(rest) != len(side.args) - 1:
            return None
        step = _undone(side, inner, rest, relation, other, known)
        if step is None:
            return None
        side, relation, other = step
    return relation, other


def _undone(
    side: Apply, inner: Expr, rest: list[Expr], relation: str, other: Expr, known: Mapping[str, Interval]
) -> tuple[Expr, str, Expr] | None:
    """One operation moved to the other side."""
    least = min(interval(arg, known)[0] for arg in rest)
    match side.op:
        case "+":
            return inner, relation, Apply("-", (other, add(*rest)))
        case "-" if inner is side.args[0]:
            return inner, relation, add(other, rest[0])
        case "-":
            return inner, _FLIPPED[relation], Apply("-", (rest[0], other))
        case "*" if relation == "==":
            return inner, relation, Apply("//", (other, multiply(*rest)))
        case "*" if least >= 0:  # a factor of 0 leaves the quotient undefined, which bounds nothing
            rounded = "//" if relation == "<=" else "ceil"
            return inner, relation, Apply(rounded, (other, multiply(*rest)))
        case "//" if inner is side.args[0] and least >= 1:
            product = multiply(other, rest[0])
            if relation == ">=":
                return inner, ">=", product
            if relation == "<=":
                return inner, "<=", Apply("-", (add(product, rest[0]), ONE))
        case "ceil" if inner is side.args[0] and least >= 1:
            product = multiply(other, rest[0])
            if relation == "<=":
                return inner, "<=", product
            if relation == ">=":
                return inner, ">=", add(Apply("-", (product, rest[0])), ONE)
        case "min" if relation == ">=":
            return inner, relation, other
        case "max" if relation == "<=":
            return inner, relation, other
    return None


def _relaxed(expr: Expr, upper: bool, known: Mapping[str, Interval], unknown: Mapping[str, Interval]) -> Expr | None:
    """A bound of an expression that is free of the variables that are not assigned yet; None where there is none."""
    if isinstance(expr, Const):
        return expr
    if isinstance(expr, Symbol):
        return Const(unknown[expr.name][upper]) if expr.name in unknown else expr
    if mentioned(expr).isdisjoint(unknown):
        return expr
    ways = [upper] * len(expr.args)
    match expr.op:
        case "-":
            ways[1] = not upper
        case "*" if all(interval(arg, known)[0] >= 0 for arg in expr.args):
            pass
        case "//" | "ceil" if interval(expr.args[1], known)[0] >= 1:
            # The quotient of what is negative moves the other way.
            if interval(expr.args[0], known)[0] < 0 and not mentioned(expr.args[1]).isdisjoint(unknown):
                return None
            ways[1] = not upper
        case "+" | "min" | "max":
            pass
        case _:
            return None
    args = [_relaxed(arg, way, known, unknown) for arg, way in zip(expr.args, ways, strict=True)]
    return Apply(expr.op, tuple([arg for arg in args if arg is not None])) if None not in args else None


# --- propagation before the search ------------------------------------------------------------------------------------


def interval(expr: Expr, known: Mapping[str, Interval]) -> Interval:
    """Bounds of an expression over variables within bounds; what is not known is unbounded."""
    if isinstance(expr, Const):
        return expr.value, expr.value
    if isinstance(expr, Symbol):
        return known.get(expr.name, (-_UNBOUNDED, _UNBOUNDED))
    args = [interval(arg, known) for arg in expr.args]
    match expr.op:
        case "+":
            return _clipped(sum(low for low, _ in args), sum(high for _, high in args))
        case "-":
            return _clipped(args[0][0] - args[1][1], args[0][1] - args[1][0])
        case "*":
            low, high = args[0]
            for other in args[1:]:
                corners = [a * b for a in (low, high) for b in other]
                low, high = min(corners), max(corners)
            return _clipped(low, high)
        case "//" | "ceil" if args[1][0] >= 1:
            corners = [a // b if expr.op == "//" else -(-a // b) for a in args[0] for b in args[1]]
            return min(corners), max(corners)
        case "%" if args[1][0] >= 1:
            return 0, args[1][1] - 1
        case "min":
            return min(low for low, _ in args), min(high for _, high in args)
        case "max":
            return max(low for low, _ in args), max(high for _, high in args)
        case "==" | "!=" | "<=" | "<" | "and" | "or" | "axis" | "distinct":
            return 0, 1
        case "if":
            return min(args[1][0], args[2][0]), max(args[1][1], args[2][1])
        case "at" | "broadcast":
            items = args[1:] if expr.op == "at" else args
            return min(low for low, _ in items), max(high for _, high in items)
    return -_UNBOUNDED, _UNBOUNDED


def _bounds(domains: Mapping[str, Sequence[int]], given: frozenset[str]) -> dict[str, Interval]:
    """Least and greatest value of each variable that is not given."""
    return {name: (domain[0], domain[-1]) for name, domain in domains.items() if len(domain) and name not in given}


def _clipped(low: int, high: int) -> Interval:
    return max(low, -_UNBOUNDED), min(high, _UNBOUNDED)


def _narrowed(
    domains: Mapping[str, Sequence[int]], constraints: Sequence[Expr], given: frozenset[str]
) -> dict[str, Sequence[int]]:
    """Domains without values that a constraint rules out, whatever the other variables are."""
    found: dict[str, Sequence[int]] = {
        name: domain if isinstance(domain, range) and domain.step == 1 else tuple(sorted(domain))
        for name, domain in domains.items()
    }
    unary: dict[str, list[Expr]] = {}
    for part in constraints:
        names = mentioned(part)
        if len(names) == 1 and not names & given:
            unary.setdefault(next(iter(names)), []).append(part)
    for name, parts in unary.items():
        if len(found[name]) <= SCANNED:
            check = compiled((all_of(*parts),), (name,))
            kept = [value for value in found[name] if _true(check, (value,))]
            found[name] = _compact(kept)
    for _ in range(4):
        known = _bounds(found, given)
        before = {name: len(domain) for name, domain in found.items()}
        for part in constraints:
            for name in sorted(mentioned(part)):
                if name in given or name not in known:
                    continue
                bound = isolated(part, name, known)
                if bound is None:
                    continue
                low, high = interval(bound[1], known)
                if bound[0] == "<=":
                    low = -_UNBOUNDED
                elif bound[0] == ">=":
                    high = _UNBOUNDED
                if _never_undefined(bound[1], known):
                    found[name] = _cut(found[name], low, high)
        if before == {name: len(domain) for name, domain in found.items()}:
            break
    return found


def _never_undefined(expr: Expr, known: Mapping[str, Interval]) -> bool:
    """Whether an expression has a value for all values of its variables."""
    if not isinstance(expr, Apply):
        return True
    if expr.op in ("//", "%", "ceil") and interval(expr.args[1], known)[0] < 1:
        return False
    if expr.op in ("at", "broadcast", "kept"):
        return False
    return all(_never_undefined(arg, known) for arg in expr.args)


def _compact(values: list[int]) -> Sequence[int]:
    if values and values[-1] - values[0] + 1 == len(values):
        return range(values[0], values[-1] + 1)
    return tuple(values)


def _cut(domain: Sequence[int], low: int, high: int) -> Sequence[int]:
    if not domain or (domain[0] >= low and domain[-1] <= high):
        return domain
    if isinstance(domain, range):
        return range(max(domain[0], low), min(domain[-1], high) + 1)
    return tuple([value for value in domain if low <= value <= high])
