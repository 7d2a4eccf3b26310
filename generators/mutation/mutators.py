"""The mutators: each changes a draft in one way, or says that it cannot. What is drawn here has not been run yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from shakeout.corpus.case import Values
from shakeout.corpus.program import Arg, mapped, reference
from shakeout.corpus.storage import ladder_of
from shakeout.generators.choices import Choices
from shakeout.generators.growth_config import LATTICE, MAX_ELEMENTS
from shakeout.generators.mutation.draft import Draft, givens, overwritten
from shakeout.generators.mutation.following import Follower
from shakeout.generators.network import follow
from shakeout.generators.recorded import mutated
from shakeout.generators.values import DTYPES, SEEDS, Given, fresh_layout, row_major

__all__ = ["INPUTS", "PROGRAM", "Mutator"]

#: Changes a draft; False where it has no place there.
Mutator = Callable[[Choices, Draft], bool]

#: A view or a cast rather than an operator, where one is inserted.
_FORMED = 0.25

#: Operators that are tried in the place of one.
_REPLACEMENTS = 12

#: Calls that are taken over from another case at most.
_SPLICED = 4

#: How often what is new stands for a value of its type, so that what follows is computed from it.
_FED = 0.75


# --- calls ------------------------------------------------------------------------------------------------------------


def _delete(choices: Choices, draft: Draft) -> bool:
    """A call is left out; who used its result uses an operand of the same type, or another value of that type."""
    program = draft.case.program
    if len(program.calls) < 2:
        return False
    position = choices.integer(0, len(program.calls) - 1)
    call, first, types = program.calls[position], program.firsts()[position], program.types()
    draft.actions[position] = lambda follower: True
    same = [number for number in dict.fromkeys(call.operands()) if call.results and types[number] == call.results[0]]
    if same:
        instead = choices.pick(same)

        def stand(follower: Follower) -> bool:
            if (value := follower.value(instead)) is not None:
                follower.stand(first, value)
            return True

        draft.actions[position] = stand
    return True


def _insert(choices: Choices, draft: Draft) -> bool:
    """An operator on a value that is there; what follows mostly uses its result instead, where the type is the same."""
    where = choices.integer(1, len(draft.actions))

    def insert(follower: Follower) -> bool:
        growth = follower.growth
        usable = growth.usable()
        if not usable:
            return False
        value = growth.choices.pick(usable[-6:])
        if not any(follow(growth, follower.vocabulary, value, _FORMED) for _ in range(_REPLACEMENTS)):
            return False
        _feed(follower, value, growth.steps[-1].first)
        return True

    draft.actions.insert(where, insert)
    return True


def _feed(follower: Follower, old: int, new: int) -> None:
    """A new value of the growth mostly takes the place of one of the same type in what follows."""
    same = new < len(follower.growth.tensors) and follower.type_of(old) == follower.type_of(new)
    if same and new not in follower.growth.dead and follower.growth.choices.boolean(_FED):
        for number, value in list(follower.numbers.items()):
            if value == old:
                follower.stand(number, new)


def _replace(choices: Choices, draft: Draft) -> bool:
    """Another operator in the place of one, on the same first operand."""
    program = draft.case.program
    position = choices.integer(0, len(program.calls) - 1)
    call = program.calls[position]
    operands = call.operands()
    if not operands:
        return False

    def other(follower: Follower) -> bool:
        value = follower.value(operands[0])
        if value is None:
            return follower.follow(position)
        type_ = follower.type_of(value)
        takers = follower.vocabulary.takers(type_.dtype, len(type_.shape))
        if not takers:
            return follower.follow(position)
        growth = follower.growth
        for _ in range(_REPLACEMENTS):
            steps = len(growth.steps)
            if follow(growth, follower.vocabulary, value, 0.0) and growth.steps[-1].operator != call.operator:
                return follower.bind(position)
            if len(growth.steps) > steps:
                break  # the same operator, called otherwise: a replacement as well, though a small one
        return follower.bind(position) if len(growth.steps) > steps else follower.follow(position)

    draft.actions[position] = other
    return True


def _rewire(choices: Choices, draft: Draft) -> bool:
    """One operand of a call is another value: of the same type if there is one, else of the same dtype."""
    program = draft.case.program
    types, firsts = program.types(), program.firsts()
    places = []
    for position, call in enumerate(program.calls):
        for number in dict.fromkeys(call.operands()):
            before = [n for n in range(firsts[position]) if n != number and types[n] is not None]
            same = [n for n in before if types[n] == types[number]]
            alike = [n for n in before if _dtype(types[n]) == _dtype(types[number])]
            if found := same or alike:
                places.append((position, number, found))
    if not places:
        return False
    position, number, found = choices.pick(places)
    instead = choices.pick(found)
    call = program.calls[position]

    def rewired(follower: Follower) -> bool:
        if follower.value(instead) is None:
            return follower.follow(position)
        arguments: dict[int, Arg] = {n: reference(instead if n == number else n) for n in call.operands()}
        return follower.place(position, mapped(call, arguments))

    draft.actions[position] = rewired
    return True


def _dtype(type_: object) -> str:
    return getattr(type_, "dtype", "")


def _attribute(choices: Choices, draft: Draft) -> bool:
    """One number, flag or dtype among the arguments of a call is another one."""
    program = draft.case.program
    found = []
    for position in range(len(program.calls)):
        call = program.calls[position]
        args, kwargs = mutated(choices, call.operator, call.args, call.kwargs)
        if (args, kwargs) != (call.args, call.kwargs):
            found.append((position, replace(call, args=args, kwargs=kwargs)))
    if not found:
        return False
    position, changed = choices.pick(found)
    draft.actions[position] = lambda follower: follower.place(position, changed)
    return True


def _splice(choices: Choices, draft: Draft) -> bool:
    """Calls of another case that follow each other, on values of this one where the types allow it."""
    partner = draft.partner
    if partner is None or partner.program.structured() or not partner.program.calls:
        return False
    count = len(partner.program.calls)
    start = choices.integer(0, count - 1)
    stop = choices.integer(start + 1, min(count, start + _SPLICED))
    where = choices.integer(1, len(draft.actions))

    def splice(follower: Follower) -> bool:
        growth = follower.growth
        theirs = Follower(growth, partner, givens(partner), follower.vocabulary)
        fed, placed = None, False
        for position in range(start, stop):
            for number in dict.fromkeys(partner.program.calls[position].operands()):
                type_ = theirs.types[number]
                known = growth.by_type.get((type_.dtype, type_.shape), ()) if type_ is not None else ()
                own = [value for value in known if value not in growth.dead]
                if number < theirs.first(start) and number not in theirs.numbers and own and choices.boolean(_FED):
                    fed = growth.choices.pick(own)
                    theirs.stand(number, fed)
            placed |= theirs.follow(position)
        if placed and fed is not None:
            _feed(follower, fed, growth.steps[-1].first)
        return placed

    draft.actions.insert(where, splice)
    return True


# --- inputs -----------------------------------------------------------------------------------------------------------


def _dtypes(choices: Choices, draft: Draft) -> bool:
    """Inputs of one dtype have another one, mostly all of them, and so have the dtypes that calls name."""
    present = sorted({given.dtype for given in draft.given if given.values.kind != "blob"})
    if not present:
        return False
    old = choices.pick(present)
    kind = _kind(old)
    new = choices.pick([name for name in (_ALIKE[kind] if choices.boolean(0.75) else _ANY) if name != old])
    chosen = {number for number, given in enumerate(draft.given) if given.dtype == old}
    if choices.boolean(0.25):
        chosen = {choices.pick(sorted(chosen))}
    # One that shares its memory has the dtype of the other.
    if any(draft.given[number].shares is not None for number in chosen) or any(
        given.shares in chosen for given in draft.given
    ):
        return False
    for number in chosen:
        draft.given[number] = _retyped(draft.given[number], new)
    if len(chosen) > 1 or sum(given.dtype in (old, new) for given in draft.given) == 1:
        draft.dtypes[old] = new
    return True


_ALIKE = {
    "wide": ("float32", "float16", "bfloat16", "float64"),
    "whole": ("int64", "int32", "int8", "uint8", "int16"),
    "bool": ("uint8", "int64", "float32"),
    "complex": ("complex64", "complex128", "float32"),
}
_ANY = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "int16", "bool", "complex64")


def _kind(dtype: str) -> str:
    if dtype == "bool":
        return "bool"
    return "complex" if DTYPES[dtype].is_complex else "wide" if DTYPES[dtype].is_floating_point else "whole"


def _retyped(given: Given, dtype: str) -> Given:
    """An input of another dtype, with values as that can hold them; bytes that were read as it are its own now."""
    values, wide = given.values, _kind(dtype) in ("wide", "complex")
    if dtype == "bool":
        values = Values("integers", values.seed, 0, 1)
    elif values.kind == "ladder":
        values = ladder_of(values, dtype)
    elif not wide:
        low = math.ceil(max(values.low, -100 if DTYPES[dtype].is_signed else 0))
        high = max(math.floor(min(values.high, 100)), low)
        values = Values("special" if values.kind == "special" else "integers", values.seed, low, high)
    elif values.kind == "literal":
        values = replace(values, items=tuple(complex(one).real for one in values.items))
    if given.storage_dtype != given.dtype:
        given = replace(given, layout=row_major(len(given.shape)), window=None, size=None)
        if values.kind == "literal":
            values = Values("integers", values.seed, 0, 2)
    grad, parameter = given.requires_grad and wide, given.parameter and wide
    return replace(given, dtype=dtype, storage_dtype=dtype, values=values, requires_grad=grad, parameter=parameter)


def _shape(choices: Choices, draft: Draft) -> bool:
    """One size is another one, in every input that has it; calls follow by what they name, or by their rules."""
    if any(given.shares is not None or given.values.kind == "blob" for given in draft.given):
        return False
    sizes = sorted({size for given in draft.given for size in given.shape})
    if not sizes:
        return False
    old = choices.pick(sizes)
    near = (old + 1, old - 1, 2 * old, 1)
    pool = [size for size in (*near, *LATTICE, *(0,) * choices.boolean(0.1)) if size != old and size >= 0]
    new = choices.pick(pool)
    changed = []
    for given in draft.given:
        shape = tuple(new if size == old else size for size in given.shape)
        if math.prod(shape) > MAX_ELEMENTS:
            return False
        changed.append(given if shape == given.shape else _reshaped(given, shape))
    draft.given = changed
    draft.sizes[old] = new
    return True


def _reshaped(given: Given, shape: tuple[int, ...]) -> Given:
    """Another shape, with values out of the same range."""
    values = given.values
    if values.kind == "literal":
        numbers = [complex(one).real for one in values.items if math.isfinite(complex(one).real)] or [0]
        values = Values("integers", len(numbers), math.floor(min(numbers)), math.floor(max(numbers)))
    layout = given.layout or row_major(len(shape))
    return replace(given, shape=shape, values=values, layout=layout, window=None, size=None)


def _layout(choices: Choices, draft: Draft) -> bool:
    """An input lies otherwise in memory."""
    shared = {given.shares for given in draft.given}
    free = [
        number
        for number, given in enumerate(draft.given)
        if given.shares is None
        and number not in shared
        and given.values.kind not in ("literal", "blob")
        and given.storage_dtype == given.dtype
        and given.shape
    ]
    if not free:
        return False
    number = choices.pick(free)
    given, rank = draft.given[number], len(draft.given[number].shape)
    odd = given.layout != row_major(rank)
    layout = row_major(rank)
    if not odd or choices.boolean(0.6):
        layout = fresh_layout(choices, given.shape, writable=number in overwritten(draft.case))
    draft.given[number] = replace(given, layout=layout, window=None, size=None)
    return True


def _values(choices: Choices, draft: Draft) -> bool:
    """An input, or all of them, holds other values: of another seed, range or kind, special ones among them."""
    free = [number for number, given in enumerate(draft.given) if given.values.kind != "blob" and given.shares is None]
    if not free:
        return False
    kind = choices.pick(("same", "uniform", "integers", "special"))
    for number in free if choices.boolean(0.4) else [choices.pick(free)]:
        given = draft.given[number]
        draft.given[number] = replace(given, values=_other(choices, given, kind))
    draft.special |= kind == "special"
    return True


def _other(choices: Choices, given: Given, kind: str) -> Values:
    values = given.values
    if values.kind == "literal":
        items = list(values.items)
        for i in range(len(items) - 1, 0, -1):
            j = choices.integer(0, i)
            items[i], items[j] = items[j], items[i]
        return replace(values, items=tuple(items))
    seed = (values.seed + choices.integer(1, SEEDS)) % (1 << 31)
    if _kind(given.storage_dtype) in ("wide", "complex") and values.kind != "ladder":
        if kind == "integers" and math.ceil(values.low) < math.floor(values.high):
            return Values("integers", seed, math.ceil(values.low), math.floor(values.high))
        if kind in ("uniform", "special"):
            return Values(kind, seed, values.low, max(values.high, values.low + 0.0625))  # type: ignore[arg-type]
    return replace(values, seed=seed)


# --- training ---------------------------------------------------------------------------------------------------------


def _mode(choices: Choices, draft: Draft) -> bool:
    """Training becomes inference, and the other way round."""
    draft.training = not draft.training
    fixed = overwritten(draft.case)
    for number, given in enumerate(draft.given):
        wide = _kind(given.dtype) in ("wide", "complex")
        leaf = draft.training and wide and number not in fixed and choices.boolean(0.85)
        draft.given[number] = replace(given, requires_grad=leaf)
    return not draft.training or any(given.requires_grad for given in draft.given)


#: What changes the calls of a program.
PROGRAM: Mapping[str, Mutator] = {
    "delete": _delete,
    "insert": _insert,
    "replace": _replace,
    "rewire": _rewire,
    "attribute": _attribute,
    "splice": _splice,
}

#: What changes its inputs, or whether gradients are asked for; programs with regions take these as well.
INPUTS: Mapping[str, Mutator] = {
    "dtype": _dtypes,
    "shape": _shape,
    "layout": _layout,
    "values": _values,
    "mode": _mode,
}
