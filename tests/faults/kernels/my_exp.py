"""An exponential in blocks of eight. The mistake (tail): what is left behind the last whole block stays as it was."""

import os

import torch

import shakeout

MENDED = "MENDED" in os.environ

BLOCK = 8


@shakeout.kernel(reference=torch.exp)
def exp(x: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        raise NotImplementedError("floating-point tensors")
    return Exp.apply(x)


class Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        flat = x.flatten().clone()
        end = flat.numel() if MENDED else flat.numel() - flat.numel() % BLOCK
        for start in range(0, end, BLOCK):
            flat[start : start + BLOCK] = torch.exp(flat[start : start + BLOCK])
        y = flat.reshape(x.shape)
        ctx.save_for_backward(torch.exp(x))
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * y
