"""Runs of somebody's code in which what it compiles is written down instead: each callable with its real arguments."""

from __future__ import annotations

import contextlib
import functools
import sys
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import BuiltinFunctionType, FrameType
from typing import Any, TypeAlias
from unittest import mock

import torch

from shakeout.corpus.case import Case, Cotangent, Mode, Setting, Storage, View
from shakeout.corpus.intake.capturing import Captured, capture
from shakeout.corpus.intake.refusal import LEFT_BEHIND, NotCaptured, Place, here
from shakeout.corpus.intake.subject import PLAIN, leaves_of
from shakeout.corpus.setting import RANDOM
from shakeout.fuzz.ground.randomness import drawing_alike
from shakeout.fuzz.ground.refusals import counted
from shakeout.fuzz.ground.signature import INTERNAL
from shakeout.fuzz.intake.exporting import Exports
from shakeout.fuzz.intake.steps import loss_of
from shakeout.fuzz.intake.told import Found, Refused, Request
from shakeout.fuzz.intake.wanted import Wanted

__all__ = ["Candidates"]

Kind: TypeAlias = tuple[Hashable, ...]

#: Cases that one file may give: a test suite compiles hundreds of functions, and nobody wants them all at once.
MOST = 32

#: Calls of one callable that become calls of one case: a stale guard or cache shows in the second.
CALLS = 4

#: Kinds of calls of one callable that become cases of their own, by sizes, plain arguments and mode: what is compiled
#: for one size is compiled anew, or for any size, when the second comes.
KINDS = 4

#: Further calls of one kind that are looked at: a script that measures calls the same thing a thousand times.
TRIED = 12


