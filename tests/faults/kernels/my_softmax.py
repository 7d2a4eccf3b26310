"""Softmax in single precision. The mistake (dtype): the result of a half-precision input is not rounded back."""

import os

import torch

import shakeout

MENDED = "MENDED" in os.environ


@shakeout.kernel(reference=torch.nn.functional.softmax)
def softmax(x: torch.Tensor, dim: int) -> torch.Tensor:
    if not x.is_floating_point() or not x.dim():
        raise NotImplementedError("floating-point tensors with a dimension")
    return Softmax.apply(x, dim)


class Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dim):
        wide = x if x.dtype == torch.float64 else x.float()
        y = torch.softmax(wide, dim)
        ctx.save_for_backward(y)
        ctx.dim, ctx.dtype = dim, x.dtype
        return y.to(x.dtype) if MENDED else y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        wide = gradient.to(y.dtype)
        return (y * (wide - (wide * y).sum(ctx.dim, keepdim=True))).to(ctx.dtype), None
