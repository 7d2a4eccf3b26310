"""What a gate comes to: a pure function of what is known at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from shakeout.corpus.rows import Totals
from shakeout.fuzz.gate.asked import Asked
from shakeout.fuzz.gate.cases import Candidate
from shakeout.fuzz.gate.decision import vacuous
from shakeout.fuzz.gate.record import Record
from shakeout.fuzz.gate.told import Replay
from shakeout.fuzz.ground.exits import Exit

__all__ = ["verdict"]

#: What is said of whatever the time was too short for.
_LARGER = "the budget was over, a larger --budget does it"


def verdict(asked: Asked, record: Record, corpus: Mapping[Path, Sequence[Candidate]]) -> tuple[Exit, str]:
    """The exit status, and a line that says why and what it rests on.

    Args:
        asked: what the gate was asked.
        record: what it knows.
        corpus: the cases of each folder that was named.
    """
    blocking = [one for one in record.findings if one.decision.blocking]
    refused = [one for one in record.refusals if one.blocking]
    if blocking or refused:
        told = [_count(len(blocking), "new bug")] if blocking else []
        told += [f"{len(refused)} newly unsupported"] if refused else []
        return Exit.FOUND, f"blocked: {' and '.join(told)}"
    if why := [*_replayed(record.replays, corpus), *_compared(asked, record), *_undone(record)]:
        return Exit.VACUOUS, f"vacuous: {'; '.join(why)}"
    noted = len(record.findings)
    return Exit.OK, f"nothing new{f', {noted} noted' if noted else ''}; {_rests(record)}"


def _rests(record: Record) -> str:
    """What a green gate rests on."""
    compared = _count(sum(row.nontrivial for row in record.totals.values()), "case")
    ran = [one for one in record.replays if one.state not in ("cannot run", "not run")]
    return f"{compared} compared" + (f", {len(ran)} of {len(record.replays)} stored ones replayed" if ran else "")


def _replayed(replays: Sequence[Replay], corpus: Mapping[Path, Sequence[Candidate]]) -> list[str]:
    states = {one.id: one.state for one in replays}
    found = []
    for folder, cases in corpus.items():
        seen = [states.get(one.id, "not run") for one in cases]
        if late := seen.count("not run"):
            found.append(f"{late} of {len(seen)} cases of {folder} were not replayed: {_LARGER}")
        elif seen.count("cannot run") == len(seen):
            found.append(f"{folder} holds no case that runs here")
    return found


def _compared(asked: Asked, record: Record) -> list[str]:
    totals = {name: record.totals.get(name, Totals()) for name in asked.targets}
    counts = {name: (row.generated, row.nontrivial) for name, row in totals.items()}
    return vacuous(counts, record.changed, record.focused)


def _undone(record: Record) -> list[str]:
    """What fails, or may not be left out, and was not come to."""
    late = sum(one.decision.late for one in record.findings)
    failing = [f"{_count(late, 'case')} that fail{'s' if late == 1 else ''} on the head could not be decided"]
    return [f"{one}: {_LARGER}" for one in (*(failing if late else ()), *record.undone)]


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
