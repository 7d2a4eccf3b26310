"""What a call of ``torch.compile`` asks for, as a target and its knobs; what no knob says is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shakeout.corpus.case import HISTORY, SANITIZE, Scalar, Setting
from shakeout.targets.registry import target
from shakeout.targets.target import UnknownTarget

__all__ = ["Wanted"]

#: Backends of torch.compile that are targets under another name.
_TARGETS = {"eager": "dynamo"}

#: Knobs that are no option of a compiler.
_OURS = (HISTORY, SANITIZE, "dynamic")

#: Options that say where or how fast something is compiled, and not what.
_SILENT = (
    *("cache", "dir", "debug", "trace", "worker", "compile_threads", "verbose", "profil", "log", "fx_graph"),
    "run_gc_after_compile",  # the shortcut ``collector`` turns it off as well
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How something is compiled.

    Attributes:
        backend: of ``torch.compile``; a name, or what somebody wrote.
        mode: a set of options by name.
        dynamic: whether sizes are symbolic.
        options: of the backend.
        fullgraph: whether a graph break is an error.
    """

    backend: Any = "inductor"
    mode: str | None = None
    dynamic: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    fullgraph: bool = False

    def setting(self, named: str = "") -> tuple[Setting, list[str]]:
        """The setting that says so, and what it does not say.

        Args:
            named: a target that somebody asks for; the knobs are kept if it is the one that was meant.
        """
        notes: list[str] = []
        backend = self.backend if isinstance(self.backend, str) else getattr(self.backend, "__name__", "?")
        own = _TARGETS.get(backend, backend)
        try:
            target(own)
        except UnknownTarget:
            notes.append(f"the backend {backend!r} is no target; inductor is taken")
            own = "inductor"
        chosen = named or own
        space = {knob.name: knob.values for knob in target(own).knobs()}
        if chosen != own:
            if any(name in space or not _silent(name) for name, _, _ in self._asked(own)):
                notes.append(f"it was compiled for {own}, whose knobs are left behind")
            return Setting(chosen), notes
        knobs: dict[str, Scalar] = {}
        for name, value, where in self._asked(own):
            values = space.get(name, ()) if name not in (HISTORY, SANITIZE) else ()
            fitting = [one for one in values if type(one) is type(value) and one == value]
            if fitting and fitting[0] != values[0]:
                knobs[name] = fitting[0]
            elif not fitting and not _silent(name):
                notes.append(f"{where} {name}={value!r:.40} is no knob of {own} and is left at its default")
        return Setting(own, tuple(sorted(knobs.items()))), notes

    def _asked(self, own: str) -> Iterator[tuple[str, Any, str]]:
        """What is asked for beside the default: name, value, and where."""
        if self.dynamic is not None:
            yield "dynamic", self.dynamic, "the argument"
        for name, value in self._mode_options().items():
            yield name, value, f"of mode {self.mode!r}"
        for name, value in (self.options or {}).items():
            yield str(name).replace("-", "_"), value, "the option"
        if own == "inductor":
            yield from _changed("torch._inductor.config")
        yield from _changed("torch._dynamo.config")

    def _mode_options(self) -> Mapping[str, Any]:
        if self.mode in (None, "default"):
            return {}
        import torch._inductor

        try:
            found: Mapping[str, Any] = torch._inductor.list_mode_options(self.mode)
        except RuntimeError:
            return {}
        return found


def _silent(name: str) -> bool:
    return any(word in name for word in _SILENT)


def _changed(name: str) -> Iterator[tuple[str, Any, str]]:
    """The switches of a module of configuration that somebody has changed."""
    module: Any = sys.modules.get(name)
    if module is None:
        return
    for key in sorted(module._config):
        if not module._is_default(key):
            value = getattr(module, key)
            # A tool that writes a script out sets much to what it is anyway.
            if isinstance(value, bool | int | float | str | None) and value != module._config[key].default:
                yield key, value, name
