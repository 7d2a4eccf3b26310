"""Runtimes as targets: networks run inside a context manager and must not notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shakeout.corpus.case import OVERWRITES, Knob, KnobSpace, Promise, Setting
from shakeout.corpus.user_objects import import_lines, local_name
from shakeout.targets.eager import DECLINES_NOTHING
from shakeout.targets.packages import uninstalled
from shakeout.targets.target import Facts, Target

__all__ = ["RuntimeTarget", "runtime_facts", "user_runtime"]

_OVERWRITES = Knob(
    OVERWRITES,
    (False, True),
    "programs write to what the backward pass needs: eager refuses that, a runtime must too, or be right",
    drawn=False,  # a program is grown for it
)

#: Hooks take saved tensors out of eager's check that nobody wrote to them; a runtime may leave some to it, or check.
_OVERWRITTEN = "modified by an inplace operation"

#: Function transforms take no hooks of saved tensors, whosever they are.
_NO_HOOKS = "don't yet support saved tensor hooks"

Around = Callable[[Setting], tuple[list[str], str]]


def _declines(words: tuple[str, ...], kinds: tuple[str, ...]) -> str:
    """Source of ``declined(error)``: by words of the message, or by the class of the exception."""
    if not words and not kinds:
        return DECLINES_NOTHING
    asked = [f"{word!r} in str(error)" for word in words] + [f"type(error).__name__ == {kind!r}" for kind in kinds]
    return "\n".join(
        [
            "def declined(error):",
            '    """Whether it refuses what eager refuses, or a function transform, or what a faulty disk has lost."""',
            f"    return {' or '.join(asked)}",
        ]
    )


@dataclass(frozen=True, slots=True)
class RuntimeTarget(Target):
    """Eager PyTorch inside a context manager, forward and backward.

    Attributes:
        name: of the target.
        facts: what is known of it.
        around: gives, for a setting, lines of imports and the expression that makes context managers when called.
        space: its knobs.
        keeps: whether it has what is saved as it was when it was saved, whatever is written to it later.
        raises: gives, for a setting, the classes of exceptions with which it may end.
    """

    name: str
    facts: Facts
    around: Around
    space: KnobSpace = ()
    keeps: bool = True
    raises: Callable[[Setting], tuple[str, ...]] = lambda setting: ()

    def knobs(self) -> KnobSpace:
        """Its knobs, and the one that every runtime has which keeps what is saved."""
        return (*self.space, _OVERWRITES) if self.keeps else self.space

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
        words = (_OVERWRITTEN,) * bool(setting.knob(OVERWRITES)) + (_NO_HOOKS,) * self.facts.regions
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
            _declines(words, self.raises(setting)),
        ]
        return "\n".join(lines) + "\n"


def runtime_facts(summary: str, *, regions: bool = False) -> Facts:
    """What is known of any runtime: what it saves is for backward, and it may copy to memory that a GPU has locked.

    Args:
        summary: what it is.
        regions: whether it is given programs with checkpoints, autocast, custom operators and other such blocks.
    """
    promises = frozenset[Promise]({"bits", "layout", "writes"})
    return Facts(summary=summary, promises=promises, mode="training", accelerator=True, regions=regions)


def user_runtime(name: str) -> RuntimeTarget:
    """The runtime declared as ``MODULE:NAME``."""

    def around(setting: Setting) -> tuple[list[str], str]:
        return ["import sys", "", *import_lines(name)], local_name(name)

    return RuntimeTarget(name, runtime_facts("your runtime, against plain eager: bit-equal"), around)
