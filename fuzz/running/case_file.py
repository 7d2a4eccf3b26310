"""Stored cases: read from whatever file holds one, and printed as the script that a report shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shakeout.corpus import blobs, codec
from shakeout.corpus.case import Case
from shakeout.corpus.symptom import Symptom

__all__ = ["LARGEST", "SECONDS", "check_knobs_of", "read_case", "render", "stored_case"]


#: Seconds for one script: a cold compiler needs 10 to 30.
SECONDS = 180.0

#: Bytes of a file that are looked at: one with a case in it may be indented, and say more than the case.
LARGEST = 4 * codec.MAX_BYTES


def render(case: Case, symptom: Symptom | None = None) -> str:
    """The script of a case, which looks for a symptom if there is one, and for any difference otherwise."""
    from shakeout.fuzz.running.execute import repro

    return repro(case, limit=SECONDS, symptom=symptom)


def read_case(path: Path, target: str | None) -> Case:
    """A stored case, or the case of a known bug, perhaps on another target; its blobs are found from now on.

    Raises:
        MalformedCase: the file holds neither, or a blob of the case is missing or damaged.
        UnknownTarget: the case's own target is not registered.
    """
    case = stored_case(path)
    check_knobs_of(path, case)
    if target is None:
        return case
    return replace(case, setting=replace(case.setting, target=target, knobs=()))


def stored_case(path: Path) -> Case:
    """The same on its own target, whether that is registered or not; raises MalformedCase."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise codec.MalformedCase(f"{path}: cannot be read: {error.strerror}") from None
    places = blobs.beside(path)
    try:
        if len(data) > LARGEST:
            raise codec.MalformedCase(
                f"it has more than {LARGEST >> 20} MiB; a case has at most {codec.MAX_BYTES >> 20}"
            )
        found = codec.loads(data)
        case = codec.from_json(found["case"] if isinstance(found, dict) and "case" in found else found, places)
        codec.encode(case)
        if blobs.held(case):
            blobs.verify(case)
            blobs.tell(places)
    except (codec.MalformedCase, codec.CannotBeStored, blobs.BadBlob) as error:
        raise codec.MalformedCase(f"{path}: {error}") from None
    return case


def check_knobs_of(path: Path, case: Case) -> None:
    """Raise MalformedCase where the setting has a knob that its target has not; of user's own, preparing them tells.

    Raises:
        UnknownTarget: its target is not registered.
    """
    from shakeout.targets.registry import target
    from shakeout.targets.target import UnknownKnob, check_knobs

    if ":" in case.setting.target:
        return
    try:
        check_knobs(target(case.setting.target), case.setting)
    except UnknownKnob as error:
        raise codec.MalformedCase(f"{path}: {error}") from None
