"""Replicas: the reference with other rounding errors than its own, as a right implementation may have them.

Each freshly computed result moves by at most one unit in the last place. That is all there is to an operator that
rounds once. One that adds up many terms rounds on the way, and where the terms cancel that shows far above the last
place of what is left: its operands move as well. Where another order of its terms may overflow, the
result is NaN, or zero; where its terms cancel, nothing may be left. What is below the smallest normal number may count
as zero in a product. Of a user's kernel it is open besides which zero it computes, whether what has no element has a
gradient, and what the gradient of a result is that is no number.
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
from shakeout.fuzz.running.backward import rounded
from shakeout.fuzz.running.decisions import at_the_border, compared, eliminated, undecided
from shakeout.fuzz.running.definitions import ALTERNATIVES, DEFINITIONS
from shakeout.fuzz.running.memory import Memory, reinterpreted
from shakeout.fuzz.running.rounding import (
    Noise,
    Others,
    absent,
    either_zero,
    floats,
    moved_numbers,
    normal,
    nothing,
    overwritten,
    replaced,
    scattered,
)
from shakeout.fuzz.running.runs import fed, observe
from shakeout.oracles import summation

if TYPE_CHECKING:
    import torch

__all__ = ["replica"]

#: Where terms cancel, the largest result is less than the norms of the operands allow; by how much is not known.
_TERMS = 8.0

#: What stands for numbers below the smallest normal one in the operands of products, in units of that, by the replica's
#: number modulo eight: processors take such a number of bfloat16 for zero (``VDPBF16PS``) or as it is, and which they
#: do shows where it is multiplied by infinity. The second is for a reference that takes it for zero.
_SUBNORMAL = {4: 0.0, 6: 1.0}

#: Replicas, by their number modulo eight, in which the operands of a user's kernel are not moved, only what is made of
#: them by its definition: where terms cancel, nothing is left of them, and that may be asked about.
_CANCELLING = (4, 6)


def replica(case: Case, number: int, *, conditioned: bool = False, units: int = 1) -> Observation:
    """The reference with every freshly computed result moved by at most a unit in the last place, at random.

    Operands of what adds up many terms move for that operator alone, and only where it does not write to them; if
    ``conditioned``, those of functions do as well. A right function may be that of a number one rounding error away, as
    next to a root: then its result is off by so much more as the function is ill-conditioned there. With more ``units``
    numbers move by as many in their last place.
    """
    import torch

    words = vocabulary(case.program.vocabulary)
    noise = Noise(number, units)
    program, device = case.program, case.setting.device
    # A kernel that fuses operators of half precision may keep what is between them in single precision.
    fused = program.vocabulary == "kernel" and number % 2 == 1
    evaluate = kernel.evaluate_fused if fused else words.evaluate
    definitions = {**DEFINITIONS, **ALTERNATIVES} if number % 4 == 2 else DEFINITIONS
    memory, other = Memory(()), Others(number, noise)
    # The call that runs, where it only moves numbers that no rounding error has moved, with the formats of those.
    copies: list[tuple[Call, set[torch.dtype]]] = []
    # The call that runs, where each of its results is a number that it was given or stays below one; with the same.
    chosen: list[tuple[Call, set[torch.dtype]]] = []

    # Whether any number may be something else altogether: what is asked about it is open as well.
    doubted = False

    def run(operation: Call, values: Sequence[Any]) -> list[Any]:
        traits = None if ":" in operation.operator else words.traits(operation.operator)
        results = once(operation, values)
        # Of the steps of a definition each was one meanwhile.
        chosen.clear()
        if traits is not None and traits.exactness in ("moves", "choices") and not traits.addition:
            chosen.append((operation, {values[n].dtype for n in operation.operands() if floats(values[n])}))
        if doubted and other.lost:
            return undecided(operation, values, results, noise)
        return results

    def once(operation: Call, values: Sequence[Any]) -> list[Any]:
        if ":" in operation.operator:
            return _by_norm(operation, values, words.call, other, noise)
        traits = words.traits(operation.operator)
        if traits.reinterprets and (read := reinterpreted(operation, values)) is not None:
            memory.reads(read, noise)
        copies.clear()
        if traits.exactness == "moves" and not any(memory.moved(values[n]) for n in operation.operands()):
            copies.append((operation, {values[n].dtype for n in operation.operands() if floats(values[n])}))
        if traits.exactness != "moves" and not words.written(operation):
            passed, behind = rounded(operation, values, noise)
            results = computed(traits, passed, behind)
            # What hands on its operand has not passed through anything.
            handed = {id(behind[n]): values[o] for n, o in zip(passed.operands(), operation.operands(), strict=True)}
            return [handed.get(id(result), result) for result in results]
        return computed(traits, operation, values)

    def computed(traits: Traits, operation: Call, values: Sequence[Any]) -> list[Any]:
        nonlocal doubted
        # The other half does what the operator does inside, and a kernel of several that is fused is among it.
        if number % 2 == 0:
            definition = definitions.get(words.family(operation.operator))
            if definition is not None and (found := _by_steps(definition, operation, values, words, run, noise)):
                return found
        if traits.compares:
            return compared(operation, values, words, memory.moved, noise)
        if traits.eliminates:
            return eliminated(operation, values, words.call, other, noise)
        if not traits.addition:
            if conditioned and not traits.exactness and not words.written(operation):
                values = [
                    moved_numbers(values[n], noise) if n in operation.operands() and floats(values[n]) else values[n]
                    for n in range(len(values))
                ]
            return at_the_border(operation, values, words.call(operation, values), words.call, noise)
        doubts, left = summation.doubtful(operation, values, words), summation.leftovers(operation, values, words)
        terms = _terms(operation, values, traits)
        given = {place: moved_numbers(tensor, noise) for place, tensor in terms.items()}
        if traits.addition == "products" and (least := _SUBNORMAL.get(number % 8)) is not None:
            given = {place: normal(tensor, least) for place, tensor in given.items()}
        backward = _Backward(operation, values, words, other)
        given = {place: backward.watch(place, tensor) for place, tensor in given.items()}
        versions = {place: tensor._version for place, tensor in given.items()}
        try:
            results = words.call(operation, [given.get(place, value) for place, value in enumerate(values)])
            written = any(given[place]._version != version for place, version in versions.items())
        except Exception:
            written = True  # nor does every operator take them
        if written:
            results = words.call(operation, values)
        else:
            backward.begin(results)
        if any(limit is not None for limit in left) and not written:
            with torch.no_grad():
                plain = words.call(operation, values)  # terms that are moved do not cancel any more
            found = [values[n].detach() for n in operation.operands() if floats(values[n])]
            results = [nothing(*three, found, noise) for three in zip(results, plain, left, strict=True)]
        if any(mask is not None and bool(mask.any()) for mask in doubts):
            doubted = True
            results = [replaced(*pair, other) for pair in zip(results, doubts, strict=True)]
        return results

    def prepare(network: Any) -> Callable[..., list[torch.Tensor]]:
        def moved(*given: torch.Tensor) -> list[torch.Tensor]:
            nonlocal memory
            inputs = iter(given)
            parameters = iter(network.parameters() if isinstance(network, torch.nn.Module) else ())
            tensors = [next(parameters if one.role == "parameter" else inputs) for one in program.inputs]
            memory = Memory(tensors)
            # Of the kernel that runs, as it is given them.
            operands: list[torch.Tensor] = []

            def after(call: Call, results: list[Any]) -> list[Any]:
                traits = words.traits(call.operator)
                formats = next((dtypes for one, dtypes in copies if one is call), None)
                bounds = next((dtypes for one, dtypes in chosen if one is call), None)
                if call is kernel.COPIED and number % 8 in _CANCELLING:
                    found = results
                    if floats(results[0]):
                        memory.moves(results[0])  # so are perhaps those that it is a copy of
                else:
                    found = [_move(traits, result, memory, noise, formats, bounds) for result in results]
                within = ":" in call.operator or call is kernel.UNNAMED
                if within:
                    found = [_of_kernel(result, memory, noise) for result in found]
                if number % 2 == 1 and (within or call is kernel.COPIED):
                    found = list(map(_apart, found))
                if call is kernel.COPIED:
                    operands.extend(found)
                elif ":" in call.operator:
                    if words.traits(kernel.meaning(call.operator)).addition not in ("products", "linear"):
                        _behind_nan(found, operands, other)
                    operands.clear()
                return found

            with contextlib.nullcontext() if device == "cpu" else torch.device(device):
                values: Sequence[torch.Tensor] = evaluate(program, tensors, after, run)
            return [values[i] for i in program.returns]

        return moved

    seen = observe(script.load(case), prepare=prepare)
    if seen.error is None or case.setting.mode != "training":
        return seen
    # Not everything that hands on its operand has a derivative, which the reference does not ask for where it gives
    # that very operand back. The values are known all the same.
    return observe(fed(script.load(case), _without_gradients), prepare=prepare)


def _without_gradients(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach() for tensor in tensors]


def _by_norm(
    operation: Call,
    values: Sequence[Any],
    run: Callable[[Call, Sequence[Any]], list[Any]],
    other: Others,
    noise: Noise,
) -> list[Any]:
    """Results, and gradients of the operands, of a kernel whose errors are small beside its largest number only.

    Where something is not finite, all of them may be anything.
    """
    import torch

    operands = {n: values[n] for n in set(operation.operands()) if floats(values[n])}
    finite = all(bool(torch.isfinite(tensor.detach()).all()) for tensor in operands.values())

    def blurred(tensor: torch.Tensor | None) -> torch.Tensor | None:
        if tensor is None or not tensor.numel():
            return tensor  # no gradient, or nothing
        plain = tensor.detach()
        if not finite or not bool(torch.isfinite(plain).all()):
            found: torch.Tensor = replaced(tensor, torch.ones_like(plain, dtype=torch.bool), other)
            return found
        return moved_numbers(tensor, noise, at_least=float(plain.abs().max()) * _TERMS)

    given = dict(operands)
    for number, tensor in operands.items():
        if tensor.requires_grad and torch.is_grad_enabled():
            given[number] = tensor.view_as(tensor)
            given[number].register_hook(blurred)
    results = run(operation, [given.get(number, value) for number, value in enumerate(values)])
    return [blurred(result) if floats(result) else result for result in results]


def _by_steps(
    definition: Callable[..., torch.Tensor],
    operation: Call,
    values: Sequence[Any],
    words: Vocabulary,
    run: Callable[[Call, Sequence[Any]], list[Any]],
    noise: Noise,
) -> list[Any] | None:
    """The result of an operator by its definition, each step of it moved; None where that does not cover the call."""
    import torch

    identity = identify(operation.operator)
    if ":" in operation.operator or identity.library or torch.is_autocast_enabled("cpu"):
        return None  # under autocast the steps compute in formats that the operator does not
    if identity.name.startswith("__") or words.written(operation):
        return None  # it may have its operands the other way round, or is not there for its result
    memory = Memory(values[n] for n in operation.operands())

    def step(inner: Call, tensors: Sequence[Any], plain: Callable[[], Any]) -> Any:
        return _move(words.traits(inner.operator), run(inner, tensors)[0], memory, noise)

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
        other: Others,
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
            if self._watched and floats(result) and result.requires_grad:
                result.register_hook(functools.partial(self._look, place))

    def _look(self, place: int, gradient: torch.Tensor | None) -> None:
        if gradient is not None:  # as it is of one of several results that nobody uses
            self._given[place] = gradient

    def _without(self, number: int, gradient: torch.Tensor | None) -> torch.Tensor | None:
        if gradient is None:
            return None
        if self._doubts is None:
            self._doubts = summation.doubtful_gradients(
                self._operation, self._values, self._watched, self._given, self._words
            )
        found: torch.Tensor = replaced(gradient, self._doubts.get(number), self._other)
        return found


def _terms(operation: Call, values: Sequence[Any], traits: Traits) -> dict[int, torch.Tensor]:
    """Copies of a call's operands, those whose parts it adds up in floating point."""
    import torch

    operands = operation.operands()
    terms = {number: values[number].clone() for number in operands if floats(values[number])}
    if traits.transforms and operands[0] not in terms:
        # Not what weighs them, which has to be whole numbers.
        terms[operands[0]] = values[operands[0]].to(torch.get_default_dtype())
    return terms


