"""Grows programs, operator by operator, on real tensors; every program is valid by construction.

Two styles. ``small`` programs of one to three operators cross operator, record, dtype, layout, alias, value, attribute
and size, every operator as likely as every other; some begin with a write that takes a few calls more, or are made of
constants. A ``network`` has ten operators or more, most of which take what another operator produced.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from shakeout.corpus.vocabularies import vocabulary as words_of
from shakeout.generators import views
from shakeout.generators.choices import Choices
from shakeout.generators.finishing import finished, watched
from shakeout.generators.growth import Growth
from shakeout.generators.growth_config import GrowthConfig
from shakeout.generators.numbers import Reach
from shakeout.generators.observers import observe
from shakeout.generators.overwrites import overwrite
from shakeout.generators.proposals import place_by_rule
from shakeout.generators.recipe import Grown, Recipe, Style, ValuesKind
from shakeout.generators.values import InputSampler
from shakeout.generators.vocabularies.ruled import Ruled
from shakeout.generators.vocabularies.torch import Takers, Vocabulary
from shakeout.generators.writes import write

__all__ = ["follow", "grow"]

#: A prime that no vocabulary's size is a multiple of, so that successive indices visit all operators in mixed order.
STRIDE = 7919
#: Proposals for each operator that is wanted, before a network is left as short as it is.
PATIENCE = 8


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
