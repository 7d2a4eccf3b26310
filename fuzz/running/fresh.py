"""One case in a fresh process, and what the oracles say of it.

Run as a module it is that process: it is given the file of a case, and writes the phase it is in, and its result, into
the files beside it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from shakeout.corpus import blobs, codec, interpreter
from shakeout.corpus.case import SANITIZE, Case
from shakeout.fuzz.ground import child
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.ground.signature import INTERNAL
from shakeout.oracles.verdict import Outcome
from shakeout.targets.accelerators import missing
from shakeout.targets.registry import target
from shakeout.targets.sanitizers import process_environment

__all__ = ["CANNOT_RUN", "DIFFERS", "NO_DIFFERENCE", "Ran", "Replay", "answer", "ran", "told"]

#: Statuses of ``git bisect run``, which scripts of cases end with as well.
NO_DIFFERENCE, DIFFERS, CANNOT_RUN = 0, 1, 125

_PHASE, _RESULT = "phase", "result.json"
#: Asks for the first operator that goes wrong.
_EXPLAIN = "--explain"
#: What became of a case that says nothing of its target's values.
_UNABLE = ("unsupported", "invalid", "infra")


@dataclass(frozen=True, slots=True)
class Ran:
    """A process that ran a case.

    Attributes:
        status: with which it ended; negative for a signal, None if it took too long.
        phase: that it was in last; empty if it did not get so far.
        result: of the case; None if it did not get so far.
    """

    status: int | None
    phase: str = ""
    result: Result | None = None


def ran(
    case: Case,
    seconds: float,
    *,
    explain: bool = False,
    environment: Mapping[str, str] | None = None,
    output: int = 1,
    errors: int = 2,
    stop: Callable[[], bool] = lambda: False,
) -> Ran:
    """Run a case in a fresh process.

    Args:
        case: what to run.
        seconds: that it may take.
        explain: whether to look for the first operator that goes wrong.
        environment: variables of the process; those of this one, if nobody says. What the case needs is added.
        output: file descriptor for what it prints.
        errors: for what it prints as errors.
        stop: asked now and then whether to end it.
    """
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        file = Path(scratch) / "case.json"
        file.write_text(case.text, encoding="utf-8")
        command = interpreter.command("-m", __name__, str(file), *([_EXPLAIN] if explain else ()))
        # What is in the text of a case does not say where its blobs lie.
        needed = {**process_environment(case.setting.knob(SANITIZE)), **blobs.environment(case)}
        given = os.environ if environment is None else environment
        status = child.run(command, seconds, output, errors, environment={**given, **needed}, stop=stop)
        phase, result = _read(file.parent / _PHASE), _read(file.parent / _RESULT)
        return Ran(status, phase, Result.from_json(json.loads(result)) if status == 0 and result else None)


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is known of a case.

    Attributes:
        status: one of ``NO_DIFFERENCE``, ``DIFFERS`` and ``CANNOT_RUN``.
        lines: for a person.
        result: of the case; None if the process did not get so far.
    """

    status: int
    lines: tuple[str, ...]
    result: Result | None = None


def answer(case: Case, seconds: float, stop: Callable[[], bool] = lambda: False) -> Replay:
    """Run a case in a fresh process, as it stands, and say what that shows.

    Args:
        case: what to run.
        seconds: that it may take.
        stop: asked now and then whether to end it; then nothing is known of it.

    Raises:
        UnknownTarget: its target is not registered.
    """
    if why := target(case.setting.target).unavailable() or missing(case.setting.device) or _no_kernel(case):
        return Replay(CANNOT_RUN, (why,))
    found = ran(case, seconds, stop=stop)
    if found.status is None and stop():
        return Replay(CANNOT_RUN, ("it was asked to stop",))
    if found.status is None:
        return Replay(DIFFERS, (f"hang: no answer within {seconds:.0f} s{_where(found.phase)}",))
    if found.status == Exit.INTERNAL:
        return Replay(CANNOT_RUN, (f"{INTERNAL}: see above",))
    if (result := found.result) is None:
        died = (
            f"died of {signal.Signals(-found.status).name}" if found.status < 0 else f"ended with status {found.status}"
        )
        return Replay(DIFFERS, (f"crash: the process {died}{_where(found.phase)}",))
    failed, unable = result.failure is not None, result.status in _UNABLE
    return Replay(CANNOT_RUN if unable else DIFFERS if failed else NO_DIFFERENCE, tuple(told(result)), result)


def _no_kernel(case: Case) -> str:
    """What is wrong with the name of a kernel that a program calls; empty if nothing is."""
    if case.program.vocabulary != "kernel":
        return ""
    from shakeout.corpus.vocabularies.kernel import UnknownOperator, kernel

    try:
        for operator in case.program.operators():
            if ":" in operator:
                kernel(operator)
    except UnknownOperator as error:
        return str(error)
    return ""


def _where(phase: str) -> str:
    where = {"reference": "while the reference ran", "run": "while the target ran", "judge": "while it was judged"}
    return f", {where[phase]}" if phase in where else ""


def told(result: Result) -> Iterator[str]:
    """What a result says to a person."""
    if result.status in _UNABLE:
        yield f"{result.status}: {result.reason}"
        return
    failing = [verdict for verdict in result.verdicts if verdict.outcome is Outcome.FAIL]
    for verdict in failing:
        yield f"{verdict.oracle}: {verdict.symptom}. {verdict.message}"
    if failing and result.stage not in ("", result.target):
        yield f"first wrong in {result.stage}"
    if not failing and not result.doubts:
        yield "no difference"
    yield from result.doubts
    if passed := [verdict.oracle for verdict in result.verdicts if verdict.outcome is Outcome.PASS]:
        yield f"passed: {', '.join(passed)}"
    yield from (f"note: {note}" for note in result.notes)


def _main(file: Path, *, explain: bool) -> None:
    from shakeout.fuzz.running.execute import execute

    def phase(name: str) -> None:
        (file.parent / _PHASE).write_text(name, encoding="utf-8")

    try:
        result = execute(codec.decode(file.read_text(encoding="utf-8")), phase, explain=explain)
        (file.parent / _RESULT).write_text(json.dumps(result.to_json()), encoding="utf-8")
    except Exception:
        traceback.print_exc()
        sys.exit(Exit.INTERNAL)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), explain=_EXPLAIN in sys.argv[2:])
