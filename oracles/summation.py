"""Operators that add up many terms, and where another order of the terms may overflow.

In which order a kernel adds is nobody's promise. As long as the magnitudes of all terms together keep below the largest
number of the format, each order gives nearly the same; where they do not, one order gives a number, another infinity,
and a third, which meets infinities of both signs, NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.program import Call
from shakeout.corpus.vocabularies import Vocabulary
from shakeout.corpus.vocabularies.traits import Addition
from shakeout.oracles.exactness import majorised

if TYPE_CHECKING:
    import torch

__all__ = ["doubtful", "doubtful_gradients", "leftovers"]

#: Of the largest number: what a bound is below, no order of its terms comes near.
_ROOM = 0.125

#: Of the sum of all terms' magnitudes, in units of the last place: what is left below is made of rounding errors.
_LEFT = 8.0


def doubtful(operation: Call, values: Sequence[Any], words: Vocabulary) -> list[torch.Tensor | None]:
    """Of each result, which elements another order may make infinite or no number; None for a result without any.

    Operands that are no numbers themselves count as zero: what becomes of those is the same in every order.

    Args:
        operation: a call of an operator whose trait ``addition`` says of what it adds up, or multiplies, many terms.
        values: its program's, by number, before the call.
        words: the vocabulary of the operator.
    """
    import torch

    operands = {n: values[n] for n in operation.operands() if _floats(values[n])}
    sizes = {n: _magnitude(tensor.detach()) for n, tensor in operands.items()}
    added = words.traits(operation.operator).addition
    with torch.no_grad():
        if added in ("products", "factors"):
            if not any(_large(size, added) for size in sizes.values()):
                return []
            try:
                bounds = _bounds(operation, values, sizes, words)
            except Exception:
                return []  # not every operator takes magnitudes, and without a bound nothing is in doubt
            return [None if bound is None else _beyond(bound) for bound in bounds]
        if not _spoilt(sizes.values(), added):
            return []
        everything = torch.ones((), dtype=torch.bool)
        return [everything if _floats(result) else None for result in words.call(operation, _copies(values, operands))]


def leftovers(operation: Call, values: Sequence[Any], words: Vocabulary) -> list[torch.Tensor | None]:
    """Of each result, the magnitude below which all terms have cancelled, so that it may be nothing as well.

    Arguments are those of ``doubtful``; of other operators than sums of products nothing is known. Half precision is
    added up in single.
    """
    import torch

    if words.traits(operation.operator).addition != "products":
        return []
    operands = {n: values[n] for n in operation.operands() if _floats(values[n])}
    sizes = {n: _magnitude(tensor.detach()) for n, tensor in operands.items()}
    try:
        with torch.no_grad():
            bounds = _bounds(operation, values, sizes, words)
    except Exception:
        return []  # not every operator takes magnitudes
    least = torch.finfo(torch.float32).eps
    return [
        None if bound is None else bound.abs() * _LEFT * min(least, torch.finfo(bound.dtype).eps) for bound in bounds
    ]


def doubtful_gradients(
    operation: Call,
    values: Sequence[Any],
    operands: Mapping[int, torch.Tensor],
    given: Mapping[int, torch.Tensor],
    words: Vocabulary,
) -> dict[int, torch.Tensor | None]:
    """Of each operand's gradient, which elements another order may make infinite or no number.

    A gradient of a sum of products is a sum of products of the other operands and of the results' gradients; that of
    the magnitudes of both bounds its partial sums.

    Args:
        operation: a call of an operator whose trait ``addition`` says of what it adds up, or multiplies, many terms.
        values: its program's, by number, before the call.
        operands: whose gradients are asked about, by number.
        given: the results' gradients, by position.
        words: the vocabulary of the operator.
    """
    import torch

    added = words.traits(operation.operator).addition
    sizes = {n: _magnitude(values[n].detach()) for n in operation.operands() if _floats(values[n])}
    grown = {place: _magnitude(gradient.detach()) for place, gradient in given.items()}
    if added != "products":
        # Where the call's own sums may overflow, nothing of its gradient is known.
        everything = torch.ones((), dtype=torch.bool)
        return dict.fromkeys(operands, everything) if _spoilt(sizes.values(), added) else {}
    room = [
        torch.finfo(size.dtype).max ** (1 / 3) / max(1, size.numel()) for size in (*sizes.values(), *grown.values())
    ]
    most = [float(size.max()) if size.numel() else 0.0 for size in (*sizes.values(), *grown.values())]
    if all(one <= limit for one, limit in zip(most, room, strict=True)):
        return {}
    try:
        with torch.enable_grad():
            leaves = {n: size.to(values[n].dtype).requires_grad_(n in operands) for n, size in sizes.items()}
            found = words.call(majorised(operation, words), [leaves.get(n, value) for n, value in enumerate(values)])
            roots = {place: found[place] for place in grown if found[place].requires_grad}
            asked = [n for n in operands if n in leaves]
            bounds = torch.autograd.grad(
                list(roots.values()),
                [leaves[n] for n in asked],
                [grown[place].to(root.dtype) for place, root in roots.items()],
                allow_unused=True,
            )
    except Exception:
        return {}  # not every operator takes magnitudes, and without a bound nothing is in doubt
    return {n: None if bound is None else _beyond(bound) for n, bound in zip(asked, bounds, strict=True)}


def _floats(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and (value.dtype.is_floating_point or value.dtype.is_complex)


def _magnitude(tensor: torch.Tensor) -> torch.Tensor:
    """Magnitudes in the dtype of the parts; of a complex number one that bounds all sums of its parts."""
    import torch

    plain = tensor if tensor.dtype.itemsize > 1 else tensor.float()
    size = 2 * plain.abs() if plain.dtype.is_complex else plain.abs()
    # What is finite may still be too large for that, and is infinite then.
    return torch.where(torch.isfinite(plain), size, 0.0)


def _large(size: torch.Tensor, added: Addition) -> bool:
    """Whether there can be any overflow at all, or underflow of a product."""
    import torch

    if not size.numel():
        return False
    limits = torch.finfo(size.dtype)
    least, most = float(size.min()), float(size.max())
    room = float(limits.max ** (1 / 3))
    if added == "factors":
        room = float(limits.max ** (1 / max(1, size.numel())))
        return most > room or least < float(limits.tiny ** (1 / max(1, size.numel())))
    return most > room / max(1, size.numel())


def _spoilt(sizes: Iterable[torch.Tensor], added: Addition) -> bool:
    """Whether the sum that is taken of an operand's magnitudes, or of their squares, comes near the largest number."""
    import torch

    if added == "factors":
        return any(_large(size, added) for size in sizes)
    return any(
        not float((size.double() ** (2 if added == "squares" else 1)).sum()) < _ROOM * torch.finfo(size.dtype).max
        for size in sizes
    )


