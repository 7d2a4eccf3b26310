"""From a job to a case that is made of another one: its program, its inputs and its setting, changed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from shakeout.corpus import codec
from shakeout.corpus.case import Case, KnobSpace, Scalar, Setting
from shakeout.corpus.support import DIRECTORY, declined, refused
from shakeout.fuzz.ground.jobs import Mutate
from shakeout.fuzz.ground.makers import Made
from shakeout.fuzz.running.compose import drawn_knobs, vocabulary_of

if TYPE_CHECKING:
    from shakeout.generators.choices import Choices

__all__ = ["ENCLOSE", "KNOBS", "mutated"]

#: Mutators that need to know the target: one changes a knob, one puts a part of the program into a block or a branch.
KNOBS, ENCLOSE = "knobs", "enclose"


def mutated(job: Mutate, before_call: Callable[[str], None] | None = None) -> Made:
    """The case of a job.

    Args:
        job: with a parent and a seed; the same job on the same versions gives the same case.
        before_call: told of each call of an operator before it runs.
    """
    from shakeout.generators.choices import SeededChoices
    from shakeout.generators.mutation.mutate import Limits, mutate
    from shakeout.generators.regions import enclosed
    from shakeout.generators.vocabularies.onnx import OnnxVocabulary, of_program
    from shakeout.targets.registry import target

    choices = SeededChoices(job.seed)
    subject = target(job.target)
    facts = subject.facts
    parent = codec.decode(job.parent)
    inherited = _inherited(parent.setting, job)
    case = replace(parent, setting=replace(parent.setting, target=job.target, knobs=inherited, device=job.device))
    vocabulary, partner = vocabulary_of(job.target), codec.decode(job.partner) if job.partner else None
    if isinstance(vocabulary, OnnxVocabulary):
        vocabulary = of_program(vocabulary, case.program)
        if partner is not None and not set(partner.program.operators()) <= set(vocabulary.operators):
            partner = None  # of another operator set
    limits = Limits(
        declined(job.target, facts.support or DIRECTORY) | vocabulary.unfit,
        facts.foreign,
        "writes" in facts.promises,
        job.target if facts.vocabulary == "kernel" else "",
        job.modes and facts.mode is None,
        refused(job.target, facts.support or DIRECTORY),
    )
    names = [name for name in job.mutators if name not in (KNOBS, ENCLOSE)]
    change = partial(mutate, choices, case, vocabulary=vocabulary, partner=partner, limits=limits)
    mutant = change(names, before_call=before_call) if names else None
    made, applied = (case, ()) if mutant is None else (mutant.case, mutant.mutators)
    if KNOBS in job.mutators or choices.boolean(job.knob_share):
        turned = _turned(choices, made.setting.knobs, subject.knobs(), job.knobs)
        if turned != made.setting.knobs:
            made, applied = replace(made, setting=replace(made.setting, knobs=turned)), (*applied, KNOBS)
    inside = enclosed(choices, made) if ENCLOSE in job.mutators and facts.regions else None
    if inside is not None:
        made, applied = inside, (*applied, ENCLOSE)
    if not applied and (mutant := change((), before_call=before_call)) is not None:
        made, applied = mutant.case, mutant.mutators
    reference = mutant.reference if mutant is not None and inside is None and job.device == "cpu" else None
    wanted = job.settings or facts.settings
    further = () if wanted == 1 else _further(made, drawn_knobs(choices, subject.knobs(), job.knobs, 1.0, wanted))
    fed, rejected = (mutant.fed, mutant.rejected or {}) if mutant is not None else ((), {})
    proposed = mutant.proposed if mutant is not None else 0
    return Made(made, further[: wanted - 1], fed, proposed, rejected, (), reference, applied)


def _inherited(setting: Setting, job: Mutate) -> tuple[tuple[str, Scalar], ...]:
    """The parent's knobs, where it ran on the same target, and those that are pinned."""
    own = dict(setting.knobs) if setting.target == job.target else {}
    return tuple(sorted({**own, **job.knobs}.items()))


def _turned(
    choices: Choices, knobs: tuple[tuple[str, Scalar], ...], space: KnobSpace, pinned: Mapping[str, Scalar]
) -> tuple[tuple[str, Scalar], ...]:
    """The knobs with one of them at another value."""
    free = [knob for knob in space if knob.drawn and knob.name not in pinned and len(knob.values) > 1]
    if not free:
        return knobs
    knob = choices.pick(free)
    now = dict(knobs)
    value = choices.pick([value for value in knob.values if value != now.get(knob.name, knob.default)])
    now[knob.name] = value
    if value == knob.default:
        del now[knob.name]
    return tuple(sorted(now.items()))


def _further(case: Case, drawn: list[tuple[tuple[str, Scalar], ...]]) -> tuple[Setting, ...]:
    """Further settings of the program."""
    return tuple(replace(case.setting, knobs=knobs) for knobs in drawn if knobs != case.setting.knobs)
