"""Which job comes next: everything about job ``i`` follows from the campaign's configuration and ``i``."""

from __future__ import annotations

import hashlib
from typing import Any

from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.ground.signature import SMALL
from shakeout.targets.registry import facts_of

__all__ = ["KNOB_SHARE", "job", "seed_of", "turns"]

#: Share of cases with knobs off their defaults. Most of the bugs that people report need none.
KNOB_SHARE = 0.15


def seed_of(campaign: int, index: int) -> int:
    """The 64-bit seed of a job."""
    return int.from_bytes(hashlib.sha256(f"{campaign}:{index}".encode()).digest()[:8], "little")


#: How many turns a target has that comes first, for one of another: nine in ten cases of two targets.
FIRST = 9


def turns(targets: tuple[str, ...], first: tuple[str, ...] = ()) -> tuple[str, ...]:
    """One round of the targets, each as often as its facts say, those that come ``first`` more often."""
    if len(targets) == 1:
        return targets
    preferred = frozenset(first).intersection(targets)
    if len(preferred) == len(targets):
        preferred = frozenset()
    return tuple(name for name in targets for _ in range(facts_of(name).turns * (FIRST if name in preferred else 1)))


def job(config: Config, index: int) -> Grow:
    """Job number ``index`` of a campaign."""
    circle = turns(config.targets, config.first)
    rounds, turn = divmod(index, len(circle))
    name = circle[turn]
    # Each target counts its own cases: with the campaign's number it would meet only operators of some remainder.
    own = rounds * circle.count(name) + circle[:turn].count(name)
    wish: dict[str, Any] = {"mode": config.mode} if config.mode else {}
    if config.focus:
        wish |= {"focus": list(config.focus)}
    if config.motifs:
        wish |= {"motifs": list(config.motifs)}
    if config.operators:
        wish |= {"operators": config.operators, "style": "small" if config.operators <= SMALL else "network"}
    return Grow(
        number=index,
        target=name,
        seed=seed_of(config.seed, index),
        recipe={"index": own, **wish},
        knobs=dict(config.knobs),
        knob_share=KNOB_SHARE,
        device=config.device,
        settings=config.settings or 0,
    )
