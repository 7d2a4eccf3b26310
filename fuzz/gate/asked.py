"""What a gate is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Asked"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a gate is asked to do.

    Attributes:
        base: an environment, an interpreter, or a ref of the repository.
        head: an environment or an interpreter; None for the one that runs the gate.
        folder: where everything is kept.
        targets: what is tested.
        operators: that are fuzzed rather than others, as patterns; empty for all.
        corpus: folders of cases that are replayed.
        shipped: whether what ships for the targets is replayed as well.
        budget: seconds in all.
        workers: cases at work at a time.
        memory: bytes that a case may take.
        device: ``cpu`` or ``cuda``.
        error: probability with which what both sides share may block.
        refusals: whether what became unsupported blocks.
        seed: of the fuzzing; None for that of the commit.
        folders: of the repository to import from, beside ``src`` and the working directory.
    """

    base: str
    folder: Path
    targets: tuple[str, ...]
    head: str | None = None
    operators: tuple[str, ...] = ()
    corpus: tuple[Path, ...] = ()
    shipped: bool = True
    budget: float = 600.0
    workers: int = 1
    memory: int = 4 << 30
    device: str = "cpu"
    error: float = 0.001
    refusals: bool = False
    seed: int | None = None
    folders: tuple[str, ...] = ()
