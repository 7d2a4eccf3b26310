"""The gate's folder: made anew, with what an earlier gate left there set aside, and every output in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shakeout.corpus.files import write_whole
from shakeout.fuzz.campaign.campaign_folder import DirectoryUnusable, check_disk, explained, locked
from shakeout.fuzz.gate.junit import junit
from shakeout.fuzz.gate.sarif import sarif
from shakeout.fuzz.gate.summary import summary
from shakeout.fuzz.gate.told import Outcome

__all__ = ["JSON", "JUNIT", "MARK", "SARIF", "SUMMARY", "made", "write"]

JSON = "gate.json"
JUNIT = "junit.xml"
SARIF = "gate.sarif"
SUMMARY = "summary.md"

#: The file that says that a folder is a gate's, and may be set aside by the next.
MARK = ".shakeout-gate"

#: What the folder holds, in the words of a person who finds it among a build's artefacts.
_README = "Written by `shakeout gate`; the next one sets it aside as a folder of the same name with `.previous`.\n"


@contextmanager
def made(folder: Path) -> Iterator[Path]:
    """The folder, empty and locked; an earlier gate's becomes ``FOLDER.previous``, of which there is one.

    Raises:
        DirectoryUnusable: it cannot be written, the disk is full, another gate works there, or it is somebody else's.
    """
    with explained(folder):
        if folder.exists() and not folder.is_dir():
            raise DirectoryUnusable(f"--out {folder}: expected a folder, found a file")
        if folder.is_dir() and any(folder.iterdir()):
            if not (folder / MARK).exists():
                raise DirectoryUnusable(f"--out {folder} holds what no gate has written; choose another folder")
            with locked(folder):  # nobody works there
                previous = folder.with_name(f"{folder.name}.previous")
                shutil.rmtree(previous, ignore_errors=True)
                folder.rename(previous)
        folder.mkdir(parents=True, exist_ok=True)
        check_disk(folder)
        write_whole(folder / MARK, _README)
        with locked(folder):
            yield folder


def write(folder: Path, outcome: Outcome) -> None:
    """Every output; and the summary where GitHub Actions shows it, if it runs this."""
    with explained(folder):
        write_whole(folder / JSON, json.dumps(outcome.to_json(), indent=1) + "\n")
        write_whole(folder / JUNIT, junit(outcome))
        place = os.path.relpath(folder)
        write_whole(folder / SARIF, sarif(outcome, folder.name if place.startswith("..") else place))
        write_whole(folder / SUMMARY, text := summary(outcome))
    if shown := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(shown, "a", encoding="utf-8") as file:
            file.write(text)
