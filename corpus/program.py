"""Programs: immutable networks in static single assignment form.

Values are numbered: first the inputs, then the results of each call, in order. An in-place operator and a view
are ordinary calls; that their result shares memory with an operand is the operator's meaning, not the program's.
A constant is a call without tensor operands (``torch.full``, ``torch.tensor``).

What has a body, a branch, a loop or a ``with`` block, is a call with regions, as in MLIR. A region is closed, as the
bodies are that JAX and ``torch.fx`` give their control flow: its values are numbered from 0, and what it takes from
around it is listed. So a call means the same wherever it stands, and its operands are known without its surroundings;
numbers that ran on into the region would have to change whenever a call before it comes or goes. What reads free
variables in its source, as ONNX subgraphs and Python's closures do, is printed with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Literal, TypeAlias

__all__ = [
    "NESTING",
    "NUMBERS",
    "Arg",
    "Call",
    "Input",
    "InvalidProgram",
    "Name",
    "Program",
    "Ref",
    "Region",
    "Role",
    "Slice",
    "TensorType",
    "everywhere",
    "mapped",
    "rebuilt",
    "reference",
    "references",
    "renumbered",
    "scoped",
    "walk",
]

Role = Literal["input", "parameter"]
Form = Literal["tensor", "sequence", "none"]


#: Regions within regions: so deep at most. People write two or three levels.
NESTING = 8

#: Element types of Python's own numbers, which a loop may carry beside tensors; they exist inside regions only.
NUMBERS = ("python_bool", "python_int", "python_float")


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
        regions: the bodies of an operator that has some; which one is what, its vocabulary says.
    """

    operator: str
    args: tuple[Arg, ...]
    kwargs: tuple[tuple[str, Arg], ...] = ()
    results: tuple[TensorType | None, ...] = ()
    form: Form = "tensor"
    regions: tuple[Region, ...] = ()

    def operands(self) -> tuple[int, ...]:
        """The values it uses, in order of appearance, with repetition; what its regions capture comes last."""
        found: list[int] = []
        for arg in self.args:
            # Plain references and plain numbers are nearly all there is.
            if type(arg) is Ref:
                found.append(arg.index)
            elif type(arg) is tuple or type(arg) is Slice:
                found.extend(references(arg))
        for _, value in self.kwargs:
            found.extend(references(value))
        for region in self.regions:
            found.extend(region.captures)
        return tuple(found)


_REFS = tuple(Ref(number) for number in range(1024))


def reference(number: int) -> Ref:
    """``Ref(number)``; the small ones exist already."""
    return _REFS[number] if 0 <= number < 1024 else Ref(number)


@dataclass(frozen=True, slots=True)
class Region:
    """A block of calls that an operator is given: a branch, the body of a loop, what stands under ``with``.

    Its values are numbered on their own: first its parameters, then what it captures, then the results of its calls.
    Nothing of it is seen outside but what it returns, and that only as the operator hands it on.

    Attributes:
        parameters: what the operator gives it, each time it runs it; a number of Python has one of the types
            ``NUMBERS`` and no dimensions.
        captures: numbers of the values around it that it uses.
        calls: in order.
        returns: which of its values it gives back.
    """

    parameters: tuple[TensorType, ...] = ()
    captures: tuple[int, ...] = ()
    calls: tuple[Call, ...] = ()
    returns: tuple[int, ...] = ()

    def types(self, around: Sequence[TensorType | None]) -> tuple[TensorType | None, ...]:
        """The type of every value of it, given those of the values around it."""
        results = [result for call in self.calls for result in call.results]
        return (*self.parameters, *(around[number] for number in self.captures), *results)

    def firsts(self) -> tuple[int, ...]:
        """For each call, the number of its first result."""
        return _firsts(len(self.parameters) + len(self.captures), self.calls)


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

    args = tuple(move(arg) for arg in call.args)
    kwargs = tuple((key, move(value)) for key, value in call.kwargs)
    if not call.regions:
        return replace(call, args=args, kwargs=kwargs)
    regions = []
    for region in call.regions:
        captures = [arguments[number] for number in region.captures]
        if not all(isinstance(one, Ref) for one in captures):
            raise KeyError("a region captures values, not numbers")
        taken = tuple(one.index for one in captures if isinstance(one, Ref))
        regions.append(replace(region, captures=taken))
    return replace(call, args=args, kwargs=kwargs, regions=tuple(regions))


def walk(calls: Sequence[Call]) -> Iterator[Call]:
    """Every call, those inside regions right behind the one that has them.

    A nested call's operands are numbers of its region; ``scoped`` tells their types.
    """
    for call in calls:
        yield call
        for region in call.regions:
            yield from walk(region.calls)


