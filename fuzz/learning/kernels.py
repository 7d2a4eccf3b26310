"""Learns a user's kernel from the calls that the user's own tests or script make."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shakeout.corpus.interpreter import command
from shakeout.fuzz.learning.errors import CannotLearn

__all__ = ["Recorded", "recorded"]

#: Seconds that tests or a script may take.
PATIENCE = 600.0
#: Bytes at the end of what they print that are shown where nothing was recorded.
TAIL = 2000

_MODULE = "shakeout.fuzz.learning.recording"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a user's tests or script called.

    Attributes:
        traces: rows of them.
        records: rows of records that they give.
        heard: calls in all.
        left_out: calls with arguments that a case cannot hold, or with large tensors.
        remark: how the tests or the script ended, where that was not well.
        errors: how many calls gave no record because of which error.
    """

    traces: tuple[Any, ...]
    records: tuple[Any, ...]
    heard: int
    left_out: int
    remark: str = ""
    errors: Mapping[str, int] = field(default_factory=dict)


def recorded(operator: str, path: Path, scratch: Path, seconds: float | None = None) -> Recorded:
    """Run tests or a script, in a process of its own in the working directory, and gather the calls of a kernel.

    Args:
        operator: ``MODULE:NAME``.
        path: a file or folder of tests, which pytest runs, or a script.
        scratch: directory for files.
        seconds: after which they are ended; what was recorded until then counts.

    Raises:
        CannotLearn: there is no such kernel, nothing called it, or it cannot be run.
    """
    if not path.exists():
        raise CannotLearn(f"--examples: there is no {path}; give a file or a folder of tests, or a script")
    out, log = scratch / "recorded.jsonl", scratch / "recorded.log"
    status = _run(command("-m", _MODULE, operator, str(path.absolute()), str(out)), log, seconds or PATIENCE)
    said = log.read_text(encoding="utf-8", errors="replace")[-TAIL:].strip()
    if status == 2:
        raise CannotLearn(said.splitlines()[-1] if said else f"{operator} cannot be found")
    traces, end = _read(out)
    remark = ""
    if status is None:
        remark = f"{path} took more than {seconds or PATIENCE:.0f} s and was ended"
    elif status or end is None:
        remark = f"{path} ended its process with status {status}"
    elif end["status"]:
        remark = f"{path} ended with status {end['status']}"
    if not traces:
        heard = 0 if end is None else end["heard"]
        what = f"made {heard} calls of it that cannot be kept (large tensors?)" if heard else "did not call it"
        tail = f"\n{said}" if said and not heard else ""
        raise CannotLearn(
            f"nothing can be learnt of {operator}: {path} {what}" + (f"; {remark}" if remark else "") + tail
        )
    end = end or {"heard": len(traces), "left_out": 0, "records": []}
    errors = end.get("errors", {})
    return Recorded(tuple(traces), tuple(end["records"]), end["heard"], end["left_out"], remark, errors)


def _run(words: Sequence[str], log: Path, seconds: float) -> int | None:
    """The exit status, None if it took too long; all its descendants end with it."""
    # Not resolved: the rooms are imported through links below the package.
    source = str(Path(__file__).parents[3])
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    environment["PYTHONPATH"] = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("wb") as output:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _read(path: Path) -> tuple[list[Any], dict[str, Any] | None]:
    """The traces, and the last line's report if there is one."""
    traces: list[Any] = []
    end: dict[str, Any] | None = None
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):
                row = json.loads(line)
                if "traces" in row:
                    traces += row["traces"]
                elif "heard" in row:
                    end = row
    return traces, end
