"""Gradients of replicas, which have rounding errors of their own.

The derivative of a moved result is moved along with it, and agrees with it: what reaches one value on two ways and
cancels, cancels still. A right backward pass rounds on each of these ways.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shakeout.corpus.program import Arg, Call, Ref, rebuilt
from shakeout.fuzz.running.rounding import Noise, floats, moved_numbers

if TYPE_CHECKING:
    import torch

__all__ = ["rounded"]


def rounded(operation: Call, values: Sequence[Any], noise: Noise) -> tuple[Call, Sequence[Any]]:
    """A call in which each operand, and each mention of it, gets a gradient that is moved in its last place.

    Args:
        operation: a call that writes to none of its operands, and computes.
        values: its program's, by number.
        noise: where the errors come from.

    Returns:
        The call, with operands of its own, and the values with those behind them.
    """
    import torch

    if operation.regions or not torch.is_grad_enabled() or ("sparse", True) in operation.kwargs:
        return operation, values
    if not any(floats(values[n]) and values[n].requires_grad for n in operation.operands()):
        return operation, values
    more = list(values)

    def passed(arg: Arg) -> Arg:
        if type(arg) is not Ref or not floats(values[arg.index]) or not values[arg.index].requires_grad:
            return arg
        tensor = values[arg.index].view_as(values[arg.index])
        tensor.register_hook(functools.partial(_moved, noise))
        more.append(tensor)
        return Ref(len(more) - 1)

    args = tuple(rebuilt(arg, passed) for arg in operation.args)
    kwargs = tuple((key, rebuilt(arg, passed)) for key, arg in operation.kwargs)
    return replace(operation, args=args, kwargs=kwargs), more


def _moved(noise: Noise, gradient: torch.Tensor | None) -> torch.Tensor | None:
    import torch

    if gradient is None or gradient.layout != torch.strided:
        return gradient
    return moved_numbers(gradient, noise)
