"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["table"]


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """The lines of a table: what heads its columns, and its rows."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
