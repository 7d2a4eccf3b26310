"""Where a case comes from that a person brought: a file beside it, which counts for nothing but what reports say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from shakeout.corpus.files import write_whole

__all__ = ["read_origin", "write_origin"]

NAME = "origin.json"


def write_origin(folder: Path, file: str, label: str, notes: Sequence[str]) -> None:
    """Write down that a case in a folder was imported.

    Args:
        folder: of the case.
        file: that it was imported from, by its name alone: a report says it.
        label: of what is in the file.
        notes: on how it was read.
    """
    text = json.dumps({"file": file, "label": label, "notes": list(notes)}, indent=1)
    write_whole(folder / NAME, text + "\n")


def read_origin(folder: Path) -> str:
    """The name of the file that the case of a folder was imported from; empty for one that was not."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))["file"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""
