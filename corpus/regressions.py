"""Regressions: the smallest case of each bug that campaigns found, what is thought of it, which releases have it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.corpus.evidence import Evidence
from shakeout.corpus.symptom import Symptom

__all__ = ["DIRECTORY", "Judgement", "Regression", "Status", "load", "load_all"]

DIRECTORY = Path(__file__).parent / "data" / "regressions"

#: ``real``: eager and target disagree on a program with a defined meaning. ``arguable``: somebody could say that the
#: program asks for it.
Judgement = Literal["real", "arguable"]

#: What a case does on a release.
Status = Literal["fails", "fixed"]


@dataclass(frozen=True, slots=True)
class Regression:
    """One bug and its smallest case.

    Attributes:
        id: name of its file.
        title: one line.
        found: which campaign found it, by page of ``docs/campaigns``, or another place.
        judgement: whether it is a bug.
        explanation: what goes wrong, and what speaks for and against it.
        reference: address of a public report; empty if none was found.
        searched: on which day one was looked for, ``2026-11-25``; empty if nobody has.
        culprit: what is to blame where that is known: a file, a function, a commit.
        failure: ``oracle`` and ``symptom`` of the failing run, and ``culprit`` where these tell too little.
        status: what the case does by release, ``"torch 2.13.0": "fails"``; the first package named is the one at fault.
        case: the smallest case.
        evidence: what was tried on it; None if nothing was.
        near: address of a public report of something near it, which may be its cause; empty if none was found.
        same: name of the regression that has the same cause, on whose page it stands; empty if it has its own.
    """

    id: str
    title: str
    found: str
    judgement: Judgement
    explanation: str
    reference: str
    searched: str
    culprit: str
    failure: Mapping[str, str]
    status: Mapping[str, Status]
    case: Case
    evidence: Evidence | None = None
    near: str = ""
    same: str = ""

    @property
    def symptom(self) -> Symptom:
        """What a script has to see."""
        return Symptom.told(self.failure)

    def expected(self, versions: Mapping[str, str]) -> Status | None:
        """What the case does with the installed versions; None if nobody has tried it with them."""
        for release, status in self.status.items():
            package, _, version = release.partition(" ")
            if versions.get(package, "").partition("+")[0] == version:
                return status
        return None


def load(path: Path) -> Regression:
    """Read one regression.

    Raises:
        MalformedCase: the file does not hold one; the message names the file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        words = {key: str(data[key]) for key in ("title", "found", "explanation", "reference", "searched", "culprit")}
        judgement, status = str(data["judgement"]), dict(data["status"])
        if judgement not in get_args(Judgement) or not set(status.values()) <= set(get_args(Status)) or not status:
            raise ValueError(f"judgement {judgement!r} or status {status!r} is no such word")
        failure = {str(key): str(value) for key, value in data["failure"].items()}
        return Regression(
            id=path.stem,
            **words,
            judgement=cast(Judgement, judgement),
            failure=failure,
            status=cast("dict[str, Status]", status),
            case=codec.from_json(data["case"]),
            evidence=Evidence.from_json(data.get("evidence")),
            near=str(data.get("near", "")),
            same=str(data.get("same", "")),
        )
    except codec.MalformedCase as error:
        raise codec.MalformedCase(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise codec.MalformedCase(f"{path}: not a regression: {error}") from None


def load_all(directory: Path = DIRECTORY) -> tuple[Regression, ...]:
    """Every regression of a directory, by name."""
    return tuple(load(path) for path in sorted(directory.glob("*.json")))
