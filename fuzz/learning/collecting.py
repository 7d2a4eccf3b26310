"""Has traces collected by a process of its own, again without what crashed or hung it."""

from __future__ import annotations

import json
from collections.abc import Callable

from shakeout.fuzz.learning.store import Files
from shakeout.fuzz.workers.zygote_client import Interrupted
from shakeout.generators.vocabularies.collector import run_module

__all__ = ["CollectingFailed", "collected", "finished"]

#: How often the process may crash before that is no longer an operator's fault.
MAX_CRASHES = 12
#: Seconds without a word: an example may wait for what never comes.
PATIENCE = 90.0

_MODULE = "shakeout.generators.rules.collect"


class CollectingFailed(RuntimeError):
    """The samples could not be run; the message ends with what the process said."""


def finished(files: Files) -> bool:
    """Whether all traces are there."""
    try:
        with files.raw.open("rb") as file:
            return b'{"entry":""' in file.read()[-200:]
    except OSError:
        return False


def collected(
    files: Files, progress: Callable[[str, int, int], None], stop: Callable[[], bool] = lambda: False
) -> list[str]:
    """Collect what is missing.

    Returns:
        What crashed or hung, and is left out.

    Raises:
        CollectingFailed: it cannot be done.
        Interrupted: ``stop`` said so.
        OSError: nothing can be written.
    """
    files.directory.mkdir(parents=True, exist_ok=True)
    skipped: list[str] = []
    while not finished(files):
        status, last, said = run_module(_MODULE, [str(files.raw)], files.directory, progress, PATIENCE)
        if stop():
            raise Interrupted  # Ctrl-C at a terminal reaches the process as well: no operator's fault
        if status == 0:
            break
        if status > 0 or not last or last in skipped or len(skipped) == MAX_CRASHES:
            raise CollectingFailed(f"collecting operator samples failed with status {status} at {last}:\n{said}")
        skipped.append(last)
        # What is in the file is not collected again.
        with files.raw.open("a", encoding="utf-8") as out:
            out.write("\n" + json.dumps({"entry": last, "traces": []}) + "\n")
    return skipped
