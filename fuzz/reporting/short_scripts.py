"""Short scripts of several cases, printed in a process of their own: that imports what a user wrote."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from shakeout.corpus.case import Case
from shakeout.corpus.interpreter import command
from shakeout.fuzz.ground.child import run

__all__ = ["short_scripts"]

#: Seconds that it may take: torch is imported, and perhaps a module of a user's.
SECONDS = 120.0

_printed: dict[str, str | None] = {}

#: Appends a line for each case to a file, since what a user wrote may print.
_PRINT = """
import json, sys
from pathlib import Path
from shakeout.corpus import codec
from shakeout.fuzz.reporting.exported import short_form
for text in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
    try:
        case = codec.decode(text)
        found = {case.id: short_form(case)}
    except Exception:
        continue
    with open(sys.argv[2], "a", encoding="utf-8") as answers:
        answers.write(json.dumps(found) + chr(10))
"""


def short_scripts(cases: Sequence[Case]) -> Mapping[str, str]:
    """The short scripts by the cases' ids; nothing of a case that has none, or whose values lie in files.

    None of them is run, so what one shows is not known. What was printed is kept as long as this process lives: a night
    writes a report and a page of the same bugs.
    """
    plain = [case for case in cases if not _filed(case)]
    if unknown := [case for case in plain if case.id not in _printed]:
        _printed.update(_asked(unknown))
    found = {case.id: _printed.get(case.id) for case in plain}
    return {name: text for name, text in found.items() if text is not None}


def _asked(cases: Sequence[Case]) -> dict[str, str | None]:
    """What a process of its own prints of cases: None of those that have no short script, and of some nothing."""
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        given, answers = Path(scratch) / "cases.json", Path(scratch) / "answers.jsonl"
        given.write_text(json.dumps([case.text for case in cases]), encoding="utf-8")
        answers.touch()
        with open(os.devnull, "wb") as nowhere:
            asked = command("-c", _PRINT, str(given), str(answers))
            run(asked, SECONDS, nowhere.fileno(), environment=os.environ)
        rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    return {name: text for row in rows for name, text in row.items()}


def _filed(case: Case) -> bool:
    """Whether values of a case lie in files, which a script that is read in a list has not beside it."""
    return any(storage.values.kind == "blob" for inputs in case.input_sets for storage in inputs.storages)
