"""The regressions that ship: small, judged, each with a page that is written from it, and each keeps its status."""

import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from shakeout.corpus import script
from shakeout.corpus.codec import MalformedCase
from shakeout.corpus.evidence import Evidence, Tried, Wide
from shakeout.corpus.regressions import Regression, load, load_all
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.reporting import pages
from shakeout.fuzz.reporting.trophies import trophies
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
    gone = folder / "gone.md"
    gone.write_text("a bug that does not ship any more")
    assert pages.main([str(folder)]) == 2  # nor need it be a page of a bug: this is no folder of them yet
    assert gone.exists()
    (folder / pages.INDEX).write_text("# Bugs\n")
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


# --- one cause, one page; and what is worth most ----------------------------------------------------------------------


def test_one_cause_has_one_page_which_names_every_way_it_shows() -> None:
    alike = [bug for bug in REGRESSIONS if bug.same]
    assert len(alike) >= 10
    ids = {bug.id: bug for bug in REGRESSIONS}
    for bug in alike:
        assert not ids[bug.same].same
        assert not (DOCS / "bugs" / f"{bug.id}.md").exists()
        page = (DOCS / "bugs" / f"{bug.same}.md").read_text()
        behind = page.partition(f'<a id="{bug.id}"></a>')[2]
        assert bug.title in behind
        assert f"shakeout replay corpus/data/regressions/{bug.id}.json" in behind


def test_links_to_pages_lead_somewhere() -> None:
    for path in DOCS.rglob("*.md"):
        for name, _, anchor in re.findall(r"\]\((?:[\w./-]*/)?bugs/([\w.-]+\.md)(#([\w-]+))?\)", path.read_text()):
            page = DOCS / "bugs" / name
            assert page.exists(), (path, name)
            assert not anchor or f'<a id="{anchor}"></a>' in page.read_text(), (path, anchor)


def test_trophies_are_real_new_and_there_and_the_worst_come_first() -> None:
    bug = next(bug for bug in REGRESSIONS if bug.id == "openvino-vstack-of-one-keeps-its-rank")
    evidence = replace(cast(Evidence, bug.evidence), wide=None)
    silent = replace(bug, id="silent", evidence=evidence)
    wide = replace(silent, id="wide", failure={"oracle": "exception", "symptom": "RuntimeError"})
    found = {"oracle": "value", "symptom": "wrong value"}
    shown = Wide("float32, 8 elements", silent.case, found, "short", ())
    wide = replace(wide, evidence=replace(evidence, wide=shown))
    raises = replace(silent, id="raises", failure={"oracle": "exception", "symptom": "RuntimeError"})
    dies = replace(silent, id="dies", failure={"oracle": "crash", "symptom": "SIGSEGV"})
    others = [
        replace(silent, id="public", reference="https://github.com/pytorch/pytorch/issues/1"),
        replace(silent, id="arguable", judgement="arguable"),
        replace(silent, id="fixed", status={"torch 2.13.0": "fails", "torch 2.14.1": "fixed"}),
        replace(silent, id="alike", same="silent"),
    ]
    text = "\n".join(trophies([raises, dies, wide, silent, *others]))
    assert re.findall(r"\]\((\w+)\.md\)", text.partition("## 1.")[2]) == ["silent", "wide", "dies", "raises"]
    assert "4 bugs" in text
    assert "shown here with float32, 8 elements" in text


def test_a_page_says_what_ordinary_inputs_do_and_which_settings_matter(tmp_path: Path) -> None:
    bug = next(bug for bug in REGRESSIONS if bug.id == "add-of-nothing-complex")
    tried = (Tried("complex64, 8 elements", "no failure"), Tried("float32, 8 elements", "crash (SIGABRT)"))
    wide = Wide("float32, 8 elements", bug.case, {"oracle": "crash", "symptom": "SIGABRT"}, "short", ())
    evidence = replace(cast(Evidence, bug.evidence), needs=("fullgraph=True",), tried=tried, wide=wide)
    assert Evidence.from_json(evidence.to_json()) == evidence
    page = pages.pages([replace(bug, evidence=evidence)], [])[f"{bug.id}.md"]
    assert "- settings without which it does not show: `fullgraph=True`" in page
    assert "| float32, 8 elements | crash (SIGABRT) |" in page
    assert page.count("def program(") == 2
    assert page.count("fullgraph=True)") == 1
    page = pages.pages([replace(bug, evidence=replace(evidence, needs=()))], [])[f"{bug.id}.md"]
    assert "- settings: default, as of a user who writes nothing" in page
    assert "fails with default settings" not in page
