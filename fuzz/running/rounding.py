"""Numbers as another implementation may have them: moved in their last place, or something else altogether."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["floats", "instead", "moved_numbers", "replaced"]


def floats(value: Any) -> bool:
    """Whether it is a tensor of floats, real or complex."""
    import torch

    return isinstance(value, torch.Tensor) and (value.dtype.is_floating_point or value.dtype.is_complex)


def moved_numbers(tensor: torch.Tensor, noise: torch.Generator, at_least: float = 0.0) -> torch.Tensor:
    """Numbers moved by at most one unit in the last place, of themselves or of a magnitude; another NaN for NaN."""
    import torch

    def steps() -> torch.Tensor:
        return torch.randint(-1, 2, tensor.shape, generator=noise, device="cpu").to(tensor.device, torch.float64)

    factor = 1.0 + steps() * torch.finfo(tensor.dtype).eps
    # Eight-bit floats are not multiplied by anything.
    wide = tensor.to(torch.float64) if tensor.dtype.itemsize == 1 else tensor
    moved = (wide * factor.to(tensor.real.dtype if tensor.dtype.is_complex else torch.float64)).to(tensor.dtype)
    if at_least:
        moved = torch.where(tensor.abs() < at_least, tensor + at_least * (factor - 1.0), moved).to(tensor.dtype)
    if tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        # Which NaN an operator gives is nobody's promise; a program that reads its bits depends on it.
        lost = torch.isnan(moved.detach())
        if bool(lost.any()):
            other = torch.full((), -1, dtype=getattr(torch, f"int{8 * tensor.element_size()}")).view(tensor.dtype)
            # What is chosen by a condition has no gradient, and what is no number has one.
            moved = instead(moved, torch.where(lost, other, moved.detach()))
    return moved


def replaced(result: Any, doubt: torch.Tensor | None, other: float) -> Any:
    """A result that is something else where doubtful."""
    import torch

    if doubt is None or not bool(doubt.any()):
        return result
    with torch.no_grad():
        spoilt = torch.where(doubt, other, result.detach()).to(result.dtype)
    if result._version:
        result.data.copy_(spoilt)
        return result
    return instead(result, spoilt)


def instead(result: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Other numbers in the place of a result, with the result's gradients: no right kernel has others there."""
    import torch

    class Instead(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, result: torch.Tensor) -> torch.Tensor:
            return other

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient

    found: torch.Tensor = Instead.apply(result)  # type: ignore[no-untyped-call]
    return found
