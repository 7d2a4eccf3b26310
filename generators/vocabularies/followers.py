"""Which operators follow which: in what people write and in what compilers look for.

Of some 1,185 operators that may take a value, few are written behind the one that made it, and it is for those pairs
that compilers have patterns. They are learnt from what is installed (``pairing.py``) and shipped as a table of
families.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path

from shakeout.corpus import learnt

__all__ = ["PATH", "of_torch"]

#: By the family of an operator, those that follow it, each with how many kinds of sources show it, 1 to 3.
PATH = Path(learnt.__file__).parent / "data" / "followers" / "torch.json"


@functools.cache
def of_torch() -> Mapping[str, Mapping[str, int]]:
    """The table; empty where it cannot be read."""
    try:
        found = json.loads(PATH.read_text())
        return {str(one): {str(name): int(times) for name, times in row.items()} for one, row in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
