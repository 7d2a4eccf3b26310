"""What competes: targets, generators, mutators and motifs, each an arm that is pulled by what it yields in a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["FLOOR", "GROWN", "Arm", "chosen", "rates", "shares"]

#: Share of the decisions that all arms share alike, whatever they yielded: what does not pay now may pay later, and
#: what was unlucky once must be tried again. Of thirteen mutators each then gets at least one in fifty mutants.
FLOOR = 0.25

#: Share of a target's cases that are grown anew whatever the others yield; the rest competes, growing among it.
#: Bugs are met where no case has been, and growing visits operators, types and layouts in turn; what mutants yield is
#: mostly more of what is there: in cases that were only grown a third of what growing yielded, for two cases of five.
GROWN = 0.5

#: Cases, as long as those of its kind are on average, in which an arm is taken to have yielded as much a second as all
#: of its kind together: what was not tried yet is as good as the rest, and no arm is judged by one case.
PRIOR = 3.0

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


def rates(arms: Mapping[str, Arm], names: Sequence[str]) -> dict[str, float]:
    """What a second of each of these is expected to yield."""
    every = [arms.get(name, Arm()) for name in names]
    tries, spent = sum(arm.tries for arm in every), sum(arm.spent for arm in every)
    if not spent:
        return dict.fromkeys(names, 1.0)
    pooled = sum(arm.recent for arm in every) / spent
    prior = PRIOR * sum(arm.seconds for arm in every) / tries
    return {name: (arm.recent + prior * pooled) / (arm.spent + prior) for name, arm in zip(names, every, strict=True)}


def shares(arms: Mapping[str, Arm], names: Sequence[str]) -> dict[str, float]:
    """How likely each of these is to be chosen: by the square of its rate, and alike within the floor.

    By the rate itself, three arms of which one yields twice as much as the others would leave it half of the decisions.
    """
    weights = {name: rate**2 for name, rate in rates(arms, names).items()}
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(names, 1 / len(names))  # nothing yields anything
    return {name: FLOOR / len(names) + (1 - FLOOR) * weight / total for name, weight in weights.items()}


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
