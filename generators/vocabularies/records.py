"""Records: one call of an operator that is known to work, with what may be varied about it.

A record is a structure (which arguments, of which kind) with tensors as slots. The bootstrap finds out by trying which
sizes are free and which must change together, which dtypes the operator takes, what it writes to; execution decides
about everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shakeout.corpus.codec import arg_from_json, arg_to_json
from shakeout.corpus.program import Arg

__all__ = ["Record", "Slot", "Spread"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Which values an operand needs.

    Attributes:
        kind: ``any`` (within the bounds, where there are bounds), ``index`` (whole numbers within the bounds),
            ``distinct`` (an index whose elements all differ), ``sorted`` (ascending along the last dimension) or
            ``definite`` (a symmetric positive definite matrix).
        low: least value that was seen, or None where anything goes.
        high: largest value that was seen.
        literal: the very elements of the recorded operand, where they are few whole numbers.
    """

    kind: str = "any"
    low: float | None = None
    high: float | None = None
    literal: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a tensor.

    Attributes:
        dtype: ``T`` (the dtype that the record is used at), ``R`` (its real counterpart) or a dtype's name.
        classes: for each dimension the number of its size class.
        spread: which values it needs.
    """

    dtype: str
    classes: tuple[int, ...]
    spread: Spread = Spread()

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.classes)


@dataclass(frozen=True, slots=True)
class Record:
    """One way to call an operator.

    Attributes:
        operator: qualified name.
        args: positional arguments; ``Ref(i)`` stands for slot ``i``.
        kwargs: keyword arguments as sorted pairs.
        slots: the tensors.
        sizes: the recorded size of each size class.
        free: which size classes may take another size.
        dtypes: what ``T`` may be.
        mutates: slots that the call writes to.
        view: a result shares memory with a slot.
        ranks: bit ``r`` is set if all slots may together have another shape of rank ``r``.
        broadcasts: the later slots may be smaller (1), the first may be smaller as well (2).
        grad: autograd takes the call, or has nothing to do with it.
        draws: the operator can draw random numbers; with these very attributes it does not.
    """

    operator: str
    args: tuple[Arg, ...]
    kwargs: tuple[tuple[str, Arg], ...]
    slots: tuple[Slot, ...]
    sizes: tuple[int, ...]
    free: tuple[bool, ...]
    dtypes: tuple[str, ...]
    mutates: tuple[int, ...] = ()
    view: bool = False
    ranks: int = 0
    broadcasts: int = 0
    draws: bool = False
    grad: bool = True

    def shape(self, slot: int) -> tuple[int, ...]:
        """The recorded shape of a slot."""
        return tuple(self.sizes[number] for number in self.slots[slot].classes)

    def to_json(self) -> list[Any]:
        """As a row of plain JSON values, without the operator."""
        return [
            [arg_to_json(arg) for arg in self.args],
            {key: arg_to_json(arg) for key, arg in self.kwargs},
            [
                [slot.dtype, slot.classes, slot.spread.kind, slot.spread.low, slot.spread.high, slot.spread.literal]
                for slot in self.slots
            ],
            self.sizes,
            [int(free) for free in self.free],
            self.dtypes,
            self.mutates,
            int(self.view),
            self.ranks,
            self.broadcasts,
            int(self.draws),
            int(self.grad),
        ]

    @staticmethod
    def from_json(operator: str, row: list[Any]) -> Record:
        """Read a row; raises ValueError, TypeError or KeyError where it is none."""
        args, kwargs, slots, sizes, free, dtypes, mutates, view, ranks, broadcasts, draws, grad = row
        return Record(
            operator=operator,
            args=tuple(map(arg_from_json, args)),
            kwargs=tuple(sorted((key, arg_from_json(value)) for key, value in kwargs.items())),
            slots=tuple(
                Slot(dtype, tuple(classes), Spread(kind, low, high, None if literal is None else tuple(literal)))
                for dtype, classes, kind, low, high, literal in slots
            ),
            sizes=tuple(sizes),
            free=tuple(map(bool, free)),
            dtypes=tuple(dtypes),
            mutates=tuple(mutates),
            view=bool(view),
            ranks=ranks,
            broadcasts=broadcasts,
            draws=bool(draws),
            grad=bool(grad),
        )
