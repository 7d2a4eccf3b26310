"""Importing a file: it is run in an isolated process, and what it compiles is written as cases."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shakeout.corpus import blobs, codec, interpreter
from shakeout.corpus.case import Case
from shakeout.corpus.files import write_whole
from shakeout.fuzz.ground import child
from shakeout.fuzz.ground.origin import write_origin
from shakeout.fuzz.ground.signature import INTERNAL
from shakeout.fuzz.intake.told import Refused, Request, Told

__all__ = ["CannotImport", "Imported", "Written", "import_file"]

#: Lines of what a file printed that are shown when its process fails.
SHOWN = 12


class CannotImport(Exception):
    """A file of which nothing could be read; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Written:
    """A case that was imported.

    Attributes:
        label: what it is called in the file.
        case: it.
        path: of its file.
        notes: what a person should know.
    """

    label: str
    case: Case
    path: Path
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a file.

    Attributes:
        cases: that were written.
        refused: what could not become one.
        notes: on the file as a whole.
    """

    cases: tuple[Written, ...]
    refused: tuple[Refused, ...]
    notes: tuple[str, ...]


def import_file(
    path: Path,
    name: str = "",
    *,
    output: Path,
    target: str = "",
    mode: str = "",
    seconds: float,
    memory: int,
    refusals: bool = False,
    inputs: Path | None = None,
    cpu: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Imported:
    """Run a file in a process of its own, and write what it compiles as cases.

    Args:
        path: of the file.
        name: of what is in it; empty for whatever the file compiles.
        output: directory in which each case gets a folder, named by its id.
        target: of the cases; empty for the one that the file names.
        mode: ``inference`` or ``training``; empty for what each call says.
        seconds: that it may take.
        memory: bytes that it may take.
        refusals: whether what a target refuses is a finding.
        inputs: an ``.npz`` file of what an ONNX model is fed; None for drawn values.
        cpu: whether what the file puts on a GPU stays on the CPU.
        stop: asked now and then whether to give up.

    Raises:
        CannotImport: nothing could be read.
        RuntimeError: a defect of ours.
        OSError: the cases cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="shakeout-import-") as scratch:
        request = Request(
            file=str(path.absolute()),
            name=name,
            target=target,
            mode=mode,
            directory=scratch,
            result=os.path.join(scratch, "result.json"),
            parent=os.getpid(),
            refusals=refusals,
            inputs="" if inputs is None else str(inputs.absolute()),
            cpu=cpu,
        )
        told = _told(path, request, Path(scratch), seconds, memory, stop)
        if told.problem.startswith(INTERNAL):
            raise RuntimeError(told.problem.removeprefix(INTERNAL).strip())
        if told.problem and not told.found:
            raise CannotImport(told.problem)
        cases: dict[str, Written] = {}
        notes = [*told.notes]
        places = (str(Path(scratch) / blobs.FOLDER),)
        for found in told.found:
            case = codec.decode(found.case, places)
            if case.id in cases:
                notes.append(f"{found.label} gives the same case as {cases[case.id].label}")
                continue
            folder = output / case.id
            folder.mkdir(parents=True, exist_ok=True)
            blobs.copy(case, folder)
            write_origin(folder, path.name, found.label, found.notes)
            write_whole(folder / "case.json", case.text + "\n")
            kept = blobs.placed(codec.decode(found.case), (str((folder / blobs.FOLDER).absolute()),))
            cases[case.id] = Written(found.label, kept, folder / "case.json", found.notes)
    return Imported(tuple(cases.values()), told.refused, tuple(notes))


def _told(
    path: Path,
    request: Request,
    scratch: Path,
    seconds: float,
    memory: int,
    stop: Callable[[], bool],
) -> Told:
    result, log, question = Path(request.result), scratch / "log", scratch / "request.json"
    question.write_text(json.dumps(dataclasses.asdict(request)), encoding="utf-8")
    command = interpreter.command("-m", "shakeout.fuzz.intake.reader", str(question))
    with log.open("wb") as file:
        try:
            status = child.run(command, seconds, file.fileno(), environment=dict(os.environ), stop=stop, memory=memory)
        except child.OutOfMemory as error:
            raise CannotImport(f"{path.name} took more than {memory >> 30} GiB and was ended: {error}") from None
    if result.exists() and status == 0:
        return Told.from_json(json.loads(result.read_text(encoding="utf-8")))
    if status is None:
        why = f"took longer than {seconds:.0f} s and was ended; --seconds gives it more"
    elif status < 0:
        why = f"ended its process with {signal.Signals(-status).name}"
    else:
        why = f"ended its process with status {status}"
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN:]
    raise CannotImport("\n".join([f"{path.name} {why}", *(f"    {line}" for line in said)]))
