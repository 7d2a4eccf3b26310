"""Passes over what a case runs under, and over the attributes of its operators."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from shakeout.corpus.case import Case, InputSet
from shakeout.corpus.edit import alone, rewritten, with_inputs
from shakeout.corpus.program import Arg, Call, Ref, Slice, TensorType
from shakeout.corpus.setting import RANDOM
from shakeout.corpus.vocabularies import Vocabulary, vocabulary
from shakeout.fuzz.ground.randomness import may_draw
from shakeout.fuzz.minimise import ordinary
from shakeout.fuzz.minimise.edit import chunks
from shakeout.fuzz.minimise.ordinary import Role, rank_of, role

__all__ = ["attributes", "call_sets", "device", "leaves", "setting"]


def call_sets(case: Case) -> Iterator[Case]:
    """Fewer calls of the same artefact: one, then without some of them."""
    count = len(case.input_sets)
    if count < 2:
        return
    for number in range(count):
        yield alone(case, number)
    for chunk in chunks(count):
        if 0 < len(chunk) < count - 1:
            yield _fed(case, tuple(inputs for number, inputs in enumerate(case.input_sets) if number not in chunk))


def _fed(case: Case, input_sets: tuple[InputSet, ...]) -> Case:
    return with_inputs(replace(case, input_sets=input_sets), input_sets)


def device(case: Case) -> Iterator[Case]:
    """The CPU, where everybody can run it."""
    if case.setting.device != "cpu":
        yield replace(case, setting=replace(case.setting, device="cpu"))


def setting(case: Case) -> Iterator[Case]:
    """Knobs at their defaults, all or one; inference; the usual cotangent."""
    old = case.setting
    needed = tuple(pair for pair in old.knobs if pair[0] == RANDOM and may_draw(case))
    if len(old.knobs) > 1 + len(needed):
        yield replace(case, setting=replace(old, knobs=needed))
    for name, _ in old.knobs:
        if (name, True) in needed:
            continue
        yield replace(case, setting=replace(old, knobs=tuple(pair for pair in old.knobs if pair[0] != name)))
    if old.mode == "training":
        yield replace(case, setting=replace(old, mode="inference"))
    if old.cotangent != "whole":
        yield replace(case, setting=replace(old, cotangent="whole"))


def leaves(case: Case) -> Iterator[Case]:
    """Parameters become inputs, and inputs want no gradient: all, then one."""
    program = case.program
    owned = [number for number, given in enumerate(program.inputs) if given.role == "parameter"]
    for chosen in ([owned] if len(owned) > 1 else []) + [[number] for number in owned]:
        inputs = tuple(
            replace(given, role="input") if number in chosen else given for number, given in enumerate(program.inputs)
        )
        yield replace(case, program=replace(program, inputs=inputs))
    wanted = [n for n in range(len(program.inputs)) if any(inputs.views[n].requires_grad for inputs in case.input_sets)]
    unneeded = wanted if case.setting.mode == "inference" else []
    for chosen in ([unneeded] if unneeded else []) + [[number] for number in wanted]:
        sets = tuple(
            replace(
                inputs,
                views=tuple(
                    replace(view, requires_grad=False) if number in chosen else view
                    for number, view in enumerate(inputs.views)
                ),
            )
            for inputs in case.input_sets
        )
        yield replace(case, input_sets=sets)


def attributes(case: Case) -> Iterator[Case]:
    """Arguments left out, so that they take their defaults; then simpler ones."""
    words, types = vocabulary(case.program.vocabulary), case.program.types()
    for position, call in enumerate(case.program.calls):
        for candidate in _fewer(call, words):
            if (made := rewritten(case, position, candidate)) is not None:
                yield made
    for position, call in enumerate(case.program.calls):
        fewer = len(list(_fewer(call, words)))
        for candidate in itertools.islice(simpler_calls(call, types, words), fewer, None):
            if (made := rewritten(case, position, candidate)) is not None:
                yield made


def simpler_calls(call: Call, types: Sequence[TensorType | None], words: Vocabulary) -> Iterator[Call]:
    """The call with fewer arguments, then with simpler ones, given the types of the values where it stands."""
    yield from _fewer(call, words)
    rank = rank_of(call, types)
    for place, arg in enumerate(call.args):
        for simpler in _simpler(arg, role(call, place, words), rank):
            yield replace(call, args=(*call.args[:place], simpler, *call.args[place + 1 :]))
    for place, (key, value) in enumerate(call.kwargs):
        for simpler in _simpler(value, role(call, key, words), rank):
            yield replace(call, kwargs=(*call.kwargs[:place], (key, simpler), *call.kwargs[place + 1 :]))


def _fewer(call: Call, words: Vocabulary) -> Iterator[Call]:
    """The call without some of its arguments; softmax and its like keep a dimension, without which torch warns."""
    last = [key for key in (*range(1, len(call.args)), *dict(call.kwargs)) if role(call, key, words) == "last"]
    for candidate in _shortened(call):
        left = {*range(len(candidate.args)), *dict(candidate.kwargs)}
        if left.issuperset(last):
            yield candidate


def _shortened(call: Call) -> Iterator[Call]:
    if len(call.kwargs) > 1:
        yield replace(call, kwargs=())
    if len(call.args) > 2:
        yield replace(call, args=call.args[:1])
    for place in range(len(call.kwargs)):
        yield replace(call, kwargs=call.kwargs[:place] + call.kwargs[place + 1 :])
    if len(call.args) > 1:
        yield replace(call, args=call.args[:-1])


def _simpler(arg: Arg, role: Role, rank: int | None) -> Iterator[Arg]:
    """Simpler arguments of the same kind, simplest first."""
    match arg:
        case None | Ref() | str():
            return
        case bool():
            if arg:
                yield False
        case int() | float():
            yield from ordinary.simpler(arg, role, rank)
        case complex():
            yield from (1, 2, arg.real, 0) if role == "factor" else (0, 1, arg.real)
        case tuple():
            yield from _shorter(arg, role, rank)
        case Slice(start, stop, step):
            for number, part in enumerate((start, stop, step)):
                for simpler in (None, *_simpler(part, "count", None)):
                    if part is not None:
                        parts = [start, stop, step]
                        parts[number] = simpler
                        yield Slice(*parts)


def _shorter(arg: tuple[Arg, ...], role: Role, rank: int | None) -> Iterator[Arg]:
    if len(set(map(repr, arg))) == 1 and isinstance(arg[0], int | float):
        yield arg[0]  # one number often stands for the same one in every dimension
    for place, item in enumerate(arg):
        if len(arg) > 1:
            yield arg[:place] + arg[place + 1 :]
        for simpler in _simpler(item, role, rank):
            yield (*arg[:place], simpler, *arg[place + 1 :])
