"""What each target takes, operator by operator: measured with programs of one operator, and shipped.

The generator leans towards it, because a network of ten operators of which one is not supported shows nothing.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shakeout.corpus.rows import LedgerRow

__all__ = ["DIRECTORY", "Support", "declined", "load", "measured", "refused", "with_types"]

DIRECTORY = Path(__file__).parent / "data" / "support"

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Support:
    """What became of cases of one operator.

    Attributes:
        compared: the target ran them.
        unsupported: the target declined them.
        failed: the target took them, and broke.
    """

    compared: int
    unsupported: int
    failed: int

    @property
    def declined(self) -> bool:
        """Whether the target took none of them."""
        return self.unsupported > 0 and not self.compared and not self.failed


@functools.cache
def load(target: str, directory: Path = DIRECTORY) -> Mapping[str, Support]:
    """The shipped table of a target, by operator; empty where none is shipped."""
    path = directory / f"{target}.json"
    if "/" in target or not path.is_file():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return {operator: Support(*counts) for operator, counts in data["operators"].items()}


@functools.cache
def declined(target: str, directory: Path = DIRECTORY) -> frozenset[str]:
    """The operators of which a target took no case."""
    return frozenset(operator for operator, support in load(target, directory).items() if support.declined)


@functools.cache
def refused(target: str, directory: Path = DIRECTORY) -> frozenset[tuple[str, tuple[str, ...]]]:
    """Operators with element types of their operands of which a target takes no call; empty where none is shipped."""
    path = directory / f"{target}.json"
    if "/" in target or not path.is_file():
        return frozenset()
    rows: Mapping[str, list[str]] = json.loads(path.read_text(encoding="utf-8")).get("types", {})
    return frozenset((operator, tuple(types.split())) for operator, found in rows.items() for types in found)


def with_types(text: str, refused: Iterable[tuple[str, tuple[str, ...]]]) -> str:
    """The table of a target with the element types of which it takes no call."""
    data = json.loads(text)
    types: dict[str, list[str]] = {}
    for operator, dtypes in sorted(refused):
        types.setdefault(operator, []).append(" ".join(dtypes))
    counts = ",\n".join(f"    {json.dumps(name)}: {row}" for name, row in sorted(data["operators"].items()))
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(found)}" for name, found in types.items())
    head = json.dumps(data["versions"])
    return (
        f'{{\n  "format": {FORMAT},\n  "versions": {head},\n  "operators": {{\n{counts}\n  }},\n'
        f'  "types": {{\n{lines}\n  }}\n}}\n'
    )


def measured(target: str, rows: Iterable[LedgerRow], versions: Mapping[str, str]) -> str:
    """The table of a target as text, from the ledger of a campaign of programs of one operator."""
    operators = {
        row.operator: [row.compared, row.unsupported, row.executed - row.compared]
        for row in rows
        if row.target == target and row.executed + row.unsupported
    }
    lines = ",\n".join(f"    {json.dumps(operator)}: {counts}" for operator, counts in sorted(operators.items()))
    head = json.dumps(dict(sorted(versions.items())))
    return f'{{\n  "format": {FORMAT},\n  "versions": {head},\n  "operators": {{\n{lines}\n  }}\n}}\n'
