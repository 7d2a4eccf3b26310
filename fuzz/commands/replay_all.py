"""``shakeout replay --all``: what becomes of each bug when it runs again, as lines or for programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shakeout.corpus.smallest_cases import Replayed
from shakeout.fuzz.commands.places import print_json
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.progress import interruptible
from shakeout.fuzz.triage.replay_bugs import Replays, replay_all

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["line", "replay_all_command"]

#: A verdict as one word for one line.
_WORDS: dict[Replayed, str] = {"back": "back, it was fixed"}


def replay_all_command(
    directory: Path | None, *, workers: int, memory: int, runs: int, as_json: bool, console: Console
) -> int:
    """Run everything again, and tell what became of it.

    Args:
        directory: of a campaign; None for what is shipped alone.
        workers: side by side.
        memory: bytes that a case may take.
        runs: of each case.
        as_json: one JSON document instead of lines.
        console: where to show the lines.

    Returns:
        ``FOUND`` if one of the campaign's bugs fails, or what is shipped does something else than it should with the
        installed versions; ``INFRASTRUCTURE`` if nothing could run; else ``OK``.

    Raises:
        ZygoteBroken: torch could not be loaded.
    """

    def tell(event: events.Event) -> None:
        match event:
            case _ if as_json:
                pass
            case events.Warming(step=step, done=False):
                console.print(f"      {step}", soft_wrap=True, markup=False)
            case events.Replayed():
                console.print(line(event), soft_wrap=True, markup=False)

    with interruptible() as stop:
        done = replay_all(directory, workers=workers, memory=memory, runs=runs, tell=tell, stop=stop)
    if as_json:
        rows = [row.to_json() for row in done.rows]
        print_json({"versions": done.versions, "counts": done.counts, "rows": rows})
    else:
        console.print(f"\n{_summary(done)}", soft_wrap=True, markup=False)
    return Exit.INTERRUPTED if stop() else _status(done)


def _status(done: Replays) -> Exit:
    if done.failing or done.surprising:
        return Exit.FOUND
    return Exit.INFRASTRUCTURE if set(done.counts) == {"cannot run"} else Exit.OK


def _summary(done: Replays) -> str:
    said = ", ".join(f"{count} {name}" for name, count in done.counts.items()) or "nothing to run"
    if done.surprising:
        said += f"; {done.surprising} otherwise than expected with these versions"
    return f"{said} in {done.seconds:.0f} s"


def line(event: events.Replayed) -> str:
    """What became of one item, as a line or a few."""
    again = f" ({event.life})" if event.life > 1 else ""
    verdict = _WORDS.get(event.verdict, event.verdict)
    text = f"{verdict:<18} {event.kind:<10} {event.id}{again}  {event.title[:100]}"
    if event.note:
        text += f"\n{'':<29} {event.note}"
    if event.surprising:
        text += f"\n{'':<29} expected with these versions: {event.expected}"
    return text
