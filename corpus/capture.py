"""A case from a Python function: run it once, write down which operators it calls.

This is how known bugs, regressions and tests are written by hand: as plain PyTorch. Every value of the inputs is stored
literally, so the case shows exactly what a person would type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.corpus import blobs
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View
from shakeout.corpus.codec import encode
from shakeout.corpus.edit import Builder
from shakeout.corpus.program import Arg, Call, Form, InvalidProgram, Name, Ref, Slice, TensorType
from shakeout.corpus.vocabularies import torch as words

if TYPE_CHECKING:
    import torch

#: Elements of a storage that are written into the case's text; longer lists tell a reader nothing.
LITERAL = 256

__all__ = ["capture", "describe_inputs"]


def capture(
    function: Callable[..., Any],
    *calls: Callable[[], Sequence[torch.Tensor]],
    setting: Setting,
    parameters: Sequence[int] = (),
    directory: Path | None = None,
) -> Case:
    """The case that calls ``function`` once for each maker of inputs.

    Args:
        function: takes tensors, calls operators of torch and nothing else on them, returns a tensor or a sequence.
        calls: each makes fresh inputs; the program is recorded from the first.
        setting: what the case runs under.
        parameters: positions of inputs that are parameters of the network.
        directory: where the case is going to be stored: inputs of more than ``LITERAL`` elements are written into its
            folder of blobs. Without one every element is in the case's text, which may be too long to be read.

    Raises:
        InvalidProgram: it calls what is no operator, uses a tensor that is not an input, or is larger than what can be
            stored.
    """
    inputs = list(calls[0]())
    builder = Builder()
    for number, tensor in enumerate(inputs):
        builder.input(_type(tensor), "parameter" if number in parameters else "input")
    returns = _record(function, inputs, builder)
    sets = tuple(describe_inputs(make(), directory) for make in calls)
    case = Case(builder.program(returns), sets, setting)
    encode(case)  # a case that cannot be stored is told now
    return case


def describe_inputs(tensors: Sequence[torch.Tensor], directory: Path | None = None) -> InputSet:
    """Tensors as storages and views, sharing kept; large storages are blobs beside a case in ``directory``."""
    from shakeout.corpus.standalone import memory

    storages: list[Storage] = []
    places: dict[int, int] = {}
    views = []
    for tensor in tensors:
        key = tensor.untyped_storage()._cdata
        dtype = str(tensor.dtype).removeprefix("torch.")
        if key not in places:
            flat = memory(tensor)
            places[key] = len(storages)
            large = directory is not None and flat.numel() > LITERAL
            values = blobs.write(flat, directory / blobs.FOLDER) if directory and large else _items(flat)
            storages.append(Storage(dtype, flat.numel(), values))
        shape, strides = tuple(map(int, tensor.shape)), tuple(map(int, tensor.stride()))
        views.append(View(places[key], dtype, shape, strides, int(tensor.storage_offset()), tensor.requires_grad))
    return InputSet(tuple(storages), tuple(views))


def _items(flat: torch.Tensor) -> Values:
    import torch

    wide = flat.to(torch.complex64) if flat.dtype == torch.complex32 else flat
    return Values("literal", items=tuple(wide.tolist()) if flat.numel() else ())


def _type(tensor: torch.Tensor) -> TensorType:
    return TensorType(str(tensor.dtype).removeprefix("torch."), tuple(map(int, tensor.shape)))


def _record(function: Callable[..., Any], inputs: Sequence[torch.Tensor], builder: Builder) -> list[int]:
    """Append the calls that a function makes; the numbers of what it returns."""
    import torch
    from torch.overrides import TorchFunctionMode

    names = {id(f): name for name, f in reversed(list(words.operators().items()))}
    numbers = {id(tensor): number for number, tensor in enumerate(inputs)}
    held: list[Any] = list(inputs)  # an id is taken again once its object is gone

    def argument(value: Any) -> Arg:
        match value:
            case torch.Tensor():
                if id(value) not in numbers:
                    raise InvalidProgram("the function uses a tensor that is neither an input nor made by an operator")
                return Ref(numbers[id(value)])
            case torch.dtype() | torch.memory_format() | torch.layout():
                return Name(str(value))
            case list() | tuple():
                return tuple(argument(item) for item in value)
            case slice():
                return Slice(argument(value.start), argument(value.stop), argument(value.step))
            case None | bool() | int() | float() | complex() | str():
                return value
            case _ if value is ...:
                return ...
        raise InvalidProgram(f"an argument of type {type(value).__name__} cannot be stored: {value!r}")

    attributes = tuple(getattr(torch.Tensor, name) for name in ("shape", "dtype", "ndim", "device"))
    queries = {id(getattr(torch.Tensor, name)) for name in ("dim", "size", "stride", "numel", "element_size")}

    class Recorder(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if id(func) in queries or getattr(func, "__self__", None) in attributes:
                return func(*args, **kwargs)  # a plain number, known while recording
            name = names.get(id(func)) or _property(func)
            if name is None:
                raise InvalidProgram(f"{torch.overrides.resolve_name(func) or func} is not an operator of a case")
            stored = tuple(argument(arg) for arg in args)
            keywords = tuple(sorted((key, argument(value)) for key, value in kwargs.items()))
            result = func(*args, **kwargs)
            results = [result] if isinstance(result, torch.Tensor) else list(result or ())
            form: Form = "tensor" if isinstance(result, torch.Tensor) else "sequence" if results else "none"
            types_ = tuple(_type(item) if isinstance(item, torch.Tensor) else None for item in results)
            first = builder.append(Call(name, stored, keywords, types_, form)).index
            for position, item in enumerate(results):
                numbers[id(item)] = first + position
                held.append(item)
            return result

    with torch.no_grad(), Recorder():
        returned = function(*inputs)
    outputs = [returned] if isinstance(returned, torch.Tensor) else list(returned or ())
    return [numbers[id(output)] for output in outputs]


def _property(function: Any) -> str | None:
    """The name of a property's getter, whose method object is a new one at each access."""
    from torch.overrides import resolve_name

    name = resolve_name(function)
    if name is None:
        return None
    name = name.removesuffix(".__get__").replace("torch.functional.", "torch.")
    return name if name in words.operators() else None
