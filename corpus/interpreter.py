"""Python processes of ours: what is installed is found first, and the working directory last.

People work in directories that hold a folder ``torch`` (PyTorch's own checkout), ``onnx`` or ``numpy``, or a file
``random.py``. Found first, it would take the place of what is installed; found last, the modules of one's own, which a
kernel or a runtime lies in, are still there.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder

__all__ = ["add_working_directory", "command", "installed"]

#: Entries of ``sys.path`` that ``add_working_directory`` made.
_ours: set[str] = set()


def command(*arguments: str) -> list[str]:
    """The command that runs this interpreter without the working directory, or the script's, before the rest."""
    return [sys.executable, "-P", *arguments]


def add_working_directory() -> None:
    """Make modules of the working directory importable, behind everything that is installed."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
        _ours.add(here)


def installed(module: str) -> bool:
    """Whether a top-level module can be imported from anywhere but the working directory; it is not imported."""
    path = [entry for entry in sys.path if entry not in _ours]
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and find(module, path if finder is PathFinder else None) is not None:
            return True
    return False
