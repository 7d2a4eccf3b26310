"""Whole nights over a module of two kernels that somebody edits in between, and whatever ends them."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shakeout.corpus import user_objects
from shakeout.corpus.codec import decode
from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.progress import Stop
from shakeout.fuzz.night.folder import LATEST, RECORD, REPORT
from shakeout.fuzz.night.night import Asked, Told, nightly
from shakeout.fuzz.workers.zygote_client import Interrupted

pytestmark = pytest.mark.timeout(600)

KERNELS = """
import torch

import shakeout


@shakeout.kernel(reference=torch.nn.functional.softplus)
def first(x):
    return torch.nn.functional.softplus(x){first}


@shakeout.kernel(reference=torch.nn.functional.hardswish)
def second(x):
    return torch.nn.functional.hardswish(x){second}
"""

TARGETS = ("nightly_kernels:first", "nightly_kernels:second")

RUN = """
import json, sys
from pathlib import Path
from shakeout.fuzz.campaign import campaign
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.ground.progress import Stop
from shakeout.fuzz.night.night import Asked, nightly

campaign.selftest = lambda pool, tell, stop: []
config = Config(targets=tuple(sys.argv[2:]), cases=int(sys.argv[1]), workers=2)
tell = lambda event: print(json.dumps(event.to_json()), flush=True)
nightly(Asked(config, Path("run"), 600.0), stop=Stop(), tell=tell)
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(user_objects.ALLOWED, "nightly_kernels")
    monkeypatch.setattr("shakeout.fuzz.campaign.campaign.selftest", lambda pool, tell, stop: [])


def kernels(first: str = "", second: str = "") -> None:
    Path("nightly_kernels.py").write_text(KERNELS.format(first=first, second=second))


def one_night(cases: int, tell: Any = lambda event: None) -> Told:
    config = Config(targets=TARGETS, cases=cases, workers=2)
    return nightly(Asked(config, Path("run"), 600.0), stop=Stop(), tell=tell)


def killed(cases: int, moment: str) -> None:
    """A night that is killed as soon as it tells of an event."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(cases), *TARGETS], stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline())["event"]]
        while told[-1] != moment:
            told.append(json.loads(process.stdout.readline())["event"])
        process.send_signal(signal.SIGKILL)


def test_the_difference_is_right_and_told_once_whatever_is_killed() -> None:
    kernels(first=" + 1")
    killed(16, "Confirmed")  # the very first night finds the bug, and tells nobody
    assert not (Path("run") / "nights" / LATEST).exists()
    told = one_night(16)
    (old,) = told.difference.new
    assert old.targets == TARGETS[:1]
    assert (told.difference.against, told.difference.bad, told.difference.fixed) == ("", 1, ())

    kernels(second=" * 1.5")
    killed(32, "BugOpened")  # it knows by then that the first is fixed
    replays: list[events.Replayed] = []
    told = one_night(32, lambda event: replays.append(event) if isinstance(event, events.Replayed) else None)
    assert {one.id: one.verdict for one in replays}[old.id] == "fixed"
    (new,) = told.difference.new
    assert new.targets == TARGETS[1:]
    assert [bug.id for bug in told.difference.fixed] == [old.id]
    assert (told.difference.bad, told.difference.reopened, told.difference.flaky) == (1, (), ())
    assert [one.name for one in told.difference.versions] == ["source of nightly_kernels"]
    assert {one.target for one in told.difference.targets if one.totals.compared} == set(TARGETS)

    # What was told is in the record that programs read, and in the report that people read; both are whole.
    record = json.loads((Path("run") / "nights" / LATEST / RECORD).read_text())
    assert [bug["id"] for bug in record["difference"]["new"]] == [new.id]
    report = (Path("run") / "nights" / LATEST / REPORT).read_text()
    assert f"## New\n\n- **{new.id}** " in report
    assert f"## Fixed\n\n- **{old.id}** " in report
    with Database.read(Path("run") / "backups" / f"{told.night.name}.sqlite") as copy:
        assert {bug.id for bug in copy.bugs()} == {old.id, new.id}

    # Another mistake at the place of the first one, which the old smallest case does not show, is the same bug again.
    kernels(first=" + float(x.numel() > 1)", second=" * 1.5")
    third = one_night(64)
    assert third.difference.against == told.night.name
    assert [(bug.id, bug.life) for bug in third.difference.reopened] == [(old.id, 2)]
    assert (third.difference.new, third.difference.fixed, third.difference.still) == ((), (), 1)
    names = {"0-before-any-night", *(path.name for path in (Path("run") / "nights").glob("20*"))}
    assert {path.stem for path in (Path("run") / "backups").iterdir()} == names
    with Database.read(Path("run") / NAME) as database:
        assert [replay.verdict for replay in database.replays(old.id)][-2:] == ["fixed", "back"]
        assert database.bug(old.id).state == "confirmed"
        assert math.prod(decode(database.smallest_cases()[old.id].case_json).program.inputs[0].type.shape) > 1


def test_the_budget_holds_and_an_end_that_is_asked_for_leaves_no_record() -> None:
    kernels()
    stop = Stop()

    def end(event: events.Event) -> None:
        if isinstance(event, events.NightStep) and event.step == "replay":
            stop.asked = True

    config = Config(targets=TARGETS[:1], workers=1)  # without a number of cases, so that only the time ends it
    with pytest.raises(Interrupted):
        nightly(Asked(config, Path("run"), 12.0), stop=stop, tell=end)
    assert not (Path("run") / "nights" / LATEST).exists()
    told = nightly(Asked(config, Path("run"), 12.0), stop=Stop())
    assert told.night.ended - told.night.began < 12.0 + 30.0
    assert told.difference.bad == 0
