"""Passes over regions: a block becomes its calls, a branch one of its ways, a loop one round; then less inside.

A body is what a program and a region have in common: values that are given, calls, and values that are returned. While
one is changed its values keep their old numbers, and new ones are numbered from ``NEW`` on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from shakeout.corpus.case import Case
from shakeout.corpus.edit import Numbered, numbered
from shakeout.corpus.program import Arg, Call, InvalidProgram, Ref, Region, TensorType, mapped
from shakeout.corpus.vocabularies import Vocabulary, vocabulary
from shakeout.corpus.vocabularies.structured import STRUCTURES
from shakeout.fuzz.minimise.edit import chunks
from shakeout.fuzz.minimise.graph import plainer_calls
from shakeout.fuzz.minimise.settings import simpler_calls

__all__ = ["around", "fewer", "moved_out", "simpler", "taken_in", "unwrapped"]

#: Numbers of values that a change makes.
NEW = 1 << 20


@dataclass(frozen=True, slots=True)
class Body:
    """The calls of a program or of a region.

    Attributes:
        given: how many values are there before them.
        calls: each with the number of its first result.
        returns: numbers of what is returned.
        types: of all values.
        put: the case with other calls and returned values in this place, whose numbers are the old ones.
        region: whether it is a region's.
        words: the vocabulary of its calls.
    """

    given: int
    calls: tuple[Numbered, ...]
    returns: tuple[int, ...]
    types: Sequence[TensorType | None]
    put: Callable[[Sequence[Numbered], Sequence[int]], Case | None]
    region: bool
    words: Vocabulary

    def used(self) -> set[int]:
        """The values that something uses."""
        return {number for call, _ in self.calls for number in call.operands()} | set(self.returns)


def bodies(case: Case) -> Iterator[Body]:
    """The program's body, then those of its regions, the outer ones first."""
    program, words = case.program, vocabulary(case.program.vocabulary)

    def put(calls: Sequence[Numbered], returns: Sequence[int]) -> Case | None:
        made = _numbered(words, len(program.inputs), calls, returns)
        try:
            return None if made is None else replace(case, program=replace(program, calls=made[0], returns=made[1]))
        except InvalidProgram:
            return None

    pairs = tuple(numbered(program))
    yield from _bodies(Body(len(program.inputs), pairs, program.returns, program.types(), put, False, words))


def _bodies(body: Body) -> Iterator[Body]:
    yield body
    for position, (call, _) in enumerate(body.calls):
        for number, region in enumerate(call.regions):
            yield from _bodies(_inner(body, position, number, region))


def _inner(body: Body, position: int, number: int, region: Region) -> Body:
    given = len(region.parameters) + len(region.captures)

    def put(calls: Sequence[Numbered], returns: Sequence[int]) -> Case | None:
        made = _numbered(body.words, given, calls, returns)
        if made is None:
            return None
        call, first = body.calls[position]
        new = _tidied(replace(region, calls=made[0], returns=made[1]))
        regions = (*call.regions[:number], new, *call.regions[number + 1 :])
        return body.put(_with(body, position, (replace(call, regions=regions), first)), body.returns)

    pairs = tuple(zip(region.calls, region.firsts(), strict=True))
    return Body(given, pairs, region.returns, region.types(body.types), put, True, body.words)


def _with(body: Body, position: int, *calls: Numbered) -> list[Numbered]:
    """The body's calls with others in place of one."""
    return [*body.calls[:position], *calls, *body.calls[position + 1 :]]


def _numbered(
    words: Vocabulary, given: int, calls: Sequence[Numbered], returns: Sequence[int]
) -> tuple[tuple[Call, ...], tuple[int, ...]] | None:
    """Calls and returned values with their final numbers, without calls that nobody needs."""
    wanted, kept = set(returns), []
    for call, first in reversed(calls):
        if words.written(call) or call.form == "none" or wanted.intersection(range(first, first + len(call.results))):
            kept.append((call, first))
            wanted.update(call.operands())
    numbers: dict[int, Arg] = {number: Ref(number) for number in range(given)}
    found, count = [], given
    try:
        for call, first in reversed(kept):
            found.append(mapped(call, numbers))
            numbers |= {first + place: Ref(count + place) for place in range(len(call.results))}
            count += len(call.results)
        returned = [numbers[number] for number in returns]
    except KeyError:
        return None
    return tuple(found), tuple(one.index for one in returned if isinstance(one, Ref))