def _move(
    traits: Traits,
    result: Any,
    memory: Memory,
    noise: Noise,
    formats: set[torch.dtype] | None = None,
    bounds: set[torch.dtype] | None = None,
) -> Any:
    """A result with rounding errors, and with another NaN for NaN; views and what is not a float stay as they are.

    ``formats`` are those of the numbers that it is made of, if none of them was moved: then its bytes are known, and
    what is in the format that it had was not rounded. Of what is made of Python's numbers alone the set is empty.
    ``bounds`` are those of the numbers among which it is chosen: in the same format nothing that is finite can have
    overflowed on the way, and who takes numbers of the format's range alone may be given it.
    """
    if not floats(result):
        return result
    if memory.knows(result) and not traits.in_place:
        return result
    copied = formats is not None
    if formats is not None and formats <= {result.dtype}:
        memory.keep(result)
        return result
    within = bounds is not None and bounds <= {result.dtype}
    if traits.in_place:
        plain = result.detach()
        wide = memory.read(result) and not copied
        result = overwritten(result, scattered(plain, noise) if wide else moved_numbers(plain, noise, within=within))
    else:
        result = moved_numbers(result, noise, at_least=1.0 if traits.waves else 0.0, within=within)
    (memory.keep if copied else memory.moves)(result)
    return result


