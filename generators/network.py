"""Grows programs, operator by operator, on real tensors; every program is valid by construction.

Two styles. ``small`` programs of one to three operators cross operator, record, dtype, layout, alias, value, attribute
and size, every operator as likely as every other; some begin with a write that takes a few calls more, or are made of
constants. A ``network`` has ten operators or more, most of which take what another operator produced.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from shakeout.corpus import standalone
from shakeout.corpus.case import Case, InputSet, Mode, Setting
from shakeout.corpus.codec import to_json
from shakeout.corpus.edit import Builder
from shakeout.corpus.observation import Observation
from shakeout.corpus.program import Call, Program, TensorType, renumbered
from shakeout.corpus.vocabularies import vocabulary as words_of
from shakeout.generators import views
from shakeout.generators.choices import Choices
from shakeout.generators.growth import Growth, Step
from shakeout.generators.growth_config import GrowthConfig
from shakeout.generators.inputsets import Failed, input_set, relaid, repeated, replay, resized, untouched
from shakeout.generators.numbers import Reach
from shakeout.generators.observers import observe
from shakeout.generators.overwrites import overwrite
from shakeout.generators.proposals import place_by_rule
from shakeout.generators.rules.trace import Trace
from shakeout.generators.values import Given, InputSampler
from shakeout.generators.vocabularies.ruled import Ruled
from shakeout.generators.vocabularies.torch import Takers, Vocabulary
from shakeout.generators.writes import write

__all__ = ["Grown", "Recipe", "finished", "follow", "grow", "watched"]

Style = Literal["small", "network"]
ValuesKind = Literal["integers", "uniform", "special"]

#: A prime that no vocabulary's size is a multiple of, so that successive indices visit all operators in mixed order.
STRIDE = 7919
#: Proposals for each operator that is wanted, before a network is left as short as it is.
PATIENCE = 8


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is asked for; what is None is drawn.

    Attributes:
        style: ``small`` or ``network``.
        operators: how many.
        mode: ``inference`` or ``training``; a case whose backward pass is rejected becomes inference all the same.
        dynamic: further input sets with other sizes.
        repeat: a further input set with other values.
        values: kind of the inputs.
        index: number of the case; small programs then visit every operator in turn.
        avoid: operators that are left out.
        foreign: dtypes that are left out.
        refused: operators with dtypes of their operands of which no call is proposed.
        writes: whether inputs may be written to.
        overwrites: whether calls may write to what the backward pass needs, which eager refuses.
        only: the operators that are proposed; None for all. Small programs then draw theirs whatever ``index`` is.
    """

    style: Style | None = None
    operators: int | None = None
    mode: Mode | None = None
    dynamic: bool | None = None
    repeat: bool | None = None
    values: ValuesKind | None = None
    index: int | None = None
    avoid: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    refused: frozenset[tuple[str, tuple[str, ...]]] = frozenset()
    writes: bool = True
    overwrites: bool = False
    only: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.operators is not None and not 1 <= self.operators <= 1000:
            raise ValueError(f"a recipe asks for 1 to 1000 operators, not {self.operators}")


@dataclass(frozen=True, slots=True)
class Grown:
    """A program that the reference accepts, with its inputs.

    Attributes:
        program: the program.
        input_sets: its input sets; the first is the one it was grown on.
        mode: ``training`` only if the backward pass ran as well.
        style: how it was grown.
        exact: every input is made of small whole numbers.
        dynamic: the further input sets have other sizes.
        overwrites: calls write to what the backward pass needs; the reference kept copies of that.
        fed: the operators that took another operator's result, once for each call.
        proposed: how many calls were tried.
        rejected: how many of them were dropped, by reason.
        refused: some of those that torch rejected.
        reference: what the reference showed of each call while the program grew; None if that is not what it shows.
    """

    program: Program
    input_sets: tuple[InputSet, ...]
    mode: Mode
    style: Style
    exact: bool
    dynamic: bool
    overwrites: bool
    fed: tuple[str, ...]
    proposed: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[Trace, ...] = ()
    reference: Observation | None = field(default=None, compare=False, repr=False)