def _tidied(region: Region) -> Region:
    """The region without what it captures and does not use, and with each value captured once."""
    count = len(region.parameters)
    used = {number for call in region.calls for number in call.operands()} | set(region.returns)
    kept = [n for n in dict.fromkeys(region.captures) if any(count + i in used for i in _places(region, n))]
    given = count + len(region.captures)
    numbers: dict[int, int] = {number: number for number in range(count)}
    for place, number in enumerate(region.captures):
        if number in kept:
            numbers[count + place] = count + kept.index(number)
    total = given + sum(len(call.results) for call in region.calls)
    numbers |= {number: number - given + count + len(kept) for number in range(given, total)}
    return _renumbered(region, tuple(kept), numbers)


def _places(region: Region, captured: int) -> list[int]:
    return [place for place, number in enumerate(region.captures) if number == captured]


def _renumbered(region: Region, captures: tuple[int, ...], numbers: Mapping[int, int]) -> Region:
    arguments: dict[int, Arg] = {old: Ref(new) for old, new in numbers.items()}
    calls = tuple(mapped(call, arguments) for call in region.calls)
    return replace(region, captures=captures, calls=calls, returns=tuple(numbers[number] for number in region.returns))


def _instead(body: Body, calls: Sequence[Numbered], numbers: Mapping[int, int]) -> Case | None:
    """The body with other calls, and some values in place of others."""
    known = set(range(len(body.types))) | {first + place for call, first in calls for place in range(len(call.results))}
    arguments: dict[int, Arg] = {number: Ref(numbers.get(number, number)) for number in known}
    changed = [(mapped(call, arguments), first) for call, first in calls]
    return body.put(changed, [numbers.get(number, number) for number in body.returns])


# --- without the structure --------------------------------------------------------------------------------------------


def around(case: Case) -> Iterator[Case]:
    """Without one of the blocks in which the program is called."""
    blocks = case.program.around
    for place in range(len(blocks)):
        yield replace(case, program=replace(case.program, around=blocks[:place] + blocks[place + 1 :]))


def unwrapped(case: Case) -> Iterator[Case]:
    """The calls of one region in place of what has it: a block's, one branch's, one round's of a loop."""
    for body in bodies(case):
        for position, (call, first) in enumerate(body.calls):
            for number, region in enumerate(call.regions):
                bound = STRUCTURES[call.operator].bound(call, number)
                if bound is None or len(region.returns) < len(call.results):
                    continue
                fresh = itertools.count(NEW)
                values: dict[int, Arg] = dict(enumerate((*bound, *map(Ref, region.captures))))
                try:
                    inner = list(_moved(region.calls, values, fresh))
                except KeyError:
                    continue
                results = [values[one] for one in region.returns[: len(call.results)]]
                given = {first + place: one.index for place, one in enumerate(results) if isinstance(one, Ref)}
                if made := _instead(body, _with(body, position, *inner), given):
                    yield made


def _moved(calls: Sequence[Call], values: dict[int, Arg], fresh: Iterator[int]) -> Iterator[Numbered]:
    """Calls in another body, given what their values are there; ``values`` grows by their results."""
    for call in calls:
        new = mapped(call, values)
        numbers = [next(fresh) for _ in call.results]
        yield new, numbers[0] if numbers else NEW
        values |= {len(values) + place: Ref(number) for place, number in enumerate(numbers)}


def moved_out(case: Case) -> Iterator[Case]:
    """One call moved out of a region: the first ones in front of it, the last ones of a block behind it."""
    for body in bodies(case):
        for position, (call, first) in enumerate(body.calls):
            for number, region in enumerate(call.regions):
                for place, inner in enumerate(region.calls):
                    if made := _hoisted(body, position, number, place, inner):
                        yield made
            if call.regions and STRUCTURES[call.operator].block and (made := _sunk(body, position, call, first)):
                yield made


