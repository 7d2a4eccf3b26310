"""A campaign that kills itself at a moment that it is told, with all its processes.

``python victim.py WHAT DIRECTORY MOMENT``. WHAT is ``campaign`` for a small one of cases that misbehave; ``collect``
for one of kernels with a mistake each, in which nothing is triaged; and ``triage`` for what triages that. The moment is
``statement N`` (before the database's N-th statement that writes), ``event N`` (before the N-th event is logged: what
it tells is committed), ``file N`` (before the N-th file takes its final name), ``seconds S`` after the first finding,
``workers S`` (the zygote and what it forked are killed then, and the supervisor is not), or ``never``. Statements,
events and files are counted from the first finding on, or from the first look at those that wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from tests.faults.mistakes import MISTAKES

from shakeout.fuzz.campaign import investigation
from shakeout.fuzz.campaign.campaign import Campaign
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.ground import events
from shakeout.targets import registry

#: Of the campaign, the harmless ones among them; ``tests/slow/hostile_cases.py`` says what is not.
CASES = 12

#: What cases do. Some show one bug, and some bugs are crashes.
HOSTILE = {
    "1": "wrong",
    "3": "segmentation fault",
    "4": "wrong in workers",
    "6": "wrong",
    "8": "sys.exit",
    "10": "segmentation fault",
}

#: Kernels with a mistake each that shows in several ways, and their cases: some fifty findings for a dozen bugs.
KERNELS = tuple(one.target for one in MISTAKES if one.kind in ("value", "dtype", "mutation", "NaN", "alias", "shape"))
COLLECTED = 90

_READING = ("SELECT", "PRAGMA", "BEGIN")
_FOUND = ("INSERT INTO findings", "INSERT INTO bugs")


def processes(directory: Path) -> list[int]:
    """Processes that work below a directory: the zygote and what it forked are told by their environment."""
    mark = f"TMPDIR={directory.absolute()}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def die() -> None:
    """What ``kill -9`` of everything does."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


class Moment:
    """Counts what happens from the first finding on, and acts when its turn has come."""

    def __init__(self, kind: str, number: float, directory: Path) -> None:
        self._kind, self._left, self._directory = kind, number, directory
        self._found = False
        #: Statements, events and files from the first finding on.
        self.counted: Counter[str] = Counter()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """The first finding is there."""
        with self._lock:
            if self._found:
                return
            self._found = True
        if self._kind in ("seconds", "workers"):
            threading.Thread(target=self._wait, daemon=True).start()

    def count(self, kind: str) -> None:
        """Something of a kind is about to happen."""
        if self._found:
            self.counted[kind] += 1
        if self._found and kind == self._kind:
            self._left -= 1
            if self._left <= 0:
                die()

    def _wait(self) -> None:
        time.sleep(self._left)
        if self._kind == "seconds":
            die()
        for pid in processes(self._directory):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue


@contextlib.contextmanager
def watched(moment: Moment, *, collected: bool) -> Iterator[Callable[[str], None]]:
    """Have events, files and looks at findings counted; what counts the database's statements."""
    log, replace, poll = events.EventLog.__call__, os.replace, investigation.Investigation.poll

    def logged(self: events.EventLog, event: events.Event) -> None:
        if not isinstance(event, events.Progress):
            moment.count("event")
        log(self, event)

    def named(*args: Any) -> None:
        moment.count("file")
        replace(*args)

    def polled(self: investigation.Investigation) -> None:
        if collected:
            moment.begin()
        poll(self)

    def statement(text: str) -> None:
        if text.startswith(_FOUND):
            moment.begin()
        if not text.lstrip().upper().startswith(_READING):
            moment.count("statement")

    with (
        mock.patch.object(events.EventLog, "__call__", logged),
        mock.patch.object(os, "replace", named),
        mock.patch.object(investigation.Investigation, "poll", polled),
        mock.patch("shakeout.fuzz.campaign.campaign.selftest", return_value=[]),
    ):
        yield statement


def hostile(directory: Path, moment: Moment) -> None:
    """Run the campaign of cases that misbehave, or go on with it."""
    os.environ["HOSTILE"] = json.dumps(HOSTILE)
    config = Config(targets=("hostile",), seconds=None, cases=CASES, workers=2, time_limit=5.0, memory_limit=400 << 20)
    with (
        # Here only its facts are looked at; the processes that run it import the module, which registers itself.
        mock.patch.dict(registry._BUILT_IN, {"hostile": ("shakeout.targets.planted", "PLANTED")}),
        watched(moment, collected=False) as statement,
        Campaign(config, directory, maker="hostile_cases:Maker", known=None, confirmations=1) as campaign,
    ):
        campaign.database._connection.set_trace_callback(statement)
        if campaign.resumed:
            moment.begin()
        campaign.run()


def kernels(directory: Path, moment: Moment, *, triage: bool) -> None:
    """Run a campaign of kernels in which nothing is triaged; or what triages it, as ``shakeout triage`` does."""
    config = Config(targets=KERNELS, seconds=None, cases=COLLECTED, workers=2, mode="inference")
    with (
        mock.patch.object(investigation, "AT_ONCE", investigation.AT_ONCE if triage else 0),
        watched(moment, collected=triage) as statement,
        Campaign(config, directory, known=None, fuzzing=not triage) as campaign,
    ):
        campaign.database._connection.set_trace_callback(statement)
        campaign.run()


def main() -> None:
    """Run what is asked for until the moment comes, or to its end."""
    what, directory, kind = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    moment = Moment(kind, float(sys.argv[4]) if len(sys.argv) > 4 else 0, directory)
    if what == "campaign":
        hostile(directory, moment)
    else:
        kernels(directory, moment, triage=what == "triage")
    print(f"counted from the first finding on: {dict(moment.counted)}")


if __name__ == "__main__":
    main()
