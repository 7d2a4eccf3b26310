"""Where nights are kept, below a campaign's directory: a folder for each that is over, which appears whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from shakeout.corpus.files import write_whole
from shakeout.fuzz.campaign.campaign_folder import DirectoryUnusable
from shakeout.fuzz.night.record import Night

__all__ = ["LATEST", "LOCK", "NIGHTS", "RECORD", "REPORT", "Nights", "age"]

#: Folder in a campaign's directory, and the lock of the night that is at work there.
NIGHTS = "nights"
LOCK = "night.lock"

#: Files in the folder of a night: for programs and for the next night, and for people.
RECORD = "night.json"
REPORT = "report.md"

#: A symbolic link to the folder of the last night.
LATEST = "latest"

#: How things stood before the first night, so that what one that was killed has found is news to the next.
START = "start.json"

_DRAFT = ".part"


def age(name: str) -> tuple[str, int, str]:
    """What orders the names of nights, the oldest first: ``2026-11-30z`` is older than ``2026-11-30aa``."""
    letters = name[10:]
    return name[:10], len(letters), letters


def _after(letters: str) -> str:
    """``b`` behind ``a``, ``aa`` behind ``z``, ``ba`` behind ``az``."""
    head = letters.rstrip("z")
    if not head:
        return "a" * (len(letters) + 1)
    return head[:-1] + chr(ord(head[-1]) + 1) + "a" * (len(letters) - len(head))


class Nights:
    """The nights of one campaign.

    Args:
        directory: of the campaign.
    """

    def __init__(self, directory: Path) -> None:
        self.folder = directory / NIGHTS

    def names(self) -> list[str]:
        """Those that are over, the oldest first."""
        if not self.folder.is_dir():
            return []
        found = [path.name for path in self.folder.iterdir() if (path / RECORD).is_file() and not path.is_symlink()]
        return sorted((name for name in found if not name.endswith(_DRAFT)), key=age)

    def last(self) -> Night | None:
        """What the next night is compared with: the last one, or how things stood before the first; None at first.

        Raises:
            DirectoryUnusable: its record cannot be read.
        """
        names, start = self.names(), self.folder / START
        if names:
            return self._read(self.folder / names[-1] / RECORD)
        return self._read(start) if start.exists() else None

    def start(self, night: Night) -> None:
        """Write down how things stand before the first night."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / START, json.dumps(night.to_json(), indent=1) + "\n")

    def next(self, day: date | None = None) -> str:
        """The name of a night that begins now: behind all that are over, although some were removed, or a clock set."""
        today, names = (day or date.today()).isoformat(), self.names()
        last = names[-1] if names else ""
        return f"{last[:10]}{_after(last[10:])}" if last[:10] >= today else f"{today}a"

    def publish(self, name: str, record: Mapping[str, Any], report: str) -> Path:
        """Write the folder of a night that is over; it is there whole or not at all.

        Returns:
            Its path.
        """
        draft, folder = self.folder / f"{name}{_DRAFT}", self.folder / name
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for file, text in ((RECORD, json.dumps(record, indent=1) + "\n"), (REPORT, report)):
            with (draft / file).open("w", encoding="utf-8") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
        draft.rename(folder)
        self.tidy()
        return folder

    def tidy(self) -> None:
        """Put right what a night that was killed while it wrote has left."""
        if not self.folder.is_dir():
            return
        for path in self.folder.glob(f"*{_DRAFT}"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink()
        names, link = self.names(), self.folder / LATEST
        if names and (not link.is_symlink() or os.readlink(link) != names[-1]):
            draft = self.folder / f"{LATEST}{_DRAFT}"
            draft.symlink_to(names[-1])
            draft.replace(link)

    def _read(self, path: Path) -> Night:
        try:
            return Night.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, RecursionError) as error:
            raise DirectoryUnusable(
                f"{path} is no record of a night that this Shakeout can read ({error}); remove it, and the night is "
                "compared with the one before"
            ) from None
