"""The logarithm of a sum of exponentials. The mistake (overflow): half precision is accumulated in half precision."""

import os
from collections.abc import Sequence

import torch

import shakeout

MENDED = "MENDED" in os.environ


@shakeout.kernel(reference=torch.logsumexp)
def logsumexp(x: torch.Tensor, dim: int | Sequence[int], keepdim: bool = False) -> torch.Tensor:
    if not x.is_floating_point() or not x.dim() or not x.numel():
        raise NotImplementedError("floating-point tensors that are not empty")
    dimensions = [dim] if isinstance(dim, int) else list(dim) or list(range(x.dim()))
    return LogSumExp.apply(x, dimensions, keepdim)


class LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dimensions, keepdim):
        wide = x if x.dtype == torch.float64 else x.float()
        right = torch.logsumexp(wide, dimensions, keepdim=True).to(x.dtype)
        ctx.save_for_backward(x, right)
        ctx.shape = right.shape
        y = right if MENDED or x.dtype in (torch.float32, torch.float64) else accumulated(x, dimensions)
        return y if keepdim else y.squeeze(dimensions)

    @staticmethod
    def backward(ctx, gradient):
        x, y = ctx.saved_tensors
        return gradient.reshape(ctx.shape) * torch.exp(x - y), None, None


def accumulated(x: torch.Tensor, dimensions: Sequence[int]) -> torch.Tensor:
    """One exponential after the other, in the precision of the input."""
    total = torch.exp(x)
    for n in dimensions:
        rest = torch.zeros_like(total.narrow(n, 0, 1))
        for number in range(total.shape[n]):
            rest = rest + total.narrow(n, number, 1)
        total = rest
    return torch.log(total)
