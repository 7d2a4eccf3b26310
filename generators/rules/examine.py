"""Examines an operator: runs recorded calls again, and their neighbours, to see what it takes and what it rejects."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from shakeout.corpus.program import TensorType
from shakeout.generators.rules.augment import Place, integers, neighbours, resized, retyped
from shakeout.generators.rules.trace import Trace, Variant, structure_of, variant_of
from shakeout.generators.vocabularies.records import Record, Spread

__all__ = ["Budget", "Examined", "Execute", "call_of", "calls_of", "examine"]

#: Runs a call on operands whose values are spread so; None where nothing can be said about it.
Execute = Callable[[Trace, Sequence[Spread]], Trace | None]

#: What an index is filled with, so that shapes alone decide whether it is taken.
_FIRST = Spread("index", 0, 0)

#: Ranks at which all operands may have one shape, and shapes of theirs that broadcast; sizes differ where they can.
_SHAPES = ((), (5,), (3, 5), (2, 3, 5), (2, 4, 3, 5), (2, 3, 2, 4, 3))
_BROADCAST = (((3, 5), (5,)), ((3, 5), (3, 1)), ((3, 1), (1, 5)), ((5,), (3, 5)), ((2, 3, 5), (3, 1)), ((3, 5), ()))


@dataclass(frozen=True, slots=True)
class Budget:
    """How many calls are made.

    Attributes:
        variant: of one variant, beside those that were recorded.
        bases: recorded calls of a variant whose neighbours are tried.
        variants: of one operator; the ones with most recorded calls come first.
    """

    variant: int = 140
    bases: int = 3
    variants: int = 48


@dataclass(frozen=True, slots=True)
class Examined:
    """What an operator was seen to do.

    Attributes:
        operator: qualified name.
        traces: every call that was run, with what it gave.
        spreads: for each variant, the values that its operands were filled with.
        left_out: calls of which nothing could be said.
    """

    operator: str
    traces: tuple[Trace, ...]
    spreads: Mapping[Variant, tuple[Spread, ...]]
    left_out: int = 0


def calls_of(record: Record) -> list[Trace]:
    """The calls that a record stands for: at its dtypes, at the ranks that it may have, broadcast."""
    shapes = [record.shape(number) for number in range(len(record.slots))]
    dtypes = sorted(record.dtypes, key=lambda name: name != "float32") or ["float32"]
    found = [call_of(record, shapes, dtype) for dtype in dtypes]
    for rank, shape in enumerate(_SHAPES):
        if record.ranks >> rank & 1:
            found.append(call_of(record, [shape] * len(shapes), dtypes[0]))
    if record.broadcasts and len(shapes) == 2:
        found += [call_of(record, list(pair), dtypes[0]) for pair in _BROADCAST]
    return found


_REAL = {"complex64": "float32", "complex128": "float64", "complex32": "float16"}


def call_of(record: Record, shapes: Sequence[tuple[int, ...]], dtype: str) -> Trace:
    """A call as a record has it, on operands of these shapes."""
    names = {"T": dtype, "R": _REAL.get(dtype, dtype)}
    operands = tuple(
        TensorType(names.get(slot.dtype, slot.dtype), shape) for slot, shape in zip(record.slots, shapes, strict=True)
    )
    return Trace(record.operator, record.args, record.kwargs, operands, source="sample")


def examine(
    operator: str,
    traces: Iterable[Trace],
    records: Sequence[Record],
    execute: Execute,
    budget: Budget = Budget(),
) -> Examined:
    """Run what was recorded of an operator, and neighbours of what it took.

    Args:
        operator: qualified name.
        traces: calls of it that were heard; those that were rejected count as they are.
        records: of it.
        execute: runs a call.
        budget: how many calls are made.
    """
    groups: dict[Variant, list[Trace]] = {}
    rejected: list[Trace] = []
    seen: set[object] = set()
    for trace in itertools.chain(traces, (call for record in records for call in calls_of(record))):
        key = (repr((trace.args, trace.kwargs)), trace.operands)
        if trace.operator != operator or key in seen:
            continue
        seen.add(key)
        if not trace.accepted:
            rejected.append(trace)
        else:
            groups.setdefault(variant_of(trace), []).append(trace)
    known = _spreads(records)
    classes = _classes(records)
    spreads: dict[Variant, tuple[Spread, ...]] = {}
    found: list[Trace] = list(rejected)
    left_out = 0
    order = sorted(groups.items(), key=lambda item: -len(item[1]))[: budget.variants]
    for variant, calls in order:
        spread, ran = _filled(variant, calls, known, records, execute)
        spreads[variant] = spread
        took = [call for call in ran if call.accepted]
        fresh: list[Trace] = []
        for base in _varied(took, budget.bases):
            share = budget.variant // budget.bases
            ties = classes.get((repr((base.args, base.kwargs)), tuple(o.shape for o in base.operands)))
            if ties:
                fresh += resized(base, ties, share // 3)
            fresh += neighbours(base, share - min(len(fresh), share // 3))
        for base in _varied(took, 1):
            fresh += retyped(base)
        for call in fresh:
            key = (repr((call.args, call.kwargs)), call.operands)
            if key in seen:
                continue
            seen.add(key)
            done = execute(call, spread)
            if done is None:
                left_out += 1
            else:
                ran.append(done)
        found += ran
    return Examined(operator, tuple(found), spreads, left_out)


def _filled(
    variant: Variant,
    calls: Sequence[Trace],
    known: Mapping[tuple[object, ...], tuple[Spread, ...]],
    records: Sequence[Record],
    execute: Execute,
) -> tuple[tuple[Spread, ...], list[Trace]]:
    """The values with which most of the recorded calls are taken, and what became of them."""
    recorded = known.get(variant.structure) or _similar(variant, records)
    first = tuple(_FIRST if spread.kind == "index" else spread for spread in recorded)
    free = tuple(Spread("any") if spread.kind in ("any", "index") else spread for spread in recorded)
    best: tuple[tuple[Spread, ...], list[Trace]] = (recorded, [])
    for candidate in dict.fromkeys((first, recorded, free)):
        sample = calls[:6]
        done = [execute(call, candidate) for call in sample]
        took = [one for one in done if one is not None and one.accepted]
        if len(took) > len(best[1]):
            best = (candidate, took)
        if len(took) == len(sample):
            break
    spread, took = best
    if not took:
        return recorded, []
    rest = [execute(call, spread) for call in calls[6:]]
    # A call that was taken when it was recorded, and is not taken with these values, says nothing of shapes.
    return spread, [*took, *(one for one in rest if one is not None and one.accepted)]


def _spreads(records: Sequence[Record]) -> dict[tuple[object, ...], tuple[Spread, ...]]:
    found: dict[tuple[object, ...], tuple[Spread, ...]] = {}
    for record in records:
        found.setdefault(
            structure_of(record.args, record.kwargs, len(record.slots)), tuple(slot.spread for slot in record.slots)
        )
    return found


def _similar(variant: Variant, records: Sequence[Record]) -> tuple[Spread, ...]:
    """Spreads of another structure with as many operands."""
    for record in records:
        if len(record.slots) == len(variant.ranks):
            return tuple(slot.spread for slot in record.slots)
    return (Spread(),) * len(variant.ranks)


def _classes(records: Sequence[Record]) -> dict[tuple[object, ...], list[list[Place]]]:
    """For each recorded call, the dimensions that may change, by what must change together."""
    found: dict[tuple[object, ...], list[list[Place]]] = {}
    for record in records:
        places: dict[int, list[Place]] = {}
        for number, slot in enumerate(record.slots):
            for axis, label in enumerate(slot.classes):
                if record.free[label]:
                    places.setdefault(label, []).append(("size", (number, axis)))
        shapes = tuple(record.shape(number) for number in range(len(record.slots)))
        found[repr((record.args, record.kwargs)), shapes] = list(places.values())
    return found


def _varied(calls: Sequence[Trace], count: int) -> list[Trace]:
    """The calls that tell most: of floats, with sizes that differ from each other, from attributes, from 0 and 1."""

    def worth(call: Trace) -> tuple[bool, int, int]:
        values = list(integers(call).values())
        plain = not call.operands or call.operands[0].dtype == "float32"
        return (not plain, sum(value in (0, 1) for value in values), len(values) - len(set(values)))

    return sorted(calls, key=worth)[:count]
