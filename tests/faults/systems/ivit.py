"""Broken variants of the integer-only operators."""

from tests.faults.systems import Broken

BROKEN = (
    Broken(
        "shiftmax",
        "the quotient of a negative number is rounded towards zero",
        'whole = x.div(unit, rounding_mode="floor")',
        'whole = x.div(unit, rounding_mode="trunc") + (x % unit != 0).long()',
    ),
    Broken(
        "shiftmax",
        "a shift of a negative number rounds towards zero",
        "x = x + (x >> 1) - (x >> 4)",
        'x = x + x.div(2, rounding_mode="trunc") - x.div(16, rounding_mode="trunc")',
    ),
    Broken(
        "shiftmax",
        "the largest number of all rows, and not of each",
        "powers = _exponential(given - given.amax(-1, keepdim=True), unit, SOFTMAX)",
        "powers = _exponential(given - given.amax(), unit, SOFTMAX)",
    ),
    Broken(
        "shiftmax",
        "no least exponent, so that a shift becomes negative",
        "x = x.clamp(min=steps * unit)",
        "x = x.clamp(min=8 * steps * unit)",
    ),
    Broken(
        "shift_gelu",
        "the largest number of a row of negative ones makes exponents positive",
        "most = given.amax(-1, keepdim=True).clamp(min=0)",
        "most = given.amax(-1, keepdim=True)",
        published="exponents above zero where a row has no positive number; read in the published code",
    ),
    Broken(
        "shift_gelu",
        "GELU shifts by as little as softmax",
        "powers, least = _exponential(given - most, unit, GELU), _exponential(-most, unit, GELU)",
        "powers, least = _exponential(given - most, unit, SOFTMAX), _exponential(-most, unit, SOFTMAX)",
    ),
    Broken(
        "shift_gelu",
        "the least exponential is that of the largest number",
        "_exponential(-most, unit, GELU)",
        "_exponential(0 * most, unit, GELU)",
    ),
    Broken(
        "shift_gelu", "the scale is not multiplied by 1.702", "_unit(1.702 * scale, GELU)", "_unit(1.7 * scale, GELU)"
    ),
    Broken(
        "integer_layer_norm",
        "Newton's method stops after ten steps",
        "    while True:\n",
        "    for _ in range(10):\n        k = (k + v // k.clamp(min=1)) >> 1\n    k = k.clamp(min=1)\n    while True:\n        return k\n",
        published="ten steps from 2**16 do not converge for sums of squares below 2**12; read in the published code",
    ),
    Broken(
        "integer_layer_norm",
        "the mean is rounded towards zero",
        '.div(2 * count, rounding_mode="floor")',
        '.div(2 * count, rounding_mode="trunc")',
    ),
    Broken(
        "integer_layer_norm",
        "the root of nothing is nothing",
        "following = ((k + v // k) >> 1).clamp(min=1)",
        "following = ((k + v // k) >> 1).clamp(min=2)",
    ),
    Broken(
        "integer_layer_norm",
        "half of a negative number is rounded towards zero",
        "((apart * (MOST // _root(squares))) >> 1)",
        '(apart * (MOST // _root(squares))).div(2, rounding_mode="trunc")',
    ),
    Broken(
        "requantise",
        "ties of negative numbers go away from zero",
        "whole = whole + ((rest > half) | ((rest == half) & (whole & 1).bool())).to(torch.int64)",
        "whole = whole + (rest > half - (given > 0).long()).to(torch.int64)",
    ),
    Broken(
        "requantise", "one number too many at the upper end", "whole.clamp(-most, most - 1)", "whole.clamp(-most, most)"
    ),
    Broken(
        "requantise",
        "products in 32 bits",
        "product = given * round(mantissa * 2**QUOTIENT)",
        "product = (given * round(mantissa * 2**QUOTIENT)).to(torch.int32).to(torch.int64)",
    ),
    Broken(
        "requantise",
        "the exponent of the ratio is off by one from a half on",
        "shift = QUOTIENT - exponent",
        "shift = QUOTIENT - exponent - (mantissa == 0.5)",
    ),
)
