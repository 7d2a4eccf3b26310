"""Rules that programs grow by: the precise ones, with what the recorded calls of their operator tell beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shakeout.generators.rules.library import Entry
from shakeout.generators.rules.rule import Rule
from shakeout.generators.rules.trace import structure_of
from shakeout.generators.vocabularies.records import Record, Spread

__all__ = ["Ruled", "ruled"]


@dataclass(frozen=True, slots=True, eq=False)
class Ruled:
    """A rule that calls are drawn from.

    Attributes:
        rule: the rule.
        spreads: which values each operand needs; of indices the bounds follow from the sizes.
        mutates: operands that the call writes to.
        grad: autograd takes the call, or has nothing to do with it.
    """

    rule: Rule
    spreads: tuple[Spread, ...]
    mutates: tuple[int, ...]
    grad: bool

    @property
    def operator(self) -> str:
        """Qualified name."""
        return self.rule.variant.operator


def ruled(entries: Sequence[Entry], records: Sequence[Record]) -> tuple[Ruled, ...]:
    """The rules of an operator that calls are drawn from.

    What an operator writes to, and whether autograd takes it, is known of recorded calls. A rule of another structure
    than theirs is used only where they all agree and write to nothing. One that may draw random numbers is not used:
    only the recorded attributes keep it from that.

    Args:
        entries: rules of the operator.
        records: of it.
    """
    if not records or any(record.draws for record in records):
        return ()
    known: Mapping[object, Record] = {
        structure_of(record.args, record.kwargs, len(record.slots)): record for record in reversed(records)
    }
    alike = not any(record.mutates for record in records) and len({record.grad for record in records}) == 1
    found = []
    for entry in entries:
        if not entry.usable:
            continue
        variant = entry.rule.variant
        record = known.get(variant.structure)
        if record is not None:
            spreads = tuple([slot.spread for slot in record.slots])
            found.append(Ruled(entry.rule, spreads, record.mutates, record.grad))
        elif alike:
            spreads = entry.spreads + (Spread(),) * (len(variant.ranks) - len(entry.spreads))
            found.append(Ruled(entry.rule, spreads, (), records[0].grad))
    return tuple(found)
