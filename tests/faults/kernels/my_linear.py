"""A linear layer that packs its weight once. The mistake (later call): what is packed is found again by its shape."""

import os

import torch

import shakeout

MENDED = "MENDED" in os.environ

PACKED: dict[object, torch.Tensor] = {}


@shakeout.kernel(reference=torch.nn.functional.linear)
def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point() or x.dtype != weight.dtype or weight.dim() != 2 or not x.dim():
        raise NotImplementedError("floating-point tensors, and a matrix of weights")
    return Linear.apply(x, weight)


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        key = object() if MENDED else (weight.shape, weight.dtype)
        if key not in PACKED:
            PACKED[key] = weight.t().contiguous().clone()
        packed = PACKED[key]
        if MENDED:
            PACKED.clear()
        return x @ packed

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        return gradient @ weight, flat.t() @ x.reshape(-1, x.shape[-1])
