"""Evidence: what was tried on a case that ships, and with which versions, as a machine wrote it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

__all__ = ["Evidence", "Form"]

#: Which script shows a failure alone: the short one, the long one, or none.
Form = Literal["short", "long", "none"]


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
    """

    packages: Mapping[str, str]
    reliability: str
    minimal: bool
    script: Form
    bisection: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "packages": dict(self.packages),
            "reliability": self.reliability,
            "minimal": self.minimal,
            "script": self.script,
            "bisection": list(self.bisection),
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
            if data["script"] not in get_args(Form) or not isinstance(data["minimal"], bool):
                raise ValueError(f"script {data['script']!r} or minimal {data['minimal']!r} is no such word")
            return cls(
                packages={str(name): str(version) for name, version in data["packages"].items()},
                reliability=str(data["reliability"]),
                minimal=data["minimal"],
                script=cast(Form, data["script"]),
                bisection=tuple(str(line) for line in data["bisection"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not evidence: {error!r}") from None