def grow(
    choices: Choices,
    recipe: Recipe,
    vocabulary: Vocabulary,
    before_call: Callable[[str], None] | None = None,
) -> Grown:
    """Grow one program.

    Args:
        choices: makes every decision; the same choices, versions and learnt rules give the same program.
        recipe: what is asked for.
        vocabulary: operators, their records, and rules where some were learnt.
        before_call: told of each run of a call or a program before it happens, as a line of JSON with the case that it
            would be, so that a crash leaves a case behind.
    """
    if recipe.only is not None:
        vocabulary, recipe = vocabulary.within(recipe.only), replace(recipe, index=None)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        style: Style = recipe.style or ("small" if choices.boolean(0.55) else "network")
        growth = _growth(choices, recipe, style, vocabulary)
        tell = None if before_call is None else watched(growth, vocabulary.name, before_call)
        if style == "small":
            _small(growth, recipe, vocabulary)
        else:
            _network(growth, recipe, vocabulary)
        if growth.config.overwrites:
            overwrite(growth, vocabulary)
        if not growth.steps:
            growth.unrestricted()  # a program without a call is none
            growth.place(vocabulary.fallback, "float32")
        return finished(growth, recipe, style, vocabulary.name, tell)


def _growth(choices: Choices, recipe: Recipe, style: Style, vocabulary: Vocabulary) -> Growth:
    """An empty program and how it will be drawn."""
    small = style == "small"
    kind: ValuesKind = choices.weighted(_VALUES) if recipe.values is None else recipe.values
    training = recipe.mode == "training" or (recipe.mode is None and choices.boolean(0.3))
    config = GrowthConfig(
        reuse=0.25 if small else 0.6,
        resize=choices.pick((0.0, 0.3, 0.7)),
        zero=choices.pick((0.0, 0.0, 0.0, 0.1)),
        large=small and choices.boolean(0.03),
        mutate=choices.pick((0.0, 0.3, 0.6)) if small else 0.08,
        share=choices.pick((0.0, 0.0, 0.0, 0.4)),
        mix=choices.pick((0.0, 0.0, 0.3)) if small else 0.04,
        number=choices.pick((0.0, 0.0, 0.3)) if small else 0.04,
        parameter=choices.pick((0.0, 0.4)) if training or not small else 0.0,
        derive=0.8 if small else 0.1,
        training=training,
        special=kind == "special",
        writes=recipe.writes,
        overwrites=training and recipe.overwrites,
        ruled=choices.pick(_RULED if small else _RULED_IN_NETWORKS) if vocabulary.ruled else 0.0,
    )
    if vocabulary.forms:
        config = replace(config, **_widened(choices, recipe, small=small, whole=kind == "integers"))
        if config.constants >= 1 and recipe.values is None and choices.boolean(0.5):
            kind, config = "special", replace(config, special=True, reach="any")
    odd = choices.pick((0.0, 0.4, 0.8))
    sampler = InputSampler(choices, kind, odd if vocabulary.forms else 0.0)
    if vocabulary.forms:
        sampler.few = 0.25
        sampler.magnitudes = choices.pick((0.0, 0.0, 0.5)) if kind != "integers" else 0.0
    if not vocabulary.forms:
        sampler.literal = LITERAL
    config = vocabulary.config(config)
    words = words_of(vocabulary.name)
    return Growth(choices, sampler, config, recipe.avoid, recipe.foreign, recipe.only, words, recipe.refused)


def _widened(choices: Choices, recipe: Recipe, *, small: bool, whole: bool) -> dict[str, Any]:
    """How far numbers go, and how often what is rare comes on purpose.

    Where only some operators are asked for, numbers stay such as keep whole numbers whole.
    """
    reach: Reach = "plain"
    if recipe.only is None and not (whole and choices.boolean(0.5)):
        reach = choices.pick(("ordinary", "ordinary", "any"))
    constants = choices.weighted(((0.0, 0.9), (1.0, 0.07), (0.5, 0.03))) if small else 0.0
    return {
        "reach": reach,
        "constants": constants if recipe.operators is None else 0.0,
        "domains": 0.25,
        "ignore": 0.4,
        "followed": FOLLOWED,
        "observed": 0.3 if small else 0.08,
        "relaid": 0.65,
    }


