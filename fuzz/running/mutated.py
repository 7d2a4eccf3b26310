"""From a job to a case that is made of another one: its program, its inputs and its setting, changed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from shakeout.corpus import codec
from shakeout.corpus.case import Case, KnobSpace, Scalar, Setting
from shakeout.corpus.support import DIRECTORY, declined
from shakeout.fuzz.ground.jobs import Mutate
from shakeout.fuzz.ground.makers import Made
from shakeout.fuzz.running.compose import drawn_knobs, prepare, vocabulary_of

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
    from shakeout.targets.registry import target

    prepare(lambda text: None)
    choices = SeededChoices(job.seed)
    subject = target(job.target)
    facts = subject.facts
    parent = codec.decode(job.parent)
    inherited = _inherited(parent.setting, job)
    case = replace(parent, setting=replace(parent.setting, target=job.target, knobs=inherited, device=job.device))
    limits = Limits(
        declined(job.target, facts.support or DIRECTORY),
        facts.foreign,
        "writes" in facts.promises,
        job.target if facts.vocabulary == "kernel" else "",
        job.modes and facts.mode is None,
    )
    names = [name for name in job.mutators if name not in (KNOBS, ENCLOSE)]
    partner = codec.decode(job.partner) if job.partner else None
    mutant = None
    if names or not job.mutators:
        mutant = mutate(choices, case, names, vocabulary_of(job.target), partner, limits, before_call)
    made = mutant.case if mutant is not None else case
    applied = mutant.mutators if mutant is not None else ()
    reference = mutant.reference if mutant is not None and job.device == "cpu" else None
    if KNOBS in job.mutators or choices.boolean(job.knob_share):
        turned = _turned(choices, made.setting.knobs, subject.knobs(), job.knobs)
        if turned != made.setting.knobs:
            made, applied = replace(made, setting=replace(made.setting, knobs=turned)), (*applied, KNOBS)
    if ENCLOSE in job.mutators and facts.regions and (inside := enclosed(choices, made)) is not None:
        made, applied, reference = inside, (*applied, ENCLOSE), None
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
