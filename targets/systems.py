"""The systems of Shakeout's own stack that are here, and the names of their targets. Imports nothing heavy."""

from __future__ import annotations

import functools

from shakeout.targets.published import Part, System

__all__ = ["canonical", "parts", "systems"]

#: What works elsewhere in Shakeout, and is no target of its own.
ELSEWHERE = (
    System(
        12,
        page="docs/learning.md",
        lacks="operators are proposed from records or rules one by one, and each is run; no solver of whole graphs",
    ),
)


@functools.cache
def systems() -> tuple[System, ...]:
    """What is here, by number."""
    from shakeout.targets.compilers.systems import COMPILERS
    from shakeout.targets.kernels.systems import KERNELS
    from shakeout.targets.offload.systems import OFFLOAD

    return tuple(sorted((*ELSEWHERE, *KERNELS, *COMPILERS, *OFFLOAD), key=lambda system: system.number))


@functools.cache
def parts() -> dict[str, Part]:
    """Every target of a system, by the name on a command line."""
    return {part.name: part for system in systems() for part in system.parts}


def canonical(name: str) -> str:
    """The name that a target is stored under: ``im2win_conv2d`` is a kernel of Shakeout's own, ``MODULE:NAME``."""
    part = parts().get(name)
    return name if part is None else part.target
