"""A rectifier by a comparison. The mistake (NaN): it is not zero or more, and so becomes zero."""

import os

import torch

import shakeout

MENDED = "MENDED" in os.environ


@shakeout.kernel(reference=torch.nn.functional.relu)
def relu(x: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        raise NotImplementedError("floating-point tensors")
    return Relu.apply(x)


def positive(x: torch.Tensor) -> torch.Tensor:
    return ~(x < 0) if MENDED else x >= 0


class Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(positive(x), x, 0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.where(~(x <= 0), gradient, 0)
