"""Programs and cases put together and changed: a builder, a rewriter, and what a change makes of the inputs.

While a program is changed, its values are known by their old numbers; the rewriter tells what stands for each, and
numbers the new program. Whether that means anything is not decided here: it is run (``generators.validity``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from shakeout.corpus.case import Case, InputSet, Storage, View
from shakeout.corpus.program import Arg, Call, Input, InvalidProgram, Program, Ref, Role, TensorType, mapped, reference
from shakeout.corpus.vocabularies import vocabulary

__all__ = [
    "Builder",
    "Fresh",
    "Numbered",
    "Rewriter",
    "alone",
    "assembled",
    "live",
    "numbered",
    "replaced",
    "rewritten",
    "with_inputs",
    "without_unused",
]

#: A call, and the number of its first result in the program that it comes from.
Numbered = tuple[Call, int]


class Builder:
    """A program while it is put together: inputs, then calls, each of which gives back the value that it makes.

    Args:
        inputs: those that are known; others may follow until the first call.
        vocabulary: of its operators.
    """

    def __init__(self, inputs: Iterable[Input] = (), vocabulary: str = "torch") -> None:
        self._inputs = list(inputs)
        self._calls: list[Call] = []
        self._types: list[TensorType | None] = [one.type for one in self._inputs]
        self._vocabulary = vocabulary

    @property
    def types(self) -> Sequence[TensorType | None]:
        """The type of every value so far, by number."""
        return self._types

    def input(self, type_: TensorType, role: Role = "input") -> Ref:
        """A further input.

        Raises:
            InvalidProgram: there are calls already, whose results would need other numbers.
        """
        if self._calls:
            raise InvalidProgram("the inputs of a program come before its calls")
        self._inputs.append(Input(type_, role))
        self._types.append(type_)
        return reference(len(self._types) - 1)

    def call(self, operator: str, args: tuple[Arg, ...], type_: TensorType, **more: Arg) -> Ref:
        """A further call with one result, of this type; ``more`` are its keyword arguments."""
        return self.append(Call(operator, args, tuple(sorted(more.items())), (type_,)))

    def append(self, call: Call) -> Ref:
        """A further call; gives the first of its results, the others follow it."""
        self._calls.append(call)
        self._types.extend(call.results)
        return reference(len(self._types) - len(call.results))

    def program(self, returns: Iterable[int]) -> Program:
        """The program that returns these values.

        Raises:
            InvalidProgram: a call or a return uses what is not defined before it.
        """
        return Program(tuple(self._inputs), tuple(self._calls), tuple(returns), self._vocabulary)


class Rewriter(Builder):
    """A program that is written anew from an old one, whose values it knows by their old numbers.

    Attributes:
        numbers: what stands for each old value: a value of the new program, or any other argument.

    Args:
        old: the program.
        inputs: numbers of those of its inputs that are left, in their new order; None for all.
    """

    def __init__(self, old: Program, inputs: Iterable[int] | None = None) -> None:
        chosen = range(len(old.inputs)) if inputs is None else tuple(inputs)
        super().__init__((old.inputs[number] for number in chosen), old.vocabulary)
        self._old = old
        self.numbers: dict[int, Arg] = {number: reference(place) for place, number in enumerate(chosen)}

    def moved(self, call: Call) -> Call:
        """A call of the old program with what stands for its operands.

        Raises:
            KeyError: nothing stands for one.
        """
        return mapped(call, self.numbers)

    def copy(self, call: Call, first: int) -> Ref:
        """Append a call of the old program, whose first result had this number; what stands for a result already stays.

        Raises:
            KeyError: nothing stands for one of its operands.
        """
        new = self.append(self.moved(call))
        for place in range(len(call.results)):
            self.numbers.setdefault(first + place, reference(new.index + place))
        return new

    def rewritten(self, returns: Iterable[int] | None = None) -> Program:
        """The new program, which returns what stands for these old values; None for those that the old one returned.

        Raises:
            InvalidProgram: that is no value.
            KeyError: nothing stands for one.
        """
        found = [self.numbers[number] for number in (self._old.returns if returns is None else returns)]
        if not all(isinstance(one, Ref) for one in found):
            raise InvalidProgram("a program returns values, not numbers")
        places = tuple(one.index for one in found if isinstance(one, Ref))
        return replace(self._old, inputs=tuple(self._inputs), calls=tuple(self._calls), returns=places)


def numbered(program: Program) -> Iterator[Numbered]:
    """Each call with the number of its first result."""
    return zip(program.calls, program.firsts(), strict=True)


def live(program: Program, positions: Iterable[int], returns: Iterable[int]) -> list[int]:
    """Those of some calls that a returned value depends on, or that write to something."""
    firsts, words = program.firsts(), vocabulary(program.vocabulary)
    wanted, found = set(returns), []
    for position in sorted(positions, reverse=True):
        call = program.calls[position]
        results = range(firsts[position], firsts[position] + len(call.results))
        if call.form == "none" or words.written(call) or wanted.intersection(results):
            found.append(position)
            wanted.update(call.operands())
    return found[::-1]


# --- cases ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fresh:
    """An input that takes the place of a result: for each input set its window and the storage behind it.

    ``places`` holds a view, whose storage is an old one's number, or a view with a new storage.
    """

    type: TensorType
    places: tuple[tuple[View, Storage | None], ...]


def assembled(
    case: Case, calls: Sequence[Numbered], returns: Iterable[int], fresh: Mapping[int, Fresh] | None = None
) -> Case | None:
    """A case made of some calls, with old numbers in them; inputs that nobody uses are gone.

    Args:
        case: where inputs and setting come from.
        calls: each with the old number of its first result.
        returns: old numbers; each is returned once.
        fresh: inputs that take the place of results, by old number.

    Returns:
        The case, or None if something is used that does not exist.
    """
    fresh = fresh or {}
    returned = list(dict.fromkeys(returns))
    used = {number for call, _ in calls for number in call.operands()} | set(returned)
    inputs = [number for number in range(len(case.program.inputs)) if number in used]
    given = [number for number in sorted(fresh) if number in used]
    writer = Rewriter(case.program, inputs)
    try:
        for number in given:
            writer.numbers[number] = writer.input(fresh[number].type)
        for call, first in calls:
            writer.copy(call, first)
        program = writer.rewritten(returned)
    except (InvalidProgram, KeyError):
        return None
    sets = []
    for position, inputs_of in enumerate(case.input_sets):
        storages, views = list(inputs_of.storages), [inputs_of.views[number] for number in inputs]
        for number in given:
            view, storage = fresh[number].places[position]
            if storage is not None:
                view = replace(view, storage=len(storages))
                storages.append(storage)
            views.append(view)
        sets.append(without_unused(InputSet(tuple(storages), tuple(views))))
    return replace(case, program=program, input_sets=tuple(sets))


def rewritten(case: Case, position: int, call: Call) -> Case | None:
    """The case with one call replaced by another one with as many results."""
    calls = list(numbered(case.program))
    calls[position] = (call, calls[position][1])
    return assembled(case, calls, case.program.returns)


def replaced(case: Case, values: Mapping[int, int], without: Collection[int] = ()) -> Case | None:
    """The case in which other values take the place of some, and without the calls in these positions."""
    types = case.program.types()
    arguments: dict[int, Arg] = {number: reference(values.get(number, number)) for number in range(len(types))}
    calls = [
        (mapped(call, arguments), first)
        for position, (call, first) in enumerate(numbered(case.program))
        if position not in without
    ]
    return assembled(case, calls, [values.get(number, number) for number in case.program.returns])


def with_inputs(case: Case, sets: Sequence[InputSet]) -> Case:
    """The case fed with other tensors; the types of its inputs follow the first set."""
    given = tuple(
        replace(one, type=TensorType(view.dtype, view.shape))
        for one, view in zip(case.program.inputs, sets[0].views, strict=True)
    )
    sets = [without_unused(inputs) for inputs in sets]
    return replace(case, program=replace(case.program, inputs=given), input_sets=tuple(sets))


def alone(case: Case, number: int) -> Case:
    """The case with one of its input sets as the only call."""
    return with_inputs(case, (case.input_sets[number],))


def without_unused(inputs: InputSet) -> InputSet:
    """The set without storages that nobody looks at."""
    used = sorted({view.storage for view in inputs.views})
    numbers = {storage: number for number, storage in enumerate(used)}
    views = tuple(replace(view, storage=numbers[view.storage]) for view in inputs.views)
    return InputSet(tuple(inputs.storages[number] for number in used), views)
