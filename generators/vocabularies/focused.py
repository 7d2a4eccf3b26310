"""Growing around some operators of torch: every program calls one of them, among others that feed it or use it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

from shakeout.corpus.vocabularies.table import matching
from shakeout.generators.choices import Choices
from shakeout.generators.network import grow
from shakeout.generators.recipe import Grown, Recipe
from shakeout.generators.vocabularies.records import Record
from shakeout.generators.vocabularies.ruled import Ruled
from shakeout.generators.vocabularies.torch import Takers, Vocabulary

__all__ = ["FocusedVocabulary", "focused", "grow_focused"]

#: Of the calls that take an existing value, this share (1 in ...) are those operators'.
SHARE = 3

#: Programs that are grown until one calls such an operator; one whose calls are all rejected for their drawn sizes is
#: grown as it is, and the ledger tells.
ATTEMPTS = 8


class FocusedVocabulary(Vocabulary):
    """Some operators of a vocabulary with which programs begin, and all of it around them."""

    def __init__(self, operators: Sequence[str], around: Vocabulary) -> None:
        super().__init__({name: [] for name in operators})
        self.name = around.name
        self._around = around

    def records(self, operator: str) -> tuple[Record, ...]:
        """Every record of an operator."""
        return self._around.records(operator)

    def rules(self, operator: str) -> tuple[Ruled, ...]:
        """The rules of an operator that calls are drawn from."""
        return self._around.rules(operator)

    @property
    def ruled(self) -> bool:
        """Whether there are rules at all."""
        return self._around.ruled

    def takers(self, dtype: str, rank: int) -> tuple[Takers, ...]:
        """Where a value of this dtype and rank can go; the operators in focus come often."""
        others = self._around.takers(dtype, rank)
        return others + super().takers(dtype, rank) * (len(others) // SHARE + 1)


@functools.lru_cache(maxsize=16)
def focused(patterns: tuple[str, ...], around: Vocabulary) -> FocusedVocabulary:
    """The vocabulary in which the operators that patterns match come first.

    Raises:
        ValueError: they match none that this torch has calls of.
    """
    found = matching(patterns, around.operators)
    if not found:
        raise ValueError(
            f"--focus {', '.join(patterns)}: no operator of this torch that calls are known of is called so"
        )
    return FocusedVocabulary(found, around)


def grow_focused(
    choices: Choices,
    recipe: Recipe,
    vocabulary: FocusedVocabulary,
    before_call: Callable[[str], None] | None = None,
) -> Grown:
    """Grow a program that calls an operator in focus, known to be declined or not; see ``network.grow``."""
    wanted = frozenset(vocabulary.operators)
    recipe = replace(recipe, avoid=recipe.avoid - wanted, only=None)
    grown = grow(choices, recipe, vocabulary, before_call)
    for _ in range(ATTEMPTS - 1):
        if wanted.intersection(grown.program.operators()):
            break
        grown = grow(choices, recipe, vocabulary, before_call)
    return grown