def _hoisted(body: Body, position: int, number: int, place: int, inner: Call) -> Case | None:
    """A call that uses only what its region captures, in front of it."""
    call, first = body.calls[position]
    region = call.regions[number]
    count, given = len(region.parameters), len(region.parameters) + len(region.captures)
    if not inner.results or not all(count <= one < given for one in inner.operands()):
        return None
    if STRUCTURES[call.operator].custom:
        return None  # it captures nothing
    outside: dict[int, Arg] = {count + i: Ref(captured) for i, captured in enumerate(region.captures)}
    start = region.firsts()[place]
    own = range(start, start + len(inner.results))
    captures = (*region.captures, *range(NEW, NEW + len(own)))
    # The new captures come behind the old ones, and everything else behind those.
    total = given + sum(len(other.results) for other in region.calls)
    numbers = {old: old for old in range(given)} | {old: given + i for i, old in enumerate(own)}
    rest = [old for old in range(given, total) if old not in own]
    numbers |= {old: given + len(own) + i for i, old in enumerate(rest)}
    without = replace(region, calls=region.calls[:place] + region.calls[place + 1 :])
    new = _tidied(_renumbered(without, captures, numbers))
    regions = (*call.regions[:number], new, *call.regions[number + 1 :])
    return body.put(
        _with(body, position, (mapped(inner, outside), NEW), (replace(call, regions=regions), first)), body.returns
    )


def _sunk(body: Body, position: int, call: Call, first: int) -> Case | None:
    """The last call of a block behind it; the block returns what that takes from inside."""
    region = call.regions[0]
    if not region.calls or not region.calls[-1].results:
        return None
    last, start, captured = region.calls[-1], region.firsts()[-1], len(region.captures)
    types = region.types(body.types)
    kept = [(one, first + place) for place, one in enumerate(region.returns) if one < start]
    more = [one for one in dict.fromkeys(last.operands()) if one >= captured]
    returns = (*(one for one, _ in kept), *more)
    results = tuple(types[one] for one in returns)
    block = replace(
        call,
        results=results,
        form="sequence" if results else "none",
        regions=(_tidied(replace(region, calls=region.calls[:-1], returns=returns)),),
    )
    after = NEW + len(returns)
    outside: dict[int, Arg] = {one: Ref(number) for one, number in enumerate(region.captures)}
    outside |= {one: Ref(NEW + len(kept) + place) for place, one in enumerate(more)}
    given = {number: NEW + place for place, (_, number) in enumerate(kept)}
    given |= {first + place: after + one - start for place, one in enumerate(region.returns) if one >= start}
    calls = _with(body, position, (block, NEW), (mapped(last, outside), after))
    return _instead(body, calls, given)


# --- less inside ------------------------------------------------------------------------------------------------------


def fewer(case: Case) -> Iterator[Case]:
    """Fewer calls inside a region: what used their results uses an earlier value of the same type."""
    for body in bodies(case):
        if not body.region:
            yield from _unused(body)
            continue
        for chunk in chunks(len(body.calls)):
            rest = [pair for place, pair in enumerate(body.calls) if place not in chunk]
            start = body.calls[chunk[0]][1]
            numbers: dict[int, int] = {}
            for call, first in (body.calls[place] for place in chunk):
                for place, result in enumerate(call.results):
                    near = (one for one in (*call.operands(), *range(start)) if one < start)
                    same = next((one for one in near if result is not None and body.types[one] == result), None)
                    if same is not None:
                        numbers[first + place] = same
            if made := _instead(body, rest, numbers):
                yield made
        yield from _unused(body)
    yield from _spared(case)


def _spared(case: Case) -> Iterator[Case]:
    """A custom operator without an operand, whose part another one of its type takes where it has one."""
    for body in bodies(case):
        for position, (call, first) in enumerate(body.calls):
            operands = call.args[0] if call.regions and STRUCTURES[call.operator].custom else ()
            for place, operand in enumerate(operands if isinstance(operands, tuple) else ()):
                made = _without_operand(call, place) if isinstance(operand, Ref) else None
                if made and (case_ := body.put(_with(body, position, (made, first)), body.returns)):
                    yield case_


def _without_operand(call: Call, place: int) -> Call | None:
    """A custom operator without one of its operands; None where that is needed, or it gets lists, or has a backward."""
    if len(call.regions) > 1:
        return None
    (region,), operands = call.regions, call.args[0]
    written = call.args[1] if len(call.args) > 1 else ()
    if not isinstance(operands, tuple) or not isinstance(written, tuple) or len(operands) != len(region.parameters):
        return None
    type_, total = region.parameters[place], len(region.parameters) + sum(len(one.results) for one in region.calls)
    used = {number for inner in region.calls for number in inner.operands()} | set(region.returns)
    others = (other for other, one in enumerate(region.parameters) if other != place and one == type_)
    instead = next(others, None) if place in used else place
    if instead is None or (place in written and place in used) or len(operands) == 1:
        return None
    numbers = {old: old - (old > place) for old in range(total)}
    numbers[place] = numbers[instead] if instead != place else 0
    parameters = region.parameters[:place] + region.parameters[place + 1 :]
    kept = tuple(one - (one > place) for one in written if isinstance(one, int) and one != place)
    args: tuple[Arg, ...] = (operands[:place] + operands[place + 1 :], *((kept,) if kept else ()))
    return replace(call, args=args, regions=(_renumbered(replace(region, parameters=parameters), (), numbers),))


