"""The rules that were learnt, packed into one small file: what many rules have in common is written once.

An operator, its in-place form, its method and its alias have rules that differ in the name alone, and in how often they
were seen to hold.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shakeout.generators.rules.packing import expander, packed
from shakeout.generators.rules.rule import PARTS, Rule
from shakeout.generators.rules.trace import Variant
from shakeout.generators.vocabularies.records import Spread

__all__ = [
    "PRECISE",
    "Entry",
    "Library",
    "Unlearnt",
    "drawn_from",
    "library_of_onnx",
    "library_of_torch",
    "pack",
    "spread_from_json",
    "spread_to_json",
]

#: A rule is proposed from only if at least this share of fresh calls drawn from it was accepted, with the types that it
#: predicts. A network of ten operators drawn from rules of 0.9 would be valid one time in three.
PRECISE = 0.9

#: Parts of a rule that are written once for all that have them.
_SHARED = tuple(PARTS)


@dataclass(frozen=True, slots=True)
class Entry:
    """A rule, and how a call of it is filled.

    Attributes:
        rule: the rule.
        spreads: which values each operand needs.
    """

    rule: Rule
    spreads: tuple[Spread, ...]

    @property
    def usable(self) -> bool:
        """Whether it is proposed from; otherwise the variant is used through its records alone."""
        return self.rule.predicts and (self.rule.precision or 0.0) >= PRECISE


@dataclass(frozen=True, slots=True)
class Unlearnt:
    """A variant without a rule, and why."""

    variant: Variant
    reason: str


def spread_to_json(spread: Spread) -> list[Any]:
    """As plain JSON values."""
    return [spread.kind, spread.low, spread.high, spread.literal]


def spread_from_json(row: Sequence[Any]) -> Spread:
    """Read what ``spread_to_json`` wrote; raises ValueError or TypeError."""
    kind, low, high, literal = row
    return Spread(str(kind), low, high, None if literal is None else tuple(literal))


class Library:
    """Learnt rules by operator, unpacked when they are asked for.

    Args:
        content: what ``pack`` gave; rows that cannot be read are left out.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        parts, rows, without = (content.get(key) for key in ("parts", "operators", "without"))
        common, bodies = (content.get(key) for key in ("common", "bodies"))
        self._parts: Sequence[Any] = parts if isinstance(parts, Sequence) else ()
        self._bodies: Sequence[Any] = bodies if isinstance(bodies, Sequence) else ()
        try:
            self._expanded = expander(common if isinstance(common, Sequence) else ())
        except (ValueError, TypeError, IndexError, RecursionError):
            self._expanded = expander(())  # rules that need a part are left out
        self._rows: Mapping[str, Any] = rows if isinstance(rows, Mapping) else {}
        self._without: Mapping[str, Any] = without if isinstance(without, Mapping) else {}
        self._entries: dict[str, tuple[Entry, ...]] = {}
        self._read: dict[tuple[str, int], Any] = {}

    @property
    def operators(self) -> tuple[str, ...]:
        """Every operator that something is known about."""
        return tuple(sorted({*self._rows, *self._without}))

    def entries(self, operator: str) -> tuple[Entry, ...]:
        """The rules of an operator, one of each variant."""
        found = self._entries.get(operator)
        if found is None:
            rows = self._rows.get(operator)
            rows = rows if isinstance(rows, list) else ()
            found = tuple(entry for row in rows if (entry := self._entry(operator, row)) is not None)
            self._entries[operator] = found
        return found

    def usable(self, operator: str) -> tuple[Entry, ...]:
        """Those that calls are proposed from."""
        return tuple(entry for entry in self.entries(operator) if entry.usable)

    def without(self, operator: str) -> tuple[Unlearnt, ...]:
        """The variants of an operator that have no rule."""
        found = []
        for row in self._without.get(operator, ()):
            try:
                args, kwargs, ranks, reason = row
                found.append(Unlearnt(Variant.from_json([operator, args, kwargs, ranks]), str(reason)))
            except (ValueError, TypeError):
                continue
        return tuple(found)

    def _entry(self, operator: str, row: Any) -> Entry | None:
        try:
            body, *measured = row
            args, kwargs, ranks, spreads, *shared = self._bodies[body]
            valid, invalid, unexplained, precision, completeness = measured + [1.0, 1.0][: 5 - len(measured)]
            variant = Variant.from_json([operator, self._plain(args), self._plain(kwargs), self._plain(ranks)])
            parts = {key: self._part(key, number) for key, number in zip(_SHARED, shared, strict=True)}
            rule = Rule.of(variant, (valid, invalid, unexplained), precision, completeness, parts)
            return Entry(rule, tuple(spread_from_json(one) for one in self._plain(spreads)))
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError):
            return None

    def _part(self, key: str, number: int) -> Any:
        """A part of rules, read once."""
        if (key, number) not in self._read:
            self._read[key, number] = PARTS[key](self._plain(number))
        return self._read[key, number]

    def _plain(self, number: int) -> Any:
        return self._expanded(self._parts[number])


def drawn_from(rule: Mapping[str, Any] | None) -> bool:
    """Whether calls are drawn from a rule, given as JSON values."""
    try:
        return rule is not None and Entry(Rule.from_json(rule), ()).usable
    except ValueError:
        return False


def pack(variants: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of a library.

    Args:
        variants: each with ``variant``, ``rule`` (or None), ``notes`` and ``spreads``, as JSON values.
    """
    parts: dict[str, int] = {}
    bodies: dict[tuple[int, ...], int] = {}

    def shared(value: Any) -> int:
        return parts.setdefault(json.dumps(value, separators=(",", ":"), sort_keys=True), len(parts))

    operators: dict[str, list[Any]] = {}
    without: dict[str, list[Any]] = {}
    for one in variants:
        operator, args, kwargs, ranks = one["variant"]
        rule = one["rule"]
        if rule is None:
            reason = one["notes"][-1] if one["notes"] else "not learnt"
            without.setdefault(operator, []).append([args, kwargs, ranks, reason])
            continue
        body = tuple(map(shared, (args, kwargs, ranks, one["spreads"], *(rule[key] for key in _SHARED))))
        measured = [_rounded(rule["precision"]), _rounded(rule["completeness"])]
        row = [bodies.setdefault(body, len(bodies)), *rule["counts"], *(measured if measured != [1.0, 1.0] else ())]
        operators.setdefault(operator, []).append(row)
    written, common = packed([json.loads(text) for text in parts])
    return {
        "operators": dict(sorted(operators.items())),
        "without": dict(sorted(without.items())),
        "bodies": list(map(list, bodies)),
        "parts": written,
        "common": common,
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 3)


@functools.cache
def library_of_torch() -> Library:
    """What was learnt of the installed torch, or of the nearest version that is shipped; empty where nothing is."""
    from importlib.metadata import version

    from shakeout.corpus import learnt

    return Library(learnt.of_torch(version("torch")) or {})


@functools.cache
def library_of_onnx() -> Library:
    """The same of the installed onnx."""
    from importlib.metadata import version

    from shakeout.corpus import learnt

    return Library(learnt.of_onnx(version("onnx")) or {})