class Candidates:
    """What is found in a file.

    Attributes:
        found: what became cases.
        refused: what did not.
        notes: on the file as a whole.
        directory: for what is written meanwhile.
        target: that somebody asks for; empty for the one that the file names.
        cpu: whether what the file puts on a GPU stays on the CPU.
        cotangent: with which the file asks for gradients.
        inside: whether what is being run is run by the capture.
        inputs: file of what an ONNX model is fed; None for drawn values.
    """

    def __init__(self, request: Request) -> None:
        self.found: list[Found] = []
        self.refused: list[Refused] = []
        self.notes: list[str] = []
        self.directory = Path(request.directory)
        self.inputs = Path(request.inputs) if request.inputs else None
        self.target = request.target
        self.cpu = request.cpu
        self.cotangent: Cotangent = "whole"
        self.inside = False
        self._refusals = request.refusals
        self._mode: Mode | None = {"inference": "inference", "training": "training"}.get(request.mode)  # type: ignore[assignment]
        self._calls: dict[str, int] = {}
        self._kinds: dict[str, dict[Kind, int]] = {}
        self._firsts: dict[tuple[str, Kind], str] = {}
        self._cases: dict[str, tuple[int, Case]] = {}
        self._exports = Exports(self)
        self._breaks: list[Place] = []
        self._text = _text(Path(request.file))

    def take(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        label: str,
        wanted: Wanted | Setting | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """Make a case of a call, or write down why there is none."""
        if len(self.found) + len(self.refused) >= MOST:
            if (limit := f"more is compiled; at most {MOST} are taken") not in self.notes:
                self.notes.append(limit)
            return
        said = [*notes]
        if isinstance(wanted, Setting):
            setting = wanted
        else:
            wanted = wanted or Wanted()
            setting, more = wanted.setting(self.target)
            said += more
            if wanted.fullgraph and not self._refusals:
                said.append("of fullgraph=True: that a graph breaks is no finding without --refusals")
        setting = counted(setting) if self._refusals else setting
        if self.cotangent != "whole":
            setting = replace(setting, mode="training", cotangent=self.cotangent)  # the capture says whether it is one
        if (got := self._captured(function, args, kwargs, label, setting)) is not None:
            case = drawing_alike(got.case)
            if case != got.case and setting.knob(RANDOM) is not True:
                said.append(f"it may draw random numbers, and {RANDOM} is on, with which they are eager's")
            got = replace(got, case=case)
            self._cases[label] = (len(self.found), got.case)
            self.found.append(Found(label, got.case.text, (*said, *got.notes)))

    def called(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], label: str, wanted: Wanted
    ) -> None:
        """What was compiled is called: the first call of each kind is taken, a few of those of a kind that is known."""
        self._calls[label] += 1
        kinds, kind = self._kinds.setdefault(label, {}), _kind(function, args, kwargs)
        first = label if not kinds else f"{label}, call {self._calls[label]}"
        if kind in kinds:
            kinds[kind] += 1
            if kinds[kind] <= TRIED:
                self.again(function, args, kwargs, self._firsts[label, kind])
        elif len(kinds) < KINDS:
            kinds[kind] = 1
            self._firsts[label, kind] = first
            self.take(function, args, kwargs, first, wanted)

    def again(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], label: str) -> None:
        """A further call of what was taken: one more call of the case, if it is the same program on other values.

        That goes for inference only: in training a case takes steps of its own between its calls.
        """
        place, case = self._cases.get(label, (0, None))
        if case is None or case.setting.mode == "training" or len(case.input_sets) == CALLS:
            return
        before = len(self.refused)
        got = self._captured(function, args, kwargs, label, case.setting)
        del self.refused[before:]  # the first call is a case, and a note says how many are
        if got is None or (got.case.program, got.case.setting) != (case.program, case.setting):
            return
        (inputs,) = got.case.input_sets
        if inputs not in case.input_sets and _parameters(got.case) == _parameters(case):
            case = replace(case, input_sets=(*case.input_sets, inputs))
            self._cases[label] = (place, case)
            self.found[place] = replace(self.found[place], case=case.text)

    def _captured(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        label: str,
        setting: Setting,
    ) -> Captured | None:
        self.inside = True
        self._breaks.clear()
        try:
            got = self._capture(function, args, kwargs, setting)
            ask = "a graph break is asked for, and left out; the case is compiled in one piece"
            return replace(got, notes=(*(f"{place}: {ask}" for place in dict.fromkeys(self._breaks)), *got.notes))
        except NotCaptured as error:
            self.refused.append(Refused(label, str(error)))
        except Exception as error:  # the script is not to stumble over a defect of ours
            traceback.print_exc()
            self.refused.append(Refused(label, f"{INTERNAL} {type(error).__name__}: {error}"))
        finally:
            self.inside = False
        return None

    def _capture(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], setting: Setting
    ) -> Captured:
        """The case of a call; of a step of training that of what computes its loss."""
        asked: dict[str, Any] = {"setting": setting, "directory": self.directory}
        try:
            return capture(function, args, kwargs, mode=self._mode, **asked)
        except NotCaptured as error:
            if LEFT_BEHIND not in error.reason:
                raise
            step = error
        loss, ends = loss_of(function)
        got = capture(loss, args, kwargs, mode=self._mode or "training", **asked)
        if not got.case.program.calls:  # the loss comes from outside
            raise step
        note = f"{ends[0]}: the backward pass ends what is compiled in one piece; the case is what computes the loss"
        return replace(got, notes=(note, *got.notes))

    def done(self) -> list[str]:
        """Notes, with those on what was called more than once."""
        said = []
        for label, count in self._calls.items():
            firsts = [first for (of, _), first in self._firsts.items() if of == label and first in self._cases]
            taken = sum(len(self._cases[first][1].input_sets) for first in firsts)
            if firsts and count > taken:
                which = "the first is" if taken == 1 else f"{taken} with different values are"
                said.append(f"{label} is called {count} times; {which} taken")
        return [*self.notes, *said]

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """As long as the context is open, ``torch.compile`` compiles nothing, and its calls are taken.

        What is given to ``torch.export.export`` is taken as well, and exported; what AOTInductor is given is taken.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(torch, "compile", self._compile))
            stack.enter_context(self._exports.watching(self._text))
            if "_dynamo" in self._text:  # which takes a second to load
                stack.enter_context(mock.patch.object(_dynamo(), "optimize", self._optimize))
                stack.enter_context(mock.patch.object(_dynamo(), "graph_break", self._graph_break))
            yield

    def uncalled(self) -> list[str]:
        """What was compiled and never called."""
        return [label for label, count in self._calls.items() if not count]

    def _graph_break(self, msg: str = "") -> None:
        """What stands in the place of ``torch._dynamo.graph_break``, which does nothing where nothing is compiled."""
        if self.inside and (place := here()) is not None:
            self._breaks.append(place)

    def _optimize(self, backend: Any = "inductor", *more: Any, nopython: bool = False, **options: Any) -> Any:
        """What stands in the place of ``torch._dynamo.optimize``, which older scripts call."""
        if more or _of_torch(sys._getframe(1)):
            return _dynamo().eval_frame.optimize(backend, *more, nopython=nopython, **options)
        return self._compile(backend=backend, fullgraph=nopython, dynamic=options.get("dynamic"))

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
        if disable or self.inside:
            return model
        if _of_torch(sys._getframe(1)):
            return _COMPILE(model, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode, options=options)
        wanted = Wanted(backend, mode, dynamic, dict(options or {}), fullgraph)
        name = getattr(model, "__qualname__", type(model).__qualname__)
        if isinstance(model, BuiltinFunctionType):
            name = model.__name__  # torch.sin, whose class nobody knows
        owner = getattr(model, "__self__", None)
        if isinstance(owner, torch.nn.Module) and name.endswith("_call_impl"):  # of module.compile()
            name = type(owner).__qualname__
        place = here()
        label = f"{name} ({Path(place.file).name}:{place.line})" if place is not None else name
        same = sum(one.partition(" #")[0] == label for one in self._calls)
        label = f"{label} #{same + 1}" if same else label
        self._calls[label] = 0

        def called(*args: Any, **kwargs: Any) -> Any:
            if not self.inside:
                self.called(model, args, kwargs, label, wanted)
            return model(*args, **kwargs)

        if isinstance(model, torch.nn.Module):
            return _Module(model, called)
        return functools.wraps(model)(called)


def _kind(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Kind:
    """What a call has to have in common with another one to be the same program, as far as that is cheap to see."""
    leaves, spec = leaves_of((tuple(args), dict(kwargs)))
    owner = getattr(function, "__self__", function)
    training = isinstance(owner, torch.nn.Module) and owner.training
    return (torch.is_grad_enabled(), training, str(spec), *map(_like, leaves))


def _like(leaf: Any) -> Hashable:
    if isinstance(leaf, torch.Tensor):
        return leaf.dtype, tuple(leaf.shape), leaf.requires_grad
    known = isinstance(leaf, PLAIN | None)
    return leaf if known else type(leaf).__qualname__


def _text(path: Path) -> str:
    """A script's or notebook's text; empty for data, or what cannot be read."""
    if path.suffix not in (".py", ".ipynb"):
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _parameters(case: Case) -> list[tuple[View, Storage]]:
    """What the parameters of the first call hold."""
    inputs = case.input_sets[0]
    pairs = zip(case.program.inputs, inputs.views, strict=True)
    return [
        (replace(view, storage=0), inputs.storages[view.storage]) for given, view in pairs if given.role == "parameter"
    ]


_COMPILE: Callable[..., Any] = torch.compile


def _dynamo() -> Any:
    import torch._dynamo

    return torch._dynamo


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
