"""A finding's folder: the case, its script, what was seen and on what, for people and for ``replay``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shakeout.corpus import codec
from shakeout.corpus.files import write_whole
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.ground.versions import describe

__all__ = [
    "CASE",
    "ENVIRONMENT",
    "MINIMISED",
    "OUTPUT",
    "RESULT",
    "SCRIPT",
    "SEQUENCE",
    "SHORTEST",
    "SMALL_SCRIPT",
    "read_result",
    "read_sequence",
    "write_finding",
    "write_sequence",
]

CASE = "case.json"
SCRIPT = "repro.py"
RESULT = "result.json"
#: The smallest case that is known of a finding, and its script.
MINIMISED = "case.min.json"
SMALL_SCRIPT = "case.min.py"
ENVIRONMENT = "environment.json"
#: What the script printed when it was tried last.
OUTPUT = "output.txt"
#: The cases that have to run before it in the same process, and it at the end, one on each line.
SEQUENCE = "sequence.jsonl"
#: The same, shortened: those without which it does not fail, each as small as was found, and the smallest case.
SHORTEST = "sequence.min.jsonl"


def write_finding(
    folder: Path, *, case: str, script: str, result: Mapping[str, Any], environment: Mapping[str, Any] | None = None
) -> None:
    """Write a folder for a finding, or write it anew for a better one; each file appears whole."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CASE, case.rstrip() + "\n")
    write_whole(folder / RESULT, json.dumps(result, indent=1) + "\n")
    write_whole(folder / ENVIRONMENT, json.dumps(describe() if environment is None else environment, indent=1) + "\n")
    if script:
        write_whole(folder / SCRIPT, script)
    else:
        (folder / SCRIPT).unlink(missing_ok=True)


def read_result(folder: Path) -> Result | None:
    """What a finding's folder tells of its case; None if it does not, or cannot be read."""
    try:
        return Result.from_json(codec.loads((folder / RESULT).read_bytes()))
    except (OSError, ValueError):
        return None


def write_sequence(folder: Path, cases: Sequence[str], name: str = SEQUENCE) -> None:
    """Store the cases of a history finding, in order."""
    write_whole(folder / name, "".join(case + "\n" for case in cases))


def read_sequence(folder: Path, name: str = SEQUENCE) -> tuple[str, ...]:
    """The texts of the cases of a history finding, in order; none if the folder holds no sequence.

    Raises:
        MalformedCase: the file cannot be read.
    """
    try:
        return tuple((folder / name).read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise codec.MalformedCase(f"{folder / name}: cannot be read: {error}") from None
