"""Passes over the network: fewer returned values, fewer and simpler operators, fewer inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from shakeout.corpus.case import Case
from shakeout.corpus.edit import Fresh, assembled, live, replaced, rewritten
from shakeout.corpus.program import Call, Ref, TensorType, references
from shakeout.corpus.vocabularies import Vocabulary, vocabulary
from shakeout.fuzz.minimise.edit import chunks, items_of, recorded
from shakeout.fuzz.minimise.ordinary import of_equals

__all__ = ["forwarded", "inlined", "merged", "outputs", "plainer", "plainer_calls", "removal", "unused"]

#: Gives the inputs that take the place of results of dropped calls; see ``edit.recorded``.
Record = Callable[[Case, frozenset[int]], "dict[int, Fresh] | None"]


def outputs(case: Case) -> Iterator[Case]:
    """Fewer returned values, and without the calls that only they needed."""
    program = case.program
    count = len(program.returns)
    # One value is what most failures show, and a network without any is rarely taken.
    singles = [[position] for position in range(count - 1, -1, -1)] if count > 1 else []
    fewer = [[p for p in range(count) if p not in chunk] for chunk in chunks(count)]
    for kept in [*singles, *fewer]:
        returns = [program.returns[position] for position in kept]
        if made := _of(case, live(program, range(len(program.calls)), returns), returns, {}):
            yield made


def unused(case: Case) -> Iterator[Case]:
    """Without the inputs that no call takes, which other passes leave where nothing else can go."""
    program = case.program
    made = _of(case, list(range(len(program.calls))), program.returns, {})
    if made is not None and len(made.program.inputs) < len(program.inputs):
        yield made


def removal(record: Record = recorded) -> Callable[[Case], Iterator[Case]]:
    """Fewer operators: of each run of calls the results that are still needed become inputs.

    What only the dropped calls needed goes with them. If a returned value goes, what it was computed from is returned;
    if what was written to a value goes, that is returned in another candidate. So one step cuts a network at its
    beginning, at its end or in the middle.
    """

    def passes(case: Case) -> Iterator[Case]:
        program, words = case.program, vocabulary(case.program.vocabulary)
        count = len(program.calls)
        for chunk in chunks(count):
            rest = [position for position in range(count) if position not in chunk]
            lost = [n for p in chunk if words.written(program.calls[p]) for n in program.calls[p].operands()]
            cuts = (_frontier(case, frozenset(chunk), more) for more in ([], lost))
            for returns in dict.fromkeys(map(tuple, cuts)):
                kept = live(program, rest, returns)
                if (made := _of(case, kept, returns, record)) is not None:
                    yield made
                # A call that writes to something may be in it only because it writes.
                least = [p for p in kept if not words.written(program.calls[p]) or _feeds(case, p, kept, returns)]
                if len(least) < len(kept) and (made := _of(case, least, returns, record)) is not None:
                    yield made

    return passes


def _of(case: Case, kept: list[int], returns: Sequence[int], record: Record | dict[int, Fresh]) -> Case | None:
    """The case with some of its calls only."""
    program = case.program
    fresh = record if isinstance(record, dict) else record(case, frozenset(kept))
    if fresh is None:
        return None
    firsts = program.firsts()
    return assembled(case, [(program.calls[position], firsts[position]) for position in kept], returns, fresh)


def _frontier(case: Case, dropped: frozenset[int], more: Sequence[int]) -> list[int]:
    """What is returned when calls are dropped: of each value that goes, the results that it was computed from.

    Args:
        case: before that.
        dropped: positions of calls.
        more: values that are returned as well, as if they had been before.
    """
    program = case.program
    start = len(program.inputs)
    producers = [position for position, call in enumerate(program.calls) for _ in call.results]
    types = program.types()
    found: list[int] = []
    pending, seen = [*program.returns, *more], set()
    while pending:
        number = pending.pop(0)
        if number in seen:
            continue
        seen.add(number)
        if number < start:
            # An input is no result; it is only returned if it was.
            if number in program.returns:
                found.append(number)
        elif producers[number - start] in dropped:
            pending.extend(program.calls[producers[number - start]].operands())
        elif types[number] is not None:
            found.append(number)
    return found


def _feeds(case: Case, position: int, kept: list[int], returns: Sequence[int]) -> bool:
    first = case.program.firsts()[position]
    results = range(first, first + len(case.program.calls[position].results))
    later = (case.program.calls[other].operands() for other in kept if other > position)
    return any(number in results for number in returns) or any(number in results for used in later for number in used)


def forwarded(case: Case) -> Iterator[Case]:
    """One operator less: whoever used its result uses an operand of the same type, or an earlier value of it."""
    program = case.program
    types, firsts = program.types(), program.firsts()
    for position in range(len(program.calls) - 1, -1, -1):
        call, first = program.calls[position], firsts[position]
        if len(call.results) > 1:
            continue
        operands = list(dict.fromkeys(call.operands()))
        candidates: list[int | None] = [n for n in operands if call.results and types[n] == call.results[0]]
        if not call.results:
            candidates = [None]
        for number in candidates:
            if made := replaced(case, {} if number is None else {first: number}, {position}):
                yield made


def plainer(case: Case) -> Iterator[Case]:
    """A simpler operator of the same type in place of another one."""
    words, types = vocabulary(case.program.vocabulary), case.program.types()
    for position, call in enumerate(case.program.calls):
        for simpler in plainer_calls(call, types, words):
            yield from _made(case, position, simpler)


def plainer_calls(call: Call, types: Sequence[TensorType | None], words: Vocabulary) -> Iterator[Call]:
    """Simpler operators of the same type, given the types of the values where the call stands."""
    if call.form != "tensor" or words.written(call):
        return
    operands = list(dict.fromkeys(call.operands()))
    same = [n for n in operands if types[n] == call.results[0]]
    shorter = words.spelled(call.operator)
    if shorter is not None:
        yield replace(call, operator=shorter)
    simplest = list(words.SIMPLEST)
    for operator in simplest[: simplest.index(call.operator) if call.operator in simplest else None]:
        count = words.SIMPLEST[operator]
        # What takes one operand passes it on, so that has to be of the result's type.
        chosen = (same if count == 1 else operands)[:count]
        if len(chosen) == count:
            yield Call(operator, tuple(map(Ref, chosen)), (), call.results)


def _made(case: Case, position: int, call: Call) -> Iterator[Case]:
    if made := rewritten(case, position, call):
        yield made


def merged(case: Case) -> Iterator[Case]:
    """One input in place of several of the same type: of all such, then of two."""
    given = case.program.inputs
    groups: dict[tuple[TensorType, str], list[int]] = {}
    for number, one in enumerate(given):
        groups.setdefault((one.type, one.role), []).append(number)
    several = [group for group in groups.values() if len(group) > 1]
    if sum(len(group) for group in several) > 2:
        yield from _merged(case, {number: group[0] for group in several for number in group[1:]})
    for group in several:
        for position, number in enumerate(group[1:], 1):
            for other in group[:position]:
                yield from _merged(case, {number: other})


def _merged(case: Case, into: dict[int, int]) -> Iterator[Case]:
    if made := replaced(case, into):
        yield made


def inlined(case: Case) -> Iterator[Case]:
    """A number in place of an input, where an operator has another operand as well, or the same one twice."""
    program, words = case.program, vocabulary(case.program.vocabulary)
    for position, call in enumerate(program.calls):
        if of_equals(call, words):
            yield from _made(case, position, replace(call, args=(call.args[0], 2, *call.args[2:])))
        if len(set(call.operands())) < 2:
            continue
        for place, arg in enumerate(call.args):
            if not isinstance(arg, Ref) or arg.index >= len(program.inputs) or place == 0:
                continue
            args = (*call.args[:place], _number(case, arg.index), *call.args[place + 1 :])
            if any(arg.index in references(other) for other in args):
                continue
            yield from _made(case, position, replace(call, args=args))


def _number(case: Case, number: int) -> int | float | bool | complex:
    """What stands for an input: its elements if they are one number, else 2, which is no operator's neutral element."""
    found: set[int | float | bool | complex] = set()
    for inputs in case.input_sets:
        view = inputs.views[number]
        storage = inputs.storages[view.storage]
        if storage.size > 64 or storage.dtype != view.dtype:
            return 2
        found.update(items_of(storage))
    if len(found) != 1:
        return 2
    (item,) = found
    return int(item) if isinstance(item, float) and item == item and abs(item) < 100 and item == int(item) else item
