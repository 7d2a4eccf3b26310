"""What runs in eager and yet means nothing: such calls are kept out of programs.

``before`` is asked with the operands, ``after`` with the results as well. Both are questions about one call on real
tensors, so they hold for the values of one input set; a program that is to be called again is asked again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from shakeout.corpus.program import Arg, references
from shakeout.corpus.vocabularies.traits import Traits

__all__ = [
    "after",
    "before",
    "disjoint",
    "in_range",
    "ordinary",
    "overlaps_itself",
    "undefined_results",
]


#: Where places of an image are reflected: beyond it single precision does not tell whole numbers apart.
_FAR = 2.0**24


@torch.no_grad()  # to look at a view whose base was written to, autograd would have to know how it came about
def before(
    kind: Traits,
    operands: Sequence[torch.Tensor],
    written: Sequence[torch.Tensor],
    args: tuple[Arg, ...],
    kwargs: tuple[tuple[str, Arg], ...],
) -> str | None:
    """Why a call must not be made, or None.

    Args:
        kind: the operator's traits.
        operands: every tensor that it is given.
        written: those of them that it writes to.
        args: its positional arguments.
        kwargs: its keyword arguments.
    """
    for target in written:
        if overlaps_itself(target) and not _agrees(kind, args):
            return "writes to overlapping memory"
        for other in operands:
            if other is not target and not disjoint(target, other):
                return "reads what it writes"
        if kind.elsewhere and sum(other is target for other in operands) > 1:
            return "reads what it writes"
    if kind.quiet:
        return None
    if (kind.division or kind.shift) and not any(_wide(t) for t in operands):
        numbers = [arg for arg in args if isinstance(arg, int) and not isinstance(arg, bool)]
        if kind.division and _divides_the_least_number(operands, numbers):
            return "the quotient of the least whole number and -1 does not exist"
        if kind.shift:
            amounts = operands[1:] if len(operands) > 1 else operands
            bits = min((8 * t.dtype.itemsize for t in operands), default=64)
            if any(t.numel() and not in_range(t, 0, bits - 1) for t in amounts):
                return "shifts by less than 0 or by the width"
            if any(not 0 <= number < bits for number in numbers) and len(operands) == 1:
                return "shifts by less than 0 or by the width"
    if kind.pairs and any(t.numel() > 12 for t in operands):
        return "would need too much memory"
    if kind.counts and any(not _wide(t) and not in_range(t, -1, 4096) for t in operands):
        return "would need too much memory"
    if kind.finite and not all(bool(t.isfinite().all()) for t in operands):
        return "not finite"
    if kind.pivots:
        matrices = [t for t in operands if _wide(t) and t.dim() >= 2]
        for pivots in (t for t in operands if not _wide(t)):
            fits = [t for t in matrices if (*t.shape[:-2], min(t.shape[-2:])) == tuple(pivots.shape)]
            if not fits or not in_range(pivots, 1, min(min(t.shape[-2:]) for t in fits)):
                return "a place that does not exist"
    if kind.apart and operands and 0 in operands[0].shape[:1]:
        return "distances between no rows"
    modes = (*args, *dict(kwargs).values()) if kind.sampled else ()
    if any(type(mode) is int and not 0 <= mode <= 2 for mode in modes):
        return "a mode that there is not"  # for which the kernel writes nothing
    reflected = any(mode in ("reflection", 2) for mode in modes)
    if reflected and not all(in_range(places, -_FAR, _FAR) for places in operands[1:]):
        return "a place that is too far away to be reflected"
    if kind.attends and len(operands) > 2:
        keys, values = operands[1], operands[2]
        if min(keys.dim(), values.dim()) > 1 and keys.shape[-2] != values.shape[-2]:
            return "keys and values of different numbers"
    if kind.unwritten and not any(arg in ("gels", "gelsd", "gelss") for arg in (*args, dict(kwargs).get("driver"))):
        return "pivots that nobody wrote"
    if kind.loops:
        degrees = operands[1:] if len(operands) > 1 else ()
        if any(not t.is_complex() and not in_range(t, -64, 64) for t in degrees) or any(
            isinstance(arg, int | float) and not -64 <= arg <= 64 for arg in args
        ):
            return "would need too much time"
    if dict(kwargs).get("sorted") is False:
        return "the order is not defined"
    return None


def _agrees(kind: Traits, args: tuple[Arg, ...]) -> bool:
    """Whether whatever the call writes is one number, so that elements that share a place are given the same."""
    return kind.alike and not any(True for arg in args[1:] for _ in references(arg))


def after(
    operands: Sequence[torch.Tensor],
    written: Sequence[torch.Tensor],
    results: Sequence[Any],
) -> str | None:
    """Why what a call did is not defined, or None: floats became whole numbers that cannot hold them.

    The operands have to be as they were before the call; nothing is asked about those that it wrote to.
    """
    whole = [
        t.dtype for t in (*results, *written) if isinstance(t, torch.Tensor) and not _wide(t) and t.dtype != torch.bool
    ]
    if not whole:
        return None
    floats = [t for t in operands if _wide(t) and t.numel()]
    for dtype in whole if floats else ():
        bounds = torch.iinfo(dtype)
        # Whole numbers at the ends of the range are not floats of every width; one binade below they fit.
        high = float(bounds.max) if bounds.bits < 32 else float(bounds.max // 2)
        low = float(bounds.min) if bounds.bits < 32 else float(bounds.min // 2)
        for tensor in floats:
            if not in_range(_parts(tensor), low - 0.5, high + 0.5):
                return "a float becomes a whole number that cannot hold it"
    return None


def undefined_results(
    kind: Traits, operands: Sequence[torch.Tensor], results: Sequence[Any], training: bool
) -> frozenset[int] | None:
    """Positions of results that mean nothing, or None if the whole call is to be dropped."""
    if kind.quiet:
        return frozenset()
    found: set[int] = set()
    found |= kind.ambiguous
    if kind.ties and len(operands) and _has_ties(operands[0]):
        if training:
            return None  # the gradient goes to one of the equal elements
        last = len(results) - 1
        places = {i for i, t in enumerate(results) if isinstance(t, torch.Tensor) and t.dtype == torch.int64}
        if last == 0 and operands[0].dtype == torch.int64 and operands[0].numel():
            # One result: the values themselves, unless the operator gives places only.
            places = places if kind.places else set()
        elif last > 0:
            places = {i for i in places if i > 0}
        found |= places
    return frozenset(i for i in found if i < len(results))


def _has_ties(tensor: torch.Tensor) -> bool:
    if tensor.numel() < 2:
        return False
    if tensor.is_complex():
        return True
    flat = tensor.flatten()
    if flat.dtype in (torch.uint16, torch.uint32, torch.uint64, torch.bool):
        return True
    flat = flat.sort().values
    # NaN differs from itself, and two of them are ties as well.
    return not bool((flat[1:] != flat[:-1]).all()) or bool((flat != flat).any())


def in_range(tensor: torch.Tensor, low: float, high: float) -> bool:
    """Whether every element lies in [low, high]; NaN does not, nor does a complex number, which has no order."""
    if not tensor.numel():
        return True
    if tensor.is_complex():
        return False
    if tensor.dtype.itemsize == 1 and tensor.is_floating_point():
        tensor = tensor.float()
    if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64):
        tensor = tensor.to(torch.float64)
    # In place, a comparison with what has a gradient makes booleans that have one, of which there is no derivative.
    least, most = torch.aminmax(tensor.detach())
    return low <= least.item() and most.item() <= high


def _parts(tensor: torch.Tensor) -> torch.Tensor:
    """Real and imaginary parts as one real tensor."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _wide(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _divides_the_least_number(operands: Sequence[torch.Tensor], numbers: Sequence[int]) -> bool:
    """The one quotient that does not exist; the processor traps on it."""
    signed = [t for t in operands if t.numel() and t.dtype in (torch.int8, torch.int16, torch.int32, torch.int64)]
    if not signed or (not any(number == -1 for number in numbers) and not any(bool((t == -1).any()) for t in signed)):
        return False
    return any(bool((t == torch.iinfo(t.dtype).min).any()) for t in signed)


