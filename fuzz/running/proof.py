"""The run that proves a case exact: its program in double precision beside a majorant of every value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import Case
from shakeout.corpus.observation import Observation
from shakeout.corpus.program import Call, Program, TensorType
from shakeout.corpus.vocabularies import vocabulary
from shakeout.oracles.exactness import LIMITS, majorised

if TYPE_CHECKING:
    import torch

__all__ = ["NotExact", "exact"]


class NotExact(Exception):
    """Why a case is not proven to be exact."""


def exact(case: Case, wide: dict[str, Any] | None, observe: Callable[..., Observation]) -> Observation:
    """The program in double precision, if all along the way only whole numbers below the limits of their formats occur.

    Args:
        case: a candidate of ``oracles.exactness``.
        wide: its text in double precision; None if it has none.
        observe: runs such a text.

    Returns:
        What the run shows; with an error, ``NotExact`` or another one, if nothing is proven.
    """
    program = vocabulary(case.program.vocabulary).widened(case.program)
    if wide is None or program is None:
        return Observation()

    def prepare(network: Any) -> Callable[..., list[torch.Tensor]]:
        import torch

        def proving(*given: torch.Tensor) -> list[torch.Tensor]:
            inputs = iter(given)
            parameters = iter(network.parameters() if isinstance(network, torch.nn.Module) else ())
            tensors = [next(parameters if one.role == "parameter" else inputs) for one in program.inputs]
            # What a call makes of nothing is made where the text of the case makes it.
            with torch.device(case.setting.device):
                return _Proof(case, program, tensors).run()

        return proving

    return observe(wide, prepare=prepare)


class _Proof:
    """Values and majorants of one call of a case."""

    def __init__(self, case: Case, program: Program, tensors: Sequence[torch.Tensor]) -> None:
        self._case, self._program = case, program
        self._words = vocabulary(program.vocabulary)
        self._training = case.setting.mode == "training"
        self._values: list[Any] = list(tensors)
        self._bounds: list[Any] = [self._bounding(tensor) for tensor in tensors]
        self._leaves = [bound for bound in self._bounds if bound.requires_grad]

    def run(self) -> list[torch.Tensor]:
        """The results; raises NotExact."""
        narrow = self._case.program.calls
        for call, written in zip(self._program.calls, narrow, strict=True):
            self._call(call, written.results)
        self._differentiate()
        return [self._values[number] for number in self._program.returns]

    def _bounding(self, tensor: torch.Tensor) -> torch.Tensor:
        from shakeout.corpus.standalone import memory, strided

        if not tensor.is_floating_point():
            return tensor
        # Magnitudes lie in memory as the values do, so that what is a view of one is a view of the other.
        held = memory(tensor).abs()
        window = strided(held, tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset())
        return window.detach().requires_grad_(tensor.requires_grad and self._training)

    def _call(self, call: Call, types: Sequence[TensorType | None]) -> None:
        floats = any(self._bounds[number].is_floating_point() for number in call.operands())
        # Majorants first: a write to whole numbers, which both have in common, then happens last.
        written = self._words.traits(call.operator).exactness == "choices"
        bounds = self._words.call(majorised(call, self._words), self._bounds) if floats and not written else None
        values = self._words.call(call, self._values)
        if bounds is None:
            bounds = [value.detach().abs() if _float(value) else value for value in values]
        for value, bound, type_ in zip(values, bounds, types, strict=True):
            if type_ is None:
                continue
            if _float(value):
                self._check(value, bound, type_.dtype)
        self._values += values
        self._bounds += [bound if _float(value) else value for value, bound in zip(values, bounds, strict=True)]

    def _check(self, value: torch.Tensor, bound: torch.Tensor, dtype: str) -> None:
        if dtype not in LIMITS:
            raise NotExact(f"whole numbers of {dtype} are not looked at")
        with_sign = bound.detach()
        if with_sign.numel() and bool((with_sign < 0).any()):
            if self._training:
                raise NotExact("a majorant is negative")
            with_sign.abs_()  # a constant that was filled in
        shown = value.detach()
        if shown.numel() and not bool((shown == shown.round()).all() & (with_sign <= LIMITS[dtype]).all()):
            raise NotExact("not a whole number, or one that its format may not hold")
        if bool((shown.abs() > with_sign).any()):
            raise NotExact("a majorant is less than its value")
        if bound.requires_grad:
            self._watch(bound, LIMITS[dtype])

    def _watch(self, bound: torch.Tensor, limit: float) -> None:
        bound.register_hook(lambda gradient: self._bounded(gradient, limit))  # type: ignore[no-untyped-call]

    def _bounded(self, gradient: torch.Tensor, limit: float) -> torch.Tensor:
        if bool((gradient < 0).any()) or not bool((gradient <= limit).all()):
            raise NotExact("a gradient is larger than its format may hold")
        return gradient

    def _differentiate(self) -> None:
        """The backward pass on majorants, from the largest magnitude that it starts with."""
        import torch

        roots = [self._bounds[n] for n in self._program.returns if _float(self._bounds[n])]
        roots = [root for root in roots if root.requires_grad]
        if not roots or not self._leaves:
            return
        for leaf, given in zip(self._leaves, self._limits(), strict=True):
            self._watch(leaf, given)
        ones = [torch.full_like(root, 2.0) for root in roots]
        torch.autograd.grad(roots, self._leaves, ones, allow_unused=True)

    def _limits(self) -> list[float]:
        dtypes = [one.type.dtype for one in self._case.program.inputs]
        return [
            LIMITS[dtype]
            for dtype, bound in zip(dtypes, self._bounds[: len(dtypes)], strict=True)
            if bound.requires_grad
        ]


def _float(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.is_floating_point()
