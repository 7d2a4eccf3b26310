"""Files that put everything on a GPU, run where there is none: what they call ``cuda`` is the CPU.

Most public reports name a device that whoever reads them need not have, and much of what they show is there on the CPU
as well. The text says where tensors go, so the text is what is changed: strings that name the device. Calls that only a
GPU understands (``x.cuda()``, ``torch.cuda.synchronize()``) do nothing.
"""

from __future__ import annotations

import contextlib
import io
import re
import tokenize
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch

__all__ = ["changed", "without_gpu"]

#: A string that names a device, as source.
_DEVICE = re.compile(r"""(["'])cuda(:\d+)?\1""")

#: Functions of ``torch.cuda`` that scripts call between what they are about.
_IDLE = (
    "synchronize",
    "empty_cache",
    "set_device",
    "reset_peak_memory_stats",
    "manual_seed",
    "manual_seed_all",
    "init",
)


def changed(text: str) -> str:
    """A file's text with ``"cpu"`` where it says ``"cuda"``; lines are what they were.

    Raises:
        SyntaxError: it is no Python.
    """
    lines = list(io.StringIO(text))  # lines as tokens count them; a form feed ends none
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except tokenize.TokenError as error:
        raise SyntaxError(str(error.args[0])) from None
    for token in reversed(tokens):  # so that columns before it stay
        if token.type == tokenize.STRING and _DEVICE.fullmatch(token.string):
            row, column = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:column] + '"cpu"' + line[token.end[1] :]
    return "".join(lines)


@contextlib.contextmanager
def without_gpu() -> Iterator[None]:
    """As long as the context is open, what moves something to a GPU leaves it, and what waits for one does not."""

    def stays(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self

    def idle(*args: Any, **kwargs: Any) -> None:
        return None

    with contextlib.ExitStack() as stack:
        for kind in (torch.Tensor, torch.nn.Module):
            stack.enter_context(mock.patch.object(kind, "cuda", stays))
        for name in _IDLE:
            stack.enter_context(mock.patch.object(torch.cuda, name, idle))
        yield
