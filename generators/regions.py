"""Parts of a grown program put into regions: blocks, branches, checkpoints, function transforms, custom operators.

The part keeps its meaning, or, under autocast, becomes another program that the reference runs as well; whether it
does, and which types it has then, ``validity.validated`` finds out by running it, call by call; then the whole runs
once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from shakeout.corpus import script, standalone
from shakeout.corpus.case import Case, InputSet, Storage, Values, View
from shakeout.corpus.program import Arg, Call, Form, Input, Name, Program, Ref, Region, TensorType, mapped
from shakeout.corpus.vocabularies import Vocabulary, structured, vocabulary
from shakeout.generators.choices import Choices
from shakeout.generators.validity import InvalidCandidate, validated

__all__ = ["enclosed"]

#: Parts that are tried before a program is left as it was: most that fail draw on what a custom operator may not take.
ATTEMPTS = 4

#: Largest number of rows that are mapped over: what a transform means is found out row by row.
ROWS = 32

#: Calls of one part. Larger ones hide what is wrong with the region behind what is wrong with its content.
LARGEST = 4

_ROW_MAJOR = (("memory_format", Name("torch.contiguous_format")),)


@dataclass(frozen=True, slots=True)
class _Part:
    """Calls of a program in a row, as a region would have them.

    Attributes:
        start: number of the first of them.
        stop: number behind the last.
        captures: the values that they use from before.
        calls: with the region's own numbers: first what is captured, then their results.
        gives: the values that somebody uses behind them, by the program's numbers.
        returns: the same by the region's.
        types: of those.
    """

    start: int
    stop: int
    captures: tuple[int, ...]
    calls: tuple[Call, ...]
    gives: tuple[int, ...]
    returns: tuple[int, ...]
    types: tuple[TensorType, ...]


def enclosed(choices: Choices, case: Case) -> Case | None:
    """The case with a part of its program in a region, or in blocks around all of it; None where none was found."""
    if case.program.structured() or not case.program.calls:
        return None
    kinds = _KINDS["training" if case.setting.mode == "training" else "inference"]
    for _ in range(ATTEMPTS):
        made = choices.pick(kinds)(choices, case)
        if made is None:
            continue
        try:
            valid = validated(made)
        except InvalidCandidate:
            continue
        if _accepted(valid):
            return valid
    return None


def _accepted(case: Case) -> bool:
    """Whether the reference takes the whole of it as it will be run, where that may differ from calls one by one.

    Those were made without a backward pass. So nobody saw what a view is that was taken under ``no_grad``, what
    ``torch.cond`` does not differentiate, or that ``vmap`` gives one number for many rows where it depends on none.
    """
    if case.setting.device != "cpu":
        return True
    if case.setting.mode != "training" and "torch.func.vmap" not in case.program.operators():
        return True
    structured.forget()
    try:
        namespace = script.load(case)
        standalone.run(namespace["bind"], namespace["arguments"], namespace["CALLS"], lambda network: network)
    except Exception:
        return False
    return True


def _part(choices: Choices, program: Program) -> _Part | None:
    count = len(program.calls)
    start = choices.integer(0, count - 1)
    stop = choices.integer(start + 1, min(count, start + LARGEST))
    calls, firsts = program.calls[start:stop], program.firsts()
    low = firsts[start]
    high = low + sum(len(call.results) for call in calls)
    captures = tuple(sorted({number for call in calls for number in call.operands() if number < low}))
    numbers = {number: place for place, number in enumerate(captures)}
    numbers |= {number: len(captures) + number - low for number in range(low, high)}
    used = {number for call in program.calls[stop:] for number in call.operands()} | set(program.returns)
    gives = tuple(number for number in range(low, high) if number in used)
    types = tuple(one for number in gives if (one := program.types()[number]) is not None)
    if not gives or len(types) < len(gives):
        return None
    moved = tuple(mapped(call, _references(numbers)) for call in calls)
    return _Part(start, stop, captures, moved, gives, tuple(numbers[one] for one in gives), types)


def _references(numbers: Mapping[int, int]) -> dict[int, Arg]:
    return {old: Ref(new) for old, new in numbers.items()}


def _put(case: Case, part: _Part, before: Sequence[Call], call: Call, results: Sequence[int]) -> Case:
    """The case with calls in the place of a part.

    Args:
        case: the case.
        part: what is replaced.
        before: calls that come first.
        call: what stands for the part.
        results: for each value that the part gives, its place among the results of ``before`` and ``call``.
    """
    program = case.program
    low = program.firsts()[part.start]
    old = sum(len(one.results) for one in program.calls[part.start : part.stop])
    new = sum(len(one.results) for one in (*before, call))
    total = len(program.types())
    numbers = {number: number for number in range(low)}
    numbers |= {number: number - old + new for number in range(low + old, total)}
    numbers |= {number: low + place for number, place in zip(part.gives, results, strict=True)}
    behind = [mapped(one, _references(numbers)) for one in program.calls[part.stop :]]
    calls = (*program.calls[: part.start], *before, call, *behind)
    returns = tuple(numbers[number] for number in program.returns)
    return replace(case, program=replace(program, calls=calls, returns=returns))


def _writes(case: Case, part: _Part) -> bool:
    words: Vocabulary = vocabulary(case.program.vocabulary)
    return any(words.written(call) or call.form == "none" for call in part.calls)


# --- blocks -----------------------------------------------------------------------------------------------------------


def _autocast(choices: Choices) -> Call:
    dtype = Name(choices.pick(("torch.bfloat16", "torch.float16")))
    return Call("torch.autocast", ("cpu",), (("dtype", dtype),), (), "none")


_OFF = Call("torch.autocast", ("cpu",), (("enabled", False),), (), "none")


def _block(choices: Choices, case: Case, block: Call) -> Case | None:
    part = _part(choices, case.program)
    if part is None:
        return None
    region = Region((), part.captures, part.calls, part.returns)
    call = replace(block, results=part.types, form="sequence", regions=(region,))
    return _put(case, part, (), call, range(len(part.gives)))


def _checkpointed(choices: Choices, case: Case) -> Case | None:
    return _block(choices, case, Call("torch.utils.checkpoint.checkpoint", (), (("use_reentrant", False),), (), "none"))


def _under(operator: str) -> Callable[[Choices, Case], Case | None]:
    return lambda choices, case: _block(choices, case, Call(operator, (), (), (), "none"))


def _lowered(choices: Choices, case: Case) -> Case | None:
    return _block(choices, case, _autocast(choices))


def _all_lowered(choices: Choices, case: Case) -> Case | None:
    return replace(case, program=replace(case.program, around=(_autocast(choices),)))


def _switched_off(choices: Choices, case: Case) -> Case | None:
    """Autocast around the program, and off for a part of it."""
    inside = _block(choices, case, _OFF)
    return None if inside is None else _all_lowered(choices, inside)


# --- branches ---------------------------------------------------------------------------------------------------------


def _branch(choices: Choices, case: Case) -> Case | None:
    """A part becomes one way of a branch over a new input; the other way gives ones of the same types."""
    place, case = len(case.program.inputs), _flagged(case, choices.boolean(0.7))
    part = _part(choices, case.program)
    if part is None or _writes(case, part):
        return None
    given = tuple(one for number in part.captures if (one := case.program.types()[number]) is not None)
    count, end = len(part.captures), len(part.captures) + sum(len(call.results) for call in part.calls)
    own = (*part.calls, *(_copy(number, type_) for number, type_ in zip(part.returns, part.types, strict=True)))
    taken = Region(given, (), own, tuple(range(end, end + len(part.returns))))
    other = Region(given, (), tuple(map(_ones, part.types)), tuple(range(count, count + len(part.types))))
    regions = (taken, other) if choices.boolean(0.7) else (other, taken)
    operands = tuple(Ref(number) for number in part.captures)
    call = Call("torch.cond", (Ref(place), operands), (), part.types, "sequence", regions)
    return _put(case, part, (), call, range(len(part.gives)))


def _flagged(case: Case, flag: bool) -> Case:
    """The case with a further input, which is a flag; the values behind it move on by one."""
    program = case.program
    place = len(program.inputs)
    numbers = {number: number + (number >= place) for number in range(len(program.types()))}
    calls = tuple(mapped(one, _references(numbers)) for one in program.calls)
    inputs = (*program.inputs, Input(TensorType("bool", ())))
    changed = replace(program, inputs=inputs, calls=calls, returns=tuple(numbers[one] for one in program.returns))
    storage = Storage("bool", 1, Values("literal", items=(flag,)))
    sets = [
        InputSet((*given.storages, storage), (*given.views, View(len(given.storages), "bool", (), ())))
        for given in case.input_sets
    ]
    return Case(changed, tuple(sets), case.setting)


def _copy(number: int, type_: TensorType) -> Call:
    """Nothing that a branch or a custom operator gives may be what it was given, or a view of it."""
    return Call("torch.clone", (Ref(number),), _ROW_MAJOR, (type_,))


def _ones(type_: TensorType) -> Call:
    return Call("torch.ones", (type_.shape,), (("dtype", Name(f"torch.{type_.dtype}")),), (type_,))


# --- function transforms ----------------------------------------------------------------------------------------------


def _mapped(choices: Choices, case: Case) -> Case | None:
    """A part is done row by row: over the first dimension of those operands that have as many rows."""
    part = _part(choices, case.program)
    if part is None or _writes(case, part):
        return None
    types = case.program.types()
    rows = [one.shape[0] for number in part.captures if (one := types[number]) is not None and one.shape]
    if not rows or not 0 < rows[0] <= ROWS:
        return None
    over = [n for n in part.captures if (one := types[n]) is not None and one.shape[:1] == (rows[0],)]
    region = _function(part, over, types, rows=True)
    call = Call("torch.func.vmap", tuple(map(Ref, over)), (), part.types, "sequence", (region,))
    return _put(case, part, (), call, range(len(part.gives)))


def _differentiated(choices: Choices, case: Case) -> Case | None:
    """In the place of a part with one result stands the gradient of its sum by an operand of the same type."""
    part = _part(choices, case.program)
    if part is None or len(part.gives) != 1 or _writes(case, part):
        return None
    types = case.program.types()
    over = [number for number in part.captures if types[number] == part.types[0]]
    if not over or not part.types[0].dtype.startswith(("float", "bfloat")):
        return None
    region = _function(part, over[:1], types, rows=False)
    scalar = TensorType(part.types[0].dtype, ())
    last = len(region.parameters) + len(region.captures) + sum(len(call.results) for call in region.calls)
    total = Call("torch.sum", (Ref(region.returns[0]),), (), (scalar,))
    region = replace(region, calls=(*region.calls, total), returns=(last,))
    call = Call("torch.func.grad", (Ref(over[0]),), (), part.types, "sequence", (region,))
    return _put(case, part, (), call, (0,))


def _function(part: _Part, over: Sequence[int], types: Sequence[TensorType | None], *, rows: bool) -> Region:
    """The part as a function of some of what it captures, or of their rows."""
    rest = [number for number in part.captures if number not in over]
    order = {number: place for place, number in enumerate((*over, *rest))}
    numbers = {place: order[number] for place, number in enumerate(part.captures)}
    total = len(part.captures) + sum(len(call.results) for call in part.calls)
    numbers |= {number: number for number in range(len(part.captures), total)}
    given = tuple(replace(one, shape=one.shape[rows:]) for number in over if (one := types[number]) is not None)
    calls = tuple(mapped(call, _references(numbers)) for call in part.calls)
    return Region(given, tuple(rest), calls, tuple(numbers[number] for number in part.returns))


# --- custom operators -------------------------------------------------------------------------------------------------


def _custom(choices: Choices, case: Case) -> Case | None:
    """A part becomes a custom operator, which gives its results, or writes one of them into memory that it is given."""
    part = _part(choices, case.program)
    if part is None or not part.captures or _writes(case, part):
        return None
    operator = "torch.library.custom_op"
    given = [one for number in part.captures if (one := case.program.types()[number]) is not None]
    written = choices.boolean(0.5)
    count = len(given) + written
    moved = {number: number for number in range(len(given))}
    total = len(given) + sum(len(call.results) for call in part.calls)
    moved |= {number: number + written for number in range(len(given), total)}
    calls = [mapped(call, _references(moved)) for call in part.calls]
    end = total + written
    returned = [moved[number] for number in part.returns]
    operands: tuple[Arg, ...] = tuple(Ref(number) for number in part.captures)
    if not written:
        own = (*calls, *(_copy(number, type_) for number, type_ in zip(returned, part.types, strict=True)))
        region = Region(tuple(given), (), own, tuple(range(end, end + len(returned))))
        call = Call(operator, (operands,), (), part.types, "sequence", (region,))
        return _put(case, part, (), call, range(len(part.gives)))
    first = part.types[0]
    out = case.program.firsts()[part.start]
    own = (
        *calls,
        Call("torch.Tensor.copy_", (Ref(len(given)), Ref(returned[0])), (), (first,)),
        *(_copy(number, type_) for number, type_ in zip(returned[1:], part.types[1:], strict=True)),
    )
    region = Region((*given, first), (), own, tuple(range(end + 1, end + len(returned))))
    form: Form = "sequence" if len(returned) > 1 else "none"
    call = Call(operator, ((*operands, Ref(out)), (count - 1,)), (), part.types[1:], form, (region,))
    return _put(case, part, (_ones(first),), call, range(len(part.gives)))


def _differentiable(choices: Choices, case: Case) -> Case | None:
    """A part becomes a custom operator with a backward pass of its own.

    What that gives is no derivative: of the operands that have the type of a result, twice that result's gradient. A
    compiler has to hand on whatever it gives.
    """
    part = _part(choices, case.program)
    if part is None or not part.captures or _writes(case, part):
        return None
    types = case.program.types()
    given = [one for number in part.captures if (one := types[number]) is not None]
    wanted = [one for one in part.types if one.dtype.startswith(("float", "bfloat"))]
    places = tuple(place for place, one in enumerate(given) if one in wanted)
    if not places:
        return None
    end = len(given) + sum(len(call.results) for call in part.calls)
    own = (*part.calls, *(_copy(number, type_) for number, type_ in zip(part.returns, part.types, strict=True)))
    computed = Region(tuple(given), (), own, tuple(range(end, end + len(part.returns))))
    first = len(given) + len(part.types)
    doubled = [
        Call("torch.Tensor.mul", (Ref(first + part.types.index(given[place])), 2), (), (given[place],))
        for place in places
    ]
    last = first + len(part.types)
    backward = Region((*given, *part.types, *part.types), (), tuple(doubled), tuple(range(last, last + len(places))))
    operands = tuple(Ref(number) for number in part.captures)
    call = Call("torch.library.register_autograd", (operands, places), (), part.types, "sequence", (computed, backward))
    return _put(case, part, (), call, range(len(part.gives)))


_KINDS: Mapping[str, Sequence[Callable[[Choices, Case], Case | None]]] = {
    "training": (
        _under("torch.no_grad"),
        _lowered,
        _all_lowered,
        _switched_off,
        _branch,
        _checkpointed,
        _checkpointed,
        _checkpointed,
        _differentiable,
    ),
    "inference": (
        _under("torch.enable_grad"),
        _lowered,
        _all_lowered,
        _switched_off,
        _branch,
        _mapped,
        _differentiated,
        _custom,
        _custom,
    ),
}
