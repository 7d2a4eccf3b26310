"""Write down which operators a function calls, while it runs on real tensors.

At the level of ``torch`` every function of PyTorch that a tensor can override is seen under the name by which the
source calls it, which is what a maintainer wants to read. At the level of ``aten`` PyTorch's operator library is seen,
beneath autograd, autocast and function transforms: less readable, and all that is left of what those do.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch._functorch import utils as functorch

from shakeout.corpus.intake import switches
from shakeout.corpus.intake.refusal import NotCaptured, here
from shakeout.corpus.intake.trace import Scope, Seen
from shakeout.corpus.program import Arg, Call, Form, Name, Slice, TensorType, reference

__all__ = ["Level", "Number", "ProgramRecorder", "check_kind", "type_of"]

Level = Literal["torch", "aten"]


def type_of(value: Any) -> TensorType:
    """What is static about a tensor, or a number that a loop carries."""
    if isinstance(value, Number):
        return TensorType(f"python_{type(value.value).__name__}", ())
    return TensorType(str(value.dtype).removeprefix("torch."), tuple(map(int, value.shape)))


class Number:
    """A number of Python that a loop carries: its value while recording, and what is done to it is an operator."""

    def __init__(self, value: bool | int | float, recorder: ProgramRecorder) -> None:
        self.value = value
        self._recorder = recorder

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return NotImplemented  # a recorder sees the call before

    def __bool__(self) -> bool:
        raise NotCaptured("the branch of a Python statement depends on a number that a loop carries", here())

    __index__ = __int__ = __float__ = __bool__
    __hash__ = None  # type: ignore[assignment]


def _operation(name: str) -> Callable[..., Any]:
    def operation(self: Number, *others: Any) -> Any:
        return self._recorder.number(name, (self, *others))

    return operation


for _name in "add sub mul truediv floordiv mod pow radd rsub rmul lt le gt ge eq ne neg".split():
    setattr(Number, f"__{_name}__", _operation(f"__{_name}__"))


#: Makes the context in which a recorder is told of operators.
Seeing: TypeAlias = Callable[["ProgramRecorder"], contextlib.AbstractContextManager[Any]]


class ProgramRecorder:
    """What is known of a function while it runs.

    Attributes:
        level: at which it is seen.
        types: of every value, by trace number.
        inputs: trace numbers and tensors of what the program is given, in order.
        notes: what a person should know of how it was recorded.

    Args:
        level: at which it is seen.
        lift: told of a tensor that is neither given nor made by an operator; whether it may become an input.
        seeing: the context in which operators are seen; the bodies of branches and loops are run in one of their own.
        gradients: whether somebody is going to ask for a gradient of what is recorded.
    """

    def __init__(
        self, level: Level, lift: Callable[[torch.Tensor], bool], seeing: Seeing, *, gradients: bool = True
    ) -> None:
        self.level: Level = level
        self._seeing = seeing
        self._gradients = gradients
        self.types: dict[int, TensorType | None] = {}
        self.inputs: list[tuple[int, torch.Tensor]] = []
        self.notes: list[str] = []
        self.scope = Scope()
        self._lift = lift
        self._numbers: dict[int, int] = {}
        self._held: list[Any] = []  # an id is taken again once its object is gone
        self._open: list[tuple[Scope, switches.Switches, dict[int, int]]] = []
        self._stand = self._now()
        self._busy = 0

    # --- values ------------------------------------------------------------------------------------------------------

    def _new(self, value: Any) -> int:
        number = len(self.types)
        self.types[number] = type_of(value) if isinstance(value, torch.Tensor | Number) else None
        if isinstance(value, torch.Tensor | Number):
            self._numbers[id(value)] = number
            self._held.append(value)
        return number

    def give(self, tensor: torch.Tensor) -> int:
        """The trace number of a tensor that the program is given."""
        if id(tensor) not in self._numbers:
            self.inputs.append((self._new(tensor), tensor))
        return self._numbers[id(tensor)]

    def number_of(self, value: Any) -> int:
        """The trace number of a tensor; one that was there before becomes an input.

        Raises:
            NotCaptured: it came to be in a way that was not seen.
        """
        if id(value) not in self._numbers:
            if isinstance(value, Number):
                raise NotCaptured("a number that a loop ends with is used behind it; carry a tensor instead", here())
            if not isinstance(value, torch.Tensor) or not self._lift(value):
                raise NotCaptured(
                    "the function uses a tensor that is neither an input nor made by an operator of torch",
                    here(),
                    lower=True,
                )
            return self.give(value)
        return self._numbers[id(value)]

    def known(self, value: Any) -> bool:
        """Whether a value has a number already."""
        return id(value) in self._numbers

    def argument(self, value: Any) -> Arg:
        """An argument as a case has it.

        Raises:
            NotCaptured: a case cannot have it.
        """
        match value:
            case torch.Tensor() | Number():
                return reference(self.number_of(value))
            case torch.dtype() | torch.memory_format() | torch.layout():
                return Name(str(value))
            case torch.device():
                if value.type == "meta":
                    raise NotCaptured("tensors of the meta device have no values", here())
                return str(value)
            case list() | tuple():
                return tuple(self.argument(item) for item in value)
            case slice():
                return Slice(self.argument(value.start), self.argument(value.stop), self.argument(value.step))
            case None | bool() | int() | float() | complex() | str():
                return _plain(value)
            case _ if value is ...:
                return ...
        raise NotCaptured(f"an argument of type {type(value).__name__} cannot be stored: {value!r:.80}", here())

    # --- scopes ------------------------------------------------------------------------------------------------------

    def enter(self, call: Call) -> None:
        """A block that turns a switch was entered."""
        if not self._ignored(call):
            inner = Scope()
            self.scope.seen.append(Seen(call, scopes=(inner,), block=True))
            self._open.append((self.scope, self._stand, dict(self._numbers)))
            self.scope, self._stand = inner, self._now()

    def leave(self, call: Call) -> None:
        """The innermost block was left."""
        if not self._ignored(call):
            self.scope, self._stand, before = self._open.pop()
            self._numbers |= before  # what is written to in a block is itself behind it

    def _ignored(self, call: Call) -> bool:
        """Whether a block says nothing: an operator's own, or one of which nothing is left at this level."""
        return bool(self._busy) or (self.level == "aten" and (call.operator == "torch.autocast" or not self._gradients))

    def _now(self) -> switches.Switches:
        """How the switches stand, as far as that counts at this level.

        Beneath autograd nothing is left of autocast and transforms but what they do, nor of gradient mode where nobody
        asks for a gradient.
        """
        stand = switches.Switches.now()
        if self.level == "aten":
            stand = stand._replace(autocast=(), autocast_cache=True, transforms=0)
            stand = stand if self._gradients else stand._replace(gradients=False, saved_tensor_hooks=False)
        return stand

    def body(self, function: Callable[..., Any], given: Sequence[Any]) -> tuple[Scope, Any]:
        """Run the body of a branch or loop on values of its own; its scope, and what it returns."""
        around, numbers = self.scope, dict(self._numbers)
        self.scope = Scope()
        self.scope.parameters = tuple(self._new(value) for value in given)
        busy, self._busy = self._busy, 0
        try:
            with self._seeing(self):
                returned = function(*given)
            self.scope.returns = tuple(self.number_of(value) for value in _flat(returned))
            return self.scope, returned
        finally:
            self.scope, self._numbers, self._busy = around, numbers, busy

    # --- calls -------------------------------------------------------------------------------------------------------

    def call(
        self, name: str, run: Callable[[], Any], args: Sequence[Any], kwargs: Mapping[str, Any], **more: Any
    ) -> Any:
        """An operator is called: write it down, run it, and give back what it gives."""
        self.check()
        stored = tuple(self.argument(arg) for arg in args)
        keywords = tuple(sorted((key, self.argument(value)) for key, value in kwargs.items()))
        result = run()
        self.append(name, stored, keywords, result, **more)
        return result

    def append(
        self,
        name: str,
        args: tuple[Arg, ...],
        kwargs: tuple[tuple[str, Arg], ...],
        result: Any,
        scopes: tuple[Scope, ...] = (),
    ) -> None:
        """Write a call down that has these results."""
        single = isinstance(result, torch.Tensor | Number)
        results = [result] if single else list(result if result is not None else ())
        for one in results:
            if one is not None and not isinstance(one, torch.Tensor | Number | bool | int | float):
                raise NotCaptured(f"{name} gives a {type(one).__name__}, which no case can hold", here())
            if isinstance(one, torch.Tensor):
                check_kind(one)
        form: Form = "tensor" if single else "sequence" if results else "none"
        types = tuple(type_of(one) if isinstance(one, torch.Tensor | Number) else None for one in results)
        call = Call(name, args, kwargs, types, form)
        self.scope.seen.append(Seen(call, tuple(self._new(one) for one in results), scopes))

    def check(self) -> None:
        """Raise NotCaptured unless the switches stand as the open blocks say."""
        if (why := self._now().unlike(self._stand)) is not None:
            raise why

    def number(self, name: str, operands: Sequence[Any]) -> Any:
        """An operation on a number that a loop carries, as an operator."""
        plain = [one.value if isinstance(one, Number) else one for one in operands]
        if any(isinstance(one, torch.Tensor) for one in plain):
            method = getattr(plain[1], _REFLECTED.get(name, name.replace("__", "__r", 1)))
            return method(operands[0])
        found = getattr(plain[0], name)(*plain[1:])
        if found is NotImplemented:  # as a whole number says of a fraction
            found = getattr(plain[1], _REFLECTED.get(name, name.replace("__", "__r", 1)))(plain[0])
        result = Number(found, self)
        self.append(f"torch.Tensor.{name}", tuple(self.argument(one) for one in operands), (), result)
        return result

    def applied(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """A function with a backward pass of its own is called; without gradients it is what it calls.

        Raises:
            NotCaptured: its backward pass is wanted.
        """
        if not self._busy:
            kind = sys._getframe(1).f_locals.get("cls")
            name = getattr(kind, "__name__", "a torch.autograd.Function")
            if torch.is_grad_enabled() and any(isinstance(one, torch.Tensor) and one.requires_grad for one in args):
                raise NotCaptured(
                    f"{name} has a backward pass of its own, which a program does not hold; "
                    "as a kernel with a reference it can be tested (docs/your-kernel.md), or capture it for inference",
                    here(),
                )
            self.notes.append(f"{name} (torch.autograd.Function) is written out as what it calls")
        return _UNWRAP(args)

    @property
    def busy(self) -> bool:
        """Whether an operator runs, whose doings are its own affair."""
        return bool(self._busy)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """While an operator runs: what happens in it is its own affair."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1


#: What ``torch.autograd.Function.apply`` calls with its arguments, whoever kept a reference to it.
_UNWRAP: Callable[[tuple[Any, ...]], tuple[Any, ...]] = functorch.unwrap_dead_wrappers

_REFLECTED = {"__lt__": "__gt__", "__gt__": "__lt__", "__le__": "__ge__", "__ge__": "__le__", "__eq__": "__eq__",
              "__ne__": "__ne__"}  # fmt: skip


def _plain(value: Any) -> Arg:
    """A number or text of exactly one of Python's own types; an enumeration's member, say, is none."""
    kinds: tuple[type, ...] = (bool, int, float, complex, str)
    found: Arg = next((kind(value) for kind in kinds if isinstance(value, kind)), None)
    return found


def check_kind(tensor: torch.Tensor) -> None:
    """Raise NotCaptured unless a tensor is a dense one of PyTorch's own class."""
    if torch.nn.parameter.is_lazy(tensor):
        raise NotCaptured("a lazy module has no shapes yet; call it once before", here())
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise NotCaptured(f"a tensor is a {type(tensor).__name__}, and a case holds plain ones", here())
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        what = "quantised" if tensor.is_quantized else "nested" if tensor.is_nested else f"of {tensor.layout}"
        raise NotCaptured(f"a tensor is {what}; a case holds dense ones", here())


def _flat(value: Any) -> list[Any]:
    from torch.utils import _pytree

    return list(_pytree.tree_flatten(value)[0])
