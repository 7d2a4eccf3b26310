"""``--focus``: what somebody wants to have fuzzed, sorted into targets and operators."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from shakeout.fuzz.commands.places import Mistake

__all__ = ["Focus", "focused"]


@dataclass(frozen=True, slots=True)
class Focus:
    """What was named.

    Attributes:
        targets: registered ones, and kernels and runtimes as ``MODULE:NAME``.
        operators: names or patterns, each of which matches an operator.
    """

    targets: tuple[str, ...]
    operators: tuple[str, ...]


def focused(words: Iterable[str]) -> Focus:
    """Sort the words; raises Mistake for one that is neither a target nor an operator."""
    words = list(words)
    if not words:
        return Focus((), ())
    from shakeout.corpus.vocabularies.table import matching, table
    from shakeout.targets.registry import names

    known = (*table().functions, *table().overloads)
    targets, operators = [], []
    for word in words:
        if ":" in word or word in names():
            targets.append(word)
        elif matching([word], known):
            operators.append(word)
        else:
            close = difflib.get_close_matches(word, (*known, *names()), 1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise Mistake(
                f"--focus {word}: expected a target, MODULE:NAME, or an operator such as torch.cumsum or '*softmax*'"
                f"{meant} (see: shakeout targets)"
            )
    return Focus(tuple(dict.fromkeys(targets)), tuple(dict.fromkeys(operators)))
