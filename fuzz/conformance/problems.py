"""What a conformance check finds, and how it is told: everything that is wrong at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

__all__ = ["NotConforming", "told"]


class NotConforming(AssertionError):
    """It does not keep to what is expected of it; the message has a line for each thing."""


def told(what: str, checks: Iterable[tuple[str, Callable[[], Iterator[str]]]]) -> None:
    """Run checks to the end, and raise what they found.

    Args:
        what: is checked, for the first line.
        checks: name of each, and what gives its problems one by one. One that raises has found a problem.

    Raises:
        NotConforming: there is a problem.
    """
    found = []
    for name, check in checks:
        try:
            found += [f"{name}: {problem}" for problem in check()]
        except Exception as error:
            found.append(f"{name}: {type(error).__name__}: {error}")
    if found:
        raise NotConforming("\n  ".join([f"{what} does not conform:", *found]))
