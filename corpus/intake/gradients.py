"""Backward passes of custom operators (``register_autograd``): recorded when the operator is called, like its body.

What a backward pass computes does not depend on which gradients it is given, or it would be refused as everything that
branches on data is; so it is run on ones, given what its own ``setup_context`` keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from shakeout.corpus.intake import beside
from shakeout.corpus.intake.refusal import NotCaptured, here
from shakeout.corpus.intake.trace import reads

if TYPE_CHECKING:
    from shakeout.corpus.intake.recorder import ProgramRecorder
    from shakeout.corpus.intake.trace import Scope

__all__ = ["record"]


class _Context:
    """What PyTorch hands from ``setup_context`` to the backward pass; attributes of their own may be set."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self.saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Says nothing of what is computed."""


def record(
    recorder: ProgramRecorder,
    definition: Any,
    name: str,
    call: tuple[Any, Sequence[Any], Mapping[str, Any]],
    tensors: Sequence[torch.Tensor],
    result: Any,
) -> tuple[Scope, tuple[int, ...]]:
    """The backward pass of a custom operator as a body that is given operands, results and their gradients.

    Args:
        recorder: that writes it down.
        definition: of the operator.
        name: of it, in words.
        call: the operator, its arguments and its keyword arguments.
        tensors: its operands, in order.
        result: of the call.

    Returns:
        The body, and the places of the operands whose gradients it gives.

    Raises:
        NotCaptured: it cannot be recorded.
    """
    _, args, kwargs = call
    results = list(result) if isinstance(result, tuple) else [result]
    if not all(isinstance(one, torch.Tensor) for one in results):
        raise NotCaptured(f"{name} has a backward pass of its own and gives a list; give single tensors", here())
    with recorder.inside():
        copies = beside.fresh([one.detach() for one in (*tensors, *results)], "inference")
        ones = [torch.ones_like(one, memory_format=torch.contiguous_format) for one in copies[len(tensors) :]]
    places: list[int] = []
    fill: Any = torch._library.utils.fill_defaults
    plain = fill(definition._opoverload._schema, tuple(args), dict(kwargs))

    def called(*given: torch.Tensor) -> list[torch.Tensor]:
        left, outputs = iter(given), list(given[len(tensors) : len(tensors) + len(results)])

        def filled(value: Any) -> Any:
            return next(left) if isinstance(value, torch.Tensor) else value

        context = _Context(tuple(isinstance(one, torch.Tensor) and one.requires_grad for one in plain[0]))
        inputs, keywords = tuple(map(filled, plain[0])), {key: filled(value) for key, value in plain[1].items()}
        with torch._C._AutoDispatchBelowAutograd():
            if definition._setup_context_fn is not None:
                output = tuple(outputs) if isinstance(result, tuple) else outputs[0]
                more = {"keyword_only_inputs": keywords} if keywords else {}
                definition._setup_context_fn(ctx=context, inputs=inputs, output=output, **more)
            found = definition._backward_fn(context, *given[len(tensors) + len(results) :])
        found = found if isinstance(found, tuple) else (found,)
        wanted = [one for one, value in zip(found, plain[0], strict=False) if isinstance(value, torch.Tensor)]
        places[:] = [place for place, one in enumerate(wanted) if one is not None]
        return [one for one in wanted if one is not None]

    scope, _ = recorder.body(called, [*copies, *ones])
    if reads(scope):
        raise NotCaptured(f"the backward pass of {name} reads a tensor that it is not given", here())
    return scope, tuple(places)
