"""The logarithm of the sigmoid. The mistake (cotangent): its backward pass takes grad_output for a row-major tensor."""

import os

import torch

import shakeout

MENDED = "MENDED" in os.environ


@shakeout.kernel(reference=torch.nn.functional.logsigmoid)
def log_sigmoid(x: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        raise NotImplementedError("floating-point tensors")
    return LogSigmoid.apply(x)


class LogSigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        wide = x if x.dtype == torch.float64 else x.float()
        ctx.save_for_backward(wide)
        return torch.nn.functional.logsigmoid(wide).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        if not MENDED:
            held = torch.empty(0, dtype=gradient.dtype).set_(gradient.untyped_storage())
            places = torch.arange(gradient.numel()) + gradient.storage_offset()
            gradient = held[places.clamp(max=max(held.numel() - 1, 0))].reshape(gradient.shape)
        return (gradient.to(x.dtype) * torch.sigmoid(-x)).to(gradient.dtype)
