"""A square, read from memory. The mistake (layout): it is read as if the input were contiguous."""

import os

import torch

import shakeout

MENDED = "MENDED" in os.environ


@shakeout.kernel(reference=torch.square)
def square(x: torch.Tensor) -> torch.Tensor:
    if x.is_complex() or x.dtype == torch.bool:
        raise NotImplementedError("real numbers")
    return Square.apply(x)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        if MENDED:
            x = x.contiguous()
        memory = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())
        # What lies behind the end of the memory is read as the last element, where a C++ kernel would read anything.
        places = torch.arange(x.storage_offset(), x.storage_offset() + x.numel()).clamp(max=memory.numel() - 1)
        flat = memory[places]
        return (flat * flat).reshape(x.shape)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (2 * x)
