"""How wide a failure is: the calls of the smallest case on the inputs that an ordinary program would give them.

The smallest case hides that. A variance of one element that should be NaN and is 0 may be a variance that is wrong for
every input; a read of the last element of one may read outside of any tensor. So the same calls run on vectors that are
counted from 0, at default knobs, with the defaults of their arguments, and what happens is told, whatever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from shakeout.corpus.case import Case, InputSet, Storage, Values, View, contiguous
from shakeout.corpus.edit import with_inputs
from shakeout.corpus.evidence import Tried
from shakeout.corpus.setting import RANDOM
from shakeout.fuzz.ground.failure import Failure, remembered
from shakeout.fuzz.ground.randomness import may_draw
from shakeout.fuzz.ground.results import LOSSES
from shakeout.fuzz.ground.signature import what
from shakeout.fuzz.minimise.edit import items_of
from shakeout.fuzz.minimise.ordinary import as_element
from shakeout.fuzz.minimise.predicate import Executor, Outcome
from shakeout.generators.validity import Requirements
from shakeout.targets.registry import reference_called

__all__ = ["NOT_RUN", "Variant", "Widened", "variants", "widened"]

#: Elements in the last dimension. Eight fit a screen; 64 fill every vector register; four fill none of 256 bits.
SIZES = (8, 64, 4)

#: Inputs with more elements take longer than they tell.
MOST_ELEMENTS = 1 << 12

#: A candidate has to have a meaning; its numbers may be anything.
REQUIREMENTS = Requirements(finite=False)

#: Cases of these dtypes alone are tried in float32 first, in which most people compute.
_REAL_OR_BOOL = {"float64", "float16", "bfloat16", "complex64", "complex128", "bool"}

#: What is said of inputs of which nothing is known: the time was up, or the process says nothing of the target.
NOT_RUN = "not run"

#: Gives the numbers of an input: of its old storage, the new dtype, how many, and how many other inputs had before.
Fill = Callable[[Storage, str, int, int], tuple[object, ...]]

#: Oracles that compare what a run gives: on other inputs one cause may show in any of these ways.
_COMPARING = ("value", "gradient", "mutation", "metadata", "aliasing")


@dataclass(frozen=True, slots=True)
class Variant:
    """The calls of a case on other inputs, and which these are, in words."""

    what: str
    case: Case


@dataclass(frozen=True, slots=True)
class Widened:
    """What became of all variants.

    Attributes:
        tried: each in words, most ordinary first.
        variant: the first that fails for what may be the same cause; None if none does.
        outcome: of that one.
    """

    tried: tuple[Tried, ...]
    variant: Variant | None = None
    outcome: Outcome | None = None


def widened(case: Case, wanted: Failure, executor: Executor) -> Widened:
    """Run the calls of a case on ordinary inputs.

    Args:
        case: the smallest one that fails.
        wanted: how it fails.
        executor: runs the others.
    """
    found = list(variants(case))
    outcomes: Sequence[Outcome] = executor([one.case for one in found], REQUIREMENTS) if found else ()
    tried = tuple(
        Tried(one.what, _said(outcome, wanted, reference_called(case.program.vocabulary)))
        for one, outcome in zip(found, outcomes, strict=True)
    )
    for one, outcome in zip(found, outcomes, strict=True):
        if outcome.failure is not None and _may_be(outcome.failure, wanted):
            return Widened(tried, replace(one, case=outcome.case or one.case), outcome)
    return Widened(tried)


def variants(case: Case) -> Iterator[Variant]:
    """The calls of a case on ordinary inputs, most ordinary first; none that is the case itself."""
    seen = {case.id}
    for one in _variants(case):
        if one.case.id not in seen:
            seen.add(one.case.id)
            yield one


def _variants(case: Case) -> Iterator[Variant]:
    # Without this knob a compiler draws random numbers of its own, which nobody can compare with eager's.
    needed = tuple(pair for pair in case.setting.knobs if pair[0] == RANDOM and may_draw(case))
    others = case.setting.knobs != needed
    plain = replace(case, setting=replace(case.setting, knobs=needed))
    dtypes = [view.dtype for view in case.input_sets[0].views]
    own = ", ".join(dict.fromkeys(dtypes))
    named = "" if not others else ", default knobs" if not needed else f", default knobs but {RANDOM}"
    if dtypes and set(dtypes) <= _REAL_OR_BOOL:
        yield from _grown(plain, 8, "float32", _counted, f"float32, 8 elements counted from 0{named}")
    for size in SIZES:
        yield from _grown(plain, size, "", _counted, f"{own}, {size} elements counted from 0{named}")
    bare = replace(
        plain, program=replace(plain.program, calls=tuple(replace(one, kwargs=()) for one in plain.program.calls))
    )
    if bare != plain:
        yield from _grown(bare, 8, "", _counted, f"{own}, 8 elements counted from 0, default arguments{named}")
    for size in SIZES[:2]:
        yield from _grown(plain, size, "", _repeated, f"{own}, {size} elements, its own values repeated{named}")
    if others:
        yield Variant(f"the same inputs{named}", plain)
    for size in SIZES[:1] if others else ():
        yield from _grown(case, size, "", _counted, f"{own}, {size} elements counted from 0")


def _grown(case: Case, size: int, dtype: str, values: Fill, said: str) -> Iterator[Variant]:
    """The case with inputs whose last dimension has a size; scalars become vectors.

    Nothing where inputs are no plain row-major tensors of their own, for then their layout is the point.
    """
    sets = [_filled(inputs, size, dtype, values) for inputs in case.input_sets]
    if case.program.inputs and all(made is not None for made in sets):
        yield Variant(said, with_inputs(case, [made for made in sets if made is not None]))


def _filled(inputs: InputSet, size: int, dtype: str, values: Fill) -> InputSet | None:
    if inputs.shared():
        return None
    storages, views = list(inputs.storages), []
    first = 0
    for view in inputs.views:
        storage = storages[view.storage]
        plain = view.strides == contiguous(view.shape) and not view.offset and storage.dtype == view.dtype
        shape = (*view.shape[:-1], size)
        count = 1
        for extent in shape:
            count *= extent
        if not plain or storage.values.kind == "blob" or not 0 < count <= MOST_ELEMENTS:
            return None
        new = replace(storage, size=count, dtype=dtype or storage.dtype)
        items = tuple(as_element(item, new.dtype) for item in values(storage, new.dtype, count, first))
        storages[view.storage] = replace(new, values=Values("literal", items=items))
        views.append(_with_shape(view, shape, new.dtype))
        first += count
    return InputSet(tuple(storages), tuple(views))


def _with_shape(view: View, shape: tuple[int, ...], dtype: str) -> View:
    return replace(view, shape=shape, strides=contiguous(shape), dtype=dtype)


def _counted(storage: Storage, dtype: str, count: int, first: int) -> tuple[object, ...]:
    """0, 1, 2 ... on through all inputs, so that no two of them are equal; booleans take turns."""
    return tuple((first + place) % 2 if dtype == "bool" else first + place for place in range(count))


def _repeated(storage: Storage, dtype: str, count: int, first: int) -> tuple[object, ...]:
    items = items_of(storage) or (0,)
    return tuple(items[place % len(items)] for place in range(count))


def _may_be(failure: Failure, wanted: Failure) -> bool:
    """Whether a failure may have the cause of the wanted one: a process that dies always may."""
    if failure.oracle in LOSSES:
        return True
    if failure.oracle in _COMPARING and wanted.oracle in _COMPARING:
        return True
    return remembered(failure, wanted)


def _said(outcome: Outcome, wanted: Failure, reference: str) -> str:
    if outcome.failure is None:
        words = {"compared": "no failure", "unsupported": "declined", "infra": NOT_RUN}
        return words.get(outcome.status, f"{reference} rejects it" if outcome.status == "invalid" else outcome.status)
    if remembered(outcome.failure, wanted) and wanted.oracle not in _COMPARING:
        return "fails alike"
    failing = None if outcome.result is None else outcome.result.failure
    if failing is None:
        return f"fails otherwise: {outcome.failure.oracle} ({outcome.failure.symptom})"
    if failing.oracle == "exception":
        return f"fails otherwise: {failing.symptom}"
    wrong, total = (failing.evidence.get(key) for key in ("wrong", "total"))
    return what(failing) + (f", {wrong} of {total} elements" if wrong is not None else "")
