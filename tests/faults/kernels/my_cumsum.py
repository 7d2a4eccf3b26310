"""A running sum, column by column. The mistake (exception): what is no matrix has no rows and columns to unpack."""

import os

import torch

import shakeout

MENDED = "MENDED" in os.environ


@shakeout.kernel(reference=torch.cumsum)
def cumsum(x: torch.Tensor, dim: int) -> torch.Tensor:
    if not x.is_floating_point():
        raise NotImplementedError("floating-point tensors")
    if not x.dim():
        return x.clone()
    if not MENDED:
        rows, columns = x.shape[-2:]
        if not rows * columns:
            return x.clone()
    moved = (x if x.dtype == torch.float64 else x.float()).movedim(dim, 0)
    total, sums = torch.zeros_like(moved[:1]), []
    for number in range(moved.shape[0]):
        total = total + moved[number : number + 1]
        sums.append(total)
    y = torch.cat(sums) if sums else moved.clone()
    return y.movedim(0, dim).to(x.dtype)
