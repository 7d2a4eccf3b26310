"""Custom operators of ``torch.library``, as calls with a region: what they compute is recorded like everything else.

So a case brings its operators along, imports nothing of anybody's, and compilers meet them as the user's own: opaque,
or, of a ``triton_op``, to be taken apart. What cannot be recorded, a kernel in C++ or NumPy, is refused where it
stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from shakeout.corpus.intake import beside, gradients
from shakeout.corpus.intake.refusal import NotCaptured, here
from shakeout.corpus.intake.trace import reads

if TYPE_CHECKING:
    from shakeout.corpus.intake.recorder import ProgramRecorder

__all__ = ["defined", "record"]

_OPAQUE, _TAKEN_APART = "torch.library.custom_op", "torch.library.triton_op"
_WITH_BACKWARD = "torch.library.register_autograd"


def defined(func: Any) -> Any:
    """The definition behind an operator of ``torch.library.custom_op``, or None."""
    from torch._library.custom_ops import OPDEFS

    if not isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return None
    return OPDEFS.get(f"{func}".replace(".default", "").replace(".", "::"))


def record(
    recorder: ProgramRecorder, definition: Any, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Write a call of a custom operator down, with what it computes, and give back what it gives.

    Raises:
        NotCaptured: what it computes cannot be recorded, or PyTorch does more with it than a case says.
    """
    recorder.check()
    name = f"the custom operator {definition._qualname}"
    schema = definition._opoverload._schema
    named = [*zip(schema.arguments, args, strict=False)]
    named += [(one, kwargs[one.name]) for one in schema.arguments[len(args) :] if one.name in kwargs]
    places = [place for place, (_, value) in enumerate(named) if _holds_tensors(value)]
    operands = [named[place][1] for place in places]
    tensors = [one for value in operands for one in _items(value)]
    if not tensors or not all(isinstance(one, torch.Tensor) for one in tensors):
        raise NotCaptured(f"{name} is given no tensor, or a list with gaps, which a case does not hold", here())
    backward = definition._backward_fn is not None and torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if backward and (definition._torch_dispatch_fns or not all(isinstance(one, torch.Tensor) for one in operands)):
        what = "it is a triton_op" if definition._torch_dispatch_fns else "it takes lists"
        raise NotCaptured(
            f"{name} has a backward pass of its own, and {what}, which a program holds only without gradients; "
            "capture it for inference",
            here(),
        )
    written = tuple(
        position
        for position, place in enumerate(places)
        if (alias := named[place][0].alias_info) is not None and alias.is_write
    )
    spared = [one for place, value in enumerate(operands) if place not in written for one in _items(value)]
    scope = _body(recorder, definition, name, args, kwargs, tensors, spared)
    with recorder.inside():
        promised = _promised(definition, name, func, args, kwargs)
        result = func(*args, **kwargs)
    results = [] if result is None else list(result) if isinstance(result, list | tuple) else [result]
    if not all(isinstance(one, torch.Tensor) for one in results) or len(results) != len(scope.returns):
        raise NotCaptured(f"{name} gives something else than tensors, which a case does not hold", here())
    if promised is not None and promised != (given := [_laid_out(one) for one in results]):
        raise NotCaptured(
            f"{name} gives {', '.join(given)}, and its register_fake says {', '.join(promised)}; what compilers make "
            "of that is the operator's mistake",
            here(),
        )
    if results and definition._abstract_fn is None:
        recorder.notes.append(f"{name} has no register_fake, without which compilers refuse it; the case's has one")
    if len(places) < len(named):
        recorder.notes.append(f"plain arguments of {name} are written into what it computes")
    if backward:
        back, differentiated = gradients.record(recorder, definition, name, (func, args, kwargs), tensors, result)
        stored = (recorder.argument(tuple(operands)), differentiated)
        recorder.append(_WITH_BACKWARD, stored, (), results, (scope, back))
        return result
    kind = _TAKEN_APART if definition._torch_dispatch_fns else _OPAQUE
    stored = (recorder.argument(tuple(operands)), *((written,) if written else ()))
    recorder.append(kind, stored, (), results, (scope,))
    return result


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(one, torch.Tensor) for one in _items(value))


def _laid_out(tensor: torch.Tensor) -> str:
    strides = [stride if size > 1 else 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)]
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)} with strides {tuple(strides)}"


def _promised(
    definition: Any, name: str, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[str] | None:
    """What an operator tells compilers of its results; None where it tells nothing, or only symbols.

    Raises:
        NotCaptured: it raises where it should.
    """
    from torch._subclasses import FakeTensorMode

    if definition._abstract_fn is None:
        return None
    with FakeTensorMode() as mode:
        given, named = torch.utils._pytree.tree_map_only(torch.Tensor, mode.from_tensor, (list(args), dict(kwargs)))
        try:
            found = func(*given, **named)
        except Exception as error:
            said = (str(error).strip().splitlines() or [""])[0][:200]
            raise NotCaptured(f"the register_fake of {name} raises {type(error).__name__}: {said}", here()) from None
    results = [one for one in _items(() if found is None else found) if isinstance(one, torch.Tensor)]
    static = all(type(size) is int for one in results for size in (*one.shape, *one.stride()))
    return list(map(_laid_out, results)) if static else None


def _body(
    recorder: ProgramRecorder,
    definition: Any,
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    tensors: Sequence[torch.Tensor],
    spared: Sequence[torch.Tensor],
) -> Any:
    """What the operator computes, run on copies that lie in memory as its operands do.

    Args:
        recorder: that writes it down.
        definition: of the operator.
        name: of it, in words.
        args: of its call.
        kwargs: likewise.
        tensors: all that it is given.
        spared: those to which it says not to write.
    """
    device = tensors[0].device.type
    function = definition._backend_fns.get(device) or definition._backend_fns.get(None) or definition._init_fn
    with recorder.inside():
        copies = beside.fresh(tensors, "inference")

    def called(*given: torch.Tensor) -> Any:
        left = iter(given)

        def filled(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return next(left)
            return type(value)(map(filled, value)) if isinstance(value, list | tuple) else value

        with torch._C._AutoDispatchBelowAutograd():
            found = function(*map(filled, args), **{key: filled(value) for key, value in kwargs.items()})
        return () if found is None else found

    versions = [copy._version for copy in copies]
    scope, _ = recorder.body(called, copies)
    for tensor, copy, version in zip(tensors, copies, versions, strict=True):
        if copy._version != version and any(tensor is one for one in spared):
            raise NotCaptured(f"{name} writes to an argument that its mutates_args do not name", here())
    if reads(scope):
        raise NotCaptured(f"{name} reads a tensor that it is not given; hand it over as an argument", here())
    return scope
