"""What drawn programs are drawn from, the simplest first: operators, ways to call each, dtypes, sizes and chances."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shakeout.corpus.program import Arg
from shakeout.generators.growth_config import GrowthConfig
from shakeout.generators.values import DTYPES
from shakeout.generators.vocabularies.records import Record
from shakeout.generators.vocabularies.torch import Vocabulary, load_records

__all__ = ["ODD", "Plan", "ValuesKind", "check", "operators_of_torch", "planned"]

ValuesKind = Literal["integers", "uniform", "special"]

#: How often a tensor does not lie row-major in memory.
ODD = 0.25


@dataclass(frozen=True, eq=False)
class Plan:
    """What programs are drawn from, the simplest first.

    Attributes:
        vocabulary: name of it.
        operators: that may be called.
        records: the ways to call each.
        anchor: one that every program calls first; None for none.
        foreign: dtypes that are left out.
        least: calls, at least.
        most: calls, at most.
        values: kinds of inputs.
        config: how calls are drawn.
        odd: how often an input does not lie row-major in memory.
    """

    vocabulary: str
    operators: tuple[str, ...]
    records: Callable[[str], tuple[Record, ...]]
    anchor: str | None
    foreign: frozenset[str]
    least: int
    most: int
    values: tuple[ValuesKind, ...]
    config: GrowthConfig
    odd: float


def planned(
    vocabulary: Vocabulary,
    *,
    operators: Collection[str] | None = None,
    avoid: Collection[str] = (),
    dtypes: Collection[str] | None = None,
    least: int = 1,
    most: int = 5,
    values: Sequence[ValuesKind] = ("integers", "uniform"),
    layouts: bool = True,
    writes: bool = True,
    training: bool = False,
    anchor: str | None = None,
) -> Plan:
    """What programs are drawn from.

    Raises:
        ValueError: there is no such operator, dtype or kind of values, or no such number of calls.
    """
    known = vocabulary.operators
    for name in operators or ():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1) or [f"torch.{name}"] * (f"torch.{name}" in known)
            meant = f"; did you mean {close[0]!r}?" if close else "; see: shakeout operators"
            raise ValueError(f"there is no operator {name!r} that programs are grown of{meant}")
    check(dtypes or (), values)
    if not 1 <= least <= most <= 100:
        raise ValueError(f"expected 1 to 100 calls, the least number first, found {least} and {most}")
    chosen = frozenset(known if operators is None else operators) - frozenset(avoid)
    if not writes:
        chosen = frozenset(name for name in chosen if any(not record.mutates for record in vocabulary.records(name)))
    if not chosen or not values or (dtypes is not None and not dtypes):
        raise ValueError("nothing is left that a program could be grown of")

    @functools.cache
    def records(operator: str) -> tuple[Record, ...]:
        of = [record for record in vocabulary.records(operator) if writes or not record.mutates]
        return tuple(sorted(of, key=_weight))

    return Plan(
        vocabulary=vocabulary.name,
        operators=_ordered(chosen, vocabulary),
        records=records,
        anchor=anchor,
        foreign=frozenset() if dtypes is None else frozenset(DTYPES) - frozenset(dtypes),
        least=least,
        most=most,
        values=tuple(values),
        config=GrowthConfig(reuse=0.5, mix=0.0, number=0.0, training=training, writes=writes),
        odd=ODD if layouts else 0.0,
    )


def _weight(record: Record) -> tuple[Any, ...]:
    """How much there is to a call: the fewer tensors, arguments and dimensions, the simpler."""
    arguments = sum(map(_leaves, record.args)) + sum(1 + _leaves(value) for _, value in record.kwargs)
    ranks = sum(slot.rank for slot in record.slots)
    fixed = sum(not free for free in record.free)
    return (not record.slots, len(record.slots), arguments, bool(record.mutates), fixed, ranks, sum(record.sizes))


def _leaves(arg: Arg) -> int:
    return sum(map(_leaves, arg)) if isinstance(arg, tuple) else 1


@functools.lru_cache(32)
def _ordered(operators: frozenset[str], vocabulary: Vocabulary) -> tuple[str, ...]:
    """Operators, the simplest first: functions of torch of one tensor and nothing else, for the usual dtypes."""

    def key(operator: str) -> tuple[Any, ...]:
        best = min(vocabulary.records(operator), key=_weight)
        odd = operator.startswith(("torch.Tensor.", "torch.ops."))
        return (*_weight(best)[:4], "float32" not in best.dtypes, not best.ranks, odd, operator.count("."), operator)

    return tuple(sorted(operators, key=key))


def check(dtypes: Collection[str], values: Collection[str]) -> None:
    """Raise ValueError for a dtype or a kind of values that there is not."""
    for name in dtypes:
        if name not in DTYPES:
            raise ValueError(f"there is no dtype {name!r}; there are {', '.join(DTYPES)}")
    for kind in values:
        if kind not in ("integers", "uniform", "special"):
            raise ValueError(f"values: expected integers, uniform or special, found {kind!r}")


@functools.cache
def operators_of_torch() -> Vocabulary:
    """The operators of the installed torch as its own samples call them; read once."""
    return load_records().recorded()
