"""Running stored cases again, each in a fresh process, by the very script that a report shows."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from shakeout.corpus import blobs, codec
from shakeout.corpus.case import Case

__all__ = ["render", "replay_case", "replay_known", "replay_script"]

#: Seconds for one script: a cold compiler needs 10 to 30.
SECONDS = 180.0


def render(case: Case) -> str:
    """The script of a case."""
    from shakeout.fuzz.execute import repro

    return repro(case, limit=SECONDS)


def read_case(path: Path, target: str | None) -> Case:
    """A stored case, or the case of a known bug, perhaps on another target; its blobs are found from now on.

    Raises:
        MalformedCase: the file holds neither, or a blob of the case is missing or damaged.
    """
    import json

    try:
        text = path.read_text()
    except OSError as error:
        raise codec.MalformedCase(f"{path}: cannot be read: {error.strerror}") from None
    places = blobs.beside(path)
    try:
        data = json.loads(text)
        stored = isinstance(data, dict) and "case" in data
        case = codec.from_json(data["case"], places) if stored else codec.decode(text, places)
        if blobs.held(case):
            blobs.verify(case)
            blobs.tell(places)
    except (codec.MalformedCase, blobs.BadBlob) as error:
        raise codec.MalformedCase(f"{path}: {error}") from None
    except ValueError as error:
        raise codec.MalformedCase(f"{path}: not JSON: {error}") from None
    if target is None:
        return case
    return replace(case, setting=replace(case.setting, target=target, knobs=()))


def replay_case(path: Path, target: str | None = None) -> int:
    """Run a stored case; the status of its script: 0 no difference, 1 difference, 125 cannot run."""
    case = read_case(path, target)
    script = render(case)
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        blobs.copy(case, Path(scratch))
        file = Path(scratch) / "repro.py"
        file.write_text(script)
        return replay_script(file)


def replay_script(path: Path) -> int:
    """Run a script; its status."""
    return subprocess.run([sys.executable, str(path)], check=False).returncode


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
