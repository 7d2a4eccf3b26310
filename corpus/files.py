"""Files that appear whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, or write it anew: whoever reads it meanwhile sees the old content or the new one.

    Args:
        path: of the file; its folder is there.
        content: text is written as UTF-8.

    Raises:
        OSError: it cannot be written, and is what it was before.
    """
    # Another process may write the same file at the same time.
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
