"""Calls on real tensors: one is run, its result is taken apart, and what it wrote can be undone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from shakeout.corpus import standalone
from shakeout.corpus.program import Arg, Form, Ref
from shakeout.corpus.vocabularies import kernel as words

__all__ = ["Rejected", "Saved", "perform", "read_results"]


class Rejected(Exception):
    """A proposal that is dropped; the text is the reason, one of a few."""


def _value(arg: Arg, tensors: Sequence[torch.Tensor]) -> Any:
    # The commonest kinds first; words.value tells them all apart, more slowly.
    if type(arg) is Ref:
        return tensors[arg.index]
    if type(arg) is int or type(arg) is float or type(arg) is bool or arg is None or type(arg) is str:
        return arg
    if type(arg) is tuple:
        return tuple([_value(item, tensors) for item in arg])
    return words.value(arg, tensors)


def perform(
    function: Callable[..., Any],
    args: tuple[Arg, ...],
    kwargs: tuple[tuple[str, Arg], ...],
    tensors: Sequence[torch.Tensor],
) -> tuple[Form, list[Any]]:
    """Run one call; its form and its results.

    Raises:
        Rejected: torch rejects it, or the result is not made of plain tensors.
    """
    try:
        result = function(
            *[_value(arg, tensors) for arg in args], **{key: _value(value, tensors) for key, value in kwargs}
        )
    except Exception as error:
        raise Rejected("torch rejects it") from error
    return read_results(result)


def read_results(result: object) -> tuple[Form, list[Any]]:
    """The form of what a call gave, and its parts; raises Rejected if it is not made of plain tensors."""
    if isinstance(result, torch.Tensor):
        return "tensor", [result]
    if result is None:
        return "none", []
    if isinstance(result, list | tuple):
        results = list(result)
        if 0 < len(results) <= 32 and all(item is None or isinstance(item, torch.Tensor | int) for item in results):
            return "sequence", results
    raise Rejected("its result is no tensor")


class Saved:
    """What a tensor and its whole memory were before a call that writes to it."""

    __slots__ = ("bytes", "content", "memory", "shape", "strides", "tensor")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.shape, self.strides = tensor, tensor.shape, tensor.stride()
        self.memory = standalone.memory(tensor)
        self.content = self.memory.clone()
        self.bytes = tensor.untyped_storage().nbytes()

    def resized(self) -> bool:
        """Whether the tensor has another shape now."""
        return self.tensor.shape != self.shape or self.tensor.stride() != self.strides

    def restore(self) -> None:
        """Undo whatever was done; every other view of the memory sees it too."""
        tensor = self.tensor
        if self.resized():
            # Some in-place operators resize their operand before they find out that they cannot do their work.
            storage = tensor.untyped_storage()
            tensor.set_(storage, tensor.storage_offset(), self.shape, self.strides)
            storage.resize_(self.bytes)
        self.memory.copy_(self.content)
