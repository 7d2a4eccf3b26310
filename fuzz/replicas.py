"""Replicas: the reference with other rounding errors than its own, as a right implementation may have them.

Each freshly computed result moves by at most one unit in the last place. That is all there is to an operator that
rounds once. One that adds up many terms rounds on the way, and where the terms cancel that shows far above the last
place of what is left: its operands move as well. Where another order of its terms may overflow, the
result is NaN, or zero.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus import script
from shakeout.corpus.case import Case
from shakeout.corpus.observation import Observation
from shakeout.corpus.program import Call
from shakeout.corpus.vocabularies import vocabulary
from shakeout.corpus.vocabularies.traits import Traits
from shakeout.fuzz.runs import observe
from shakeout.oracles import summation

if TYPE_CHECKING:
    import torch

__all__ = ["replica"]

#: What stands in replicas for a result that may be anything, in turn; infinities as well, because what comes later may
#: ask whether it equals one.
_OTHERS = (float("nan"), 0.0, 1.0, float("inf"), float("-inf"))


def replica(case: Case, number: int) -> Observation:
    """The reference with every freshly computed result moved by at most one unit in the last place, at random.

    Operands of what adds up many terms move for that operator alone, and only where it does not write to them.
    """
    import torch

    words = vocabulary(case.program.vocabulary)
    noise = torch.Generator("cpu").manual_seed(number)
    program, device = case.program, case.setting.device

    def run(operation: Call, values: Sequence[Any]) -> list[Any]:
        traits = words.traits(operation.operator)
        if not traits.addition:
            return words.call(operation, values)
        doubts = summation.doubtful(operation, values, words)
        terms = _terms(operation, values, traits)
        given = {number: _moved(tensor, noise) for number, tensor in terms.items()}
        versions = {number: tensor._version for number, tensor in given.items()}
        try:
            results = words.call(operation, [given.get(number, value) for number, value in enumerate(values)])
            written = any(given[number]._version != version for number, version in versions.items())
        except Exception:
            written = True  # nor does every operator take them
        if written:
            results = words.call(operation, values)
        # Numbers in two of five replicas: where the reference has none, only those are another one. And two of them,
        # because what comes later may make no number of zero: infinity times zero is none.
        other = _OTHERS[number % len(_OTHERS)]
        return [_without(*pair, other) for pair in zip(results, doubts, strict=True)] if doubts else results

    def prepare(network: Any) -> Callable[..., list[torch.Tensor]]:
        def moved(*given: torch.Tensor) -> list[torch.Tensor]:
            inputs = iter(given)
            parameters = iter(network.parameters() if isinstance(network, torch.nn.Module) else ())
            tensors = [next(parameters if one.role == "parameter" else inputs) for one in program.inputs]
            seen = {t.untyped_storage()._cdata for t in tensors}

            def after(call: Call, results: list[Any]) -> list[Any]:
                traits = words.traits(call.operator)
                return [_move(traits, result, seen, noise) for result in results]

            with contextlib.nullcontext() if device == "cpu" else torch.device(device):
                values: Sequence[torch.Tensor] = words.evaluate(program, tensors, after, run)
            return [values[i] for i in program.returns]

        return moved

    return observe(script.load(case), prepare=prepare)


def _floats(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and (value.dtype.is_floating_point or value.dtype.is_complex)


def _terms(operation: Call, values: Sequence[Any], traits: Traits) -> dict[int, torch.Tensor]:
    """Copies of a call's operands, those whose parts it adds up in floating point."""
    import torch

    operands = operation.operands()
    terms = {number: values[number].clone() for number in operands if _floats(values[number])}
    if traits.transforms and operands[0] not in terms:
        # Not what weighs them, which has to be whole numbers.
        terms[operands[0]] = values[operands[0]].to(torch.get_default_dtype())
    return terms


def _without(result: Any, doubt: torch.Tensor | None, other: float) -> Any:
    """A result that is something else where doubtful."""
    import torch

    if doubt is None or not bool(doubt.any()):
        return result
    with torch.no_grad():
        spoilt = torch.where(doubt, other, result.detach()).to(result.dtype)
    if result._version:
        result.data.copy_(spoilt)
        return result
    return torch.where(doubt, spoilt, result)


def _move(traits: Traits, result: Any, seen: set[int], noise: torch.Generator) -> Any:
    """A result with rounding errors, and with another NaN for NaN; views and what is not a float stay as they are."""
    if not _floats(result):
        return result
    key = result.untyped_storage()._cdata
    if key in seen and not traits.in_place:
        return result
    moved = _moved(result, noise, at_least=1.0 if traits.waves else 0.0)
    if traits.in_place:
        # Past autograd's version counter: the value that it saved is the one that was moved.
        result.data.copy_(moved)
        return result
    seen.add(moved.untyped_storage()._cdata)
    return moved


def _moved(tensor: torch.Tensor, noise: torch.Generator, at_least: float = 0.0) -> torch.Tensor:
    """Numbers moved by at most one unit in the last place, of themselves or of a magnitude; another NaN for NaN."""
    import torch

    def steps() -> torch.Tensor:
        return torch.randint(-1, 2, tensor.shape, generator=noise, device="cpu").to(tensor.device, torch.float64)

    factor = 1.0 + steps() * torch.finfo(tensor.dtype).eps
    # Eight-bit floats are not multiplied by anything.
    wide = tensor.to(torch.float64) if tensor.dtype.itemsize == 1 else tensor
    moved = (wide * factor.to(tensor.real.dtype if tensor.dtype.is_complex else torch.float64)).to(tensor.dtype)
    if at_least:
        moved = torch.where(tensor.abs() < at_least, tensor + at_least * (factor - 1.0), moved).to(tensor.dtype)
    if tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        # Which NaN an operator gives is nobody's promise; a program that reads its bits depends on it.
        other = torch.full((), -1, dtype=getattr(torch, f"int{8 * tensor.element_size()}")).view(tensor.dtype)
        moved = torch.where(torch.isnan(moved), other, moved)
    return moved
