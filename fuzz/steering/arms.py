"""What competes: targets, generators, mutators and motifs, each an arm that is pulled by what it yields in a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["FLOOR", "Arm", "chosen", "shares"]

#: Share of the decisions that all arms share alike, whatever they yielded: what does not pay now may pay later, and
#: what was unlucky once must be tried again. Of thirteen mutators each then gets at least one in fifty mutants.
FLOOR = 0.25

#: What an arm is taken to have yielded before it was tried: about what an early case yields, in about its time. With
#: this much, an arm that yields nothing comes down to the floor within some tries.
PRIOR_REWARD, PRIOR_SECONDS = 4.0, 1.0

#: What each result leaves of those before it: a result counts half after 14 others of the same arm. Yields fall as a
#: campaign goes on, steeply at first, when nearly every case is the first at something whoever made it; with a longer
#: memory, what happened to come first would be preferred for long.
KEEP = 0.95


@dataclass(frozen=True, slots=True)
class Arm:
    """What one arm yielded.

    Attributes:
        tries: cases.
        reward: of all of them, as ``features.Added.reward`` says.
        seconds: of all of them.
        recent: reward of late, each result counting less with every one that follows.
        spent: seconds of late, likewise.
    """

    tries: int = 0
    reward: float = 0.0
    seconds: float = 0.0
    recent: float = 0.0
    spent: float = 0.0

    def learnt(self, reward: float, seconds: float) -> Arm:
        """The arm after one more case."""
        return Arm(
            self.tries + 1,
            self.reward + reward,
            self.seconds + seconds,
            KEEP * self.recent + reward,
            KEEP * self.spent + seconds,
        )

    @property
    def rate(self) -> float:
        """Expected yield of a second."""
        return (self.recent + PRIOR_REWARD) / (self.spent + PRIOR_SECONDS)


def shares(arms: Mapping[str, Arm], names: Sequence[str]) -> dict[str, float]:
    """How likely each of these is to be chosen: by the square of its rate, and alike within the floor.

    By the rate itself, three arms of which one yields twice as much as the others would leave it half of the decisions.
    """
    rates = {name: arms.get(name, Arm()).rate ** 2 for name in names}
    total = sum(rates.values())
    return {name: FLOOR / len(rates) + (1 - FLOOR) * rate / total for name, rate in rates.items()}


def chosen(arms: Mapping[str, Arm], names: Sequence[str], fraction: float) -> str:
    """One of the arms.

    Args:
        arms: what is known of them.
        names: those that may be chosen, at least one.
        fraction: a number in [0, 1) that decides.
    """
    at = 0.0
    for name, share in shares(arms, names).items():
        at += share
        if fraction < at:
            return name
    return names[-1]
