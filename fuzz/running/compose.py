"""From a job to a case: a program is grown from the job's seed, and the target's knobs are drawn from it as well."""

from __future__ import annotations

import functools
import importlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import COTANGENTS, HISTORY, OVERWRITES, Case, KnobSpace, Scalar, Setting
from shakeout.corpus.interpreter import command
from shakeout.corpus.support import DIRECTORY, declined, refused
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.ground.jobs import Grow, Make, Mutate
from shakeout.fuzz.ground.makers import Made

if TYPE_CHECKING:
    from shakeout.generators.choices import Choices
    from shakeout.generators.recipe import Grown, Recipe
    from shakeout.generators.vocabularies.torch import Vocabulary

__all__ = ["Grower", "ModelGrower", "compose", "drawn_knobs", "prepare", "vocabulary_of"]


#: The first cases of a user's own target are small: whatever is wrong with it in general is first shown by a program of
#: one operator, which its author can read.
SIMPLE_FIRST = 64

#: Share of cases that are grown as if the target took everything: what it takes changes with versions and dtypes.
EXPLORE = 0.15

#: One case of so many is grown of operators that keep whole numbers exact, on whole numbers: its verdict is equality.
EXACT_TURN = 8

#: Share of settings in which the artefact has a history. Among two dozen knobs it would hardly ever be drawn.
HISTORY_SHARE = 0.08

#: Share of programs of which a part is put into a block, a branch or a custom operator, where the target takes those.
REGION_SHARE = 0.1

#: Share of cases of training whose gradients are asked for with another cotangent than whole numbers in row-major
#: order. The reference has to run again for each, which the usual ones are spared.
COTANGENT_SHARE = 0.2

#: Share of programs for a runtime that may write to what the backward pass needs; of those, one in some does. In the
#: others whatever eager takes is asked for, as for any target.
OVERWRITES_SHARE = 0.5

#: Of one program in so many, the calls that were taken are told for whoever learns from them: they are many, and alike.
TAKEN = 16

_loaded: list[Vocabulary] = []
_collecting: list[subprocess.Popen[bytes]] = []


def begin() -> None:
    """Have the operators collected in a process of its own, where that was never done; ``prepare`` waits for it.

    The targets can be warmed meanwhile, which halves a first start on two cores.
    """
    from shakeout.generators.vocabularies.torch import cache_path

    if not cache_path().exists():
        code = "from shakeout.generators.vocabularies.torch import load_records; load_records()"
        _collecting.append(subprocess.Popen(command("-c", code), stdin=subprocess.DEVNULL))


def prepare(say: Callable[[str], None]) -> None:
    """Load what ``compose`` needs; once, in the zygote, before any fork."""
    import shakeout.generators.motifs.motifs
    import shakeout.generators.motifs.patterns
    import shakeout.generators.mutation.mutate
    import shakeout.generators.network  # noqa: F401
    from shakeout.generators.vocabularies.torch import load_records

    while _collecting:
        say("collecting the operators, once for each version of torch")
        _collecting.pop().wait()
    if not _loaded:
        _loaded.append(load_records(say))
        # Autograd imports it, and sympy with it, in the first backward pass of a process.
        importlib.import_module("torch.fx.experimental.symbolic_shapes")


