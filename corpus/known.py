"""Known bugs: minimal cases of public reports, shipped so that the first explained bug does not hang on luck."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.corpus.evidence import Evidence
from shakeout.corpus.symptom import Symptom

__all__ = ["DIRECTORY", "KnownBug", "load", "load_all"]

DIRECTORY = Path(__file__).parent / "data" / "known"


@dataclass(frozen=True, slots=True)
class KnownBug:
    """A public report and the case that shows it.

    Attributes:
        id: name of its file.
        title: one line.
        reference: address of the public report.
        explanation: what goes wrong, and why where that is known.
        expected: what the reference gives, in words.
        observed: what the target gives where the bug is present.
        case: the minimal case.
        failure: ``oracle`` and ``symptom`` of the failing run, and ``culprit`` where these tell too little, as a
            machine wrote it down; empty if none has.
        evidence: what was tried on it; None if nothing was.
    """

    id: str
    title: str
    reference: str
    explanation: str
    expected: str
    observed: str
    case: Case
    evidence: Evidence | None = None
    failure: Mapping[str, str] = field(default_factory=dict)

    @property
    def symptom(self) -> Symptom | None:
        """What a script has to see; None if that was not written down."""
        return Symptom.told(self.failure) if self.failure else None


def load(path: Path) -> KnownBug:
    """Read one known bug.

    Raises:
        MalformedCase: the file does not hold one; the message names the file.
    """
    try:
        data = json.loads(path.read_text())
        words = {key: str(data[key]) for key in ("title", "reference", "explanation", "expected", "observed")}
        evidence = Evidence.from_json(data.get("evidence"))
        failure = {str(key): str(value) for key, value in data.get("failure", {}).items()}
        case = codec.from_json(data["case"])
        return KnownBug(id=path.stem, **words, case=case, evidence=evidence, failure=failure)
    except codec.MalformedCase as error:
        raise codec.MalformedCase(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise codec.MalformedCase(f"{path}: not a known bug: {error}") from None


def load_all(directory: Path = DIRECTORY) -> tuple[KnownBug, ...]:
    """Every known bug of a directory, by name."""
    return tuple(load(path) for path in sorted(directory.glob("*.json")))
