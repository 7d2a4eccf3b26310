"""What ``shakeout.run`` is: a campaign of the command ``shakeout run``, with what it found as values."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shakeout.corpus.case import Case, Mode, Scalar
from shakeout.corpus.rows import Totals
from shakeout.fuzz.commands import campaigns
from shakeout.fuzz.ground.results import Result

if TYPE_CHECKING:
    from os import PathLike

    from shakeout.fuzz.reporting.bug_list import BugList

__all__ = ["CampaignResult", "FoundBug", "run"]


@dataclass(frozen=True, slots=True)
class FoundBug:
    """One bug of a campaign.

    Attributes:
        id: by which the commands know it, ``SH-7f3a``.
        title: in one line.
        targets: that it was seen on, its own first.
        reason: why it stands where it stands in the list.
        case: the smallest that is known; None if it crashed while it was grown.
        result: what that case showed.
        findings: cases that showed it.
        new: this run found it.
        script: its reproducing script; None where there is none.
    """

    id: str
    title: str
    targets: tuple[str, ...]
    reason: str
    case: Case | None
    result: Result | None
    findings: int
    new: bool
    script: Path | None


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """What a campaign came to.

    Attributes:
        directory: of the campaign, for ``shakeout resume`` and the other commands.
        ended: ``time``, ``cases`` or ``interrupted``.
        seconds: of this run, warm-up included.
        bugs: that somebody should act on, the worst first.
        apart: how many others there are, by where they stand: ``flaky``, ``known``, ``internal`` and so on.
        totals: how far cases came, by target, since the campaign began.
        programs: of which a case was compared, by target.
        waiting: findings that triage has not come to.
        summary: all that in one line.
        report: the page that ``shakeout run`` writes.
    """

    directory: Path
    ended: Literal["time", "cases", "interrupted"]
    seconds: float
    bugs: tuple[FoundBug, ...]
    apart: Mapping[str, int]
    totals: Mapping[str, Totals]
    programs: Mapping[str, int]
    waiting: int
    summary: str
    report: Path

    @property
    def new(self) -> tuple[FoundBug, ...]:
        """The bugs that this run found."""
        return tuple(bug for bug in self.bugs if bug.new)

    @property
    def compared(self) -> int:
        """Cases of all targets that were compared: with none, nothing was tested."""
        return sum(totals.compared for totals in self.totals.values())


def run(
    *targets: str,
    minutes: float | None = None,
    cases: int | None = None,
    workers: int | None = None,
    seed: int | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    mode: Mode | None = None,
    focus: Sequence[str] = (),
    motifs: Sequence[str] = (),
    operators: int | None = None,
    settings: int | None = None,
    knobs: Mapping[str, Scalar] | None = None,
    memory_limit: int | None = None,
    time_limit: float | None = None,
    avoid_known: bool = False,
    stock: bool = False,
    engine: Literal["campaign", "atheris"] | None = None,
    instrument: Sequence[str] = (),
    config: str | PathLike[str] | None = None,
    directory: str | PathLike[str] | None = None,
    verbose: bool = False,
) -> CampaignResult:
    """Run a campaign; prints nothing unless asked. Each argument means what the flag of ``shakeout run`` means.

    Args:
        targets: what to test, your own kernel, runtime or pass as ``MODULE:NAME``; none for every compiler that is
            installed.
        minutes: how long to fuzz; 5 where neither this nor ``cases`` is given.
        cases: stop after so many.
        workers: cases at work at a time; None for one for each core.
        seed: of the campaign; None for 0.
        device: where the tensors are; None for ``cpu``.
        mode: only such cases; None for both.
        focus: operators one of which every program calls, by names or patterns, or targets; none for all.
        motifs: building blocks, or the programs of a pass as ``MODULE:NAME``, one of which every network grows around;
            none for any network.
        operators: of each program; None for all sizes.
        settings: tried on each program; None for as many as a target wants.
        knobs: pinned for every case, by name.
        memory_limit: resident memory that a case may take, in MiB.
        time_limit: seconds for one case; None to derive it.
        avoid_known: run no case in which the smallest case of a known bug occurs.
        stock: compile each of Inductor's kernels alone, with the compiler's own linker.
        engine: what decides which case is next; None for the campaign's own loop.
        instrument: modules of Python that the engine ``atheris`` has instrumented beside the targets' own.
        config: a ``campaign.toml``, which the arguments outrank.
        directory: of the campaign, which goes on if there is one; None for a new one below ``runs/``.
        verbose: show what the command shows.

    Raises:
        ValueError: an argument does not fit, or a target is unknown or cannot run here.
        SelfTestFailed: a planted fault was missed, so the campaign would miss bugs.
        ZygoteBroken: no target could be loaded.
        DirectoryUnusable, DatabaseError: the directory cannot be used: full, read-only, in use, damaged.
    """
    from rich.console import Console

    from shakeout.corpus.database import NAME, Database
    from shakeout.fuzz.campaign.campaign import Campaign
    from shakeout.fuzz.campaign.campaign_folder import next_directory
    from shakeout.fuzz.commands.display import Display
    from shakeout.fuzz.commands.places import RUNS, Mistake, allow
    from shakeout.fuzz.reporting.bug_list import bug_list
    from shakeout.fuzz.reporting.counted import counted
    from shakeout.fuzz.reporting.markdown import write_report

    given = {
        "target": list(targets) or None,
        "minutes": minutes,
        "cases": cases,
        "workers": workers,
        "seed": seed,
        "device": device,
        "mode": mode,
        "focus": list(focus) or None,
        "motif": list(motifs) or None,
        "operators": operators,
        "settings": settings,
        "knob": [f"{name}={value}" for name, value in (knobs or {}).items()],
        "memory_limit": memory_limit,
        "time_limit": time_limit,
        "avoid_known": avoid_known or None,
        "stock": () if stock else None,
        "engine": engine,
        "instrument": list(instrument) or None,
        "config": None if config is None else Path(config),
    }
    allow(targets)
    try:
        asked = _asked(given)
    except Mistake as mistake:
        raise ValueError(str(mistake)) from None
    place = next_directory(RUNS) if directory is None else Path(directory)
    if verbose:
        with Display(Console(highlight=False), live=False) as display, Campaign(asked, place, [display]) as campaign:
            outcome = campaign.run()
    else:
        with Campaign(asked, place) as campaign:
            outcome = campaign.run()
    report = write_report(place)
    with Database.read(place / NAME) as database:
        numbers, bugs = counted(database), bug_list(place, database)
    assert outcome.reason in ("time", "cases", "interrupted")  # errors were raised, and cases were asked for
    return CampaignResult(
        directory=place,
        ended=outcome.reason,
        seconds=outcome.seconds,
        bugs=tuple(_found(bugs, outcome.new)),
        apart={group: count for group, count in numbers.bugs.items() if group != "bug"},
        totals=numbers.totals,
        programs=numbers.programs,
        waiting=numbers.waiting,
        summary=numbers.summary,
        report=report,
    )


def _asked(given: Mapping[str, Any]) -> Any:
    """The configuration that the command makes of these flags, by what it makes it."""
    parser = argparse.ArgumentParser()
    campaigns.add_config(parser)
    config = campaigns.config_of(argparse.Namespace(**{**vars(parser.parse_args([])), **given}))
    campaigns.check_targets(config)
    return config


def _found(bugs: BugList, new: Sequence[str]) -> list[FoundBug]:
    return [
        FoundBug(
            id=one.bug.id,
            title=one.title,
            targets=one.targets,
            reason=one.rank.reason,
            case=one.case,
            result=one.result,
            findings=one.findings,
            new=one.bug.id in new,
            script=one.script,
        )
        for one in bugs.ranked
    ]
