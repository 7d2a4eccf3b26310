"""Invariants of kernels: what holds for every call beside that the results are the reference's up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from shakeout.corpus.user_objects import Invariant

__all__ = ["close", "differing", "drawn", "exactly", "on_whole_numbers"]

#: Whole numbers of this magnitude: 512 products of two of them, times a third, add up to less than 2**24.
LARGEST = 5


def differing(found: Any, wanted: Any) -> str | None:
    """Where two results, or lists of them, are not the same bits but for the sign of a zero; None where they are."""
    left, right = _listed(found), _listed(wanted)
    if len(left) != len(right):
        return f"{len(left)} results, expected {len(right)}"
    for number, (one, other) in enumerate(zip(left, right, strict=True)):
        if one is None or other is None:
            if one is not other:
                return f"result {number} is {'missing' if one is None else 'there'}, expected the contrary"
        elif one.shape != other.shape or one.dtype != other.dtype:
            return f"result {number} is {_kind(one)}, expected {_kind(other)}"
        elif not torch.equal(one, other):
            same = (one == other) | ((one != one) & (other != other))
            if not bool(same.all()):
                place = tuple(map(int, (~same).nonzero()[0])) if same.dim() else ()
                return f"result {number} at {list(place)} is {one[place].item()}, expected {other[place].item()}"
    return None


def close(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> str | None:
    """Where results in double precision differ by more than 1e-9 of the largest number that is finite.

    So much is left to rounding where two orders of a few dozen operations are compared. Where the numbers are beyond
    1e100 nothing is said: products of them may overflow in one order only.
    """
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        if not other.numel():
            continue
        scale = max(1.0, float(other.nan_to_num(0.0, 0.0, 0.0).abs().max()))
        if scale > 1e100 or not bool(other.isfinite().all()):
            raise NotImplementedError
        far = (one - other).abs()
        if not bool((far <= 1e-9 * scale).all()):
            return f"result {number} differs by {float(far.nan_to_num(float('inf')).max())} of {scale}"
    return None


def exactly(second: Callable[..., Any]) -> Invariant:
    """The results are the very bits of a second implementation's."""

    def exact(kernel: Callable[..., Any], *args: Any, **kwargs: Any) -> str | None:
        return differing(kernel(*args, **kwargs), second(*args, **kwargs))

    exact.__name__ = f"exactly_{getattr(second, '__name__', 'second')}"
    return exact


def on_whole_numbers(second: Callable[..., Any]) -> Invariant:
    """With whole numbers for floating-point operands results and gradients are those of a second implementation.

    For sums of products: each partial sum is exact, in whatever order it is taken, so nothing is left to rounding.
    Operands are in double precision, or in single where they are in a smaller one; what is too large a sum for that is
    not looked at.
    """

    def exact(kernel: Callable[..., Any], *args: Any, **kwargs: Any) -> str | None:
        found, wanted = (_with_gradients(function, args, kwargs) for function in (kernel, second))
        return differing(found, wanted)

    exact.__name__ = f"on_whole_numbers_{getattr(second, '__name__', 'second')}"
    return exact


def _with_gradients(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    leaves: list[torch.Tensor] = []

    def whole(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        held = drawn(value.shape, len(leaves))
        leaves.append(held.to(torch.float64 if value.dtype == torch.float64 else torch.float32).requires_grad_())
        return leaves[-1]

    given = [whole(value) for value in args]
    named = {key: whole(value) for key, value in kwargs.items()}
    with torch.enable_grad():
        results = _listed(function(*given, **named))
        roots = [one for one in results if one.requires_grad]
        cotangents = [drawn(one.shape, 17 + number).to(one.dtype) for number, one in enumerate(roots)]
        gradients = torch.autograd.grad(roots, leaves, cotangents, allow_unused=True) if roots else ()
    return [*(one.detach() for one in results), *gradients]


def drawn(shape: Sequence[int], salt: int) -> torch.Tensor:
    """Whole numbers of a magnitude up to ``LARGEST`` in double precision, always the same."""
    source = torch.Generator().manual_seed(salt)
    return torch.randint(-LARGEST, LARGEST + 1, tuple(shape), generator=source, dtype=torch.float64)


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, list | tuple) else [result]


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
