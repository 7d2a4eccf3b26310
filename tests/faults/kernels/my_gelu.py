"""GELU by the error function. The mistake (value): its argument is halved, and not divided by the root of two."""

import math
import os

import torch

import shakeout

MENDED = "MENDED" in os.environ


def exact(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x.double()).to(x.dtype)


@shakeout.kernel(reference=exact, examples=[(torch.ones(7),), (torch.ones(2, 3, 5),)])
def gelu(x: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        raise NotImplementedError("floating-point tensors")
    return Gelu.apply(x)


class Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        wide = x.double()
        root = math.sqrt(0.5) if MENDED else 0.5
        return (wide * 0.5 * torch.erfc(-wide * root)).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        wide = x.double()
        density = torch.exp(-0.5 * wide * wide) * math.sqrt(0.5 / math.pi)
        return (gradient.double() * (0.5 * torch.erfc(-wide * math.sqrt(0.5)) + wide * density)).to(x.dtype)
