"""A draft of a report on one case: everything that it needs, gathered here, or why there will be none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shakeout.corpus import blobs
from shakeout.corpus.case import Case
from shakeout.corpus.database import NAME, Database, UnknownBug
from shakeout.corpus.files import write_whole
from shakeout.fuzz.bisect.stored import Job
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.finding_folder import MINIMISED, read_result
from shakeout.fuzz.ground.origin import read_origin
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.ground.signature import headline
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.reporting.draft import Draft
from shakeout.fuzz.reporting.exported import Exported, collected, export, observed
from shakeout.fuzz.reporting.formats import Format, form_of, owner_of
from shakeout.fuzz.reporting.forms import written
from shakeout.fuzz.reporting.ordinary_inputs import OrdinaryInputs, of_case
from shakeout.fuzz.reporting.told import Shipped, ablation, sanitized, shipped
from shakeout.targets.registry import facts_of

__all__ = ["Drafted", "drafted", "write_draft"]

#: What a campaign says of a bug that nobody outside should hear of yet.
_STATES = {
    "internal": "it is a defect of Shakeout's own",
    "flaky": "it does not fail reliably in fresh processes",
    "new": "it was not confirmed in fresh processes yet",
}

#: What a person said of a bug after which nobody outside should hear of it, or hear of it again.
_DECIDED = ("reported", "invalid", "wontfix", "duplicate-of")


@dataclass(frozen=True, slots=True)
class Drafted:
    """A report of a case, or why there is none.

    Attributes:
        objections: what speaks against it.
        script: that shows the failure.
        text: of the report, as a project's form has it; None where something speaks against it.
    """

    objections: tuple[str, ...]
    script: Exported
    text: str | None


def drafted(job: Job, *, form: Format | None = None, anyway: bool = False) -> Drafted:
    """The report of one case. Nothing is filed, ever.

    Args:
        job: the case, and the finding's folder where there is one.
        form: whose form; None for the one of the target's project.
        anyway: make it as a draft although something speaks against a report.
    """
    case = job.case
    result = observed(case)
    if result is None and job.folder is not None:
        result = read_result(job.folder)
    bug = shipped(case)
    wanted = None if bug is None or (result is not None and result.failure is not None) else bug.symptom
    script = export(case, result, wanted)
    objections = tuple(_objections(job, result, script.shows))
    if objections and not anyway:
        return Drafted(objections, script, None)
    owner = owner_of(facts_of(case.setting.target).owner, "" if result is None else result.stage)
    draft = Draft(
        title=_title(case, result, bug, owner),
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
        brought=read_origin(job.file.parent),
        bug=bug,
        parts=ablation(case, result),
        sanitizer=sanitized(case, result),
        ordinary=_ordinary(job, result, bug),
    )
    return Drafted(objections, script, written(draft, form or form_of(owner)))


def _title(case: Case, result: Result | None, bug: Shipped | None, owner: str) -> str:
    """In words where somebody has found some; before them what of the project's it is about."""
    if bug is None:
        return headline(case, result or Result(case.id, case.setting.target, "infra"))
    name = case.setting.target
    if owner != facts_of(name).owner:
        name = "torch.export" if result is None or "onnx" not in result.stage.lower() else "torch.onnx"
    return bug.title if owner in ("", name) else f"{name}: {bug.title}"


def _ordinary(job: Job, result: Result | None, bug: Shipped | None) -> OrdinaryInputs:
    """What the calls of a case do on ordinary inputs; of one that ships that is known."""
    if bug is not None and bug.evidence is not None and bug.evidence.tried:
        return OrdinaryInputs(bug.evidence.tried, bug.evidence.wide)
    failure = None if result is None else failure_of(result)
    return OrdinaryInputs() if failure is None else of_case(job.case, failure, job.folder)


def write_draft(text: str, case: Case, output: Path) -> None:
    """Write a report to a file, with the large values of its case beside it."""
    blobs.copy(case, output.absolute().parent)
    write_whole(output, text)


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


def _packages(name: str) -> dict[str, str]:
    """Versions of torch and of what makes up a target."""
    known = describe()["packages"]
    wanted = ("torch", "numpy", *facts_of(name).packages)
    return {package: known[package] for package in dict.fromkeys(wanted) if package in known}
