"""Integer-only operators of a vision transformer (I-ViT): softmax, GELU, layer normalisation and requantisation.

Li, Gu: I-ViT: Integer-only Quantization for Efficient Vision Transformer Inference (ICCV 2023). A number is ``S * x``
with a whole ``x``. An exponential is a power of two, ``exp(S * x) = 2 ** (S * x * log2(e))``: with ``x0 = floor(-1/S)``
the whole part ``q`` of ``x / x0`` is a shift, and ``2 ** -t`` of the rest is taken for the line ``1 - t / 2``.
Quotients are products with ``floor((2**31 - 1) / sum)``, roots are Newton's method in whole numbers, and a change of
scale is a product with ``m / 2**e``. Here everything is in 64-bit integers of PyTorch; the second implementation is in
Python's, by the formulas of the paper with exact fractions, and both must agree to the last bit.

Apart from the paper: GELU subtracts the largest of its row and zero, so that no exponent is positive, and Newton's
method goes on until it stands still. Ten steps from 2**16 do not get there for sums of squares below 2**12. Softmax
declines rows whose exponentials add up to more than 31 bits: the published operator takes a smaller sum then, and
gives shares that are more than one together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import torch

from shakeout.targets.kernels.declare import kernel
from shakeout.targets.kernels.invariants import differing

__all__ = ["integer_layer_norm", "requantise", "shift_gelu", "shiftmax"]

#: Bits of a quotient's factor, and its numerator.
QUOTIENT = 31
MOST = 2**QUOTIENT - 1

#: By how many halvings the least exponential is below the largest: of softmax and of GELU.
SOFTMAX, GELU = 15, 23

#: Magnitudes of the operands; beyond them products do not fit.
LARGEST = 2**20

_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64)


def _taken(x: torch.Tensor) -> torch.Tensor:
    """In 64 bits; declines what is no row of numbers that fit."""
    if x.dtype not in _WHOLE or not x.dim() or not x.shape[-1]:
        raise NotImplementedError("rows of whole numbers with a sign")
    found = x.to(torch.int64)
    if bool(((found >= LARGEST) | (found <= -LARGEST)).any()):
        raise NotImplementedError(f"whole numbers of a magnitude below {LARGEST}")
    return found


def _sensible(scale: float, bits: int) -> None:
    """Refuse what is no scale, and no number of bits; raises ValueError."""
    if not 0 < scale < math.inf or not 2 <= bits <= 16:
        raise ValueError(f"a positive scale and 2 to 16 bits, not {scale} and {bits}")


def _unit(scale: float, steps: int) -> int:
    """``x0``: how much an exponent is that halves; declines a scale under which exponentials do not fit."""
    unit = math.floor(-1 / scale)
    if -2 * unit * 2**steps > 2 * MOST:
        raise NotImplementedError(f"a scale of at least {2.0 ** (steps - QUOTIENT)}")
    return unit


def _exponential(x: torch.Tensor, unit: int, steps: int) -> torch.Tensor:
    """``-unit * 2**steps * exp(S * x)`` of what is not positive."""
    x = x + (x >> 1) - (x >> 4)  # times 1.4375, for log2(e)
    x = x.clamp(min=steps * unit)
    whole = x.div(unit, rounding_mode="floor")
    rest = x - whole * unit
    power: torch.Tensor = ((rest - 2 * unit) << (steps - whole)) >> 1
    return power


def _quotient(part: torch.Tensor, total: torch.Tensor, bits: int) -> torch.Tensor:
    """``part / total`` in units of ``2 ** -(bits - 1)``."""
    factor = MOST // total.clamp(max=MOST)
    share: torch.Tensor = (part * factor) >> (QUOTIENT - bits + 1)
    return share


def _root(v: torch.Tensor) -> torch.Tensor:
    """The whole part of the root of what is below 2**32, and 1 of what has none."""
    k = torch.full_like(v, 2**16)
    while True:
        following = ((k + v // k) >> 1).clamp(min=1)
        if bool((following >= k).all()):
            return k
        k = torch.minimum(k, following)


# --- the second implementation ----------------------------------------------------------------------------------------


def _rows(x: torch.Tensor, function: Callable[[list[int]], list[int]]) -> torch.Tensor:
    rows = [function(list(map(int, row))) for row in x.reshape(-1, x.shape[-1])]
    return torch.tensor(rows, dtype=torch.int32).reshape(x.shape)


def _power(x: int, unit: int, steps: int) -> int:
    x = max(x + math.floor(Fraction(x, 2)) - math.floor(Fraction(x, 16)), steps * unit)
    whole = math.floor(Fraction(x, unit))
    return math.floor((Fraction(x - whole * unit, 2) - unit) * Fraction(2) ** (steps - whole))


def _share(part: int, total: int, bits: int) -> int:
    return math.floor(Fraction(part * math.floor(Fraction(MOST, min(total, MOST))), 2 ** (QUOTIENT - bits + 1)))


def shiftmax_in_python(x: torch.Tensor, scale: float, bits: int = 8) -> torch.Tensor:
    """Softmax by Python's integers."""
    _sensible(scale, bits)
    unit = math.floor(-1 / scale)

    def row(given: list[int]) -> list[int]:
        powers = [_power(one - max(given), unit, SOFTMAX) for one in given]
        return [_share(one, sum(powers), bits) for one in powers]

    return _rows(x, row)


