"""Copies of a campaign's database, one of each of the last nights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.night.folder import age

__all__ = ["BACKUPS", "KEEP", "back_up", "newest", "surplus"]

#: Folder in a campaign's directory.
BACKUPS = "backups"

#: Nights of which there is a copy. What goes wrong in a database, by a mistake of Shakeout's, of a person's or of the
#: disk's, is noticed in the morning or on the Monday behind it; a week of nights reaches back before that.
KEEP = 7

_SUFFIX = ".sqlite"


def back_up(directory: Path, name: str, keep: int = KEEP) -> Path | None:
    """Copy the database as it is after a night, unless that was done, and then remove the oldest copies.

    Args:
        directory: of the campaign.
        name: of the night.
        keep: how many copies there are to be.

    Returns:
        The path of the copy; None where there is no database yet.

    Raises:
        DatabaseError: the database is damaged, or the copy cannot be written; no copy was removed.
    """
    if not (directory / NAME).exists():
        return None
    folder = directory / BACKUPS
    folder.mkdir(parents=True, exist_ok=True)
    for draft in folder.glob("*.part*"):
        draft.unlink(missing_ok=True)
    copy = folder / f"{name}{_SUFFIX}"
    if not copy.exists():
        with Database.read(directory / NAME) as database:
            database.back_up(copy)
    for old in surplus(_names(directory), keep):
        (folder / f"{old}{_SUFFIX}").unlink(missing_ok=True)
    return copy


def newest(directory: Path) -> Path | None:
    """The newest copy of a campaign's database, if there is one."""
    names = sorted(_names(directory), key=age)
    return directory / BACKUPS / f"{names[-1]}{_SUFFIX}" if names else None


def surplus(names: Iterable[str], keep: int) -> list[str]:
    """The names of the nights whose copies are too many: the oldest ones."""
    ordered = sorted(names, key=age)
    return ordered[: max(len(ordered) - keep, 0)]


def _names(directory: Path) -> list[str]:
    return [path.stem for path in (directory / BACKUPS).glob(f"*{_SUFFIX}")]
