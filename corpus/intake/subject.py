"""What somebody hands over: a function or module and its arguments, as a callable of a flat list of tensors.

Parameters and buffers, and tensors that the source finds around it, are the very objects; their contents are put back
after every run, so that the user's module is what it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree

from shakeout.corpus.case import Mode
from shakeout.corpus.intake import refusal
from shakeout.corpus.intake.reach import is_plain_object, reached
from shakeout.corpus.intake.recorder import check_kind
from shakeout.corpus.intake.refusal import LEFT_BEHIND, NotCaptured
from shakeout.corpus.standalone import memory

__all__ = ["PLAIN", "Attributes", "Contents", "Subject", "leaves_of", "results_of"]

_ABSENT = object()

#: Leaves of arguments that are no tensors and may be written into a program.
PLAIN = (
    bool | int | float | complex | str | torch.dtype | torch.device | torch.layout | torch.memory_format | torch.Size
)


def leaves_of(value: Any) -> tuple[list[Any], Any]:
    """The leaves of nested lists, tuples and dictionaries, and how they are nested."""
    leaves, spec = _pytree.tree_flatten(value)
    return list(leaves), spec


def results_of(value: Any) -> tuple[list[Any], Any]:
    """The leaves of what a call returns, and how they are nested; objects with fields are opened as dictionaries.

    An object of a user's class that leads to no tensor is a leaf.

    Raises:
        NotCaptured: an object holds itself.
    """
    return leaves_of(_opened(value, ()))


def _opened(value: Any, within: tuple[int, ...]) -> Any:
    if isinstance(value, torch.Tensor | torch.Size):
        return value
    if id(value) in within:
        raise NotCaptured(f"it returns a {type(value).__name__} that holds itself; return its tensors")
    within = (*within, id(value))
    if isinstance(value, list | tuple):
        opened = [_opened(one, within) for one in value]
        return opened if isinstance(value, list) else tuple(opened)
    if isinstance(value, Mapping):
        held = dict(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    elif is_plain_object(value) and not callable(value) and reached([value])[1]:
        held = vars(value)
    else:
        return value
    return {key: _opened(one, within) for key, one in held.items()}


class Contents:
    """What is in some tensors' memory now, to be put back; a copy of each storage."""

    def __init__(self, tensors: Iterable[torch.Tensor] = ()) -> None:
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._versions: dict[int, int] = {}
        for tensor in tensors:
            self.keep(tensor)

    def keep(self, tensor: torch.Tensor) -> None:
        """Remember a tensor's memory as it is now, unless it is remembered."""
        key = tensor.untyped_storage()._cdata
        self._versions.setdefault(id(tensor), _version(tensor))
        if key not in self._kept:
            held = memory(tensor)
            self._kept[key] = (held, held.clone())

    def changed(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor was written to, as far as its version or its memory tells.

        Statistics of a normalisation are written without a new version, and a write may leave what was there.
        """
        held, copy = self._kept[tensor.untyped_storage()._cdata]
        same = torch.equal(held.view(torch.uint8), copy.view(torch.uint8))
        return not same or _version(tensor) != self._versions[id(tensor)]

    def put_back(self) -> None:
        """Write everything back."""
        with torch.no_grad():
            for held, copy in self._kept.values():
                held.copy_(copy)


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor was written to; one that was made in inference mode does not count."""
    return 0 if tensor.is_inference() else tensor._version


class Attributes:
    """What attributes of modules and objects are bound to now, to be bound to it again: a call may cache, or count."""

    def __init__(self, modules: Iterable[torch.nn.Module], objects: Iterable[Any] = ()) -> None:
        parts = {id(part): (name, part) for module in modules for name, part in module.named_modules()}
        self._kept = [(name, part, self._bound(part)) for name, part in parts.values()]
        self._objects = [(one, dict(vars(one))) for one in objects]

    @staticmethod
    def _bound(part: torch.nn.Module) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        own = vars(part)
        return dict(own), dict(own["_parameters"]), dict(own["_buffers"])

    def put_back(self) -> list[str]:
        """Bind everything as it was; the names of plain attributes that were bound anew.

        Raises:
            NotCaptured: a parameter or buffer was, so that whoever calls the module again sees another tensor.
        """
        changed, state = [], []
        for name, part, (own, parameters, buffers) in self._kept:
            prefix = f"{name}." if name else ""
            for kind, before in (("_parameters", parameters), ("_buffers", buffers)):
                now = vars(part)[kind]
                state += [prefix + key for key in {**before, **now} if before.get(key) is not now.get(key)]
                now.clear()
                now.update(before)
            for key in {**own, **vars(part)}:
                if own.get(key, _ABSENT) is not vars(part).get(key, _ABSENT):
                    changed.append(prefix + key)
            vars(part).clear()
            vars(part).update(own)
        for one, own in self._objects:
            bound = vars(one)
            changed += [key for key in {**own, **bound} if own.get(key, _ABSENT) is not bound.get(key, _ABSENT)]
            bound.clear()
            bound.update(own)
        if state:
            raise NotCaptured(
                f"the forward pass binds {', '.join(state)} to another tensor, and a case holds writes only; "
                "write into it instead (x.copy_(new))"
            )
        return changed


class Subject:
    """A function or module with the arguments of its first call.

    Attributes:
        function: what is called.
        tensors: the distinct tensors among its arguments, in order of appearance.
        modules: the module that it is, or those that it reaches: of a closure, as globals, through objects.
        objects: of the user's classes that it reaches, whose attributes it may bind anew.
        found: tensors that it reaches outside of modules.
        notes: what a person should know of the arguments.

    Args:
        function: a callable.
        args: its arguments: tensors, plain values, and lists, tuples and dictionaries of them; objects stay what they
            are, and their tensors are found when they are used.
        kwargs: its keyword arguments.

    Raises:
        NotCaptured: an argument can be neither an input of a program nor written into it.
    """

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if not callable(function):
            raise NotCaptured(f"expected a function or a module, found {type(function).__name__}")
        self.function = function
        self.modules, self.found, self.objects = reached([function, *args, *kwargs.values()])
        for tensor in self.state():
            check_kind(tensor)
        self.notes: list[str] = []
        self._leaves, self._spec = leaves_of((tuple(args), dict(kwargs)))
        self.tensors: list[torch.Tensor] = []
        self._places: list[int | None] = []
        for leaf in self._leaves:
            self._places.append(self._place(leaf))
        # What exists before the function runs may become an input; what comes to be meanwhile, unseen, must not. The
        # collector lists what came after it was told to leave the rest alone: few objects, where before are millions.
        gc.freeze()

    def _place(self, leaf: Any) -> int | None:
        if isinstance(leaf, torch.Tensor):
            check_kind(leaf)
            if leaf.is_conj() or leaf.is_neg():
                raise NotCaptured("an argument is conjugated or negated lazily; give x.resolve_conj().resolve_neg()")
            for place, one in enumerate(self.tensors):
                if one is leaf:
                    return place
            self.tensors.append(leaf)
            return len(self.tensors) - 1
        if isinstance(leaf, PLAIN | None):
            if type(leaf) in (bool, int, float, complex, str):
                self.notes.append(f"the argument {leaf!r:.40} is written into the program")
        elif type(leaf).__module__.partition(".")[0] == "numpy":
            raise NotCaptured(f"an argument is a numpy.{type(leaf).__name__}; give torch.as_tensor of it")
        elif isinstance(leaf, Iterator):
            raise NotCaptured(f"an argument is a {type(leaf).__name__}, which the first call uses up; give a list")
        elif not callable(leaf):
            self.notes.append(
                f"the argument of class {type(leaf).__name__} stays what it is: its tensors become inputs where they "
                "are used, the rest is written into the program"
            )
        return None

    def state(self) -> list[torch.Tensor]:
        """Parameters and buffers of its modules; one that has several names once."""
        every = [one for module in self.modules for one in (*module.parameters(), *module.buffers())]
        return list({id(one): one for one in every}.values())

    @contextlib.contextmanager
    def asking(self, mode: Mode) -> Iterator[None]:
        """In inference no parameter asks for a gradient, as long as the context is open.

        A kernel is chosen by that even where gradients are off, and in a case of inference nothing asks.
        """
        asked = [one for one in self.state() if mode == "inference" and one.requires_grad and one.is_leaf]
        for one in asked:
            one.requires_grad_(False)
        try:
            yield
        finally:
            for one in asked:
                one.requires_grad_(True)

    @contextlib.contextmanager
    def leaving_no_gradients(self) -> Iterator[None]:
        """What ``.grad`` holds is put back when the context is left.

        Raises:
            NotCaptured: something else is there then.
        """
        before = [(one, one.grad) for one in (*self.state(), *self.found) if one.is_leaf]
        try:
            yield
        finally:
            changed = [(one, held) for one, held in before if one.grad is not held]
            for one, held in changed:
                one.grad = held
        if changed:
            raise NotCaptured(LEFT_BEHIND)

    def existed(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor was there before the function was run."""
        return not any(one is tensor for one in gc.get_objects())

    def close(self) -> None:
        """Let the collector look again at what was there before; nothing may be run any more."""
        gc.unfreeze()

    def kept(self) -> Sequence[torch.Tensor]:
        """All tensors that it may write to, as far as they are known."""
        return [*self.tensors, *self.state()]

    def __call__(self, tensors: Sequence[torch.Tensor]) -> Any:
        """Call it with other tensors in the place of its own."""
        pairs = zip(self._leaves, self._places, strict=True)
        leaves = [leaf if place is None else tensors[place] for leaf, place in pairs]
        args, kwargs = _pytree.tree_unflatten(leaves, self._spec)
        return refusal.call(self.function, args, kwargs)
