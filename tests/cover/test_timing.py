"""The derived time limit, and cases that are suspected to hang."""

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.campaign import seeds as seeds_module
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.campaign.ledger import Ledger
from shakeout.fuzz.campaign.seeds import Seeds
from shakeout.fuzz.campaign.traces import TraceLog
from shakeout.fuzz.coverage.log import CoverageLog
from shakeout.fuzz.ground.results import Answer, Reply, Result
from shakeout.fuzz.workers.timing import ENOUGH, FIRST, LEAST, WINDOW, TimeLimits


def test_before_enough_is_known() -> None:
    limits = TimeLimits()
    for _ in range(ENOUGH - 1):
        limits.add("inductor", 0.1)
    assert limits.limit("inductor") == FIRST
    limits.add("inductor", 0.1)
    assert (limits.limit("inductor"), limits.limit("aot_eager")) == (LEAST, FIRST)


def test_it_follows_the_slow_cases_but_not_the_slowest() -> None:
    limits = TimeLimits()
    for number in range(100):
        limits.add("inductor", 500.0 if number == 50 else 4.0)
    assert limits.limit("inductor") == 40.0


def test_it_forgets() -> None:
    limits = TimeLimits()
    for _ in range(WINDOW):
        limits.add("inductor", 30.0)
    assert limits.limit("inductor") == 300.0
    for _ in range(WINDOW):
        limits.add("inductor", 0.1)
    assert limits.limit("inductor") == LEAST


def test_a_fixed_one() -> None:
    limits = TimeLimits(2.5)
    for _ in range(ENOUGH):
        limits.add("inductor", 30.0)
    assert limits.limit("inductor") == 2.5


def test_a_case_is_suspected_sooner_than_it_is_ended() -> None:
    limits = TimeLimits()
    assert limits.overdue("k") == LEAST
    limits.add("k", 0.5)
    assert limits.overdue("k") == 10 * 0.5
    assert limits.limit("k") == FIRST


def test_a_case_is_suspected_by_the_time_since_its_last_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(seeds_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with Database.create(tmp_path / NAME) as database, TraceLog(tmp_path) as traces:
        ledger = Ledger(database, traces, CoverageLog(tmp_path), deque())
        told = cast(Any, SimpleNamespace(remembered=()))
        seeds = Seeds(Config(targets=("eager",)), database, ledger, told, TimeLimits(), lambda event: None)
        job = seeds.next()
        assert job is not None
        now[0] = 21.0
        assert seeds.overdue(5.0) == [("eager", 21.0)]
        result = Result("c0", "eager", "compared")
        for partial, spent, expected in ((True, 9.0, []), (True, 11.0, [("eager", 11.0)]), (False, 99.0, [])):
            with database.transaction():
                seeds.done(Answer(job, 1, Reply(result=result, partial=partial, seconds=1.0)))
            now[0] += spent
            assert seeds.overdue(5.0) == expected