#: Of the operators that come behind another, so many are known to come behind it: in networks that people write, or in
#: what compilers look for. Ten of them then come each some sixty times as often as one in twelve hundred would.
FOLLOWED = 0.55

#: How often a small program begins with a write that is hard to get right.
WRITES = 0.14

#: How often a small program begins with one of the few operators that leave out a place. One in two hundred would be
#: one of them otherwise, and most of those would leave out nothing.
IGNORING = 0.06

#: How often an operand has the very elements that were recorded, where those are sizes, axes or places in the ONNX
#: model: others are mostly rejected.
LITERAL = 0.9
#: Recorded calls remain: they have values and attributes that no rule speaks of.
_RULED = (0.75, 0.9, 0.5)
#: Less often there: a call that is solved for takes half as long again as one that was recorded.
_RULED_IN_NETWORKS = (0.5, 0.75, 0.25)
_VALUES: tuple[tuple[ValuesKind, float], ...] = (("integers", 0.4), ("uniform", 0.35), ("special", 0.25))


# --- styles ----------------------------------------------------------------------------------------------------------


def _small(growth: Growth, recipe: Recipe, vocabulary: Vocabulary) -> None:
    """One operator crossed with everything, with a view or a constant before it or something after it."""
    choices = growth.choices
    count = recipe.operators or choices.weighted(((1, 0.3), (2, 0.35), (3, 0.35)))
    growth.derive(choices.integer(0, count - 1))
    for attempt in range(10):
        if _main(growth, recipe, vocabulary, attempt):
            break
    growth.derive(0)
    for _ in range(4 * count):
        if len(growth.steps) >= count:
            break
        follow(growth, vocabulary, _tip(growth), 0.45)


def _main(growth: Growth, recipe: Recipe, vocabulary: Vocabulary, attempt: int) -> bool:
    choices = growth.choices
    # These are several calls, so not where somebody says how many there should be.
    if vocabulary.forms and not attempt and recipe.operators is None and choices.boolean(WRITES) and write(growth):
        return True
    if vocabulary.forms and choices.boolean(0.12):
        return _formed(growth)
    # Another record of the operator that is due before another operator.
    if recipe.index is None or attempt >= 6:
        operator = choices.pick(vocabulary.operators)
    else:
        operator = vocabulary.operators[recipe.index * STRIDE % len(vocabulary.operators)]
    if growth.config.constants >= 1 and (folding := vocabulary.folding) and choices.boolean(0.5):
        operator = choices.pick(folding)
    elif growth.config.ignore and (told := vocabulary.ignoring) and choices.boolean(IGNORING):
        operator = choices.pick(told)
    if (rule := _by_rule(growth, vocabulary, operator)) is not None:
        return place_by_rule(growth, rule, None)
    record = choices.pick(vocabulary.records(operator))
    dtype = choices.pick(record.dtypes) if record.dtypes else "float32"
    return growth.place(record, dtype, mutate=attempt < 5 and choices.boolean(growth.config.mutate))


def _by_rule(growth: Growth, vocabulary: Vocabulary, operator: str) -> Ruled | None:
    """The rule that a call is drawn from, or None where it is a recorded one."""
    rules = vocabulary.rules(operator) if growth.config.ruled and not growth.config.large else ()
    return growth.choices.pick(rules) if rules and growth.choices.boolean(growth.config.ruled) else None


def _formed(growth: Growth) -> bool:
    """A view, an indexed assignment or a cast of a fresh input."""
    choices = growth.choices
    dtype = choices.pick(_DTYPES)
    if choices.boolean(0.06):
        return growth.place(views.strided_window(choices), dtype)
    shape = tuple(choices.pick(_SMALL_SIZES) for _ in range(choices.integer(0, 4)))
    record = views.proposal(choices, shape, dtype, growth.config.reach)
    return record is not None and growth.place(record, dtype)


_DTYPES = (
    *("float32", "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"),
    *("complex64", "complex128"),
)
_SMALL_SIZES = (2, 3, 4, 1, 5, 8, 7, 9, 16, 17)


