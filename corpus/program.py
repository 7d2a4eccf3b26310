"""Programs: immutable networks in static single assignment form.

Values are numbered: first the inputs, then the results of each call, in order. An in-place operator and a view
are ordinary calls; that their result shares memory with an operand is the operator's meaning, not the program's.
A constant is a call without tensor operands (``torch.full``, ``torch.tensor``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Literal, TypeAlias

__all__ = [
    "Arg",
    "Call",
    "Input",
    "InvalidProgram",
    "Name",
    "Program",
    "Ref",
    "Role",
    "Slice",
    "TensorType",
    "mapped",
    "rebuilt",
    "reference",
    "references",
    "renumbered",
]

Role = Literal["input", "parameter"]
Form = Literal["tensor", "sequence", "none"]


class InvalidProgram(ValueError):
    """A program, case or setting that breaks a rule of its own data model."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """What is static about a tensor: its element type (``"float32"``) and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Ref:
    """A use of value number ``index``."""

    index: int


@dataclass(frozen=True, slots=True)
class Name:
    """A constant of the vocabulary, by qualified name (``torch.float32``, ``torch.channels_last``)."""

    name: str


@dataclass(frozen=True, slots=True)
class Slice:
    """A Python slice used as an index."""

    start: Arg
    stop: Arg
    step: Arg


#: What may stand as an argument. Sequences are tuples; ``...`` is Python's own ellipsis.
Arg: TypeAlias = "bool | int | float | complex | str | Ref | Name | Slice | tuple[Arg, ...] | EllipsisType | None"


@dataclass(frozen=True, slots=True)
class Input:
    """One tensor that the program is given; a parameter belongs to the network, an input to the call."""

    type: TensorType
    role: Role = "input"


@dataclass(frozen=True, slots=True)
class Call:
    """One application of an operator.

    Attributes:
        operator: qualified name in the vocabulary, ``torch.nn.functional.pad`` or ``torch.Tensor.add_``.
        args: positional arguments.
        kwargs: keyword arguments as sorted pairs.
        results: the type of each result; ``None`` stands for a position that is not a tensor.
        form: ``tensor`` (one result), ``sequence`` (a tuple or list of them) or ``none`` (only an effect).
    """

    operator: str
    args: tuple[Arg, ...]
    kwargs: tuple[tuple[str, Arg], ...] = ()
    results: tuple[TensorType | None, ...] = ()
    form: Form = "tensor"

    def operands(self) -> tuple[int, ...]:
        """The values it uses, in order of appearance, with repetition."""
        found: list[int] = []
        for arg in self.args:
            # Plain references and plain numbers are nearly all there is.
            if type(arg) is Ref:
                found.append(arg.index)
            elif type(arg) is tuple or type(arg) is Slice:
                found.extend(references(arg))
        for _, value in self.kwargs:
            found.extend(references(value))
        return tuple(found)


_REFS = tuple(Ref(number) for number in range(1024))


def reference(number: int) -> Ref:
    """``Ref(number)``; the small ones exist already."""
    return _REFS[number] if 0 <= number < 1024 else Ref(number)


def references(arg: Arg) -> Iterator[int]:
    """Every value number that an argument mentions."""
    if isinstance(arg, Ref):
        yield arg.index
    elif isinstance(arg, tuple):
        for item in arg:
            yield from references(item)
    elif isinstance(arg, Slice):
        for part in (arg.start, arg.stop, arg.step):
            yield from references(part)


def rebuilt(arg: Arg, leaf: Callable[[Arg], Arg]) -> Arg:
    """An argument with all that is neither a sequence nor a slice replaced: references, names and numbers."""
    kind = type(arg)
    if kind is tuple:
        return tuple([rebuilt(item, leaf) for item in arg])  # type: ignore[union-attr]
    if kind is Slice:
        start, stop, step = (rebuilt(part, leaf) for part in (arg.start, arg.stop, arg.step))  # type: ignore[union-attr]
        return Slice(start, stop, step)
    return leaf(arg)


def renumbered(arg: Arg, numbers: Mapping[int, int] | Sequence[int]) -> Arg:
    """An argument with other value numbers: for each the new one."""
    return rebuilt(arg, lambda leaf: reference(numbers[leaf.index]) if type(leaf) is Ref else leaf)


def mapped(call: Call, arguments: Mapping[int, Arg]) -> Call:
    """The call with its operands replaced by other arguments, by value number.

    Raises:
        KeyError: an operand has no replacement.
    """

    def move(arg: Arg) -> Arg:
        return rebuilt(arg, lambda leaf: arguments[leaf.index] if type(leaf) is Ref else leaf)

    return replace(
        call, args=tuple(move(arg) for arg in call.args), kwargs=tuple((key, move(value)) for key, value in call.kwargs)
    )


@dataclass(frozen=True, slots=True)
class Program:
    """An immutable network: inputs, calls, and which values are returned.

    Raises:
        InvalidProgram: a call or a return names a value that is not defined before it.
    """

    inputs: tuple[Input, ...]
    calls: tuple[Call, ...]
    returns: tuple[int, ...]
    vocabulary: str = "torch"

    def __post_init__(self) -> None:
        tensors = [True] * len(self.inputs)
        for position, call in enumerate(self.calls):
            if (call.form == "tensor" and len(call.results) != 1) or (call.form == "none" and call.results):
                raise InvalidProgram(
                    f"call {position} ({call.operator}): form {call.form!r} does not go with "
                    f"{len(call.results)} results"
                )
            for index in call.operands():
                if not 0 <= index < len(tensors) or not tensors[index]:
                    raise InvalidProgram(
                        f"call {position} ({call.operator}) uses value {index}, but only tensors among "
                        f"0..{len(tensors) - 1} are defined there"
                    )
            tensors.extend(result is not None for result in call.results)
        for index in self.returns:
            if not 0 <= index < len(tensors) or not tensors[index]:
                raise InvalidProgram(f"the program returns value {index}, which is not a defined tensor")

    def types(self) -> tuple[TensorType | None, ...]:
        """The type of every value, by number."""
        results = [result for call in self.calls for result in call.results]
        return (*(given.type for given in self.inputs), *results)

    def firsts(self) -> tuple[int, ...]:
        """For each call, the number of its first result."""
        numbers = []
        number = len(self.inputs)
        for call in self.calls:
            numbers.append(number)
            number += len(call.results)
        return tuple(numbers)

    def producer(self, value: int) -> int | None:
        """The call whose result ``value`` is, or None for an input."""
        if value < len(self.inputs):
            return None
        for position, first in enumerate(self.firsts()):
            if first <= value < first + len(self.calls[position].results):
                return position
        raise IndexError(value)

    def operators(self) -> tuple[str, ...]:
        """The operator of each call, in order."""
        return tuple(call.operator for call in self.calls)
