"""Gathers what was learnt of each operator in the one file that campaigns read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shakeout.fuzz.learning.store import Files, read

__all__ = ["gathered"]


def gathered(files: Files) -> dict[str, Any]:
    """The content of that file."""
    from importlib.metadata import version

    from shakeout.generators.rules.library import pack

    failed: dict[str, str] = {}
    return {"torch": version("torch"), **pack(_variants(files, failed)), "failed": failed}


def _variants(files: Files, failed: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Every variant of every operator; why an operator was not learnt goes into ``failed``."""
    for path in sorted(files.rules("").parent.glob("*.json.gz")):
        found = read(path)
        if found is None:
            continue
        if "failed" in found:
            failed[found["operator"]] = found["failed"]
        yield from found.get("variants", ())
