"""Running stored cases again, each in a fresh process, from the text that a report shows; the oracles judge."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import replace
from pathlib import Path

from shakeout.corpus import blobs, codec
from shakeout.corpus.case import Case
from shakeout.corpus.interpreter import command
from shakeout.fuzz.triage.child import run

__all__ = ["render", "replay_case", "replay_known", "replay_script"]

#: Seconds for one script: a cold compiler needs 10 to 30.
SECONDS = 180.0

#: Bytes of a file that are looked at: one with a case in it may be indented, and say more than the case.
LARGEST = 4 * codec.MAX_BYTES


def render(case: Case) -> str:
    """The script of a case."""
    from shakeout.fuzz.execute import repro

    return repro(case, limit=SECONDS)


def read_case(path: Path, target: str | None) -> Case:
    """A stored case, or the case of a known bug, perhaps on another target; its blobs are found from now on.

    Raises:
        MalformedCase: the file holds neither, or a blob of the case is missing or damaged.
    """
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
    _check(path, case)
    if target is None:
        return case
    return replace(case, setting=replace(case.setting, target=target, knobs=()))


def _check(path: Path, case: Case) -> None:
    """Raise MalformedCase where the setting has a knob that its target has not; of user's own, preparing them tells."""
    from shakeout.targets.registry import target
    from shakeout.targets.target import UnknownKnob, check_knobs

    if ":" in case.setting.target:
        return
    try:
        check_knobs(target(case.setting.target), case.setting)
    except UnknownKnob as error:
        raise codec.MalformedCase(f"{path}: {error}") from None


def replay_case(path: Path, target: str | None = None) -> int:
    """Run a stored case and print what the oracles say: 0 no failure, 1 failure, 125 cannot run."""
    from shakeout.fuzz import fresh
    from shakeout.fuzz.environment import version
    from shakeout.targets.registry import facts_of

    case = read_case(path, target)
    packages = ("torch", *facts_of(case.setting.target).packages)
    print(", ".join(f"{package} {version(package)}" for package in packages), flush=True)
    answer = fresh.answer(case, SECONDS)
    print("\n".join(answer.lines), flush=True)
    return answer.status


def replay_script(path: Path) -> int:
    """Run a script, which compares by itself; its status: 0 no difference, 1 difference, 125 cannot run."""
    # What lies beside the script, or in the working directory, must not hide what is installed: from its own children
    # neither.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    sys.stdout.flush()
    # It has a time limit of its own. Its group ends with us, whatever ends us.
    status = run(command(str(path)), math.inf, 1, 2, environment=environment)
    assert status is not None
    return status


def replay_known(target: str | None = None) -> int:
    """Run every known bug that ships; 1 if one is still there."""
    from shakeout.corpus.known import DIRECTORY, load

    still = 0
    for path in sorted(DIRECTORY.glob("*.json")):
        bug = load(path)
        print(f"{bug.title}  {bug.reference}", flush=True)
        status = replay_case(path, target)
        still += status not in (0, 125)
        word = {0: "fixed in your versions", 125: "cannot run here"}.get(status, "still there")
        print(f"  {word}\n", flush=True)
    return 1 if still else 0
