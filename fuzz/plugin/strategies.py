"""The strategy for cases: drawn programs under a setting of a target, without what the target says it does not take."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from shakeout.corpus.case import Case, InputSet, KnobSpace, Mode, Scalar, Setting, Storage, Values, View
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
from shakeout.corpus.support import DIRECTORY, declined
from shakeout.corpus.vocabularies import kernel as words
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.running.execute import execute
from shakeout.generators.drawn import DrawnCase
from shakeout.generators.hypothesis import st
from shakeout.generators.plans import Plan, ValuesKind, operators_of_torch, planned
from shakeout.generators.strategies import HypothesisChoices, grown
from shakeout.generators.vocabularies.kernel import kernel_vocabulary
from shakeout.generators.vocabularies.records import Record
from shakeout.targets.registry import target as registered
from shakeout.targets.target import check_knobs

__all__ = ["cases", "judge"]

#: How many knobs vary at most.
MOST_VARIED = 3


def cases(
    target: str = "inductor",
    *,
    mode: Mode | None = None,
    knobs: Mapping[str, Scalar] | None = None,
    vary_knobs: bool = False,
    operators: Collection[str] | None = None,
    dtypes: Collection[str] | None = None,
    min_calls: int = 1,
    max_calls: int = 5,
    values: Sequence[ValuesKind] = ("integers", "uniform"),
    layouts: bool = True,
    mutation: bool = True,
) -> st.SearchStrategy[Case]:
    """Cases of a target: programs that it says it takes, with inputs, under a setting.

    They shrink as ``shakeout.programs`` does, and to the target's default knobs. ``shakeout.judge`` runs one.

    Args:
        target: a compiler, or your own kernel, runtime or pass as ``MODULE:NAME``: every program then calls the kernel.
        mode: ``training`` draws programs with a backward pass; None for what the target is mostly used for.
        knobs: of the target, by name; see ``shakeout targets --knobs``.
        vary_knobs: the others may take other values than their default.
        operators: qualified names; None for all that the target takes.
        dtypes: of inputs and results; None for all that the target takes.
        min_calls: of operators.
        max_calls: of operators.
        values: of inputs: ``integers``, ``uniform`` and ``special``.
        layouts: inputs may be transposed, expanded, padded or windows of something larger.
        mutation: operators may write to their operands, where the target keeps to that.

    Raises:
        UnknownTarget: there is no such target; told when the test begins, as the others are.
        UnknownKnob: it has no such knob, or the knob no such value.
        ValueError: there is no such operator, dtype or kind of values.
    """
    pinned = tuple(sorted((knobs or {}).items()))

    def define() -> st.SearchStrategy[Case]:
        subject = registered(target)
        check_knobs(subject, Setting(target, pinned))
        _ready()
        facts = subject.facts
        if facts.vocabulary == "onnx":
            raise ValueError(f"{target} takes ONNX models, which campaigns grow and Hypothesis does not draw")
        around = operators_of_torch()
        plan = planned(
            around,
            operators=operators,
            avoid=declined(target, facts.support or DIRECTORY) if operators is None else (),
            dtypes=dtypes,
            least=min_calls,
            most=max_calls,
            values=values,
            layouts=layouts,
            writes=mutation and "writes" in facts.promises,
            training=(mode or facts.mode) == "training",
        )
        plan = replace(plan, foreign=plan.foreign | facts.foreign)
        if facts.vocabulary == "kernel":
            plan = _around(target, plan)
        free = tuple(knob for knob in subject.knobs() if knob.drawn and knob.name not in dict(pinned))
        return _cases(plan, target, pinned, free if vary_knobs else ())

    return st.deferred(define)


@functools.cache
def _ready() -> None:
    """Load what judging a case needs, so that the first one is not taken for a slow one."""
    value = TensorType("float32", (1,))
    inputs = InputSet((Storage("float32", 1, Values("integers", 1, -2, 2)),), (View(0, "float32", (1,), (1,)),))
    program = Program((Input(value),), (Call("torch.neg", (Ref(0),), (), (value,)),), (1,))
    judge(Case(program, (inputs,), Setting("planted")))


def _around(kernel: str, plan: Plan) -> Plan:
    """The plan with a user's kernel, which every program calls."""
    known = kernel_vocabulary(kernel, operators_of_torch())
    # Where the kernel rounds otherwise than its reference, as it may, their results would have other sizes.
    others = tuple(name for name in plan.operators if not words.traits(name).sized_by_values)

    def records(operator: str) -> tuple[Record, ...]:
        return known.records(operator) if operator == kernel else plan.records(operator)

    return replace(plan, vocabulary=known.name, anchor=kernel, operators=(kernel, *others), records=records)


@st.composite
def _cases(draw: st.DrawFn, plan: Plan, target: str, pinned: tuple[tuple[str, Scalar], ...], free: KnobSpace) -> Case:
    one = draw(grown(plan))
    # Each in a span of its own, so that any is left out alone.
    drawn = dict(draw(st.lists(_varied(free), max_size=MOST_VARIED)) if free else ())
    knobs = tuple(sorted({**drawn, **dict(pinned)}.items()))
    return DrawnCase(one.program, one.input_sets, Setting(target, knobs, one.mode))


@st.composite
def _varied(draw: st.DrawFn, free: KnobSpace) -> tuple[str, Scalar]:
    """A knob at another value than its default."""
    choices = HypothesisChoices(draw)
    knob = choices.pick(free)
    return knob.name, choices.pick(knob.values[1:])


def judge(case: Case) -> Result:
    """Run a case in this process, on its target and on its reference, and judge what both show.

    A crash of the target ends the process; ``shakeout replay`` and ``pytest --shakeout-cases`` run stored cases apart.

    Returns:
        ``failure`` is the first failing verdict, or None; ``status`` says whether the target took the case at all.
    """
    return execute(case, explain=False)
