"""What a person sees while a campaign runs: steps, a live table, new bugs, a summary. It only listens to events."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from shakeout.corpus.rows import Totals
from shakeout.fuzz.ground import events

__all__ = ["Display", "ledger_table"]

#: Seconds between lines where there is no terminal to draw on, if nobody says.
PLAIN_EVERY = 10.0


def ledger_table(
    totals: Mapping[str, Totals], new: Mapping[str, int] | None = None, programs: Mapping[str, int] | None = None
) -> Table:
    """One row for each target: how many cases came how far.

    Args:
        totals: by target.
        new: findings of a kind that was not seen before, by target; None for no column.
        programs: of which a case was compared, by target; None for no column.
    """
    table = Table(box=None, pad_edge=True, header_style="bold")
    table.add_column("target")
    further = {"programs": programs, "new": new}
    names = ("programs", "cases", "compared", "exact", "unsupported", "infra", "new")
    shown = [name for name in names if further.get(name, ()) is not None]
    for name in shown:
        table.add_column(name, justify="right")
    for target, row in totals.items():
        counts = {
            "programs": (programs or {}).get(target, 0),
            "cases": row.generated,
            "compared": row.compared,
            "exact": row.exact,
            "unsupported": row.unsupported,
            "infra": row.infra,
            "new": (new or {}).get(target, 0),
        }
        table.add_row(target, *(f"{counts[name]:,}" for name in shown))
    return table


def clock(seconds: float) -> str:
    """Minutes and seconds, ``5:00``."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"


class Display:
    """Listens to a campaign's events and tells a person.

    Args:
        console: where they are told.
        live: as a table that changes; else as lines.
        every: seconds between lines that tell how far it is.
    """

    def __init__(self, console: Console, *, live: bool, every: float = PLAIN_EVERY) -> None:
        self._every = every
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if live else None
        self._began = self._stage = time.monotonic()
        self._faults = [0, 0]
        self._known = {"still there": 0, "fixed": 0, "not run": 0}
        self._new: dict[str, int] = {}
        self._header = ""
        self._shown = 0.0
        self._step = ""

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: events.Event) -> None:
        """Tell about one event."""
        match event:
            case events.Started():
                self._started(event)
            case events.Warming(done=False):
                self._warming(event.step)
            case events.CoverageArmed():
                self._armed(event)
            case events.SelfTested():
                self._tested(event)
            case events.KnownReplayed():
                self._replayed(event)
            case events.BugOpened():
                self._new[event.target] = self._new.get(event.target, 0) + 1
            case events.Confirmed():
                self._confirmed(event)
            case events.Notice():
                self._say(f"      {event.message}", style="yellow")
            case events.Progress():
                self._progress(event)

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)

    def _done(self, step: str, text: str) -> None:
        seconds = time.monotonic() - self._stage
        self._stage = time.monotonic()
        self._say(f"{step} {text:<75}{seconds:5.0f} s")

    def _started(self, event: events.Started) -> None:
        time_ = "no time limit" if event.seconds is None else clock(event.seconds)
        cases = "" if event.cases is None else f", at most {event.cases:,} cases"
        self._header = (
            f"{event.workers} worker{'s' if event.workers != 1 else ''}, {time_}{cases}, directory {event.directory}. "
            "Ctrl-C stops; the same command resumes."
        )
        if event.resumed:
            self._say(f"      going on with {event.directory} at case {event.next_index:,}")

    def _warming(self, step: str) -> None:
        # What is told only at its end is over when something else begins.
        if step == "loading the operators" and any(self._known.values()):
            self._end_of_known()
        self._end_of_selftest()
        if self._live is not None:
            self._live.update(Spinner("dots", Text(f" cold start: {step}")))
        # A step that counts would fill the page.
        elif step.partition(":")[0] != self._step:
            self._say(f"      cold start: {step}")
        self._step = step.partition(":")[0]

    def _armed(self, event: events.CoverageArmed) -> None:
        if event.reason:
            self._say(f"      coverage of {event.name}: {event.reason}", style="yellow")
        else:
            watched = f", {event.watched:,} {event.kind} watched" if event.watched else ""
            self._say(f"      coverage: {event.name}{watched}", style="dim")

    def _tested(self, event: events.SelfTested) -> None:
        if not event.seen:
            self._say(f"      self-test: {event.fault}: {event.message}", style="bold red")
        if event.fault == "no fault":
            return
        self._faults[0] += 1
        self._faults[1] += event.seen
        if self._live is not None:
            self._live.update(Spinner("dots", Text(f" self-test: {event.fault}")))

    def _replayed(self, event: events.KnownReplayed) -> None:
        self._end_of_selftest()
        if event.reason.endswith("is not tested"):
            return  # a bug of another target is none of this campaign's business
        self._known[event.state] += 1
        if event.state == "still there":
            self._say(f"      still there  {event.title}  {event.reference}", style="dim")
        elif event.state == "fixed":
            self._say(f"      fixed        {event.title}  {event.reference}", style="dim")

    def _end_of_selftest(self) -> None:
        if self._faults[0]:
            planted, seen = self._faults
            self._faults = [0, 0]
            self._done("[2/3]", f"self-test: {planted} planted faults, {seen} seen")

    def _end_of_known(self) -> None:
        self._end_of_selftest()
        known = self._known
        if self._header:
            if total := sum(known.values()):
                text = f"known bugs: {total} replayed, {known['still there']} still in your versions"
                text += f", {known['fixed']} fixed"
                text += f", {known['not run']} not run" if known["not run"] else ""
            else:
                text = "known bugs: none of these targets"
            self._done("[3/3]", text)
            self._say(f"      {self._header}")
            self._header = ""

    def _confirmed(self, event: events.Confirmed) -> None:
        if event.state == "flaky":
            self._say(
                f"flaky {event.bug}  {event.target}  {event.symptom}  {event.k} of {event.n} fresh processes", "dim"
            )
            return
        how = (
            f"{event.k} of {event.n} fresh processes" if event.state == "confirmed" else "after earlier cases (history)"
        )
        self._say(f"new  {event.bug}  {event.target}  {event.symptom}  {how}", style="bold red")

    def _progress(self, event: events.Progress) -> None:
        self._end_of_known()
        left = "" if event.remaining is None else f"{clock(event.remaining)} left"
        doing = f"{left}  {_found(event)}".strip()
        if event.stage == "triage":
            doing = f"triage  {_found(event)}"
        limits = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in event.limits.items())
        if self._live is not None:
            note = Text(f" {doing}   a case may take: {limits}", style="dim")
            self._live.update(Group(Text(""), ledger_table(event.totals, self._new), note))
        elif time.monotonic() - self._shown >= self._every:
            self._shown = time.monotonic()
            rows = (f"{name} {row.compared:,} compared of {row.generated:,}" for name, row in event.totals.items())
            self._say(f"      {clock(event.elapsed)}  {'; '.join(rows) or 'no case yet'}  {doing}")


def _found(event: events.Progress) -> str:
    """``7 bugs; 23 findings waiting, 2 of them in triage``."""
    bugs = sum(event.bugs.get(state, 0) for state in ("new", "history", "confirmed"))
    said = f"{bugs} bug{'' if bugs == 1 else 's'}"
    if event.waiting:
        said += f"; {event.waiting} finding{'' if event.waiting == 1 else 's'} waiting"
        said += f", {event.triaging} of them in triage" if event.triaging else ""
    if event.coverage:
        said += f"; reached {', '.join(f'{count:,} {source}' for source, count in event.coverage.items())}"
    return said
