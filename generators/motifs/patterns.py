"""Networks around programs that somebody gives: what a pass looks for, with every variation of it, among other calls.

Each call is run at once, as of everything that grows. So what comes out is valid, whether or not the pattern is still
in it: what nearly is one is what a pass with a careless guard takes for one.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch.fx.operator_schemas import get_signature_for_torch_op

from shakeout.corpus import script
from shakeout.corpus.case import Case, Values
from shakeout.corpus.program import Call, Ref
from shakeout.corpus.vocabularies import vocabulary as words_of
from shakeout.generators.calls import Rejected, perform
from shakeout.generators.choices import Choices
from shakeout.generators.finishing import finished, watched
from shakeout.generators.growth import Growth
from shakeout.generators.growth_config import LATTICE, MAX_ELEMENTS, GrowthConfig
from shakeout.generators.mutation.draft import Draft, draft, overwritten
from shakeout.generators.mutation.following import Follower
from shakeout.generators.mutation.mutators import INPUTS, PROGRAM, Mutator
from shakeout.generators.network import follow
from shakeout.generators.recipe import Grown, Recipe
from shakeout.generators.values import DTYPES, SEEDS, Given, InputSampler, row_major
from shakeout.generators.vocabularies.torch import Vocabulary

__all__ = ["VARIATIONS", "grow_pattern"]

#: How many things of a pattern are varied: mostly one, so that it still is the pattern, or only just none.
_VARIED = ((0, 0.15), (1, 0.45), (2, 0.25), (3, 0.15))

#: Calls around it, where nobody says how many.
_AROUND = ((0, 0.25), (1, 0.2), (3, 0.35), (8, 0.2))

#: Something that is computed before the pattern's first operand; a use of what lies inside; a second pattern.
_BEFORE, _INSIDE, _TWICE = 0.35, 0.2, 0.15

#: An operand is a parameter of the network, beside those that are in the example.
_PARAMETER = 0.2

#: Operators that are tried on one value before there is none.
_TRIES = 6


# --- variations -------------------------------------------------------------------------------------------------------


def _keywords(choices: Choices, one: Draft) -> bool:
    """Arguments of a call that are given by position are given by name."""
    places = [
        (position, names)
        for position, call in enumerate(one.case.program.calls)
        if len(call.args) > 1 and len(names := _names(one, call)) >= len(call.args)
    ]
    if not places:
        return False
    position, names = choices.pick(places)
    call = one.case.program.calls[position]
    first = choices.integer(1, len(call.args) - 1)
    named = dict(zip(names[first:], call.args[first:], strict=False))
    if named.keys() & dict(call.kwargs).keys():
        return False
    changed = replace(call, args=call.args[:first], kwargs=tuple(sorted({**dict(call.kwargs), **named}.items())))
    one.actions[position] = lambda follower: follower.place(position, changed)
    return True


def _names(one: Draft, call: Call) -> tuple[str, ...]:
    return _parameters(words_of(one.case.program.vocabulary).resolve(call.operator))


@functools.lru_cache(512)
def _parameters(function: Callable[..., object]) -> tuple[str, ...]:
    """The names of a function's positional parameters; none where nobody knows them."""
    try:
        known = [inspect.signature(function)]
    except (TypeError, ValueError):  # a builtin: torch has the schemas of its own
        known = list(get_signature_for_torch_op(function) or ())
    positional = (inspect.Parameter.POSITIONAL_OR_KEYWORD,)
    found = [tuple(one.name for one in sign.parameters.values() if one.kind in positional) for sign in known]
    return max(found, key=lambda names: len(names), default=())


def _absent(choices: Choices, one: Draft) -> bool:
    """An operand of a call is not given, as a bias."""
    places = [
        (position, place)
        for position, call in enumerate(one.case.program.calls)
        for place, arg in enumerate(call.args)
        if place and isinstance(arg, Ref)
    ]
    if not places:
        return False
    position, place = choices.pick(places)
    call = one.case.program.calls[position]
    changed = replace(call, args=(*call.args[:place], None, *call.args[place + 1 :]))
    one.actions[position] = lambda follower: follower.place(position, changed)
    return True


def _structure(choices: Choices, one: Draft) -> bool:
    """An operator of the pattern is called otherwise: by another record or rule of it."""
    position = choices.integer(0, len(one.case.program.calls) - 1)
    operator = one.case.program.calls[position].operator
    one.actions[position] = lambda follower: follower.propose(position, [operator])
    return True