def everywhere(call: Call, change: Callable[[Call], Call]) -> Call:
    """The call with a change made to each call inside of it, and then to itself; numbers of values must stay."""
    if call.regions:
        regions = tuple(
            replace(region, calls=tuple(everywhere(inner, change) for inner in region.calls)) for region in call.regions
        )
        call = replace(call, regions=regions)
    return change(call)


def scoped(program: Program) -> Iterator[tuple[Call, Sequence[TensorType | None]]]:
    """Every call as ``walk`` gives it, with the types of the values that its operands are numbers of."""

    def within(
        calls: Sequence[Call], types: Sequence[TensorType | None]
    ) -> Iterator[tuple[Call, Sequence[TensorType | None]]]:
        for call in calls:
            yield call, types
            for region in call.regions:
                yield from within(region.calls, region.types(types))

    return within(program.calls, program.types())


def _firsts(number: int, calls: Sequence[Call]) -> tuple[int, ...]:
    numbers = []
    for call in calls:
        numbers.append(number)
        number += len(call.results)
    return tuple(numbers)


@dataclass(frozen=True, slots=True)
class Program:
    """An immutable network: inputs, calls, and which values are returned.

    Attributes:
        inputs: what it is given.
        calls: in order.
        returns: which values it gives back.
        vocabulary: in which its operators have a meaning.
        around: blocks in which whoever calls the network calls it, the outermost first, as calls without operands,
            results and regions. They are no part of what a target compiles, and hold for the reference as well.

    Raises:
        InvalidProgram: a call or a return names a value that is not defined before it, or regions are nested too deep.
    """

    inputs: tuple[Input, ...]
    calls: tuple[Call, ...]
    returns: tuple[int, ...]
    vocabulary: str = "torch"
    around: tuple[Call, ...] = ()

    def __post_init__(self) -> None:
        if self.around:
            _check_around(self.around)
        defined = [True] * len(self.inputs)
        _check(self.calls, defined)
        _check_returns(self.returns, defined)

    def types(self) -> tuple[TensorType | None, ...]:
        """The type of every value, by number."""
        results = [result for call in self.calls for result in call.results]
        return (*(given.type for given in self.inputs), *results)

    def firsts(self) -> tuple[int, ...]:
        """For each call, the number of its first result."""
        return _firsts(len(self.inputs), self.calls)

    def producer(self, value: int) -> int | None:
        """The call whose result ``value`` is, or None for an input."""
        if value < len(self.inputs):
            return None
        for position, first in enumerate(self.firsts()):
            if first <= value < first + len(self.calls[position].results):
                return position
        raise IndexError(value)

    def operators(self) -> tuple[str, ...]:
        """The operator of each call, in order, of those inside regions too."""
        return tuple(call.operator for call in walk(self.calls))

    def structured(self) -> bool:
        """Whether there is more to it than a list of calls: a region, or a block around all of it."""
        return bool(self.around) or any(call.regions for call in self.calls)


def _check(calls: Sequence[Call], defined: list[bool], depth: int = 0, where: str = "") -> None:
    """Each call's form, operands and regions; ``defined`` grows by a flag for each result, whether it is a value."""
    for position, call in enumerate(calls):
        if (call.form == "tensor" and len(call.results) != 1) or (call.form == "none" and call.results):
            here = _place(where, position, call)
            raise InvalidProgram(f"{here}: form {call.form!r} does not go with {len(call.results)} results")
        for index in call.operands():
            if not 0 <= index < len(defined) or not defined[index]:
                raise InvalidProgram(
                    f"{_place(where, position, call)} uses value {index}, "
                    f"but only tensors among 0..{len(defined) - 1} are defined there"
                )
        for number, region in enumerate(call.regions):
            here = _place(where, position, call)
            if depth == NESTING:
                raise InvalidProgram(f"{here}: regions are nested more than {NESTING} deep")
            inside = [True] * (len(region.parameters) + len(region.captures))
            _check(region.calls, inside, depth + 1, f"{here}, region {number}: ")
            _check_returns(region.returns, inside, f"{here}, region {number}:")
        for result in call.results:
            defined.append(result is not None)
            if not depth and result is not None and result.dtype in NUMBERS:
                here = _place(where, position, call)
                raise InvalidProgram(f"{here}: a number of Python is a value inside regions only")


def _place(where: str, position: int, call: Call) -> str:
    return f"{where}call {position} ({call.operator})"


def _check_returns(returns: Sequence[int], defined: Sequence[bool], where: str = "the program") -> None:
    for index in returns:
        if not 0 <= index < len(defined) or not defined[index]:
            raise InvalidProgram(f"{where} returns value {index}, which is not a defined tensor")


def _check_around(around: Sequence[Call]) -> None:
    """A block around the program takes no value, for there is none yet, and holds nothing but the program."""
    for call in around:
        if call.operands() or call.results or call.regions or call.form != "none":
            raise InvalidProgram(f"the block {call.operator} around the program must have no operand, result or region")
