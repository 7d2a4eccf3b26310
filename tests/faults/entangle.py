"""A fault's minimal case in the middle of a network that has nothing to do with it: what a minimiser starts from."""

from __future__ import annotations

from dataclasses import replace

from tests.faults import Fault, planted

from shakeout.corpus.case import Case, InputSet
from shakeout.corpus.program import Arg, Program, Ref, mapped
from shakeout.corpus.support import declined
from shakeout.fuzz.running.execute import execute
from shakeout.generators.choices import SeededChoices
from shakeout.generators.network import grow
from shakeout.generators.recipe import Recipe
from shakeout.generators.vocabularies.torch import load_records
from shakeout.oracles.verdict import Outcome
from shakeout.targets.registry import target

__all__ = ["entangled", "hosted", "interleaved"]


#: Networks that are looked at: a target declines many, and some hold a bug of the stock compiler.
ATTEMPTS = 40


def hosted(fault: Fault, seed: int) -> Case:
    """The fault's minimal case in a network that the target takes, in which it shows and nothing else is wrong."""
    for attempt in range(ATTEMPTS):
        case = entangled(fault.case(), seed + 1000 * attempt)
        with planted(fault, fixed=True):
            result = execute(case, explain=False)
        if result.status != "compared" or result.outcome is not Outcome.PASS:
            continue
        with planted(fault):
            if execute(case, explain=False).failure is not None:
                return case
    raise AssertionError(f"no network of {ATTEMPTS} shows {fault.name} and nothing else")


def entangled(case: Case, seed: int, operators: int = 8) -> Case:
    """The case and a grown network as one program: inputs side by side, calls in turn, all results returned."""
    subject = target(case.setting.target)
    recipe = Recipe(
        style="network", operators=operators, mode=case.setting.mode, dynamic=False, repeat=False,
        avoid=declined(case.setting.target), foreign=subject.facts.foreign, writes="writes" in subject.facts.promises,
    )  # fmt: skip
    grown = grow(SeededChoices(seed), recipe, load_records())
    return interleaved(case, grown.program, grown.input_sets[0])


def interleaved(case: Case, theirs: Program, given: InputSet) -> Case:
    """The case and another program as one: inputs side by side, calls in turn, all results returned, its own first."""
    ours = case.program
    shift = len(ours.inputs)
    inputs = (*ours.inputs, *theirs.inputs)
    own: dict[int, Arg] = {n: Ref(n) for n in range(shift)}
    other: dict[int, Arg] = {n: Ref(shift + n) for n in range(len(theirs.inputs))}
    pending = [[(call, other, first) for call, first in zip(theirs.calls, theirs.firsts(), strict=True)]]
    pending += [[(call, own, first) for call, first in zip(ours.calls, ours.firsts(), strict=True)]]
    calls, total, turn = [], len(inputs), 0
    while any(pending):
        turn = turn if pending[turn] else 1 - turn
        call, places, first = pending[turn].pop(0)
        calls.append(mapped(call, places))
        for position in range(len(call.results)):
            places[first + position] = Ref(total + position)
        total += len(call.results)
        turn = 1 - turn
    returned = [places[number] for program, places in ((ours, own), (theirs, other)) for number in program.returns]
    returns = tuple(dict.fromkeys(ref.index for ref in returned if isinstance(ref, Ref)))
    sets = tuple(_side_by_side(inputs_of, given) for inputs_of in case.input_sets)
    return replace(case, program=Program(inputs, tuple(calls), returns, ours.vocabulary), input_sets=sets)


def _side_by_side(first: InputSet, second: InputSet) -> InputSet:
    shift = len(first.storages)
    views = tuple(replace(view, storage=view.storage + shift) for view in second.views)
    return InputSet((*first.storages, *second.storages), (*first.views, *views))
