"""Ends of the domains of functions: next to them lie the last numbers that have a value, and the steepest slopes."""

from __future__ import annotations

import functools

from shakeout.corpus.vocabularies.torch_traits import family
from shakeout.generators.vocabularies.records import Spread

__all__ = ["domain"]

_ENDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys("acos asin atanh erfinv".split(), (-1.0, 1.0)),
    **dict.fromkeys("log log2 log10 sqrt rsqrt digamma lgamma psi gammaln entr i0e".split(), (0.0, 4.0)),
    "log1p": (-1.0, 3.0),
    "acosh": (1.0, 4.0),
    **dict.fromkeys("logit ndtri binary_cross_entropy".split(), (0.0, 1.0)),
    # Where rounding to whole numbers changes its mind, and where quotients lie beside them.
    **dict.fromkeys("round floor ceil trunc fix frac floordiv remainder fmod".split(), (-4.0, 4.0)),
    # Where thresholds lie, and ties.
    **dict.fromkeys("hardshrink softshrink hardtanh relu6 hardsigmoid hardswish threshold".split(), (-6.0, 6.0)),
    **dict.fromkeys("exp expm1 exp2 sigmoid tanh logsigmoid softplus erf erfc gelu".split(), (-16.0, 16.0)),
}


@functools.lru_cache(4096)
def domain(operator: str) -> Spread | None:
    """Between which numbers an operator's first operand is interesting; None where nothing is known."""
    ends = _ENDS.get(family(operator))
    return None if ends is None else Spread("any", *ends)
