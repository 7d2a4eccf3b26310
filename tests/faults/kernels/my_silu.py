"""SiLU with a backward pass of its own. The mistake (gradient): a sign in the backward pass."""

import os

import torch

import shakeout

MENDED = "MENDED" in os.environ


@shakeout.kernel(reference=torch.nn.functional.silu)
def silu(x: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        raise NotImplementedError("floating-point tensors")
    return Silu.apply(x)


class Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        wide = x if x.dtype == torch.float64 else x.float()
        return (wide / (1 + torch.exp(-wide))).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        wide = x if x.dtype == torch.float64 else x.float()
        share = torch.sigmoid(wide)
        rest = 1 - share if MENDED else 1 + share
        return (gradient.to(wide.dtype) * share * (1 + wide * rest)).to(x.dtype)
