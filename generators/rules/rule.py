"""Rules: what was learnt about one variant of an operator, to judge calls by and to predict their results."""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shakeout.corpus.codec import arg_from_json, arg_to_json
from shakeout.corpus.program import Arg, Form, Name, Ref, Slice, TensorType
from shakeout.generators.rules.dtypes import Accepted, ResultType
from shakeout.generators.rules.expressions import (
    Expr,
    Undefined,
    compiled,
    expr_from_json,
    expr_to_json,
    mentioned,
    text,
)
from shakeout.generators.rules.preconditions import Precondition
from shakeout.generators.rules.shapes import Shape
from shakeout.generators.rules.trace import Kind, Trace, Variant, attributes, symbols, variant_of

__all__ = ["PARTS", "Domain", "Rule", "RuleCase", "RuleResult"]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The type of one result."""

    dtype: ResultType
    shape: Shape


@dataclass(frozen=True, slots=True)
class RuleCase:
    """What a call gives where ``guard`` holds; a rule's cases are asked in order, and no guard holds always.

    Attributes:
        guard: true where this case applies, None for always.
        form: of the results.
        results: type of each, None where a position holds no tensor.
    """

    guard: Expr | None
    form: Form
    results: tuple[RuleResult | None, ...]


@dataclass(frozen=True, slots=True)
class Domain:
    """Values of a symbol in accepted records.

    Attributes:
        low: the least.
        high: the greatest.
        zero: for a dimension, whether a size of zero was accepted.
    """

    low: int
    high: int
    zero: bool = False


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        variant: what it is about.
        names: the symbols, dimensions first.
        domains: for each symbol which values were accepted.
        preconditions: what an accepted call fulfils.
        assumed: what every accepted record fulfilled with nothing to show that it has to; proposals keep to it.
        dtypes: which dtypes the operands may have.
        cases: results.
        pools: for each attribute that is no integer the values that were accepted.
        valid: accepted records that it was learnt from.
        invalid: rejected ones, without those that values explain.
        unexplained: rejected records that fulfil all preconditions.
        sources: where the records come from.
        notes: what was odd about the records.
        precision: share of fresh calls drawn from the rule that were accepted with the predicted types, or None.
        completeness: share of accepted calls that were held out and that the rule accepts, or None.
    """

    variant: Variant
    names: tuple[str, ...]
    domains: tuple[Domain, ...]
    preconditions: tuple[Precondition, ...]
    assumed: tuple[Expr, ...]
    dtypes: Accepted
    cases: tuple[RuleCase, ...]
    pools: tuple[tuple[str, tuple[Arg, ...]], ...] = ()
    valid: int = 0
    invalid: int = 0
    unexplained: int = 0
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    precision: float | None = None
    completeness: float | None = None

    def __post_init__(self) -> None:
        known = set(self.names)
        exprs = [*self.assumed, *(given.expr for given in self.preconditions)]
        for case in self.cases:
            exprs += [case.guard] if case.guard is not None else []
            for result in case.results:
                exprs += [size for size in result.shape.sizes if size is not None] if result is not None else []
        for expr in exprs:
            if unknown := mentioned(expr) - known:
                raise ValueError(f"the rule of {self.variant} speaks of {sorted(unknown)[0]}, which it does not have")
        if len(self.names) != len(self.domains) or len(known) != len(self.names):
            raise ValueError(f"the rule of {self.variant} needs one domain for each of its symbols")
        if self.names != (expected := _names(self.variant)):
            raise ValueError(f"the symbols of {self.variant} are {', '.join(expected)}")

    # --- judging ---------------------------------------------------------------------------------------------------

    @property
    def precise(self) -> bool:
        """Whether it explains every record and tells every result."""
        return self.unexplained == 0 and self.predicts

    @property
    def predicts(self) -> bool:
        """Whether it tells the type of every result."""
        return bool(self.cases) and all(
            result is None or None not in result.shape.sizes for case in self.cases for result in case.results
        )

    @functools.cached_property
    def dimensions(self) -> int:
        """How many of the symbols are dimensions of operands; they come first."""
        return sum(self.variant.ranks)

    @functools.cached_property
    def places(self) -> tuple[int, ...]:
        """Where the dimensions of each operand begin among the symbols."""
        return tuple(itertools.accumulate((0, *self.variant.ranks[:-1]))) if self.variant.ranks else ()

    @functools.cached_property
    def solvers(self) -> dict[Any, Any]:
        """What was prepared for drawing calls from it, by what was known of them; not part of its value."""
        return {}

    @functools.cached_property
    def _paths(self) -> dict[tuple[int | str, ...], str]:
        """The attribute at each path."""
        return {path: name for name, path, _ in attributes(self.variant)}

    @functools.cached_property
    def _constants(self) -> tuple[tuple[Arg, ...], tuple[tuple[str, Arg], ...]]:
        """The arguments of every call, where there is no attribute."""
        return self._arguments({}, {})

    @functools.cached_property
    def _first(self) -> dict[str, Arg]:
        """The first accepted value of each attribute that is no integer."""
        return {name: pool[0] for name, pool in self.pools if pool}

    @functools.cached_property
    def _accepted(self) -> Callable[[Sequence[int]], tuple[int, ...]]:
        return compiled(tuple([given.expr for given in self.preconditions]), self.names)

    @functools.cached_property
    def _guards(self) -> Callable[[Sequence[int]], tuple[int, ...]]:
        guards = tuple([case.guard for case in self.cases if case.guard is not None])
        return compiled(guards, self.names)

    @functools.cached_property
    def _nonzero(self) -> tuple[int, ...]:
        """Dimensions that were never seen to be empty."""
        return tuple([place for place in range(self.dimensions) if not self.domains[place].zero])

    def accepts(self, call: Trace) -> bool:
        """Whether it takes a call; what the call gave, or whether it was accepted, is not looked at."""
        if variant_of(call) != self.variant:
            return False
        return self.dtypes.accepts([operand.dtype for operand in call.operands]) and self.takes(
            list(symbols(call, self.variant).values())
        )

    def takes(self, values: Sequence[int]) -> bool:
        """Whether symbols of these values, in the order of ``names``, fulfil the preconditions.

        An empty dimension is taken only where one was seen: rules of sizes are often wrong there.
        """
        if any(values[place] == 0 for place in self._nonzero):
            return False
        try:
            return all(self._accepted(values)) and (not self.cases or self.case(values) is not None)
        except (Undefined, OverflowError):
            return False

    def case(self, values: Sequence[int]) -> RuleCase | None:
        """The case that applies to symbols of these values."""
        if self.cases and self.cases[0].guard is None:
            return self.cases[0]
        try:
            truths = iter(self._guards(values))
        except Undefined:
            return None
        return next((case for case in self.cases if case.guard is None or next(truths)), None)

    def predict(self, call: Trace) -> tuple[TensorType | None, ...] | None:
        """The type of each result of a call of the rule's variant; None where the rule cannot tell."""
        values = list(symbols(call, self.variant).values())
        case = self.case(values)
        if case is None:
            return None
        dtypes = [operand.dtype for operand in call.operands]
        found: list[TensorType | None] = []
        for result in case.results:
            if result is None:
                found.append(None)
                continue
            dtype = result.dtype.of(dtypes, self.variant)
            shape = self.sizes(result, values)
            if dtype is None or shape is None or any(size < 0 for size in shape):
                return None
            found.append(TensorType(dtype, shape))
        return tuple(found)

    def sizes(self, result: RuleResult, values: Sequence[int]) -> tuple[int, ...] | None:
        """The shape of a result for symbols of these values, None where it is not known."""
        sizes = [size for size in result.shape.sizes if size is not None]
        if len(sizes) < len(result.shape.sizes):
            return None
        try:
            return compiled(tuple(sizes), self.names)(values)
        except (Undefined, OverflowError):
            return None

    # --- arguments -------------------------------------------------------------------------------------------------

    def arguments(
        self, values: Mapping[str, int], other: Mapping[str, Arg]
    ) -> tuple[tuple[Arg, ...], tuple[tuple[str, Arg], ...]]:
        """The arguments of a call; ``Ref(i)`` stands for operand ``i``.

        Args:
            values: for each integer attribute its value.
            other: for each further attribute its value; of those that are missing the first that was accepted.
        """
        if not self._paths:
            return self._constants
        return self._arguments(values, other)

    def _arguments(
        self, values: Mapping[str, int], other: Mapping[str, Arg]
    ) -> tuple[tuple[Arg, ...], tuple[tuple[str, Arg], ...]]:
        pools = self._first
        given = self._paths

        def build(kind: Kind, path: tuple[int | str, ...]) -> Arg:
            if isinstance(kind, tuple):
                items = tuple([build(item, (*path, place)) for place, item in enumerate(kind[1:])])
                return Slice(*items) if kind[0] == "slice" else items
            name = given.get(path)
            if name is None:
                return _constant(kind)
            if kind == "int":
                return values[name]
            return other.get(name, pools.get(name, 0.0))

        args = tuple([build(kind, (place,)) for place, kind in enumerate(self.variant.args)])
        return args, tuple([(key, build(kind, (key,))) for key, kind in self.variant.kwargs])

    # --- as text ---------------------------------------------------------------------------------------------------

    def describe(self) -> tuple[str, ...]:
        """The rule in lines for a person."""
        lines = [str(self.variant)]
        if self.variant.ranks:
            lines.append(f"  dtypes: {self.dtypes.describe()}")
        lines += [f"  needs: {given.describe()}" for given in self.preconditions]
        lines += [f"  assumes: {text(expr)}" for expr in self.assumed]
        for case in self.cases:
            indent = "  "
            if case.guard is not None:
                lines.append(f"  if {text(case.guard)}:")
                indent = "    "
            for number, result in enumerate(case.results):
                name = "out" if len(case.results) == 1 else f"out[{number}]"
                lines += [indent + line for line in _result_lines(name, result)]
            if not case.results:
                lines.append(f"{indent}no result")
        measured = f"  learnt from {self.valid} accepted and {self.invalid} rejected calls"
        if self.unexplained:
            measured += f", {self.unexplained} of which it does not explain"
        if self.precision is not None:
            measured += f"; precision {self.precision:.0%}"
        if self.completeness is not None:
            measured += f"; completeness {self.completeness:.0%}"
        lines.append(measured)
        empty = [name for name, domain in zip(self.names, self.domains, strict=True) if domain.zero]
        if self.dimensions:
            lines.append(f"  empty dimensions seen: {', '.join(empty) or 'none'}")
        return (*lines, *(f"  note: {note}" for note in self.notes))

    # --- as JSON ---------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "variant": self.variant.to_json(),
            "domains": [[domain.low, domain.high, int(domain.zero)] for domain in self.domains],
            "preconditions": [[expr_to_json(given.expr), given.label] for given in self.preconditions],
            "assumed": [expr_to_json(expr) for expr in self.assumed],
            "dtypes": self.dtypes.to_json(),
            "cases": [
                [
                    None if case.guard is None else expr_to_json(case.guard),
                    case.form,
                    [None if result is None else _result_json(result) for result in case.results],
                ]
                for case in self.cases
            ],
            "pools": {name: [arg_to_json(arg) for arg in pool] for name, pool in self.pools},
            "counts": [self.valid, self.invalid, self.unexplained],
            "sources": list(self.sources),
            "notes": list(self.notes),
            "precision": self.precision,
            "completeness": self.completeness,
        }

    @staticmethod
    def from_json(row: Any) -> Rule:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: it is no rule, or one that this version cannot read; the message says why.
        """
        try:
            parts = {key: read(row[key]) for key, read in PARTS.items()}
            return Rule.of(
                Variant.from_json(row["variant"]), row["counts"], row["precision"], row["completeness"], parts
            )
        except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as problem:
            raise ValueError(f"no rule ({type(problem).__name__}: {problem}): {repr(row)[:80]}") from None

    @staticmethod
    def of(variant: Variant, counts: Any, precision: Any, completeness: Any, parts: Mapping[str, Any]) -> Rule:
        """A rule of parts that ``PARTS`` read; raises ValueError or TypeError where they make none."""
        valid, invalid, unexplained = map(int, counts)
        return Rule(
            variant=variant,
            names=_names(variant),
            valid=valid,
            invalid=invalid,
            unexplained=unexplained,
            precision=_share(precision),
            completeness=_share(completeness),
            **parts,
        )


#: How each part of a rule that others may have in common with it is read.
PARTS: Mapping[str, Callable[[Any], Any]] = {
    "domains": lambda rows: tuple([Domain(int(low), int(high), bool(zero)) for low, high, zero in rows]),
    "preconditions": lambda rows: tuple([Precondition(expr_from_json(expr), str(label)) for expr, label in rows]),
    "assumed": lambda rows: tuple(map(expr_from_json, rows)),
    "dtypes": Accepted.from_json,
    "cases": lambda rows: tuple(map(_case, rows)),
    "pools": lambda rows: tuple(sorted((str(name), tuple(map(arg_from_json, pool))) for name, pool in rows.items())),
    "sources": lambda rows: tuple(map(str, rows)),
    "notes": lambda rows: tuple(map(str, rows)),
}


@functools.lru_cache(1 << 16)
def _names(variant: Variant) -> tuple[str, ...]:
    sizes = [f"in[{number}].shape[{axis}]" for number, rank in enumerate(variant.ranks) for axis in range(rank)]
    return tuple(sizes + [name for name, _, kind in attributes(variant) if kind == "int"])


def _share(value: Any) -> float | None:
    return None if value is None else float(value)


def _constant(kind: str) -> Arg:
    """The argument behind a kind that holds no number."""
    if kind.startswith("tensor "):
        return Ref(int(kind[7:]))
    if kind == "...":
        return ...
    if kind in ("None", "True", "False") or kind[:1] in ("'", '"'):
        constant: Arg = ast.literal_eval(kind)
        return constant
    return Name(kind)


def _result_lines(name: str, result: RuleResult | None) -> list[str]:
    if result is None:
        return [f"{name} is no tensor"]
    lines = [f"{name}.dtype: {result.dtype.describe()}"]
    if result.shape.label:
        return [*lines, f"{name}.shape: {result.shape.label}", *_edited_lines(result.shape)]
    for place, size in enumerate(result.shape.sizes):
        lines.append(f"{name}[{place}] = {text(size)}" if size is not None else f"{name}[{place}] is not known")
    return lines


def _edited_lines(shape: Shape) -> list[str]:
    """What a label leaves open: the size at the dimension that is another one."""
    if " except at " not in shape.label and " inserted at " not in shape.label:
        return []
    inner = {arg for size in shape.sizes for arg in getattr(size, "args", ())[1:2]}
    return [f"  there {text(size)}" for size in sorted(inner, key=text)[:2]]


def _result_json(result: RuleResult) -> list[Any]:
    sizes = [None if size is None else expr_to_json(size) for size in result.shape.sizes]
    return [result.dtype.to_json(), sizes, result.shape.label]


def _case(row: Any) -> RuleCase:
    guard, form, results = row
    if form not in ("tensor", "sequence", "none"):
        raise ValueError(f"a rule's form is tensor, sequence or none, not {form!r}")
    return RuleCase(
        None if guard is None else expr_from_json(guard), form, tuple([_result(result) for result in results])
    )


def _result(row: Any) -> RuleResult | None:
    if row is None:
        return None
    dtype, sizes, label = row
    exprs = tuple([None if size is None else expr_from_json(size) for size in sizes])
    return RuleResult(ResultType.from_json(dtype), Shape(exprs, str(label)))