def _sibling(choices: Choices, one: Draft) -> bool:
    """An operator of the same family stands in the place of one: ``conv1d`` or ``conv_transpose2d`` for ``conv2d``."""
    position = choices.integer(0, len(one.case.program.calls) - 1)
    operator = one.case.program.calls[position].operator

    def other(follower: Follower) -> bool:
        family = list(_family(operator, follower.vocabulary.operators))
        if not family:
            return follower.follow(position)
        first = choices.integer(0, len(family) - 1)
        return follower.propose(position, [*family[first:], *family[:first]][:_TRIES])

    one.actions[position] = other
    return True


@functools.lru_cache(512)
def _family(operator: str, known: tuple[str, ...]) -> tuple[str, ...]:
    module, _, name = operator.rpartition(".")
    stem = re.sub(r"(_transpose)?\d+d$", "", name).split("_")[0]
    return tuple(one for one in known if one != operator and one.startswith(f"{module}.{stem}")) if stem else ()


def _rank(choices: Choices, one: Draft) -> bool:
    """An input has one dimension more or less, mostly of a size that is there: a batch, or none."""
    free = [n for n, given in enumerate(one.given) if given.shares is None and given.window is None]
    if not free:
        return False
    number = free[0] if choices.boolean(0.6) else choices.pick(free)
    given = one.given[number]
    place = choices.integer(0, len(given.shape))
    if given.shape and choices.boolean(0.5):
        place = min(place, len(given.shape) - 1)
        shape = (*given.shape[:place], *given.shape[place + 1 :])
    else:
        sizes = sorted({size for other in one.given for size in other.shape})
        size = choices.pick(sizes) if sizes and choices.boolean(0.7) else choices.pick(LATTICE[:8])
        shape = (*given.shape[:place], size, *given.shape[place:])
    if math.prod(shape) > MAX_ELEMENTS:
        return False
    one.given[number] = replace(given, shape=shape, layout=row_major(len(shape)))
    return True


#: What may be varied of a pattern, by name.
VARIATIONS: Mapping[str, Mutator] = {
    "keywords": _keywords,
    "absent": _absent,
    "structure": _structure,
    "sibling": _sibling,
    "rank": _rank,
    **{name: PROGRAM[name] for name in ("attribute", "rewire", "insert", "replace")},
    **{name: INPUTS[name] for name in ("dtype", "shape", "layout")},
}

#: How often each: first what a guard of a pass has to look at.
_WEIGHTS = (
    *(("keywords", 0.15), ("structure", 0.15), ("attribute", 0.15), ("rank", 0.1), ("sibling", 0.1), ("shape", 0.1)),
    *(("absent", 0.05), ("dtype", 0.05), ("layout", 0.05), ("rewire", 0.04), ("insert", 0.03), ("replace", 0.03)),
)


# --- growing ----------------------------------------------------------------------------------------------------------


