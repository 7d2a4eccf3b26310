"""``shakeout report``: everything that a report needs, gathered here, or why there will be none."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shakeout.corpus import blobs
from shakeout.corpus.database import NAME, Database, UnknownBug
from shakeout.fuzz.environment import describe
from shakeout.fuzz.exits import Exit
from shakeout.fuzz.folder import RESULT, write_text
from shakeout.fuzz.signature import title
from shakeout.fuzz.triage.bisect import facts
from shakeout.fuzz.triage.bisect.command import MINIMISED, Job
from shakeout.fuzz.triage.reporting.draft import OWNERS, Draft, Format, written
from shakeout.fuzz.triage.reporting.exported import collected, export, observed
from shakeout.targets.target import target

__all__ = ["report_command"]

#: What a campaign says of a bug that nobody outside should hear of yet.
_STATES = {
    "internal": "it is a defect of Shakeout's own",
    "flaky": "it does not fail reliably in fresh processes",
    "new": "it was not confirmed in fresh processes yet",
}


def report_command(job: Job, *, form: Format | None, output: Path | None, anyway: bool) -> int:
    """Write the report of one case to a file or to standard output. Nothing is filed, ever.

    Args:
        job: the case, and the finding's folder where there is one.
        form: whose form; None for the one of the target's project.
        output: where to write; None for standard output.
        anyway: write it as a draft although something speaks against it.

    Returns:
        The exit status: ``REFUSED`` where something does.
    """
    case = job.case
    found = observed(case)
    result = found or _stored(job.folder)
    script = export(case)
    objections = tuple(_objections(job, result, script.shows))
    if objections and not anyway:
        print(f"shakeout: no report of {job.file}:", file=sys.stderr)
        for objection in objections:
            print(f"  {objection}", file=sys.stderr)
        print("--anyway writes a draft that says so", file=sys.stderr)
        return Exit.REFUSED
    bisection = facts.read(job.folder) if job.folder is not None else None
    draft = Draft(
        title=_title(job, result),
        case=case,
        minimised=job.file.name == MINIMISED,
        script=script,
        result=result,
        packages=_packages(case.setting.target),
        environment=collected(),
        # One of a case that was reported before it shrank is still of this bug.
        bisection=bisection,
        objections=objections,
    )
    text = written(draft, form or OWNERS.get(case.setting.target, "markdown"))  # type: ignore[arg-type]
    if output is None:
        print(text, end="")
    else:
        blobs.copy(case, output.absolute().parent)
        write_text(output, text)
        long = "" if script.form == "short" else ", the long form: the short one does not show it"
        print(f"{output}: script of {script.lines} lines{long}. Read it before you file it; nothing was filed.")
    return Exit.OK


def _objections(job: Job, result: Mapping[str, Any], shows: bool) -> Iterator[str]:
    """Why there should be no report, in words."""
    if not shows:
        yield "its script shows no failure here"
    yield from (result.get("vendor") or {}).get("objections", ())
    folder = job.folder
    if folder is None or not (folder.parent / NAME).exists():
        return
    with Database.read(folder.parent / NAME) as database:
        try:
            bug = database.bug(folder.name)
        except UnknownBug:
            return
        if bug.known:
            yield f"it is known: {bug.known}"
        if bug.state in _STATES:
            yield _STATES[bug.state]
        decision = database.standing().get(bug.id)
        if decision is not None and decision.status in ("reported", "invalid", "wontfix", "duplicate"):
            other = f" of {decision.other}" if decision.other else ""
            yield f"somebody said that it is {decision.status}{other}: {decision.note}"


def _stored(folder: Path | None) -> Mapping[str, Any]:
    """What the finding's folder tells."""
    if folder is not None:
        with contextlib.suppress(OSError, ValueError):
            data = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            if isinstance(data, dict):
                return data
    return {}


def _title(job: Job, result: Mapping[str, Any]) -> str:
    failing = next((verdict for verdict in result.get("verdicts", ()) if verdict["outcome"] == "fail"), None)
    name = job.case.setting.target
    operators = ", ".join(dict.fromkeys(one.rpartition(".")[2] for one in job.case.program.operators()))
    if failing is None:
        return f"{name} fails on {operators}"
    return f"{title(name, failing['symptom'], failing['message'], result.get('stage', ''))} ({operators})"


def _packages(name: str) -> dict[str, str]:
    """Versions of torch and of what makes up a target."""
    known = describe()["packages"]
    wanted = ("torch", "numpy", *target(name).packages)
    return {package: known[package] for package in dict.fromkeys(wanted) if package in known}
