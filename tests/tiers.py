"""Of many parameters of one test, those that stand for all in every run; ``make exhaustive`` asks the others."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest


def some(
    values: Iterable[Any], *, every: int, name: Callable[[Any], str] = str, marks: Sequence[pytest.MarkDecorator] = ()
) -> list[Any]:
    """Parameters for a test: one in ``every`` belongs to the tier of the test, the first among them.

    Args:
        values: of the parameter.
        every: how many values one stands for.
        name: the id of one.
        marks: of all.
    """
    return [
        pytest.param(value, id=name(value), marks=[*marks, *[pytest.mark.exhaustive] * (number % every > 0)])
        for number, value in enumerate(values)
    ]
