"""Runtimes as targets: networks run inside a context manager and must not notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shakeout.corpus.case import KnobSpace, Mode, Promise, Setting
from shakeout.corpus.declared import import_lines, local_name
from shakeout.targets.eager import DECLINES_NOTHING, INSTALL_TORCH
from shakeout.targets.target import module_available

__all__ = ["RuntimeTarget", "user_runtime"]

Around = Callable[[Setting], tuple[list[str], str]]


@dataclass(frozen=True, slots=True)
class RuntimeTarget:
    """Eager PyTorch inside a context manager, forward and backward.

    Attributes:
        name: of the target.
        summary: one line for listings.
        around: gives, for a setting, lines of imports and the expression that makes context managers when called.
        space: its knobs.
        mode: how cases are made for it, if nobody asks for something else: what a runtime saves is for backward.
    """

    name: str
    summary: str
    around: Around
    space: KnobSpace = ()
    vocabulary: str = "torch"
    promises: frozenset[Promise] = frozenset({"bits", "layout", "writes"})
    packages: tuple[str, ...] = ()
    settings: int = 1
    foreign: frozenset[str] = frozenset()
    mode: Mode | None = "training"

    def knobs(self) -> KnobSpace:
        """Its knobs."""
        return self.space

    def unavailable(self) -> str | None:
        """The install line if torch is missing."""
        return None if module_available("torch") else f"torch is not installed: {INSTALL_TORCH}"

    def warm(self) -> None:
        """Run a forward pass inside of it; no backward pass, for the reason in ``targets/dynamo.py``."""
        import torch

        namespace: dict[str, object] = {"torch": torch}
        exec(self.source(Setting(self.name)), namespace)
        prepare = namespace["prepare"]
        assert callable(prepare)
        inside = prepare(torch.sin)
        x = torch.ones(3, requires_grad=True)
        with inside.around():
            inside(x)

    def source(self, setting: Setting) -> str:
        """The network with the context manager that is entered around its forward and backward pass."""
        imports, around = self.around(setting)
        lines = [
            *imports,
            *(["", ""] if imports else []),
            "def prepare(network):",
            "    def inside(*arguments):",
            "        return network(*arguments)",
            "",
            f"    inside.around = {around}  # entered around forward and backward",
            "    return inside",
            "",
            "",
            DECLINES_NOTHING,
        ]
        return "\n".join(lines) + "\n"


def user_runtime(name: str) -> RuntimeTarget:
    """The runtime declared as ``MODULE:NAME``."""

    def around(setting: Setting) -> tuple[list[str], str]:
        return ["import sys", "", *import_lines(name)], local_name(name)

    return RuntimeTarget(name, "your runtime, against plain eager: bit-equal", around)
