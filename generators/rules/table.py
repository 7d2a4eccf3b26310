"""Tables: the records of one variant as integer columns, with what is odd about them told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shakeout.generators.rules.expressions import Mask, Vector
from shakeout.generators.rules.trace import Trace, Variant, inexact, symbols, variant_of

__all__ = ["HUGE", "Table", "tabulate"]

#: A trace with a number of at least this magnitude is set aside: it says nothing about sizes.
HUGE = 1 << 31
#: Records of either kind that are looked at: what is beyond says the same.
MOST = 320


@dataclass(frozen=True, slots=True)
class Table:
    """Records of one variant.

    Attributes:
        variant: what they have in common.
        names: the symbols, dimensions first.
        columns: for each symbol its value in every record.
        traces: the records, accepted ones first.
        valid: which were accepted.
        loose: accepted records whose results differ from those of a record with the same symbols and dtypes.
        notes: what was set aside, in words.
    """

    variant: Variant
    names: tuple[str, ...]
    columns: dict[str, Vector]
    traces: tuple[Trace, ...]
    valid: Mask
    loose: Mask
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.traces)

    def where(self, rows: Mask) -> Table:
        """The same with some of the records."""
        kept = np.flatnonzero(rows)
        return replace(
            self,
            columns={name: column[kept] for name, column in self.columns.items()},
            traces=tuple([self.traces[row] for row in kept]),
            valid=self.valid[kept],
            loose=self.loose[kept],
        )


def tabulate(traces: Sequence[Trace]) -> Table:
    """The table of traces of one variant.

    Repetitions are dropped. A rejected call that was accepted with the same symbols and dtypes was rejected for its
    values, of which nothing is known here: it is set aside. So is a trace with a number of ``HUGE``.

    Raises:
        ValueError: there is no trace, or there are several variants.
    """
    if not traces:
        raise ValueError("a table needs at least one trace")
    variant = variant_of(traces[0])
    names: tuple[str, ...] = tuple(symbols(traces[0]))
    kept: dict[tuple[object, ...], tuple[Trace, list[int]]] = {}
    loose: set[tuple[object, ...]] = set()
    rejected: dict[tuple[object, ...], tuple[Trace, list[int]]] = {}
    huge = 0
    for trace in traces:
        if (other := variant_of(trace)) != variant:
            raise ValueError(f"{other} is another variant than {variant}")
        row = list(symbols(trace, variant).values())
        if any(abs(value) >= HUGE for value in row):
            huge += 1
            continue
        dtypes = tuple([operand.dtype for operand in trace.operands])
        key: tuple[object, ...] = (*row, *dtypes, *map(repr, inexact(trace, variant).values()))
        if not trace.accepted:
            rejected.setdefault(key, (trace, row))
        elif key not in kept:
            kept[key] = (trace, row)
        elif (kept[key][0].results, kept[key][0].form) != (trace.results, trace.form):
            loose.add(key)
    both = [key for key in rejected if key in kept]
    for key in both:
        del rejected[key]
    notes = [f"{huge} traces with a number of 2**31 or more set aside"] if huge else []
    if both:
        notes.append(f"{len(both)} calls accepted with some values and rejected with others")
    if loose:
        notes.append(f"{len(loose)} calls whose results depend on values")
    good, bad = _thinned(list(kept)), _thinned(list(rejected))
    rows = [kept[key][1] for key in good] + [rejected[key][1] for key in bad]
    matrix = np.array(rows, np.int64).reshape(len(rows), len(names)).T
    return Table(
        variant,
        names,
        {name: matrix[place] for place, name in enumerate(names)},
        tuple([kept[key][0] for key in good] + [rejected[key][0] for key in bad]),
        np.array([True] * len(good) + [False] * len(bad), np.bool_),
        np.array([key in loose for key in good] + [False] * len(bad), np.bool_),
        tuple(notes),
    )


def _thinned(keys: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Evenly spread ones of them."""
    if len(keys) <= MOST:
        return keys
    return [keys[number * len(keys) // MOST] for number in range(MOST)]
