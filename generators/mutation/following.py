"""A case run again call by call while another program grows of it; what a change broke is repaired as it is met.

A call that torch does not take any more is tried with operands of the types that it had, and proposed anew by its rules
and records around an operand that it has; one that cannot be had is left out, and whoever used its results takes others
of their types. So whatever was changed, what comes out was run, and means something.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from shakeout.corpus.case import Case
from shakeout.corpus.program import Arg, Call, Name, TensorType, mapped, rebuilt, reference
from shakeout.generators.calls import Rejected
from shakeout.generators.growth import Growth
from shakeout.generators.proposals import place_by_rule
from shakeout.generators.sizes import scaled
from shakeout.generators.values import DTYPES, Given
from shakeout.generators.vocabularies.records import Record, Spread
from shakeout.generators.vocabularies.torch import Vocabulary

__all__ = ["Follower"]

#: Other operands of the same types before a new proposal, or the other way round.
_TYPES_FIRST = 0.5

#: Proposals of one operator.
_PROPOSALS = 3


class Follower:
    """Runs the calls of a case in a growth.

    Args:
        growth: where they are run.
        case: whose calls they are; without regions.
        given: its inputs; each is given when it is first used.
        vocabulary: from which calls are proposed anew.
        sizes: that were changed.
        dtypes: that were changed.
    """

    def __init__(
        self,
        growth: Growth,
        case: Case,
        given: Sequence[Given],
        vocabulary: Vocabulary,
        sizes: Mapping[int, int] | None = None,
        dtypes: Mapping[str, str] | None = None,
    ) -> None:
        self.growth, self.case, self.vocabulary = growth, case, vocabulary
        #: What stands for a value of the case, by its number.
        self.numbers: dict[int, int] = {}
        self.types: Sequence[TensorType | None] = case.program.types()
        self._given = given
        self._places: dict[int, int] = {}  # of inputs, their number among those of the growth
        self._sizes, self._dtypes = sizes or {}, dtypes or {}
        self._firsts = case.program.firsts()

    # --- values -----------------------------------------------------------------------------------------------------

    def value(self, number: int) -> int | None:
        """What stands for a value of the case; None where it is gone."""
        if number not in self.numbers and number < len(self._given):
            self._give(number)
        found = self.numbers.get(number)
        return None if found is None or found in self.growth.dead else found

    def _give(self, number: int) -> int:
        """Give an input, after the one whose storage it shares; its place among the growth's inputs."""
        if number not in self._places:
            given = self._given[number]
            if given.shares is not None:
                given = replace(given, shares=self._give(given.shares))
            self._places[number] = len(self.growth.inputs)
            self.numbers.setdefault(number, self.growth.give(given))
        return self._places[number]

    def type_of(self, value: int) -> TensorType:
        """The type of a value of the growth."""
        return TensorType(self.growth.dtypes[value], self.growth.shapes[value])

    def first(self, position: int) -> int:
        """Number of the first result of a call of the case."""
        return self._firsts[position]

    def stand(self, number: int, value: int) -> None:
        """From now on a value of the growth stands for one of the case."""
        self.numbers[number] = value

    # --- calls ------------------------------------------------------------------------------------------------------

    def follow(self, position: int) -> bool:
        """Run a call of the case again, repaired where it has to be; whether it, or one like it, is in the program."""
        return self.place(position, self.case.program.calls[position])

    def place(self, position: int, call: Call) -> bool:
        """Run a call in the place of one of the case, with the case's numbers in it."""
        for number in dict.fromkeys(call.operands()):
            self.value(number)  # inputs are given for good, and not as a part of what may be dropped
        changed = self._changed(call)
        if self.growth.attempt(functools.partial(self._as_it_stands, changed)):
            return self._bound(position)
        ways = [self._with_types, self._anew]
        for way in ways if self.growth.choices.boolean(_TYPES_FIRST) else reversed(ways):
            if way(changed):
                return self._bound(position)
        return False

    def propose(self, position: int, operators: Sequence[str]) -> bool:
        """Another operator in the place of a call of the case, on its first operand that is left."""
        call = self.case.program.calls[position]
        for operator in operators:
            if self._anew(replace(call, operator=operator)):
                return self._bound(position)
        return self.follow(position)

    def bind(self, position: int) -> bool:
        """The last call of the growth stands for a call of the case."""
        return self._bound(position)

    def _changed(self, call: Call) -> Call:
        """The call with sizes and dtypes among its arguments that follow what was changed."""
        if self._sizes:
            call = scaled(call, self._sizes, self.growth.words)
        if self._dtypes:
            names = {f"torch.{old}": f"torch.{new}" for old, new in self._dtypes.items()}

            def retyped(arg: Arg) -> Arg:
                return Name(names.get(arg.name, arg.name)) if isinstance(arg, Name) else arg

            args = tuple(rebuilt(arg, retyped) for arg in call.args)
            call = replace(call, args=args, kwargs=tuple((key, rebuilt(arg, retyped)) for key, arg in call.kwargs))
        return call

    def _as_it_stands(self, call: Call) -> None:
        values = {number: self.value(number) for number in call.operands()}
        if None in values.values():
            raise Rejected("an operand does not exist any more")
        self._run(call, {number: value for number, value in values.items() if value is not None})

    def _with_types(self, call: Call) -> bool:
        return self.growth.attempt(functools.partial(self._typed, call))

    def _typed(self, call: Call) -> None:
        """With a value of the same type in the place of each operand that is gone, or of another type than it was."""
        words = self.growth.words
        plain, writes = words.traits(call.operator).plain, set(words.written(call))
        values: dict[int, int] = {}
        for number in dict.fromkeys(call.operands()):
            value, type_ = self.value(number), self.types[number]
            assert type_ is not None
            wanted = TensorType(
                self._dtypes.get(type_.dtype, type_.dtype),
                tuple(self._sizes.get(size, size) for size in type_.shape),
            )
            if value is None or self.type_of(value) not in (wanted, type_):
                value = self.growth.operand(
                    wanted.dtype, wanted.shape, _spread(wanted), writes=number in writes, plain=plain
                )
            values[number] = value
        self._run(call, values)

    def _run(self, call: Call, values: Mapping[int, int]) -> None:
        moved = mapped(call, {number: reference(value) for number, value in values.items()})
        targets = self.growth.words.written(moved)
        if not all(map(self.growth.writable, targets)):
            raise Rejected("writes to a leaf")
        self.growth.run(moved.operator, moved.args, moved.kwargs, moved.operands(), targets)

    def _anew(self, call: Call) -> bool:
        """The same operator, called otherwise: with one of the operands that are left, by a rule or a record of it."""
        growth, choices, operator = self.growth, self.growth.choices, call.operator
        left = [value for number in dict.fromkeys(call.operands()) if (value := self.value(number)) is not None]
        if not left or not self._known(operator) or growth.words.traits(operator).plain:
            return False
        for _ in range(_PROPOSALS):
            value = left[0] if choices.boolean(0.8) else choices.pick(left)
            dtype, rank = growth.dtypes[value], len(growth.shapes[value])
            rules = [
                (rule, place)
                for rule in self.vocabulary.rules(operator)
                for place, (spread, own) in enumerate(zip(rule.spreads, rule.rule.variant.ranks, strict=True))
                if own == rank and spread.kind in ("any", "index") and dtype in rule.rule.dtypes.allowed(place)
            ]
            if rules and choices.boolean(0.7):
                rule, place = choices.pick(rules)
                if place_by_rule(growth, rule, None, (value, place)):
                    return True
                continue
            records = list(_taking(self.vocabulary.records(operator), dtype, rank))
            if not records:
                continue
            record, place = choices.pick(records)
            main = dtype if record.slots[place].dtype == "T" else next(iter(record.dtypes), "float32")
            if growth.place(record, main, (value, place)):
                return True
        return False

    def _known(self, operator: str) -> bool:
        try:
            self.vocabulary.records(operator)
        except KeyError:
            return False
        return True

    def _bound(self, position: int) -> bool:
        """What the growth's last call gave stands for what a call of the case gave."""
        step, results = self.growth.steps[-1], self.case.program.calls[position].results
        for place, (type_, old) in enumerate(zip(step.types, results, strict=False)):
            if type_ is not None and old is not None:
                self.numbers[self.first(position) + place] = step.first + place
        return True


def _taking(records: Sequence[Record], dtype: str, rank: int) -> Iterator[tuple[Record, int]]:
    """Where records take a value of a dtype and rank."""
    for record in records:
        for place, slot in enumerate(record.slots):
            if slot.spread.kind not in ("any", "index") or not (slot.rank == rank or record.ranks >> rank & 1):
                continue
            if dtype in (record.dtypes if slot.dtype == "T" else (slot.dtype,)):
                yield record, place


def _spread(type_: TensorType) -> Spread:
    """Values of a stand-in: whole numbers may be indices, so they are such as most indices may be."""
    dtype = DTYPES[type_.dtype]
    whole = not (dtype.is_floating_point or dtype.is_complex) and type_.dtype != "bool"
    return Spread("index", 0, 1) if whole else Spread()
