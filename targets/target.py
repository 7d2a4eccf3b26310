"""What a target is, and which ones there are.

A target is told in source text: ``source(setting)`` defines ``prepare(function)``, which compiles or wraps the
network, and ``declined(error)``, which says whether an exception means "not supported" rather than "broken". The
worker executes that text and the report prints it, so both run the same thing.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Protocol

from shakeout.corpus.case import KnobSpace, Mode, Promise, Setting
from shakeout.corpus.interpreter import installed

__all__ = [
    "Target",
    "UnknownKnob",
    "UnknownTarget",
    "check_knobs",
    "compilers",
    "may_use_accelerator",
    "module_available",
    "names",
    "source",
    "target",
]


class UnknownKnob(ValueError):
    """A setting varies what its target does not let it vary; the message says what it may."""


class UnknownTarget(ValueError):
    """A name under which no target is registered; the message lists those there are."""


class Target(Protocol):
    """A thing under test.

    Nothing heavy is imported before ``warm`` or the text of ``source`` runs, so that listing targets is quick.
    """

    @property
    def name(self) -> str:
        """The name on the command line."""

    @property
    def vocabulary(self) -> str:
        """The vocabulary of the programs it takes."""

    @property
    def summary(self) -> str:
        """One line for listings."""

    @property
    def promises(self) -> frozenset[Promise]:
        """What it promises beside equal meaning."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions beside torch that make up what is tested; reports name their versions."""

    @property
    def settings(self) -> int:
        """Settings that are tried on one program, where preparing the program costs more than a setting."""

    @property
    def foreign(self) -> frozenset[str]:
        """Dtypes that it hardly takes in any operator; the generator leans away from them."""

    @property
    def mode(self) -> Mode | None:
        """How cases are made for it, if nobody asks for something else."""

    def knobs(self) -> KnobSpace:
        """What a setting may vary here, defaults first."""

    def unavailable(self) -> str | None:
        """Why it cannot run here, with the line that installs what is missing; None if it can."""

    def warm(self) -> None:
        """Load and run the thing once, so that the first case costs what the next one does."""

    def source(self, setting: Setting) -> str:
        """Source text of ``prepare(function)`` and ``declined(error)`` under a setting."""


@dataclass(frozen=True, slots=True)
class _Built:
    module: str
    attribute: str


_BUILT_IN = {
    "eager": _Built("shakeout.targets.eager", "EAGER"),
    "aot_eager": _Built("shakeout.targets.dynamo", "AOT_EAGER"),
    "inductor": _Built("shakeout.targets.dynamo", "INDUCTOR"),
    "dynamo": _Built("shakeout.targets.dynamo", "DYNAMO"),
    "aot_eager_decomp_partition": _Built("shakeout.targets.dynamo", "DECOMPOSED"),
    "export": _Built("shakeout.targets.export", "EXPORT"),
    "onnxruntime": _Built("shakeout.targets.onnxruntime", "ONNXRUNTIME"),
    "openvino": _Built("shakeout.targets.openvino", "OPENVINO"),
    "tvm": _Built("shakeout.targets.tvm", "TVM"),
    "save_on_cpu": _Built("shakeout.targets.offload.shipped", "SAVE_ON_CPU"),
    "disk_store": _Built("shakeout.targets.offload.shipped", "DISK_STORE"),
    "planted": _Built("shakeout.targets.planted", "PLANTED"),
}

#: Not for campaigns: the self-test's fake, and what lies between eager and Inductor, for bisecting.
_HIDDEN = frozenset({"planted", "dynamo", "aot_eager_decomp_partition"})


def names() -> tuple[str, ...]:
    """Every registered target, built-in ones first."""
    from importlib.metadata import entry_points

    third_party = sorted(entry.name for entry in entry_points(group="shakeout.targets"))
    return (*(name for name in _BUILT_IN if name not in _HIDDEN), *third_party)


#: What a campaign tests if nobody says: what compiles whole networks.
_COMPILERS = ("inductor", "aot_eager", "export", "onnxruntime", "openvino", "tvm")


def compilers() -> tuple[str, ...]:
    """The compilers that can run here."""
    return tuple(name for name in _COMPILERS if name in _BUILT_IN and target(name).unavailable() is None)


def may_use_accelerator(name: str) -> bool:
    """Whether a target may use an accelerator although no tensor of a case is on it.

    A user's own may do anything, and offload runtimes copy to memory that an accelerator has locked.
    """
    return name not in _BUILT_IN or _BUILT_IN[name].module.startswith("shakeout.targets.offload")


@functools.cache
def target(name: str) -> Target:
    """The target of a name: a registered one, or a user's own as ``MODULE:ATTRIBUTE``.

    Raises:
        UnknownTarget: there is none; the message lists the others.
    """
    if name in _BUILT_IN:
        built = _BUILT_IN[name]
        return getattr(importlib.import_module(built.module), built.attribute)  # type: ignore[no-any-return]
    if ":" in name:
        from shakeout.targets.declared import declared

        return declared(name)
    from importlib.metadata import entry_points

    for entry in entry_points(group="shakeout.targets", name=name):
        return entry.load()  # type: ignore[no-any-return]
    raise UnknownTarget(
        f"unknown target {name!r}; there are {', '.join(names())}, and your own kernel or offload context as "
        "MODULE:NAME"
    )


def check_knobs(subject: Target, setting: Setting) -> None:
    """Raise UnknownKnob unless a setting gives knobs of the target values that the target declares.

    A setting may come from anybody, and what it says is printed into the text that prepares a program, or handed to a
    compiler, of which some switches name commands to run and files to write.
    """
    if not setting.knobs:
        return
    space = {knob.name: knob.values for knob in subject.knobs()}
    for name, value in setting.knobs:
        if name not in space:
            raise UnknownKnob(f"{subject.name} has no knob {name!r} here (see: shakeout targets --knobs)")
        if not any(type(value) is type(one) and value == one for one in space[name]):
            wanted = ", ".join(map(str, space[name]))
            raise UnknownKnob(f"{subject.name}: the knob {name} takes {wanted}; found {value!r:.80}")


def source(setting: Setting) -> str:
    """Source text of ``prepare(function)`` and ``declined(error)`` under a setting, by its target.

    Raises:
        UnknownTarget: there is no such target.
        UnknownKnob: it has no such knob, or the knob no such value.
    """
    subject = target(setting.target)
    check_knobs(subject, setting)
    return subject.source(setting)


def module_available(module: str) -> bool:
    """Whether a package is installed, without importing it."""
    try:
        return installed(module)
    except (ImportError, ValueError):
        return False
