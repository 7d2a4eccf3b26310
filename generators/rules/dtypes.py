"""Element types: which an operator takes together, and which its results have."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shakeout.generators.choices import Choices
from shakeout.generators.rules.trace import Kind, Variant

__all__ = ["Accepted", "ResultType", "learn_accepted", "learn_result", "promoted"]

#: The product of what each operand took is believed if that many times as many combinations were seen.
BELIEF = 4
_CATEGORIES = {"bool": 0, "uint": 1, "int": 1, "float": 2, "bfloat": 2, "complex": 3}
_COMPLEX = {"float16": "complex32", "float64": "complex128"}
_REAL = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The dtypes that the operands may have.

    Attributes:
        groups: operands that have one dtype, in groups.
        sets: for each group what its dtype may be.
        listed: the combinations, one dtype for each group, where not every product of the sets is accepted.
    """

    groups: tuple[tuple[int, ...], ...] = ()
    sets: tuple[tuple[str, ...], ...] = ()
    listed: tuple[tuple[str, ...], ...] = ()

    def accepts(self, dtypes: Sequence[str]) -> bool:
        """Whether operands of these dtypes are taken."""
        chosen = []
        for group, allowed in zip(self.groups, self.sets, strict=True):
            dtype = dtypes[group[0]]
            if dtype not in allowed or any(dtypes[number] != dtype for number in group[1:]):
                return False
            chosen.append(dtype)
        return not self.listed or tuple(chosen) in self.listed

    def allowed(self, number: int) -> tuple[str, ...]:
        """What one operand may have, whatever the others have."""
        return next((allowed for group, allowed in zip(self.groups, self.sets, strict=True) if number in group), ())

    def draw(self, choices: Choices, given: Mapping[int, str], alike: bool = False) -> tuple[str, ...] | None:
        """Dtypes for all operands, where some have theirs already; None where that is not accepted.

        Args:
            choices: decides.
            given: dtypes of operands.
            alike: of the other operands as many as may have one of those dtypes do.
        """
        wanted: list[str | None] = []
        for group, allowed in zip(self.groups, self.sets, strict=True):
            known = {given[number] for number in group if number in given}
            if len(known) > 1 or not known.issubset(allowed):
                return None
            wanted.append(known.pop() if known else None)
        if self.listed:
            fitting = _fitting(self.listed, tuple(wanted), alike)
            if not fitting:
                return None
            chosen = choices.pick(fitting)
        else:
            known = set(given.values()) if alike else set()
            chosen = tuple(
                [
                    want or choices.pick([dtype for dtype in allowed if dtype in known] or allowed)
                    for want, allowed in zip(wanted, self.sets, strict=True)
                ]
            )
        dtypes = {number: dtype for group, dtype in zip(self.groups, chosen, strict=True) for number in group}
        return tuple([dtypes[number] for number in range(len(dtypes))])

    def describe(self) -> str:
        """One line, ``in[0], in[1] agree: float32, float64``."""
        if self.listed:
            names = ", ".join(f"in[{group[0]}]" for group in self.groups)
            return f"{names}: " + " or ".join(f"({', '.join(combination)})" for combination in self.listed[:8])
        parts = []
        for group, allowed in zip(self.groups, self.sets, strict=True):
            names = ", ".join(f"in[{number}]" for number in group)
            parts.append(f"{names}{' agree' if len(group) > 1 else ''}: {', '.join(allowed)}")
        return "; ".join(parts)

    def to_json(self) -> list[Any]:
        """As plain JSON values."""
        return [self.groups, self.sets, self.listed]

    @staticmethod
    def from_json(row: Any) -> Accepted:
        """Read what ``to_json`` wrote; raises ValueError or TypeError."""
        groups, sets, listed = row
        found = Accepted(
            tuple([tuple(map(int, group)) for group in groups]),
            tuple([tuple(map(str, allowed)) for allowed in sets]),
            tuple([tuple(map(str, combination)) for combination in listed]),
        )
        if len(found.groups) != len(found.sets) or not all(found.groups):
            raise ValueError("each group of operands needs its dtypes")
        return found


@functools.lru_cache(1 << 14)
def _fitting(
    listed: tuple[tuple[str, ...], ...], wanted: tuple[str | None, ...], alike: bool
) -> tuple[tuple[str, ...], ...]:
    """Combinations of which some dtypes are fixed; ``alike``: those with most operands of these dtypes."""
    found = [one for one in listed if all(want in (None, have) for want, have in zip(wanted, one, strict=True))]
    if alike and found:
        counts = [sum(dtype in wanted for dtype in one) for one in found]
        found = [one for one, count in zip(found, counts, strict=True) if count == max(counts)]
    return tuple(found)


def learn_accepted(seen: Sequence[tuple[str, ...]]) -> Accepted:
    """What is accepted, from the dtypes of the operands of accepted calls."""
    if not seen or not seen[0]:
        return Accepted()
    combinations = dict.fromkeys(seen)
    groups: list[list[int]] = []
    for number in range(len(seen[0])):
        for group in groups:
            if all(dtypes[group[0]] == dtypes[number] for dtypes in combinations):
                group.append(number)
                break
        else:
            groups.append([number])
    reduced = sorted({tuple([dtypes[group[0]] for group in groups]) for dtypes in combinations})
    sets = tuple([tuple(sorted({dtypes[place] for dtypes in reduced})) for place in range(len(groups))])
    product = functools.reduce(lambda size, allowed: size * len(allowed), sets, 1)
    listed = () if product <= BELIEF * len(reduced) else tuple(reduced)
    return Accepted(tuple(map(tuple, groups)), sets, listed)


