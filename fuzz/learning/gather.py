"""Gathers what was learnt of each operator in the one file that campaigns read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shakeout.corpus import learnt
from shakeout.fuzz.learning.store import Files, read

__all__ = ["Kept", "gathered"]

#: While operators are learnt the files are written so often, in seconds; and writing, of which a large package needs
#: some seconds, takes this share of the time at most.
EVERY = 10.0
SHARE = 0.05


class Kept:
    """The files in which the rules are gathered, written now and then while they are learnt and at the end.

    Args:
        files: of what was learnt.
        package: whose operators they are.
        path: what campaigns read.
        copy: what is to have those rules that calls are drawn from, if anything is.
        known: what campaigns read so far. While operators are learnt it stays as long as it has more of them.
    """

    def __init__(
        self, files: Files, package: str, path: Path, copy: Path | None, known: Mapping[str, Any] | None
    ) -> None:
        self._files, self._package, self._path, self._copy = files, package, path, copy
        self._known = _operators(known or {})
        self._next = time.monotonic() + EVERY

    def now_and_then(self) -> None:
        """Write if it is time; raises OSError."""
        began = time.monotonic()
        if began >= self._next:
            self.write(fewer=False)
            now = time.monotonic()
            self._next = now + max(EVERY, (now - began) / SHARE)

    def write(self, *, fewer: bool) -> dict[str, Any]:
        """Write what there is; the content of what campaigns read.

        Args:
            fewer: campaigns read it even if it has fewer operators than what they read so far.

        Raises:
            OSError: a file cannot be written.
        """
        content = gathered(self._files, package=self._package)
        if fewer or _operators(content) >= self._known:
            learnt.write(self._path, content)
        if self._copy is not None:
            learnt.write(self._copy, gathered(self._files, drawn=True, package=self._package))
        return content


def _operators(content: Mapping[str, Any]) -> int:
    """How many operators the content of a file has rules of."""
    return len(content.get("operators", ()))


def gathered(files: Files, *, drawn: bool = False, package: str = "torch") -> dict[str, Any]:
    """The content of that file.

    Args:
        files: of what was learnt.
        drawn: keep the rules that calls are drawn from, and no others.
        package: whose operators they are.
    """
    from importlib.metadata import version

    from shakeout.generators.rules.library import drawn_from, pack

    failed: dict[str, str] = {}
    errors: dict[str, dict[str, int]] = {}
    variants = (one for one in _variants(files, failed, errors) if not drawn or drawn_from(one["rule"]))
    return {package: version(package), **pack(variants), "failed": failed, "errors": errors}


def _variants(files: Files, failed: dict[str, str], errors: dict[str, dict[str, int]]) -> Iterator[dict[str, Any]]:
    """Every variant of every operator.

    Why an operator was not learnt goes into ``failed``; how many of its calls met which error, into ``errors``.
    """
    for path in sorted(files.rules("").parent.glob("*.json.gz")):
        found = read(path)
        if found is None:
            continue
        if "failed" in found:
            failed[found["operator"]] = found["failed"]
        if found.get("errors"):
            errors[found["operator"]] = found["errors"]
        yield from found.get("variants", ())
