"""The logarithm of softmax. The mistake (mutation): the largest element is subtracted in the input's own memory."""

import os

import torch

import shakeout

MENDED = "MENDED" in os.environ


@shakeout.kernel(reference=torch.nn.functional.log_softmax)
def log_softmax(x: torch.Tensor, dim: int) -> torch.Tensor:
    if not x.is_floating_point() or not x.dim() or not x.numel():
        raise NotImplementedError("floating-point tensors that are not empty")
    return LogSoftmax.apply(x, dim)


class LogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dim):
        most = x.amax(dim, keepdim=True)
        shifted = x - most if MENDED else x.sub_(most)
        wide = shifted if x.dtype == torch.float64 else shifted.float()
        y = wide - wide.exp().sum(dim, keepdim=True).log()
        ctx.save_for_backward(y)
        ctx.dim, ctx.dtype = dim, x.dtype
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        wide = gradient.to(y.dtype)
        return (wide - y.exp() * wide.sum(ctx.dim, keepdim=True)).to(ctx.dtype), None
