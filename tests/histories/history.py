"""What a change and a history are, and how a repository is made of one."""

import subprocess
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.packages import registered

__all__ = ["Change", "History", "apply", "branches", "git", "made"]


@dataclass(frozen=True)
class Change:
    """One commit: in each file, what takes the place of what; a file that is not there is made of the new text."""

    title: str
    breaks: bool
    edits: Mapping[str, Sequence[tuple[str, str]]]

    @property
    def branch(self) -> str:
        return "".join(sign if sign.isalnum() else "-" for sign in self.title.lower()).strip("-")


@dataclass(frozen=True)
class History:
    """A repository: its first state, what is tested in it, and its changes."""

    files: Mapping[str, str]
    targets: tuple[str, ...]
    changes: tuple[Change, ...]
    arguments: tuple[str, ...] = ()
    entry_points: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def git(folder: Path, *arguments: str) -> str:
    """A command of git, as nobody in particular."""
    named = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.invalid", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *named, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def made(history: History, folder: Path) -> Path:
    """The repository in its first state, on the branch ``main``."""
    folder.mkdir(parents=True)
    for name, text in history.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_text(text))
    if history.entry_points:
        registered(folder, "example-passes", history.entry_points)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "What there is")
    return folder


def apply(folder: Path, change: Change) -> None:
    """Commit a change on a branch of its own off ``main``, and check that out."""
    git(folder, "checkout", "-q", "-b", change.branch, "main")
    for name, edits in change.edits.items():
        path = folder / name
        text = path.read_text() if path.exists() else ""
        for old, new in edits:
            old, new = _text(old), _text(new)
            assert not old or text.count(old) == 1, f"{change.title}: {name} holds {text.count(old)} times {old!r}"
            text = text.replace(old, new) if old else text + new
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", change.title)


def branches(history: History, folder: Path) -> Iterator[Change]:
    """Each change, checked out on top of ``main``; merged afterwards if it breaks nothing."""
    for change in history.changes:
        apply(folder, change)
        yield change
        if not change.breaks:
            git(folder, "branch", "-f", "main")
        git(folder, "checkout", "-q", "main")


def _text(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n") if text.startswith("\n") else text
