"""Candidates as the cases of jobs: a worker that has this module for its maker validates each before it runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from shakeout.corpus import codec
from shakeout.generators.validity import Demands, settle

if TYPE_CHECKING:
    from shakeout.fuzz.compose import Made
    from shakeout.fuzz.protocol import Job

__all__ = ["compose", "prepare"]


def prepare(say: Callable[[str], None]) -> None:
    """Load what ``compose`` needs, before any fork."""
    import shakeout.generators.inputsets  # noqa: F401


def compose(job: Job, before_call: Callable[[str], None] | None = None) -> Made:
    """The settled case of a job whose recipe holds the text of a candidate and the demands; raises Unsettled."""
    from shakeout.fuzz.compose import Made

    demands = Demands(job.recipe["defined"], job.recipe["finite"])
    return Made(settle(codec.decode(job.recipe["candidate"]), demands))
