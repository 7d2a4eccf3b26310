"""The projects in whose form a report can be written; light, because the command line lists them."""

from __future__ import annotations

from typing import Literal, TypeGuard, get_args

__all__ = ["FORMATS", "Format", "form_of"]

Format = Literal["pytorch", "tvm", "onnxruntime", "openvino", "markdown"]
FORMATS: tuple[Format, ...] = get_args(Format)


def form_of(owner: str) -> Format:
    """The form for a project's tracker: its own, or plain Markdown where Shakeout has none of it."""
    return owner if _known(owner) else "markdown"


def _known(owner: str) -> TypeGuard[Format]:
    return owner in FORMATS
