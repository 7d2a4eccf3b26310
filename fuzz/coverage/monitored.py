"""Lines and branches of Python functions on 3.12 and later, by ``sys.monitoring`` (PEP 669).

A line is reported once and then switched off in its place, so that a function which was seen runs at full speed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import CodeType
from typing import Any

__all__ = ["Monitored", "unavailable"]


def _monitoring() -> Any:
    """The module, which older releases do not have."""
    return getattr(sys, "monitoring", None)


def unavailable() -> str:
    """Why it does not work with this interpreter; empty if it does."""
    monitoring = _monitoring()
    if monitoring is None:
        return "sys.monitoring came with Python 3.12"
    if (holder := monitoring.get_tool(monitoring.COVERAGE_ID)) is not None:
        return f"{holder} uses sys.monitoring's place for coverage"
    return ""


class Monitored:
    """Watches functions in this process; see the module."""

    def __init__(self) -> None:
        self._monitoring = _monitoring()
        self._tool = self._monitoring.COVERAGE_ID
        self._monitoring.use_tool_id(self._tool, "shakeout")
        self._monitoring.register_callback(self._tool, self._monitoring.events.LINE, self._line)
        self._fresh: dict[CodeType, set[int]] = {}

    def add(self, code: CodeType) -> None:
        """Watch a function from now on."""
        self._monitoring.set_local_events(self._tool, code, self._monitoring.events.LINE)

    def again(self) -> None:
        """Forget what was run: what each function runs next counts as its first."""
        self._fresh.clear()
        self._monitoring.restart_events()

    def entered(self) -> Iterator[tuple[CodeType, tuple[int, ...]]]:
        """Functions of which lines ran for the first time since the last look, and those lines."""
        fresh, self._fresh = self._fresh, {}
        for code, lines in fresh.items():
            yield code, tuple(sorted(lines))

    def _line(self, code: CodeType, line: int) -> Any:
        self._fresh.setdefault(code, set()).add(line)
        return self._monitoring.DISABLE
