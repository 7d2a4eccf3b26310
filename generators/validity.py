"""Whether a changed case means anything, and which types its results have: it is run call by call by the reference.

The rules are those under which programs grow. They are asked of a candidate only if the case that it was made of keeps
them, because a case that a person wrote need not.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from shakeout.corpus import codec
from shakeout.corpus.case import Case, InputSet
from shakeout.corpus.program import Arg, Call, Form, Program, Ref, Region, TensorType, everywhere, mapped
from shakeout.corpus.vocabularies import Vocabulary, modelled, structured, vocabulary
from shakeout.generators.sizes import scaled

if TYPE_CHECKING:
    import torch

    from shakeout.corpus.vocabularies.traits import Traits

__all__ = ["REQUIREMENTS", "InvalidCandidate", "Requirements", "validated"]


class InvalidCandidate(Exception):
    """The reference rejects the candidate, or what it computes is not defined."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What candidates have to keep.

    Attributes:
        defined: every result is determined by its operands, and nothing is drawn at random.
        finite: every number is finite and of ordinary size.
    """

    defined: bool = True
    finite: bool = True


#: From the strictest; those that the original keeps are asked of its candidates.
REQUIREMENTS = (Requirements(), Requirements(finite=False), Requirements(defined=False, finite=False))


# --- validating -----------------------------------------------------------------------------------------------------


def validated(case: Case, requirements: Requirements = REQUIREMENTS[0]) -> Case:
    """The case with the result types that it really has.

    Raises:
        InvalidCandidate: the reference rejects it, or it does not keep the requirements.
    """
    training = case.setting.mode == "training"
    valid = _run(case.program, case.input_sets[0], training, requirements, follow=True)
    for inputs in case.input_sets[1:]:
        again = _run(valid, inputs, training, requirements, follow=False)
        if [call.form for call in again.calls] != [call.form for call in valid.calls]:
            raise InvalidCandidate("another form of result in a later call")
        if [len(call.results) for call in again.calls] != [len(call.results) for call in valid.calls]:
            raise InvalidCandidate("another number of results in a later call")
    found = replace(case, program=valid)
    if not codec.stored(found):
        raise InvalidCandidate("it is larger than what can be stored")
    return found


def _run(program: Program, inputs: InputSet, training: bool, requirements: Requirements, *, follow: bool) -> Program:
    import torch

    from shakeout.generators.definedness import ordinary
    from shakeout.generators.inputsets import tensors_of

    words = vocabulary(program.vocabulary)
    try:
        given = tensors_of(inputs, training)
    except Exception as error:
        raise InvalidCandidate("torch rejects the inputs") from error
    types = []
    for one, tensor in zip(program.inputs, given, strict=True):
        if requirements.finite and not ordinary(tensor.detach()):
            raise InvalidCandidate("an input is not finite")
        type_ = _type(tensor)
        assert type_ is not None
        types.append(replace(one, type=type_))
    values: list[Any] = list(given)
    torch.default_generator.manual_seed(0)
    before = torch.default_generator.get_state()
    with torch.set_grad_enabled(training), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(structured.within(program, words.value))
        except (RuntimeError, TypeError, ValueError) as error:
            raise InvalidCandidate(f"torch rejects a block around it: {error}") from error
        calls, numbers = _calls(program.calls, values, training, requirements, words, follow=follow, typed=_type)
    if requirements.defined and not torch.equal(before, torch.default_generator.get_state()):
        raise InvalidCandidate("it draws random numbers")
    try:
        return replace(program, inputs=tuple(types), calls=calls, returns=_returned(program.returns, numbers))
    except ValueError as error:
        raise InvalidCandidate(str(error)) from None


def _returned(returns: Sequence[int], numbers: Mapping[int, Arg]) -> tuple[int, ...]:
    found = [numbers.get(number) for number in returns]
    if None in found:
        raise InvalidCandidate("a returned result does not exist any more")
    return tuple(one.index for one in found if isinstance(one, Ref))


def _calls(
    calls: Sequence[Call],
    values: list[Any],
    training: bool,
    requirements: Requirements,
    words: Vocabulary,
    *,
    follow: bool,
    typed: Callable[[Any], TensorType | None],
) -> tuple[tuple[Call, ...], dict[int, Arg]]:
    """The calls with the results that they really have, and where each old value is now; ``values`` grows by theirs."""
    numbers: dict[int, Arg] = {number: Ref(number) for number in range(len(values))}
    valid = []
    # Of results whose sizes their operands' values decide, from what they were to what they are. No pass knows them,
    # so where a later call names one, it follows here.
    sizes: dict[int, int] = {}
    old = len(values)
    for call in calls:
        try:
            moved = mapped(call, numbers)
        except KeyError:
            raise InvalidCandidate("an operand does not exist any more") from None
        try:
            moved, form, results, kept = _call(moved, values, training, requirements, words, follow=follow)
        except InvalidCandidate:
            follows = everywhere(moved, functools.partial(scaled, sizes=sizes, words=words))
            if follows == moved:
                raise
            moved, form, results, kept = _call(follows, values, training, requirements, words, follow=follow)
        found = [
            typed(tensor) if position < len(kept) and kept[position] else None
            for position, tensor in enumerate(results)
        ]
        for position, result in enumerate(call.results[: len(results)]):
            numbers[old + position] = Ref(len(values) + position)
            if result is None:
                found[position] = None  # it means nothing, as it did before
        if follow and not call.regions and _sized_by_values(moved, values, words):
            sizes |= _changes(call.results, found)
        valid.append(replace(moved, form=form, results=tuple(found)))
        old += len(call.results)
        values.extend(results)
    return tuple(valid), numbers


def _structured(
    call: Call, values: list[Any], training: bool, requirements: Requirements, words: Vocabulary, *, follow: bool
) -> tuple[Call, Any, list[Any], list[bool]]:
    """A call with regions: each region is validated where it runs first, or on copies if it does not run.

    What a loop's body computes has to be defined in every round.
    """
    import torch

    from shakeout.generators.calls import Rejected, read_results

    structure = structured.structures(words).get(call.operator)
    if structure is None:
        raise InvalidCandidate(f"{call.operator} takes no regions")
    found: dict[int, Region] = {}

    def inside(number: int, given: list[Any]) -> list[Any]:
        region = found.get(number, call.regions[number])
        try:
            parameters = [_value_type(value) for value in given[: len(region.parameters)]]
            if None in parameters:
                raise InvalidCandidate("a region is given what is no value")
            first = follow and number not in found
            calls, numbers = _calls(region.calls, given, training, requirements, words, follow=first, typed=_value_type)
            returns = _returned(region.returns, numbers)
            new = Region(tuple(filter(None, parameters)), region.captures, calls, returns)
        except (Rejected, ValueError) as error:
            raise InvalidCandidate(str(error)) from error
        if found.setdefault(number, new).returns != returns:
            raise InvalidCandidate("a region returns something else in a later round")
        return [given[one] for one in returns]

    try:
        results = structured.run(call, values, words.value, inside)
        for number in range(len(call.regions)):
            bound = structure.bound(call, number)
            if number not in found and bound is not None:
                copies = [t.detach().clone() if isinstance(t, torch.Tensor) else t for t in values]
                captured = [copies[one] for one in call.regions[number].captures]
                inside(number, [*(words.value(arg, copies) for arg in bound), *captured])
        if len(found) < len(call.regions):
            raise InvalidCandidate("a region never runs")
        form, results = read_results(results) if results else ("none", [])
    except (Rejected, RuntimeError, TypeError, IndexError, ValueError, NotImplementedError) as error:
        raise InvalidCandidate(str(error)) from error
    valid = replace(call, regions=tuple(found[number] for number in range(len(call.regions))))
    return valid, form, results, [isinstance(result, torch.Tensor) for result in results]


def _value_type(value: Any) -> TensorType | None:
    """The type of a region's value, which may be a number of Python."""
    return TensorType(f"python_{type(value).__name__}", ()) if type(value) in (bool, int, float) else _type(value)


