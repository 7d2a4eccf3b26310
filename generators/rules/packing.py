"""JSON values with what they have in common written once: of learnt rules that is more than half of the text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["expander", "packed"]

#: A list or text that is written in fewer characters than this is not worth a reference.
_WORTH = 10
#: Values that a part may stand for, so that a few lines of references to references cannot fill the memory.
_MOST = 1 << 16


def packed(values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The values with ``{"": n}`` for each list or text within them that occurs more than once, and the n-th of those.

    One of those refers to earlier ones only.

    Raises:
        ValueError: an object among the values has an empty key.
    """
    seen: Counter[str] = Counter()

    def count(value: Any) -> None:
        if isinstance(value, dict):
            if "" in value:
                raise ValueError(f"an empty key stands for a reference: {repr(value)[:80]}")
            for item in value.values():
                count(item)
        elif isinstance(value, list | str):
            text = _written(value)
            seen[text] += 1
            if isinstance(value, list) and seen[text] == 1:
                for item in value:
                    count(item)

    common: list[Any] = []
    numbers: dict[str, int] = {}

    def within(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: within(item) for key, item in value.items()}
        if not isinstance(value, list | str):
            return value
        text = _written(value)
        if seen[text] < 2 or len(text) < _WORTH:
            return [within(item) for item in value] if isinstance(value, list) else value
        if text not in numbers:
            part = [within(item) for item in value] if isinstance(value, list) else value
            numbers[text] = len(common)
            common.append(part)
        return {"": numbers[text]}

    for value in values:
        count(value)
    return [within(value) for value in values], common


def expander(common: Sequence[Any]) -> Callable[[Any], Any]:
    """What gives a packed value as it was.

    What it is given need not come from ``packed``: it raises ValueError, TypeError or IndexError for a reference that
    leads nowhere, or to more than a rule can need. Values that were written once are one object.
    """
    known: list[tuple[Any, int]] = []

    def expanded(value: Any, room: list[int]) -> Any:
        room[0] -= 1
        if isinstance(value, list):
            value = [expanded(item, room) for item in value]
        elif isinstance(value, dict):
            if "" in value:
                number = value[""]
                if number < 0:
                    raise IndexError(number)
                value, size = known[number]
                room[0] -= size
            else:
                value = {key: expanded(item, room) for key, item in value.items()}
        if room[0] < 0:
            raise ValueError("more than a rule can need")
        return value

    for part in common:
        room = [_MOST]
        known.append((expanded(part, room), _MOST - room[0]))
    return lambda value: expanded(value, [_MOST])


def _written(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
