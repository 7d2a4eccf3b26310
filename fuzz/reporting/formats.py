"""The projects in whose form a report can be written; light, because the command line lists them."""

from __future__ import annotations

from typing import Literal, TypeGuard, get_args

__all__ = ["FORMATS", "Format", "form_of", "owner_of"]

Format = Literal["pytorch", "tvm", "onnxruntime", "openvino", "markdown"]
FORMATS: tuple[Format, ...] = get_args(Format)

#: Stages in which only PyTorch has worked: what goes wrong there the product's maintainers would send back.
_PYTORCHS = ("torch.export", "exported program", "torch.onnx", "ONNX model")


def owner_of(owner: str, stage: str) -> str:
    """The project that is to read of a failure.

    Args:
        owner: that of the target.
        stage: the first that goes wrong.
    """
    return "pytorch" if stage in _PYTORCHS else owner


def form_of(owner: str) -> Format:
    """The form for a project's tracker: its own, or plain Markdown where Shakeout has none of it."""
    return owner if _known(owner) else "markdown"


def _known(owner: str) -> TypeGuard[Format]:
    return owner in FORMATS
