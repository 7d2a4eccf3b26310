"""What a planted fault is: an entry that says where it sits and what it does, and the two switches it is planted with.

A fault is planted from outside into the stock compiler of this process. FIX leaves the canary on and takes the effect
away; the CANARY records on its own whether the faulty code was reached and whether it changed anything, so that a fault
that no oracle reports has an owner: the generator (not reached), the values (not triggered), or the oracle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Mode, Scalar, Setting

Kind = Literal["real", "mutant", "trivial"]
Maker = Callable[[], list[torch.Tensor]]

#: How a fault shows, by its group; every fault belongs to one.
GROUPS = frozenset(
    {
        "aliasing",
        "mutation lost",
        "vector tail",
        "narrow-integer wrap",
        "rounding boundary",
        "NaN rule",
        "layout",
        "strides only",
        "backward only",
        "predicate dropped",
        "fusion guard",
        "arithmetic rewrite",
        "uninitialised memory",
        "constant folding dtype",
        "configuration only",
        "second call only",
        "dynamic shape only",
        "grid",
    }
)


@dataclass(slots=True)
class Canary:
    """What became of one planted fault.

    Attributes:
        effect: whether the fault does what it does; off, only the canary is there.
        reached: how often the faulty code ran.
        triggered: how often the run with the fault showed something else than the run without it.
    """

    effect: bool = True
    reached: int = 0
    triggered: int = 0


class Plant(Protocol):
    """The place where a fault sits, and what it does there."""

    def planted(self, canary: Canary) -> contextlib.AbstractContextManager[None]:
        """The stock compiler with the fault; afterwards it is the stock compiler again."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and a minimal program that triggers it.

    Attributes:
        name: unique.
        kind: ``real`` (from a public report), ``mutant`` (of a pass, a lowering or a kernel) or ``trivial``.
        group: what kind of wrong it is, one of ``GROUPS``.
        target: whose compiler it sits in.
        plant: where and what.
        program: a function of tensors that calls operators of torch.
        calls: makers of its inputs, one for each call.
        source: the public report, ``owner/repository#number``; empty for the others.
        mode: of the minimal case.
        knobs: of the minimal case.
        missed: who owns the miss where the oracles are known not to report the minimal case, and why.
    """

    name: str
    kind: Kind
    group: str
    target: str
    plant: Plant
    program: Callable[..., Any]
    calls: Sequence[Maker]
    source: str = ""
    mode: Mode = "inference"
    knobs: dict[str, Scalar] = field(default_factory=dict)
    missed: str = ""

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"fault {self.name!r} has the unknown group {self.group!r}")
        if (self.kind == "real") != bool(self.source):
            raise ValueError(f"fault {self.name!r}: a real fault names its report, and no other does")

    def case(self) -> Case:
        """The minimal case."""
        setting = Setting(self.target, tuple(sorted(self.knobs.items())), self.mode)
        return capture(self.program, *self.calls, setting=setting)

    @contextlib.contextmanager
    def active(self, *, fixed: bool = False) -> Iterator[Canary]:
        """Plant it; ``fixed`` leaves the effect away."""
        canary = Canary(effect=not fixed)
        with self.plant.planted(canary):
            yield canary


def planted(fault: Fault, fixed: bool = False) -> contextlib.AbstractContextManager[Canary]:
    """The stock compiler of a fault's target with the fault in it; ``fixed`` leaves the effect away."""
    return fault.active(fixed=fixed)


@contextlib.contextmanager
def listening(faults: Sequence[Fault]) -> Iterator[dict[str, Canary]]:
    """The canaries of many faults of one target, by name; none has an effect.

    Raises:
        ValueError: the faults belong to several targets.
    """
    if len({fault.target for fault in faults}) > 1:
        raise ValueError("canaries are listened to for one target at a time")
    with contextlib.ExitStack() as stack:
        yield {fault.name: stack.enter_context(fault.active(fixed=True)) for fault in faults}


def inputs(*tensors: torch.Tensor) -> Maker:
    """A maker of fresh copies: layout, sharing of nothing, ``requires_grad`` as given."""

    def make() -> list[torch.Tensor]:
        return [t.detach().clone(memory_format=torch.preserve_format).requires_grad_(t.requires_grad) for t in tensors]

    return make


def numbers(*shape: int, dtype: torch.dtype = torch.float32, grad: bool = False, scale: float = 0.25) -> torch.Tensor:
    """Distinct numbers around zero, none of them zero."""
    size = torch.Size(shape).numel()
    ramp = torch.arange(size, dtype=torch.float64) * 7 % (size + 1) - size // 2 + 0.5
    return (ramp * scale).to(dtype).reshape(shape).requires_grad_(grad)


# --- seeing whether two runs differ ----------------------------------------------------------------------------------


def twins(values: Sequence[Any]) -> list[Any]:
    """Copies of tensors with the same windows on the same shared storages; all else as it is."""
    storages: dict[int, torch.UntypedStorage] = {}
    copies: list[Any] = []
    for value in values:
        if not isinstance(value, torch.Tensor):
            copies.append(value)
            continue
        key = value.untyped_storage()._cdata
        if key not in storages:
            storages[key] = value.untyped_storage().clone()
        empty = torch.empty(0, dtype=value.dtype, device=value.device)
        copies.append(empty.set_(storages[key], value.storage_offset(), value.size(), value.stride()))
    return copies


def differ(a: Sequence[Any], b: Sequence[Any], given_a: Sequence[Any] = (), given_b: Sequence[Any] = ()) -> bool:
    """Whether two runs show different tensors, strides, owners of memory, or inputs afterwards."""
    return (
        len(a) != len(b)
        or any(_differ(x, y) for x, y in zip(a, b, strict=True))
        or any(_differ(x, y) for x, y in zip(given_a, given_b, strict=True))
        or _owners(a, given_a) != _owners(b, given_b)
    )


def _differ(a: Any, b: Any) -> bool:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return isinstance(a, torch.Tensor) != isinstance(b, torch.Tensor)
    if a.dtype != b.dtype or a.shape != b.shape or (a.numel() and a.stride() != b.stride()):
        return True
    return not torch.allclose(a.detach(), b.detach(), rtol=0, atol=0, equal_nan=True)


def _owners(tensors: Sequence[Any], given: Sequence[Any]) -> list[int]:
    """For each tensor the first one given whose storage it shares, or -1."""
    keys = [t.untyped_storage()._cdata if isinstance(t, torch.Tensor) else None for t in given]
    found = []
    for t in tensors:
        key = t.untyped_storage()._cdata if isinstance(t, torch.Tensor) else None
        found.append(keys.index(key) if key is not None and key in keys else -1)
    return found
