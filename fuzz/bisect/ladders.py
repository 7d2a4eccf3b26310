"""How each target is taken apart, from what is coarse to what is fine, as its own ladder says."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

from shakeout.corpus.case import Case
from shakeout.fuzz.bisect.ablation import Ablation
from shakeout.fuzz.bisect.facts import Culprit, Fact, Knobs, Note, Rung
from shakeout.fuzz.bisect.trials import Trial
from shakeout.targets.registry import target
from shakeout.targets.target import Ladder, Levels

__all__ = ["bisected", "taken_apart"]


def bisected(ablation: Ablation) -> Iterator[Fact]:
    """Everything that can be found out about a case on its target, one fact after the other."""
    yield Knobs(ablation.needed_knobs())
    if ablation.stop():
        return
    name = ablation.case.setting.target
    ladder = target(name).facts.ladder  # a pass of a user has one as well
    single = True
    if ladder is not None:
        plain = _plain(ladder)
        for fact in taken_apart(ablation, ladder):
            # Which pass or optimiser can be left out is known by then, or that it fails without any of them.
            single &= not (isinstance(fact, Culprit) and fact.alone is True) and fact != plain
            yield fact
    else:
        yield Note(f"{name} has no parts that Shakeout could leave out")
    if not ablation.stop():
        yield ablation.cures(skip=() if single or ladder is None else (ladder.single,))


def _plain(ladder: Ladder) -> Rung | None:
    """What says that it fails with everything turned off."""
    levels = ladder.levels
    return None if levels is None or not levels.off else Rung(f"{levels.knob}={levels.values[0]}", "bad")


def taken_apart(ablation: Ablation, ladder: Ladder) -> Iterator[Fact]:
    """The facts of a ladder, from its first rung to its last part."""
    setting = ablation.case.setting
    # Of a target that works in stages the one that the oracles blame, as every run tells it.
    if ablation.stage not in ("", setting.target):
        yield Culprit("stage", (ablation.stage,))
    if ladder.below:
        first = yield from _first_below(ablation, ladder.below)
        if first != setting.target:
            lower = replace(ablation.case, setting=replace(setting, target=first, knobs=()))
            yield from _parts(ablation, target(first).facts.ladder or Ladder(), lower)
            return
    if ladder.levels is not None:
        rungs = []
        for rung in _levels(ablation, ladder.levels):
            rungs.append(rung)
            yield rung
        if ablation.stop():
            return
        if rungs[0].verdict == "bad" and ladder.levels.off:
            yield Note(ladder.levels.off)
            return
        if ladder.levels.label:
            first = next(rung.name for rung in rungs if rung.verdict == "bad")
            yield Culprit(ladder.levels.label, (first,), confidence=ablation.trust(rungs))
    yield from _parts(ablation, ladder, ablation.case)


def _first_below(ablation: Ablation, below: tuple[str, ...]) -> Generator[Fact, None, str]:
    """The first of a target and those that do less with which it fails."""
    rungs = [*ablation.rungs(below), Rung(ablation.case.setting.target, "bad")]
    yield from rungs
    first = next(rung.name for rung in rungs if rung.verdict == "bad")
    unsure = [rung.name for rung in rungs[: [rung.name for rung in rungs].index(first)] if rung.verdict != "good"]
    if unsure:
        yield Note(f"it fails from {first} on; what {' and '.join(unsure)} said could not be judged")
    yield Culprit("stage", (first,), confidence=ablation.trust(rungs))
    return first


def _levels(ablation: Ablation, levels: Levels) -> Iterator[Rung]:
    """The levels below the case's own, from the lowest on, and its own, which is known to fail."""
    knob, values = levels.knob, levels.values
    own = ablation.case.setting.knob(knob, values[-1])
    # One that is not of the list, such as a default that has no number, stands above all.
    below = values[: values.index(own)] if own in values else values
    for level in below:
        if ablation.stop():
            return
        yield Rung(f"{knob}={level}", ablation.ask(Trial(ablation.switched(knob, level)), f"with {knob}={level}"))
    yield Rung(f"{knob}={own}", "bad")


def _parts(ablation: Ablation, ladder: Ladder, case: Case) -> Iterator[Fact]:
    """The part without which a case does not fail, and what is finer in it."""
    found = False
    for part in ladder.parts:
        if ablation.stop():
            return
        if found and not part.finer:
            continue
        culprit = ablation.culprit(part.kind, part.label, case)
        if culprit is not None:
            found = True
            yield culprit
    if not found and ladder.raising is not None and ablation.wanted.oracle == "exception" and not ablation.stop():
        for fact in ablation.raised(ladder.raising.kind, ladder.raising.label, case):
            found = True
            yield fact
    if not found and ladder.otherwise:
        yield Note(ladder.otherwise)
