"""What a campaign has decided, for a person and for a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shakeout.fuzz.steering.arms import GROWN, Arm, rates, shares
from shakeout.fuzz.steering.store import NAME, Decision, Store

__all__ = ["Steered", "read_steering"]

#: Decisions that ``shakeout status`` tells one by one.
LAST = 5
LAST_FOR_PROGRAMS = 100


@dataclass(frozen=True, slots=True)
class Steered:
    """What is known of a campaign's steering.

    Attributes:
        corpus: how many entries there are in each state.
        arms: what competes, by kind and name.
        decisions: the last ones, in order.
        decided: how many there were.
    """

    corpus: Mapping[str, int]
    arms: Mapping[str, Mapping[str, Arm]]
    decisions: tuple[Decision, ...]
    decided: int

    def lines(self) -> tuple[str, ...]:
        """For a person: the corpus, what each arm gets and yields, and the last decisions."""
        held = ", ".join(f"{count:,} {state}" for state, count in self.corpus.items() if count) or "nothing yet"
        told = [f"steering: {self.decided:,} cases decided; corpus: {held}"]
        for kind, arms in self.arms.items():
            rate = rates(arms, list(arms))
            ranked = sorted(_shares(kind, arms).items(), key=lambda pair: -pair[1])
            each = (f"{name} {share:.0%} ({rate[name]:.3g}/s, {arms[name].tries:,})" for name, share in ranked)
            told.append(f"  {kind}: {', '.join(each)}")
        told += [f"  {_told(decision)}" for decision in self.decisions[-LAST:]]
        return tuple(told)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "corpus": dict(self.corpus),
            "decided": self.decided,
            "arms": {
                kind: {
                    name: {"share": round(share, 4), "rate": round(rate, 4), **asdict(arms[name])}
                    for (name, share), rate in zip(
                        _shares(kind, arms).items(), rates(arms, list(arms)).values(), strict=True
                    )
                }
                for kind, arms in self.arms.items()
            },
            "decisions": [asdict(decision) for decision in self.decisions],
        }


def _shares(kind: str, arms: Mapping[str, Arm]) -> dict[str, float]:
    """What each gets of all decisions of its kind, what is grown anew in any case included."""
    found = shares(arms, list(arms))
    if "grow" not in arms:
        return found
    return {name: (1 - GROWN) * share + GROWN * (name == "grow") for name, share in found.items()}


def _told(decision: Decision) -> str:
    made = " + ".join(decision.mutators)
    of = f" of {' and '.join(decision.parents)}" if decision.parents else ""
    came = "in hand" if decision.reward is None else f"yield {decision.reward:.3g} in {decision.seconds:.2g} s"
    return f"case {decision.number}: {decision.target}, {decision.generator}{f' {made}' if made else ''}{of}: {came}"


def read_steering(directory: Path) -> Steered | None:
    """What is known of a campaign's steering; None where it was not guided.

    Raises:
        DatabaseError: its file cannot be read.
    """
    if not (directory / NAME).exists():
        return None
    with Store(directory / NAME, write=False) as store:
        decisions = store.decisions(LAST_FOR_PROGRAMS)
        return Steered(store.counts(), store.arms(), tuple(decisions), store.decided())
