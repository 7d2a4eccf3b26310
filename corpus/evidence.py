"""Evidence: what was tried on a case that ships, and with which versions, as a machine wrote it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.corpus.symptom import Symptom

__all__ = ["Evidence", "Form", "Tried", "Wide"]

#: Which script shows a failure alone: the short one, the long one, or none.
Form = Literal["short", "long", "none"]


@dataclass(frozen=True, slots=True)
class Tried:
    """The calls of a case on other inputs.

    Attributes:
        what: which, in words: ``float32, 8 elements counted from 0``.
        outcome: what happened, in words: ``fails alike``, ``wrong value``, ``no failure``, ``eager rejects it``.
    """

    what: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Wide:
    """The most ordinary inputs on which the calls of a case were seen to fail.

    Attributes:
        what: which, in words.
        case: the calls on them.
        failure: ``oracle`` and ``symptom``, and ``culprit`` of an exception.
        script: which script shows it.
        needs: as for ``Evidence``.
    """

    what: str
    case: Case
    failure: Mapping[str, str]
    script: Form
    needs: tuple[str, ...] | None = None

    @property
    def symptom(self) -> Symptom:
        """What a script has to see."""
        return Symptom.told(self.failure)

    def heading(self, smallest: Symptom | None) -> str:
        """What stands above its script, given what the smallest case shows: in another way it may be another bug."""
        alike = smallest is not None and (smallest.oracle, smallest.name) == (self.symptom.oracle, self.symptom.name)
        shown = "" if alike else f", where it shows as {self.symptom.name}, perhaps for another reason"
        return f"With {self.what}{shown}:"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "what": self.what,
            "failure": dict(self.failure),
            "script": self.script,
            "needs": None if self.needs is None else list(self.needs),
            "case": codec.to_json(self.case),
        }

    @classmethod
    def from_json(cls, data: Any) -> Wide | None:
        """Read what ``to_json`` wrote; None for None."""
        if data is None:
            return None
        failure = {str(key): str(value) for key, value in data["failure"].items()}
        case = codec.from_json(data["case"])
        return cls(str(data["what"]), case, failure, _form(data["script"]), _needs(data["needs"]))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What runs of one case said.

    Attributes:
        packages: versions of what ran.
        reliability: how often it failed, ``5 of 5``.
        minimal: whether the search for a smaller case that fails alike went on until there was none; False if it was
            cut off.
        script: which script shows the failure in a process without Shakeout.
        bisection: what bisecting found, a line for each fact.
        needs: what a user would not write and without which the short script shows nothing: ``fullgraph=True``, a
            number of threads. Empty if the failure needs nothing of the kind; None where that was not tried.
        tried: what the same calls do on ordinary inputs, most ordinary first.
        wide: the first of these that fails; None if none does, or the smallest case is as ordinary.
    """

    packages: Mapping[str, str]
    reliability: str
    minimal: bool
    script: Form
    bisection: tuple[str, ...]
    needs: tuple[str, ...] | None = None
    tried: tuple[Tried, ...] = ()
    wide: Wide | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "packages": dict(self.packages),
            "reliability": self.reliability,
            "minimal": self.minimal,
            "script": self.script,
            "bisection": list(self.bisection),
            "needs": None if self.needs is None else list(self.needs),
            "tried": {one.what: one.outcome for one in self.tried},
            "wide": None if self.wide is None else self.wide.to_json(),
        }

    @classmethod
    def from_json(cls, data: Any) -> Evidence | None:
        """Read what ``to_json`` wrote; None for None.

        Raises:
            ValueError: it is something else.
        """
        if data is None:
            return None
        try:
            if not isinstance(data["minimal"], bool):
                raise ValueError(f"minimal {data['minimal']!r} is no truth value")
            return cls(
                packages={str(name): str(version) for name, version in data["packages"].items()},
                reliability=str(data["reliability"]),
                minimal=data["minimal"],
                script=_form(data["script"]),
                bisection=tuple(str(line) for line in data["bisection"]),
                needs=_needs(data.get("needs")),
                tried=tuple(Tried(str(what), str(said)) for what, said in data.get("tried", {}).items()),
                wide=Wide.from_json(data.get("wide")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not evidence: {error!r}") from None


def _form(word: Any) -> Form:
    if word not in get_args(Form):
        raise ValueError(f"script {word!r} is no such word")
    return cast(Form, word)


def _needs(names: Any) -> tuple[str, ...] | None:
    return None if names is None else tuple(str(name) for name in names)
