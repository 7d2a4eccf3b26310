"""Numbers of a report's script as NumPy writes them, for models that are shown without the framework they came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["NUMBERS", "Unprintable", "array", "bracketed", "closeness", "compared", "number", "single"]

#: Models with more numbers in constants, inputs and outputs together have no such script: a larger one would be a
#: listing that nobody checks, and what the framework is given says the same in fewer lines.
NUMBERS = 512

#: Relative and absolute tolerances by NumPy's dtype: those of ``torch.testing.assert_close``. All others are exact.
_TOLERANCES = {"float16": (1e-3, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}


_COMPARED = """for place, (one, right) in enumerate(zip(found, expected, strict=True)):
    try:
        if (one.dtype, one.shape) != (right.dtype, right.shape):
            raise AssertionError(f"{{one.dtype}}{{list(one.shape)}} for {{right.dtype}}{{list(right.shape)}}")
        np.testing.assert_allclose(one, right, {how})
    except AssertionError as error:
        print(f"{what}, output {{place}}: {{error}}")
        sys.exit(1)
"""


class Unprintable(Exception):
    """The model has something that is not written out."""


def array(tensor: torch.Tensor) -> str:
    """A tensor as an expression that makes it with NumPy.

    Raises:
        Unprintable: NumPy has no such numbers.
    """
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype.startswith(("bfloat", "float8", "complex")):
        raise Unprintable
    name = f"np.{'bool_' if dtype == 'bool' else dtype}"
    if not tensor.numel():
        return f"np.zeros({tuple(tensor.shape)}, dtype={name})"
    return f"np.array({_nested(tensor.tolist(), dtype)}, dtype={name})"


def closeness(expected: Sequence[torch.Tensor]) -> str:
    """The tolerances as arguments of ``np.testing.assert_allclose``: the widest that one of the tensors has."""
    dtypes = {str(t.dtype).removeprefix("torch.") for t in expected}
    relative, absolute = (max((_TOLERANCES.get(dtype, (0, 0))[n] for dtype in dtypes), default=0) for n in (0, 1))
    return f"rtol={relative!r}, atol={absolute!r}"


def compared(what: str, expected: Sequence[torch.Tensor]) -> str:
    """Lines of a script that compare ``found`` with ``expected``, and exit with 1 at the first difference.

    Args:
        what: found them: a name with its version, as it stands in an f-string of the script.
        expected: of which the tolerances are.
    """
    return _COMPARED.format(what=what, how=closeness(expected))


def bracketed(items: Sequence[str], indent: str = "") -> str:
    """A list, an item on each line."""
    if not items:
        return "[]"
    return f"[\n{''.join(f'{indent}    {item},' + chr(10) for item in items)}{indent}]"


def _nested(items: Any, dtype: str) -> str:
    if isinstance(items, list):
        return f"[{', '.join(_nested(item, dtype) for item in items)}]"
    return number(items, dtype)


def number(item: Any, dtype: str) -> str:
    """The shortest text that is this number in its dtype."""
    return single(item) if dtype in ("float32", "float16") else repr(item)


def single(item: float) -> str:
    """The shortest text that is this number in float32."""
    import numpy

    return repr(float(str(numpy.float32(item)))) if math.isfinite(item) else repr(item)
