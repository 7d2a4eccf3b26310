"""Head and base: each an interpreter, a working directory, and what is put in front of the interpreter's path."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shakeout.fuzz.gate.repository import NotASide, Repository, worktree

__all__ = ["Broken", "Side", "interpreter", "lent", "sides"]

#: What Shakeout needs beside torch and numpy, and can lend to an environment that has it not: neither depends on the
#: version of Python (safetensors is built for the stable interface).
LENT = ("expecttest", "safetensors")

#: Folders of a repository from which its modules are imported, in the order in which Python looks there.
ROOTS = ("src", ".")


class Broken(Exception):
    """A side that cannot be used; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the comparison.

    Attributes:
        role: ``head`` or ``base``.
        name: for a person.
        python: the interpreter.
        folder: the working directory.
        front: folders that come before everything that is installed.
        commit: of the sources; empty if they are what is installed.
        behind: folders of the user's ``PYTHONPATH`` that come after these.
    """

    role: str
    name: str
    python: Path
    folder: Path
    front: tuple[Path, ...] = ()
    commit: str = ""
    behind: tuple[str, ...] = ()

    def environment(self, ours: Path) -> dict[str, str]:
        """The variables of its processes; ``ours`` is the folder in which Shakeout is lent."""
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        path = os.pathsep.join(map(str, (ours, *self.front, *self.behind)))
        return {**kept, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def interpreter(text: str) -> Path | None:
    """The interpreter that a person named: itself, or a virtual environment; None if it is neither."""
    path = Path(text)
    for place in (path / "bin" / "python", path):
        # Not resolved: where the link leads is another environment.
        if place.is_file() and os.access(place, os.X_OK):
            return place.absolute()
    return None


def lent(folder: Path, missing: Sequence[str] = ()) -> Path:
    """A folder that holds Shakeout for interpreters that have none, or another version, and what else they lack."""
    folder.mkdir(parents=True, exist_ok=True)
    _link(folder / "shakeout", Path(sys.modules["shakeout"].__path__[0]))
    for name in missing:
        if name in LENT:
            module = __import__(name)
            assert module.__file__ is not None
            file = Path(module.__file__)
            _link(folder / name, file.parent) if file.name == "__init__.py" else _link(folder / file.name, file)
    return folder


def _link(link: Path, to: Path) -> None:
    if link.is_symlink():
        link.unlink()
    link.symlink_to(to.resolve())


@contextlib.contextmanager
def sides(
    base: str, head: str | None, found: Repository | None, scratch: Path, folders: Sequence[str] = ()
) -> Iterator[tuple[Side, Side]]:
    """Base and head, in this order.

    Args:
        base: an environment or interpreter, or a ref of the repository in whose worktree the base's sources are.
        head: an environment or interpreter; None for the one that runs this.
        found: the repository of the working directory; None if there is none.
        scratch: where the worktree is made.
        folders: further folders of the repository to import from, relative to the working directory.

    Raises:
        NotASide: base is neither, or head is no interpreter.
        Broken: what is in front of the path would hide what is installed.
    """
    here = Path.cwd()
    python = Path(sys.executable) if head is None else interpreter(head)
    if python is None:
        raise NotASide(f"--head {head}: expected a Python environment (with bin/python in it) or an interpreter")
    old = interpreter(base)
    if old is not None:
        commit = found.commit if found is not None else ""
        yield (
            Side("base", base, old, here),
            Side("head", head or str(python), python, here, commit=commit),
        )
        return
    if found is None:
        raise NotASide(f"--base {base}: it is no Python environment, and {here} is in no git repository with a commit")
    commit = found.base(base)
    with worktree(found, commit, scratch) as top:
        there = (top / found.inside).absolute()
        if not there.is_dir():
            raise NotASide(f"--base {base}: commit {commit[:12]} has no folder {found.inside}; run the gate above it")
        name = base if base == commit else f"{base} ({commit[:12]})"
        behind = _elsewhere(found.root)
        before = Side("base", name, python, there, _front(there, folders), commit, behind)
        label = f"{found.commit[:12]}{' and what is not committed' if found.changed else ''}"
        after = Side("head", label, python, here, _front(here, folders), found.commit, behind)
        for side in (before, after):
            _check(side)
        yield before, after


def _elsewhere(root: Path) -> tuple[str, ...]:
    """What the user's ``PYTHONPATH`` holds beside the repository: into that, it would lead the base to the head.

    Two environments have none of it, as they bring what they are made of.
    """
    entries = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return tuple(entry for entry in entries if not Path(entry).resolve().is_relative_to(root.resolve()))


def _front(folder: Path, further: Sequence[str]) -> tuple[Path, ...]:
    places = [folder / name for name in (*further, *ROOTS)]
    return tuple(dict.fromkeys(place.absolute() for place in places if place.is_dir()))


def _check(side: Side) -> None:
    """What a worktree brings must not take the place of what Shakeout and its targets rest on."""
    for folder in side.front:
        for name in ("torch", "numpy", "shakeout"):
            if (folder / name / "__init__.py").exists() or (folder / f"{name}.py").exists():
                raise Broken(
                    f"{folder} holds {name} itself, and as sources it cannot be put in front of what is installed; "
                    "build both versions and name two environments: --base ENV --head ENV"
                )
