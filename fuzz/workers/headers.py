"""Inductor's precompiled headers: built once for each user, not once for each campaign.

PyTorch keeps them below the temporary directory, 148 MB for each set of compiler flags, and takes a header for finished
as soon as its file exists. Workers are killed at any moment, a compiler in the middle of writing one with them. So each
campaign has a directory of its own, filled with links from a store in the user's cache; what a campaign built and no
kill could have cut off is linked back.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import time
from pathlib import Path

from shakeout.corpus import cache

__all__ = ["Headers"]

#: A header that no campaign used for so long is deleted from the store; most of them are of former versions of torch.
KEEP_SECONDS = 30 * 24 * 3600.0

#: The store holds no more than this; what was not used for longest goes first. A version of torch has four headers: for
#: its own choice of vector width, the two others that are tried, and for the wrapper.
KEEP_BYTES = 2 << 30


class Headers:
    """The headers of one campaign, below the temporary directory that its processes are given."""

    def __init__(self, temporary: Path, store: Path | None = None) -> None:
        self.directory = temporary / f"torchinductor_{_user()}" / "precompiled_headers"
        self._store = cache.directory() / "precompiled_headers" if store is None else store

    def fetch(self) -> None:
        """Link what the store has. A store that cannot be read costs some seconds, nothing else."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            for path in self._store.glob("*"):
                _link(path, self.directory / path.name)

    def present(self) -> bool:
        """Whether there is one already."""
        return any(path.name.endswith((".gch", ".pch")) for path in self._built())

    def keep(self) -> None:
        """Link what was built into the store, and delete there what is old.

        Only to be called while no compiler runs and none was killed since ``fetch``, or after ``distrust``.
        """
        with contextlib.suppress(OSError):
            self._store.mkdir(parents=True, exist_ok=True)
            for path in self._built():
                os.utime(path)
                _link(path, self._store / path.name)
            total = 0
            for path in sorted(self._store.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True):
                found = path.stat()
                total += found.st_size
                if time.time() - found.st_mtime > KEEP_SECONDS or total > KEEP_BYTES:
                    path.unlink()

    @property
    def stored(self) -> int:
        """Bytes in the store."""
        with contextlib.suppress(OSError):
            return sum(path.stat().st_size for path in self._store.glob("*"))
        return 0

    def distrust(self, seconds: float) -> None:
        """Before a kill: forget the headers that appeared in the last ``seconds``, which may be half written.

        The compiler that writes one has it open and does not notice.
        """
        since = time.time() - seconds - 1
        for path in self._built():
            with contextlib.suppress(OSError):
                # Links from the store are older than the campaign.
                if path.name.endswith((".gch", ".pch")) and path.stat().st_nlink == 1 and path.stat().st_mtime > since:
                    path.unlink()

    def _built(self) -> list[Path]:
        try:
            return [path for path in self.directory.iterdir() if path.is_file()]
        except OSError:
            return []


def _user() -> str:
    """The user's name as PyTorch writes it into the path."""
    try:
        name = getpass.getuser()
    except (KeyError, ModuleNotFoundError, OSError):
        name = f"uid_{os.getuid()}"
    return re.sub(r'[\\/:*?"<>|]', "_", name)


def _link(source: Path, target: Path) -> None:
    """The same file under another name, or a copy on another file system; appears whole or not at all."""
    if target.exists():
        return
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            shutil.copy2(source, draft)
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)