def overlaps_itself(tensor: torch.Tensor) -> bool:
    """Whether two elements lie in one place."""
    if tensor.is_contiguous() or tensor.numel() < 2:
        return False
    spans = sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1)
    reach = 0
    for stride, size in spans:
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False


def _bytes(tensor: torch.Tensor) -> tuple[int, int]:
    width = tensor.dtype.itemsize
    start = int(tensor.storage_offset()) * width
    reach = sum((size - 1) * int(stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (reach + 1) * width


def disjoint(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have no place in common; of large interleaved ones this is not known, and answered no."""
    if not one.numel() or not other.numel():
        return True
    if one.untyped_storage().data_ptr() != other.untyped_storage().data_ptr():
        return True
    (a, b), (c, d) = _bytes(one), _bytes(other)
    if b <= c or d <= a:
        return True
    if one.dtype.itemsize != other.dtype.itemsize or one.numel() > 4096 or other.numel() > 4096:
        return False
    return not _places(one) & _places(other)


def _places(tensor: torch.Tensor) -> set[int]:
    places = [int(tensor.storage_offset())]
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        places = [place + i * int(stride) for place in places for i in range(size)]
    return set(places)


def ordinary(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds only finite numbers, none so large that the next product overflows."""
    dtype = tensor.dtype
    if not tensor.numel() or not (dtype.is_floating_point or dtype.is_complex):
        return True
    if dtype.itemsize <= 2:
        total = tensor.float().abs().amax().item()
        return total < 3e4
    if dtype.is_complex:
        tensor = _parts(tensor)
        if dtype.itemsize == 4:
            tensor = tensor.float()
    return math.isfinite(total := tensor.sum().item()) and abs(total) < 1e15
