"""Running stored cases again, each in a fresh process, from the text that a report shows; the oracles judge."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

from shakeout.corpus.interpreter import command
from shakeout.fuzz.ground.child import run
from shakeout.fuzz.running.case_file import SECONDS, read_case

__all__ = ["replay_case", "replay_known", "replay_script"]


def replay_case(path: Path, target: str | None = None) -> int:
    """Run a stored case and print what the oracles say: 0 no failure, 1 failure, 125 cannot run."""
    from shakeout.fuzz.ground.versions import version
    from shakeout.fuzz.running import fresh
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
