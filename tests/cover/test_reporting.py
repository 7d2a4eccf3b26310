"""Reports for a project's tracker: the short script, the forms, and what is refused."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shakeout.corpus import known, regressions
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.evidence import Tried, Wide
from shakeout.corpus.symptom import Symptom
from shakeout.fuzz.bisect.facts import Bisection, Culprit, Releases
from shakeout.fuzz.bisect.stored import chosen
from shakeout.fuzz.cli import main
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.minimise.predicate import Executor
from shakeout.fuzz.minimise.predicate import Outcome as Outcome_
from shakeout.fuzz.reporting import drafting, exported, ordinary_inputs
from shakeout.fuzz.reporting.draft import Draft
from shakeout.fuzz.reporting.exported import Exported, short_form
from shakeout.fuzz.reporting.formats import FORMATS, owner_of
from shakeout.fuzz.reporting.forms import written
from shakeout.fuzz.reporting.ordinary_inputs import ORDINARY, OrdinaryInputs, of_case
from shakeout.fuzz.reporting.told import Answered
from shakeout.generators.validity import Requirements
from shakeout.oracles.vendor import Points
from shakeout.oracles.verdict import Outcome, Verdict

KNOWN = known.load_all()
ALONE = "import runpy, sys; sys.modules['shakeout'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"


def run(text: str, path: Path) -> subprocess.CompletedProcess[str]:
    path.write_text(text)
    return subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(path)], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize("bug", [bug for bug in KNOWN if len(bug.case.input_sets) == 1], ids=lambda bug: bug.id)
def test_short_scripts_are_short_and_need_no_shakeout(bug: known.KnownBug) -> None:
    text = short_form(bug.case, bug.symptom)
    assert text is not None
    assert "shakeout" not in text
    compile(text, bug.id, "exec")
    written_out = [line for line in text.splitlines() if line.strip()]
    # The interfaces of compilers that work in stages take a few lines more.
    assert len(written_out) <= (40 if bug.case.setting.target in ("inductor", "aot_eager") else 60)


def test_a_short_script_is_for_the_device_of_its_case(tmp_path: Path) -> None:
    bug = next(bug for bug in KNOWN if bug.id == "any-of-uint8-becomes-bool")
    text = short_form(replace(bug.case, setting=replace(bug.case.setting, device="cuda")))
    assert text is not None
    assert 'device="cuda"' in text
    if not torch.cuda.is_available():
        found = run(text, tmp_path / "repro.py")
        assert found.returncode == 125, found.stdout + found.stderr


@pytest.mark.long
def test_a_short_script_tells_agreement_difference_and_errors_where_shakeout_is_not_importable(tmp_path: Path) -> None:
    bug = next(bug for bug in KNOWN if bug.id == "any-of-uint8-becomes-bool")
    text = short_form(replace(bug.case, setting=Setting("aot_eager")))
    assert text is not None
    # The bug is Inductor's; aot_eager agrees, and with an expectation that is wrong it would not.
    done = run(text, tmp_path / "agrees.py")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no difference"), done.stderr
    wrong = "show(lambda network: lambda x: [x + 1])"
    done = run(text.replace("found = show(prepare)", f"found = {wrong}"), tmp_path / "differs.py")
    assert done.returncode == 1, done.stderr
    assert "expected" in done.stdout
    assert "found" in done.stdout
    done = run(text.replace("backend='aot_eager'", "backend='no such backend'"), tmp_path / "raises.py")
    assert done.returncode == 1
    assert "no such backend" in done.stdout


def test_a_training_step_and_parameters_have_a_short_form(tmp_path: Path) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)

    case = capture(program, lambda: [torch.ones(3, requires_grad=True)], setting=Setting("aot_eager", (), "training"))
    text = short_form(case)
    assert text is not None
    assert "torch.autograd.grad" in text
    done = run(text, tmp_path / "trains.py")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no difference"), done.stderr


def test_eager_that_raises_cannot_run(tmp_path: Path) -> None:
    text = short_form(capture(torch.sin, lambda: [torch.ones(3)], setting=Setting("aot_eager")))
    assert text is not None
    assert run(text.replace("torch.sin", "torch.no_such"), tmp_path / "lacks.py").returncode == 125


# --- forms ------------------------------------------------------------------------------------------------------------

CASE = capture(torch.sin, lambda: [torch.ones(3)], setting=Setting("inductor"))
POINTS = Points("violated", "agrees", 0.0, 1.0)
EVIDENCE = {"expected": 1.0, "found": 2.0, "index": [1], "double": 1.0}
WRONG = Verdict("value", Outcome.FAIL, "wrong value", "output 0[1]: expected 1.0, found 2.0", "output 0", EVIDENCE)
RESULT = Result(CASE.id, "inductor", "compared", (WRONG,), vendor=POINTS)
SCRIPT = Exported("import sys\nsys.exit(1)\n", "short", True, "exit status 1", "AssertionError: not close")
BISECTION = Bisection(
    CASE.id,
    "inductor",
    facts=(
        Culprit("lowering", ("aten.sin (sin)",), 1, 1, True, 0.99),
        Releases((("torch==2.12.0", "good"), ("torch==2.13.0", "bad")), "torch==2.13.0", (), "torch==2.12.0"),
    ),
)
DRAFT = Draft("inductor: wrong value", CASE, True, SCRIPT, RESULT, {"torch": "2.13.0"}, "PyTorch version", BISECTION)


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_says_all_that_is_known(form: Any) -> None:
    text = written(DRAFT, form)
    for part in (
        "inductor: wrong value",
        "sys.exit(1)",
        "output 0[1] = 1.0",
        "output 0[1] = 2.0",
        "AssertionError: not close",
        "torch 2.13.0",
        "PyTorch version",
        "lowering aten.sin (sin)",
        "First bad release: torch==2.13.0 (torch==2.12.0 is good)",
        "Newest release: NOT checked",
        "default tolerances violated",
        "An ordinary program: yes",
        "Read this before you file it",
        "the smallest that was found",
    ):
        assert part in text, part
    assert "DRAFT" not in text


def test_where_the_script_is_a_model_the_stage_behind_it_is_named() -> None:
    model = replace(DRAFT, script=replace(SCRIPT, form="model"), result=replace(RESULT, stage="InferenceSession"))
    said = "It holds the model that is made of the program. The failure begins behind that: in InferenceSession."
    assert said in written(model, "onnxruntime")
    assert "It holds the model" not in written(DRAFT, "onnxruntime")


def test_projects_have_their_own_headings() -> None:
    headings = {
        form: {line for line in written(DRAFT, form).splitlines() if line.startswith("###")} for form in FORMATS
    }
    assert "### 🐛 Describe the bug" in headings["pytorch"]
    assert "### Expected behavior" in headings["tvm"]
    assert "### Execution Provider" in headings["onnxruntime"]
    assert "### OpenVINO Version" in headings["openvino"]
    assert "### Issue submission checklist" in headings["openvino"]


def test_titles_and_marks_are_those_that_a_form_asks_for() -> None:
    text = written(replace(DRAFT, owner="openvino"), "openvino")
    assert "# [Bug]: inductor: wrong value" in text
    assert "- [x] There is reproducer code" in text  # which was run
    assert "- [ ] I checked the problem" in text  # by nobody yet
    importer = replace(DRAFT, owner="tvm", result=replace(RESULT, stage="from_exported_program"))
    assert "### Triage\n\n* needs-triage\n* type: bug\n* frontend:pytorch\n" in written(importer, "tvm")
    assert "frontend:pytorch" not in written(replace(DRAFT, owner="tvm"), "tvm")
    assert "[Bug]" not in written(importer, "markdown")  # in which nothing is asked for
    assert "Rules for fuzzers" not in written(importer, "tvm")  # which are PyTorch's


def test_of_a_scalar_no_index_is_told() -> None:
    scalar = replace(RESULT, verdicts=(replace(WRONG, evidence={**EVIDENCE, "index": []}),))
    text = told(result=scalar)
    assert "output 0 is 2.0, and 1.0 in eager" in text
    assert "output 0 = 2.0" in text
    assert "[]" not in text


@pytest.mark.parametrize(
    ("stage", "owner"),
    [("torch.onnx", "pytorch"), ("ONNX model", "pytorch"), ("InferenceSession", "onnxruntime"), ("", "onnxruntime")],
)
def test_what_the_exporter_gets_wrong_is_for_the_exporters_project(stage: str, owner: str) -> None:
    assert owner_of("onnxruntime", stage) == owner


def test_tlparse_is_asked_for_where_torch_compile_is_to_blame() -> None:
    exporter = replace(CASE, setting=Setting("onnxruntime"))
    assert "tlparse" in written(replace(DRAFT, owner="pytorch"), "pytorch")
    assert "tlparse" not in written(replace(DRAFT, owner="pytorch", case=exporter), "pytorch")


def test_what_is_not_known_is_said() -> None:
    bare = replace(DRAFT, bisection=None, result=None, minimised=False, environment="")
    text = written(bare, "markdown")
    for part in ("not bisected", "First bad release: not known", "NOT checked", "NOT minimised", "not answered"):
        assert part in text, part


def test_what_a_script_prints_does_not_end_its_block() -> None:
    text = written(replace(DRAFT, script=replace(SCRIPT, output="```\n# not a heading")), "markdown")
    assert "````\n```\n# not a heading\n````" in text


# --- what is known of a case that ships -------------------------------------------------------------------------------

SHIPPED = next(bug for bug in regressions.load_all() if bug.id == "add-of-nothing-complex")
WIDE = Wide("float32, 8 elements counted from 0", CASE, {"oracle": "value", "symptom": "wrong value"}, "short", ())
PARTS = (Answered("aot_eager", "as eager", fails=False), Answered("inductor", "output 0[1] = 2.0", fails=True))


def told(**changes: Any) -> str:
    return written(replace(DRAFT, **changes), "pytorch")


def test_what_is_known_of_a_case_that_ships_is_told() -> None:
    bug = replace(SHIPPED, searched="2026-11-27")
    ordinary = OrdinaryInputs((Tried("float32, 8 elements", "crash (SIGABRT)"),), WIDE)
    text = told(owner="pytorch", bug=bug, bisection=None, minimised=False, parts=PARTS, ordinary=ordinary)
    for part in (
        SHIPPED.explanation,
        f"Where it begins: {SHIPPED.culprit}.",
        "the smallest that was found",
        "- Bisected: lowering aten.reshape.default",
        "It is there in torch 2.13.0, torch 2.14.1.",
        "torch 2.14.1 fails, as it was recorded",
        "no report of it was found on 2026-11-27; look again",
        "`aot_eager` gives what eager gives; `inductor` is the first back end that does not.",
        "| `inductor` | output 0[1] = 2.0 |",
        "| float32, 8 elements | crash (SIGABRT) |",
        "With float32, 8 elements counted from 0:",
        "`topic: fuzzer`",
        "tlparse",
    ):
        assert part in text, part
    for wrong in ("NOT minimised", "not bisected", "NOT checked", "not known"):
        assert wrong not in text, wrong


def test_inputs_on_which_it_shows_otherwise_are_perhaps_another_bug() -> None:
    wide = replace(WIDE, failure={"oracle": "crash", "symptom": "SIGABRT"})
    text = told(ordinary=OrdinaryInputs((Tried(WIDE.what, "crash (SIGABRT)"),), wide))
    assert f"With {WIDE.what}, where it shows as SIGABRT, perhaps for another reason:" in text


def test_what_says_what_a_program_means_is_called_by_its_name() -> None:
    case = replace(CASE, program=replace(CASE.program, vocabulary="onnx"))
    text = written(replace(DRAFT, case=case), "onnxruntime")
    assert "What ONNX's evaluator gives" in text
    assert "in ONNX's evaluator" in text
    assert "eager" not in text.partition("### To reproduce")[0]


def test_of_a_part_that_was_not_compared_nothing_is_concluded() -> None:
    open_ = Answered("aot_eager", "not compared: unsupported", fails=False)
    text = told(parts=(Answered("dynamo", "as eager", fails=False), open_, PARTS[1]))
    assert "`dynamo` gives what eager gives; `inductor` does not; of `aot_eager` it is not known." in text
    assert "first back end" not in text


def test_the_oldest_release_that_was_tried_is_not_called_the_first_that_fails() -> None:
    releases = Releases((("torch==2.12.0", "bad"), ("torch==2.13.0", "bad")), "torch==2.12.0")
    text = told(bisection=replace(BISECTION, facts=(releases,)))
    assert "It is there in torch==2.12.0 already, and no older release was found to be good." in text
    assert "First bad release: torch==2.12.0 (no older one was found to be good)" in text
    assert "first release that has it" not in text


@pytest.mark.parametrize(("symptom", "shows"), [(None, True), (Symptom("hang", "hang"), True), (WRONG, False)])
def test_a_script_that_gives_no_answer_shows_a_hang_at_most(
    symptom: Symptom | Verdict | None, shows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exported, "_child", lambda *arguments: (None, "", ""))
    wanted = Symptom.seen(symptom) if isinstance(symptom, Verdict) else symptom
    found = exported.export(CASE, symptom=wanted)
    assert (found.form, found.status, found.shows) == ("long", "no answer", shows)


def test_an_issue_that_is_open_is_named() -> None:
    text = told(bug=replace(SHIPPED, reference="https://github.com/pytorch/pytorch/issues/1"))
    assert "it is public already: https://github.com/pytorch/pytorch/issues/1" in text


@pytest.mark.parametrize(
    ("evidence", "oracle", "said"),
    [
        ({**EVIDENCE, "dtype": "bool"}, "value", False),
        ({"expected": [2], "found": [1]}, "metadata", False),
        ({**EVIDENCE, "dtype": "float32"}, "value", True),
    ],
)
def test_double_precision_speaks_of_real_numbers_only(evidence: dict[str, Any], oracle: str, said: bool) -> None:
    verdict = replace(WRONG, oracle=oracle, evidence=evidence)
    text = told(result=replace(RESULT, verdicts=(verdict,)))
    assert ("ouble precision" in text) == said, text


#: What a sanitizer reports, as the oracle of exceptions writes it: its numbers left out, then as it came.
REPORTED = "SanitizerReport: {0}heap-buffer-overflow: READ of size N\n{0}heap-buffer-overflow: READ of size 32"


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (Verdict("crash", Outcome.FAIL, "SIGSEGV", "", "run", {}), "This looks like a memory error"),
        (replace(WRONG, symptom="nondeterministic"), "values change from run to run"),
        (Verdict("crash", Outcome.FAIL, "SIGFPE", "", "run", {}), None),
        (WRONG, None),
        (
            Verdict("exception", Outcome.FAIL, "SanitizerReport", REPORTED.format("AddressSanitizer: "), "run", {}),
            "AddressSanitizer says heap-buffer-overflow: READ of size 32.",
        ),
        (Verdict("exception", Outcome.FAIL, "SanitizerReport", REPORTED.format(""), "run", {}), None),
    ],
)
def test_a_memory_error_is_called_one(verdict: Verdict, said: str | None) -> None:
    text = told(result=replace(RESULT, verdicts=(verdict,)))
    assert ("memory error" in text) == (said is not None)
    assert said is None or said in text
    if said is not None and verdict.oracle != "exception":
        heap = told(result=replace(RESULT, verdicts=(verdict,)), sanitizer="heap-buffer-overflow: WRITE of size 32")
        assert "AddressSanitizer says heap-buffer-overflow: WRITE of size 32." in heap


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ((), "Settings: inference, default settings."),
        (("fullgraph=True",), "`fullgraph=True` (without it the script shows nothing)"),
        (None, "those that the script sets"),
    ],
)
def test_default_settings_are_those_of_a_user_who_writes_nothing(needs: tuple[str, ...] | None, said: str) -> None:
    text = told(script=replace(SCRIPT, needs=needs))
    assert said in text
    assert ("default settings" in text) == (needs == ())


def test_a_setting_is_left_out_where_the_script_shows_the_failure_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    needed: set[str] = set()

    def tried(case: Case, form: str, text: str, symptom: Symptom | None) -> Exported:
        shows = all((name in text) for name in needed) and form == "short"
        return Exported(text, form, shows, "exit status 1" if shows else "exit status 0", "")

    monkeypatch.setattr(exported, "_tried", tried)
    case = replace(CASE, setting=Setting("openvino"))
    found = exported.export(case)
    assert (found.form, found.needs) == ("short", ())
    assert "INFERENCE" not in found.text
    needed.add('"INFERENCE_NUM_THREADS": 1')
    found = exported.export(case)
    assert found.needs == ("INFERENCE_NUM_THREADS=1",)
    assert "PINNING" not in found.text
    compile(found.text, "repro.py", "exec")
    needed.add("no such thing")
    assert exported.export(case).form == "long"


def test_ordinary_inputs_are_tried_once_and_kept_beside_the_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []

    class Pool(contextlib.AbstractContextManager[Executor]):
        def __init__(self, directory: Path, setting: Setting, workers: int, **more: Any) -> None:
            pass

        def __enter__(self) -> Executor:
            return self.run

        def __exit__(self, *error: object) -> None:
            pass

        def run(self, cases: Sequence[Case], requirements: Requirements) -> list[Outcome_]:
            runs.append(len(cases))
            last = replace(RESULT, case=cases[-1].id)
            passing = [Outcome_("compared") for _ in cases[1:]]
            return [*passing, Outcome_("compared", failure_of(last), cases[-1], last)]

    monkeypatch.setattr(ordinary_inputs, "CandidatePool", Pool)
    monkeypatch.setattr(ordinary_inputs, "export", lambda case, symptom: replace(SCRIPT, needs=()))
    failure = failure_of(RESULT)
    assert failure is not None
    found = of_case(CASE, failure, tmp_path)
    assert found.wide is not None
    assert (found.wide.needs, found.wide.symptom.name) == ((), "wrong value")
    assert {one.outcome for one in found.tried[:-1]} == {"no failure"}
    assert of_case(CASE, failure, tmp_path) == found
    assert len(runs) == 1
    (tmp_path / ORDINARY).write_text("[]")  # damaged: found out anew
    assert of_case(CASE, failure, tmp_path) == found
    other = replace(CASE, setting=Setting("aot_eager"))
    assert of_case(other, failure, tmp_path).wide != found.wide
    assert len(runs) == 3
    (tmp_path / "new").mkdir()
    # What there was no time for is not kept as if it were an answer.
    monkeypatch.setattr(Pool, "run", lambda self, cases, requirements: [Outcome_("infra") for _ in cases])
    assert {one.outcome for one in of_case(CASE, failure, tmp_path / "new").tried} == {"not run"}
    assert not (tmp_path / "new" / ORDINARY).exists()


@pytest.mark.long
def test_a_report_of_a_case_that_ships_says_what_its_file_says(capsys: pytest.CaptureFixture[str]) -> None:
    path = regressions.DIRECTORY / "polygamma-in-place-is-taken-for-custom.json"
    bug = regressions.load(path)
    assert main(["report", str(path)]) == Exit.OK
    text = capsys.readouterr().out
    for part in (f"# aot_eager: {bug.title}", bug.explanation, "default settings", "| `dynamo` | as eager |"):
        assert part in text, part
    for wrong in ("NOT minimised", "not bisected", "NOT checked"):
        assert wrong not in text, wrong


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "SH-0000"
    found.mkdir()
    (found / "case.json").write_text(CASE.text)
    monkeypatch.setattr(drafting, "export", lambda case, result, symptom: SCRIPT)
    monkeypatch.setattr(drafting, "collected", lambda: "PyTorch version")
    monkeypatch.setattr(drafting, "observed", lambda case: RESULT)
    monkeypatch.setattr(drafting, "ablation", lambda case, result: PARTS)
    monkeypatch.setattr(drafting, "of_case", lambda case, failure, folder: OrdinaryInputs())
    return found


def test_the_command_writes_the_form_of_the_targets_project(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder)]) == Exit.OK
    assert "Describe the bug" in capsys.readouterr().out
    output = tmp_path / "report.md"
    assert main(["report", str(folder), "--format", "tvm", "--output", str(output)]) == Exit.OK
    assert "### Steps to reproduce" in output.read_text()
    assert "nothing was filed" in capsys.readouterr().out


def test_whoever_asks_for_a_draft_is_answered_and_nothing_is_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = chosen(folder)
    draft = drafting.drafted(job)
    assert (draft.objections, draft.script) == ((), SCRIPT)
    assert draft.text is not None
    assert "Describe the bug" in draft.text
    monkeypatch.setattr(drafting, "export", lambda case, result, symptom: replace(SCRIPT, shows=False))
    refused = drafting.drafted(job)
    assert (refused.objections, refused.text) == (("its script shows no failure here",), None)
    anyway = drafting.drafted(job, anyway=True).text
    assert anyway is not None
    assert "DRAFT, NOT FOR FILING" in anyway
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (
            "observed",
            replace(RESULT, vendor=replace(POINTS, objections=("only indices of equal elements differ",))),
            "only ind",
        ),
        ("export", replace(SCRIPT, shows=False), "shows no failure here"),
    ],
)
def test_what_the_project_would_close_is_refused(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: Any,
    reason: str,
) -> None:
    monkeypatch.setattr(drafting, name, lambda case, *result: value)
    output = tmp_path / "report.md"
    assert main(["report", str(folder), "--output", str(output)]) == Exit.REFUSED
    assert reason in capsys.readouterr().err
    assert not output.exists()
    assert main(["report", str(folder), "--output", str(output), "--anyway"]) == Exit.OK
    text = output.read_text()
    assert "DRAFT, NOT FOR FILING" in text
    assert "# [DRAFT]" in text
    assert reason in text


def test_the_minimised_case_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(folder)])
    assert "NOT minimised" in capsys.readouterr().out
    (folder / "case.min.json").write_text(CASE.text)
    main(["report", str(folder)])
    assert "the smallest that was found" in capsys.readouterr().out


@pytest.mark.parametrize("status", ["reported", "invalid", "wontfix", "duplicate-of"])
def test_what_somebody_has_decided_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    for name, value in (
        ("export", SCRIPT),
        ("collected", ""),
        ("observed", RESULT),
        ("ablation", PARTS),
        ("of_case", OrdinaryInputs()),
    ):
        monkeypatch.setattr(drafting, name, lambda *case, value=value: value)
    directory = tmp_path / "campaign"
    directory.mkdir()
    with Database.create(directory / NAME) as database, database.transaction():
        bugs = []
        for number, signature in enumerate(("one", "other")):
            bug, _ = database.add_finding(
                signature=signature,
                title=signature,
                target="inductor",
                oracle="value",
                symptom="wrong value",
                job=number,
                case_id=CASE.id,
                case_json=CASE.text,
                result=RESULT.to_json(),
                script="",
                history=(),
                state="confirmed",
            )
            bugs.append(bug.id)
    (directory / bugs[0]).mkdir()
    (directory / bugs[0] / "case.json").write_text(CASE.text)
    other = [bugs[1]] if status == "duplicate-of" else []
    assert main(["report", bugs[0], "--directory", str(directory), "--output", str(tmp_path / "r.md")]) == Exit.OK
    assert main(["bugs", "set", bugs[0], status, *other, "--directory", str(directory), "--note", "seen"]) == Exit.OK
    capsys.readouterr()
    assert main(["report", bugs[0], "--directory", str(directory)]) == Exit.REFUSED
    assert " ".join(["somebody said that it is", status, *other]) + ": seen" in capsys.readouterr().err
