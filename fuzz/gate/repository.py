"""The user's git repository: which commit is under test, what it is based on, and a worktree of that."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NotASide", "Repository", "repository", "seed_of", "worktree"]

#: Seconds for one command of git; a worktree of a large repository is written in that time.
SECONDS = 300.0


class NotASide(ValueError):
    """What was named as base or head is no environment and nothing that git knows; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository, as far as it matters to a gate.

    Attributes:
        root: its top folder.
        inside: the working directory, from there.
        commit: of HEAD.
        changed: whether the working tree holds what no commit has.
    """

    root: Path
    inside: Path
    commit: str
    changed: bool

    @property
    def seed(self) -> int:
        """The seed of the commit: whoever runs the gate on it again sees the same cases."""
        return int(self.commit[:12], 16)

    def base(self, ref: str) -> str:
        """The commit that HEAD is based on: its last common ancestor with ``ref``.

        What ``ref`` got since then is nothing that this change did.

        Raises:
            NotASide: there is no such ref, or no common ancestor.
        """
        status, commit, _ = _git(self.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        if status:
            raise NotASide(
                f"--base {ref}: expected a Python environment or interpreter, or a branch, tag or commit of "
                f"{self.root}; it is none of them (in CI: does the checkout fetch it? fetch-depth: 0)"
            )
        status, ancestor, _ = _git(self.root, "merge-base", "HEAD", commit)
        if status:
            raise NotASide(
                f"--base {ref}: HEAD and {ref} have no common ancestor in this clone; a shallow one has too little "
                "history (in CI: fetch-depth: 0)"
            )
        return ancestor

    def files_since(self, commit: str) -> tuple[str, ...]:
        """Files that differ from a commit, the working tree included, from the root on."""
        _, text, _ = _git(self.root, "diff", "--name-only", "-z", commit)
        _, new, _ = _git(self.root, "ls-files", "--others", "--exclude-standard", "-z")
        return tuple(sorted({name for name in (*text.split("\0"), *new.split("\0")) if name}))

    def files(self) -> tuple[str, ...]:
        """Files of the working tree that git tracks, from the root on."""
        _, text, _ = _git(self.root, "ls-files", "-z")
        return tuple(name for name in text.split("\0") if name)


def repository(folder: Path) -> Repository | None:
    """The repository that a folder lies in; None if it lies in none that has a commit."""
    status, root, _ = _git(folder, "rev-parse", "--show-toplevel")
    if status:
        return None
    status, commit, _ = _git(folder, "rev-parse", "HEAD")
    if status:
        return None
    _, changed, _ = _git(folder, "status", "--porcelain", "--untracked-files=no")
    top = Path(root)
    return Repository(top, folder.resolve().relative_to(top.resolve()), commit, bool(changed))


def seed_of(text: str) -> int:
    """A seed where there is no commit."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)


@contextlib.contextmanager
def worktree(found: Repository, commit: str, folder: Path) -> Iterator[Path]:
    """A worktree of a commit as long as the context is open; one that a killed gate left there is replaced.

    Raises:
        NotASide: git cannot make it.
    """
    _remove(found, folder)
    status, _, said = _git(found.root, "worktree", "add", "--detach", "--force", str(folder.absolute()), commit)
    if status:
        raise NotASide(f"git cannot make a worktree of {commit[:12]} in {folder}: {(said.splitlines() or [''])[-1]}")
    try:
        yield folder
    finally:
        _remove(found, folder)


def _remove(found: Repository, folder: Path) -> None:
    if folder.exists():
        _git(found.root, "worktree", "remove", "--force", "--force", str(folder.absolute()))
        shutil.rmtree(folder, ignore_errors=True)
    _git(found.root, "worktree", "prune")


def _git(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Status, output and errors of a command of git; status 127 where there is none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, "", str(error)
    return done.returncode, done.stdout.strip("\n"), done.stderr.strip()
