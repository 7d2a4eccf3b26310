"""What nobody could reduce: behind other cases one bug of a user's own, and a network around a kernel the kernel's."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.grouping import KEPT
from shakeout.corpus.user_objects import find
from shakeout.fuzz.campaign.investigation import Investigation
from shakeout.fuzz.commands import campaigns
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.jobs import Grow, Job, Reduce
from shakeout.fuzz.ground.results import Answer, Reply, Result
from shakeout.fuzz.reporting.counted import counted
from shakeout.fuzz.triage.shown import Shown, Small
from shakeout.fuzz.triage.steps import Tools, TriageTask
from shakeout.fuzz.triage.store import Store
from shakeout.oracles.verdict import Outcome, Verdict
from shakeout.targets.registry import target

RUNTIME = "save_on_cpu"


def finding(store: Store, number: int, symptom: str, target: str = RUNTIME) -> Shown:
    """A finding with a coarse signature of its own."""
    case = capture(lambda x: x.sin().cos(), lambda: [torch.ones(number)], setting=Setting(target))
    verdict = Verdict("value", Outcome.FAIL, symptom, "", "output 0", {})
    result = Result("", target, "compared", (verdict,), signature=f"coarse {number}")
    shown = store.found(Grow(number=number, target=target, seed=number), result, case.text, "", ())
    assert shown is not None, "nothing explains it"
    return shown


def test_history_findings_of_one_place_are_one_bug_also_for_the_next_run(tmp_path: Path) -> None:
    with Database.create(tmp_path / NAME) as database:
        store = Store(database, tmp_path, lambda event: None)
        found = [finding(store, 1, "wrong value"), finding(store, 2, "NaN appears")]
        first, second = (store.conclude(shown, "history", 0, 3, "behind others") for shown in found)
        assert first.id == second.id
        again = Store(database, tmp_path, lambda event: None)
        third = again.conclude(finding(again, 3, "NaN lost"), "history", 0, 3, "behind others")
        assert (third.id, third.count) == (first.id, 3)
        # What may fail by itself is not counted there unseen.
        flaky = again.conclude(finding(again, 4, "wrong value"), "flaky", 1, 3, "once")
        assert flaky.id != first.id
        # Of a compiler nobody knows whether they are one.
        others = [again.conclude(finding(again, n, "wrong value", "inductor"), "history", 0, 3, "") for n in (5, 6)]
        assert len({bug.id for bug in others}) == 2


MODULE = "shakeout_kernels_in_networks"
KERNEL = f"{MODULE}:sine"


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    text = "import shakeout, torch\n@shakeout.kernel(reference=torch.sin)\ndef sine(x):\n    return x.sin()\n"
    (tmp_path / f"{MODULE}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module(MODULE)
    yield
    del sys.modules[MODULE]
    find.cache_clear()
    target.cache_clear()


def of_kernel(
    store: Store, number: int, behind: int, symptom: str = "wrong value", oracle: str = "value"
) -> tuple[Shown, Case]:
    """A finding of a user's kernel with so many operators behind it."""

    def program(x: torch.Tensor) -> torch.Tensor:
        for _ in range(behind + 1):
            x = x.sin()
        return x

    case = capture(program, lambda: [torch.ones(number)], setting=Setting(KERNEL))
    first, *others = case.program.calls
    calls = (replace(first, operator=KERNEL), *others)
    case = replace(case, program=replace(case.program, vocabulary="kernel", calls=calls))
    verdict = Verdict(oracle, Outcome.FAIL, symptom, "", "output 0", {})
    operators = tuple(call.operator for call in calls)
    result = Result("", KERNEL, "compared", (verdict,), signature=f"coarse {number}", operators=operators)
    shown = store.found(Grow(number=number, target=KERNEL, seed=number), result, case.text, "", ())
    assert shown is not None, "nothing explains it"
    return shown, case


def small(shown: Shown, case: Case) -> Small:
    """It cannot be made smaller."""
    failure = failure_of(shown.result)
    assert failure is not None
    return Small(case, failure, shown.result, "# its script", complete=len(case.program.calls) < 5)


def test_networks_around_a_kernel_are_one_bug_which_a_smaller_case_takes_over(tmp_path: Path, kernels: None) -> None:
    with Database.create(tmp_path / NAME) as database:
        store = Store(database, tmp_path, lambda event: None)
        networks = [of_kernel(store, 1, 20), of_kernel(store, 2, 9, "NaN appears")]
        bugs = {store.assign(shown, small(shown, case)).id for shown, case in networks}
        bugs.add(store.conclude(of_kernel(store, 3, 8)[0], "confirmed", 3, 3, "its own script").id)
        again = Store(database, tmp_path, lambda event: None)
        bugs.add(again.conclude(of_kernel(again, 4, 7)[0], "confirmed", 3, 3, "its own script").id)
        (bug,) = bugs
        shown, case = of_kernel(again, 5, 0)
        reduced = small(shown, case)
        assert again.improvable(bug, reduced)
        assert again.assign(shown, reduced).id == bug
        stored = database.smallest_case(bug)
        assert stored is not None
        assert stored.case_json == case.text, "what it is shown by from now on"
        assert not again.improvable(bug, reduced)
        # What shows only through others is a bug apart, and one.
        others = [of_kernel(again, number, 1, oracle="gradient") for number in (6, 7)]
        behind = [again.assign(found, small(found, network)).id for found, network in others]
        assert behind[0] == behind[1] != bug


