"""What became unsupported since the base: of the cases that the head declines, those that the base takes."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shakeout.corpus import codec
from shakeout.fuzz.gate.cases import Candidate
from shakeout.fuzz.gate.trials import Runs

__all__ = ["MOST", "Declined", "declined", "newly", "reason_key", "taken"]

#: Cases that are tried on the base, those first that are the smallest of their reason: each costs a run there.
MOST = 48

#: Cases of one reason that are tried. Both sides may decline for it, and the head more than the base: of the smallest
#: case alone nothing would be seen of that.
EACH = 6

_NUMBER = re.compile(r"\d+")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|<[^>]*>")


@dataclass(frozen=True, slots=True)
class Declined:
    """One reason for which the head declines cases.

    Attributes:
        candidate: a case that it declined so.
        reason: what it said.
        count: of all such cases.
        key: what tells this reason from others.
    """

    candidate: Candidate
    reason: str
    count: int
    key: str


def declined(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Declined], int]:
    """Cases that a campaign saw declined, some for each reason, and how many reasons are left out.

    Of each reason there are the smallest cases of different dtypes and ranks.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    counts: Counter[str] = Counter()
    for message in messages:
        if key := str(message.get("declined", "")):
            counts[key] += 1
            if "case" in message:
                groups.setdefault(key, []).append((str(message["case"]), str(message["reason"])))
    chosen = [_different(key, group, counts[key]) for key, group in groups.items()]
    # The smallest of each reason, then the next one of each.
    order = [found for row in itertools.zip_longest(*chosen) for found in row if found is not None]
    tried = {one.key for one in order[:MOST]}
    return order[:MOST], len({one.key for one in order} - tried)


def reason_key(target: str, reason: str) -> str:
    """What tells a reason from others: two are one if their target says the same but for numbers and names."""
    return f"{target} {_NUMBER.sub('N', _QUOTED.sub('...', reason))}"


def _different(key: str, group: Sequence[tuple[str, str]], count: int) -> list[Declined]:
    """The smallest cases that one reason was given for, which differ in what they are given."""
    found: dict[frozenset[tuple[str, int]], Declined] = {}
    for text, reason in sorted(group, key=lambda one: len(one[0])):
        case = codec.decode(text)
        given = frozenset((one.type.dtype, len(one.type.shape)) for one in case.program.inputs)
        if given not in found:
            found[given] = Declined(Candidate(case.id, case, "fuzz"), " ".join(reason.split())[:300], count, key)
        if len(found) == EACH:
            break
    return list(found.values())


def taken(found: Sequence[Declined], base: Mapping[str, Runs]) -> list[Declined]:
    """Of each reason the first case that the base took in every run.

    Args:
        found: what the head declined in its campaign.
        base: the runs of each case there, by id.
    """
    first: dict[str, Declined] = {}
    for one in found:
        if _all(base.get(one.candidate.id), "compared"):
            first.setdefault(one.key, one)
    return list(first.values())


def newly(found: Sequence[Declined], head: Mapping[str, Runs], base: Mapping[str, Runs]) -> list[Declined]:
    """Those that the head declines in every run and the base takes in every run, one for each reason."""
    return taken([one for one in found if _all(head.get(one.candidate.id), "unsupported")], base)


def _all(runs: Runs | None, status: str) -> bool:
    return runs is not None and bool(runs.runs) and all(one.result.status == status for one in runs.runs)
