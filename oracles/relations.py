"""Metamorphic relations: changes of a case after which a right implementation gives the same outputs, and why.

Each is a function of a case and a number that picks the place where it is applied; it gives the changed case, and the
old output that each new output equals, or None where it does not apply. Nothing is run here. A relation holds *exactly*
where the docstring says so: the same operations on the same numbers, or products with powers of two. Where it says *up
to rounding*, right implementations may differ in last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from shakeout.corpus import blobs
from shakeout.corpus.case import Case, InputSet, Storage, View, contiguous
from shakeout.corpus.program import Arg, Call, Input, Name, Program, Ref, TensorType, mapped
from shakeout.corpus.vocabularies import vocabulary
from shakeout.corpus.vocabularies.torch import written

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

#: Homogeneous of degree one in their first operand, and their result is new memory: sums, products with another
#: operand, averages, and choices that a positive factor does not change.
_HOMOGENEOUS = frozenset(
    "mm bmm matmul __matmul__ mv dot inner outer linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d "
    "conv_transpose3d sum nansum mean cumsum trace neg negative abs absolute relu amax amin avg_pool1d avg_pool2d "
    "avg_pool3d max_pool1d max_pool2d max_pool3d diff".split()
)

#: Compute each element from the same element of their only operand.
_ELEMENTWISE = frozenset(
    "abs absolute acos acosh asin asinh atan atanh ceil cos cosh digamma erf erfc erfinv exp exp2 expm1 fix floor frac "
    "gelu hardsigmoid hardswish lgamma log log10 log1p log2 logit logsigmoid mish neg negative reciprocal relu relu6 "
    "round rsqrt selu sigmoid sign signbit silu sin sinc sinh softplus softsign sqrt square tan tanh tanhshrink trunc "
    "isnan isinf isfinite bitwise_not logical_not".split()
)


# --- inputs and outputs in another order ------------------------------------------------------------------------------


def inputs_reversed(case: Case, place: int) -> Related | None:
    """The inputs come in the opposite order.

    Exactly: only names change. Each call has the operands that it had, and each parameter is the parameter it was.
    """
    program = case.program
    count = len(program.inputs)
    if count < 2:
        return None
    numbers: dict[int, Arg] = {number: Ref(number) for number in range(len(program.types()))}
    numbers |= {number: Ref(count - 1 - number) for number in range(count)}
    turned = replace(
        program,
        inputs=program.inputs[::-1],
        calls=tuple(mapped(call, numbers) for call in program.calls),
        returns=tuple(count - 1 - number if number < count else number for number in program.returns),
    )
    sets = tuple(replace(inputs, views=inputs.views[::-1]) for inputs in case.calls)
    return Related(replace(case, program=turned, calls=sets), tuple(range(len(program.returns))))


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
    hazards: Callable[[str], frozenset[str]] = getattr(words, "hazards", lambda operator: frozenset())
    used = {number for call in program.calls for number in call.operands()}
    spoilt = {number for call in program.calls for number in written(call)} | set(program.returns)
    found = [
        number
        for call, first in zip(program.calls, program.firsts(), strict=True)
        if not hazards(call.operator)
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


class _Writer:
    """A program that is being written from an old one, whose values it knows by their old numbers."""

    def __init__(self, inputs: Iterable[Input]) -> None:
        self.inputs = tuple(inputs)
        self.calls: list[Call] = []
        self.count = len(self.inputs)
        self.numbers: dict[int, Arg] = {}

    def add(self, operator: str, args: tuple[Arg, ...], type_: TensorType, **more: Arg) -> Ref:
        """A new call with one result."""
        return self._put(Call(operator, args, tuple(sorted(more.items())), (type_,)))

    def _put(self, call: Call) -> Ref:
        self.calls.append(call)
        self.count += len(call.results)
        return Ref(self.count - len(call.results))

    def copy(self, call: Call, first: int) -> Ref:
        """A call of the old program, whose first result had this number."""
        new = self._put(mapped(call, self.numbers))
        self.numbers |= {first + i: Ref(new.index + i) for i in range(len(call.results))}
        return new

    def related(self, case: Case, sets: tuple[InputSet, ...] | None = None) -> Related:
        """The case with what was written as its program, and the old outputs."""
        returns = [self.numbers[number] for number in case.program.returns]
        program = Program(
            self.inputs,
            tuple(self.calls),
            tuple(one.index for one in returns if isinstance(one, Ref)),
            case.program.vocabulary,
        )
        new = replace(case, program=program, calls=case.calls if sets is None else sets)
        return Related(new, tuple(range(len(returns))))


def _same_inputs(case: Case) -> _Writer:
    writer = _Writer(case.program.inputs)
    writer.numbers = {number: Ref(number) for number in range(writer.count)}
    return writer


def _old(case: Case) -> Iterable[tuple[Call, int]]:
    return zip(case.program.calls, case.program.firsts(), strict=True)


def dead_code(case: Case, place: int) -> Related | None:
    """A copy of a value is overwritten with zeros, and nobody looks at it.

    Exactly: the copy is memory of its own, so no other value can see what is written there.
    """
    types = case.program.types()
    candidates = [number for number, type_ in enumerate(types) if type_ is not None and type_.dtype in _PLAIN]
    if not candidates:
        return None
    chosen = candidates[place % len(candidates)]
    writer = _same_inputs(case)

    def spoil() -> None:
        type_ = types[chosen]
        assert type_ is not None
        copied = writer.add("torch.clone", (writer.numbers[chosen],), type_)
        writer.add("torch.Tensor.zero_", (copied,), type_)

    if chosen < len(case.program.inputs):
        spoil()
    for call, first in _old(case):
        writer.copy(call, first)
        if first <= chosen < first + len(call.results):
            spoil()
    return writer.related(case)


def transposed_twice(case: Case, place: int) -> Related | None:
    """The first two dimensions of an input are exchanged, and exchanged back.

    Exactly: the view that results has the input's own memory, offset, sizes and strides.
    """
    candidates = [number for number, given in enumerate(case.program.inputs) if len(given.type.shape) > 1]
    if not candidates:
        return None
    chosen = candidates[place % len(candidates)]
    type_ = case.program.inputs[chosen].type
    one, two, *rest = type_.shape
    writer = _same_inputs(case)
    turned = writer.add("torch.transpose", (Ref(chosen), 0, 1), TensorType(type_.dtype, (two, one, *rest)))
    writer.numbers[chosen] = writer.add("torch.transpose", (turned, 0, 1), type_)
    for call, first in _old(case):
        writer.copy(call, first)
    return writer.related(case)


def input_constant(case: Case, place: int) -> Related | None:
    """An input becomes a constant in the program's text, of the same numbers.

    Exactly: the same operations on the same numbers; a compiler that folds constants computes them once, beforehand.
    Only an input in memory of its own, to which nobody writes, and which has no gradient.
    """
    program = case.program
    if len(program.inputs) < 2 or len(case.calls) != 1:
        return None
    touched = {number for call in program.calls for number in written(call)} | set(program.returns)
    candidates = [
        number
        for number, view in enumerate(case.calls[0].views)
        if number not in touched and _own(case.calls[0], view) and not _viewed(program, number)
    ]
    if not candidates:
        return None
    chosen = candidates[place % len(candidates)]
    inputs = case.calls[0]
    storage = inputs.storages[inputs.views[chosen].storage]
    type_ = program.inputs[chosen].type
    left = [number for number in range(len(program.inputs)) if number != chosen]
    writer = _Writer(program.inputs[number] for number in left)
    writer.numbers = {number: Ref(new) for new, number in enumerate(left)}
    items = _nested(_items(storage), type_.shape)
    writer.numbers[chosen] = writer.add("torch.tensor", (items,), type_, dtype=Name(f"torch.{type_.dtype}"))
    for call, first in _old(case):
        writer.copy(call, first)
    storages = [number for number in range(len(inputs.storages)) if number != inputs.views[chosen].storage]
    views = tuple(replace(inputs.views[n], storage=storages.index(inputs.views[n].storage)) for n in left)
    return writer.related(case, (InputSet(tuple(inputs.storages[n] for n in storages), views),))


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
    seen = {number}
    for call, first in zip(program.calls, program.firsts(), strict=True):
        if seen.intersection(call.operands()):
            seen.update(range(first, first + len(call.results)))
            if seen.intersection(written(call)):
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

    from shakeout.corpus.streams import filled

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
    case: Case, place: int, fits: Callable[[Call], bool], write: Callable[[_Writer, Call, Ref], Ref]
) -> Related | None:
    """One of the calls that fit takes another form; ``write`` is given its first operand, and gives its result."""
    candidates = [position for position, call in enumerate(case.program.calls) if fits(call)]
    if not candidates:
        return None
    chosen = candidates[place % len(candidates)]
    writer = _same_inputs(case)
    for position, (call, first) in enumerate(_old(case)):
        if position != chosen:
            writer.copy(call, first)
            continue
        operand = writer.numbers[call.operands()[0]]
        assert isinstance(operand, Ref)
        writer.numbers[first] = write(writer, mapped(call, writer.numbers), operand)
    return writer.related(case)


def _last(call: Call) -> str:
    return call.operator.rpartition(".")[2]


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
    types = case.program.types()

    def fits(call: Call) -> bool:
        pair = _unary(call, types) if _last(call) in _HOMOGENEOUS and ":" not in call.operator else None
        if pair is None or call.operands().count(call.operands()[0]) > 1:
            return False
        given, result = pair
        # A third operand is a bias, which has no factor; a dtype among the arguments rounds elsewhere.
        other = {name for name, _ in call.kwargs} & {"dtype", "out", "inplace", "prepend", "append"}
        other |= {"inplace"} if _last(call) == "relu" and len(call.args) > 1 else set()
        return given.dtype in _FLOATS and given.dtype == result.dtype and len(call.operands()) < 3 and not other

    def write(writer: _Writer, call: Call, operand: Ref) -> Ref:
        pair = _types_of(call, writer)
        up = writer.add("torch.mul", (operand, FACTOR), pair[0])
        result = writer.add(call.operator, (up, *call.args[1:]), pair[1], **dict(call.kwargs))
        return writer.add("torch.mul", (result, 1 / FACTOR), pair[1])

    return _rewritten(case, place, fits, write)


def batch_split(case: Case, place: int) -> Related | None:
    """An elementwise operator works on two parts of its operand, whose results are put together.

    Up to rounding: each element depends on the same element alone; but a vectorised loop and its tail may compute it
    with another last digit.
    """
    types = case.program.types()
    if len({tuple(view.shape for view in inputs.views) for inputs in case.calls}) > 1:
        return None  # where to cut depends on the sizes

    def fits(call: Call) -> bool:
        pair = _unary(call, types) if _last(call) in _ELEMENTWISE and ":" not in call.operator else None
        if pair is None or len(call.args) > 1 or call.kwargs:
            return False
        given, result = pair
        return given.shape == result.shape and bool(given.shape) and given.shape[0] > 1

    def write(writer: _Writer, call: Call, operand: Ref) -> Ref:
        given, result = _types_of(call, writer)
        size, *rest = given.shape
        middle = (size + 1) // 2
        halves = []
        for start, length in ((0, middle), (middle, size - middle)):
            part = writer.add("torch.narrow", (operand, 0, start, length), TensorType(given.dtype, (length, *rest)))
            halves.append(writer.add(call.operator, (part,), TensorType(result.dtype, (length, *rest))))
        return writer.add("torch.cat", (tuple(halves), 0), result)

    return _rewritten(case, place, fits, write)


def _types_of(call: Call, writer: _Writer) -> tuple[TensorType, TensorType]:
    pair = _unary(call, Program(writer.inputs, tuple(writer.calls), ()).types())
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
