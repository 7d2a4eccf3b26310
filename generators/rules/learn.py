"""From traces to rules, one variant at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shakeout.corpus.program import Arg, Form, TensorType
from shakeout.generators.rules.dtypes import learn_accepted, learn_result
from shakeout.generators.rules.expressions import Apply, Expr, Mask, all_of
from shakeout.generators.rules.preconditions import assumed_equalities, learn_preconditions
from shakeout.generators.rules.rule import Domain, Rule, RuleCase, RuleResult
from shakeout.generators.rules.shapes import Grounds, Shape, features, learn_shape
from shakeout.generators.rules.synthesise import Effort
from shakeout.generators.rules.table import Table, tabulate
from shakeout.generators.rules.trace import Trace, Variant, attributes, inexact, variant_of

__all__ = ["EFFORT", "FEWEST", "Learnt", "by_variant", "learn"]

#: Accepted calls without which nothing is learnt.
FEWEST = 4
#: Numbers that may be evaluated for one variant; some tenths of a second.
EFFORT = 24_000_000
#: Cases of one rule; an operator with more of them is not understood.
MOST_CASES = 12
#: Values that are kept of an attribute that is no integer, and results of which each has a type of its own.
MOST_POOLED, MOST_RESULTS = 8, 32


@dataclass(frozen=True, slots=True)
class Learnt:
    """What came of the traces of one variant.

    Attributes:
        variant: which.
        rule: the rule, None where there is none.
        notes: why not, or what was odd, in words.
    """

    variant: Variant
    rule: Rule | None
    notes: tuple[str, ...] = ()


def by_variant(traces: Iterable[Trace]) -> dict[Variant, list[Trace]]:
    """Traces by the variant that they belong to, in order of appearance."""
    groups: dict[Variant, list[Trace]] = {}
    for trace in traces:
        groups.setdefault(variant_of(trace), []).append(trace)
    return groups


def learn(traces: Sequence[Trace], effort: int = EFFORT) -> Learnt:
    """The rule of one variant.

    Args:
        traces: calls of one variant, accepted and rejected ones.
        effort: numbers that may be evaluated. The same traces and effort give the same rule on every machine.

    Raises:
        ValueError: there are no traces, or of several variants.
    """
    table = tabulate(traces)
    good = int(table.valid.sum())
    if good < FEWEST:
        return Learnt(
            table.variant, None, (*table.notes, f"{good} accepted calls, of which {FEWEST} are needed at least")
        )
    rule = _fitted(table, Effort(effort))
    # Where a dimension is empty, operators skip checks, and such calls hide what all others have in common.
    full = table.where(~_empty(table))
    if rule.unexplained and good > int(full.valid.sum()) >= FEWEST:
        stricter = _fitted(full, Effort(effort))
        if 2 * stricter.unexplained <= rule.unexplained:
            rule = replace(stricter, notes=(*stricter.notes, "calls with an empty dimension are left out"))
    rule = replace(rule, valid=good, invalid=len(table) - good)
    return Learnt(table.variant, rule, rule.notes)


def _empty(table: Table) -> Mask:
    """Which calls have an operand with an empty dimension."""
    return np.array([any(0 in operand.shape for operand in trace.operands) for trace in table.traces], np.bool_)


def _fitted(table: Table, left: Effort) -> Rule:
    """The rule that records teach."""
    accepted = table.where(table.valid)
    dtypes = [tuple([operand.dtype for operand in trace.operands]) for trace in table.traces]
    allowed = learn_accepted([row for row, ok in zip(dtypes, table.valid, strict=True) if ok])
    # A call of dtypes that nobody accepted says nothing about shapes.
    typed = np.array([allowed.accepts(row) for row in dtypes], np.bool_)
    cases, notes = _cases(accepted, left)
    shapes = [result.shape.sizes for result in cases[0].results if result is not None] if len(cases) == 1 else []
    preconditions, unexplained = learn_preconditions(table.where(table.valid | typed), shapes, left)
    dimensions = sum(table.variant.ranks)
    domains = []
    for place, name in enumerate(table.names):
        column = accepted.columns[name]
        domains.append(Domain(int(column.min()), int(column.max()), place < dimensions and bool((column == 0).any())))
    known = {given.expr for given in preconditions}
    return Rule(
        variant=table.variant,
        names=table.names,
        domains=tuple(domains),
        preconditions=preconditions,
        assumed=tuple([expr for expr in assumed_equalities(accepted) if expr not in known]),
        dtypes=allowed,
        cases=cases,
        pools=_pools(accepted),
        valid=len(accepted),
        invalid=len(table) - len(accepted),
        unexplained=unexplained,
        sources=tuple(sorted({trace.source for trace in table.traces if trace.source})),
        notes=(*table.notes, *notes),
    )


def _pools(table: Table) -> tuple[tuple[str, tuple[Arg, ...]], ...]:
    names = sorted(name for name, _, kind in attributes(table.variant) if kind != "int")
    rows = [inexact(trace, table.variant) for trace in table.traces] if names else []
    pools: list[tuple[str, tuple[Arg, ...]]] = []
    for name in names:
        distinct = {repr(row[name]): row[name] for row in rows}
        pools.append((name, tuple(distinct.values())[:MOST_POOLED]))
    return tuple(pools)


# --- results ----------------------------------------------------------------------------------------------------------

#: What a case has in common: the form and the rank of each result.
_Look = tuple[Form, tuple[int | None, ...]]


def _look(trace: Trace) -> _Look:
    return trace.form, tuple([None if result is None else len(result.shape) for result in trace.results])


def _cases(table: Table, effort: Effort) -> tuple[tuple[RuleCase, ...], tuple[str, ...]]:
    """The cases of a rule, from accepted records."""
    looks = [_look(trace) for trace in table.traces]
    if len(set(looks)) == 1:
        return (_case(table, None, effort),), ()
    if max(len(results) for _, results in looks) > MOST_RESULTS:
        return (), (f"more than {MOST_RESULTS} results",)
    # Only what decides about the number and the ranks of results is a case of its own.
    numbers = {look: number for number, look in enumerate(dict.fromkeys(looks))}
    kinds = np.array([numbers[look] for look in looks])
    for tests in _splits(features(Grounds(table)), kinds):
        return tuple([_case(table.where(rows), guard, effort) for guard, rows in tests]), ()
    return (), (f"{len(numbers)} different numbers or ranks of results, and nothing that tells which comes when",)


def _splits(offered: Sequence[tuple[Expr, Mask]], kinds: np.ndarray) -> Iterator[list[tuple[Expr, Mask]]]:
    """Ways to tell the kinds apart by a few features, as guards with the records that they hold for."""
    informative = [(expr, mask) for expr, mask in offered if mask.any() and not mask.all()]
    singles = [one for one in informative if len(set(kinds[one[1]])) < len(set(kinds)) or _helps(one[1], kinds)]
    for count in (1, 2, 3):
        for chosen in itertools.islice(itertools.combinations(singles[:24], count), 2500):
            code = np.zeros(len(kinds), np.int64)
            for place, (_, mask) in enumerate(chosen):
                code += mask.astype(np.int64) << place
            seen = sorted(set(code.tolist()))
            if all(len(set(kinds[code == value])) == 1 for value in seen):
                yield [(_guard(chosen, value), code == value) for value in seen]
    # Each value of one or two attributes by itself.
    for count in (1, 2, 3):
        names: dict[str, list[tuple[Expr, Mask]]] = {}
        for expr, mask in informative:
            if isinstance(expr, Apply) and expr.op == "==":
                names.setdefault(repr(expr.args[0]), []).append((expr, mask))
        for groups in itertools.combinations(list(names.values())[:12], count):
            cells = [
                (all_of(*[expr for expr, _ in cell]), np.logical_and.reduce([mask for _, mask in cell]))
                for cell in itertools.product(*groups)
            ]
            cells = [(expr, mask) for expr, mask in cells if mask.any()]
            covered = np.logical_or.reduce([mask for _, mask in cells])
            if len(cells) <= MOST_CASES and covered.all() and all(len(set(kinds[mask])) == 1 for _, mask in cells):
                yield cells


def _helps(mask: Mask, kinds: np.ndarray) -> bool:
    """Whether the kinds are spread differently on both sides."""
    one = np.bincount(kinds[mask], minlength=kinds.max() + 1) / max(mask.sum(), 1)
    other = np.bincount(kinds[~mask], minlength=kinds.max() + 1) / max((~mask).sum(), 1)
    return bool(np.abs(one - other).max() > 0.05)


def _guard(chosen: Sequence[tuple[Expr, Mask]], value: int) -> Expr:
    parts = [expr if value >> place & 1 else _not(expr) for place, (expr, _) in enumerate(chosen)]
    return all_of(*parts)


def _not(expr: Expr) -> Expr:
    """The opposite of a relation."""
    assert isinstance(expr, Apply)
    one, other = expr.args
    if expr.op == "==":
        return Apply("!=", (one, other))
    return Apply("<", (other, one)) if expr.op == "<=" else Apply("<=", (other, one))


def _case(table: Table, guard: Expr | None, effort: Effort) -> RuleCase:
    """One case from records of equal look."""
    form, ranks = _look(table.traces[0])
    steady = table.where(~table.loose)
    grounds = Grounds(steady)
    results: list[RuleResult | None] = []
    known: dict[bytes, Shape] = {}
    for place, rank in enumerate(ranks):
        if rank is None:
            results.append(None)
            continue
        types = [_result_type(trace, place) for trace in table.traces]
        dtypes = [tuple([operand.dtype for operand in trace.operands]) for trace in table.traces]
        dtype = learn_result([(given, type_.dtype) for given, type_ in zip(dtypes, types, strict=True)], table.variant)
        if table.loose.any() or not len(steady):
            results.append(RuleResult(dtype, Shape((None,) * rank)))
            continue
        target = np.array([type_.shape for type_ in types], np.int64).reshape(len(types), rank).T
        key = target.tobytes()
        if key not in known:
            known[key] = learn_shape(grounds, target, effort)
        results.append(RuleResult(dtype, known[key]))
    return RuleCase(guard, form, tuple(results))


def _result_type(trace: Trace, place: int) -> TensorType:
    found = trace.results[place]
    assert found is not None
    return found
