"""What operators mean: how each vocabulary resolves, evaluates and prints them."""

from __future__ import annotations

import importlib
from types import ModuleType

from shakeout.corpus.program import InvalidProgram

__all__ = ["vocabulary"]

_BUILT_IN = {
    "torch": "shakeout.corpus.vocabularies.torch",
    "kernel": "shakeout.corpus.vocabularies.kernel",
}


def vocabulary(name: str) -> ModuleType:
    """The module of a vocabulary; third parties register theirs under ``shakeout.vocabularies``."""
    if name in _BUILT_IN:
        return importlib.import_module(_BUILT_IN[name])
    from importlib.metadata import entry_points

    for entry in entry_points(group="shakeout.vocabularies", name=name):
        return entry.load()  # type: ignore[no-any-return]
    raise InvalidProgram(f"unknown vocabulary {name!r}; there are {', '.join(_BUILT_IN)}")
