"""Mutation: a case becomes another one, in its program, its inputs and whether it is trained, and is valid by running.

A mutant is grown: the parent's calls are run one after the other, as proposals are, and go another way where a mutator
says so; what no longer fits is repaired (``following``). So whatever comes out was run, the reference's answer is there
when it is done, and everything follows from the parent, the partner and the choices.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from shakeout.corpus.case import Case, Mode
from shakeout.corpus.edit import with_inputs
from shakeout.corpus.observation import Observation
from shakeout.generators.choices import Choices
from shakeout.generators.finishing import finished, watched
from shakeout.generators.growth import Growth
from shakeout.generators.growth_config import GrowthConfig
from shakeout.generators.inputsets import input_set
from shakeout.generators.mutation.draft import Draft, draft
from shakeout.generators.mutation.following import Follower
from shakeout.generators.mutation.mutators import INPUTS, PROGRAM, Mutator
from shakeout.generators.recipe import Recipe
from shakeout.generators.validity import InvalidCandidate, Requirements, validated
from shakeout.generators.values import InputSampler
from shakeout.generators.vocabularies.torch import Vocabulary

__all__ = ["ATTEMPTS", "MUTATORS", "Limits", "Mutant", "mutate"]

#: Every mutator of programs and inputs, by name.
MUTATORS: Mapping[str, Mutator] = {**PROGRAM, **INPUTS}

#: How often what was asked for is tried with other decisions, before another mutator is.
ATTEMPTS = 3

#: Values of mutants, where they are drawn afresh.
_KINDS = ("uniform", "integers")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a target lets a mutant be.

    Attributes:
        avoid: operators that are not added.
        foreign: dtypes that no result may have.
        writes: whether inputs may be written to.
        needed: an operator that must stay in the program; empty for none.
        modes: whether training may be turned on and off.
        refused: operators with dtypes of their operands of which no call is added.
    """

    avoid: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    writes: bool = True
    needed: str = ""
    modes: bool = True
    refused: frozenset[tuple[str, tuple[str, ...]]] = frozenset()


@dataclass(frozen=True, slots=True)
class Mutant:
    """What became of a case.

    Attributes:
        case: with the parent's setting, but for the mode.
        mutators: that made it, in order.
        tried: drafts that were run.
        fed: operators that took another operator's result.
        proposed: calls that were tried.
        rejected: how many of them were dropped, by reason.
        reference: what the reference showed meanwhile; None if it was not kept.
    """

    case: Case
    mutators: tuple[str, ...]
    tried: int
    fed: tuple[str, ...] = ()
    proposed: int = 0
    rejected: Mapping[str, int] | None = None
    reference: Observation | None = None


def mutate(
    choices: Choices,
    case: Case,
    names: Sequence[str],
    vocabulary: Vocabulary,
    partner: Case | None = None,
    limits: Limits = Limits(),
    before_call: Callable[[str], None] | None = None,
) -> Mutant | None:
    """Another case that is made of one.

    Args:
        choices: makes every decision; the same choices, cases, versions and learnt rules give the same mutant.
        case: the parent.
        names: the mutators that are wanted, in order; where one has no place, others stand in for it.
        vocabulary: what is proposed.
        partner: a case of which parts may be taken.
        limits: what the target lets it be.
        before_call: told of each call before it happens, as of ``network.grow``.

    Returns:
        The mutant; None where the parent could not be changed at all.
    """
    structured = case.program.structured()
    known = [name for name in (INPUTS if structured else MUTATORS) if limits.modes or name != "mode"]
    wanted = [name for name in names if name in known]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tried in range(1, 2 * ATTEMPTS + 1):
            chosen = wanted if wanted and tried <= ATTEMPTS else [choices.pick(known)]
            one = draft(case, partner)
            applied = tuple(name for name in chosen if MUTATORS[name](choices, one))
            if not applied:
                continue
            made = (
                _validated(one, applied, tried)
                if structured
                else _run(choices, one, applied, tried, vocabulary, limits, before_call)
            )
            if made is not None and not _same(made.case, case):
                return made
    return None


def _run(
    choices: Choices,
    one: Draft,
    applied: tuple[str, ...],
    tried: int,
    vocabulary: Vocabulary,
    limits: Limits,
    before_call: Callable[[str], None] | None,
) -> Mutant | None:
    """Grow what the draft says; None where nothing of it is left."""
    case = one.case
    config = GrowthConfig(
        reuse=0.5,
        resize=0.3,
        large=one.large,
        mutate=0.3,
        training=one.training,
        special=one.special,
        writes=limits.writes,
        ruled=0.5 if vocabulary.ruled else 0.0,
    )
    kind = "special" if one.special else choices.pick(_KINDS)
    sampler = InputSampler(choices, kind, 0.3 if vocabulary.forms else 0.0)
    config, words = vocabulary.config(config), vocabulary.words
    growth = Growth(choices, sampler, config, limits.avoid, limits.foreign, None, words, limits.refused)
    tell = None if before_call is None else watched(growth, vocabulary.name, before_call)
    follower = Follower(growth, case, one.given, vocabulary, one.sizes, one.dtypes)
    for act in one.actions:
        act(follower)
    if not growth.steps or (limits.needed and limits.needed not in {step.operator for step in growth.steps}):
        return None
    dynamic, repeat = _further(case)
    grown = finished(growth, Recipe(dynamic=dynamic, repeat=repeat), "network", vocabulary.name, tell)
    setting = replace(case.setting, mode=grown.mode)
    return Mutant(
        Case(replace(grown.program, around=case.program.around), grown.input_sets, setting),
        applied,
        tried,
        grown.fed,
        grown.proposed,
        grown.rejected,
        grown.reference if setting.cotangent == "whole" else None,
    )


def _further(case: Case) -> tuple[bool, bool]:
    """Whether a case has further calls with other sizes, and with other values."""
    first, *further = case.input_sets
    shapes = [view.shape for view in first.views]
    other = any([view.shape for view in inputs.views] != shapes for inputs in further)
    return other, bool(further) and not other


def _validated(one: Draft, applied: tuple[str, ...], tried: int) -> Mutant | None:
    """A program with regions keeps its calls, and is fed otherwise; it is run to see whether that means anything."""
    mode: Mode = "training" if one.training else "inference"
    changed = with_inputs(one.case, (input_set(one.given),))
    try:
        found = validated(
            replace(changed, setting=replace(one.case.setting, mode=mode)), Requirements(finite=not one.special)
        )
    except InvalidCandidate:
        return None
    return Mutant(found, applied, tried)


def _same(one: Case, other: Case) -> bool:
    """Whether two cases differ in nothing but in what they return and how often they are called."""
    return (one.program.calls, one.input_sets[0], one.setting) == (
        other.program.calls,
        other.input_sets[0],
        other.setting,
    )