def compose(job: Grow, before_call: Callable[[str], None] | None = None) -> Made:
    """The case of a job.

    Args:
        job: with a seed; the same job on the same versions gives the same case.
        before_call: told of each call of an operator before it runs.
    """
    from shakeout.generators.choices import BytesChoices, SeededChoices
    from shakeout.generators.motifs.motifs import grow_motif
    from shakeout.generators.motifs.patterns import grow_pattern
    from shakeout.generators.network import grow
    from shakeout.generators.recipe import Recipe
    from shakeout.generators.regions import enclosed
    from shakeout.generators.vocabularies.focused import focused, grow_focused
    from shakeout.generators.vocabularies.kernel import grow_around, kernel_vocabulary
    from shakeout.targets.registry import target

    if target(job.target).facts.vocabulary != "onnx":
        prepare(lambda text: None)
    choices = BytesChoices(bytes.fromhex(job.choices)) if job.choices else SeededChoices(job.seed)
    subject = target(job.target)
    facts = subject.facts
    # A runtime is asked about what backward finds, unless somebody asks for something else.
    space = subject.knobs()
    takes = job.knobs.get(OVERWRITES, True) and any(knob.name == OVERWRITES for knob in space)
    wish: dict[str, Any] = {"mode": facts.mode, "overwrites": takes and choices.boolean(OVERWRITES_SHARE)}
    if ":" in job.target and 0 <= job.number < SIMPLE_FIRST:
        wish |= {"style": "small", "operators": 1 if job.number < SIMPLE_FIRST // 2 else None}
    exploring = choices.boolean(EXPLORE)
    if not exploring:
        avoid = declined(job.target, facts.support or DIRECTORY)
        wish |= {"avoid": avoid, "foreign": facts.foreign, "writes": "writes" in facts.promises}
    if facts.vocabulary == "onnx":
        # Of each operator and type it was measured whether there is a kernel, and of a program it takes all or nothing.
        avoid = declined(job.target, facts.support or DIRECTORY)
        wish |= {"avoid": avoid, "refused": refused(job.target, facts.support or DIRECTORY), "foreign": facts.foreign}
    if facts.vocabulary == "torch" and "values" not in job.recipe and _exact_turn(job.seed):
        wish |= {"only": _exact_operators(), "values": "integers"}
    asked = dict(job.recipe)
    focus, motif = tuple(asked.pop("focus", ())), str(asked.pop("motif", ""))
    motifs = tuple(asked.pop("motifs", ()))
    recipe = Recipe(**{**wish, **asked})
    if facts.vocabulary == "onnx":
        grown = _grown_onnx(choices, recipe, focus, before_call)
    elif facts.vocabulary == "kernel":
        around = kernel_vocabulary(job.target, _loaded[0], asked=not exploring)
        grown = grow_around(choices, recipe, around, before_call)
    elif motif:
        grown = grow_motif(choices, recipe, motif, before_call)
    elif motifs:
        grown = _grown_around(choices, recipe, choices.pick(motifs), before_call)
    elif focus:
        grown = grow_focused(choices, recipe, focused(focus, _loaded[0]), before_call)
    elif not exploring and (patterns := subject.patterns()):
        grown = grow_pattern(choices, recipe, patterns, _loaded[0], before_call)
    else:
        grown = grow(choices, recipe, _loaded[0], before_call)
    pinned = {**job.knobs, **({OVERWRITES: True} if grown.overwrites else {})}
    drawn = drawn_knobs(choices, space, pinned, job.knob_share, job.settings or facts.settings)
    # One for all of them, since they have the reference's answers in common.
    training = grown.mode == "training"
    cotangent = choices.pick(COTANGENTS[1:]) if training and choices.boolean(COTANGENT_SHARE) else COTANGENTS[0]
    settings = [Setting(job.target, knobs, grown.mode, job.device, cotangent) for knobs in drawn]
    case = Case(grown.program, grown.input_sets, settings[0])
    inside = None
    if facts.regions and not _exact_turn(job.seed) and choices.boolean(REGION_SHARE):
        inside = enclosed(choices, case)
    # It was grown on the CPU, with the usual cotangent, and without regions.
    reference = grown.reference if job.device == "cpu" and cotangent == "whole" and inside is None else None
    case = inside or case
    return Made(case, tuple(settings[1:]), grown.fed, grown.proposed, grown.rejected, _traces(job, grown), reference)


def _grown_around(choices: Choices, recipe: Recipe, motif: str, before_call: Callable[[str], None] | None) -> Grown:
    """A network around a motif, or around one of the programs of a pass; of a motif every other one is that alone."""
    from shakeout.generators.motifs.motifs import grow_motif
    from shakeout.generators.motifs.patterns import grow_pattern
    from shakeout.targets.registry import target

    if ":" in motif:
        return grow_pattern(choices, recipe, target(motif).patterns(), _loaded[0], before_call)
    alone = grow_motif(choices, recipe, motif, before_call)
    if choices.boolean(0.5):
        return alone
    seed = Case(alone.program, alone.input_sets[:1], Setting("eager", (), alone.mode))
    return grow_pattern(choices, recipe, (seed,), _loaded[0], before_call)


def _grown_onnx(
    choices: Choices, recipe: Recipe, focus: Sequence[str], before_call: Callable[[str], None] | None
) -> Grown:
    """A model whose operators are of one operator set."""
    from shakeout.generators.network import grow
    from shakeout.generators.vocabularies.focused import focused, grow_focused
    from shakeout.generators.vocabularies.onnx import load_onnx, of_one_set

    vocabulary = of_one_set(load_onnx(), choices)
    if focus:
        return grow_focused(choices, recipe, focused(focus, vocabulary), before_call)
    return grow(choices, recipe, vocabulary, before_call)


def vocabulary_of(name: str) -> Vocabulary:
    """What is proposed for a target."""
    from shakeout.generators.vocabularies.kernel import kernel_vocabulary
    from shakeout.targets.registry import target

    if target(name).facts.vocabulary == "onnx":
        from shakeout.generators.vocabularies.onnx import load_onnx

        return load_onnx()
    prepare(lambda text: None)
    kernel = target(name).facts.vocabulary == "kernel"
    return kernel_vocabulary(name, _loaded[0], asked=True) if kernel else _loaded[0]


class Grower:
    """Grows cases from seeds, as a maker."""

    def begin(self) -> None:
        """Have the operators collected where that was never done."""
        begin()

    def prepare(self, say: Callable[[str], None]) -> None:
        """Load the operators and their rules."""
        prepare(say)

    def load_all(self) -> None:
        """Read every record and rule: a worker's first cases read those that they meet, the later ones nearly all."""
        if _loaded:
            _loaded[0].read_all()

    def compose(self, job: Make, before_call: Callable[[str], None] | None = None) -> Made:
        """The case of a job."""
        from shakeout.fuzz.running.mutated import mutated

        match job:
            case Grow():
                return compose(job, before_call)
            case Mutate():
                return mutated(job, before_call)
        raise TypeError(f"no case is made by {type(job).__name__}")


class ModelGrower(Grower):
    """Grows ONNX models alone: torch's operators are neither collected nor loaded."""

    def begin(self) -> None:
        """Nothing: records of ONNX ship, or are collected in half a minute."""

    def prepare(self, say: Callable[[str], None]) -> None:
        """Load ONNX's operators and their rules."""
        import shakeout.generators.motifs.motifs
        import shakeout.generators.mutation.mutate
        import shakeout.generators.network  # noqa: F401
        from shakeout.generators.vocabularies.onnx import load_onnx

        load_onnx(say)

    def load_all(self) -> None:
        """Read every record and rule."""
        from shakeout.generators.vocabularies.onnx import load_onnx

        load_onnx().read_all()


def _traces(job: Grow, grown: Grown) -> tuple[Any, ...]:
    from shakeout.generators.rules.observed import taken

    told = (*grown.refused, *(taken(grown.program) if job.seed % TAKEN == 0 else ()))
    return tuple(trace.to_json() for trace in told)


def _exact_turn(seed: int) -> bool:
    return seed % EXACT_TURN == 5


@functools.cache
def _exact_operators() -> frozenset[str]:
    traits = vocabulary("torch").traits
    return frozenset(name for name in _loaded[0].operators if traits(name).exactness)


def drawn_knobs(
    choices: Choices, space: KnobSpace, pinned: Mapping[str, Scalar], share: float, wanted: int
) -> list[tuple[tuple[str, Scalar], ...]]:
    """Up to so many different settings of the knobs; where there are several, the first is the default one."""
    drawn = [knob for knob in space if knob.name not in pinned and len(knob.values) > 1 and knob.drawn]
    free = [knob for knob in drawn if knob.name != HISTORY]
    history = next((knob.values[1:] for knob in drawn if knob.name == HISTORY), ())
    found: list[tuple[tuple[str, Scalar], ...]] = []
    for attempt in range(2 * wanted):
        knobs = dict(pinned)
        if free and (attempt > 0 or (wanted == 1 and choices.boolean(share))):
            for _ in range(choices.integer(1, 2 if wanted == 1 else 3)):
                knob = choices.pick(free)
                knobs[knob.name] = choices.pick(knob.values[1:])
        if history and (attempt > 0 or wanted == 1) and choices.boolean(HISTORY_SHARE):
            knobs[HISTORY] = choices.pick(history)
        setting = tuple(sorted(knobs.items()))
        if setting not in found:
            found.append(setting)
        if len(found) == wanted:
            break
    return found