def _call(
    call: Call, values: list[Any], training: bool, requirements: Requirements, words: Vocabulary, *, follow: bool
) -> tuple[Call, Any, list[Any], list[bool]]:
    """One call with its regions validated, its form and results, and which of them are defined values."""
    import torch

    from shakeout.generators.calls import Rejected, perform
    from shakeout.generators.definedness import after, before, ordinary, undefined_results

    if call.regions:
        return _structured(call, values, training, requirements, words, follow=follow)
    used = [values[number] for number in call.operands()]
    if used and any(type(value) in (bool, int, float) for value in used):
        return _on_numbers(call, values, words)
    try:
        kind, function = words.traits(call.operator), words.resolve(call.operator)
    except ValueError as error:
        raise InvalidCandidate(str(error)) from error
    targets = [values[number] for number in words.written(call)]
    if not all(isinstance(tensor, torch.Tensor) for tensor in used):
        raise InvalidCandidate("an operand is no tensor")
    try:
        if requirements.defined:
            reason = before(kind, used, targets, call.args, call.kwargs) or _twice(call, values, kind)
            if reason is not None:
                raise InvalidCandidate(reason)
        if modelled(words) is None:
            form, results = perform(function, call.args, call.kwargs, values)
        else:  # the results that the model asks for, and at whatever effort: it is nobody's proposal
            form, results = _asked(call, values, words)
        undefined: frozenset[int] = frozenset()
        if requirements.defined:
            with torch.no_grad():
                reason = after(used, targets, results)
                found = undefined_results(kind, used, results, training)
            if reason is not None or found is None:
                raise InvalidCandidate(reason or "equal elements make it ambiguous")
            undefined = found
        if requirements.finite:
            for tensor in (*results, *targets):
                if isinstance(tensor, torch.Tensor) and not ordinary(tensor.detach()):
                    raise InvalidCandidate("not finite")
    except (Rejected, RuntimeError, TypeError, IndexError, ValueError, NotImplementedError) as error:
        raise InvalidCandidate(str(error)) from error
    return call, form, results, [isinstance(t, torch.Tensor) and i not in undefined for i, t in enumerate(results)]


