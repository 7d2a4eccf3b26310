"""The process that runs what somebody hands over: ``python -m shakeout.fuzz.intake.reader REQUEST.json``.

It prints what the file prints, and writes what came of it as JSON. Nothing is unpickled in it, whoever asks: the
variable ``TORCH_FORCE_WEIGHTS_ONLY_LOAD`` holds for the file's own calls of ``torch.load`` as well.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from shakeout.corpus.files import write_whole
from shakeout.fuzz.ground.signature import INTERNAL
from shakeout.fuzz.intake.told import Request, Told
from shakeout.fuzz.workers.protocol import die_with_parent

__all__: list[str] = []


def _main(path: Path) -> None:
    request = Request(**json.loads(path.read_text(encoding="utf-8")))
    if request.parent:
        die_with_parent(request.parent)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    told = _read(request)
    write_whole(Path(request.result), json.dumps(told.to_json()))


def _read(request: Request) -> Told:
    import torch

    from shakeout.fuzz.intake.compiled import Candidates
    from shakeout.fuzz.intake.files import CannotRead, read

    torch.set_num_threads(1)  # so that equal calls give equal bits
    candidates, problem = Candidates(request), ""
    folders = f"{request.directory}/", f"{os.path.relpath(request.directory)}/"  # before a script goes elsewhere
    try:
        read(Path(request.file), request.name, candidates)
    except CannotRead as error:
        problem = str(error)
    except Exception as error:
        traceback.print_exc()
        problem = f"{INTERNAL} {type(error).__name__}: {error}"
    told = Told(tuple(candidates.found), tuple(candidates.refused), tuple(candidates.done()), problem)
    return told.without(*folders)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
