"""What a script exports, and what it compiles ahead of time: taken as it is, without the compilation.

``torch.export.export`` gives what it always gives, and its argument is a case for ``export``. AOTInductor compiles
nothing: what it would compile is a case for ``inductor``, whose kernels it generates, and what is loaded from the
package that it would have written is the program itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
import torch.export

from shakeout.corpus.case import Setting
from shakeout.corpus.intake.refusal import here
from shakeout.fuzz.intake.wanted import Wanted

if TYPE_CHECKING:
    from shakeout.fuzz.intake.compiled import Candidates

__all__ = ["Exports"]

_AHEAD = (
    "AOTInductor is no target; inductor is taken, which generates the same kernels, and nothing is compiled or written"
)

_EXPORT: Callable[..., Any] = torch.export.export


class Exports:
    """Stands in the place of what exports and of what compiles ahead of time."""

    def __init__(self, candidates: Candidates) -> None:
        self._candidates = candidates
        self._sources: dict[int, tuple[Any, Any, Sequence[Any], Mapping[str, Any]]] = {}
        self._packages: dict[str, Callable[..., Any]] = {}

    @contextlib.contextmanager
    def watching(self, text: str) -> Iterator[None]:
        """As long as the context is open, exports are taken.

        Args:
            text: of the script; what it does not speak of takes time to load.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(torch.export, "export", self._export))
            if "aot" in text:
                from torch import _export, _inductor

                for module, name, instead in (
                    (_inductor, "aoti_compile_and_package", self._package),
                    (_inductor, "aoti_load_package", self._loading(_inductor.aoti_load_package)),
                    (_inductor, "aot_compile", self._ahead),
                    (_export, "aot_compile", self._ahead),
                    (_export, "aot_load", self._loading(_export.aot_load)),
                ):
                    stack.enter_context(mock.patch.object(module, name, instead))
            yield

    def _export(
        self, mod: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *more: Any, **options: Any
    ) -> Any:
        """What stands in the place of ``torch.export.export``."""
        candidates = self._candidates
        if candidates.inside:
            return _EXPORT(mod, args, kwargs, *more, **options)
        label = _label(mod)
        with torch.no_grad():  # nobody asks an exported program for gradients
            candidates.take(mod, args, kwargs or {}, label, Setting(candidates.target or "export"))
        if options.get("dynamic_shapes") is not None:
            candidates.notes.append(f"{label}: dynamic_shapes are left behind; the case has the sizes of the example")
        program = _EXPORT(mod, args, kwargs, *more, **options)
        self._sources[id(program)] = (program, mod, args, kwargs or {})
        return program

    def _package(
        self,
        exported_program: Any,
        *more: Any,
        package_path: Any = None,
        inductor_configs: Mapping[str, Any] | None = None,
    ) -> str:
        """What stands in the place of ``torch._inductor.aoti_compile_and_package``."""
        loaded = exported_program.module()
        known = self._sources.get(id(exported_program))
        if known is not None:
            _, mod, args, kwargs = known
            label = _label(mod)
        else:  # loaded, or made of another one
            mod = exported_program.module(check_guards=False)
            args, kwargs = exported_program.example_inputs
            label = _label(mod, "exported program")
        return self._taken(mod, args, kwargs, label, inductor_configs, package_path, loaded)

    def _ahead(
        self,
        mod: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> str:
        """What stands in the place of ``aot_compile``, which gave a shared library before there were packages."""
        path = (options or {}).get("aot_inductor.output_path")
        return self._taken(mod, args, kwargs or {}, _label(mod), options, path, mod)

    def _taken(
        self,
        mod: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        label: str,
        options: Mapping[str, Any] | None,
        path: Any,
        loaded: Callable[..., Any],
    ) -> str:
        """The path of what would have been compiled."""
        wanted = Wanted(
            options={key: one for key, one in (options or {}).items() if not key.startswith("aot_inductor")}
        )
        with torch.no_grad():
            self._candidates.take(mod, args, kwargs, label, wanted, (_AHEAD,))
        place = Path(path if isinstance(path, str | os.PathLike) else f"aot_{len(self._packages)}.pt2").absolute()
        self._packages[str(place)] = loaded
        return str(place)

    def _loading(self, own: Callable[..., Any]) -> Callable[..., Any]:
        def load(path: Any, *more: Any, **options: Any) -> Any:
            """What stands in the place of what loads a compiled program."""
            known = self._packages.get(os.path.abspath(path)) if isinstance(path, str | os.PathLike) else None
            return own(path, *more, **options) if known is None else known

        return load


def _label(mod: Any, name: str = "") -> str:
    place = here()
    where = f" ({Path(place.file).name}:{place.line})" if place is not None else ""
    return f"{name or getattr(mod, '__qualname__', type(mod).__qualname__)}{where}"
