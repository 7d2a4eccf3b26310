"""Traces: executed calls of operators, and the variant (argument structure) that each belongs to.

What a trace says about sizes is a mapping from names to integers: ``in[0].shape[1]`` is a dimension of an operand,
``stride[0]`` or ``dim`` an integer attribute under its parameter's name. Everything else of the arguments (which are
there, their kinds, the length of sequences, strings, booleans, dtypes, the operands' ranks) is the variant.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from shakeout.corpus.codec import arg_from_json, arg_to_json
from shakeout.corpus.program import Arg, Form, Name, Ref, Slice, TensorType, references
from shakeout.generators.rules.parameter_names import parameters

__all__ = ["Kind", "Trace", "Variant", "attributes", "inexact", "structure_of", "symbols", "variant_of"]

#: A position of an argument: of a positional one its number, of a keyword its name; then positions within sequences.
Path: TypeAlias = "tuple[int | str, ...]"
#: What is fixed about an argument: ``"int"``, ``"float"``, ``"tensor 0"``, ``"True"``, ``"'reflect'"``; of a sequence
#: or slice a tuple that opens with ``"sequence"`` or ``"slice"``.
Kind: TypeAlias = "str | tuple[Kind, ...]"


@dataclass(frozen=True, slots=True)
class Trace:
    """One executed call.

    Attributes:
        operator: qualified name, as in ``Call.operator``.
        args: positional arguments; ``Ref(i)`` stands for operand ``i``, everything else is concrete.
        kwargs: keyword arguments as sorted pairs.
        operands: the type of each operand.
        results: the type of each result; ``None`` stands for a position that is not a tensor.
        form: of the result, as in ``Call.form``.
        error: ``""`` if the call was accepted, else the template of the message that rejected it.
        source: where it comes from: ``sample``, ``error input``, ``docstring``, ``augmented``, ``user``, ``campaign``.
    """

    operator: str
    args: tuple[Arg, ...]
    kwargs: tuple[tuple[str, Arg], ...]
    operands: tuple[TensorType, ...]
    results: tuple[TensorType | None, ...] = ()
    form: Form = "tensor"
    error: str = ""
    source: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the operator took the call."""
        return not self.error

    def to_json(self) -> list[Any]:
        """As a row of plain JSON values."""
        return [
            self.operator,
            [arg_to_json(arg) for arg in self.args],
            {key: arg_to_json(arg) for key, arg in self.kwargs},
            [[operand.dtype, list(operand.shape)] for operand in self.operands],
            [None if result is None else [result.dtype, list(result.shape)] for result in self.results],
            self.form,
            self.error,
            self.source,
        ]

    @staticmethod
    def from_json(row: Any) -> Trace:
        """Read a row.

        Raises:
            ValueError: it is no trace; the message says what was found.
        """
        try:
            operator, args, kwargs, operands, results, form, error, source = row
            if not (isinstance(operator, str) and isinstance(error, str) and isinstance(source, str)):
                raise ValueError("operator, error and source are texts")
            if form not in ("tensor", "sequence", "none"):
                raise ValueError(f"form is tensor, sequence or none, not {form!r}")
            trace = Trace(
                operator=operator,
                args=tuple([arg_from_json(arg) for arg in args]),
                kwargs=tuple(sorted((str(key), arg_from_json(arg)) for key, arg in kwargs.items())),
                operands=tuple([_type(operand) for operand in operands]),
                results=tuple([None if result is None else _type(result) for result in results]),
                form=form,
                error=error,
                source=source,
            )
        except (TypeError, AttributeError, KeyError, RecursionError) as problem:
            raise ValueError(f"a row that is no trace ({problem}): {repr(row)[:80]}") from None
        arguments = (*trace.args, *(arg for _, arg in trace.kwargs))
        for number in (index for arg in arguments for index in references(arg)):
            if not 0 <= number < len(trace.operands):
                raise ValueError(f"{operator}: operand {number} is used, but there are {len(trace.operands)}")
        return trace


def _type(data: Any) -> TensorType:
    dtype, shape = data
    if not isinstance(dtype, str) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"a tensor's type is a dtype and sizes, not {repr(data)[:60]}")
    return TensorType(dtype, tuple(shape))


@dataclass(frozen=True, slots=True)
class Variant:
    """An argument structure of an operator: traces of one variant differ in integers, floats and dtypes only.

    Attributes:
        operator: qualified name.
        args: kind of each positional argument.
        kwargs: kind of each keyword argument, as sorted pairs.
        ranks: number of dimensions of each operand.
    """

    operator: str
    args: tuple[Kind, ...]
    kwargs: tuple[tuple[str, Kind], ...]
    ranks: tuple[int, ...]

    def __str__(self) -> str:
        parts = [_text(kind, self.ranks) for kind in self.args]
        parts += [f"{key}={_text(kind, self.ranks)}" for key, kind in self.kwargs]
        return f"{self.operator}({', '.join(parts)})"

    @property
    def structure(self) -> tuple[object, ...]:
        """What is left of it without ranks: a recorded call of one structure stands for several ranks."""
        return self.args, self.kwargs, len(self.ranks)

    def to_json(self) -> list[Any]:
        """As plain JSON values."""
        return [self.operator, list(self.args), dict(self.kwargs), list(self.ranks)]

    @staticmethod
    def from_json(row: Any) -> Variant:
        """Read what ``to_json`` wrote; raises ValueError where it is no variant."""
        try:
            operator, args, kwargs, ranks = row
            if not isinstance(operator, str) or not all(type(rank) is int and rank >= 0 for rank in ranks):
                raise ValueError("an operator and ranks are expected")
            pairs = sorted((str(key), _kind(kind)) for key, kind in kwargs.items())
            return Variant(operator, tuple([_kind(kind) for kind in args]), tuple(pairs), tuple(ranks))
        except (TypeError, AttributeError, RecursionError) as problem:
            raise ValueError(f"no variant ({problem}): {repr(row)[:80]}") from None


