"""How often each mutator makes a valid mutant, and how many mutants a second there are beside programs grown anew.

    python tests/benchmarks/mutation.py --parents 100 --each 1

A mutant counts as made by a mutator if that mutator, and not one that stood in for it, made it; as valid if the
reference accepts the stored case again, call by call (``generators.validity``).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

from shakeout.corpus import codec
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.running.compose import compose, vocabulary_of
from shakeout.generators.choices import SeededChoices
from shakeout.generators.mutation.mutate import MUTATORS, mutate
from shakeout.generators.validity import REQUIREMENTS, InvalidCandidate, validated


def main() -> None:
    """Grow, mutate, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parents", type=int, default=60, help="cases that are grown, half of them networks")
    parser.add_argument("--each", type=int, default=1, help="mutants of each parent and mutator")
    parser.add_argument("--target", default="eager", help="for which they are grown")
    options = parser.parse_args()
    compose(Grow(target=options.target, seed=0))
    began = time.perf_counter()
    parents = [compose(Grow(target=options.target, seed=seed)).case for seed in range(options.parents)]
    growing = time.perf_counter() - began
    plain = [case for case in parents if not case.program.structured()]
    vocabulary = vocabulary_of(options.target)
    print(f"{len(parents) / growing:6.1f} programs a second grown anew ({len(parents)}), {len(plain)} without regions")
    print("mutator     asked  made  valid  a second  calls of the parent kept")
    total, spent = 0, 0.0
    for name in MUTATORS:
        made = valid = asked = 0
        kept: Counter[bool] = Counter()
        seconds = 0.0
        for number, case in enumerate(plain):
            for turn in range(options.each):
                asked += 1
                choices = SeededChoices(number * 1000 + turn)
                began = time.perf_counter()
                mutant = mutate(choices, case, [name], vocabulary, plain[(number + 1) % len(plain)])
                seconds += time.perf_counter() - began
                if mutant is None:
                    continue
                total += 1
                if mutant.mutators != (name,):
                    continue
                made += 1
                kept[True] += sum(
                    (Counter(case.program.operators()) & Counter(mutant.case.program.operators())).values()
                )
                kept[False] += len(case.program.calls)
                valid += _valid(codec.encode(mutant.case))
        spent += seconds
        share = kept[True] / kept[False] if kept[False] else 0.0
        print(f"{name:10}  {asked:5}  {made:4}  {valid:5}  {made / seconds:8.1f}  {share:.0%}")
    print(f"{total / spent:6.1f} mutants a second over all")


def _valid(text: str) -> bool:
    case = codec.decode(text)
    for requirements in REQUIREMENTS[:2]:
        try:
            validated(case, requirements)
        except InvalidCandidate as error:
            reason = error
            continue
        return True
    print(f"  not valid: {reason}: {case.program.operators()}")
    return False


if __name__ == "__main__":
    main()
