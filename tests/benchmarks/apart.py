"""Work that may end its process, done in children of this one: a crash costs one item and is told."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.connection
import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from shakeout.fuzz.workers.protocol import die_with_parent

__all__ = ["Apart", "each", "spread"]

#: Items of one child. The first of them cost twice as much, because whatever is written to is copied from the parent
#: and caches are empty; and a child grows.
ITEMS = 1_000


class Apart:
    """A child process that does one item after the other; where one kills it, the next item has another child."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work
        self._pid = 0
        self._done = 0

    def __call__(self, item: Any) -> Any:
        """What the work gives for an item, as JSON has it; None where the process died of it."""
        if not self._pid or self._done == ITEMS:
            self.close()
            self._fork()
        self._done += 1
        try:
            self._asked.write(json.dumps(item) + "\n")
            line = self._told.readline()
        except BrokenPipeError:
            line = ""
        if line.endswith("\n"):
            return json.loads(line)
        self.close()
        return None

    def close(self) -> None:
        """End the child."""
        if self._pid:
            for end in (self._asked, self._told):
                with contextlib.suppress(BrokenPipeError):
                    end.close()
            os.waitpid(self._pid, 0)
        self._pid = self._done = 0

    def _fork(self) -> None:
        reading, asking = os.pipe()
        telling, writing = os.pipe()
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            die_with_parent(parent)
            os.close(asking)
            os.close(telling)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            try:
                with os.fdopen(reading) as items, os.fdopen(writing, "w", buffering=1) as out:
                    for line in items:
                        out.write(json.dumps(self._work(json.loads(line))) + "\n")
            finally:
                os._exit(0)
        os.close(reading)
        os.close(writing)
        self._pid = pid
        self._asked, self._told = os.fdopen(asking, "w", buffering=1), os.fdopen(telling)


def each(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Every item with what the work gives for it, as JSON has it; with None where the process died of it."""
    apart = Apart(work)
    try:
        for item in items:
            yield item, apart(item)
    finally:
        apart.close()


def spread(
    start: Callable[[], Callable[[Any], Any]], following: Callable[[], Any | None], workers: int
) -> Iterator[tuple[Any, Any]]:
    """Jobs with what they give, done by processes that are forked from this one and live as long as there are jobs.

    Args:
        start: called once in each process; makes what does a job there.
        following: the next job, or None where there is none yet; asked again after each job that is done.
        workers: processes at a time.

    Raises:
        RuntimeError: a job raised an exception, or ended its process.
    """
    fork = multiprocessing.get_context("fork")
    idle: list[Any] = []
    busy: dict[Any, Any] = {}
    processes = []
    try:
        while True:
            while (idle or len(processes) < workers) and (job := following()) is not None:
                if idle:
                    mine = idle.pop()
                else:
                    mine, theirs = fork.Pipe()
                    process = fork.Process(target=_serve, args=(theirs, start, os.getpid()))
                    process.start()
                    theirs.close()
                    processes.append(process)
                mine.send(job)
                busy[mine] = job
            if not busy:
                return
            done_now: list[Any] = multiprocessing.connection.wait(list(busy))
            for ready in done_now:
                try:
                    done, given = ready.recv()
                except EOFError:
                    raise RuntimeError(f"the process that did {busy[ready]} ended") from None
                if not done:
                    raise RuntimeError(given)
                job = busy.pop(ready)
                idle.append(ready)
                yield job, given
    finally:
        for process in processes:
            process.kill()
            process.join()


def _serve(connection: Any, start: Callable[[], Callable[[Any], Any]], parent: int) -> None:
    die_with_parent(parent)
    work = start()
    while True:
        job = connection.recv()
        try:
            answer = True, work(job)
        except Exception:
            answer = False, traceback.format_exc()
        connection.send(answer)
