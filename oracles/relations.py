"""Metamorphic relations: changes of a case after which a right implementation gives the same outputs, and why.

Each is a function of a case and a number that picks the place where it is applied; it gives the changed case, and the
old output that each new output equals, or None where it does not apply. Nothing is run here. A relation holds *exactly*
where the docstring says so: the same operations on the same numbers, or products with powers of two. Where it says *up
to rounding*, right implementations may differ in last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from shakeout.corpus import blobs
from shakeout.corpus.case import Case, InputSet, Storage, View, contiguous
from shakeout.corpus.edit import Rewriter, numbered
from shakeout.corpus.program import Arg, Call, Name, Program, Ref, TensorType
from shakeout.corpus.vocabularies import vocabulary
from shakeout.corpus.vocabularies.operator import identify

__all__ = ["RELATIONS", "Related", "Relation"]


@dataclass(frozen=True, slots=True)
class Related:
    """A case that a relation made of another one.

    Attributes:
        case: the new case; a case like any other.
        outputs: for each of its outputs the number of the old case's output that it equals; None for one that is new.
    """

    case: Case
    outputs: tuple[int | None, ...]


Relation = Callable[[Case, int], Related | None]

#: Intermediate results that are returned as well.
FURTHER = 3

#: Elements of an input that becomes a constant in the source text.
CONSTANT = 64

#: Dtypes whose elements Python's numbers hold, and whose tensors Python's numbers make.
_PLAIN = frozenset("float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 bool complex64 complex128".split())

#: What is multiplied before and divided afterwards: a power of two, so large that a fused constant shows, so small that
#: hardly anything leaves a format's range.
FACTOR = 4.0

_FLOATS = frozenset("float16 bfloat16 float32 float64".split())


# --- inputs and outputs in another order ------------------------------------------------------------------------------


def inputs_reversed(case: Case, place: int) -> Related | None:
    """The inputs come in the opposite order.

    Exactly: only names change. Each call has the operands that it had, and each parameter is the parameter it was.
    """
    program = case.program
    count = len(program.inputs)
    if count < 2:
        return None
    writer = Rewriter(program, reversed(range(count)))
    for call, first in numbered(program):
        writer.copy(call, first)
    return _related(case, writer, tuple(replace(inputs, views=inputs.views[::-1]) for inputs in case.input_sets))


def outputs_reversed(case: Case, place: int) -> Related | None:
    """The outputs come in the opposite order.

    Exactly: nothing that is computed changes.
    """
    program = case.program
    if len(set(program.returns)) < 2:
        return None
    order = range(len(program.returns))[::-1]
    turned = replace(program, returns=tuple(program.returns[number] for number in order))
    return Related(replace(case, program=turned), tuple(order))


def intermediates_returned(case: Case, place: int) -> Related | None:
    """Up to three intermediate results are outputs as well.

    Exactly: what is computed does not change; but what is an output has to be stored as it is, in its own dtype, and
    nothing may be written over it. Only results that a later call uses are taken: of those the meaning is defined.
    """
    program, words = case.program, vocabulary(case.program.vocabulary)
    used = {number for call in program.calls for number in call.operands()}
    spoilt = {number for call in program.calls for number in words.written(call)} | set(program.returns)
    found = [
        number
        for call, first in zip(program.calls, program.firsts(), strict=True)
        if not words.traits(call.operator).hazards
        for number in range(first, first + len(call.results))
        if number in used and number not in spoilt
    ]
    if not found:
        return None
    chosen = _some(found, place, FURTHER)
    known: tuple[int | None, ...] = tuple(range(len(program.returns)))
    more = replace(program, returns=(*program.returns, *chosen))
    return Related(replace(case, program=more), (*known, *(None for _ in chosen)))


def _some(items: Sequence[int], place: int, count: int) -> list[int]:
    """Some of the items, beginning at a place, in order."""
    start = place % len(items)
    return sorted([*items[start:], *items[:start]][:count])


# --- a program written anew -------------------------------------------------------------------------------------------


def _related(case: Case, writer: Rewriter, sets: tuple[InputSet, ...] | None = None) -> Related:
    """The case with what was written as its program, and the old outputs."""
    new = replace(case, program=writer.rewritten(), input_sets=case.input_sets if sets is None else sets)
    return Related(new, tuple(range(len(case.program.returns))))


def _speaks(case: Case, *operators: str) -> bool:
    """Whether a case's vocabulary has these operators, which a relation writes."""
    words = vocabulary(case.program.vocabulary)
    try:
        for operator in operators:
            words.resolve(operator)
    except ValueError:
        return False
    return True


