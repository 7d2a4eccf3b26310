"""``shakeout operators --rules``: what was learnt of operators, for people and for programs."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.vocabularies.operator import identify

if TYPE_CHECKING:
    from shakeout.generators.rules.library import Entry, Library

__all__ = ["NothingLearnt", "described", "lines", "matching"]


class NothingLearnt(ValueError):
    """No operator of that name is known; the message says what to do."""


def matching(pattern: str | None) -> tuple[Library, list[str]]:
    """What was learnt, and the operators that a name or pattern means.

    Args:
        pattern: a qualified name, with ``*`` for anything; its last part, as ``conv2d``; ``MODULE:NAME``; or None.

    Raises:
        NothingLearnt: there is none.
    """
    from shakeout.corpus import learnt
    from shakeout.generators.rules.library import Library, library_of_torch

    if pattern is not None and ":" in pattern:
        content = learnt.of_kernel(pattern)
        if content is None:
            raise NothingLearnt(
                f"nothing was learnt of {pattern} in {learnt.kernel_path(pattern).parent}; "
                f"learn it with: shakeout learn {pattern} --examples PATH"
            )
        return Library(content), [pattern]
    library = library_of_torch()
    known = library.operators
    if not known:
        raise NothingLearnt("no rules are there for this version of torch; learn them with: shakeout learn torch")
    if pattern is None:
        return library, list(known)
    found = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
    found = found or [name for name in known if identify(name).name == pattern]
    if not found:
        import difflib

        close = difflib.get_close_matches(pattern, [*known, *(identify(name).name for name in known)], 1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise NothingLearnt(f"nothing was learnt of an operator {pattern!r}{meant}")
    return library, found


def lines(library: Library, names: Sequence[str], *, rules: bool) -> Iterator[str]:
    """One line for each operator, with its rules below it if they are wanted; and a last line with sums."""
    variants = usable = 0
    if not rules:
        yield f"{'operator':<56} {'variants':>8} {'rules':>6} {'used':>6} {'precision':>9} {'complete':>8}"
    for name in names:
        entries, without = library.entries(name), library.without(name)
        used = sum(entry.usable for entry in entries)
        variants += len(entries) + len(without)
        usable += used
        if rules:
            for entry in entries:
                yield from _told(entry)
            for one in without:
                yield f"{one.variant}"
                yield f"  no rule: {one.reason}"
            continue
        precision = _mean([entry.rule.precision for entry in entries])
        complete = _mean([entry.rule.completeness for entry in entries])
        counts = f"{len(entries) + len(without):>8} {len(entries):>6} {used:>6}"
        yield f"{name:<56} {counts} {precision:>9} {complete:>8}"
    yield f"{len(names)} operators, {variants} ways to call them, {usable} with a rule that calls are drawn from"


def _told(entry: Entry) -> Iterator[str]:
    yield from entry.rule.describe()
    yield f"  learnt from: {', '.join(entry.rule.sources) or 'nothing that is named'}"
    if not entry.usable:
        yield "  not drawn from: calls of it are those that were recorded, with other sizes where they are free"


def _mean(shares: Sequence[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{100 * sum(known) / len(known):.1f}%" if known else "-"


def described(library: Library, names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The same for programs."""
    return [
        {
            "operator": name,
            "variants": [
                *(
                    {
                        "variant": str(entry.rule.variant),
                        "rule": list(entry.rule.describe()),
                        "used": entry.usable,
                        "accepted": entry.rule.valid,
                        "rejected": entry.rule.invalid,
                        "unexplained": entry.rule.unexplained,
                        "sources": list(entry.rule.sources),
                        "precision": entry.rule.precision,
                        "completeness": entry.rule.completeness,
                    }
                    for entry in library.entries(name)
                ),
                *({"variant": str(one.variant), "rule": None, "reason": one.reason} for one in library.without(name)),
            ],
        }
        for name in names
    ]
