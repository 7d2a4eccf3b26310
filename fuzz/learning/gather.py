"""Gathers what was learnt of each operator in the one file that campaigns read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shakeout.fuzz.learning.store import Files, read

__all__ = ["gathered"]


def gathered(files: Files, *, drawn: bool = False, package: str = "torch") -> dict[str, Any]:
    """The content of that file.

    Args:
        files: of what was learnt.
        drawn: keep the rules that calls are drawn from, and no others.
        package: whose operators they are.
    """
    from importlib.metadata import version

    from shakeout.generators.rules.library import drawn_from, pack

    failed: dict[str, str] = {}
    errors: dict[str, dict[str, int]] = {}
    variants = (one for one in _variants(files, failed, errors) if not drawn or drawn_from(one["rule"]))
    return {package: version(package), **pack(variants), "failed": failed, "errors": errors}


def _variants(files: Files, failed: dict[str, str], errors: dict[str, dict[str, int]]) -> Iterator[dict[str, Any]]:
    """Every variant of every operator.

    Why an operator was not learnt goes into ``failed``; how many of its calls met which error, into ``errors``.
    """
    for path in sorted(files.rules("").parent.glob("*.json.gz")):
        found = read(path)
        if found is None:
            continue
        if "failed" in found:
            failed[found["operator"]] = found["failed"]
        if found.get("errors"):
            errors[found["operator"]] = found["errors"]
        yield from found.get("variants", ())
