"""Hypothesis strategies: programs and tensors that shrink to few calls and small shapes.

What is drawn is ordered by how simple it is: operators, the ways to call one, dtypes, sizes. A program is a list of
calls, and all of a call is one element of it, drawn at once, as bytes from which decisions are read: so Hypothesis
leaves out any call in one attempt, wherever it stands, and the others stay what they are. What a byte means hangs on
none before it, as far as that can be: a program keeps its dtype while its operator shrinks, and its sizes while a value
that it took becomes an input.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from shakeout.corpus import standalone
from shakeout.corpus.case import Case, Setting, Storage
from shakeout.corpus.vocabularies import kernel as words
from shakeout.generators.choices import Choices
from shakeout.generators.drawn import DrawnProgram
from shakeout.generators.finishing import finished
from shakeout.generators.growth import Growth
from shakeout.generators.growth_config import MAX_ELEMENTS
from shakeout.generators.hypothesis import reject, st
from shakeout.generators.plans import ODD, Plan, ValuesKind, check, operators_of_torch, planned
from shakeout.generators.recipe import Grown, Recipe
from shakeout.generators.values import DTYPES, InputSampler, fresh_layout, row_major, tensor_of
from shakeout.generators.vocabularies.records import Record, Spread

__all__ = ["HypothesisChoices", "grown", "programs", "tensors"]

T = TypeVar("T")

#: Fractions are multiples of its inverse. A number of few values is drawn evenly, and shrinks in few steps.
RESOLUTION = 128

#: Bytes that are drawn for each call; the rest of them means nothing, and what is missing is zero. Few calls of several
#: operands need more.
QUOTA = 24

#: How often a call takes what the program already holds, and how often an attribute of it is changed.
CONNECTED, CHANGED = 0.75, 0.2

#: How often the elements of a tensor are more than zeros and a few single ones.
FILLED = 0.8

#: Numbers that single elements of a tensor may be, beside those that a range gives.
_ELEMENTS = (0.0, 1.0, -1.0, 0.5, 2.0, math.nan, math.inf, -math.inf, -0.0)
_WHOLE = (0, 1, 2, 3)
#: Sizes of dimensions.
_LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33)


class HypothesisChoices(Choices):
    """Decisions of Hypothesis, which can change and repeat them."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high], which shrinks towards ``low``."""
        if low > high:
            raise ValueError(f"no whole number lies between {low} and {high}")
        return self._draw(_integers(low, high))

    def fraction(self) -> float:
        """A number in [0, 1)."""
        return self.integer(0, RESOLUTION - 1) / RESOLUTION


class _CallChoices(Choices):
    """Decisions of one call, a byte each, two where a byte is not enough.

    Also what is no decision takes its byte (``BytesChoices`` spares it): what comes behind would mean something else.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high]; a small byte is a small number."""
        if low > high:
            raise ValueError(f"no whole number lies between {low} and {high}")
        count = max((high - low).bit_length() + 7, 8) // 8
        read = self._data[self._place : self._place + count]
        self._place += count
        return low + int.from_bytes(read, "big") % (high - low + 1)

    def one_of_many(self, items: Sequence[T]) -> T:
        """One of the items; two bytes, however many there are."""
        return items[self.integer(0, (1 << 16) - 1) % len(items)]

    def fraction(self) -> float:
        """A number in [0, 1)."""
        return self.integer(0, RESOLUTION - 1) / RESOLUTION


class _Simplest(Choices):
    """Decides for what is simplest, and draws nothing."""

    def integer(self, low: int, high: int) -> int:
        """The lowest number."""
        return low


SIMPLEST = _Simplest()


