"""How cases are drawn: probabilities, limits, and sizes."""

from __future__ import annotations

from dataclasses import dataclass

from shakeout.generators.numbers import Reach

__all__ = ["LARGE", "LATTICE", "MAX_ELEMENTS", "MAX_TOTAL", "MIXED", "GrowthConfig"]

#: Elements of one value, and of all values of a case: small tensors show the same bugs sooner.
MAX_ELEMENTS = 1 << 12
MAX_TOTAL = 1 << 17

#: Sizes at which compilers change their mind: around powers of two, vector widths and their tails.
LATTICE = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)
#: Above the thresholds of blocking, parallelising and split reductions.
LARGE = (1023, 1024, 1025, 2047, 4095, 4096, 4097, 5000, 8193, 16385, 33000)

#: Dtypes for an operand that has another one than the rest.
MIXED = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool", "int8", "int16", "complex64")


@dataclass(frozen=True, slots=True)
class GrowthConfig:
    """How a case is drawn: probabilities and limits.

    Attributes:
        reuse: an operand is an existing value, if one fits.
        resize: a free size is not the recorded one.
        zero: a free size is 0.
        large: one size is above the thresholds of ``LARGE``.
        mutate: an attribute is not the recorded one.
        share: a fresh input is a window on another input's storage.
        mix: an operand has another dtype than the rest.
        number: a Python number stands where a tensor was recorded.
        parameter: a fresh floating-point input is a parameter of the network.
        constant: a fresh input of whole numbers is one as well.
        derive: a fresh operand is a view or a constant, made by a call of its own.
        training: floating-point inputs are leaves.
        special: NaN and infinities are wanted.
        writes: inputs may be written to.
        overwrites: calls may write to what the backward pass needs.
        ruled: a call is drawn from a rule, where the operator has one.
        reach: how far Python numbers among the arguments go.
        constants: a fresh operand is a constant, of which compilers know the elements.
        domains: an operand lies between the ends of the operator's domain, where those are known.
        ignore: a padding or a class to ignore is among the places that are there.
        followed: what comes behind an operator is what is known to come behind it.
        relaid: inputs of a further call lie otherwise in memory, share it otherwise, or have other gradients.
        observed: what comes behind is something that shows what the values hide.
    """

    reuse: float = 0.5
    resize: float = 0.3
    zero: float = 0.02
    large: bool = False
    mutate: float = 0.15
    share: float = 0.0
    mix: float = 0.05
    number: float = 0.05
    parameter: float = 0.0
    constant: float = 0.0
    derive: float = 0.0
    training: bool = False
    special: bool = False
    writes: bool = True
    overwrites: bool = False
    ruled: float = 0.0
    reach: Reach = "plain"
    constants: float = 0.0
    domains: float = 0.0
    ignore: float = 0.0
    followed: float = 0.0
    observed: float = 0.0
    relaid: float = 0.0
