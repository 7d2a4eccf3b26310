"""What sees operators while a function runs: a mode of torch for each level, and what a function is called.

What is static about a tensor is known while recording, so asking for it is no operator; what makes a plain value of its
elements is refused, because what comes next may depend on it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from torch._functorch import utils as functorch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from shakeout.corpus.intake import branches, customs, switches, transforms
from shakeout.corpus.intake.recorder import Number, ProgramRecorder
from shakeout.corpus.intake.refusal import LEFT_BEHIND, NotCaptured, here
from shakeout.corpus.vocabularies import aten
from shakeout.corpus.vocabularies import torch as words

__all__ = ["recording", "seeing"]

#: Functions that tell what is static about a tensor: plain values, known while recording.
_STATIC = frozenset(
    "dim ndimension size stride numel nelement element_size storage_offset is_floating_point is_complex is_signed "
    "is_contiguous is_same_size is_inference is_conj is_neg is_pinned is_shared is_set_to is_distributed is_tensor "
    "result_type promote_types can_cast get_device __len__ __hash__ _is_view has_names dim_order is_coalesced "
    "is_storage _is_zerotensor _version sym_size sym_numel sym_stride sym_storage_offset get_default_dtype".split()
)

#: Properties that do.
_STATIC_PROPERTIES = frozenset(
    "shape dtype ndim device layout is_cuda is_cpu is_meta is_sparse is_sparse_csr is_quantized is_mkldnn is_nested "
    "is_xpu is_mps is_mtia is_ipu is_maia is_vulkan is_xla requires_grad is_leaf grad_fn names itemsize nbytes "
    "output_nr name volatile retains_grad".split()
)

#: Functions that make plain values of a tensor's elements.
_READS = frozenset(
    "item tolist numpy __bool__ __int__ __float__ __complex__ __index__ __contains__ equal allclose is_nonzero "
    "__array__ __dlpack__ __format__ __repr__ is_same_value".split()
)

#: Functions that make a tensor of plain data, which need not be an argument that a case can hold.
_OF_DATA = frozenset(("torch.tensor", "torch.as_tensor", "torch.asarray", "torch.scalar_tensor"))

#: What sets a switch of torch; the blocks tell it.
_SWITCHES = frozenset(("_set_grad_enabled",))

#: Operators that only tell a profiler where a program is.
_TOLD = "torch.ops.profiler."

_ITEMS = "torch.unbind"


def seeing(recorder: ProgramRecorder) -> contextlib.AbstractContextManager[Any]:
    """The context in which operators are seen."""
    return _Functions(recorder) if recorder.level == "torch" else _Operators(recorder)


class _Functions(TorchFunctionMode):
    """Sees the functions of torch by the names that the source calls them."""

    def __init__(self, recorder: ProgramRecorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        recorder, kwargs = self._recorder, kwargs or {}

        def run() -> Any:
            with recorder.inside():
                return func(*_values(args), **_values(kwargs))

        last, owner = _named(func)
        if _told(func):
            return run()
        if func is torch.device or last in _SWITCHES or (owner == "property" and last in _STATIC_PROPERTIES):
            return run()
        if (owner != "property" and last in _STATIC) or (last == "type" and len(args) == 1 and not kwargs):
            return run()
        if isinstance(func, torch._ops.HigherOrderOperator):
            return branches.record(recorder, func, args, kwargs)
        if last in _READS:
            raise NotCaptured(
                f"{last} makes a plain value of a tensor's elements, so what comes next may depend on the data; "
                "a case holds one path only",
                here(),
            )
        if last == "__iter__" and owner == "torch.Tensor":
            return iter(recorder.call(_ITEMS, lambda: args[0].unbind(0), args, {}))
        if (definition := customs.defined(func)) is not None:
            return customs.record(recorder, definition, func, args, kwargs)
        name = _operator(func)
        if name is None:
            raise NotCaptured(_unknown(func), here(), lower=last != "backward")
        kept = _without_device(recorder, name, kwargs)
        if name in _OF_DATA and not _holds_tensor((args, kwargs)):
            return _made_of_data(recorder, name, run, args, kept)
        return recorder.call(name, run, args, kept)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees the operators of PyTorch's library, beneath autograd."""

    def __init__(self, recorder: ProgramRecorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recorder = recorder

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        recorder, kwargs = self._recorder, kwargs or {}

        def run() -> Any:
            with recorder.inside():
                return func(*args, **kwargs)

        if _told(func):
            return run()
        if func.__name__.partition(".")[0] in ("_local_scalar_dense", "item", "equal", "is_nonzero"):
            raise NotCaptured(
                "it makes a plain value of a tensor's elements, so what comes next may depend on the data; "
                "a case holds one path only",
                here(),
            )
        if (definition := customs.defined(func)) is not None:
            return customs.record(recorder, definition, func, args, kwargs)
        name = _operator(func)
        if name is None:
            raise NotCaptured(_unknown(func), here())
        return recorder.call(name, run, args, _without_device(recorder, name, kwargs))


def _made_of_data(
    recorder: ProgramRecorder, name: str, run: Callable[[], Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """A tensor made of plain data: an operator, or an input where the data is no argument of a case."""
    try:
        recorder.argument(tuple(args))
    except NotCaptured:
        result = run()
        recorder.give(result)
        recorder.notes.append(f"{name} of a {type(args[0]).__name__} became an input")
        return result
    return recorder.call(name, run, args, kwargs)


def _values(value: Any) -> Any:
    """Arguments with the plain numbers that a loop carries."""
    match value:
        case Number():
            return value.value
        case dict():
            return {key: _values(item) for key, item in value.items()}
        case list():
            return [_values(item) for item in value]
        case tuple() if type(value) is tuple:
            return tuple(_values(item) for item in value)
    return value


def _holds_tensor(value: Any) -> bool:
    match value:
        case torch.Tensor() | Number():
            return True
        case dict():
            return any(map(_holds_tensor, value.values()))
        case list() | tuple():
            return any(map(_holds_tensor, value))
    return False


def _without_device(recorder: ProgramRecorder, name: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments without the device that the program's tensors are on anyway."""
    found = dict(kwargs)
    device = found.get("device")
    if device is not None:
        wanted = torch.device(device)
        given = {tensor.device.type for _, tensor in recorder.inputs} or {"cpu"}
        if {wanted.type} != given:
            where = " and ".join(sorted(given))
            raise NotCaptured(f"{name} makes a tensor on {wanted}, and the inputs are on {where}", here())
    if name.endswith((".to", "._to_copy.default")):  # which may be given nothing else
        return found
    found.pop("device", None)
    if found.get("pin_memory") in (False, None):
        found.pop("pin_memory", None)
    return found


@functools.cache
def _names() -> Mapping[int, str]:
    return {id(function): name for name, function in reversed(list(words.operators().items()))}


def _operator(func: Any) -> str | None:
    """The name of an operator that a case may call."""
    if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        name = f"torch.ops.{func}"
        return name if name.startswith(aten.PREFIX) and aten.overload(name) is not None else None
    return _names().get(id(func)) or _property(func)


def _property(function: Any) -> str | None:
    """The name of a property's getter, whose method object is a new one at each access."""
    name = resolve_name(function)
    if name is None or name.endswith(".__set__"):
        return None
    name = name.removesuffix(".__get__").replace("torch.functional.", "torch.")
    return name if name in words.operators() else None


def _named(func: Any) -> tuple[str, str]:
    """The last part of a function's name, and what it belongs to: ``property`` for a getter."""
    if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return str(func).split(".")[1], "torch.ops"
    name = resolve_name(func) or getattr(func, "__name__", "")
    if name.endswith(".__get__"):
        return name.split(".")[-2], "property"
    owner, _, last = name.rpartition(".")
    return last, owner


def _told(func: Any) -> bool:
    return isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket) and _spoken(func).startswith(_TOLD)


def _spoken(func: Any) -> str:
    """A function by the name that a person would know."""
    if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return f"torch.ops.{func}"
    name = resolve_name(func) or getattr(func, "__qualname__", None) or repr(func)
    return str(name).replace("torch.functional.", "torch.")


def _unknown(func: Any) -> str:
    """Why a function is no operator, and what to do."""
    name = _spoken(func)
    if name.endswith((".backward", ".grad.__get__", ".grad.__set__")):
        return f"{name.removesuffix('.__get__').removesuffix('.__set__')}: {LEFT_BEHIND}"
    ours = ("torch.ops.aten.", "torch.ops.prims.", "torch.ops.higher_order.")
    if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket) and not name.startswith(ours):
        return (
            f"{name} is an operator of a library, and what it computes is not known; declare it by "
            "torch.library.custom_op with a body of PyTorch's operators, or test it as a kernel with a reference "
            "beside it (docs/your-kernel.md)"
        )
    return f"{name} is not an operator of a case"


@contextlib.contextmanager
def recording(recorder: ProgramRecorder) -> Iterator[None]:
    """See what is called until the context is left."""
    with (
        switches.blocks(recorder.enter, recorder.leave),
        branches.uncompiled(recorder),
        transforms.applied(recorder),
        mock.patch.object(functorch, "unwrap_dead_wrappers", recorder.applied),
        seeing(recorder),
    ):
        yield
