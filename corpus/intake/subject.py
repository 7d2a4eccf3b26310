"""What somebody hands over: a function or module and its arguments, as a callable of a flat list of tensors.

Parameters and buffers, and tensors that the source finds around it, are the very objects; their contents are put back
after every run, so that the user's module is what it was.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree

from shakeout.corpus.case import Mode
from shakeout.corpus.intake import refusal
from shakeout.corpus.intake.recorder import check_kind
from shakeout.corpus.intake.refusal import NotCaptured
from shakeout.corpus.standalone import memory

__all__ = ["Attributes", "Contents", "Subject", "leaves_of"]

_ABSENT = object()

#: Leaves of arguments that are no tensors and may be written into a program.
_PLAIN = (bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format)


def leaves_of(value: Any) -> tuple[list[Any], Any]:
    """The leaves of nested lists, tuples and dictionaries, and how they are nested."""
    leaves, spec = _pytree.tree_flatten(value)
    return list(leaves), spec


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
    """What a module's attributes are bound to now, to be bound to it again: a forward pass may cache, or count."""

    def __init__(self, module: torch.nn.Module | None) -> None:
        parts = {} if module is None else dict(module.named_modules())
        self._kept = [(name, part, self._bound(part)) for name, part in parts.items()]

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
        module: the module that it is, or is a method of; None for a function.
        notes: what a person should know of the arguments.

    Args:
        function: a callable.
        args: its arguments: tensors, plain values, and lists, tuples and dictionaries of them.
        kwargs: its keyword arguments.

    Raises:
        NotCaptured: an argument can be neither an input of a program nor written into it.
    """

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if not callable(function):
            raise NotCaptured(f"expected a function or a module, found {type(function).__name__}")
        self.function = function
        self.module = _module(function)
        for tensor in self.state().values():
            check_kind(tensor)
        self.notes: list[str] = []
        self._leaves, self._spec = leaves_of((tuple(args), dict(kwargs)))
        self.tensors: list[torch.Tensor] = []
        self._places: list[int | None] = []
        for leaf in self._leaves:
            self._places.append(self._place(leaf))
        # What exists before the function runs may become an input; what comes to be meanwhile, unseen, must not.
        # What was frozen, as a loaded vocabulary does with all that is there, is not among the objects.
        gc.unfreeze()
        self._before = {id(one): one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)}
        self._before |= {id(one): one for one in self.state().values()}

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
        if leaf is not None:
            if not isinstance(leaf, _PLAIN):
                raise NotCaptured(
                    f"an argument is a {type(leaf).__name__}; expected tensors, numbers, strings, dtypes and None, and "
                    "lists, tuples and dictionaries of them"
                )
            if isinstance(leaf, int | float | complex | str) and type(leaf) in (bool, int, float, complex, str):
                self.notes.append(f"the argument {leaf!r:.40} is written into the program")
        return None

    def state(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by name; one that has several names has one of them."""
        if self.module is None:
            return {}
        return {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}

    @contextlib.contextmanager
    def asking(self, mode: Mode) -> Iterator[None]:
        """In inference no parameter asks for a gradient, as long as the context is open.

        A kernel is chosen by that even where gradients are off, and in a case of inference nothing asks.
        """
        asked = [one for one in self.state().values() if mode == "inference" and one.requires_grad and one.is_leaf]
        for one in asked:
            one.requires_grad_(False)
        try:
            yield
        finally:
            for one in asked:
                one.requires_grad_(True)

    def existed(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor was there before the function was run."""
        return self._before.get(id(tensor)) is tensor

    def kept(self) -> Sequence[torch.Tensor]:
        """All tensors that it may write to, as far as they are known."""
        return [*self.tensors, *self.state().values()]

    def __call__(self, tensors: Sequence[torch.Tensor]) -> Any:
        """Call it with other tensors in the place of its own."""
        pairs = zip(self._leaves, self._places, strict=True)
        leaves = [leaf if place is None else tensors[place] for leaf, place in pairs]
        args, kwargs = _pytree.tree_unflatten(leaves, self._spec)
        return refusal.call(self.function, args, kwargs)


def _module(function: Any) -> torch.nn.Module | None:
    """The module that a callable belongs to."""
    if isinstance(function, torch.nn.Module):
        return function
    owner = getattr(function, "__self__", None)
    return owner if isinstance(owner, torch.nn.Module) else None
