"""Writes that are hard to get right: through views whose elements share places, through another dtype of the same
bytes, and what reads memory by its layout alone.

Each is a few calls on a fresh input; eager runs them as they are put together, as of everything that grows.
"""

from __future__ import annotations

from collections.abc import Callable

from shakeout.corpus.program import Arg, Name, Slice, reference, references
from shakeout.generators.calls import Rejected
from shakeout.generators.growth import Growth
from shakeout.generators.numbers import python_number
from shakeout.generators.values import Given, Layout, row_major
from shakeout.generators.vocabularies.records import Spread

__all__ = ["write"]

Kwargs = tuple[tuple[str, Arg], ...]

_ROW_MAJOR: Kwargs = (("memory_format", Name("torch.contiguous_format")),)

#: Dtypes of the same width, of which one shows the bits of the other.
_BITS = (("float32", "int32"), ("float64", "int64"), ("float16", "int16"), ("bfloat16", "int16"), ("int32", "float32"))


def write(growth: Growth) -> bool:
    """Begin a program with one of these; whether it was taken."""
    kind = growth.choices.pick(_KINDS)
    if growth.config.training and not growth.config.overwrites:
        kind = _strided  # what the others write to, no backward pass has a use for
    return growth.attempt(lambda: kind(growth))


def _call(growth: Growth, operator: str, args: tuple[Arg, ...], kwargs: Kwargs = (), writes: bool = False) -> int:
    if not growth.welcomes(operator, (0,) if writes else (), True):
        raise Rejected("not wanted here")
    operands = tuple(references(args))
    growth.run(operator, args, kwargs, operands, operands[:1] if writes else ())
    return growth.steps[-1].first


def _input(growth: Growth, dtype: str, shape: tuple[int, ...], layout: Layout | None = None, leaf: bool = False) -> int:
    """A fresh input that may be written to, unless it is a leaf."""
    if not growth.config.writes and not leaf:
        raise Rejected("writes to an input")
    values = growth.sampler.values(dtype, Spread(), 1)
    wide = dtype.startswith(("float", "bfloat"))
    grad = leaf and wide and growth.config.training
    return growth.give(Given(dtype, shape, layout or row_major(len(shape)), values, dtype, requires_grad=grad))


def _shape(growth: Growth, least: int = 1) -> tuple[int, ...]:
    pick = growth.choices.pick
    return tuple(pick((2, 3, 4, 5, 8, 1)) for _ in range(growth.choices.integer(least, 3)))


def _read(growth: Growth, value: int) -> int:
    """Something that reads all of a value."""
    match growth.choices.integer(0, 3):
        case 0:
            return _call(growth, "torch.add", (reference(value), 1))
        case 1:
            return _call(growth, "torch.clone", (reference(value),))
        case 2:
            return _call(growth, "torch.sum", (reference(value),))
    return _call(growth, "torch.mul", (reference(value), reference(value)))


def _together(growth: Growth) -> None:
    """Elements that share a place are all given the same number."""
    choices = growth.choices
    dtype = choices.pick(("float32", "float32", "int64", "float16", "float64", "int32", "bool"))
    shape = _shape(growth)
    place = choices.integer(0, len(shape) - 1)
    if choices.boolean(0.3):
        plain = row_major(len(shape))
        view = value = _input(growth, dtype, shape, Layout(plain.order, plain.steps, plain.padding, frozenset([place])))
    else:
        value = _input(growth, dtype, (*shape[:place], 1, *shape[place + 1 :]))
        if choices.boolean(0.3):
            value = _call(growth, "torch.clone", (reference(value),))
        wide = (*shape[:place], choices.integer(2, 4), *shape[place + 1 :])
        view = _call(growth, "torch.Tensor.expand", (reference(value), wide))
    if choices.boolean(0.4):
        _read(growth, value)
    number = choices.boolean(0.5) if dtype == "bool" else python_number(choices, growth.config.reach, dtype)
    match choices.integer(0, 2):
        case 0:
            _call(growth, "torch.Tensor.fill_", (reference(view), number), writes=True)
        case 1:
            _call(growth, "torch.Tensor.zero_", (reference(view),), writes=True)
        case 2:
            stop = choices.integer(1, max(growth.shapes[view][0], 1))
            args = (reference(view), Slice(None, stop, None), number)
            _call(growth, "torch.Tensor.__setitem__", args, writes=True)
    _read(growth, value)