def _copies(values: Sequence[Any], operands: dict[int, torch.Tensor]) -> list[Any]:
    """The values with copies of some, so that a call that writes to them does no harm."""
    return [operands[n].detach().clone() if n in operands else value for n, value in enumerate(values)]


def _bounds(
    operation: Call,
    values: Sequence[Any],
    sizes: dict[int, torch.Tensor],
    words: Vocabulary,
) -> list[torch.Tensor | None]:
    """A bound of every partial sum or product of each element, infinite where a product may vanish on the way."""
    import torch

    def at(change: Callable[[torch.Tensor], torch.Tensor]) -> list[Any]:
        like = {n: change(size).to(values[n].dtype) for n, size in sizes.items()}
        return words.call(majorised(operation, words), [like.get(n, value) for n, value in enumerate(values)])

    if words.traits(operation.operator).addition != "factors":
        return [bound if _floats(bound) else None for bound in at(lambda size: size)]
    above, below = at(lambda size: size.clamp(min=1)), at(lambda size: size.clamp(max=1))
    return [
        torch.where(low.abs() < torch.finfo(low.dtype).tiny, torch.inf, high.abs()) if _floats(high) else None
        for high, low in zip(above, below, strict=True)
    ]


def _beyond(bound: torch.Tensor) -> torch.Tensor:
    import torch

    size = bound.abs()
    return ~(size < _ROOM * torch.finfo(size.dtype).max)