# --- results ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ResultType:
    """The dtype of a result.

    Attributes:
        kind: ``operand`` (as one operand), ``promoted`` (of all operands), ``scalar`` (the same with Python numbers
            among the arguments), ``real`` (of the promoted one), ``wide`` (promoted, whole numbers become the default
            float), ``sum`` (promoted, whole numbers become int64), ``fixed`` or ``listed``.
        operand: which operand.
        dtype: the fixed one.
        listed: pairs of the operands' dtypes and the result's.
    """

    kind: str
    operand: int = 0
    dtype: str = ""
    listed: tuple[tuple[tuple[str, ...], str], ...] = ()

    def of(self, dtypes: Sequence[str], variant: Variant) -> str | None:
        """The result's dtype, or None where it is not known."""
        match self.kind:
            case "operand":
                return dtypes[self.operand] if self.operand < len(dtypes) else None
            case "fixed":
                return self.dtype
            case "listed":
                return dict(self.listed).get(tuple(dtypes))
        common = promoted(dtypes, variant.ranks, _scalars(variant) if self.kind in ("scalar", "wide") else ())
        if common is None or self.kind in ("promoted", "scalar"):
            return common
        if self.kind == "real":
            return _REAL.get(common, common)
        whole = _category(common) < 2
        return common if not whole else "float32" if self.kind == "wide" else "int64"

    def describe(self) -> str:
        """In words."""
        return {
            "operand": f"as in[{self.operand}]",
            "fixed": self.dtype,
            "promoted": "the operands' common dtype",
            "scalar": "the common dtype of operands and numbers",
            "real": "real counterpart of the common dtype",
            "wide": "the common dtype, a float",
            "sum": "the common dtype, int64 for whole numbers",
        }.get(self.kind, "; ".join(f"{', '.join(given)} -> {made}" for given, made in self.listed[:6]))

    def to_json(self) -> list[Any]:
        """As plain JSON values."""
        return [self.kind, self.operand, self.dtype, self.listed]

    @staticmethod
    def from_json(row: Any) -> ResultType:
        """Read what ``to_json`` wrote; raises ValueError or TypeError."""
        kind, operand, dtype, listed = row
        if kind not in ("operand", "promoted", "scalar", "real", "wide", "sum", "fixed", "listed"):
            raise ValueError(f"no way to find a result's dtype: {kind!r}")
        pairs = tuple([(tuple(map(str, given)), str(made)) for given, made in listed])
        return ResultType(kind, int(operand), str(dtype), pairs)


def learn_result(seen: Sequence[tuple[tuple[str, ...], str]], variant: Variant) -> ResultType:
    """How a result's dtype follows from the operands', from pairs that were seen."""
    pairs = dict(seen)
    made = set(pairs.values())
    fixed = ResultType("fixed", dtype=next(iter(made)))
    if len(made) == 1 and (len(pairs) > 1 or not variant.ranks):
        return fixed
    candidates = [ResultType("operand", number) for number in range(len(variant.ranks))]
    candidates += [ResultType(kind) for kind in ("promoted", "real", "sum", "scalar", "wide")]
    for candidate in candidates:
        if all(candidate.of(given, variant) == dtype for given, dtype in seen):
            return candidate
    return fixed if len(made) == 1 else ResultType("listed", listed=tuple(sorted(pairs.items())))


def _scalars(variant: Variant) -> tuple[str, ...]:
    """The default dtype of each Python number among the arguments."""
    names = {"float": "float32", "complex": "complex64", "int": "int64", "True": "bool", "False": "bool"}
    kinds: tuple[Kind, ...] = (*variant.args, *(kind for _, kind in variant.kwargs))
    return tuple([names[kind] for kind in kinds if isinstance(kind, str) and kind in names])


def _category(dtype: str) -> int:
    return _CATEGORIES.get(dtype.split("_")[0].rstrip("0123456789"), 2)


def promoted(dtypes: Sequence[str], ranks: Sequence[int], scalars: Sequence[str] = ()) -> str | None:
    """The dtype that torch promotes operands to; None where it has none.

    Operands without dimensions, and Python numbers still less, count only if theirs is a higher category (boolean,
    whole, floating, complex), as in ``torch.result_type``.
    """
    tensors: str | None = None
    points: str | None = None
    for dtype, rank in zip(dtypes, ranks, strict=True):
        if rank:
            tensors = _joined(tensors, dtype)
        else:
            points = _joined(points, dtype)
    numbers: str | None = None
    for dtype in scalars:
        numbers = _joined(numbers, dtype)
    return _over(tensors, _over(points, numbers))


def _over(higher: str | None, lower: str | None) -> str | None:
    if higher is None or lower is None:
        return higher or lower
    above, below = _category(higher), _category(lower)
    if above == 3 or (above == 2 and below < 3) or (above == 1 and below < 2):
        return higher
    # A complex number takes the precision of the real operands that it meets.
    return _joined(higher, _COMPLEX.get(higher, lower) if above == 2 else lower)


@functools.cache
def _joined(one: str | None, other: str) -> str | None:
    if one is None or one == other:
        return other
    import torch

    try:
        return str(torch.promote_types(getattr(torch, one), getattr(torch, other))).removeprefix("torch.")
    except (RuntimeError, AttributeError, TypeError):
        return None
