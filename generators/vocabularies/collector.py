"""Runs a collecting module as a process of its own, and watches it: it may crash or hang at any operator."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from shakeout.corpus.interpreter import command

__all__ = ["run_module"]

#: Seconds without a word after which a child hangs. The slowest entry of op_db takes some seconds, loading it ten; a
#: machine that is busy takes a multiple of that.
PATIENCE = 300.0


def run_module(
    module: str,
    arguments: Sequence[str],
    directory: Path,
    progress: Callable[[str, int, int], None],
    patience: float = PATIENCE,
) -> tuple[int, str, str]:
    """Run ``python -m MODULE`` until it ends, or says nothing for too long.

    Args:
        module: prints what it is about to do as lines of JSON: ``[name, done, total]``.
        arguments: of the command line.
        directory: where it works.
        progress: told each of these lines.
        patience: seconds.

    Returns:
        The exit status (negative if it was killed), the last name, and the end of what it printed as errors.
    """
    # Not resolved: the rooms are imported through links below the package.
    source = str(Path(__file__).parents[3])
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONHASHSEED="0")
    environment["PYTHONPATH"] = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    last, pending = "", b""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            command("-m", module, *arguments), stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=directory
        )
        assert child.stdout is not None
        with child, selectors.DefaultSelector() as selector:
            try:
                selector.register(child.stdout, selectors.EVENT_READ)
                while True:
                    if not selector.select(patience):
                        child.kill()
                        break
                    if not (data := os.read(child.stdout.fileno(), 1 << 16)):
                        break
                    *lines, pending = (pending + data).split(b"\n")
                    for line in lines:
                        try:
                            name, done, total = json.loads(line)
                        except (ValueError, TypeError):
                            continue  # an operator that prints
                        last = str(name)
                        progress(last, done, total)
            except BaseException:
                child.kill()
                raise
        errors.seek(0)
        said = errors.read().decode(errors="replace")[-2000:]
    return child.returncode, last, said
