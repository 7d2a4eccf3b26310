"""What fails only behind other cases, found by a campaign and shortened by real workers."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.slow.hostile_campaign import Fuzzing
from tests.tiers import some

from shakeout.corpus.codec import decode
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.finding_folder import SHORTEST, read_sequence
from shakeout.fuzz.minimise import stored
from shakeout.fuzz.minimise.executors import CandidatePool
from shakeout.fuzz.minimise.search import Budget
from shakeout.fuzz.minimise.stored import minimise_stored
from shakeout.fuzz.triage import minimise_bugs, replay_bugs
from shakeout.fuzz.triage.minimise_bugs import minimise_all
from shakeout.oracles import metamorphic
from shakeout.targets import registry

pytestmark = pytest.mark.usefixtures("registered", "no_selftest")


@pytest.fixture
def registered(monkeypatch, hostile: None) -> Iterator[None]:
    """The target itself, here too: the scripts of smallest cases are written in this process."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(metamorphic, "TURN", metamorphic.TURN)  # which its module changes
    monkeypatch.setitem(registry._BUILT_IN, "hostile", ("hostile_cases", "HOSTILE"))
    registry.target.cache_clear()
    yield
    registry.target.cache_clear()


#: What fails behind another case only, and how.
SYMPTOMS = {"recall": "wrong value", "recall and die": "SIGSEGV"}


@pytest.mark.parametrize("fault", some(SYMPTOMS, every=2))
def test_what_fails_only_behind_others_is_shortened_to_the_one_that_matters(
    tmp_path: Path, monkeypatch, fault: str
) -> None:
    fuzzing = Fuzzing(tmp_path / "run", monkeypatch, {5: "remember", 11: fault}, workers=1, cases=12)
    fuzzing.run()
    (bug,) = fuzzing.database.bugs()
    assert (bug.state, bug.symptom) == ("history", SYMPTOMS[fault])
    folder = fuzzing.directory / bug.id
    assert len(read_sequence(folder)) == 12
    # The zygote has to load what registers the target.
    for module in (minimise_bugs, stored):
        monkeypatch.setattr(module, "CandidatePool", functools.partial(CandidatePool, maker="hostile_cases:Maker"))
    told: list[events.Event] = []
    options = {"workers": 2, "memory": 2 << 30, "tell": told.append}
    done = minimise_all(fuzzing.directory, budget=Budget(100, 400), **options)
    assert [(row.bug, row.state) for row in done.rows] == [(bug.id, "complete")]
    assert [event.cases for event in told if isinstance(event, events.Shortening) and event.done] == [1]
    before, last = map(decode, read_sequence(folder, SHORTEST))
    assert (before.setting.knob("fault"), last.setting.knob("fault")) == ("remember", fault)
    assert (len(before.program.calls), len(last.program.calls)) == (0, 0) if fault == "recall and die" else (0, 1)
    assert done.rows[0].case_json == last.text == (folder / "case.min.json").read_text().strip()
    # What was recorded stays, and the smallest case fails behind the one that is left, and only so.
    assert len(read_sequence(folder)) == 12
    monkeypatch.setattr(replay_bugs, "RUNS_ONLY", "hostile_cases:Maker")
    with fuzzing.database as database:
        (item,) = replay_bugs.stored(fuzzing.directory, database)
    rows = replay_bugs.replay([item, replace(item, before=())], workers=2, memory=2 << 30)
    assert {len(row.item.before): row.verdict for row in rows} == {1: "still failing", 0: "fixed"}
    if fault == "recall and die":
        return
    # So does the command for one bug, which begins with what was recorded.
    written = minimise_stored(folder, budget=Budget(100, 400), **options)
    assert (written.recorded, written.sequence) == (11, folder / SHORTEST)
    assert [case.text for case in (*written.found.before, written.found.case)] == [before.text, last.text]