def _asked(call: Call, values: Sequence[Any], words: Vocabulary) -> tuple[Form, list[Any]]:
    """A node of a model, with None for the results that it does not ask for."""
    try:
        return call.form, words.call(call, values)
    except Exception as error:  # whatever its library says of it
        raise InvalidCandidate(str(error)) from error


def _on_numbers(call: Call, values: list[Any], words: Vocabulary) -> tuple[Call, Any, list[Any], list[bool]]:
    """A call on numbers that a loop carries, which is Python's and not torch's."""
    try:
        results = words.call(call, values)
    except Exception as error:  # whatever Python says of it
        raise InvalidCandidate(str(error)) from error
    return call, call.form, results, [True] * len(results)


def _sized_by_values(call: Call, values: Sequence[torch.Tensor], words: Vocabulary) -> bool:
    import torch

    if call.operator == "torch.Tensor.__getitem__":
        return any(values[number].dtype == torch.bool for number in call.operands())
    return words.traits(call.operator).sized_by_values


def _changes(before: Sequence[TensorType | None], after: Sequence[TensorType | None]) -> dict[int, int]:
    """Sizes that results had, and those that they have."""
    return {
        old: new
        for was, now in zip(before, after, strict=False)
        if was is not None and now is not None
        for old, new in zip(was.shape, now.shape, strict=False)
        if old != new
    }


def _twice(call: Call, values: Sequence[torch.Tensor], traits: Traits) -> str | None:
    """Why the order of writes would matter: two indices name one place."""
    import torch

    if "duplicates" not in traits.hazards:
        return None
    places = [values[number] for number in call.operands()]
    places = [t for t in places if t.dtype in (torch.int64, torch.int32) and t.numel() > 1]
    if traits.scatters:
        numbers = [arg for arg in (*call.args, *(value for _, value in call.kwargs)) if type(arg) is int]
        if not places or not numbers or not places[0].dim():
            return None
        index = places[0].sort(numbers[0]).values
        length = index.shape[numbers[0]]
        twice = bool((index.narrow(numbers[0], 1, length - 1) == index.narrow(numbers[0], 0, length - 1)).any())
    else:
        twice = any(torch.unique(t).numel() < t.numel() for t in places)
    return "two indices name one place" if twice else None


def _type(tensor: Any) -> TensorType | None:
    import torch

    from shakeout.generators.values import NAMES

    if not isinstance(tensor, torch.Tensor):
        return None
    if tensor.dtype not in NAMES or tensor.layout != torch.strided or tensor.is_quantized:
        raise InvalidCandidate("a result is no plain tensor")
    return TensorType(NAMES[tensor.dtype], tuple(map(int, tensor.shape)))