@functools.lru_cache(4096)
def _integers(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


# --- programs ---------------------------------------------------------------------------------------------------------


def programs(
    *,
    operators: Collection[str] | None = None,
    dtypes: Collection[str] | None = None,
    min_calls: int = 1,
    max_calls: int = 5,
    values: Sequence[ValuesKind] = ("integers", "uniform"),
    layouts: bool = True,
    mutation: bool = True,
) -> st.SearchStrategy[DrawnProgram]:
    """Programs of PyTorch with inputs, valid and defined: eager PyTorch ran each while it was drawn.

    They shrink to the fewest calls, to the simplest operators and dtypes, and to shapes without dimensions or of ones.

    Args:
        operators: qualified names, ``torch.cumsum``, ``torch.nn.functional.conv2d``; None for all.
        dtypes: of inputs and results, ``float32``; None for all.
        min_calls: of operators.
        max_calls: of operators.
        values: of inputs: small ``integers``, ``uniform`` ones, and ``special`` ones with NaN, infinities and extremes.
        layouts: inputs may be transposed, expanded, padded or windows of something larger.
        mutation: operators may write to their operands.

    Raises:
        ValueError: there is no such operator, dtype or kind of values; told when the test begins.
    """
    # The operators are read when the test begins: a module of tests that is only imported does not wait for them.
    return st.deferred(
        lambda: grown(
            planned(
                operators_of_torch(),
                operators=operators,
                dtypes=dtypes,
                least=min_calls,
                most=max_calls,
                values=values,
                layouts=layouts,
                writes=mutation,
            )
        ).map(lambda one: DrawnProgram(Case(one.program, one.input_sets, Setting("eager", (), one.mode))))
    )


@st.composite
def grown(draw: st.DrawFn, plan: Plan) -> Grown:
    """What is grown by a plan."""
    choices = HypothesisChoices(draw)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = choices.pick(plan.values)
        growth = Growth(
            choices, InputSampler(choices, kind, plan.odd), replace(plan.config, special=kind == "special"),
            foreign=plan.foreign,
        )  # fmt: skip
        calls = draw(st.lists(_CALL, min_size=plan.least, max_size=plan.most))
        for number, data in enumerate(calls):
            _call(data, growth, plan, plan.anchor if number == 0 else None)
        growth.choices = growth.sampler.choices = SIMPLEST
        if len(growth.steps) < plan.least or plan.anchor not in (None, *(step.operator for step in growth.steps)):
            reject()
        return finished(growth, Recipe(dynamic=False, repeat=False), "small", plan.vocabulary)


_CALL = st.binary(min_size=QUOTA, max_size=QUOTA)


def _call(data: bytes, growth: Growth, plan: Plan, anchor: str | None) -> None:
    """One call more, of these decisions; none where eager PyTorch does not take it, even as it was recorded."""
    choices = _CallChoices(data)
    growth.choices = growth.sampler.choices = choices
    operator = choices.one_of_many(plan.operators)
    record = choices.one_of_many(plan.records(anchor or operator))
    wanted = choices.integer(0, len(_NAMES) - 1)
    # What takes a value that is there is simpler than what brings another input.
    connected, recent = not choices.boolean(1 - CONNECTED), choices.integer(0, 3)
    change = choices.boolean(CHANGED)
    rank = choices.integer(0, 4)
    sizes = [choices.pick(_LENGTHS) for _ in range(5)]
    empty, narrow = choices.integer(0, 47), choices.integer(0, 3)
    taken = _taken(growth, plan.records(record.operator), record, recent) if connected else None
    if taken is not None:
        placed = growth.place(taken[0], taken[1], taken[2], mutate=change)
    else:
        shapes = _shapes(record, rank, sizes, empty, narrow)
        placed = growth.place(record, _dtype(record, wanted, plan.foreign), mutate=change, sizes=shapes)
    if not placed:
        _as_recorded(growth, record, _dtype(record, wanted, plan.foreign))


_NAMES = tuple(DTYPES)


def _dtype(record: Record, number: int, foreign: frozenset[str]) -> str:
    """The first dtype from this number on that the record takes; a number means the same for every operator."""
    order = (*_NAMES[number:], *_NAMES[:number])
    return next((name for name in order if name in record.dtypes and name not in foreign), "float32")


def _shapes(record: Record, rank: int, sizes: Sequence[int], empty: int, narrow: int) -> list[tuple[int, ...]]:
    """A shape for each slot, where nothing is there yet.

    Args:
        record: the call.
        rank: of all operands, where the record takes any; the nearest that it takes.
        sizes: by dimension, or by size class.
        empty: from 1 to 4, which dimension has no element; it stands alone, so that it is found again in any rank.
        narrow: the last operand is broadcast, where it can be: 1 lacks the first dimension, 2 has sizes of one.
    """
    hollow = 1 <= empty <= 4
    if not record.ranks:
        free = [number for number, one in enumerate(record.free) if one]
        found = list(record.sizes)
        for place, number in enumerate(free):
            found[number] = 0 if hollow and place == (empty - 1) % len(free) else sizes[place % len(sizes)]
        shapes = [tuple(found[c] for c in slot.classes) for slot in record.slots]
    else:
        allowed = [r for r in range(len(sizes) + 1) if record.ranks >> r & 1]
        wanted = max(rank, int(hollow))
        rank = min(allowed, key=lambda r: (abs(r - wanted), r))
        shape = [0 if hollow and place == (empty - 1) % rank else size for place, size in enumerate(sizes[:rank])]
        shapes = [tuple(shape)] * len(record.slots)
        if record.broadcasts and len(shapes) > 1 and narrow in (1, 2):
            shapes[-1] = shapes[-1][1:] if narrow == 1 else (1,) * rank
    if any(math.prod(shape) > MAX_ELEMENTS for shape in shapes):
        return [record.shape(place) for place in range(len(record.slots))]
    return shapes


def _taken(
    growth: Growth, records: Sequence[Record], first: Record, recent: int
) -> tuple[Record, str, tuple[int, int]] | None:
    """How an operator takes one of the values that were made last, by this record of it or by another one."""
    usable = growth.usable()
    if not usable or words.traits(first.operator).plain:
        return None
    value = usable[-1 - recent % len(usable)]
    dtype, rank = growth.dtypes[value], len(growth.shapes[value])
    for record in (first, *records):
        for place, slot in enumerate(record.slots):
            if slot.spread.kind not in ("any", "index") or not (slot.rank == rank or record.ranks >> rank & 1):
                continue
            if dtype in (record.dtypes if slot.dtype == "T" else (slot.dtype,)):
                main = dtype if slot.dtype == "T" else next(iter(record.dtypes), "float32")
                return record, main, (value, place)
    return None


def _as_recorded(growth: Growth, record: Record, dtype: str) -> None:
    """The call with the sizes that it was recorded with, on plain inputs; nothing is drawn."""
    config, odd = growth.config, growth.sampler.odd
    growth.config = replace(config, reuse=0.0)
    growth.choices = growth.sampler.choices = SIMPLEST
    growth.sampler.odd = 0.0
    growth.place(record, dtype, sizes=[record.shape(place) for place in range(len(record.slots))])
    growth.config, growth.sampler.odd = config, odd


# --- tensors ----------------------------------------------------------------------------------------------------------


def tensors(
    *,
    shape: Sequence[int] | None = None,
    dtypes: Collection[str] = ("float32",),
    max_rank: int = 4,
    values: Sequence[ValuesKind] = ("integers", "uniform"),
    layouts: bool = True,
) -> st.SearchStrategy[torch.Tensor]:
    """Tensors on the CPU; they shrink to few dimensions, to sizes of one, to row-major memory, and to zeros.

    Args:
        shape: their sizes; None for any.
        dtypes: by name, the simplest first.
        max_rank: dimensions at most, where no shape is given.
        values: as of ``programs``; ``special`` has NaN, infinities and extremes among others.
        layouts: they may be transposed, expanded, padded or windows of something larger.

    Raises:
        ValueError: there is no such dtype, kind of values or shape.
    """
    names, kinds = tuple(dtypes), tuple(values)
    check(names, kinds)
    if not names or not kinds or max_rank < 0 or any(size < 0 for size in shape or ()):
        raise ValueError("expected a dtype, a kind of values, and sizes and dimensions that are not negative")
    fixed = None if shape is None else tuple(shape)
    return _tensors(fixed, names, max_rank, kinds, ODD if layouts else 0.0)


@st.composite
def _tensors(
    draw: st.DrawFn,
    shape: tuple[int, ...] | None,
    dtypes: tuple[str, ...],
    max_rank: int,
    kinds: tuple[ValuesKind, ...],
    odd: float,
) -> torch.Tensor:
    choices = HypothesisChoices(draw)
    dtype = choices.pick(dtypes)
    if shape is None:
        shape = tuple(draw(st.lists(st.sampled_from((*_LENGTHS, 0)), max_size=max_rank)))
        if math.prod(shape) > MAX_ELEMENTS:
            shape = tuple(min(size, 5) for size in shape)
    layout = fresh_layout(choices, shape) if choices.boolean(odd) else row_major(len(shape))
    strides, size = layout.place(shape)
    flat = draw(_elements(dtype, size, kinds))
    return standalone.strided(flat, DTYPES[dtype], shape, strides, layout.offset)


@st.composite
def _elements(draw: st.DrawFn, dtype: str, size: int, kinds: tuple[ValuesKind, ...]) -> torch.Tensor:
    """Zeros, or numbers of a range, and single elements that are drawn one by one."""
    choices = HypothesisChoices(draw)
    kind = choices.pick(kinds)
    flat = torch.zeros(size, dtype=DTYPES[dtype])
    if choices.boolean(FILLED):
        # Special ones are single elements, which shrink to the one that matters.
        sampler = InputSampler(choices, "uniform" if kind == "special" else kind, 0.0)
        flat = tensor_of(Storage(dtype, size, sampler.values(dtype, Spread(), size)))
    wide = DTYPES[dtype].is_floating_point or DTYPES[dtype].is_complex
    pool: tuple[float, ...] = _WHOLE
    if wide:
        pool = _ELEMENTS if kind == "special" else tuple(filter(math.isfinite, _ELEMENTS))
    for place, number in draw(st.lists(st.tuples(_integers(0, max(size - 1, 0)), st.sampled_from(pool)), max_size=3)):
        if size:
            flat[place] = bool(number) if dtype == "bool" else number
    return flat
