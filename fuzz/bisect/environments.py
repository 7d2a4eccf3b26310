"""Over releases and environments: in which of an ordered list of Python environments a script fails first.

An environment runs the standalone script of a case, and not Shakeout: any that has the compiler will do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shakeout.corpus import cache
from shakeout.corpus.symptom import OTHER
from shakeout.fuzz.bisect.facts import Releases
from shakeout.fuzz.bisect.search import Certainty, Verdict, first_bad, merged
from shakeout.fuzz.ground.child import run
from shakeout.fuzz.ground.versions import version

__all__ = [
    "Environment",
    "NotAnEnvironment",
    "Script",
    "existing",
    "installed",
    "newest",
    "requirements",
    "searched",
    "verdict_of",
]

#: Seconds for one run of a script, beside the limit that the script has itself.
MORE = 60.0

#: Seconds in which an installation must be done; the CUDA build of torch is some gigabytes.
INSTALLING = 3600.0

_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.+!]+")

Stop = Callable[[], bool]


class NotAnEnvironment(ValueError):
    """A directory that holds no Python environment, or a release that pip would not understand."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python environment by name.

    Attributes:
        name: for a person.
        python: its interpreter; None if it could not be made.
        problem: why not.
    """

    name: str
    python: Path | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """What an environment runs.

    Attributes:
        path: of the file.
        packages: distributions that must be there.
        limit: seconds that a run may take.
    """

    path: Path
    packages: tuple[str, ...] = ("torch",)
    limit: float = 240.0


# --- environments -----------------------------------------------------------------------------------------------------


def existing(directory: Path) -> Environment:
    """The environment in a directory; raises NotAnEnvironment if there is none."""
    for place in ("bin/python", "Scripts/python.exe"):
        # Not resolved: where the link leads is another environment.
        if os.access(python := directory.absolute() / place, os.X_OK):
            return Environment(directory.name or str(directory), python)
    raise NotAnEnvironment(f"--env {directory}: expected a virtual environment, with bin/python in it")


def requirements(text: str) -> list[str]:
    """Releases out of ``torch==2.12.0,torch==2.13.0``; raises NotAnEnvironment for what is not pinned."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [part for part in found if not all(_PINNED.fullmatch(word) for word in part.split())]
    if wrong or not found:
        told = ", ".join(wrong) or "none"
        raise NotAnEnvironment(
            f"--versions {text}: expected releases such as torch==2.12.0,torch==2.13.0, found {told}"
        )
    return found


def installed(
    requirement: str, packages: Sequence[str] = (), *, tell: Callable[[str], None] = lambda text: None, stop: Stop
) -> Environment:
    """An environment below the cache with a release in it, made by ``venv`` and pip unless it is there already.

    Args:
        requirement: one or more pinned distributions, separated by blanks.
        packages: what else must be there, in the version that is installed here. pip looks where it is configured to.
        tell: told what is done.
        stop: asked now and then whether to give up.
    """
    pinned = requirement.split()
    named = {_normal(re.split(r"[\[=]", one)[0]) for one in pinned}
    for package in packages:
        if _normal(package) not in named and (here := version(package)) is not None:
            pinned.append(f"{package}=={here.partition('+')[0]}")
    tag = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache.directory() / "environments" / re.sub(r"[^A-Za-z0-9._=+!-]", "-", "-".join([tag, *sorted(pinned)]))
    done, log = folder / "complete.json", folder.with_name(folder.name + ".log")
    python = folder / "bin" / "python"
    if done.exists() and os.access(python, os.X_OK):
        return Environment(requirement, python)
    # One that was not finished is made anew: nothing says how far it came.
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    tell(f"installing {' '.join(pinned)}")
    with log.open("w", encoding="utf-8") as file:
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *pinned],
        ):
            if (status := run(command, INSTALLING, file.fileno(), environment=_variables(), stop=stop)) != 0:
                said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                why = next(
                    (line for line in reversed(said) if "ERROR" in line), said[-1] if said else f"status {status}"
                )
                shutil.rmtree(folder, ignore_errors=True)
                return Environment(requirement, None, f"could not be installed: {why[:200]} ({log})")
    done.write_text(json.dumps({"requirements": pinned}) + "\n", encoding="utf-8")
    return Environment(requirement, python)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def newest(package: str) -> str | None:
    """The newest release of a distribution that pip finds for this interpreter; None if it finds none."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--report", "-", package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        return str(json.loads(done.stdout)["install"][0]["metadata"]["version"])
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError):
        return None


# --- runs -------------------------------------------------------------------------------------------------------------


def _variables() -> dict[str, str]:
    """The user's, without those that lead an interpreter to other modules."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def verdict_of(status: int | None, said: str) -> Verdict:
    """What a script's status means, with what it printed: 0 good, 1 bad, 125 skip, all else the machine's fault.

    One that fails otherwise says nothing of the failure that is looked for.

    Python ends with 1 too if something goes wrong that nobody caught. Then the script did not come to its comparison,
    and has printed nothing beside the versions.
    """
    if status == 1:
        lines = [line for line in said.splitlines() if line.strip()]
        return "bad" if lines[1:] or (lines and not lines[0].startswith("torch ")) else "skip"
    return {0: _GOOD, OTHER: _SKIP, 125: _SKIP}.get(-1 if status is None else status, _INFRA)


