"""What was grown as a program with its inputs: what it returns, its backward pass, and further calls of it.

A growth holds tensors and steps by number, some of which nothing needs. Here they become a program, whose backward pass
and whose other inputs the reference accepts as well.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from shakeout.corpus import standalone
from shakeout.corpus.case import Case, InputSet, Mode, Setting
from shakeout.corpus.codec import to_json
from shakeout.corpus.edit import Builder
from shakeout.corpus.observation import Observation
from shakeout.corpus.program import Call, Program, TensorType, renumbered
from shakeout.corpus.vocabularies import vocabulary as words_of
from shakeout.generators.choices import Choices
from shakeout.generators.growth import Growth, Step
from shakeout.generators.growth_config import GrowthConfig
from shakeout.generators.inputsets import Failed, input_set, relaid, repeated, replay, resized, untouched
from shakeout.generators.recipe import Grown, Recipe, Style
from shakeout.generators.values import Given

__all__ = ["Tell", "finished", "watched"]


@functools.lru_cache(1 << 14)
def _type(dtype: str, shape: tuple[int, ...]) -> TensorType:
    return TensorType(dtype, shape)


#: Told of a run by what it runs, and by the case that it would be.
Tell = Callable[[str, Callable[[], Case]], None]


def watched(growth: Growth, vocabulary: str, before_call: Callable[[str], None]) -> Tell:
    """Have somebody told of each call of a growth before it runs; gives what ``finished`` tells of whole programs."""
    tell = functools.partial(_told, before_call)
    growth.watched(lambda step: tell(step.operator, lambda: _so_far(growth, step, vocabulary)))
    return tell


def _told(before_call: Callable[[str], None], operator: str, case: Callable[[], Case]) -> None:
    before_call(json.dumps({"operator": operator, "case": to_json(case())}, sort_keys=True))


def _program(inputs: Sequence[Given], steps: Sequence[Step], returns: Sequence[int], vocabulary: str) -> Program:
    builder = Builder(vocabulary=vocabulary)
    for given in inputs:
        builder.input(_type(given.dtype, given.shape), "parameter" if given.parameter else "input")
    for step in steps:
        kwargs = tuple(sorted(step.kwargs)) if len(step.kwargs) > 1 else step.kwargs
        results = tuple([None if type_ is None else _type(*type_) for type_ in step.types])
        builder.append(Call(step.operator, step.args, kwargs, results, step.form))
    return builder.program(returns)


def _so_far(growth: Growth, step: Step, vocabulary: str) -> Case:
    """What was grown, with one call more, whose results nobody knows."""
    inputs, steps, numbers = _renumbered_all(growth)
    last = replace(step, first=len(growth.tensors))
    steps.append(_renumbered(last, {**numbers, last.first: len(numbers)}))
    live = [numbers[number] for number in growth.usable()]
    return Case(
        _program(inputs, steps, live[:1], vocabulary), (growth.input_set(),), Setting(words_of(vocabulary).REFERENCE)
    )


def finished(growth: Growth, recipe: Recipe, style: Style, vocabulary: str, tell: Tell | None = None) -> Grown:
    """What was grown as a program with its inputs: what it returns, a backward pass, and further calls of it.

    Args:
        growth: with at least one call.
        recipe: what is asked for.
        style: how it was grown.
        vocabulary: name of the operators' vocabulary.
        tell: told of each run of the program before it happens.
    """
    choices = growth.choices
    inputs, steps, returned = _numbered(growth)
    training = growth.config.training and any(given.requires_grad for given in inputs)
    overwrites = False
    calls: list[dict[str, Any]] = []
    returns = returned
    if training:
        calls, steps, returns, overwrites = _trained(growth, inputs, steps, returned, vocabulary, tell)
        training = bool(calls)
    if not training:
        calls.append(_seen(growth, inputs, returns))
    if growth.config.training and not training:
        inputs = [replace(given, requires_grad=False) if given.requires_grad else given for given in inputs]
        sets = [input_set(inputs)]
    else:
        sets = [growth.input_set()]
    program = _program(inputs, steps, returns, vocabulary)
    mode: Mode = "training" if training else "inference"
    dynamic = False
    again = functools.partial(_further, growth, steps, returns, inputs, training, calls, overwrites=overwrites)
    if tell is not None:
        again = functools.partial(
            again,
            before=lambda given: tell(
                "other inputs", lambda: Case(program, (*sets, given), Setting(words_of(vocabulary).REFERENCE, (), mode))
            ),
        )
    if recipe.dynamic or (recipe.dynamic is None and choices.boolean(_sized(growth.config, steps))):
        sets += again(2, change=resized)
        dynamic = len(sets) > 1
    if recipe.repeat or (recipe.repeat is None and not dynamic and choices.boolean(0.18)):
        free = not recipe.repeat and not any(step.kind.plain for step in steps)
        lies = free and choices.boolean(growth.config.relaid)
        shared = recipe.writes and not training
        sets += again(1, change=functools.partial(relaid, shared=shared) if lies else repeated)
    # An output of the first call that is a view of a parameter shows the step that the second one ends with.
    stepped = training and len(calls) > 1 and any(given.parameter for given in inputs)
    known = not stepped and (training or not growth.spoilt)
    made = {step.first + i for step in steps for i in range(len(step.types))}
    return Grown(
        program=program,
        input_sets=tuple(sets),
        mode=mode,
        style=style,
        exact=growth.sampler.kind == "integers" and all(given.values.kind != "uniform" for given in inputs),
        dynamic=dynamic,
        overwrites=overwrites,
        fed=tuple(step.operator for step in steps if any(operand in made for operand in step.operands)),
        proposed=len(growth.steps) + sum(growth.rejected.values()),
        rejected=dict(sorted(growth.rejected.items())),
        refused=tuple(growth.refused),
        reference=Observation(calls) if known else None,
    )


def _seen(growth: Growth, inputs: list[Given], returns: list[int]) -> dict[str, Any]:
    """What the reference showed while the program grew, as ``standalone.run`` tells it."""
    held = [growth.tensors[number] for number, given in growth.inputs if not given.parameter]
    held += [growth.tensors[number] for number, given in growth.inputs if given.parameter]
    old = [number for number, _ in growth.inputs] + [n for n, made in enumerate(growth.made) if made >= 0]
    return standalone.shown([growth.tensors[old[number]] for number in returns], [], held, untouched())


def _numbered(growth: Growth) -> tuple[list[Given], list[Step], list[int]]:
    """Inputs first, then results: the numbers of a program. While growing, values have the order of their making."""
    inputs, steps, numbers = _renumbered_all(growth)
    return inputs, steps, [numbers[number] for number in _returned(growth)]


def _renumbered_all(growth: Growth) -> tuple[list[Given], list[Step], dict[int, int]]:
    inputs = [given for _, given in growth.inputs]
    numbers = {old: new for new, (old, _) in enumerate(growth.inputs)}
    for number, made in enumerate(growth.made):
        if made >= 0:
            numbers[number] = len(numbers)
    return inputs, [_renumbered(step, numbers) for step in growth.steps], numbers


def _renumbered(step: Step, numbers: Mapping[int, int]) -> Step:
    return Step(
        step.operator,
        step.function,
        tuple([renumbered(arg, numbers) for arg in step.args]),
        tuple([(key, renumbered(value, numbers)) for key, value in step.kwargs]),
        tuple([numbers[operand] for operand in step.operands]),
        tuple([numbers[operand] for operand in step.written]),
        step.kind,
        step.form,
        numbers.get(step.first, step.first),
        step.types,
    )


def _returned(growth: Growth) -> list[int]:
    """What the program returns: what nobody used, and some of the rest, views and inputs among them."""
    choices = growth.choices
    dead_code = choices.boolean(0.04)
    returned = []
    candidates = growth.usable()
    for number in candidates:
        if growth.made[number] < 0:
            wanted = choices.boolean(0.03)
        elif growth.uses[number] == 0:
            wanted = not (dead_code and choices.boolean(0.5))
        else:
            wanted = choices.boolean(0.15)
        if wanted:
            returned.append(number)
    if not returned and candidates:
        returned.append(candidates[-1])
    return returned


def _trained(
    growth: Growth,
    inputs: list[Given],
    steps: list[Step],
    returns: list[int],
    vocabulary: str,
    tell: Tell | None,
) -> tuple[list[dict[str, Any]], list[Step], list[int], bool]:
    """Run forward and backward; a call that autograd does not take is left out, with all that needs it.

    Gives what the one call showed, or nothing where there is no backward pass; and whether that took copies of what
    was saved.
    """
    overwrites = False
    first = input_set(inputs)
    parameters: dict[int, torch.Tensor | None] = {n: None for n, given in enumerate(inputs) if given.parameter}
    for _ in range(3 if growth.config.overwrites else 2):
        if not steps or not returns:
            break
        if tell is not None:
            program = _program(inputs, steps, returns, vocabulary)
            tell("backward", lambda: Case(program, (first,), Setting(words_of(vocabulary).REFERENCE, (), "training")))  # noqa: B023
        try:
            shown, _ = replay(
                steps, first, special=growth.config.special, returns=returns, training=True, same_types=True,
                parameters=parameters, overwrites=overwrites,
            )  # fmt: skip
        except Failed as failure:
            if failure.overwritten and growth.config.overwrites and not overwrites:
                overwrites = True
                continue
            growth.note(f"training: {failure}")
            culprit = failure.step
            if culprit is None:
                writers = [number for number, step in enumerate(steps) if step.written]
                if not writers or str(failure) != "torch rejects the backward pass":
                    break
                culprit = writers[-1]
            steps, returns = _without(len(inputs), steps, returns, culprit)
        else:
            return [shown], steps, returns, overwrites
    _, steps, returns = _numbered(growth)
    return [], steps, returns, False


def _without(count: int, steps: list[Step], returns: list[int], culprit: int) -> tuple[list[Step], list[int]]:
    """The program without one call and all that depends on it."""
    gone: set[int] = set()
    numbers = {number: number for number in range(count)}
    kept = []
    for number, step in enumerate(steps):
        results = range(step.first, step.first + len(step.types))
        if number == culprit or not gone.isdisjoint(step.operands):
            gone.update(results)
            continue
        for result in results:
            numbers[result] = len(numbers)
        kept.append(_renumbered(step, numbers))
    left = [numbers[number] for number in returns if number not in gone]
    if not left and kept:
        last = kept[-1]
        left = [last.first + i for i, type_ in enumerate(last.types) if type_ is not None][:1]
    return kept, left


#: What makes the inputs of a further call of those of the first.
Change = Callable[[Choices, Sequence[Given]], "list[Given] | None"]


def _sized(config: GrowthConfig, steps: Sequence[Step]) -> float:
    """How often a program is called with other sizes: rather where a dimension is reduced, and calls are few."""
    reduces = any(step.kind.addition or step.kind.ties for step in steps)
    return 0.33 if config.relaid and reduces and len(steps) <= 4 else 0.12


def _further(
    growth: Growth,
    steps: list[Step],
    returns: list[int],
    inputs: list[Given],
    training: bool,
    calls: list[dict[str, Any]],
    wanted: int,
    *,
    change: Change,
    overwrites: bool,
    before: Callable[[InputSet], None] = lambda given: None,
) -> list[InputSet]:
    """Further input sets that the reference accepts; what it shows of them is added to ``calls``."""
    found: list[InputSet] = []
    if any(given.parameter for given in inputs) and (
        any(step.written for step in steps) or any(given.shares is not None for given in inputs)
    ):
        return found  # a parameter keeps what the call before left in it, and nothing here would know
    # A parameter that takes a step is another one in the next call.
    left: dict[int, torch.Tensor | None] = {number: None for number, given in enumerate(inputs) if given.parameter}
    again = functools.partial(
        replay, steps, special=growth.config.special, returns=returns, training=training, overwrites=overwrites
    )
    if left and training:
        _, left = again(input_set(inputs), same_types=True, parameters=left)
    for _ in range(3 * wanted):
        if len(found) == wanted:
            break
        changed = change(growth.choices, inputs)
        if changed is None:
            continue
        given = input_set(changed)
        if given in found:
            continue
        before(given)
        try:
            shown, left = again(given, same_types=change is not resized, parameters=left)
        except Failed:
            continue
        calls.append(shown)
        found.append(given)
    return found
