"""What a gate keeps of each case, also when it is green: the case, the script that shows it, what a person reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from shakeout.corpus import blobs
from shakeout.corpus.case import Case
from shakeout.corpus.files import write_whole
from shakeout.fuzz.gate.cases import Candidate
from shakeout.fuzz.gate.trials import Runs
from shakeout.fuzz.ground.finding_folder import SCRIPT, SMALL_SCRIPT

__all__ = ["CASES", "REFUSALS", "Kept", "keep", "keep_refusal"]

#: Where they lie in the gate's folder. The folder can be given to ``--corpus`` of the next gate, as it is.
CASES = "cases"
REFUSALS = "refusals"

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Kept:
    """What is told of a case.

    Attributes:
        title: one line.
        signature: of its failure.
        text: for a person.
        case: its file, from the gate's folder on.
        script: a script that shows it; empty if there is none.
    """

    title: str
    signature: str
    text: str
    case: str
    script: str


def keep(folder: Path, one: Candidate, runs: Runs | None) -> Kept:
    """Write a case and its script into the gate's folder.

    Args:
        folder: of the gate.
        one: the case.
        runs: on the head, whose script serves where the case has none of its own; None if there were none.
    """
    name = _UNSAFE.sub("-", one.id).strip("-.") or "case"
    case = _written(folder / CASES, name, one.case)
    source = next((path for path in _scripts(one) if path.exists()), None)
    runs = runs or Runs()
    text = runs.script if source is None else source.read_text(encoding="utf-8")
    script = str(Path(CASES) / f"{name}.py") if text else ""
    if script:
        write_whole(folder / script, text)
    signature = runs.failing.result.signature if runs.failing is not None else ""
    return Kept(runs.title or one.title or f"{one.case.setting.target}: {one.id}", signature, runs.text, case, script)


def _scripts(one: Candidate) -> list[Path]:
    if one.folder is None:
        return []
    return [one.folder / (SMALL_SCRIPT if one.reduced else SCRIPT), one.folder / SCRIPT]


def keep_refusal(folder: Path, case: Case) -> str:
    """Write a case that became unsupported; its file, from the gate's folder on."""
    return _written(folder / REFUSALS, case.id[:12], case)


def _written(folder: Path, name: str, case: Case) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    blobs.copy(case, folder)
    write_whole(folder / f"{name}.json", case.text + "\n")
    return str(Path(folder.name) / f"{name}.json")
