"""What a bisection leaves behind, fact by fact and answer by answer, so that another one goes on from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shakeout.corpus import cache, codec, known, regressions
from shakeout.corpus.files import write_whole
from shakeout.fuzz.bisect.facts import Bisection
from shakeout.fuzz.bisect.hooks import Limit
from shakeout.fuzz.bisect.trials import Shown
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.minimise.predicate import Reliability

__all__ = ["NAME", "Asked", "Kept", "Memory", "beside", "within"]

#: File name in a finding's folder.
NAME = "bisection.json"

#: What was asked: id of the case, and what its target was not allowed to do.
Asked = tuple[str, Limit | None]


@dataclass(frozen=True, slots=True)
class Memory:
    """What an ablation was told.

    Attributes:
        wanted: the failure that is looked for.
        reliability: how often it was there at first.
        stage: that it was blamed on.
        trials: runs that were made.
        answers: by question.
    """

    wanted: Failure
    reliability: Reliability
    stage: str
    trials: int
    answers: Mapping[Asked, tuple[Shown, ...]]

    def to_json(self) -> dict[str, Any]:
        """As JSON values. Most runs count the same things, so each list of names stands there once."""
        names: dict[tuple[str, ...], int] = {}
        answers = [
            {
                "case": case,
                "limit": None if limit is None else asdict(limit),
                "shown": [{**asdict(one), "names": names.setdefault(one.names, len(names))} for one in shown],
            }
            for (case, limit), shown in self.answers.items()
        ]
        told = {"wanted": asdict(self.wanted), "reliability": asdict(self.reliability), "stage": self.stage}
        return {**told, "trials": self.trials, "names": list(names), "answers": answers}

    @classmethod
    def from_json(cls, data: Any) -> Memory:
        """Read what ``to_json`` wrote; raises ValueError if it is something else."""
        try:
            names = [tuple(map(str, one)) for one in data["names"]]

            def shown(one: Mapping[str, Any]) -> Shown:
                failure = None if one["failure"] is None else Failure(**one["failure"])
                return Shown(one["status"], failure, names[one["names"]], one["stage"])

            answers = {
                (str(one["case"]), None if one["limit"] is None else Limit(**one["limit"])): tuple(
                    map(shown, one["shown"])
                )
                for one in data["answers"]
            }
            wanted, reliability = Failure(**data["wanted"]), Reliability(**data["reliability"])
            return cls(wanted, reliability, str(data["stage"]), int(data["trials"]), answers)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"not the memory of a bisection: {error}") from None


@dataclass(frozen=True, slots=True)
class Kept:
    """A file with a bisection, and with what it rests on."""

    path: Path

    def read(self) -> Bisection | None:
        """The bisection; None if there is none that can be read."""
        try:
            return Bisection.from_json(self._data())
        except (OSError, ValueError):
            return None

    def memory(self) -> Memory | None:
        """What it rests on; None if there is nothing that can be read."""
        try:
            return Memory.from_json(self._data().get("memory"))
        except (OSError, ValueError):
            return None

    def write(self, bisection: Bisection, memory: Memory | None) -> None:
        """Store both as a whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = {**bisection.to_json(), "memory": None if memory is None else memory.to_json()}
        write_whole(self.path, json.dumps(data, indent=1) + "\n")

    def _data(self) -> dict[str, Any]:
        data = codec.loads(self.path.read_bytes())
        if not isinstance(data, dict):
            raise ValueError("not an object")
        return data


def within(folder: Path) -> Kept:
    """What is kept of a finding, in its folder."""
    return Kept(folder / NAME)


def beside(file: Path, case: str) -> Kept:
    """What is kept of a lone case, beside its file; of a case that ships, among what can be made again.

    Args:
        file: of the case.
        case: its id.
    """
    if file.resolve().parent in (known.DIRECTORY.resolve(), regressions.DIRECTORY.resolve()):
        return Kept(cache.directory() / "bisections" / f"{case}.json")
    return Kept(file.with_suffix(f".{NAME}"))
