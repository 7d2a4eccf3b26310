"""Files that people hand over, read in this process."""

from pathlib import Path

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.fuzz.intake.compiled import Candidates
from shakeout.fuzz.intake.files import read
from shakeout.fuzz.intake.told import Request


def found(folder: Path, text: str, name: str = "", target: str = "", mode: str = "") -> Candidates:
    """What is in a file with this text, read in this process."""
    file = folder / "bug.py"
    file.write_text(f"import torch\nfrom torch import nn\n\n{text}")
    candidates = Candidates(Request(str(file), name, target, mode, str(folder), ""))
    read(file, name, candidates)
    return candidates


def case_of(candidates: Candidates) -> Case:
    """The only one."""
    assert not candidates.refused
    (one,) = candidates.found
    return codec.decode(one.case)
