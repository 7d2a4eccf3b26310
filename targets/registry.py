"""Which targets there are: Shakeout's own, those of other packages, and a user's own kernels and runtimes by name."""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import EntryPoint, entry_points

from shakeout.corpus.case import REFUSALS, Setting
from shakeout.corpus.vocabularies import vocabulary as words_of
from shakeout.targets.systems import canonical
from shakeout.targets.target import Facts, Hook, Short, Target, UnknownTarget, check_knobs

__all__ = [
    "GROUP",
    "compilers",
    "facts_of",
    "hook",
    "may_use_accelerator",
    "names",
    "of_vocabulary",
    "short",
    "source",
    "target",
    "within",
]

#: The entry points of other packages' targets.
GROUP = "shakeout.targets"

#: Shakeout's own, in the order of listings: module and attribute.
_BUILT_IN = {
    "eager": ("shakeout.targets.eager", "EAGER"),
    "aot_eager": ("shakeout.targets.dynamo", "AOT_EAGER"),
    "inductor": ("shakeout.targets.dynamo", "INDUCTOR"),
    "dynamo": ("shakeout.targets.dynamo", "DYNAMO"),
    "aot_eager_decomp_partition": ("shakeout.targets.dynamo", "DECOMPOSED"),
    "export": ("shakeout.targets.export", "EXPORT"),
    "onnxruntime": ("shakeout.targets.onnxruntime", "ONNXRUNTIME"),
    "openvino": ("shakeout.targets.openvino", "OPENVINO"),
    "tvm": ("shakeout.targets.tvm", "TVM"),
    "onnx.reference": ("shakeout.targets.onnx_models", "ONNX_REFERENCE"),
    "onnx.onnxruntime": ("shakeout.targets.onnx_models", "ONNXRUNTIME_MODEL"),
    "onnx.openvino": ("shakeout.targets.onnx_models", "OPENVINO_MODEL"),
    "onnx.tvm": ("shakeout.targets.onnx_models", "TVM_MODEL"),
    "save_on_cpu": ("shakeout.targets.offload.stock", "SAVE_ON_CPU"),
    "disk_store": ("shakeout.targets.offload.stock", "DISK_STORE"),
    "planted": ("shakeout.targets.planted", "PLANTED"),
}


class _Broken(Target):
    """A registered target that cannot be loaded: it stands in lists with the reason, and runs nothing."""

    facts = Facts(summary="a target of another package that cannot be loaded")

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self._why = why

    def unavailable(self) -> str | None:
        """Why it cannot be loaded."""
        return self._why

    def source(self, setting: Setting) -> str:
        """Nothing that could run."""
        raise UnknownTarget(f"target {self.name} cannot run: {self._why}")


def _third_party() -> list[str]:
    return sorted({entry.name for entry in entry_points(group=GROUP)} - _BUILT_IN.keys())


def names() -> tuple[str, ...]:
    """Every target that is for campaigns, Shakeout's own first."""
    return tuple(name for name in (*_BUILT_IN, *_third_party()) if not target(name).facts.hidden)


def compilers() -> tuple[str, ...]:
    """The compilers that can run here, slow ones first: what a campaign tests if nobody says."""
    found = [name for name in names() if target(name).facts.compiler and target(name).unavailable() is None]
    return tuple(sorted(found, key=lambda name: not target(name).facts.slow))


def within(vocabulary: str, name: str) -> str:
    """The name of the target that takes programs of a vocabulary: ``onnxruntime`` of onnx is ``onnx.onnxruntime``.

    Raises:
        UnknownTarget: there is none of this name, or it takes programs of another vocabulary; the message lists those
            that take them.
    """
    known = [one for one in names() if target(one).facts.vocabulary == vocabulary]
    if not known:
        there = sorted({target(one).facts.vocabulary for one in names()})
        raise UnknownTarget(f"no target takes programs of the vocabulary {vocabulary!r}; there are {', '.join(there)}")
    for one in (name, f"{vocabulary}.{name}"):
        if one in known:
            return one
    raise UnknownTarget(
        f"no target {name!r} takes programs of the vocabulary {vocabulary}; there are {', '.join(known)}"
    )


