"""A campaign's bugs are minimised and replayed by isolated workers, crashes too."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from shakeout.corpus.case import Setting
from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.campaign import selftest
from shakeout.fuzz.commands.minimise import minimise_all_command
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.minimise.search import Budget
from shakeout.fuzz.triage.replay_bugs import Item, replay, shipped


def test_crashes_are_minimised_beside_wrong_values(tmp_path: Path) -> None:
    bugs = {}
    with Database.create(tmp_path / NAME) as database:
        for fault, oracle, symptom in (("wrong value", "value", "wrong value"), ("abort", "crash", "SIGABRT")):
            case = selftest.case(fault)
            place = "output 0" if fault == "wrong value" else "run"
            verdict = {"oracle": oracle, "outcome": "fail", "symptom": symptom, "message": "", "place": place}
            result = {"target": "planted", "stage": "", "status": "compared", "verdicts": [{**verdict, "evidence": {}}]}
            bug, _ = database.add_finding(
                signature=fault,
                title=fault,
                target="planted",
                oracle=oracle,
                symptom=symptom,
                job=1,
                case_id=case.id,
                case_json=case.text,
                state="confirmed",
                result={**result, "operators": list(case.program.operators())},
            )
            bugs[fault] = bug.id
    console = Console(width=300, record=True)
    budget = Budget(60, 25)
    assert (
        minimise_all_command(tmp_path, budget=budget, workers=2, memory=2 << 30, plain=True, console=console) == Exit.OK
    )
    with Database.read(tmp_path / NAME) as database:
        smallest = database.smallest_cases()
    assert {smallest[bug].signature["oracle"] for bug in bugs.values()} == {"value", "crash"}
    assert smallest[bugs["abort"]].signature["culprit"].startswith("phase run")
    assert "operators 2 -> 0" in console.export_text()


WRONG = Failure("planted", "value", "wrong value")


def item(fault: str, failure: Failure = WRONG) -> Item:
    return Item("bug", fault, fault, selftest.case(fault), failure)


def test_cases_run_again_in_workers_of_their_own() -> None:
    nowhere = replace(selftest.case("wrong value"), setting=Setting("nowhere"))
    items = [
        item("wrong value"),
        item("abort", Failure("planted", "crash", "SIGABRT", "phase run")),
        item(selftest.NO_FAULT),
        item("wrong stride"),
        Item("bug", "gone", "gone", None),
        Item("bug", "elsewhere", "elsewhere", nowhere, WRONG),
    ]
    rows = {row.item.id: row for row in replay(items, workers=2, memory=2 << 30)}
    verdicts = {id_: row.verdict for id_, row in rows.items()}
    assert verdicts == {
        "wrong value": "still failing",
        "abort": "still failing",
        selftest.NO_FAULT: "fixed",
        "wrong stride": "changed",
        "gone": "cannot run",
        "elsewhere": "cannot run",
    }
    assert rows["wrong value"].failed == rows["wrong value"].runs == 2
    assert "metadata" in rows["wrong stride"].note
    assert "no case" in rows["gone"].note


@pytest.mark.exhaustive
def test_regressions_keep_their_status() -> None:
    items = [one for one in shipped(describe()["packages"]) if one.kind == "regression" and one.expected]
    rows = replay(items, workers=2, memory=4 << 30, runs=1)
    assert len(rows) == len(items)
    assert not [(row.item.id, row.verdict, row.note) for row in rows if row.surprising]
    assert len([row for row in rows if row.verdict != "cannot run"]) > 5
