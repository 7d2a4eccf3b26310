"""Calls whose arguments follow from the operand's own shape: indexing, reshaping, slicing, padding, casts, constants.

Recorded samples fit the shapes they were recorded with; these are written for any shape. Each proposal is a record
that fits exactly one operand, so it is placed like every other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from shakeout.corpus.program import Arg, Name, Ref, Slice
from shakeout.generators.choices import Choices
from shakeout.generators.numbers import Reach, python_number
from shakeout.generators.vocabularies.records import Record, Slot, Spread

__all__ = ["CASTS", "constant", "derivation", "proposal", "strided_window"]

Shape = tuple[int, ...]
Kwargs = tuple[tuple[str, Arg], ...]
Extra = tuple[str, Shape, Spread]

CASTS = (
    "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 float8_e4m3fn float8_e5m2 uint16"
).split()
#: Bytes of an element, for views as another dtype.
_WIDTHS = {
    1: ("uint8", "int8", "bool"),
    2: ("float16", "bfloat16", "int16"),
    4: ("float32", "int32"),
    8: ("float64", "int64", "complex64"),
    16: ("complex128",),
}
_WIDTH = {name: width for width, names in _WIDTHS.items() for name in names}


@functools.lru_cache(1024)
def _classes(shapes: tuple[Shape, ...]) -> tuple[tuple[tuple[int, ...], ...], Shape]:
    classes = []
    sizes: list[int] = []
    for shape in shapes:
        classes.append(tuple(range(len(sizes), len(sizes) + len(shape))))
        sizes += shape
    return tuple(classes), tuple(sizes)


def _record(
    operator: str,
    args: tuple[Arg, ...],
    shape: Shape,
    kwargs: Kwargs = (),
    extras: tuple[Extra, ...] = (),
    mutates: tuple[int, ...] = (),
    view: bool = True,
) -> Record:
    """A record for one operand of this shape as slot 0; further operands are (dtype, shape, spread)."""
    classes, sizes = _classes((shape, *(extra for _, extra, _ in extras)))
    slots = [Slot("T", classes[0])]
    slots += [Slot(extras[i][0], classes[i + 1], extras[i][2]) for i in range(len(extras))]
    free = (False,) * len(sizes)
    return Record(operator, args, kwargs, tuple(slots), sizes, free, (), mutates, view)


def proposal(choices: Choices, shape: Shape, dtype: str, reach: Reach = "plain") -> Record | None:
    """Some call on an operand of this shape, or None where the chosen kind does not go with it.

    Args:
        choices: decides.
        shape: of the operand.
        dtype: of the operand.
        reach: how far Python numbers among the arguments go.
    """
    return choices.pick(_KINDS)(choices, shape, dtype, reach)


def _dimension(choices: Choices, shape: Shape) -> int:
    """A dimension, counted from either end."""
    dimension = choices.integer(0, len(shape) - 1)
    return dimension - len(shape) if choices.boolean(0.4) else dimension


#: Share of slices whose bounds come in any order, inside and outside: what Python makes of them, nothing often.
DISORDERED = 0.12


def _slice(choices: Choices, size: int) -> Slice:
    step = choices.weighted(((None, 5), (2, 3), (3, 1), (1, 1)))
    if choices.boolean(DISORDERED):
        low, high = -size - 2, size + 2
        return Slice(choices.integer(low, high), choices.integer(low, high), step)
    start: int | None = choices.integer(0, max(size - 1, 0)) if choices.boolean(0.6) else None
    stop: int | None = choices.integer(start or 0, size) if choices.boolean(0.5) else None
    if stop is not None and choices.boolean(0.3):
        stop = stop - size if stop < size else size + 3
    if start is not None and choices.boolean(0.3):
        start -= size
    return Slice(start if start != 0 else None, stop, step)


def _indices(choices: Choices, shape: Shape, *, advanced: bool, distinct: bool) -> tuple[Arg, tuple[Extra, ...]]:
    """What stands between the brackets, and the tensors in it."""
    items: list[Arg] = []
    extras: list[Extra] = []
    length: int | None = None
    covered = choices.integer(0, len(shape)) if choices.boolean(0.5) else len(shape)
    for number in range(covered):
        size = shape[number]
        if choices.boolean(0.08):
            items.append(None)
        kind = choices.weighted((("slice", 5.0), ("all", 2.0), ("int", 2.0), ("tensor", 1.5 * advanced)))
        if kind == "int" and size:
            items.append(choices.integer(-size, size - 1))
        elif kind == "tensor" and size:
            if len(extras) == 0 and choices.boolean(0.35):
                extras.append(("bool", (size,), Spread()))
                items.append(Ref(len(extras)))
                advanced = False  # how many it picks is not known
            else:
                length = length or choices.integer(1, min(size, 6) if distinct else min(size + 2, 6))
                if distinct and length > size:
                    continue
                spread = Spread("distinct" if distinct else "index", 0 if distinct else -size, size - 1)
                extras.append(("int64", (length,), spread))
                items.append(Ref(len(extras)))
        elif kind == "all":
            items.append(Slice(None, None, None))
        else:
            items.append(_slice(choices, size))
    if covered < len(shape) and choices.boolean(0.5):
        items.insert(choices.integer(0, 1) * len(items), ...)
        if items[0] is ... and len(items) > 1:
            # Behind an ellipsis the indices count from the last dimension, whose sizes differ: only slices fit.
            items = [item if not isinstance(item, Ref | int) else Slice(None, None, 2) for item in items]
            extras = []
    if not items:
        items.append(...)
    return (items[0] if len(items) == 1 and choices.boolean(0.7) else tuple(items)), tuple(extras)


def _getitem(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    index, extras = _indices(choices, shape, advanced=choices.boolean(0.4), distinct=False)
    return _record("torch.Tensor.__getitem__", (Ref(0), index), shape, extras=extras, view=not extras)


def _setitem(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    advanced = choices.boolean(0.35)
    index, extras = _indices(choices, shape, advanced=advanced, distinct=True)
    value: Arg
    if choices.boolean(0.5) or extras:
        value = python_number(choices, reach, dtype) if dtype != "bool" else choices.boolean(0.5)
    else:
        # Any shape that broadcasts into the window; a single element always does.
        value = Ref(1)
        extras = ((choices.pick(("T", "T", "float32", "int64")), choices.pick(((), (1,), shape[-1:])), Spread()),)
    return _record("torch.Tensor.__setitem__", (Ref(0), index, value), shape, extras=extras, mutates=(0,), view=False)


def _factors(choices: Choices, size: int, count: int) -> list[int]:
    """A product of ``count`` factors that gives ``size``."""
    factors = []
    for _ in range(count - 1):
        divisors = [d for d in range(1, size + 1) if size % d == 0] if 0 < size <= 4096 else [1]
        factors.append(choices.pick(divisors))
        size //= factors[-1]
    return [*factors, size]


def _reshape(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    size = math.prod(shape)
    target = _factors(choices, size, choices.integer(1, 4))
    if size and choices.boolean(0.4):
        target[choices.integer(0, len(target) - 1)] = -1
    operator = choices.pick(("torch.reshape", "torch.Tensor.view", "torch.Tensor.reshape"))
    return _record(operator, (Ref(0), tuple(target)), shape)


def _expand(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    target = [choices.integer(1, 4) if size == 1 and choices.boolean(0.7) else size for size in shape]
    target = [choices.integer(1, 3) for _ in range(choices.integer(0, 2))] + target
    operator = choices.pick(("torch.Tensor.expand", "torch.broadcast_to"))
    return _record(operator, (Ref(0), tuple(target)), shape) if target else None


def _permute(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    rank = len(shape)
    if rank < 2:
        return None
    match choices.integer(0, 3):
        case 0:
            order = list(range(rank))
            for i in range(rank - 1, 0, -1):
                j = choices.integer(0, i)
                order[i], order[j] = order[j], order[i]
            return _record("torch.permute", (Ref(0), tuple(order)), shape)
        case 1:
            return _record("torch.Tensor.mT", (Ref(0),), shape)
        case 2:
            return _record("torch.movedim", (Ref(0), _dimension(choices, shape), _dimension(choices, shape)), shape)
    operator = choices.pick(("torch.transpose", "torch.Tensor.transpose", "torch.swapaxes"))
    return _record(operator, (Ref(0), _dimension(choices, shape), _dimension(choices, shape)), shape)


def _unsqueeze(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    if shape and 1 in shape and choices.boolean(0.5):
        return _record("torch.squeeze", (Ref(0), shape.index(1)), shape)
    return _record("torch.unsqueeze", (Ref(0), choices.integer(-len(shape) - 1, len(shape))), shape)


def _part(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    if not shape:
        return None
    dimension = _dimension(choices, shape)
    size = shape[dimension]
    match choices.integer(0, 6):
        case 0:
            start = choices.integer(0, size)
            return _record("torch.narrow", (Ref(0), dimension, start, choices.integer(0, size - start)), shape)
        case 1 if size:
            return _record("torch.select", (Ref(0), dimension, choices.integer(-size, size - 1)), shape)
        case 2 if size:
            window = choices.integer(1, size)
            return _record("torch.Tensor.unfold", (Ref(0), dimension, window, choices.integer(1, 3)), shape)
        case 3:
            pieces = choices.integer(1, 3)
            operator = choices.pick(("torch.chunk", "torch.tensor_split"))
            return _record(operator, (Ref(0), pieces), shape, (("dim", dimension),))
        case 4 if size:
            return _record("torch.split", (Ref(0), choices.integer(1, size)), shape, (("dim", dimension),))
        case 5 if 0 < size <= 8:
            return _record("torch.unbind", (Ref(0), dimension), shape)
    if len(shape) >= 2:
        return _record("torch.diagonal", (Ref(0), choices.integer(-2, 2)), shape)
    return None


def _moved(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    if not shape:
        return None
    dimension = _dimension(choices, shape)
    match choices.integer(0, 4):
        case 0:
            return _record("torch.flip", (Ref(0), (dimension,)), shape, view=False)
        case 1:
            return _record("torch.roll", (Ref(0), choices.integer(-3, 3), dimension), shape, view=False)
        case 2:
            return _record("torch.repeat_interleave", (Ref(0), choices.integer(0, 3), dimension), shape, view=False)
        case 3:
            counts = tuple(choices.integer(1, 2) for _ in shape)
            return _record("torch.Tensor.repeat", (Ref(0), counts), shape, view=False)
    again = choices.pick(("torch.cat", "torch.stack"))
    extras: tuple[Extra, ...] = (("T", shape, Spread()),) * choices.integer(0, 2)
    parts = tuple(Ref(i) for i in range(len(extras) + 1))
    return _record(again, (parts, dimension), shape, extras=extras, view=False)


def _pad(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    if not shape:
        return None
    covered = choices.integer(1, min(len(shape), 3))
    amounts = tuple(choices.integer(-1, 3) for _ in range(2 * covered))
    mode = choices.weighted((("constant", 6), ("reflect", 1), ("replicate", 1), ("circular", 1)))
    kwargs: Kwargs = (("mode", mode),) if mode != "constant" else ()
    if mode == "constant" and choices.boolean(0.4):
        kwargs = (("value", python_number(choices, reach, dtype)),)
    return _record("torch.nn.functional.pad", (Ref(0), amounts), shape, kwargs, view=False)


def _cast(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    width = _WIDTH.get(dtype)
    if width is not None and choices.boolean(0.3):
        others = [
            name
            for other, names in _WIDTHS.items()
            for name in names
            # Bytes other than 0 and 1 are no booleans; wide floats made of other bytes are seldom ordinary.
            if name not in ("bool", dtype) and (other == width or (shape and (shape[-1] * width) % other == 0))
        ]
        if others:
            return _record("torch.Tensor.view", (Ref(0), Name(f"torch.{choices.pick(others)}")), shape)
    kwargs: Kwargs = (("copy", True),) if choices.boolean(0.15) else ()
    return _record("torch.Tensor.to", (Ref(0), Name(f"torch.{choices.pick(CASTS)}")), shape, kwargs, view=False)


def _copy(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    operator = choices.pick(("torch.Tensor.contiguous", "torch.clone", "torch.Tensor.clone"))
    kwargs: Kwargs = ()
    if len(shape) == 4 and choices.boolean(0.7):
        kwargs = (("memory_format", Name("torch.channels_last")),)
    elif operator != "torch.Tensor.contiguous" and choices.boolean(0.3):
        kwargs = (("memory_format", Name("torch.contiguous_format")),)
    return _record(operator, (Ref(0),), shape, kwargs)


def _number(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    """Arithmetic with a Python number, in place or not."""
    name = choices.pick(("add", "sub", "mul", "add", "mul", "div", "pow", "maximum", "where", "eq", "lt"))
    factor = python_number(choices, reach, dtype)
    if name == "where":
        return _record("torch.where", (Ref(1), Ref(0), factor), shape, extras=(("bool", shape, Spread()),), view=False)
    if name == "maximum":
        return _record("torch.clamp", (Ref(0), factor), shape, view=False)
    if name in ("add", "sub", "mul", "div") and choices.boolean(0.45):
        return _record(f"torch.Tensor.{name}_", (Ref(0), factor), shape, mutates=(0,))
    if name in ("add", "sub", "mul") and choices.boolean(0.2):
        operator = {"add": "__radd__", "sub": "__rsub__", "mul": "__rmul__"}[name]
        return _record(f"torch.Tensor.{operator}", (Ref(0), factor), shape, view=False)
    return _record(f"torch.{name}", (Ref(0), factor), shape, view=False)


def _write(choices: Choices, shape: Shape, dtype: str, reach: Reach) -> Record | None:
    """Overwrite an operand as a whole."""
    match choices.integer(0, 2):
        case 0:
            other = choices.pick(("T", "T", "float32", "int64"))
            source = choices.pick((shape, shape, shape[1:], ()))
            extras: tuple[Extra, ...] = ((other, source, Spread()),)
            return _record("torch.Tensor.copy_", (Ref(0), Ref(1)), shape, extras=extras, mutates=(0,))
        case 1:
            return _record("torch.Tensor.zero_", (Ref(0),), shape, mutates=(0,))
    return _record("torch.Tensor.fill_", (Ref(0), python_number(choices, reach, dtype)), shape, mutates=(0,))


_KINDS: tuple[Callable[[Choices, Shape, str, Reach], Record | None], ...] = (
    _getitem, _getitem, _getitem, _getitem, _setitem, _setitem, _reshape, _reshape, _expand, _permute, _permute,
    _unsqueeze, _part, _part, _moved, _pad, _cast, _cast, _copy, _number, _number, _write,
)  # fmt: skip


# --- without an operand -----------------------------------------------------------------------------------------------


def constant(choices: Choices, shape: Shape, dtype: str, reach: Reach = "plain") -> Record:
    """A call without operands that makes a tensor of this type."""
    kind = ("dtype", Name(f"torch.{dtype}"))
    size = math.prod(shape)
    wide = dtype.startswith(("float", "bfloat", "complex"))
    options = ["full", "zeros", "ones"]
    if size <= 6 and len(shape) <= 1:
        options += ["tensor", "tensor"]
    if len(shape) == 1 and dtype != "bool" and not dtype.startswith("complex"):
        options += ["arange", "arange"]
    if len(shape) == 2:
        options += ["eye"]
    match choices.pick(options):
        case "full":
            content: Arg = choices.pick((2, 1, 0, 3)) if not wide else choices.pick((2.0, 0.5, -1.0, 0.0, 3.0))
            if dtype == "bool":
                content = choices.boolean(0.5)
            elif wide and reach != "plain" and choices.boolean(0.5):
                # A NaN or an infinity folds into everything behind it.
                odd = reach == "any" and choices.boolean(0.4)
                content = choices.pick((math.nan, math.inf, -math.inf)) if odd else float(python_number(choices, reach))
            return Record("torch.full", (shape, content), (kind,), (), (), (), ())
        case "tensor":
            items: list[Arg] = [choices.integer(0, 3) if not wide else choices.integer(-4, 4) / 2 for _ in range(size)]
            if dtype == "bool":
                items = [bool(item) for item in items]
            elif wide and items and reach != "plain" and choices.boolean(0.5):
                items[choices.integer(0, size - 1)] = float(python_number(choices, reach))
            return Record("torch.tensor", (tuple(items) if shape else items[0],), (kind,), (), (), (), ())
        case "arange":
            return Record("torch.arange", (size,), (kind,), (), (), (), ())
        case "eye":
            return Record("torch.eye", tuple(shape), (kind,), (), (), (), ())
        case name:
            return Record(f"torch.{name}", (shape,), (kind,), (), (), (), ())


def derivation(choices: Choices, shape: Shape) -> Record:
    """A view whose result has this shape: the record's only operand is what it is a view of."""
    rank = len(shape)
    kinds = ["window"]
    if rank >= 2:
        kinds += ["transpose", "transpose"]
    if rank >= 1:
        kinds += ["slice", "slice", "select", "expand", "reshape"]
    match choices.pick(kinds):
        case "transpose":
            one, other = choices.integer(0, rank - 1), choices.integer(0, rank - 2)
            other += other >= one
            source = list(shape)
            source[one], source[other] = source[other], source[one]
            return _record("torch.transpose", (Ref(0), one, other), tuple(source))
        case "slice":
            dimension = choices.integer(0, rank - 1)
            step, start = choices.integer(1, 3), choices.integer(0, 2)
            source = list(shape)
            source[dimension] = start + step * max(shape[dimension] - 1, 0) + 1
            index: list[Arg] = [Slice(None, None, None)] * dimension
            index.append(Slice(start or None, None if shape[dimension] else start, step if step > 1 else None))
            return _record("torch.Tensor.__getitem__", (Ref(0), tuple(index)), tuple(source))
        case "select":
            place = choices.integer(0, rank)
            source = [*shape[:place], choices.integer(1, 3), *shape[place:]]
            return _record("torch.select", (Ref(0), place, choices.integer(0, source[place] - 1)), tuple(source))
        case "expand":
            dimension = choices.integer(0, rank - 1)
            source = list(shape)
            source[dimension] = 1
            return _record("torch.Tensor.expand", (Ref(0), shape), tuple(source))
        case "reshape":
            return _record("torch.reshape", (Ref(0), shape), tuple(_factors(choices, math.prod(shape), 2)))
    return _record("torch.Tensor.__getitem__", (Ref(0), 0), (choices.integer(1, 3), *shape))


def strided_window(choices: Choices) -> Record:
    """``as_strided``: only on an input that lies row-major, where its meaning does not depend on anybody's layout."""
    rank = choices.integer(0, 3)
    shape = tuple(choices.integer(1, 4) for _ in range(rank))
    strides = tuple(choices.pick((1, 2, 3, 4, 0)) for _ in range(rank))
    offset = choices.integer(0, 3)
    needed = offset + 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    args: tuple[Arg, ...] = (Ref(0), shape, strides)
    if offset:
        args += (offset,)
    return _record("torch.Tensor.as_strided", args, (needed + choices.integer(0, 3),))