def of_vocabulary(vocabulary: str) -> tuple[str, ...]:
    """The targets that take programs of a vocabulary and can run here, but for its reference.

    Raises:
        UnknownTarget: there is none.
    """
    within(vocabulary, next((one for one in names() if target(one).facts.vocabulary == vocabulary), ""))
    reference = words_of(vocabulary).REFERENCE
    return tuple(
        one
        for one in names()
        if target(one).facts.vocabulary == vocabulary and one != reference and target(one).unavailable() is None
    )


def facts_of(name: str) -> Facts:
    """What is known of a target without importing what a user wrote: of ``MODULE:NAME`` what holds for all of them.

    Raises:
        UnknownTarget: there is none of this name.
    """
    return Facts() if ":" in name else target(name).facts


def may_use_accelerator(name: str) -> bool:
    """Whether a target may use an accelerator although no tensor of a case is on it."""
    return facts_of(name).accelerator


@functools.cache
def target(name: str) -> Target:
    """The target of a name: a registered one, or a user's own as ``MODULE:ATTRIBUTE``.

    Raises:
        UnknownTarget: there is none; the message lists the others.
    """
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name]
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
    name = canonical(name)
    if ":" in name:
        from shakeout.targets.user_target import declared

        return declared(name)
    for entry in entry_points(group=GROUP, name=name):
        return _loaded(entry)
    raise UnknownTarget(
        f"unknown target {name!r}; there are {', '.join(names())}, and your own kernel, offload context or pass as "
        "MODULE:NAME"
    )


def _loaded(entry: EntryPoint) -> Target:
    """What another package registered; whatever goes wrong there costs that target only."""
    package = entry.dist.name if entry.dist is not None else "another package"
    try:
        found = entry.load()
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        return _Broken(entry.name, f"{entry.value} of {package} cannot be loaded: {type(error).__name__}: {said}")
    if not isinstance(found, Target):
        kind = f"the class {found.__name__}" if isinstance(found, type) else f"of the type {type(found).__name__}"
        return _Broken(
            entry.name,
            f"{entry.value} of {package} is {kind}, expected an object of a class that is derived from "
            "shakeout.targets.target.Target",
        )
    name, facts = getattr(found, "name", None), getattr(found, "facts", None)
    if name != entry.name or not isinstance(facts, Facts):
        return _Broken(
            entry.name,
            f"{entry.value} of {package} has the name {name!r} and {type(facts).__name__} for facts, expected the name "
            f"{entry.name!r}, under which it is registered, and shakeout.targets.target.Facts",
        )
    return found


#: Stands behind a target's own, where refusals are findings.
_DECLINES_NOTHING = '''def declined(error):
    """What is refused is shown as well."""
    return False
'''


def source(setting: Setting) -> str:
    """Source text of ``prepare(function)`` and ``declined(error)`` under a setting, by its target.

    Raises:
        UnknownTarget: there is no such target.
        UnknownKnob: it has no such knob, or the knob no such value.
    """
    subject = target(setting.target)
    check_knobs(subject, setting)
    text = subject.source(setting.told())
    return f"{text.rstrip()}\n\n\n{_DECLINES_NOTHING}" if setting.knob(REFUSALS) else text


def short(setting: Setting) -> Short | None:
    """How users call the target under a setting; None where that takes more than a few lines. Raises as ``source``."""
    subject = target(setting.target)
    check_knobs(subject, setting)
    return subject.short(setting.told())


def hook(name: str, kind: str) -> Hook:
    """What limits the things of one kind that a target does.

    Args:
        name: of the target.
        kind: of one of the parts of its ladder.

    Raises:
        UnknownTarget: it has no such part; the message lists those there are.
    """
    ladder = target(name).facts.ladder
    known = () if ladder is None else (*ladder.parts, *((ladder.raising,) if ladder.raising is not None else ()))
    parts = {part.kind: part.hook for part in known}
    if kind not in parts:
        raise UnknownTarget(f"{name} has no part {kind!r}; it has {', '.join(parts) or 'none'}")
    module, _, attribute = parts[kind].partition(":")
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
