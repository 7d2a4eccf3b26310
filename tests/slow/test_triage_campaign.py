"""A campaign's bugs are minimised by isolated workers, crashes too."""

from pathlib import Path

import pytest
from rich.console import Console

from shakeout.corpus.database import NAME, Database
from shakeout.fuzz import selftest
from shakeout.fuzz.exits import Exit
from shakeout.fuzz.minimise.search import Budget
from shakeout.fuzz.triage.minimising import minimise_all

pytestmark = pytest.mark.slow


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
    assert minimise_all(tmp_path, budget=budget, workers=2, memory=2 << 30, plain=True, console=console) == Exit.OK
    with Database.read(tmp_path / NAME) as database:
        minimals = database.minimals()
    assert {minimals[bug].signature["oracle"] for bug in bugs.values()} == {"value", "crash"}
    assert minimals[bugs["abort"]].signature["culprit"].startswith("phase run")
    assert "operators 2 -> 0" in console.export_text()
