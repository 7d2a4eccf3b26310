"""The program that runs the script of every page: it runs what stands there, and counts nothing else as shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.benchmarks import pages

from shakeout.fuzz.reporting.exported import short_form

BUGS = {bug.id: bug for bug in pages.bugs()}


def test_the_script_of_a_page_is_the_smallest_case_and_its_own() -> None:
    for bug in BUGS.values():
        if bug.evidence is not None and bug.evidence.script == "short":
            assert pages.script(bug).rstrip() == str(short_form(bug.case, bug.symptom, bug.evidence.needs)).rstrip(), (
                bug.id
            )


@pytest.mark.parametrize(
    ("name", "status", "word"),
    [
        ("add-of-nothing-complex", 1, "shows it"),
        ("add-of-nothing-complex", 3, "fails otherwise"),
        ("add-of-nothing-complex", -6, "killed by SIGABRT"),
        ("openvino-expand-to-nothing", -8, "shows it"),
        ("add-of-nothing-complex", 0, "no difference"),
        ("add-of-nothing-complex", None, "no answer"),
        ("add-of-nothing-complex", 7, "status 7"),
    ],
)
def test_a_status_in_words(name: str, status: int | None, word: str) -> None:
    assert pages.word(BUGS[name], status) == word


def test_a_row_is_of_one_script_and_the_table_counts_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = BUGS["tvm-take-of-a-negative-index"]
    other = BUGS["tvm-last-of-one-element"]
    digest = pages.digest(pages.script(bug))
    rows = [
        {"id": bug.id, "release": "torch 2.13.0, apache-tvm 0.27.0", "script": digest, "word": "shows it"},
        {"id": bug.id, "release": "torch 2.14.1, apache-tvm 0.27.0", "script": digest, "word": "no difference"},
        {"id": other.id, "release": "torch 2.13.0", "script": "of an older page", "word": "shows it"},
    ]
    monkeypatch.setattr(pages, "rows", lambda: rows)
    text = "\n".join(pages.table())
    run = sum(one.case.setting.device == "cpu" for one in BUGS.values())
    assert f"- torch 2.13.0: 1 shows it; {run - 1} not run with the script that the page has now" in text
    assert f"| [{bug.id}](../bugs/{bug.id}.md) | apache-tvm 0.27.0 | shows it | no difference |" in text
    assert other.id not in text


def test_what_fails_otherwise_and_what_is_missing_is_not_shown(tmp_path: Path) -> None:
    bug = BUGS["add-of-nothing-complex"]
    found = pages.measured(bug, "print('something'); raise SystemExit(3)", sys.executable)
    assert (found["status"], found["word"], found["said"]) == (3, "fails otherwise", "something")
    found = pages.measured(bug, "import shakeout; raise SystemExit(1)", sys.executable)
    assert found["word"] == "cannot run"
    assert "shakeout" in found["said"]