def _kind(data: Any) -> Kind:
    if isinstance(data, str):
        return data
    if not isinstance(data, list | tuple) or not data or data[0] not in ("sequence", "slice"):
        raise ValueError(f"no kind of an argument: {repr(data)[:60]}")
    return tuple([_kind(item) for item in data])


def _text(kind: Kind, ranks: tuple[int, ...]) -> str:
    if isinstance(kind, tuple):
        inner = [_text(item, ranks) for item in kind[1:]]
        if kind[0] == "slice":
            return ":".join("" if item == "None" else item for item in inner)
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
    if kind.startswith("tensor "):
        return f"tensor {ranks[int(kind[7:])]}d"
    return kind


def variant_of(trace: Trace) -> Variant:
    """The variant that a call belongs to."""
    ranks = tuple([len(operand.shape) for operand in trace.operands])
    return Variant(trace.operator, *_kinds_of(trace.args, trace.kwargs), ranks)


def structure_of(args: tuple[Arg, ...], kwargs: tuple[tuple[str, Arg], ...], operands: int) -> tuple[object, ...]:
    """``Variant.structure`` of calls with these arguments and so many operands."""
    return (*_kinds_of(args, kwargs), operands)


def _kinds_of(
    args: tuple[Arg, ...], kwargs: tuple[tuple[str, Arg], ...]
) -> tuple[tuple[Kind, ...], tuple[tuple[str, Kind], ...]]:
    return tuple([_kind_of(arg) for arg in args]), tuple([(key, _kind_of(arg)) for key, arg in kwargs])


def _kind_of(arg: Arg) -> Kind:
    match arg:
        case Ref(index):
            return f"tensor {index}"
        case bool() | None:
            return str(arg)
        case int():
            return "int"
        case float():
            return "float"
        case complex():
            return "complex"
        case str():
            return repr(arg)
        case Name(name):
            return name
        case tuple():
            return ("sequence", *[_kind_of(item) for item in arg])
        case Slice(start, stop, step):
            return ("slice", _kind_of(start), _kind_of(stop), _kind_of(step))
    return "..."


@functools.lru_cache(1 << 16)
def attributes(variant: Variant) -> tuple[tuple[str, Path, str], ...]:
    """Every number among the arguments of a variant: its name, where it is, and ``int``, ``float`` or ``complex``."""
    kinds = variant.args
    keywords = tuple([key for key, _ in variant.kwargs])
    names, variadic = parameters(variant.operator, len(kinds), keywords, tuple([kind == "int" for kind in kinds]))
    found: list[tuple[str, Path, str]] = []
    last = len(names) - 1
    for position, kind in enumerate(kinds):
        if variadic and position >= last:
            name = f"{names[last]}[{position - last}]"
        elif position <= last:
            name = names[position]
        else:
            name = f"arg{position}"
        found.extend(_numbers(kind, name, (position,)))
    for key, kind in variant.kwargs:
        found.extend(_numbers(kind, key, (key,)))
    return tuple(found)


def _numbers(kind: Kind, name: str, path: Path) -> Iterator[tuple[str, Path, str]]:
    if kind in ("int", "float", "complex"):
        yield name, path, str(kind)
    elif isinstance(kind, tuple):
        slices = kind[0] == "slice"
        for position, item in enumerate(kind[1:]):
            inner = f"{name}.{('start', 'stop', 'step')[position]}" if slices else f"{name}[{position}]"
            yield from _numbers(item, inner, (*path, position))


def symbols(trace: Trace, variant: Variant | None = None) -> dict[str, int]:
    """The integers of a call by name: each dimension of each operand, then each integer attribute.

    Args:
        trace: the call.
        variant: that it belongs to, where that is known already.
    """
    found = {
        f"in[{number}].shape[{axis}]": size
        for number, operand in enumerate(trace.operands)
        for axis, size in enumerate(operand.shape)
    }
    for name, path, kind in attributes(variant or variant_of(trace)):
        if kind == "int":
            found[name] = _at(trace, path)
    return found


def inexact(trace: Trace, variant: Variant | None = None) -> dict[str, complex]:
    """The floating-point and complex attributes of a call by name."""
    known = attributes(variant or variant_of(trace))
    return {name: _at(trace, path) for name, path, kind in known if kind != "int"}


def _at(trace: Trace, path: Path) -> Any:
    first = path[0]
    arg: Any = trace.args[first] if isinstance(first, int) else dict(trace.kwargs)[first]
    for position in path[1:]:
        parts: Any = (arg.start, arg.stop, arg.step) if isinstance(arg, Slice) else arg
        arg = parts[position]
    return arg