def test_a_network_that_did_not_fail_again_says_nothing_of_a_kernel(tmp_path: Path, kernels: None) -> None:
    with Database.create(tmp_path / NAME) as database:
        store = Store(database, tmp_path, lambda event: None)
        flaky = store.conclude(of_kernel(store, 1, 9)[0], "flaky", 0, 3, "it did not fail again")
        history = store.conclude(of_kernel(store, 2, 9)[0], "history", 0, 3, "behind others")
        shown, case = of_kernel(store, 3, 9)
        alone = store.assign(shown, small(shown, case))
        assert len({flaky.id, history.id, alone.id}) == 3


def triaged(store: Store, shown: Shown, case: Case, *, anew: bool = True, stock: bool = True) -> None:
    """A finding goes all the way: this is its smallest case, which fails in fresh workers and processes or does not."""
    reduced = small(shown, case)
    said = {"failure": astuple(reduced.failure), "growth": "", "complete": True, "tries": 1, "seconds": 0.0}
    passed = Result("", KERNEL, "compared", (Verdict("value", Outcome.PASS),))

    def confirming(name: str, script: Path, runs: int) -> Any:
        failed = stock and script.read_text() == reduced.script
        return SimpleNamespace(failed=int(failed), tried=1, output="", confirmed=failed, outcomes=[])

    task = TriageTask(shown, Tools(store, confirming, 1))
    answer = None
    while task.move(answer):
        answer = None
        if isinstance(task.waiting, Reduce):
            reply = Reply(result=shown.result, case=case.text, script=reduced.script, learnt=said)
            answer = Answer(task.waiting, 0, reply)
        elif isinstance(task.waiting, Job):
            answer = Answer(task.waiting, 0, Reply(result=shown.result if anew else passed))


@pytest.mark.parametrize(("anew", "stock"), [(True, True), (False, True), (True, False)])
def test_a_smallest_case_takes_a_network_over_only_if_it_may_be_confirmed_and_that_is_no_news(
    tmp_path: Path, kernels: None, anew: bool, stock: bool
) -> None:
    told: list[events.Event] = []
    with Database.create(tmp_path / NAME) as database:
        investigation = Investigation(database, tmp_path, None, told.append, memory=1)  # type: ignore[arg-type]
        store = investigation.store
        networks = [of_kernel(store, number, 9)[0] for number in range(1, KEPT + 2)]
        (bug,) = {store.conclude(shown, "confirmed", 1, 1, "its own script").id for shown in networks}
        shown, case = of_kernel(store, 99, 0)
        triaged(store, shown, case, anew=anew, stock=stock)
        assert (database.bug(bug).count, database.bug(bug).state) == (KEPT + 2, "confirmed")
        assert len(database.bugs()) == 1
        assert database.waiting() == 0
        stored = database.smallest_case(bug)
        assert (stored is not None and stored.case_json == case.text) is (anew and stock)
        assert [event.bug for event in told if isinstance(event, events.Confirmed)] == [bug]
        if not (anew and stock):
            # Nor is it news for a later run that confirms it by its smallest case.
            again = Investigation(database, tmp_path, None, told.append, memory=1)  # type: ignore[arg-type]
            triaged(again.store, *of_kernel(again.store, 98, 0))
            assert not again.store.improvable(bug, small(shown, case))
            assert again.new == ()


def test_a_run_that_opened_a_bug_and_had_no_time_to_confirm_it_has_found_it(tmp_path: Path, kernels: None) -> None:
    with Database.create(tmp_path / NAME) as database:
        investigation = Investigation(database, tmp_path, None, lambda event: None, memory=1)  # type: ignore[arg-type]
        (shown, case), (network, _) = of_kernel(investigation.store, 1, 0), of_kernel(investigation.store, 2, 9)
        bug = investigation.store.assign(shown, small(shown, case))
        flaky = investigation.store.conclude(network, "flaky", 0, 1, "once")
        assert (bug.state, flaky.state) == ("new", "flaky")
        assert investigation.new == (bug.id,)
        assert counted(database).bugs["bug"] == 1, "what the summary calls a new bug"
        ended = events.Finished("time", 1.0, {}, new=investigation.new, waiting=1)
        assert campaigns._judged(ended) == (Exit.FOUND, "1 new bug")
