"""Measures generation: operators per second with reference, checks and storage, and how broad what is grown is.

Run it directly: ``python tests/benchmarks/generation.py [--programs N]``. Times are processor time of this process, the
least of three for each program, so that other processes on the machine show less. What the reference shows is a
by-product of growing; the source text and a run of the reference from it, which a campaign adds where the target's
bits are others, are printed beside it. Where ``shakeout learn torch`` was run, what rules cost is measured as well.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter

import torch

from shakeout.corpus import script, standalone
from shakeout.corpus.case import Case, Setting, contiguous
from shakeout.generators.choices import SeededChoices
from shakeout.generators.network import grow
from shakeout.generators.recipe import Grown, Recipe
from shakeout.generators.vocabularies.torch import Vocabulary, load_records

ROUNDS = 3


def once(seed: int, recipe: Recipe, vocabulary: Vocabulary) -> tuple[int, dict[str, float]]:
    """Seconds of each part for one program, and how many operators it has."""
    clock = time.process_time
    marks = [clock()]
    grown = grow(SeededChoices(seed), recipe, vocabulary)
    marks.append(clock())
    case = Case(grown.program, grown.input_sets, Setting("eager", (), grown.mode))
    assert case.id  # the canonical text and its hash
    marks.append(clock())
    namespace = script.load(case, script.body(case))
    marks.append(clock())
    standalone.run(namespace["bind"], namespace["arguments"], namespace["CALLS"], lambda network: network)
    marks.append(clock())
    names = ("grow", "store", "text", "run")
    return len(grown.program.calls), {name: marks[i + 1] - marks[i] for i, name in enumerate(names)}


def speed(vocabulary: Vocabulary, recipe: Recipe, programs: int) -> str:
    """One line: operators per second, and microseconds per program by part."""
    operators = 0
    spent: dict[str, float] = {}
    for seed in range(programs):
        rounds = [once(seed, recipe, vocabulary) for _ in range(ROUNDS)]
        operators += rounds[0][0]
        for part in rounds[0][1]:
            spent[part] = spent.get(part, 0.0) + min(seconds[part] for _, seconds in rounds)
    total = spent["grow"] + spent["store"]
    parts = ", ".join(f"{part} {1e6 * seconds / programs:.0f}" for part, seconds in spent.items())
    whole = f"{operators / sum(spent.values()):.0f} with text and a run of it"
    return f"{operators / total:7.0f} operators/s, {whole} ({operators / programs:.1f} per program; us each: {parts})"


def ratio(vocabulary: Vocabulary, recipe: Recipe, programs: int) -> str:
    """One line: operators per second by rules and by recorded calls alone, measured in turn."""
    both = (vocabulary, vocabulary.recorded())
    both[1].read_all()
    operators, spent = [0, 0], [0.0, 0.0]
    for seed in range(programs):
        rounds = [[once(seed, recipe, one) for one in both] for _ in range(ROUNDS)]
        for side in range(2):
            operators[side] += rounds[0][side][0]
            spent[side] += min(seconds[side][1]["grow"] + seconds[side][1]["store"] for seconds in rounds)
    ruled, recorded = (count / seconds for count, seconds in zip(operators, spent, strict=True))
    return f"{ruled:.0f} operators/s by rules, {recorded:.0f} by recorded calls alone: {ruled / recorded:.2f}"


def breadth(vocabulary: Vocabulary, recipe: Recipe, programs: int) -> str:
    """How much of what there is was met."""
    used: Counter[str] = Counter()
    fed: set[str] = set()
    axes: Counter[str] = Counter()
    dtypes: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for seed in range(programs):
        grown = grow(SeededChoices(seed), recipe, vocabulary)
        used.update(set(grown.program.operators()))
        fed.update(grown.fed)
        rejected.update(grown.rejected)
        axes.update(_axes(grown))
        dtypes.update({type_.dtype for type_ in grown.program.types() if type_ is not None})
    shown = ", ".join(f"{name} {100 * count / programs:.1f}%" for name, count in axes.most_common())
    return (
        f"{len(used)} operators placed, {len(fed)} of them fed by another\n  programs with: {shown}\n"
        f"  dtypes: {dict(dtypes.most_common())}\n  dropped: {dict(rejected.most_common(8))}"
    )


def _axes(grown: Grown) -> set[str]:
    first = grown.input_sets[0]
    found = {grown.mode, "further inputs" if len(grown.input_sets) > 1 else "one call"}
    found |= {"dynamic"} if grown.dynamic else set()
    found |= {"whole numbers"} if grown.exact else set()
    found |= {"shared storage"} if first.shared() else set()
    for view in first.views:
        if view.strides != contiguous(view.shape):
            found.add("strided input")
        if 0 in view.strides and any(s == 0 and n > 1 for s, n in zip(view.strides, view.shape, strict=True)):
            found.add("expanded input")
        if view.offset:
            found.add("offset input")
        if view.dtype != first.storages[view.storage].dtype:
            found.add("reinterpreted input")
        if 0 in view.shape:
            found.add("zero-size input")
        if not view.shape:
            found.add("0-d input")
        if any(size > 1000 for size in view.shape):
            found.add("large input")
    if any(storage.values.kind == "special" for storage in first.storages):
        found.add("special values")
    if any(given.role == "parameter" for given in grown.program.inputs):
        found.add("parameters")
    if any(call.operator.endswith(("_", "__setitem__")) for call in grown.program.calls):
        found.add("in-place")
    if len(grown.program.returns) > 1:
        found.add("several outputs")
    if any(value < len(grown.program.inputs) for value in grown.program.returns):
        found.add("returns an input")
    if any(not call.operands() for call in grown.program.calls):
        found.add("constant")
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=300, help="programs that are timed, of each size")
    parser.add_argument("--networks", type=int, default=3000, help="networks that are counted")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    vocabulary = load_records()
    print(f"records: {time.perf_counter() - started:.2f} s (seconds where the cache was there), ", end="")
    print(f"{len(vocabulary.operators)} operators")
    vocabulary.read_all()
    for seed in range(1500):  # streams of values, imports on first use
        grow(SeededChoices(1_000_000 + seed), Recipe(), vocabulary)
    for size in (10, 30, 100):
        recipe = Recipe(style="network", operators=size)
        print(f"network of {size:3}: {speed(vocabulary, recipe, max(options.programs * 10 // size, 30))}")
    recipe = Recipe(style="network", operators=10, mode="inference")
    print(f"  inference    : {speed(vocabulary, recipe, options.programs)}")
    print(f"small programs : {speed(vocabulary, Recipe(style='small'), options.programs)}")
    if vocabulary.ruled:
        print(f"networks of 10 : {ratio(vocabulary, Recipe(style='network', operators=10), options.programs)}")
        print(f"small programs : {ratio(vocabulary, Recipe(style='small'), options.programs)}")
    print(f"networks: {breadth(vocabulary, Recipe(style='network'), options.networks)}")
    print(f"small: {breadth(vocabulary, Recipe(style='small'), options.networks)}")


if __name__ == "__main__":
    main()