def _network(growth: Growth, recipe: Recipe, vocabulary: Vocabulary) -> None:
    """Operators one after the other, each mostly on what is already there."""
    choices = growth.choices
    count = recipe.operators or choices.weighted(((10, 0.5), (14, 0.25), (20, 0.15), (40, 0.08), (100, 0.02)))
    growth.derive(count)
    for _ in range(PATIENCE * count):
        if len(growth.steps) >= count:
            break
        if not growth.steps or choices.boolean(0.12):
            operator = choices.pick(vocabulary.operators)
            if (rule := _by_rule(growth, vocabulary, operator)) is not None:
                allowed = rule.rule.dtypes.allowed(0)
                place_by_rule(growth, rule, _dtype(growth, allowed) if allowed else None)
                continue
            record = choices.pick(vocabulary.records(operator))
            dtype = _dtype(growth, record.dtypes)
            growth.place(record, dtype, mutate=choices.boolean(growth.config.mutate))
        else:
            follow(growth, vocabulary, _tip(growth), 0.25)


def _dtype(growth: Growth, dtypes: Sequence[str]) -> str:
    """One of these dtypes, rather one that is there."""
    if not dtypes:
        return "float32"
    choices = growth.choices
    if growth.dtypes and choices.boolean(0.6):
        present = growth.dtypes[choices.integer(0, len(growth.dtypes) - 1)]
        if present in dtypes:
            return present
    return choices.pick(dtypes)


def _tip(growth: Growth) -> int:
    """A value to go on from: rather a recent one, rather one that nobody uses yet."""
    choices = growth.choices
    known = len(growth.tensors)
    for _ in range(4 if known else 0):
        number = (
            known - 1 - choices.integer(0, min(known, 6) - 1)
            if choices.boolean(0.65)
            else choices.integer(0, known - 1)
        )
        if number not in growth.dead and (growth.uses[number] == 0 or choices.boolean(0.4)):
            return number
    usable = growth.usable()
    return choices.pick(usable) if usable else -1


def follow(growth: Growth, vocabulary: Vocabulary, value: int, formed: float) -> bool:
    """An operator on a value."""
    if value < 0:
        return False
    choices = growth.choices
    dtype, shape = growth.dtypes[value], growth.shapes[value]
    if choices.boolean(_observed(growth, value)) and observe(growth, value):
        return True
    if vocabulary.forms and choices.boolean(formed):
        record = views.proposal(choices, shape, dtype, growth.config.reach)
        return record is not None and growth.place(record, dtype, (value, 0))
    taker = _taker(growth, vocabulary, value)
    if taker is None:
        return False
    records, rules = taker.records, taker.rules
    if rules and not growth.config.large and (not records or choices.boolean(growth.config.ruled)):
        # Each operand more is mostly a fresh input more, which takes longer to make than the call does.
        one, other = choices.pick(rules), choices.pick(rules)
        rule, place = one if len(one[0].spreads) <= len(other[0].spreads) else other
        return place_by_rule(growth, rule, None, (value, place))
    if not records:
        return False
    record, slot = choices.pick(records)
    main = dtype if record.slots[slot].dtype == "T" else _dtype(growth, record.dtypes)
    return growth.place(record, main, (value, slot), mutate=choices.boolean(growth.config.mutate))


def _observed(growth: Growth, value: int) -> float:
    """How often something looks at a value; at places mostly, whose own values are often nobody's promise."""
    made, share = growth.made[value], growth.config.observed
    places = share and made >= 0 and growth.dtypes[value] == "int64" and growth.steps[made].kind.ties
    return 0.7 if places else share


def _taker(growth: Growth, vocabulary: Vocabulary, value: int) -> Takers | None:
    """An operator for a value: one that is known to follow the one that made it, or any that takes it."""
    choices, made = growth.choices, growth.made[value]
    dtype, rank = growth.dtypes[value], len(growth.shapes[value])
    if made >= 0 and choices.boolean(growth.config.followed):
        known = vocabulary.followers(growth.steps[made].operator, dtype, rank)
        if known:
            return choices.pick(known)
    takers = vocabulary.takers(dtype, rank)
    return choices.pick(takers) if takers else None


# --- from growth to program ------------------------------------------------------------------------------------------


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