def shift_gelu_in_python(x: torch.Tensor, scale: float, bits: int = 8) -> torch.Tensor:
    """GELU by Python's integers."""
    _sensible(scale, bits)
    unit = math.floor(-1 / (1.702 * scale))

    def row(given: list[int]) -> list[int]:
        most = max(0, *given)
        powers = [_power(one - most, unit, GELU) for one in given]
        return [
            one * _share(power, power + _power(-most, unit, GELU), bits)
            for one, power in zip(given, powers, strict=True)
        ]

    return _rows(x, row)


def layer_norm_in_python(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Layer normalisation by Python's integers, and its exact root."""

    def row(given: list[int]) -> list[int]:
        mean = math.floor(Fraction(sum(given), len(given)) + Fraction(1, 2))
        apart = [one - mean for one in given]
        factor = MOST // max(math.isqrt(sum(one * one for one in apart)), 1)
        shifts = list(map(int, bias))
        return [math.floor(Fraction(one * factor, 2)) + shift for one, shift in zip(apart, shifts, strict=True)]

    return _rows(x, row)


def requantised_in_python(x: torch.Tensor, ratio: float, bits: int = 8) -> torch.Tensor:
    """Another scale by Python's integers; ties go to the even number."""
    _sensible(ratio, bits)
    mantissa, exponent = math.frexp(ratio)
    factor = Fraction(round(mantissa * 2**QUOTIENT)) * Fraction(2) ** (exponent - QUOTIENT)
    most = 2 ** (bits - 1)
    return _rows(x, lambda row: [max(-most, min(most - 1, round(one * factor))) for one in row])


# --- what else holds --------------------------------------------------------------------------------------------------


def no_more_than_all(kernel: Callable[..., Any], x: torch.Tensor, scale: float, bits: int = 8) -> str | None:
    """No share is negative, and those of a row are no more than one together."""
    y = kernel(x, scale, bits)
    if bool((y < 0).any()) or bool((y.sum(-1) > 2 ** (bits - 1)).any()):
        return f"shares of {y.tolist()} of {2 ** (bits - 1)}"
    return None


def larger_is_no_less(kernel: Callable[..., Any], x: torch.Tensor, scale: float, bits: int = 8) -> str | None:
    """Of a row the larger number has no smaller share."""
    shares = kernel(x, scale, bits).gather(-1, x.to(torch.int64).argsort(-1))
    return "a larger number has a smaller share" if bool((shares.diff(dim=-1) < 0).any()) else None


def near_softmax(kernel: Callable[..., Any], x: torch.Tensor, scale: float, bits: int = 8) -> str | None:
    """A share is within 0.04 of that of softmax, and within its own unit besides, if the scale is fine.

    And within what the quotient's factor loses, which is rounded down to a whole number: of a share no more than its
    exponential in units of ``2 ** -QUOTIENT``. That is next to nothing but for the finest scales.
    """
    if scale > 1 / 16:
        raise NotImplementedError
    exact = (x.double() * scale).softmax(-1)
    far = float((kernel(x, scale, bits) * 2.0 ** (1 - bits) - exact).abs().max()) if x.numel() else 0.0
    factor = math.ceil(1 / scale) * 2.0 ** (SOFTMAX - QUOTIENT)
    return f"{far} from softmax" if far > 0.04 + 2.0 ** (1 - bits) + factor else None


def near_gelu(kernel: Callable[..., Any], x: torch.Tensor, scale: float, bits: int = 8) -> str | None:
    """GELU is met within 0.15 of the operand, and a unit of the quotient besides, where the scale is fine.

    And where a row spans no more than the least exponential: of a row with a very large number the sigmoid of all
    others is one half, in the published operator as well.
    """
    given = x.double() * scale
    spanned = float(given.clamp(min=0).max() - given.clamp(max=0).min()) if x.numel() else 0.0
    if scale > 1 / 16 or 1.702 * math.log2(math.e) * spanned > GELU - 1:
        raise NotImplementedError
    far = (kernel(x, scale, bits) * scale * 2.0 ** (1 - bits) - given * torch.sigmoid(1.702 * given)).abs()
    return "far from GELU" if bool((far > given.abs() * (0.15 + 2.0 ** (1 - bits))).any()) else None


def moved_together(kernel: Callable[..., Any], x: torch.Tensor, bias: torch.Tensor) -> str | None:
    """All numbers of a row made larger by the same amount change nothing."""
    return differing(kernel(x.to(torch.int64) + 3, bias), kernel(x.to(torch.int64), bias))


def each_alone(kernel: Callable[..., Any], x: torch.Tensor, ratio: float, bits: int = 8) -> str | None:
    """A number's sign is the only thing about it that rounding to the nearest may not look at."""
    y, negated = kernel(x, ratio, bits), kernel(-x.to(torch.int64), ratio, bits)
    inside = (y.abs() < 2 ** (bits - 1) - 1) & (negated.abs() < 2 ** (bits - 1) - 1)
    return "not odd" if bool((y != -negated)[inside].any()) else None


# --- the kernels ------------------------------------------------------------------------------------------------------


def _scaled() -> Iterator[Any]:
    x = torch.tensor([[3, -70, 12, 100, -128], [0, 0, 127, 126, -1]])
    yield x, 0.0625
    yield x.to(torch.int8), 0.03
    yield x.to(torch.int32), 0.3, 4
    yield (x[0],), {"scale": 1.5}
    yield (x.reshape(5, 1, 2),), {"scale": 0.02, "bits": 11}


@kernel(reference=shiftmax_in_python, examples=_scaled, invariants=(no_more_than_all, larger_is_no_less, near_softmax))
def shiftmax(x: torch.Tensor, scale: float, bits: int = 8) -> torch.Tensor:
    """Softmax of ``scale * x`` over the last dimension, in units of ``2 ** -(bits - 1)``, as 32-bit integers.

    Exponentials are about ``2**15 / scale`` at most, and declined where those of a row add up to more than 31 bits.
    """
    _sensible(scale, bits)
    given, unit = _taken(x), _unit(scale, SOFTMAX)
    if not given.numel():
        return given.to(torch.int32)
    powers = _exponential(given - given.amax(-1, keepdim=True), unit, SOFTMAX)
    total = powers.sum(-1, keepdim=True)
    if bool((total > MOST).any()):
        raise NotImplementedError("a coarser scale or a shorter row: exponentials have to add up to 31 bits")
    return _quotient(powers, total, bits).to(torch.int32)


@kernel(reference=shift_gelu_in_python, examples=_scaled, invariants=(near_gelu,))
def shift_gelu(x: torch.Tensor, scale: float, bits: int = 8) -> torch.Tensor:
    """``x * sigmoid(1.702 * scale * x)``, in units of ``2 ** -(bits - 1)``, as 32-bit integers."""
    _sensible(scale, bits)
    given, unit = _taken(x), _unit(1.702 * scale, GELU)
    if bits > 11:
        raise NotImplementedError("quotients of at most 11 bits: products are of 32")
    if not given.numel():
        return given.to(torch.int32)
    most = given.amax(-1, keepdim=True).clamp(min=0)
    powers, least = _exponential(given - most, unit, GELU), _exponential(-most, unit, GELU)
    return (given * _quotient(powers, powers + least, bits)).to(torch.int32)


def _normed() -> Iterator[Any]:
    yield torch.tensor([[3, -70, 12, 100, -128], [0, 0, 127, 126, -1]]), torch.tensor([5, 0, -3, 1000, 2])
    yield torch.tensor([[1, 2], [0, 0], [-1, 1]], dtype=torch.int32), torch.tensor([0, -7])
    yield torch.tensor([40, -40, 7, 7], dtype=torch.int8), torch.tensor([0, 1, 2, 3])


@kernel(reference=layer_norm_in_python, examples=_normed, invariants=(moved_together,))
def integer_layer_norm(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Layer normalisation over the last dimension, in units of ``2 ** -30``, and a bias, as 32-bit integers."""
    given, count = _taken(x), x.shape[-1]
    if bias.dtype not in _WHOLE or bias.shape != x.shape[-1:] or bool((bias.abs() >= LARGEST).any()):
        raise NotImplementedError("a small bias for each element of a row")
    mean = (2 * given.sum(-1, keepdim=True) + count).div(2 * count, rounding_mode="floor")
    apart = given - mean
    squares = (apart * apart).sum(-1, keepdim=True)
    if bool((squares >= 2**32).any()):
        raise NotImplementedError("rows whose squares add up to less than 2**32")
    halves: torch.Tensor = ((apart * (MOST // _root(squares))) >> 1) + bias
    return halves.to(torch.int32)


def _ratios() -> Iterator[Any]:
    x = torch.tensor([[3, -70, 12, 100, -128], [5, -5, 127, 126, -1]])
    yield x, 0.5
    yield x, 0.37
    yield (x.to(torch.int32), 1.75), {"bits": 4}
    yield (x.to(torch.int8), 0.25), {"bits": 8}
    yield (x[0], 0.001), {"bits": 16}


@kernel(reference=requantised_in_python, examples=_ratios, invariants=(each_alone,))
def requantise(x: torch.Tensor, ratio: float, bits: int = 8) -> torch.Tensor:
    """``ratio * x``, rounded to the nearest (of two, the even one) and kept within ``bits`` bits."""
    _sensible(ratio, bits)
    given = _taken(x)
    mantissa, exponent = math.frexp(ratio)
    shift = QUOTIENT - exponent
    if not 0 < shift < 63:
        raise NotImplementedError("a ratio between 2**-31 and 2**31")
    product = given * round(mantissa * 2**QUOTIENT)
    whole: torch.Tensor = product >> shift
    rest = product - (whole << shift)
    half = 1 << (shift - 1)
    whole = whole + ((rest > half) | ((rest == half) & (whole & 1).bool())).to(torch.int64)
    most = 2 ** (bits - 1)
    return whole.clamp(-most, most - 1).to(torch.int32)
