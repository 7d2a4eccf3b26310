"""What became unsupported since the base: of the cases that the head declines, those that the base takes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shakeout.corpus import codec
from shakeout.fuzz.gate.cases import Candidate
from shakeout.fuzz.gate.trials import Runs

__all__ = ["MOST", "Declined", "declined", "newly", "takes"]

#: Reasons that are tried on the base, those first that come with the smallest program: each costs a run there.
MOST = 48

_NUMBER = re.compile(r"\d+")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|<[^>]*>")


@dataclass(frozen=True, slots=True)
class Declined:
    """One reason for which the head declines cases.

    Attributes:
        candidate: the smallest case that it declined so.
        reason: what it said.
        count: of such cases.
    """

    candidate: Candidate
    reason: str
    count: int


def declined(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Declined], int]:
    """The reasons for which a campaign's cases were declined, each with its smallest case, and how many more there are.

    Two cases have one reason if their target says the same but for numbers and names.
    """
    counts: Counter[tuple[str, str]] = Counter()
    least: dict[tuple[str, str], tuple[str, str]] = {}
    for message in messages:
        text = message.get("declined")
        if not text:
            continue
        reason = str(message["reason"])
        key = str(message["target"]), _NUMBER.sub("N", _QUOTED.sub("'...'", reason))
        counts[key] += 1
        if key not in least or len(text) < len(least[key][0]):
            least[key] = text, reason
    order = sorted(least, key=lambda key: len(least[key][0]))
    found = []
    for key in order[:MOST]:
        text, reason = least[key]
        case = codec.decode(text)
        found.append(Declined(Candidate(case.id, case, "fuzz"), " ".join(reason.split())[:300], counts[key]))
    return found, max(len(order) - MOST, 0)


def newly(found: Sequence[Declined], head: Mapping[str, Runs], base: Mapping[str, Runs]) -> list[Declined]:
    """Those that the head declines in every run and the base takes in every run.

    Args:
        found: what the head declined in its campaign.
        head, base: the runs of each case, by id.
    """

    return [
        one for one in found if _all(head.get(one.candidate.id), "unsupported") and takes(base.get(one.candidate.id))
    ]


def takes(runs: Runs | None) -> bool:
    """Whether a side took a case in every run."""
    return _all(runs, "compared")


def _all(runs: Runs | None, status: str) -> bool:
    return runs is not None and bool(runs.runs) and all(one.result.status == status for one in runs.runs)
