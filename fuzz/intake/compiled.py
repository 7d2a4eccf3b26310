"""Runs of somebody's code in which what it compiles is written down instead: each callable with its real arguments."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch

from shakeout.corpus.case import Mode, Setting
from shakeout.corpus.intake.capturing import capture
from shakeout.corpus.intake.refusal import NotCaptured, here
from shakeout.fuzz.intake.told import Found, Refused, Request
from shakeout.fuzz.intake.wanted import Wanted

__all__ = ["Candidates"]

#: Cases that one file may give: a test suite compiles hundreds of functions, and nobody wants them all at once.
MOST = 32


class Candidates:
    """What is found in a file.

    Attributes:
        found: what became cases.
        refused: what did not.
        notes: on the file as a whole.
    """

    def __init__(self, request: Request) -> None:
        self.found: list[Found] = []
        self.refused: list[Refused] = []
        self.notes: list[str] = []
        self._directory = Path(request.directory)
        self._target = request.target
        self._mode: Mode | None = {"inference": "inference", "training": "training"}.get(request.mode)  # type: ignore[assignment]
        self._calls: dict[str, int] = {}
        self._inside = False

    def take(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        label: str,
        wanted: Wanted | Setting | None = None,
    ) -> None:
        """Make a case of a call, or write down why there is none."""
        if len(self.found) + len(self.refused) >= MOST:
            if (said := f"more is compiled; at most {MOST} are taken") not in self.notes:
                self.notes.append(said)
            return
        notes: list[str] = []
        if isinstance(wanted, Setting):
            setting = wanted
        else:
            setting, notes = (wanted or Wanted()).setting(self._target)
        self._inside = True
        try:
            got = capture(function, args, kwargs, setting=setting, mode=self._mode, directory=self._directory)
        except NotCaptured as error:
            self.refused.append(Refused(label, str(error)))
        else:
            self.found.append(Found(label, got.case.text, (*notes, *got.notes)))
        finally:
            self._inside = False

    def done(self) -> list[str]:
        """Notes, with those on what was called more than once."""
        again = [f"{label} is called {n} times; the first call is taken" for label, n in self._calls.items() if n > 1]
        return [*self.notes, *again]

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """As long as the context is open, ``torch.compile`` compiles nothing, and its calls are taken."""
        with mock.patch.object(torch, "compile", self._compile):
            yield

    def _compile(
        self,
        model: Any = None,
        *,
        fullgraph: bool = False,
        dynamic: bool | None = None,
        backend: Any = "inductor",
        mode: str | None = None,
        options: Mapping[str, Any] | None = None,
        disable: bool = False,
        **more: Any,
    ) -> Any:
        """What stands in the place of ``torch.compile``."""
        if model is None:
            return functools.partial(
                self._compile,
                fullgraph=fullgraph,
                dynamic=dynamic,
                backend=backend,
                mode=mode,
                options=options,
                disable=disable,
            )
        if disable or self._inside:
            return model
        if _of_torch(sys._getframe(1)):
            return _COMPILE(model, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode, options=options)
        wanted = Wanted(backend, mode, dynamic, dict(options or {}))
        name = getattr(model, "__qualname__", type(model).__qualname__)
        owner = getattr(model, "__self__", None)
        if isinstance(owner, torch.nn.Module) and name.endswith("_call_impl"):  # of module.compile()
            name = type(owner).__qualname__
        place = here()
        label = f"{name} ({Path(place.file).name}:{place.line})" if place is not None else name
        same = sum(one.partition(" #")[0] == label for one in self._calls)
        label = f"{label} #{same + 1}" if same else label
        self._calls[label] = 0

        def called(*args: Any, **kwargs: Any) -> Any:
            if not self._inside:
                self._calls[label] += 1
                if self._calls[label] == 1:
                    self.take(model, args, kwargs, label, wanted)
            return model(*args, **kwargs)

        if isinstance(model, torch.nn.Module):
            return _Module(model, called)
        return functools.wraps(model)(called)


_COMPILE: Callable[..., Any] = torch.compile


def _of_torch(frame: FrameType) -> bool:
    """Whether PyTorch compiles something for itself, a branch or loop that is run without a compiler."""
    module = str(frame.f_globals.get("__name__", ""))
    return module.startswith("torch.") and not module.startswith("torch.nn.")


class _Module(torch.nn.Module):
    """What a compiled module is like: the original, called in another way."""

    def __init__(self, original: torch.nn.Module, called: Callable[..., Any]) -> None:
        super().__init__()
        self._orig_mod = original
        self.training = original.training
        self._called = called

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self._called(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "_orig_mod":
            return self._modules["_orig_mod"]
        return getattr(self._orig_mod, name)