def dead_code(case: Case, place: int) -> Related | None:
    """A copy of a value is overwritten with zeros, and nobody looks at it.

    Exactly: the copy is memory of its own, so no other value can see what is written there.
    """
    types = case.program.types()
    candidates = [number for number, type_ in enumerate(types) if type_ is not None and type_.dtype in _PLAIN]
    if not candidates or not _speaks(case, "torch.clone", "torch.Tensor.zero_"):
        return None
    chosen = candidates[place % len(candidates)]
    writer = Rewriter(case.program)

    def spoil() -> None:
        type_ = types[chosen]
        assert type_ is not None
        copied = writer.call("torch.clone", (writer.numbers[chosen],), type_)
        writer.call("torch.Tensor.zero_", (copied,), type_)

    if chosen < len(case.program.inputs):
        spoil()
    for call, first in numbered(case.program):
        writer.copy(call, first)
        if first <= chosen < first + len(call.results):
            spoil()
    return _related(case, writer)


def transposed_twice(case: Case, place: int) -> Related | None:
    """The first two dimensions of an input are exchanged, and exchanged back.

    Exactly: the view that results has the input's own memory, offset, sizes and strides.
    """
    candidates = [number for number, given in enumerate(case.program.inputs) if len(given.type.shape) > 1]
    if not candidates or not _speaks(case, "torch.transpose"):
        return None
    chosen = candidates[place % len(candidates)]
    type_ = case.program.inputs[chosen].type
    one, two, *rest = type_.shape
    writer = Rewriter(case.program)
    turned = writer.call("torch.transpose", (Ref(chosen), 0, 1), TensorType(type_.dtype, (two, one, *rest)))
    writer.numbers[chosen] = writer.call("torch.transpose", (turned, 0, 1), type_)
    for call, first in numbered(case.program):
        writer.copy(call, first)
    return _related(case, writer)


def input_constant(case: Case, place: int) -> Related | None:
    """An input becomes a constant in the program's text, of the same numbers.

    Exactly: the same operations on the same numbers; a compiler that folds constants computes them once, beforehand.
    Only an input in memory of its own, to which nobody writes, and which has no gradient.
    """
    program, words = case.program, vocabulary(case.program.vocabulary)
    if len(program.inputs) < 2 or len(case.input_sets) != 1:
        return None
    touched = {number for call in program.calls for number in words.written(call)} | set(program.returns)
    candidates = [
        number
        for number, view in enumerate(case.input_sets[0].views)
        if number not in touched and _own(case.input_sets[0], view) and not _viewed(program, number)
    ]
    if not candidates or not _speaks(case, "torch.tensor"):
        return None
    chosen = candidates[place % len(candidates)]
    inputs = case.input_sets[0]
    storage = inputs.storages[inputs.views[chosen].storage]
    type_ = program.inputs[chosen].type
    left = [number for number in range(len(program.inputs)) if number != chosen]
    writer = Rewriter(program, left)
    items = _nested(_items(storage), type_.shape)
    writer.numbers[chosen] = writer.call("torch.tensor", (items,), type_, dtype=Name(f"torch.{type_.dtype}"))
    for call, first in numbered(case.program):
        writer.copy(call, first)
    storages = [number for number in range(len(inputs.storages)) if number != inputs.views[chosen].storage]
    views = tuple(replace(inputs.views[n], storage=storages.index(inputs.views[n].storage)) for n in left)
    return _related(case, writer, (InputSet(tuple(inputs.storages[n] for n in storages), views),))


def _own(inputs: InputSet, view: View) -> bool:
    """Whether an input is all of a small row-major storage, which no other one shares, and needs no gradient."""
    storage = inputs.storages[view.storage]
    return (
        view.dtype == storage.dtype
        and view.dtype in _PLAIN
        and 0 < storage.size <= CONSTANT
        and view.offset == 0
        and view.strides == contiguous(view.shape)
        and TensorType(view.dtype, view.shape).numel == storage.size
        and sum(other.storage == view.storage for other in inputs.views) == 1
        and not view.requires_grad
    )


def _viewed(program: Program, number: int) -> bool:
    """Whether what follows from an input may be a view of it that somebody writes to, or that is returned."""
    seen, words = {number}, vocabulary(program.vocabulary)
    for call, first in zip(program.calls, program.firsts(), strict=True):
        if seen.intersection(call.operands()):
            seen.update(range(first, first + len(call.results)))
            if seen.intersection(words.written(call)):
                return True
    return False


def _items(storage: Storage) -> Sequence[bool | int | float | complex]:
    values = storage.values
    if values.kind == "literal":
        return values.items
    if values.kind == "blob":
        elements: list[bool | int | float | complex] = blobs.load(storage).tolist()
        return elements
    import torch

    from shakeout.corpus.value_cache import filled

    dtype: torch.dtype = getattr(torch, storage.dtype)
    found: list[bool | int | float | complex] = filled(
        dtype, (storage.size,), values.kind, values.seed, values.low, values.high
    ).tolist()
    return found