_GOOD: Verdict = "good"
_SKIP: Verdict = "skip"
_INFRA: Verdict = "infra"


@dataclass(slots=True)
class _Runs:
    script: Script
    stop: Stop
    said: dict[str, str] = field(default_factory=dict)

    def able(self, environment: Environment) -> Verdict | None:
        """Why nothing can be run in an environment; None if it can."""
        if environment.python is None:
            self.said[environment.name] = environment.problem
            return "infra"
        probe = f"import torch, importlib.metadata as m; [m.version(n) for n in {list(self.script.packages)!r}]"
        status, _, errors = self._one([str(environment.python), "-I", "-c", probe], 120.0)
        if status == 0 or self.stop():
            return None
        self.said[environment.name] = (errors.strip().splitlines() or ["it cannot import torch"])[-1][:200]
        return "skip"

    def runs(self, environment: Environment, times: int) -> list[Verdict]:
        """What so many runs say."""
        found: list[Verdict] = []
        for _ in range(times):
            if self.stop():
                return [*found, "infra"]
            command = [str(environment.python), "-I", str(self.script.path)]
            status, said, errors = self._one(command, self.script.limit + MORE)
            found.append(verdict_of(status, said))
            self.said[environment.name] = (said.strip() or errors.strip())[-2000:]
            if found[-1] == "bad":
                break
        return found

    def _one(self, command: Sequence[str], seconds: float) -> tuple[int | None, str, str]:
        """The status, and what was printed to standard output and standard error."""
        out, err = self.script.path.with_suffix(".out"), self.script.path.with_suffix(".err")
        with out.open("wb") as file, err.open("wb") as errors:
            status = run(command, seconds, file.fileno(), errors.fileno(), environment=_variables(), stop=self.stop)
        said, wrong = (path.read_text(encoding="utf-8", errors="replace") for path in (out, err))
        return status, said, wrong


def searched(
    environments: Sequence[Callable[[], Environment]],
    names: Sequence[str],
    script: Script,
    *,
    certainty: Certainty | None = None,
    tell: Callable[[str], None] = lambda text: None,
    stop: Stop = lambda: False,
) -> tuple[Releases, dict[str, str]]:
    """The first bad one of an ordered list, and the first good one behind the last bad one.

    The newest runs first. If it is good, the others run from the newest on until one is bad; what lies between is
    where it was fixed. Below a bad one the list is halved.

    Args:
        environments: makers, from the oldest to the newest; each is called when it is needed.
        names: of each.
        script: what they run.
        certainty: how reliably it fails.
        tell: told what is done.
        stop: asked now and then whether to give up.

    Returns:
        What was found, and what each environment said last.
    """
    runs, made = _Runs(script, stop), dict[int, Environment]()
    known: dict[int, Verdict] = {}

    def test(index: int, times: int) -> Sequence[Verdict]:
        if index not in made:
            tell(f"preparing {names[index]}")
            made[index] = environments[index]()
            if (why := runs.able(made[index])) is not None:
                return [why] * times
        elif made[index].python is None:
            return ["infra"] * times
        tell(f"running in {names[index]}, {times} times")
        return runs.runs(made[index], times)

    certainty = certainty or Certainty(5, 5)
    last = len(environments) - 1
    while last >= 0 and not stop():
        known[last] = merged(test(last, certainty.needed))
        if known[last] == "bad":
            break
        last -= 1
    found = first_bad(last + 1, test, certainty=certainty, known=known, stop=stop)
    order = {**known, **{step.index: step.verdict for step in found.steps}}
    fixed = last + 1 if 0 <= last < len(environments) - 1 and known.get(last + 1) == "good" else None
    bad = known.get(last) == "bad"
    releases = Releases(
        steps=tuple((names[index], order[index]) for index in sorted(order)),
        first_bad=names[found.first] if bad and found.first is not None else None,
        suspects=tuple(names[index] for index in found.suspects) if bad and found.first is None else (),
        last_good=names[found.good] if bad and found.good is not None else None,
        first_fixed=names[fixed] if fixed is not None else None,
        confidence=found.confidence,
    )
    return releases, runs.said
