"""Rounding to any binary floating-point format, emulated on double precision in eight modes.

A number is scaled so that one unit in the last place of the target format is 1, rounded to an integer, and scaled
back; every scaling is by a power of two and therefore exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import torch

__all__ = ["FORMATS", "MODES", "Format", "Mode", "chop", "rounded"]

Mode = Literal["nearest-even", "nearest-away", "nearest-zero", "toward-zero", "up", "down", "odd", "stochastic"]

#: The nearest ones differ in ties only. ``up`` and ``down`` are towards plus and minus infinity. ``odd`` takes, of the
#: two neighbours of a number that is not in the format, the one whose last bit is set, so that a second rounding to
#: fewer bits is right. ``stochastic`` takes a neighbour with the probability that makes the mean right.
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format.

    Attributes:
        significand_bits: explicit bits of the fraction.
        least_exponent: of the smallest normal number, 2 to the power of this.
        largest: the largest finite number.
        infinities: whether it has them; if not, what overflows becomes NaN.
        negative_zero: whether zero has a sign.
    """

    significand_bits: int
    least_exponent: int
    largest: float
    infinities: bool = True
    negative_zero: bool = True

    @classmethod
    def ieee(cls, exponent_bits: int, significand_bits: int) -> Format:
        """The format that IEEE 754's rules give for two widths.

        Raises:
            ValueError: a width that double precision cannot carry.
        """
        if not 2 <= exponent_bits <= 11:
            raise ValueError(f"exponent_bits is {exponent_bits}; double precision carries 2 to 11")
        if not 0 <= significand_bits <= 52:
            raise ValueError(f"significand_bits is {significand_bits}; double precision carries 0 to 52")
        bias = 2 ** (exponent_bits - 1) - 1
        return cls(significand_bits, 1 - bias, (2.0 - 2.0**-significand_bits) * 2.0**bias)


FORMATS: dict[str, Format] = {
    "float64": Format.ieee(11, 52),
    "float32": Format.ieee(8, 23),
    "tf32": Format.ieee(8, 10),
    "bfloat16": Format.ieee(8, 7),
    "float16": Format.ieee(5, 10),
    "float8_e5m2": Format.ieee(5, 2),
    # No infinities, and one NaN in place of the largest number.
    "float8_e4m3fn": Format(3, -6, 448.0, infinities=False),
    # NaN sits where negative zero would be; the bias is one larger.
    "float8_e4m3fnuz": Format(3, -7, 240.0, infinities=False, negative_zero=False),
    "float8_e5m2fnuz": Format(2, -15, 57344.0, infinities=False, negative_zero=False),
}


