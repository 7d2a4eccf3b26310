"""How a failure grows: the smallest case with more elements, run a few times more.

The smallest case shows least. Where one element is all of them, an odd number and the last one too, a value that is
always wrong, wrong in the last element, or wrong for odd sizes looks the same. So its last dimensions are made larger
again, one size after the other, and what each shows becomes a part of the signature.
"""

from __future__ import annotations

from dataclasses import replace

from shakeout.corpus.case import Case, InputSet, contiguous
from shakeout.corpus.edit import with_inputs
from shakeout.fuzz.ground.failure import Failure, grown_alike
from shakeout.fuzz.minimise.edit import items_of
from shakeout.fuzz.minimise.predicate import Executor, Outcome
from shakeout.generators.validity import Requirements

__all__ = ["SIZES", "grown", "growth"]

#: An even number, an odd one, one more than a vector of sixteen has, and many that no vector divides.
SIZES = (2, 3, 17, 257)

#: A candidate has to have a meaning; its numbers may be anything.
REQUIREMENTS = Requirements(finite=False)

#: Oracles that compare element by element.
_ELEMENTWISE = ("value", "gradient", "mutation")

_WHERE = {"all": "all", "one element": "one", "a tail": "some", "some": "some"}

#: Inputs of more elements than this take longer than they tell.
MOST_ELEMENTS = 1 << 16


def grown(case: Case) -> dict[int, Case]:
    """The case with inputs whose last dimension has each size; scalars become vectors, and elements are repeated.

    Empty where inputs are no plain row-major tensors of their own, for then their layout is the point.
    """
    found = {}
    for size in SIZES:
        sets = [_grown(inputs, size) for inputs in case.input_sets]
        if case.program.inputs and all(made is not None for made in sets):
            found[size] = with_inputs(case, [made for made in sets if made is not None])
    return found


def growth(case: Case, failure: Failure, executor: Executor) -> str:
    """What the larger cases show, in one line: ``2 all, 3 all, 17 some, 257 some``.

    Args:
        case: the smallest one.
        failure: how it fails.
        executor: runs the larger ones.

    Returns:
        For each size which elements are wrong (``all``, ``one``, ``some``), ``none`` where it does not fail, ``other``
        where it fails otherwise; sizes that the reference rejects are left out. Empty for failures without elements.
    """
    if failure.oracle not in _ELEMENTWISE:
        return ""
    larger = grown(case)
    outcomes = executor(list(larger.values()), REQUIREMENTS) if larger else ()
    words = [(size, _word(outcome, failure)) for size, outcome in zip(larger, outcomes, strict=True)]
    return ", ".join(f"{size} {word}" for size, word in words if word)


def _word(outcome: Outcome, failure: Failure) -> str:
    if outcome.failure is None:
        return "none" if outcome.status == "compared" else ""
    if not grown_alike(outcome.failure, failure):
        return "other"
    assert outcome.result is not None
    assert outcome.result.failure is not None
    return _WHERE.get(str(outcome.result.failure.evidence.get("where", "")), "")


def _grown(inputs: InputSet, size: int) -> InputSet | None:
    storages, views = list(inputs.storages), []
    if inputs.shared():
        return None
    for view in inputs.views:
        storage = storages[view.storage]
        if storage.dtype != view.dtype or view.strides != contiguous(view.shape) or view.offset or not storage.size:
            return None
        shape = (*view.shape[:-1], size)
        items = items_of(storage)
        count = 1
        for extent in shape:
            count *= extent
        if count > MOST_ELEMENTS or len(items) < 1:
            return None
        values = replace(storage.values, kind="literal", items=tuple(items[i % len(items)] for i in range(count)))
        storages[view.storage] = replace(storage, size=count, values=values)
        views.append(replace(view, shape=shape, strides=contiguous(shape)))
    return InputSet(tuple(storages), tuple(views))
