"""A campaign on hostile cases, here or in a process of its own: what the tests of a robust engine share."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from shakeout.corpus.database import Database
from shakeout.corpus.rows import Finding
from shakeout.fuzz.campaign.campaign import Campaign
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.ground import events


class Fuzzing:
    """One campaign on hostile cases, with all that it told."""

    def __init__(self, directory: Path, monkeypatch, faults: dict[int, str] | None = None, **config) -> None:
        monkeypatch.setenv("HOSTILE", json.dumps({str(index): fault for index, fault in (faults or {}).items()}))
        values = {"targets": ("hostile",), "seconds": None, "cases": 20, "workers": 2, "time_limit": 3.0}
        self.config = Config(**{**values, "memory_limit": 400 << 20, **config})
        self.directory = directory
        self.events: list[events.Event] = []
        self.hooks: list[Callable[[Campaign, events.Event], None]] = []
        self.options: dict = {}

    def run(self) -> events.Finished:
        def hear(event: events.Event) -> None:
            self.events.append(event)
            for hook in self.hooks:
                hook(campaign, event)

        options = {"maker": "hostile_cases:Maker", "known": None, "confirmations": 1, **self.options}
        with Campaign(self.config, self.directory, [hear], **options) as campaign:
            return campaign.run()

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    def done(self) -> dict[int, events.CaseDone]:
        found = {}
        for event in self.of(events.CaseDone):
            if event.relation:
                continue  # made of the job's own case
            assert event.index not in found, f"case {event.index} was counted twice"
            found[event.index] = event
        return found

    @property
    def database(self) -> Database:
        return Database.read(self.directory / "shakeout.sqlite")


def shown(finding: Finding) -> Mapping[str, Any]:
    """What failed, as it is stored."""
    return next(verdict for verdict in finding.result["verdicts"] if verdict["outcome"] == "fail")


def processes(directory: Path) -> list[int]:
    """Processes that work below a directory: its zygote and workers are told by their environment."""
    mark = f"TMPDIR={directory.absolute()}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                if alive and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def gone(directory: Path, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while processes(directory) and time.monotonic() < until:
        time.sleep(0.05)
    return not processes(directory)


RUN = """
import json, sys
from pathlib import Path
import hostile_cases
from shakeout.fuzz.campaign import campaign, investigation
from shakeout.fuzz.campaign.config import Config
campaign.selftest = lambda pool, tell, stop: []
investigation.AT_ONCE = 0
def tell(event):
    print(json.dumps(event.to_json()), flush=True)
config = Config(targets=("hostile",), seconds=None, cases=int(sys.argv[2]), workers=2, time_limit=3.0,
                memory_limit=400 << 20)
with campaign.Campaign(config, Path(sys.argv[1]), [tell], maker="hostile_cases:Maker", known=None) as one:
    one.run()
"""


def start(directory: Path, cases: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(directory), str(cases)], stdout=subprocess.PIPE, text=True, bufsize=1
    )


def lines(process: subprocess.Popen[str]) -> Iterator[dict]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.endswith("\n"):
            yield json.loads(line)
