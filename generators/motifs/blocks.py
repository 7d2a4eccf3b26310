"""A building block while it is put together: each call is run at once, as of everything that grows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shakeout.corpus.program import Arg, reference, references
from shakeout.generators.choices import Choices
from shakeout.generators.growth import Growth
from shakeout.generators.values import Given, row_major
from shakeout.generators.vocabularies.records import Spread

__all__ = ["Block", "Value"]

#: Number of a value of the growth.
Value = int


class Block:
    """Puts calls together in a growth.

    Args:
        growth: where they are run.
        dtype: of its floating-point inputs.
    """

    def __init__(self, growth: Growth, dtype: str) -> None:
        self.growth, self.dtype = growth, dtype

    @property
    def choices(self) -> Choices:
        """What decides."""
        return self.growth.choices

    def size(self, *sizes: int) -> int:
        """One of these sizes."""
        return self.choices.pick(sizes)

    def input(self, *shape: int) -> Value:
        """An input of the block."""
        plain = self.choices.boolean(0.7)
        given = self.growth.sampler.given(self.dtype, shape, Spread(), writable=False, plain=plain)
        assert given is not None
        return self._give(given)

    def statistic(self, *shape: int, positive: bool = False) -> Value:
        """A buffer of the network, of which no gradient is asked; ``positive``: of one half or more."""
        spread = Spread("any", 0.5, 2.0) if positive else Spread("any", -1.0, 1.0)
        values = self.growth.sampler.values(self.dtype, spread, max(math.prod(shape), 1))
        return self.growth.give(Given(self.dtype, shape, row_major(len(shape)), values, self.dtype))

    def weight(self, *shape: int) -> Value:
        """A parameter of the network, which lies in memory as parameters do."""
        values = self.growth.sampler.values(self.dtype, Spread("any", -1.0, 1.0), max(math.prod(shape), 1))
        return self._give(Given(self.dtype, shape, row_major(len(shape)), values, self.dtype, parameter=True))

    def _give(self, given: Given) -> Value:
        leaf = self.growth.config.training
        return self.growth.give(
            Given(
                given.dtype, given.shape, given.layout, given.values, given.storage_dtype,
                parameter=given.parameter, requires_grad=leaf,
            )
        )  # fmt: skip

    def call(self, operator: str, *args: Arg, **kwargs: Arg) -> Value:
        """A call of an operator, on values that are references; its first result.

        Raises:
            Rejected: torch does not take it, or it means nothing.
        """
        named = tuple(sorted(kwargs.items()))
        operands = tuple(references((*args, *(value for _, value in named))))
        self.growth.run(operator, args, named, operands, ())
        return self.growth.steps[-1].first

    def on(self, operator: str, values: Sequence[Value], *args: Arg, **kwargs: Arg) -> Value:
        """A call whose first arguments are values."""
        return self.call(operator, *map(reference, values), *args, **kwargs)

    def shape(self, value: Value) -> tuple[int, ...]:
        """The sizes of a value."""
        return self.growth.shapes[value]
