"""Hypothesis strategies: the same generation, with Hypothesis making the choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shakeout.generators.choices import Choices

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from shakeout.generators.network import Grown, Recipe
    from shakeout.generators.vocabularies.torch import Vocabulary

__all__ = ["DrawnChoices", "grown"]


class DrawnChoices(Choices):
    """Decisions that Hypothesis makes, and therefore also records, replays and shrinks."""

    def __init__(self, draw: DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        if low > high:
            raise ValueError(f"no whole number lies between {low} and {high}")
        from hypothesis import strategies

        return self._draw(strategies.integers(low, high))


def grown(recipe: Recipe | None = None, vocabulary: Vocabulary | None = None) -> SearchStrategy[Grown]:
    """Grown programs with their inputs; ``recipe`` and ``vocabulary`` as for ``grow``."""
    from hypothesis import strategies

    from shakeout.generators.network import Recipe, grow
    from shakeout.generators.vocabularies.torch import load_records

    @strategies.composite
    def build(draw: Any) -> Grown:
        return grow(DrawnChoices(draw), recipe or Recipe(), vocabulary or load_records())

    return build()
