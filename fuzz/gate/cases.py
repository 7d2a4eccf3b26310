"""The cases that a gate decides about: of the regression corpus, and of its own campaign."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shakeout.corpus import blobs, codec, known, regressions
from shakeout.corpus.case import Case
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.known import KnownBug
from shakeout.fuzz.gate.told import Origin
from shakeout.fuzz.ground.failure import Failure, failure_of
from shakeout.fuzz.ground.finding_folder import CASE, MINIMISED
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.running.case_file import stored_case
from shakeout.fuzz.triage.replay_bugs import stored
from shakeout.fuzz.triage.steps import FORKS

__all__ = ["Candidate", "found_by", "in_folder", "in_folders", "shipped"]

#: Findings of one bug that are tried on the base beside its smallest case. What a change does wrong may look like a bug
#: that the base has too, and is counted under it; each other finding that the base has not is a bug of its own.
OTHERS = 8

#: Findings that triage did not come to are decided about as they are, so many at most: each costs K runs on both sides.
WAITING = 16

#: Files that lie in the folders of findings and hold no case.
_BESIDE = ("result.json", "environment.json", "bisection.json")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A case that may fail on the head.

    Attributes:
        id: of its bug, or name of its file.
        case: the case.
        origin: where it comes from.
        before: texts of the cases that have to run before it.
        failure: how it fails; None if that is not known yet.
        tried: runs in which it failed without exception.
        flaky: why it is known to be unreliable; empty if it is not.
        reduced: whether it is the smallest case of its bug.
        title: one line, as far as it is known before it runs.
        folder: of its bug; None if it has none.
        group: id of the bug under which it is counted; empty if it stands for itself.
    """

    id: str
    case: Case
    origin: Origin
    before: tuple[str, ...] = ()
    failure: Failure | None = None
    tried: int = 0
    flaky: str = ""
    reduced: bool = False
    title: str = ""
    folder: Path | None = None
    group: str = ""


# --- the regression corpus --------------------------------------------------------------------------------------------


def in_folders(folders: Sequence[Path]) -> dict[Path, list[Candidate]]:
    """The cases of some folders; each has a name of its own among them all."""
    found: dict[Path, list[Candidate]] = {}
    for folder in folders:
        prefix = f"{folder}/" if len(folders) > 1 else ""
        found[folder] = [replace(one, id=f"{prefix}{one.id}") for one in in_folder(folder)]
    return found


def in_folder(folder: Path) -> list[Candidate]:
    """The cases of a folder and those below it: files of cases, and folders of findings, of each the smallest case.

    Raises:
        MalformedCase: a file holds no case; the message names it.
    """
    if not folder.is_dir():
        raise codec.MalformedCase(f"--corpus {folder}: expected a folder of cases")
    found = []
    for path in sorted(folder.rglob("*.json")):
        if path.name in _BESIDE or path.name.endswith(".bisection.json"):
            continue
        if path.name == CASE and (path.parent / MINIMISED).exists():
            continue
        name = str(path.relative_to(folder).with_suffix(""))
        found.append(Candidate(name, stored_case(path), "corpus", reduced=True))
    return found


def shipped(targets: Collection[str], device: str) -> list[Candidate]:
    """The regressions and known bugs of some targets that come with Shakeout."""
    rows: list[regressions.Regression | KnownBug] = [*regressions.load_all(), *known.load_all()]
    return [
        Candidate(row.id, row.case, "shipped", reduced=True, title=row.title)
        for row in rows
        if row.case.setting.target in targets and row.case.setting.device == device
    ]


# --- the gate's own campaign ------------------------------------------------------------------------------------------


def found_by(directory: Path) -> tuple[list[Candidate], list[Candidate], list[str]]:
    """What a campaign found: its bugs, further findings of each, and what is only to be noted.

    Args:
        directory: of the campaign.
    """
    blobs.tell([str(directory.absolute() / blobs.FOLDER)])
    notes: list[str] = []
    bugs: list[Candidate] = []
    others: list[Candidate] = []
    with Database.read(directory / NAME) as database:
        rows = {bug.id: bug for bug in database.bugs()}
        smallest = database.smallest_cases()
        for item in stored(directory, database):
            bug = rows[item.id]
            if item.case is None:
                notes.append(f"{bug.id} {bug.title}: it crashed while a program grew and left no case")
                continue
            small = bug.id in smallest and bool(smallest[bug.id].case_json)
            tried = bug.n + (FORKS if small and bug.state == "confirmed" else 0) if bug.k == bug.n else 0
            flaky = (bug.note or f"{bug.k} of {bug.n} fresh processes") if bug.state == "flaky" else ""
            bugs.append(
                Candidate(
                    bug.id,
                    item.case,
                    "fuzz",
                    item.before,
                    item.failure,
                    tried,
                    flaky,
                    small,
                    bug.title,
                    directory / bug.id,
                )
            )
            for finding in database.findings(bug.id):
                if finding.case_json and finding.case_json != item.case.text and bug.state not in ("flaky", "history"):
                    others.append(_raw(finding.case_json, finding.result, f"{bug.id}.{finding.id}", bug.id))
        waiting = [one for one in database.waiting_findings() if one.case_json]
        bugs += [_raw(one.case_json, one.result, f"finding-{one.id}", "") for one in waiting[:WAITING]]
        if len(waiting) > WAITING:
            notes.append(f"{len(waiting) - WAITING} further findings wait that nobody has looked at")
        notes += [
            f"{bug.count} cases show {bug.known}, which ships as a known bug"
            for bug in rows.values()
            if bug.state == "known"
        ]
        notes += [f"a defect of Shakeout's own: {bug.title}" for bug in rows.values() if bug.state == "internal"]
    return bugs, _few(others), notes


def _raw(text: str, result: object, id_: str, group: str) -> Candidate:
    told = Result.from_json(result)  # type: ignore[arg-type]
    return Candidate(id_, codec.decode(text), "fuzz", failure=failure_of(told), group=group)


def _few(others: Sequence[Candidate]) -> list[Candidate]:
    """Of each bug some, the smallest first, whose operators differ."""
    kept: dict[str, dict[tuple[str, ...], Candidate]] = {}
    for one in sorted(others, key=lambda other: len(other.case.text)):
        group = kept.setdefault(one.group, {})
        if len(group) < OTHERS:
            group.setdefault(tuple(sorted(set(one.case.program.operators()))), one)
    return [one for group in kept.values() for one in group.values()]
