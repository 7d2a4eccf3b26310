"""Blocks of code in Markdown."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["fenced"]


def fenced(text: str, language: str = "") -> Iterator[str]:
    """A block of code and an empty line; its fence is longer than any within, so that nothing in it ends the block."""
    fence = "```"
    while fence in text:
        fence += "`"
    yield fence + language
    yield from text.rstrip().splitlines()
    yield fence
    yield ""
