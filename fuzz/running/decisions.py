"""Decisions that rounding takes, the other way: finite or infinite, which of two is larger, which row comes next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.program import Call
from shakeout.corpus.vocabularies import Vocabulary
from shakeout.fuzz.running.rounding import Noise, Others, floats, instead, moved_numbers, overwritten, replaced

if TYPE_CHECKING:
    import torch

__all__ = ["at_the_border", "compared", "eliminated", "undecided"]

#: Units in the last place by which operands are moved to see whether a result is near the border of the range.
_NEAR = 4.0

#: Of the largest number of a matrix: results that are further apart are not the same but for rounding.
_ANOTHER = 0.1


def at_the_border(
    operation: Call,
    values: Sequence[Any],
    results: list[Any],
    run: Callable[[Call, Sequence[Any]], list[Any]],
    noise: Noise,
) -> list[Any]:
    """Results of which some that just exceed the range are the largest number of the format instead, at random.

    Whether a result is the largest number or infinity is decided by its rounding errors, like the result of a
    comparison. Moving what is infinite leaves it infinite, so what is near the border is looked for in the operands:
    where those, moved towards zero or away from it by a few units in the last place, give a finite result.
    """
    import torch

    infinite = [floats(r) and r.dtype.itemsize > 1 and bool(torch.isinf(r.detach()).any()) for r in results]
    operands = {n: values[n] for n in operation.operands() if floats(values[n]) and values[n].dtype.itemsize > 1}
    # What it wrote to is not there any more as it was, and what it only passed on was not decided here.
    if not any(infinite) or not operands or any(r is t for r in results for t in operands.values()):
        return results
    if any(r._version for r in results if isinstance(r, torch.Tensor)):
        return results
    near: list[torch.Tensor | None] = [None] * len(results)
    for step in (-_NEAR, _NEAR):
        others = {n: _scaled(tensor.detach(), step) for n, tensor in operands.items()}
        try:
            with torch.no_grad():
                seen = run(operation, [others.get(n, value) for n, value in enumerate(values)])
        except Exception:
            return results  # not every operator takes other numbers
        for place, (result, other) in enumerate(zip(results, seen, strict=True)):
            if infinite[place] and other.shape == result.shape:
                found = torch.isinf(result.detach()) & torch.isfinite(other)
                earlier = near[place]
                near[place] = found if earlier is None else earlier | found
    return [
        result if mask is None else _within(result, mask, noise) for result, mask in zip(results, near, strict=True)
    ]


def _within(result: torch.Tensor, mask: torch.Tensor, noise: Noise) -> torch.Tensor:
    """A result with the largest number of its sign, where the mask and a coin say so."""
    import torch

    if result.dtype.is_complex or not bool(mask.any()):
        return result
    coin = torch.randint(0, 2, mask.shape, generator=noise.source, device="cpu").to(mask.device, torch.bool)
    largest = torch.finfo(result.dtype).max
    plain = result.detach()
    return instead(result, torch.where(mask & coin, plain.clamp(-largest, largest), plain))


def compared(
    operation: Call,
    values: Sequence[Any],
    words: Vocabulary,
    moved: Callable[[torch.Tensor], bool],
    noise: Noise,
) -> list[Any]:
    """Results of a comparison, turned at random where its operands are a few units in the last place apart.

    Zero is no rounding error of zero, and of numbers of which none is ``moved`` by rounding errors nothing is turned.
    """
    import torch

    tensors = [values[n] for n in operation.operands()]
    sides = [words.value(arg, values) for arg in operation.args[:2]]
    units = [torch.finfo(t.dtype).eps for t in tensors if floats(t) and moved(t)]
    near = None
    if units and len(sides) == 2:
        wide = torch.complex128 if any(map(_complex, sides)) else torch.float64
        one, other = (torch.as_tensor(side, dtype=wide, device=tensors[0].device).detach() for side in sides)
        limit = _NEAR * max(units) * torch.maximum(one.abs(), other.abs())
        near = ((one - other).abs() <= limit) & (one != -other) & torch.isfinite(limit)
    results = words.call(operation, values)
    if near is None or not bool(near.any()):
        return results
    coin = torch.randint(0, 2, near.shape, generator=noise.source, device="cpu").to(near.device, torch.bool)
    return [_turned(result, near & coin) for result in results]


def undecided(operation: Call, values: Sequence[Any], results: Sequence[Any], noise: Noise) -> list[Any]:
    """Results that say yes or no, turned at random where what is asked about may be any number: NaN stands for it."""
    import torch

    lost = [torch.isnan(values[n].detach()) for n in set(operation.operands()) if floats(values[n])]
    lost = [mask for mask in lost if bool(mask.any())]

    def turned(result: Any) -> Any:
        if not lost or not isinstance(result, torch.Tensor) or result.dtype != torch.bool:
            return result
        try:
            masks = [mask.expand(result.shape) for mask in lost]
        except RuntimeError:
            return result  # no question about each number
        coin = torch.randint(0, 2, result.shape, generator=noise.source, device="cpu").to(result.device, torch.bool)
        return _turned(result, torch.stack(masks).any(0) & coin)

    return list(map(turned, results))


def _complex(side: Any) -> bool:
    return isinstance(side, complex) or (floats(side) and side.dtype.is_complex)


def _turned(result: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    import torch

    plain = result.detach()
    turned = torch.where(mask, torch.logical_not(plain).to(plain.dtype), plain)
    return overwritten(result, turned) if result._version else turned


def eliminated(
    operation: Call,
    values: Sequence[Any],
    run: Callable[[Call, Sequence[Any]], list[Any]],
    other: Others,
    noise: Noise,
) -> list[Any]:
    """Results of an elimination; of a matrix between whose rows rounding decides they are something else.

    What is left of a singular matrix is rounding errors, and any of its rows may come next. A replica shows one of
    them, and the rows that it exchanges; there are more rows than replicas.
    """
    import torch

    place = operation.operands()[0]
    matrix = values[place]
    if not floats(matrix) or matrix.numel() == 0 or matrix.dim() < 2:
        return run(operation, values)

    def at(tensor: torch.Tensor) -> list[Any]:
        return run(operation, [tensor if number == place else value for number, value in enumerate(values)])

    batch = matrix.shape[:-2]
    decided = torch.zeros(batch, dtype=torch.bool, device=matrix.device)
    with torch.no_grad():
        for one, moved in zip(at(matrix), at(moved_numbers(matrix, noise)), strict=True):
            if one.numel() and one.shape[: len(batch)] == batch:
                apart, size = (part.reshape(*batch, -1) for part in ((one - moved).abs(), one.abs()))
                decided |= (apart > _ANOTHER * size.amax(-1, keepdim=True)).any(-1)

    def anything(tensor: torch.Tensor | None) -> torch.Tensor | None:
        if tensor is not None and tensor.dtype == torch.int32 and tensor.shape == batch:
            # Which pivot is zero, if any: of a matrix of this kind any may be.
            pivots = torch.randint(0, matrix.shape[-1] + 1, batch, generator=noise.source, dtype=torch.int32)
            return torch.where(decided, pivots.to(tensor.device), tensor)
        if tensor is None or not floats(tensor) or tensor.shape[: len(batch)] != batch:
            return tensor
        found: torch.Tensor = replaced(tensor, decided[..., None, None].expand(tensor.shape), other)
        return found

    if not bool(decided.any()):
        return run(operation, values)
    if matrix.requires_grad and torch.is_grad_enabled():
        matrix = matrix.view_as(matrix)
        matrix.register_hook(anything)
    return [anything(result) for result in at(matrix)]


def _scaled(tensor: torch.Tensor, steps: float) -> torch.Tensor:
    """Numbers that are so many units in the last place larger; what is no number stays as it is."""
    import torch

    limits = torch.finfo(tensor.dtype)
    least = torch.where(tensor == 0, 0.0, torch.sgn(tensor) * steps * limits.tiny * limits.eps)
    moved = torch.where(tensor.abs() < limits.tiny, tensor + least, tensor * (1.0 + steps * limits.eps))
    return torch.where(torch.isfinite(tensor), moved.to(tensor.dtype), tensor)
