"""Gathers what was learnt of each operator in the one file that campaigns read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shakeout.fuzz.learning.store import Files, read

__all__ = ["gathered"]


def gathered(files: Files, *, drawn: bool = False) -> dict[str, Any]:
    """The content of that file; ``drawn`` keeps the rules that calls are drawn from, and no others."""
    from importlib.metadata import version

    from shakeout.generators.rules.library import drawn_from, pack

    failed: dict[str, str] = {}
    variants = (one for one in _variants(files, failed) if not drawn or drawn_from(one["rule"]))
    return {"torch": version("torch"), **pack(variants), "failed": failed}


def _variants(files: Files, failed: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Every variant of every operator; why an operator was not learnt goes into ``failed``."""
    for path in sorted(files.rules("").parent.glob("*.json.gz")):
        found = read(path)
        if found is None:
            continue
        if "failed" in found:
            failed[found["operator"]] = found["failed"]
        yield from found.get("variants", ())
