"""Calls as they are seen, and the program that they make once all of them were.

While a function runs, its values are known by numbers of the trace, which every scope shares; what a scope captures and
what of it is used outside is known at the end only. ``closed`` numbers them as programs do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from shakeout.corpus.program import Call, Form, Input, Program, Region, TensorType, references, renumbered

__all__ = ["Scope", "Seen", "closed", "reads"]


@dataclass(slots=True)
class Scope:
    """A list of calls: a program, the block of a ``with``, or the body of a branch or loop.

    Attributes:
        parameters: trace numbers of what a body is given.
        seen: its calls.
        returns: trace numbers of what a body gives back; those of a block follow from what is used behind it.
    """

    parameters: tuple[int, ...] = ()
    seen: list[Seen] = field(default_factory=list)
    returns: tuple[int, ...] = ()


@dataclass(slots=True)
class Seen:
    """A call whose operands and results have numbers of the trace.

    Attributes:
        call: with trace numbers in its arguments, and without regions; of a block without results.
        results: the trace number of each result.
        scopes: its regions.
        block: whether it is a ``with`` block.
    """

    call: Call
    results: tuple[int, ...] = ()
    scopes: tuple[Scope, ...] = ()
    block: bool = False


def closed(
    scope: Scope, inputs: Sequence[tuple[int, Input]], types: Mapping[int, TensorType | None], around: tuple[Call, ...]
) -> Program:
    """The program of a finished trace.

    Args:
        scope: the outermost; its ``returns`` are the program's.
        inputs: with their trace numbers.
        types: of every value, by trace number.
        around: blocks around the program.

    Raises:
        KeyError: a value of a branch or loop is used outside of it.
    """
    scope.seen = _without_idle_blocks(scope.seen)
    last = _last_uses(scope)
    numbers = {number: place for place, (number, _) in enumerate(inputs)}
    calls = _closed(_without_idle_blocks(scope.seen), numbers, last, types, [0])
    returns = tuple(numbers[number] for number in scope.returns)
    return Program(tuple(one for _, one in inputs), calls, returns, around=around)


def _without_idle_blocks(seen: Sequence[Seen]) -> list[Seen]:
    """The calls without blocks in which nothing happens."""
    kept = []
    for one in seen:
        for scope in one.scopes:
            scope.seen = _without_idle_blocks(scope.seen)
        if not one.block or one.scopes[0].seen:
            kept.append(one)
    return kept


def _walk(scope: Scope) -> Iterator[tuple[Seen, bool]]:
    """Every call in the order in which it happened; a block before and after what is in it."""
    for one in scope.seen:
        yield one, True
        for inner in one.scopes:
            yield from _walk(inner)
        yield one, False


def _last_uses(scope: Scope) -> dict[int, float]:
    """For each value the moment at which it is used last: the position of a call in ``_walk``."""
    found: dict[int, float] = {}
    for moment, (one, entering) in enumerate(_walk(scope)):
        if entering:
            found.update(dict.fromkeys(_operands(one), moment))
        for inner in one.scopes:
            found.update(dict.fromkeys(inner.returns, moment))
    found.update(dict.fromkeys(scope.returns, float("inf")))
    return found


def _operands(one: Seen) -> Iterator[int]:
    for arg in one.call.args:
        yield from references(arg)
    for _, value in one.call.kwargs:
        yield from references(value)


def _used(scope: Scope) -> Iterator[int]:
    """What a scope uses, in order, wherever that comes from."""
    for one in scope.seen:
        yield from _operands(one)
        for inner in one.scopes:
            yield from _used(inner)
    yield from scope.returns


def _defined(scope: Scope) -> Iterator[int]:
    """The values that exist in a scope: its parameters, and results, those of blocks in it too."""
    yield from scope.parameters
    for one in scope.seen:
        yield from one.results
        if one.block:
            yield from _defined(one.scopes[0])


def _everything(scope: Scope) -> Iterator[int]:
    """The values that come to exist anywhere within a scope."""
    yield from scope.parameters
    for one in scope.seen:
        yield from one.results
        for inner in one.scopes:
            yield from _everything(inner)


def _closed(
    seen: Sequence[Seen],
    numbers: dict[int, int],
    last: Mapping[int, float],
    types: Mapping[int, TensorType | None],
    clock: list[int],
) -> tuple[Call, ...]:
    """Calls with their scope's own numbers; ``numbers`` grows by their results, ``clock`` holds the moment."""
    calls = []
    size = max(numbers.values(), default=-1) + 1
    for one in seen:
        clock[0] += 1
        call, results = one.call, one.results
        if one.scopes:
            regions = []
            for scope in one.scopes:
                end = clock[0] + sum(1 for _ in _walk(scope))  # the moment at which the call is left
                if one.block:
                    results = tuple(n for n in _defined(scope) if last.get(n, -1) > end)
                regions.append(_region(scope, results if one.block else scope.returns, numbers, last, types, clock))
            call = replace(call, regions=tuple(regions))
        if one.block:
            form: Form = "sequence" if results else "none"
            call = replace(call, results=tuple(types[n] for n in results), form=form)
        clock[0] += 1
        calls.append(_moved(call, numbers))
        numbers.update({number: size + place for place, number in enumerate(results)})
        size += len(call.results)
    return tuple(calls)


def reads(scope: Scope) -> tuple[int, ...]:
    """The values that a scope takes from around it, by trace number."""
    own = set(_everything(scope))
    return tuple(dict.fromkeys(number for number in _used(scope) if number not in own))


def _region(
    scope: Scope,
    returns: tuple[int, ...],
    around: Mapping[int, int],
    last: Mapping[int, float],
    types: Mapping[int, TensorType | None],
    clock: list[int],
) -> Region:
    captures = reads(scope)
    numbers = {number: place for place, number in enumerate((*scope.parameters, *captures))}
    calls = _closed(scope.seen, numbers, last, types, clock)
    parameters = [types[number] for number in scope.parameters]
    given = tuple(one for one in parameters if one is not None)
    return Region(given, tuple(around[number] for number in captures), calls, tuple(numbers[n] for n in returns))


def _moved(call: Call, numbers: Mapping[int, int]) -> Call:
    kwargs = tuple((key, renumbered(value, numbers)) for key, value in call.kwargs)
    return replace(call, args=tuple(renumbered(arg, numbers) for arg in call.args), kwargs=kwargs)
