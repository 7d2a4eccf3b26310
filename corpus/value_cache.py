"""Values of storages, remembered: campaigns draw few seeds, so the same streams are met again and again."""

from __future__ import annotations

import functools
import math

import torch

from shakeout.corpus import standalone
from shakeout.corpus.storage import MAGNITUDES

__all__ = ["filled"]

#: Elements of a remembered stream; most storages are shorter.
PREFIX = 256


@functools.lru_cache(1 << 13)
def _stream(dtype: torch.dtype, size: int, kind: str, seed: int, low: float, high: float) -> torch.Tensor:
    """The first values of a stream; ``fill`` counts elements, so a shorter storage holds a prefix of them."""
    return _made(dtype, (size,), kind, seed, low, high)


def _made(dtype: torch.dtype, shape: tuple[int, ...], kind: str, seed: int, low: float, high: float) -> torch.Tensor:
    make = standalone.magnitudes if kind in MAGNITUDES else standalone.fill
    return make(dtype, shape, kind, seed, low, high)


def filled(dtype: torch.dtype, shape: tuple[int, ...], kind: str, seed: int, low: float, high: float) -> torch.Tensor:
    """What ``standalone.fill`` or ``standalone.magnitudes`` gives, in a tensor of its own."""
    size = math.prod(shape)
    if size > PREFIX:
        return _made(dtype, shape, kind, seed, low, high)
    # A NaN gets other bits in the tail of a vector loop than before it, and a view as integers shows them.
    stream = _stream(dtype, size if kind == "special" else PREFIX, kind, seed, low, high)
    values = stream[:size].clone()
    return values if len(shape) == 1 else values.view(shape)