def grow_pattern(
    choices: Choices,
    recipe: Recipe,
    patterns: Sequence[Case],
    vocabulary: Vocabulary,
    before_call: Callable[[str], None] | None = None,
) -> Grown:
    """Grow a network around a program, or around two; see ``network.grow``.

    Args:
        choices: makes every decision.
        recipe: of which style, operators, mode, dynamic, repeat, values, avoid, writes and foreign dtypes are heeded;
            ``small`` of one operator is the pattern alone.
        patterns: the programs, each with inputs that show which values it takes.
        vocabulary: what is proposed around it.
        before_call: told of each call before it happens.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = recipe.style == "small"
        training = recipe.mode == "training" or (recipe.mode is None and choices.boolean(0.4))
        kind = "uniform" if recipe.values in (None, "special") else recipe.values
        one = _varied(choices, choices.pick(patterns), training, kind, 1 if alone and recipe.operators == 1 else 3)
        config = GrowthConfig(training=training, writes=recipe.writes, ruled=0.5 if vocabulary.ruled else 0.0)
        growth = Growth(
            choices, InputSampler(choices, kind, 0.2), vocabulary.config(config), recipe.avoid, recipe.foreign,
            None, vocabulary.words, recipe.refused,
        )  # fmt: skip
        tell = None if before_call is None else watched(growth, vocabulary.name, before_call)
        if not alone and one.given and choices.boolean(_BEFORE):
            one.actions.insert(0, _before)
        follower = _run(growth, one, vocabulary)
        if not alone and choices.boolean(_TWICE):
            again = _varied(choices, choices.pick(patterns), training, kind, 1)
            _run(growth, again, vocabulary, fed=growth.usable(), shared=follower)
        wanted = choices.weighted(_AROUND) if recipe.operators is None else recipe.operators - len(growth.steps)
        for _ in range(0 if alone else 3 * max(wanted, 0)):
            if wanted <= 0:
                break
            usable = growth.usable()
            wanted -= bool(usable) and follow(growth, vocabulary, choices.pick(usable[-4:]), 0.25)
        if not growth.steps:
            growth.unrestricted()  # a program without a call is none
            growth.place(vocabulary.fallback, "float32")
        return finished(growth, recipe, recipe.style or "network", vocabulary.name, tell)


def _varied(choices: Choices, case: Case, training: bool, kind: str, most: int) -> Draft:
    """A pattern with other values, and up to so many things changed."""
    one = draft(case, None)
    one.training, one.special = training, False
    one.given = [_fresh(choices, given, kind) for given in one.given]
    for _ in range(min(choices.weighted(_VARIED), most)):
        VARIATIONS[choices.weighted(_WEIGHTS)](choices, one)
    fixed, leaves = overwritten(case), _leaves(case) if training else ()
    for number, given in enumerate(one.given):
        floating = DTYPES[given.dtype].is_floating_point and number not in fixed
        leaf = training and floating and number in leaves and choices.boolean(0.85)
        parameter = given.parameter or (leaf and number > 0 and choices.boolean(_PARAMETER))
        one.given[number] = replace(given, requires_grad=leaf, parameter=parameter and (leaf or not training))
    return one


@functools.lru_cache(512)
def _leaves(case: Case) -> frozenset[int]:
    """The inputs of which a program may be asked for a gradient: eager refuses some, as of a stored mean."""
    found = set()
    tensors = script.load(case)["CALLS"][0]()
    for number, tensor in enumerate(tensors):
        if not tensor.is_floating_point():
            continue
        arena = [one.detach() for one in tensors]
        arena[number] = arena[number].clone().requires_grad_()
        try:
            with torch.enable_grad():
                for call in case.program.calls:
                    function = words_of(case.program.vocabulary).resolve(call.operator)
                    arena += perform(function, call.args, call.kwargs, arena)[1]
        except (Rejected, RuntimeError):
            continue
        if any(isinstance(one, torch.Tensor) and one.requires_grad for one in arena[len(tensors) :]):
            found.add(number)
    return frozenset(found)


def _fresh(choices: Choices, given: Given, kind: str) -> Given:
    """An input with other values out of the range of the example's: a variance stays positive, an index an index."""
    values = given.values
    items = [complex(item).real for item in values.items]
    finite = [item for item in items if math.isfinite(item)]
    low, high = (min(finite), max(finite)) if finite else (values.low, values.high)
    seed = choices.integer(0, SEEDS)
    if not (DTYPES[given.dtype].is_floating_point or DTYPES[given.dtype].is_complex):
        return _whole(given, Values("integers", seed, math.floor(low), math.floor(high)))
    if low == high:
        low, high = (low / 2, low * 2) if low > 0 else (low * 2, low / 2) if low < 0 else (-1.0, 1.0)
    if kind == "integers":
        least = max(math.ceil(low), 1) if low > 0 else math.floor(low)
        return _whole(given, Values("integers", seed, least, max(math.ceil(high), least + 1)))
    return _whole(given, Values("uniform", seed, low, high))


def _whole(given: Given, values: Values) -> Given:
    """The input with these values, and where it may be, row-major in a memory of its own."""
    if given.shares is not None or given.storage_dtype != given.dtype:
        return replace(given, values=values)
    return replace(given, values=values, layout=row_major(len(given.shape)), window=None, size=None)


def _run(
    growth: Growth, one: Draft, vocabulary: Vocabulary, fed: Sequence[int] = (), shared: Follower | None = None
) -> Follower:
    """Run a draft in a growth.

    Args:
        growth: where.
        one: the draft.
        vocabulary: what repairs it.
        fed: values that may be its inputs, where the types are the same.
        shared: another pattern, whose parameters may be its own.
    """
    choices = growth.choices
    follower = Follower(growth, one.case, one.given, vocabulary, one.sizes, one.dtypes)
    for number, given in enumerate(one.given):
        same = [v for v in fed if (growth.dtypes[v], growth.shapes[v]) == (given.dtype, given.shape)]
        if same and choices.boolean(0.7) and (number == 0 or shared is not None):
            follower.stand(number, choices.pick(same))
    for act in one.actions:
        act(follower)
        if growth.steps and choices.boolean(_INSIDE / max(len(one.actions), 1)):
            last = growth.steps[-1].first
            if last in growth.usable():
                follow(growth, vocabulary, last, 0.25)
    return follower


def _before(follower: Follower) -> bool:
    """What is computed of the first input takes its place, where the type stays the same."""
    growth, number = follower.growth, 0
    value = follower.value(number)
    for _ in range(_TRIES if value is not None else 0):
        if not follow(growth, follower.vocabulary, value, 0.25):  # type: ignore[arg-type]
            continue
        made = growth.steps[-1].first
        if made in growth.usable() and follower.type_of(made) == follower.type_of(value):  # type: ignore[arg-type]
            follower.stand(number, made)
            return True
    return False