def chop(
    x: torch.Tensor,
    *,
    exponent_bits: int,
    significand_bits: int,
    subnormals: bool = True,
    saturate: bool = False,
    mode: Mode = "nearest-even",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Round to the IEEE format of two widths; see ``rounded``.

    Args:
        x: float64 or float32, any shape and strides.
        exponent_bits: 2 to 11 (to 8 for float32).
        significand_bits: explicit bits of the fraction, 0 to 52 (to 23 for float32).
        subnormals: whether the format has numbers below its smallest normal one.
        saturate: whether what is too large becomes the largest finite number.
        mode: one of ``MODES``.
        generator: on the CPU, seeded by the caller; for the stochastic mode.

    Raises:
        TypeError: ``x`` is neither float64 nor float32.
        ValueError: an unknown mode, or a width that the dtype of ``x`` cannot carry.
    """
    form = Format.ieee(exponent_bits, significand_bits)
    return rounded(x, form, subnormals=subnormals, saturate=saturate, mode=mode, generator=generator)


def rounded(
    x: torch.Tensor,
    form: Format | str,
    *,
    subnormals: bool = True,
    saturate: bool = False,
    mode: Mode = "nearest-even",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The numbers of a format that a mode takes for those given, in the dtype of what is given.

    NaN stays NaN and zero keeps its sign where the format has one. What exceeds the largest finite number becomes
    infinity in the nearest modes, the stochastic one and the one directed outwards (NaN in a format without
    infinities), and the largest finite number in the others; so it becomes in every mode if ``saturate``, which holds
    for infinity too. Without ``subnormals`` zero and the smallest normal number are neighbours.

    Args:
        x: float64 or float32, any shape and strides.
        form: the format, or its name in ``FORMATS``.
        subnormals: whether the format has numbers below its smallest normal one.
        saturate: whether what is too large becomes the largest finite number.
        mode: one of ``MODES``.
        generator: on the CPU, seeded by the caller; for the stochastic mode.

    Raises:
        TypeError: ``x`` is neither float64 nor float32.
        ValueError: an unknown mode or format, or a format that the dtype of ``x`` cannot carry.
    """
    import torch

    form = _known(form)
    if mode not in MODES:
        raise ValueError(f"unknown rounding mode {mode!r}; there are {', '.join(MODES)}")
    carrier = FORMATS.get(str(x.dtype).removeprefix("torch."))
    if x.dtype not in (torch.float64, torch.float32) or carrier is None:
        raise TypeError(f"numbers are rounded in float64 or float32, {x.dtype} given: convert them first, it is exact")
    if (
        form.significand_bits > carrier.significand_bits
        or form.largest > carrier.largest
        or form.least_exponent < carrier.least_exponent
    ):
        raise ValueError(f"{x.dtype} cannot carry {form}: give float64")
    wide = x.detach().to(torch.float64)
    finite = torch.isfinite(wide)
    units, unit = _in_units(torch.where(finite, wide.abs(), 0.0), form, subnormals)
    below = torch.floor(units)
    up = _goes_up(units - below, below, wide, mode, generator)
    magnitude = _scaled(below + up.to(torch.float64), unit)

    largest = torch.tensor(form.largest, dtype=torch.float64, device=x.device)
    over = largest if saturate else torch.where(_stays_finite(wide, mode), largest, _beyond(form))
    magnitude = torch.where(magnitude > form.largest, over, magnitude)
    infinite = form.largest if saturate else _beyond(form)
    magnitude = torch.where(finite, magnitude, torch.where(torch.isnan(wide), wide, infinite))
    result = torch.copysign(magnitude, wide)
    if not form.negative_zero:
        result = result + 0.0  # minus zero plus zero is plus zero
    return result.to(x.dtype)


def _known(form: Format | str) -> Format:
    if isinstance(form, Format):
        return form
    if form not in FORMATS:
        raise ValueError(f"unknown format {form!r}; there are {', '.join(FORMATS)}, and Format.ieee for others")
    return FORMATS[form]


def _beyond(form: Format) -> float:
    return float("inf") if form.infinities else float("nan")


def _in_units(magnitude: torch.Tensor, form: Format, subnormals: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Finite magnitudes as multiples of one unit in the last place, and the exponent of that unit."""
    import torch

    fraction, exponent = torch.frexp(magnitude)  # fraction in [0.5, 1)
    exponent = exponent.to(torch.int64)
    unit = torch.clamp(exponent - 1, min=form.least_exponent) - form.significand_bits
    if not subnormals:
        unit = torch.where(exponent - 1 < form.least_exponent, form.least_exponent, unit)
    # Far below one unit only the presence counts; unclamped, the scaling itself could underflow.
    return fraction * _power(torch.clamp(exponent - unit, min=-64)), unit


def _goes_up(
    rest: torch.Tensor, below: torch.Tensor, x: torch.Tensor, mode: Mode, generator: torch.Generator | None
) -> torch.Tensor:
    """Whether a magnitude ``below + rest`` units goes to ``below + 1``: bool, of their shape."""
    import torch

    odd = below % 2 == 1
    match mode:
        case "nearest-even":
            return (rest > 0.5) | ((rest == 0.5) & odd)
        case "nearest-away":
            return rest >= 0.5
        case "nearest-zero":
            return rest > 0.5
        case "toward-zero":
            return torch.zeros_like(odd)
        case "up":
            return (rest > 0) & (x > 0)
        case "down":
            return (rest > 0) & (x < 0)
        case "odd":
            return (rest > 0) & ~odd
        case "stochastic":
            return torch.rand(rest.shape, dtype=torch.float64, generator=generator).to(rest.device) < rest


def _stays_finite(x: torch.Tensor, mode: Mode) -> torch.Tensor:
    """Whether what overflows becomes the largest finite number: bool, of the shape of ``x``."""
    import torch

    match mode:
        case "toward-zero" | "odd":
            return torch.ones_like(x, dtype=torch.bool)
        case "up":
            return x < 0
        case "down":
            return x > 0
    return torch.zeros_like(x, dtype=torch.bool)


def _power(exponent: torch.Tensor) -> torch.Tensor:
    """Two to an integer power from -1022 to 1023, written as bits: a power function need not be exact."""
    import torch

    return ((exponent + 1023) << 52).view(torch.float64)


def _scaled(x: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """``x`` times two to an integer power, in two steps because one power may be out of range."""
    half = exponent // 2
    return x * _power(half) * _power(exponent - half)
