"""A campaign's directory: its name, its lock, its disk, and the system's errors in words that say what to do."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import string
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import IO

__all__ = ["DirectoryUnusable", "check_disk", "explained", "locked", "next_directory", "usage"]

#: Bytes that must be free on the disk: compilers write some megabytes for each case, and it should not be the database
#: that meets the end of it first.
LEAST_FREE = 64 << 20

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_RIGHTS = {errno.EROFS, errno.EACCES, errno.EPERM}


class DirectoryUnusable(Exception):
    """The campaign's directory cannot be written, is full, in use, or another campaign's; says what to do."""


def next_directory(root: Path, day: date | None = None) -> Path:
    """A directory for a new campaign: the date with the first letter that is free, ``runs/2026-11-23a``."""
    stem = (day or date.today()).isoformat()
    words = ("".join(letters) for n in (1, 2) for letters in itertools.product(string.ascii_lowercase, repeat=n))
    for word in words:
        if not (path := root / f"{stem}{word}").exists():
            return path
    raise DirectoryUnusable(f"{root} has too many campaigns of {stem}; choose another directory")


def check_disk(directory: Path) -> None:
    """Raise DirectoryUnusable while there is still some room for what has to be written at the end."""
    free = shutil.disk_usage(directory).free
    if free < LEAST_FREE:
        raise DirectoryUnusable(
            f"the disk of {directory} is full: {free >> 20} MiB are free, {LEAST_FREE >> 20} MiB are needed; "
            "free some space, then resume"
        )


def usage(directory: Path) -> int:
    """Bytes that a directory takes on its disk; a file that has several names in it counts once."""
    total = 0
    seen: set[int] = set()
    pending = [directory]
    while pending:
        # Files come and go meanwhile.
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
                        continue
                    found = entry.stat(follow_symlinks=False)
                    if found.st_nlink == 1 or found.st_ino not in seen:
                        total += found.st_blocks * 512
                    seen.add(found.st_ino)
    return total


@contextlib.contextmanager
def locked(directory: Path, name: str = "lock") -> Iterator[IO[str]]:
    """Nobody else works in the directory; the lock ends with the process, however that ends.

    Args:
        directory: which is there.
        name: of the lock's file; whoever holds a campaign's own for a while may hold another one for longer.
    """
    with (directory / name).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryUnusable(
                f"another Shakeout works in {directory}; wait for it, or choose another directory"
            ) from None
        yield file


@contextlib.contextmanager
def explained(directory: Path) -> Iterator[None]:
    """The system's errors in words that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK:
            raise DirectoryUnusable(f"the disk of {directory} is full; free some space, then resume") from None
        if error.errno in _RIGHTS:
            raise DirectoryUnusable(
                f"{error.filename or directory} cannot be written ({os.strerror(error.errno or 0)}); "
                "check its rights, or choose another directory"
            ) from None
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EIO):
            raise DirectoryUnusable(f"{directory} cannot be used: {os.strerror(error.errno)}") from None
        raise
