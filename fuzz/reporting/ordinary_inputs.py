"""What the calls of a case do on ordinary inputs, found out once and kept beside it."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shakeout.corpus.case import Case
from shakeout.corpus.evidence import Form, Tried, Wide
from shakeout.corpus.files import write_whole
from shakeout.corpus.symptom import Symptom
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.minimise.executors import CandidatePool
from shakeout.fuzz.minimise.predicate import Executor
from shakeout.fuzz.minimise.widest import NOT_RUN, widened
from shakeout.fuzz.reporting.exported import Exported, export
from shakeout.fuzz.workers.zygote_client import Interrupted, ZygoteBroken

__all__ = ["ORDINARY", "OrdinaryInputs", "asked", "form_told", "of_case"]

#: File name in a finding's folder.
ORDINARY = "ordinary.json"

#: Seconds that a report takes for it: a target is warmed once, and some ten small cases run. The script of the one that
#: fails is run afterwards.
SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class OrdinaryInputs:
    """What was tried, and the most ordinary of it that fails; nothing where nothing was tried."""

    tried: tuple[Tried, ...] = ()
    wide: Wide | None = None


def of_case(case: Case, failure: Failure, folder: Path | None) -> OrdinaryInputs:
    """What a finding's folder says of this very case; else it is found out, and kept there."""
    file = None if folder is None else folder / ORDINARY
    if file is not None and (known := _read(file, case)) is not None:
        return known
    until = time.monotonic() + SECONDS
    try:
        with (
            tempfile.TemporaryDirectory(prefix="shakeout-") as scratch,
            CandidatePool(Path(scratch), case.setting, 1, stop=lambda: time.monotonic() > until) as candidates,
        ):
            found = asked(case, failure, candidates)
    except (ZygoteBroken, Interrupted):
        return OrdinaryInputs()
    # What the time did not suffice for is tried again by the next report.
    if file is not None and all(one.outcome != NOT_RUN for one in found.tried):
        # A folder that cannot be written to costs the next report the same time again, and nothing else.
        with contextlib.suppress(OSError):
            write_whole(file, json.dumps(_to_json(case, found), indent=1) + "\n")
    return found


def asked(case: Case, failure: Failure, candidates: Executor) -> OrdinaryInputs:
    """Run the calls of a case on ordinary inputs, and print the script of the first of these that fails.

    Args:
        case: the smallest one.
        failure: why it fails.
        candidates: runs the others.
    """
    width = widened(case, failure, candidates)
    if width.variant is None or width.outcome is None or (why := width.outcome.failure) is None:
        return OrdinaryInputs(width.tried)
    failing = None if width.outcome.result is None else width.outcome.result.failure
    seen = Symptom.seen(failing) if failing is not None else Symptom(why.oracle, why.symptom)
    printed = export(width.variant.case, symptom=seen)
    if not printed.shows:
        return OrdinaryInputs(width.tried)
    told = {"oracle": seen.oracle, "symptom": seen.name} | ({"culprit": seen.message} if seen.message else {})
    wide = Wide(width.variant.what, width.variant.case, told, form_told(printed), printed.needs)
    return OrdinaryInputs(width.tried, wide)


def form_told(exported: Exported) -> Form:
    """Which script shows a failure, in the words of ``Evidence``."""
    return ("short" if exported.form == "short" else "long") if exported.shows else "none"


def _to_json(case: Case, found: OrdinaryInputs) -> dict[str, Any]:
    tried = {one.what: one.outcome for one in found.tried}
    return {"case": case.id, "tried": tried, "wide": None if found.wide is None else found.wide.to_json()}


def _read(file: Path, case: Case) -> OrdinaryInputs | None:
    """What a file says; None if there is none, it is damaged, or of another case."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if data["case"] != case.id:
            return None
        tried = tuple(Tried(str(what), str(said)) for what, said in data["tried"].items())
        return OrdinaryInputs(tried, Wide.from_json(data["wide"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