def _unused(body: Body) -> Iterator[Case]:
    """A result that nobody uses is not returned; of a loop, not carried either."""
    used = body.used()
    for position, (call, first) in enumerate(body.calls):
        if not call.regions:
            continue
        for place in range(len(call.results)):
            if first + place in used:
                continue
            made = _without_result(call, place)
            numbers = {first + other: NEW + other - (other > place) for other in range(len(call.results))}
            if made is not None and (case := _instead(body, _with(body, position, (made, NEW)), numbers)):
                yield case


#: Operators whose regions give each result by itself.
_EACH_BY_ITSELF = ("torch.cond", "torch.func.vmap", "torch.utils.checkpoint.checkpoint")


def _without_result(call: Call, place: int) -> Call | None:
    results = call.results[:place] + call.results[place + 1 :]
    form = "sequence" if results else "none"
    structure = STRUCTURES[call.operator]
    if structure.custom and len(call.regions) > 1:
        return None
    if structure.block or structure.custom or call.operator in _EACH_BY_ITSELF:
        if not results and call.operator in ("torch.cond", "torch.func.vmap"):
            return None
        regions = tuple(
            _tidied(replace(one, returns=one.returns[:place] + one.returns[place + 1 :])) for one in call.regions
        )
        return replace(call, results=results, form=form, regions=regions)  # type: ignore[arg-type]
    carried = call.args[0] if call.args else None
    if not call.operator.endswith("while_loop") or not isinstance(carried, tuple) or len(carried) <= max(place, 1):
        return None
    start = carried[place]
    if not isinstance(start, Ref):
        return None
    condition, body = (_captured(region, place, start.index) for region in call.regions)
    body = replace(body, returns=body.returns[:place] + body.returns[place + 1 :])
    args = (carried[:place] + carried[place + 1 :], *call.args[1:])
    regions = (_tidied(condition), _tidied(body))
    return replace(call, args=args, results=results, form=form, regions=regions)  # type: ignore[arg-type]


def _captured(region: Region, place: int, number: int) -> Region:
    """The region that captures a value which was a parameter."""
    count, given = len(region.parameters), len(region.parameters) + len(region.captures)
    total = given + sum(len(call.results) for call in region.calls)
    numbers = {old: old - (old > place) for old in range(given)} | {old: old for old in range(given, total)}
    numbers[place] = given - 1
    parameters = region.parameters[:place] + region.parameters[place + 1 :]
    assert len(parameters) == count - 1
    return _renumbered(replace(region, parameters=parameters), (*region.captures, number), numbers)


def taken_in(case: Case) -> Iterator[Case]:
    """An operand of a branch that its functions read as a free variable instead."""
    for body in bodies(case):
        for position, (call, first) in enumerate(body.calls):
            operands = call.args[1] if call.operator == "torch.cond" and len(call.args) > 1 else ()
            for place, operand in enumerate(operands) if isinstance(operands, tuple) else ():
                if isinstance(operand, Ref) and isinstance(operands, tuple):
                    regions = tuple(_tidied(_captured(region, place, operand.index)) for region in call.regions)
                    args = (call.args[0], operands[:place] + operands[place + 1 :])
                    new = replace(call, args=args, regions=regions)
                    if made := body.put(_with(body, position, (new, first)), body.returns):
                        yield made


def simpler(case: Case) -> Iterator[Case]:
    """A simpler operator, or fewer and simpler arguments, of one call inside a region."""
    for body in bodies(case):
        for position, (call, first) in enumerate(body.calls if body.region else ()):
            if call.regions:
                continue
            for new in (*plainer_calls(call, body.types, body.words), *simpler_calls(call, body.types, body.words)):
                if made := body.put(_with(body, position, (new, first)), body.returns):
                    yield made
