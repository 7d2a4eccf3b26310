"""Replicas: the reference with other rounding errors than its own, as a right implementation may have them.

Each freshly computed result moves by at most one unit in the last place. That is all there is to an operator that
rounds once. One that adds up many terms rounds on the way, and where the terms cancel that shows far above the last
place of what is left: its operands move as well. Where another order of its terms may overflow, the
result is NaN, or zero.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus import script
from shakeout.corpus.case import Case
from shakeout.corpus.observation import Observation
from shakeout.corpus.program import Call
from shakeout.corpus.vocabularies import Vocabulary, kernel, vocabulary
from shakeout.corpus.vocabularies.operator import identify
from shakeout.corpus.vocabularies.traits import Traits
from shakeout.fuzz.running.definitions import DEFINITIONS
from shakeout.fuzz.running.runs import observe
from shakeout.oracles import summation

if TYPE_CHECKING:
    import torch

__all__ = ["replica"]

#: What stands in replicas for a result that may be anything, in turn; infinities as well, because what comes later may
#: ask whether it equals one.
_OTHERS = (float("nan"), 0.0, 1.0, float("inf"), float("-inf"))

#: Where terms cancel, the largest result is less than the norms of the operands allow; by how much is not known.
_TERMS = 8.0

#: Units in the last place by which operands are moved to see whether a result is near the border of the range.
_NEAR = 4.0


def replica(case: Case, number: int) -> Observation:
    """The reference with every freshly computed result moved by at most one unit in the last place, at random.

    Operands of what adds up many terms move for that operator alone, and only where it does not write to them.
    """
    import torch

    words = vocabulary(case.program.vocabulary)
    noise = torch.Generator("cpu").manual_seed(number)
    program, device = case.program, case.setting.device
    # A kernel that fuses operators of half precision may keep what is between them in single precision.
    fused = program.vocabulary == "kernel" and number % 2 == 1
    evaluate = kernel.evaluate_fused if fused else words.evaluate

    def run(operation: Call, values: Sequence[Any]) -> list[Any]:
        if ":" in operation.operator:
            return _by_norm(operation, values, words.call, _OTHERS[number % len(_OTHERS)], noise)
        # The other half does what the operator does inside, and a kernel of several that is fused is among it.
        if number % 2 == 0 and (found := _by_steps(operation, values, words, run, noise)) is not None:
            return found
        traits = words.traits(operation.operator)
        if not traits.addition:
            return _finite(operation, values, words.call(operation, values), words.call, noise)
        doubts = summation.doubtful(operation, values, words)
        terms = _terms(operation, values, traits)
        given = {number: _moved(tensor, noise) for number, tensor in terms.items()}
        # Numbers in two of five replicas: where the reference has none, only those are another one. And two of them,
        # because what comes later may make no number of zero: infinity times zero is none.
        other = _OTHERS[number % len(_OTHERS)]
        backward = _Backward(operation, values, words, other)
        given = {number: backward.watch(number, tensor) for number, tensor in given.items()}
        versions = {number: tensor._version for number, tensor in given.items()}
        try:
            results = words.call(operation, [given.get(number, value) for number, value in enumerate(values)])
            written = any(given[number]._version != version for number, version in versions.items())
        except Exception:
            written = True  # nor does every operator take them
        if written:
            results = words.call(operation, values)
        else:
            backward.begin(results)
        if doubts:
            results = [_without(*pair, other) for pair in zip(results, doubts, strict=True)]
        return results

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
                values: Sequence[torch.Tensor] = evaluate(program, tensors, after, run)
            return [values[i] for i in program.returns]

        return moved

    return observe(script.load(case), prepare=prepare)


def _by_norm(
    operation: Call,
    values: Sequence[Any],
    run: Callable[[Call, Sequence[Any]], list[Any]],
    other: float,
    noise: torch.Generator,
) -> list[Any]:
    """Results, and gradients of the operands, of a kernel whose errors are small beside its largest number only.

    Where something is not finite, all of them may be anything.
    """
    import torch

    operands = {n: values[n] for n in set(operation.operands()) if _floats(values[n])}
    finite = all(bool(torch.isfinite(tensor.detach()).all()) for tensor in operands.values())

    def blurred(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.numel():
            return tensor
        plain = tensor.detach()
        if not finite or not bool(torch.isfinite(plain).all()):
            found: torch.Tensor = _without(tensor, torch.ones_like(plain, dtype=torch.bool), other)
            return found
        return _moved(tensor, noise, at_least=float(plain.abs().max()) * _TERMS)

    given = dict(operands)
    for number, tensor in operands.items():
        if tensor.requires_grad and torch.is_grad_enabled():
            given[number] = tensor.view_as(tensor)
            given[number].register_hook(blurred)
    results = run(operation, [given.get(number, value) for number, value in enumerate(values)])
    return [blurred(result) if _floats(result) else result for result in results]


def _by_steps(
    operation: Call,
    values: Sequence[Any],
    words: Vocabulary,
    run: Callable[[Call, Sequence[Any]], list[Any]],
    noise: torch.Generator,
) -> list[Any] | None:
    """The result of an operator by its definition, each step of it moved; None where there is none that covers it."""
    import torch

    if ":" in operation.operator or identify(operation.operator).library or torch.is_autocast_enabled("cpu"):
        return None  # under autocast the steps compute in formats that the operator does not
    definition = DEFINITIONS.get(words.family(operation.operator))
    if definition is None:
        return None
    seen = {values[n].untyped_storage()._cdata for n in operation.operands()}

    def step(inner: Call, tensors: Sequence[Any], plain: Callable[[], Any]) -> Any:
        return _move(words.traits(inner.operator), run(inner, tensors)[0], seen, noise)

    try:
        args = [words.value(arg, values) for arg in operation.args]
        kwargs = {key: words.value(arg, values) for key, arg in operation.kwargs}
        with kernel.watching(step):
            return [definition(*args, **kwargs)]
    except Exception:
        return None


class _Backward:
    """The gradients of one call that adds up, which are sums as well, and may overflow in another order.

    Where they may, they are something else.
    """

    def __init__(
        self,
        operation: Call,
        values: Sequence[Any],
        words: Vocabulary,
        other: float,
    ) -> None:
        self._operation, self._values, self._words, self._other = operation, values, words, other
        self._given: dict[int, torch.Tensor] = {}
        self._watched: dict[int, torch.Tensor] = {}
        self._doubts: dict[int, torch.Tensor | None] | None = None

    def watch(self, number: int, tensor: torch.Tensor) -> torch.Tensor:
        """An operand whose gradient is looked at when it comes."""
        import torch

        if not tensor.requires_grad or not torch.is_grad_enabled():
            return tensor
        self._watched[number] = tensor.detach()
        passed = tensor.view_as(tensor) if tensor.is_leaf else tensor
        passed.register_hook(lambda gradient: self._without(number, gradient))  # type: ignore[no-untyped-call]
        return passed

    def begin(self, results: Sequence[Any]) -> None:
        """Look at the gradients of the results, from which those of the operands are made."""
        for place, result in enumerate(results):
            if self._watched and _floats(result) and result.requires_grad:
                result.register_hook(functools.partial(self._given.__setitem__, place))

    def _without(self, number: int, gradient: torch.Tensor) -> torch.Tensor:
        if self._doubts is None:
            self._doubts = summation.doubtful_gradients(
                self._operation, self._values, self._watched, self._given, self._words
            )
        found: torch.Tensor = _without(gradient, self._doubts.get(number), self._other)
        return found


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


def _finite(
    operation: Call,
    values: Sequence[Any],
    results: list[Any],
    run: Callable[[Call, Sequence[Any]], list[Any]],
    noise: torch.Generator,
) -> list[Any]:
    """Results of which some that just exceed the range are the largest number of the format instead, at random.

    Whether a result is the largest number or infinity is decided by its rounding errors, like the result of a
    comparison. Moving what is infinite leaves it infinite, so what is near the border is looked for in the operands:
    where those, moved towards zero or away from it by a few units in the last place, give a finite result.
    """
    import torch

    infinite = [_floats(r) and r.dtype.itemsize > 1 and bool(torch.isinf(r.detach()).any()) for r in results]
    operands = {n: values[n] for n in operation.operands() if _floats(values[n]) and values[n].dtype.itemsize > 1}
    # What it wrote to is not there any more as it was, and what it only passed on was not decided here.
    if not any(infinite) or not operands or any(r is t for r in results for t in operands.values()):
        return results
    if any(r._version for r in results if isinstance(r, torch.Tensor)):
        return results
    near: list[torch.Tensor | None] = [None] * len(results)
    for step in (-_NEAR, _NEAR):
        others = {n: _scaled(tensor.detach(), step) for n, tensor in operands.items()}
        try:
            with torch.no_grad():
                seen = run(operation, [others.get(n, value) for n, value in enumerate(values)])
        except Exception:
            return results  # not every operator takes other numbers
        for place, (result, other) in enumerate(zip(results, seen, strict=True)):
            if infinite[place] and other.shape == result.shape:
                found = torch.isinf(result.detach()) & torch.isfinite(other)
                earlier = near[place]
                near[place] = found if earlier is None else earlier | found
    return [
        result if mask is None else _within(result, mask, noise) for result, mask in zip(results, near, strict=True)
    ]


def _scaled(tensor: torch.Tensor, steps: float) -> torch.Tensor:
    """Numbers that are so many units in the last place larger; what is no number stays as it is."""
    import torch

    return torch.where(torch.isfinite(tensor), tensor * (1.0 + steps * torch.finfo(tensor.dtype).eps), tensor)


def _within(result: torch.Tensor, mask: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
    """A result with the largest number of its sign, where the mask and a coin say so."""
    import torch

    if result.dtype.is_complex or not bool(mask.any()):
        return result
    coin = torch.randint(0, 2, mask.shape, generator=noise, device="cpu").to(mask.device, torch.bool)
    largest = torch.finfo(result.dtype).max
    plain = result.detach()
    return _instead(result, torch.where(mask & coin, plain.clamp(-largest, largest), plain))


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
    return _instead(result, spoilt)


def _instead(result: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Other numbers in the place of a result, with the result's gradients: no right kernel has others there."""
    import torch

    class Instead(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, result: torch.Tensor) -> torch.Tensor:
            return other

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient

    found: torch.Tensor = Instead.apply(result)  # type: ignore[no-untyped-call]
    return found


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
