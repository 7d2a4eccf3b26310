"""``shakeout report``: everything that a report needs, gathered here, or why there will be none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from shakeout.corpus import blobs
from shakeout.corpus.database import NAME, Database, UnknownBug
from shakeout.corpus.files import write_whole
from shakeout.corpus.vocabularies.operator import identify
from shakeout.fuzz.bisect.stored import MINIMISED, Job
from shakeout.fuzz.ground.environment import describe
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.finding_folder import read_result
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.ground.signature import title
from shakeout.fuzz.reporting.draft import Draft, written
from shakeout.fuzz.reporting.exported import collected, export, observed
from shakeout.fuzz.reporting.formats import Format, form_of
from shakeout.targets.registry import facts_of

__all__ = ["report_command"]

#: What a campaign says of a bug that nobody outside should hear of yet.
_STATES = {
    "internal": "it is a defect of Shakeout's own",
    "flaky": "it does not fail reliably in fresh processes",
    "new": "it was not confirmed in fresh processes yet",
}

#: What a person said of a bug after which nobody outside should hear of it, or hear of it again.
_DECIDED = ("reported", "invalid", "wontfix", "duplicate-of")


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
    result = observed(case)
    if result is None and job.folder is not None:
        result = read_result(job.folder)
    script = export(case)
    objections = tuple(_objections(job, result, script.shows))
    if objections and not anyway:
        print(f"shakeout: no report of {job.file}:", file=sys.stderr)
        for objection in objections:
            print(f"  {objection}", file=sys.stderr)
        print("--anyway writes a draft that says so", file=sys.stderr)
        return Exit.REFUSED
    owner = facts_of(case.setting.target).owner
    draft = Draft(
        title=_title(job, result),
        case=case,
        minimised=job.file.name == MINIMISED,
        script=script,
        result=result,
        packages=_packages(case.setting.target),
        environment=collected(),
        # One of a case that was reported before it shrank is still of this bug.
        bisection=job.known(),
        objections=objections,
        owner=owner,
    )
    text = written(draft, form or form_of(owner))
    if output is None:
        print(text, end="")
    else:
        blobs.copy(case, output.absolute().parent)
        write_whole(output, text)
        long = "" if script.form == "short" else ", the long form: the short one does not show it"
        print(f"{output}: script of {script.lines} lines{long}. Read it before you file it; nothing was filed.")
    return Exit.OK


def _objections(job: Job, result: Result | None, shows: bool) -> Iterator[str]:
    """Why there should be no report, in words."""
    if not shows:
        yield "its script shows no failure here"
    if result is not None and result.vendor is not None:
        yield from result.vendor.objections
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
        if decision is not None and decision.status in _DECIDED:
            said = " ".join(filter(None, (decision.status, decision.other)))
            yield f"somebody said that it is {said}" + (f": {decision.note}" if decision.note else "")


def _title(job: Job, result: Result | None) -> str:
    failing = None if result is None else result.failure
    name = job.case.setting.target
    operators = ", ".join(dict.fromkeys(identify(one).name for one in job.case.program.operators()))
    if result is None or failing is None:
        return f"{name} fails on {operators}"
    return f"{title(name, failing.symptom, failing.message, result.stage)} ({operators})"


def _packages(name: str) -> dict[str, str]:
    """Versions of torch and of what makes up a target."""
    known = describe()["packages"]
    wanted = ("torch", "numpy", *facts_of(name).packages)
    return {package: known[package] for package in dict.fromkeys(wanted) if package in known}
