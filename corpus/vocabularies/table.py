"""What is known of torch by name, without importing it: operators, overloads, constants and dtypes.

The table is ``corpus/data/operators/torch.json``: what ``torch.py`` resolves in the releases of torch that were looked
at, all of them together. ``python -m shakeout.corpus.vocabularies.admission`` adds the installed torch to it.
"""

from __future__ import annotations

import fnmatch
import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["TABLE", "Table", "constants", "matching", "table"]

TABLE = Path(__file__).parent.parent / "data" / "operators" / "torch.json"


class Table(NamedTuple):
    """What is known by name.

    Attributes:
        versions: of torch that it comes from.
        functions: qualified names.
        overloads: of the operator library, by operator.
        constants: layouts and memory formats.
        dtypes: of tensors, without ``torch.``.
    """

    versions: frozenset[str]
    functions: frozenset[str]
    overloads: dict[str, frozenset[str]]
    constants: frozenset[str]
    dtypes: frozenset[str]


@functools.cache
def table() -> Table:
    """The table that ships."""
    data = json.loads(TABLE.read_text(encoding="utf-8"))
    return Table(
        versions=frozenset(data["versions"]),
        functions=frozenset(f"{owner}.{name}" for owner, names in data["functions"].items() for name in names.split()),
        overloads={name: frozenset(overloads.split()) for name, overloads in data["overloads"].items()},
        constants=frozenset(data["constants"]),
        dtypes=frozenset(data["dtypes"]),
    )


@functools.cache
def constants() -> frozenset[str]:
    """Qualified names of dtypes, layouts and memory formats."""
    known = table()
    return known.constants | {f"torch.{name}" for name in known.dtypes}


def matching(patterns: Sequence[str], operators: Iterable[str]) -> tuple[str, ...]:
    """The operators that one of the patterns matches (``torch.cumsum``, ``*softmax*``), in their order."""
    return tuple(name for name in operators if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
