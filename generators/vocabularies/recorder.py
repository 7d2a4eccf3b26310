"""Writes down the calls of operators that somebody's code makes: PyTorch's samples, an example, a user's test.

What is heard is a call as a case can hold it, with the tensors themselves; who listens decides what is kept of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

from shakeout.corpus.program import Arg, Name, Ref, Slice, TensorType
from shakeout.corpus.vocabularies import torch as words
from shakeout.generators.values import plain

__all__ = ["CallRecorder", "Heard", "Listener", "Unrecordable", "heard", "operator_names", "type_of"]

#: Elements of an operand beyond which a call is not written down: it says what a smaller one says.
MAX_ELEMENTS = 4096
# Say where a result goes and how it is to be differentiated, not what is computed.
_DROPPED = ("device", "pin_memory", "requires_grad")


class Unrecordable(Exception):
    """A call with an argument that a case cannot hold."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One call as a case can hold it.

    Attributes:
        operator: qualified name.
        args: positional arguments; ``Ref(i)`` stands for operand ``i``.
        kwargs: keyword arguments as sorted pairs.
        tensors: the operands themselves, as they are before the call.
    """

    operator: str
    args: tuple[Arg, ...]
    kwargs: tuple[tuple[str, Arg], ...]
    tensors: tuple[torch.Tensor, ...]


#: Told of a call before it runs; what it gives is told the result, or the error.
Listener = Callable[[Heard], Callable[[Any, Exception | None], None] | None]


def heard(operator: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Heard:
    """A call as a case can hold it; raises Unrecordable."""
    tensors: list[torch.Tensor] = []
    stored = tuple(_argument(arg, tensors) for arg in args)
    keywords = []
    for key, value in sorted(kwargs.items()):
        if key in ("out", "generator"):
            if value is not None:
                raise Unrecordable
        elif key not in _DROPPED:
            keywords.append((key, _argument(value, tensors)))
    return Heard(operator, stored, tuple(keywords), tuple(tensors))


def _argument(value: Any, tensors: list[torch.Tensor]) -> Arg:
    match value:
        case torch.Tensor():
            if (
                not plain(value)
                or value.numel() > MAX_ELEMENTS
                or type(value) not in (torch.Tensor, torch.nn.Parameter)
            ):
                raise Unrecordable
            tensors.append(value)
            return Ref(len(tensors) - 1)
        case torch.dtype() | torch.memory_format():
            return Name(str(value))
        case torch.layout():
            if value != torch.strided:
                raise Unrecordable
            return Name(str(value))
        case list() | tuple():
            return tuple(_argument(item, tensors) for item in value)
        case slice():
            return Slice(*(_argument(part, tensors) for part in (value.start, value.stop, value.step)))
        case None | bool() | int() | float() | complex() | str():
            return value
        case _ if value is ...:
            return ...
    raise Unrecordable


def type_of(tensor: torch.Tensor) -> TensorType:
    """What is static about a tensor."""
    return TensorType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


class CallRecorder(TorchFunctionMode):
    """Hears the calls of operators that are made while it is entered; calls inside those are not heard."""

    def __init__(self, names: Callable[[Any], str | None], listener: Listener) -> None:
        super().__init__()
        self.names = names
        self.listener = listener

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = self.names(func)
        told = None
        if name is not None:
            with contextlib.suppress(Unrecordable):
                told = self.listener(heard(name, args, kwargs or {}))
        if told is None:
            return func(*args, **(kwargs or {}))
        try:
            result = func(*args, **(kwargs or {}))
        except Exception as error:
            told(None, error)
            raise
        told(result, None)
        return result

    def hear(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call a function: heard itself if it is an operator, else what it calls is.

        Torch tells a mode of the functions that tensors may override. Those that are made of them it would pass over.
        """
        if self.names(function) is not None:
            return self.__torch_function__(function, (), tuple(args), dict(kwargs))
        with self:
            return function(*args, **kwargs)


def operator_names() -> Callable[[Any], str | None]:
    """What tells the operator that a function is, if it is one; to be made before anything adds to torch."""
    known = words.operators()
    functions: dict[int, str] = {id(function): name for name, function in reversed(list(known.items()))}
    getters: dict[Any, str | None] = {}

    def find(function: Any) -> str | None:
        name: str | None = functions.get(id(function))
        if name is not None:
            return name
        owner = getattr(function, "__self__", None)
        if owner is None or type(owner).__name__ != "getset_descriptor":
            return None
        if owner not in getters:
            text = (resolve_name(function) or "").removesuffix(".__get__")
            getters[owner] = text if text in known else None
        found: str | None = getters[owner]
        return found

    return find
