"""Runtimes as targets: networks run inside a context manager and must not notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shakeout.corpus.case import KnobSpace, Promise, Setting
from shakeout.corpus.user_objects import import_lines, local_name
from shakeout.targets.eager import DECLINES_NOTHING
from shakeout.targets.packages import uninstalled
from shakeout.targets.target import Facts, Target

__all__ = ["RuntimeTarget", "runtime_facts", "user_runtime"]

Around = Callable[[Setting], tuple[list[str], str]]


@dataclass(frozen=True, slots=True)
class RuntimeTarget(Target):
    """Eager PyTorch inside a context manager, forward and backward.

    Attributes:
        name: of the target.
        facts: what is known of it.
        around: gives, for a setting, lines of imports and the expression that makes context managers when called.
        space: its knobs.
    """

    name: str
    facts: Facts
    around: Around
    space: KnobSpace = ()

    def knobs(self) -> KnobSpace:
        """Its knobs."""
        return self.space

    def unavailable(self) -> str | None:
        """The install line if torch is missing."""
        return uninstalled()

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


def runtime_facts(summary: str) -> Facts:
    """What is known of any runtime: what it saves is for backward, and it may copy to memory that a GPU has locked."""
    promises = frozenset[Promise]({"bits", "layout", "writes"})
    return Facts(summary=summary, promises=promises, mode="training", accelerator=True)


def user_runtime(name: str) -> RuntimeTarget:
    """The runtime declared as ``MODULE:NAME``."""

    def around(setting: Setting) -> tuple[list[str], str]:
        return ["import sys", "", *import_lines(name)], local_name(name)

    return RuntimeTarget(name, runtime_facts("your runtime, against plain eager: bit-equal"), around)
