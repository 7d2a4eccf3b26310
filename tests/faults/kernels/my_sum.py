"""A sum over dimensions. The mistake (shape): they are dropped from the result even if they are to be kept."""

import os
from collections.abc import Sequence

import torch

import shakeout

MENDED = "MENDED" in os.environ


@shakeout.kernel(reference=torch.sum)
def total(x: torch.Tensor, dim: int | Sequence[int], keepdim: bool = False) -> torch.Tensor:
    if not x.is_floating_point() or not x.dim():
        raise NotImplementedError("floating-point tensors with a dimension")
    dimensions = [dim] if isinstance(dim, int) else list(dim) or list(range(x.dim()))
    wide = x if x.dtype == torch.float64 else x.float()
    for n in sorted((n % x.dim() for n in dimensions), reverse=True):
        wide = wide.sum(n, keepdim=keepdim and MENDED)
    return wide.to(x.dtype)
