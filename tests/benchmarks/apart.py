"""Work that may end its process, done in children of this one: a crash costs one item and is told."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["each"]


def each(work: Callable[[int], Any], items: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """Every item with what the work gives for it, as JSON has it; with None where the process died of it."""
    rest = deque(items)
    while rest:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            with os.fdopen(writing, "w", buffering=1) as out:
                for item in rest:
                    out.write(json.dumps(work(item)) + "\n")
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as lines:
            for line in lines:
                if line.endswith("\n"):
                    yield rest.popleft(), json.loads(line)
        os.waitpid(pid, 0)
        if rest:
            yield rest.popleft(), None
