"""Calls that write to what earlier calls used or made, which a backward pass may need as it was."""

from __future__ import annotations

from shakeout.generators.growth import Growth
from shakeout.generators.vocabularies.torch import Vocabulary

__all__ = ["overwrite"]

#: Proposals for a program: some are dropped for sizes, dtypes or values, and what a call wrote to need not be what
#: autograd saved.
PROPOSALS = 6

#: Operators that are drawn until one writes to the value that it is given: about one in eight does.
DRAWS = 24


def overwrite(growth: Growth, vocabulary: Vocabulary) -> None:
    """Add a call or two of in-place operators on values that are there.

    Args:
        growth: a program with some calls.
        vocabulary: operators and their records.
    """
    choices = growth.choices
    wanted = len(growth.steps) + choices.integer(1, 2)
    for _ in range(PROPOSALS):
        if len(growth.steps) >= wanted:
            break
        values = [number for number in growth.usable() if growth.writable(number)]
        if not values:
            break
        value = choices.pick(values)
        takers = vocabulary.takers(growth.dtypes[value], len(growth.shapes[value]))
        for _ in range(DRAWS if takers else 0):
            taker = choices.pick(takers)
            writers = [(record, slot) for record, slot in taker.records if slot in record.mutates]
            if writers:
                record, slot = choices.pick(writers)
                growth.place(record, growth.dtypes[value], (value, slot))
                break