def _bits(growth: Growth) -> None:
    """The bits of an input change under another name, while it is read before and behind that."""
    choices = growth.choices
    dtype, other = choices.pick(_BITS)
    value = _input(growth, dtype, _shape(growth))
    if choices.boolean(0.3):
        value = _call(growth, "torch.clone", (reference(value),), _ROW_MAJOR)
    _read(growth, value)
    view = _call(growth, "torch.Tensor.view", (reference(value), Name(f"torch.{other}")))
    if other == "float32":
        operator, args = choices.pick((("fill_", (1.0,)), ("zero_", ()), ("mul_", (2.0,)), ("neg_", ())))
    else:
        operator, args = choices.pick((("bitwise_xor_", (1,)), ("add_", (1,)), ("zero_", ()), ("bitwise_and_", (-2,))))
    _call(growth, f"torch.Tensor.{operator}", (reference(view), *args), writes=True)
    _read(growth, value)


def _strided(growth: Growth) -> None:
    """``as_strided`` of what a call made, whose strides eager promises: a row-major copy, or a view of an input."""
    choices = growth.choices
    shape = _shape(growth)
    value = _input(growth, choices.pick(("float32", "float32", "int64", "bfloat16")), shape, leaf=True)
    match choices.integer(0, 2):
        case 0:
            made = _call(growth, "torch.clone", (reference(value),), _ROW_MAJOR)
        case 1:
            made = _call(
                growth, "torch.Tensor.__getitem__", (reference(value), Slice(choices.integer(0, 1), None, None))
            )
        case _:
            made = _call(growth, "torch.transpose", (reference(value), 0, -1))
    tensor = growth.tensors[made]
    room = tensor.untyped_storage().nbytes() // tensor.element_size()
    if not tensor.numel():
        raise Rejected("empty")
    sizes: list[int] = []
    strides: list[int] = []
    offset = choices.integer(0, min(room - 1, 3))
    left = room - 1 - offset
    for _ in range(choices.integer(1, 3)):
        stride = choices.pick((1, 2, 3, 0))
        size = choices.integer(1, 4)
        size = min(size, left // stride + 1) if stride else size
        left -= (size - 1) * stride
        sizes.append(size)
        strides.append(stride)
    view = _call(growth, "torch.Tensor.as_strided", (reference(made), tuple(sizes), tuple(strides), offset))
    if choices.boolean(0.4) and growth.writable(view) and growth.config.writes:
        operator, args = choices.pick((("fill_", (2,)), ("zero_", ())))
        _call(growth, f"torch.Tensor.{operator}", (reference(view), *args), writes=True)
        _read(growth, made)


def _resized(growth: Growth) -> None:
    """``resize_`` to no more elements than there are, of an input or of what a call made."""
    choices = growth.choices
    shape = _shape(growth)
    value = _input(growth, choices.pick(("float32", "int64", "float16")), shape)
    if choices.boolean(0.7):
        value = _call(growth, "torch.clone", (reference(value),), _ROW_MAJOR)
    room = growth.tensors[value].numel()
    first = choices.integer(1, room)
    sizes = choices.pick(((first,), (1, first), (first, 1), (first // 2, 2) if first > 1 else (first,)))
    _read(growth, _call(growth, "torch.Tensor.resize_", (reference(value), sizes), writes=True))


_KINDS: tuple[Callable[[Growth], None], ...] = (_together, _bits, _bits, _strided, _resized)
