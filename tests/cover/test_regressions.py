"""The regressions that ship: small, judged, each with a page that is written from it, and each keeps its status."""

import re
from pathlib import Path

import pytest

from shakeout.corpus import script
from shakeout.corpus.codec import MalformedCase
from shakeout.corpus.regressions import Regression, load, load_all
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.reporting import pages
from shakeout.fuzz.running.execute import execute

REGRESSIONS = load_all()
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"title": "a"}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(MalformedCase, match=r"broken\.json"):
        load(path)


def test_there_is_one_for_each_compiler() -> None:
    assert len(REGRESSIONS) >= 40
    on = {bug.case.setting.target for bug in REGRESSIONS}
    assert on >= {"aot_eager", "inductor", "export", "onnxruntime", "openvino", "tvm"}
    assert len({bug.title for bug in REGRESSIONS}) == len(REGRESSIONS)


@pytest.mark.parametrize("bug", REGRESSIONS, ids=lambda bug: bug.id)
def test_each_is_small_judged_and_told(bug: Regression) -> None:
    assert len(bug.case.program.calls) <= 3
    assert len(bug.explanation) > 100
    assert bug.failure["oracle"]
    assert bug.failure["symptom"]
    assert all(re.fullmatch(r"\S+ \d[\w.]*", release) for release in bug.status)
    assert not bug.reference or re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", bug.reference)
    assert (DOCS.parent / bug.found).exists()
    compile(script.body(bug.case), bug.id, "exec")


def test_status_is_looked_up_by_release() -> None:
    bug = next(bug for bug in REGRESSIONS if "torch 2.13.0" in bug.status)
    assert bug.expected({"torch": "2.13.0+cpu"}) == bug.status["torch 2.13.0"]
    assert bug.expected({"torch": "2.13"}) is None
    assert bug.expected({}) is None


def test_pages_are_those_that_the_command_writes(tmp_path: Path) -> None:
    folder = tmp_path / "bugs"
    folder.mkdir()
    (folder / "gone.md").write_text("a bug that does not ship any more")
    assert pages.main([str(folder)]) == 0
    written = {path.name: path.read_text() for path in folder.glob("*.md")}
    there = {path.name: path.read_text() for path in (DOCS / "bugs").glob("*.md")}
    assert there == written, "python -m shakeout.fuzz.reporting.pages docs/bugs"
    assert pages.main([]) == 2


FAST = [bug for bug in REGRESSIONS if bug.case.setting.target == "aot_eager"]


@pytest.mark.parametrize("bug", FAST, ids=lambda bug: bug.id)
def test_a_fast_one_keeps_its_status(bug: Regression) -> None:
    expected = bug.expected(describe()["packages"])
    if expected is None:
        pytest.skip("nobody has tried it with these versions")
    failure = failure_of(execute(bug.case))
    assert (failure is not None) == (expected == "fails"), failure
    if failure is not None:
        assert (failure.oracle, failure.symptom) == (bug.failure["oracle"], bug.failure["symptom"])