def _of_kernel(result: Any, memory: Memory, noise: Noise) -> Any:
    """A result of a user's kernel, with zeros of either sign."""
    if not floats(result) or result._version or not memory.moved(result):
        return result
    result = either_zero(result, noise)
    memory.moves(result)
    return result


def _behind_nan(results: Sequence[Any], operands: Sequence[torch.Tensor], other: Others) -> None:
    """Gradients of a user's kernel: anything for those that its results which are no numbers depend on.

    Where a function is no number it has no derivative, and what stands there is left of a formula. Not so of a sum of
    products, whose derivative is made of the other operands alone.
    """
    import torch

    asked = [one for one in operands if floats(one) and one.requires_grad]
    if not asked or not torch.is_grad_enabled():
        return
    lost = [
        (result, torch.where(torch.isnan(result.detach()), torch.nan, 0.0).to(result.dtype))
        for result in results
        if floats(result) and result.requires_grad and bool(torch.isnan(result.detach()).any())
    ]
    if not lost:
        return
    roots, cotangents = zip(*lost, strict=True)
    try:
        reached = torch.autograd.grad(roots, asked, cotangents, retain_graph=True, allow_unused=True)
    except RuntimeError:
        return  # not everything is differentiated twice
    for tensor, gradient in zip(asked, reached, strict=True):
        if gradient is not None and bool((mask := torch.isnan(gradient)).any()):
            tensor.register_hook(functools.partial(_spoilt, mask, other))  # type: ignore[no-untyped-call]


def _spoilt(mask: torch.Tensor, other: Others, gradient: torch.Tensor | None) -> torch.Tensor | None:
    found: torch.Tensor | None = None if gradient is None else replaced(gradient, mask, other)
    return found


def _apart(tensor: Any) -> Any:
    """What a user's kernel takes or gives, without its gradient if it has no element: that may be zero, or absent."""
    return absent(tensor) if floats(tensor) and not tensor.numel() and tensor.requires_grad else tensor
