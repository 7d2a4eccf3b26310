"""A small campaign of cases that misbehave, which kills itself at a moment that it is told, with all its processes.

``python victim.py DIRECTORY MOMENT``, where the moment is ``statement N`` (before the database's N-th statement that
writes), ``event N`` (before the N-th event is logged: what it tells is committed), ``file N`` (before the N-th file
takes its final name), ``seconds S`` after the first finding, ``workers S`` (the zygote and what it forked are killed
then, and the supervisor is not), or ``never``. Statements, events and files are counted from the first finding on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

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


def main() -> None:
    """Run the campaign, or go on with it."""
    directory, kind = Path(sys.argv[1]), sys.argv[2]
    moment = Moment(kind, float(sys.argv[3]) if len(sys.argv) > 3 else 0, directory)
    os.environ["HOSTILE"] = json.dumps(HOSTILE)
    log, replace = events.EventLog.__call__, os.replace

    def logged(self: events.EventLog, event: events.Event) -> None:
        if not isinstance(event, events.Progress):
            moment.count("event")
        log(self, event)

    def named(*args: Any) -> None:
        moment.count("file")
        replace(*args)

    def statement(text: str) -> None:
        if text.startswith(_FOUND):
            moment.begin()
        if not text.lstrip().upper().startswith(_READING):
            moment.count("statement")

    config = Config(targets=("hostile",), seconds=None, cases=CASES, workers=2, time_limit=5.0, memory_limit=400 << 20)
    with (
        # Here only its facts are looked at; the processes that run it import the module, which registers itself.
        mock.patch.dict(registry._BUILT_IN, {"hostile": ("shakeout.targets.planted", "PLANTED")}),
        mock.patch("shakeout.fuzz.campaign.campaign.selftest", return_value=[]),
        mock.patch.object(events.EventLog, "__call__", logged),
        mock.patch.object(os, "replace", named),
        Campaign(config, directory, maker="hostile_cases:Maker", known=None, confirmations=1) as campaign,
    ):
        campaign.database._connection.set_trace_callback(statement)
        if campaign.resumed:
            moment.begin()
        campaign.run()


if __name__ == "__main__":
    main()
