"""Switches of torch that change what an operator does: which stand how, and the blocks that turn them.

Gradient mode and autocast are no operators. A block that turns one is seen where it is entered, whoever wrote it (a
``with`` statement, a decorator, a module of somebody else's), and becomes a block of the program. Whether the switches
then stand as the blocks say is asked at every operator, so that nothing that turns them otherwise is lost silently.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import torch

from shakeout.corpus.intake.refusal import NotCaptured, here
from shakeout.corpus.program import Arg, Call, Name

__all__ = ["Switches", "ambient", "blocks"]

#: Devices whose autocast is looked at.
_DEVICES = ("cpu", "cuda")


class Switches(NamedTuple):
    """How the switches stand."""

    gradients: bool
    inference_mode: bool
    autocast: tuple[tuple[bool, torch.dtype], ...]
    autocast_cache: bool
    default_dtype: torch.dtype
    saved_tensor_hooks: bool
    transforms: int

    @classmethod
    def now(cls) -> Switches:
        """How they stand now."""
        return cls(
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            tuple((torch.is_autocast_enabled(name), torch.get_autocast_dtype(name)) for name in _DEVICES),
            torch.is_autocast_cache_enabled(),
            torch.get_default_dtype(),
            torch._C._autograd._top_saved_tensors_default_hooks(True) is not None,
            0 if (stack := torch._C._functorch.get_interpreter_stack()) is None else len(stack),
        )

    def unlike(self, other: Switches) -> NotCaptured | None:
        """Why a program cannot say that the switches stand thus, where the blocks around say that they stand so."""
        if self == other:
            return None
        if self.transforms != other.transforms:
            return NotCaptured(
                "it is inside of a function transform (torch.func: vmap, grad, jacrev), which a program does not hold",
                here(),
                lower=True,
            )
        if self.saved_tensor_hooks != other.saved_tensor_hooks:
            return NotCaptured(
                "hooks on saved tensors are active (checkpointing, offloading), and a program does not hold them; "
                "call it without torch.utils.checkpoint",
                here(),
            )
        names = {
            "gradients": "gradient mode",
            "inference_mode": "inference mode",
            "default_dtype": "the default dtype",
        }
        changed = [names.get(name, "autocast") for name, a, b in zip(self._fields, self, other, strict=True) if a != b]
        return NotCaptured(
            f"{' and '.join(dict.fromkeys(changed))} was switched by a call; a program holds with-blocks only "
            "(torch.no_grad, torch.enable_grad, torch.autocast)",
            here(),
        )


def ambient() -> tuple[Call, ...]:
    """The blocks around whoever calls now, as a program has them around it; gradient mode is the setting's.

    Raises:
        NotCaptured: a switch stands in a way that no block of a program says.
    """
    stand = Switches.now()
    found = [_autocast(name, dtype) for name, (enabled, dtype) in zip(_DEVICES, stand.autocast, strict=True) if enabled]
    if found and not stand.autocast_cache:
        raise NotCaptured("autocast stands without its cache around the call; a program does not hold that")
    if stand.default_dtype != torch.float32:
        raise NotCaptured(
            f"the default dtype is {stand.default_dtype}, and a program is run with torch.float32; give dtypes instead"
        )
    if stand.saved_tensor_hooks or stand.transforms:
        raise NotCaptured("hooks on saved tensors or a function transform stand around the call")
    return tuple(found)


def _autocast(device: str, dtype: torch.dtype) -> Call:
    return Call("torch.autocast", (device,), (("dtype", Name(str(dtype))),), (), "none")


@contextlib.contextmanager
def blocks(enter: Callable[[Call], None], leave: Callable[[Call], None]) -> Iterator[None]:
    """Tell of every block that turns a switch, as a call without results, for as long as the context is open."""
    with contextlib.ExitStack() as stack:
        for kind, say in _KINDS.items():
            for name in ("__enter__", "__exit__"):
                stack.enter_context(mock.patch.object(kind, name, _told(kind, name, say, enter, leave)))
        yield


def _told(
    kind: type,
    name: str,
    say: Callable[[Any], Call],
    enter: Callable[[Call], None],
    leave: Callable[[Call], None],
) -> Callable[..., Any]:
    own = getattr(kind, name)

    def told(self: Any, *error: Any) -> Any:
        found = own(self, *error)
        (enter if name == "__enter__" else leave)(say(self))
        return found

    return told


def _named(operator: str) -> Call:
    return Call(operator, (), (), (), "none")


def _say_autocast(block: Any) -> Call:
    kwargs: dict[str, Arg] = {"dtype": Name(str(block.fast_dtype))} if block._enabled else {"enabled": False}
    if not block._cache_enabled:
        kwargs["cache_enabled"] = False
    return Call("torch.autocast", (block.device,), tuple(sorted(kwargs.items())), (), "none")


#: What turns a switch for as long as it is open, and the block that says the same.
_KINDS: dict[type, Callable[[Any], Call]] = {
    torch.no_grad: lambda block: _named("torch.no_grad"),
    torch.enable_grad: lambda block: _named("torch.enable_grad"),
    torch.set_grad_enabled: lambda block: _named("torch.enable_grad" if block.mode else "torch.no_grad"),
    torch.autocast: _say_autocast,
}