def _nested(items: Sequence[bool | int | float | complex], shape: tuple[int, ...]) -> Arg:
    """The elements as nested tuples."""
    if not shape:
        return items[0]
    step = len(items) // shape[0]
    return tuple(_nested(items[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0]))


# --- one call written in another way ----------------------------------------------------------------------------------


def _rewritten(
    case: Case, place: int, fits: Callable[[Call], bool], write: Callable[[Rewriter, Call, Ref], Ref]
) -> Related | None:
    """One of the calls that fit takes another form; ``write`` is given its first operand, and gives its result."""
    candidates = [position for position, call in enumerate(case.program.calls) if fits(call)]
    if not candidates or not _speaks(case, "torch.mul", "torch.narrow", "torch.cat"):
        return None
    chosen = candidates[place % len(candidates)]
    writer = Rewriter(case.program)
    for position, (call, first) in enumerate(numbered(case.program)):
        if position != chosen:
            writer.copy(call, first)
            continue
        operand = writer.numbers[call.operands()[0]]
        assert isinstance(operand, Ref)
        writer.numbers[first] = write(writer, writer.moved(call), operand)
    return _related(case, writer)


def _unary(call: Call, types: Sequence[TensorType | None]) -> tuple[TensorType, TensorType] | None:
    """The types of a call's first operand and its only result, where both are tensors."""
    if call.form != "tensor" or not call.args or not isinstance(call.args[0], Ref):
        return None
    given, result = types[call.args[0].index], call.results[0]
    return None if given is None or result is None else (given, result)


def scaled(case: Case, place: int) -> Related | None:
    """An operand of a homogeneous operator is multiplied by four, and its result divided by four.

    Exactly, unless something leaves the format's range: a product with a power of two is not rounded, and commutes with
    each rounding of a sum, a product or a quotient by a number that does not depend on the operand.
    """
    types, words = case.program.types(), vocabulary(case.program.vocabulary)

    def fits(call: Call) -> bool:
        pair = _unary(call, types) if words.traits(call.operator).homogeneous else None
        if pair is None or call.operands().count(call.operands()[0]) > 1:
            return False
        given, result = pair
        # A third operand is a bias, which has no factor; a dtype among the arguments rounds elsewhere.
        other = {name for name, _ in call.kwargs} & {"dtype", "out", "inplace", "prepend", "append"}
        other |= {"inplace"} if identify(call.operator).name == "relu" and len(call.args) > 1 else set()
        return given.dtype in _FLOATS and given.dtype == result.dtype and len(call.operands()) < 3 and not other

    def write(writer: Rewriter, call: Call, operand: Ref) -> Ref:
        pair = _types_of(call, writer)
        up = writer.call("torch.mul", (operand, FACTOR), pair[0])
        result = writer.call(call.operator, (up, *call.args[1:]), pair[1], **dict(call.kwargs))
        return writer.call("torch.mul", (result, 1 / FACTOR), pair[1])

    return _rewritten(case, place, fits, write)


def batch_split(case: Case, place: int) -> Related | None:
    """An elementwise operator works on two parts of its operand, whose results are put together.

    Up to rounding: each element depends on the same element alone; but a vectorised loop and its tail may compute it
    with another last digit.
    """
    types, words = case.program.types(), vocabulary(case.program.vocabulary)
    if len({tuple(view.shape for view in inputs.views) for inputs in case.input_sets}) > 1:
        return None  # where to cut depends on the sizes

    def fits(call: Call) -> bool:
        pair = _unary(call, types) if words.traits(call.operator).elementwise else None
        if pair is None or len(call.args) > 1 or call.kwargs:
            return False
        given, result = pair
        return given.shape == result.shape and bool(given.shape) and given.shape[0] > 1

    def write(writer: Rewriter, call: Call, operand: Ref) -> Ref:
        given, result = _types_of(call, writer)
        size, *rest = given.shape
        middle = (size + 1) // 2
        halves = []
        for start, length in ((0, middle), (middle, size - middle)):
            part = writer.call("torch.narrow", (operand, 0, start, length), TensorType(given.dtype, (length, *rest)))
            halves.append(writer.call(call.operator, (part,), TensorType(result.dtype, (length, *rest))))
        return writer.call("torch.cat", (tuple(halves), 0), result)

    return _rewritten(case, place, fits, write)


def _types_of(call: Call, writer: Rewriter) -> tuple[TensorType, TensorType]:
    pair = _unary(call, writer.types)
    assert pair is not None
    return pair


RELATIONS: Mapping[str, Relation] = {
    "inputs reversed": inputs_reversed,
    "outputs reversed": outputs_reversed,
    "intermediates returned": intermediates_returned,
    "dead code": dead_code,
    "transposed twice": transposed_twice,
    "input made a constant": input_constant,
    "scaled": scaled,
    "batch split": batch_split,
}
