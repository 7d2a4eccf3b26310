"""A compiled step of training, as far as a compiler takes it in one piece: what computes the loss.

Graph capture ends where ``backward`` is called: what stands before it is compiled with its gradients, the optimizer is
another graph. So the function is run up to there, and what ``backward`` is called on is its result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch

from shakeout.corpus.intake.refusal import LEFT_BEHIND, NotCaptured, Place, here

__all__ = ["loss_of"]


class _Reached(BaseException):
    """The backward pass is reached; no ``except Exception`` of the user's is to take it."""

    def __init__(self, tensors: Any, place: Place | None) -> None:
        self.tensors = tensors
        self.place = place


def loss_of(function: Callable[..., Any]) -> tuple[Callable[..., Any], list[Place | None]]:
    """What computes a function's loss, and where its backward pass was called, once that has been called."""
    ends: list[Place | None] = []
    return functools.partial(_until_backward, function, ends), ends


def _until_backward(function: Callable[..., Any], ends: list[Place | None], *args: Any, **kwargs: Any) -> Any:
    with (
        mock.patch.object(torch.Tensor, "backward", _reach),
        mock.patch.object(torch.autograd, "backward", _reach),
        # Gradients of the step before, on which the loss does not hang.
        mock.patch.object(torch.optim.Optimizer, "zero_grad", _nothing),
        mock.patch.object(torch.nn.Module, "zero_grad", _nothing),
    ):
        try:
            function(*args, **kwargs)
        except _Reached as reached:
            ends[:] = [reached.place]
            return reached.tensors
    raise NotCaptured(LEFT_BEHIND)


def _reach(tensors: Any, *args: Any, **kwargs: Any) -> Any:
    raise _Reached(tensors, here())


def _nothing(*args: Any, **kwargs: Any) -> None:
    """What stands in the place of ``zero_grad``."""
