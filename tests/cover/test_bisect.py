"""Bisecting a case: what a ladder asks, what it concludes, what is kept, and the limits on real compilers."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
import torch._inductor.config
from tests.faults import FAULTS
from tests.faults.fault import Canary
from tests.faults.inductor import Compiled, uncached
from torch._inductor.fx_passes import fuse_attention

from shakeout.corpus import codec, known
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.bisect import stored
from shakeout.fuzz.bisect.facts import Bisection, Culprit, Cures, Fact, Knobs, Note, Releases, Rung
from shakeout.fuzz.bisect.hooks import Gate, Limit, limited
from shakeout.fuzz.bisect.inquiry import Inquiry
from shakeout.fuzz.bisect.kept import Memory, beside, within
from shakeout.fuzz.bisect.ladders import bisected
from shakeout.fuzz.bisect.trials import Shown, Trial, in_process, judged
from shakeout.fuzz.cli import main
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.progress import Stop
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.fuzz.reporting import drafting
from shakeout.fuzz.reporting.exported import Exported
from shakeout.targets import limits

WRONG = Failure("inductor", "value", "wrong value")
BAD, GOOD = Shown("failed", WRONG), Shown("compared")


def case_of(target: str = "inductor", **knobs: object) -> Case:
    setting = Setting(target, tuple(sorted(knobs.items())))
    return capture(torch.sin, lambda: [torch.ones(3)], setting=setting)


class Fake:
    """A compiler with parts: it fails where ``fails`` says so, given the trial and which parts are at work."""

    def __init__(
        self, parts: dict[str, Sequence[str]], fails: Callable[[Trial, dict[str, Sequence[str]]], bool]
    ) -> None:
        self.parts = parts
        self.fails = fails
        self.runs = 0

    def __call__(self, trials: Sequence[Trial]) -> list[Shown]:
        found = []
        for trial in trials:
            self.runs += 1
            limit = trial.limit
            active = dict(self.parts)
            names: Sequence[str] = ()
            if limit is not None:
                names = self.parts.get(limit.kind, ())
                most = len(names) if limit.most is None else limit.most
                active[limit.kind] = [n for i, n in enumerate(names) if i < most and i != limit.without]
            shown = BAD if self.fails(trial, active) else GOOD
            found.append(replace(shown, names=tuple(names)))
        return found


def of(found: Sequence[Fact], kind: type) -> list:
    return [fact for fact in found if isinstance(fact, kind)]


def test_a_lowering_is_named() -> None:
    parts = {"lowerings": ["aten.cos (cos)", "aten.sin (sin)", "aten.add (add)"], "fusions": ["a with b"]}
    fake = Fake(parts, lambda t, at: t.case.setting.target == "inductor" and "aten.sin (sin)" in at["lowerings"])
    found = list(bisected(Inquiry(case_of(), fake)))
    assert [str(rung).split()[1] for rung in of(found, Rung)] == ["good", "good", "good", "bad"]
    stage, lowering = of(found, Culprit)
    assert stage.names == ("inductor",)
    # Three rungs passed twice each, of a case that failed in five of five runs: a rate of 6/7.
    assert stage.confidence == pytest.approx((1 - (1 / 7) ** 2) ** 3)
    assert lowering == replace(lowering, kind="lowering", names=("aten.sin (sin)",), number=2, of=3, alone=True)
    assert 0.9 < lowering.confidence <= 1


def test_the_pattern_of_a_pass_is_named_and_nothing_behind_it() -> None:
    parts = {
        "joint_graph_passes": ["noop", "fold"],
        "patterns": ["one", "two", "three"],
        "lowerings": ["aten.sin (sin)"],
    }

    def fails(trial: Trial, at: dict[str, Sequence[str]]) -> bool:
        return (
            trial.case.setting.target == "inductor" and "fold" in at["joint_graph_passes"] and "two" in at["patterns"]
        )

    found = of(list(bisected(Inquiry(case_of(), Fake(parts, fails)))), Culprit)
    assert [(one.kind, one.names) for one in found] == [
        ("stage", ("inductor",)),
        ("joint-graph pass", ("fold",)),
        ("pattern", ("two",)),
    ]


def test_two_lowerings_that_are_both_wrong_are_told_as_not_cured_alone() -> None:
    parts = {"lowerings": ["sin", "cos", "sin again"]}
    fake = Fake(parts, lambda t, at: any("sin" in name for name in at["lowerings"]))
    culprit = Inquiry(case_of(), fake).culprit("lowerings", "lowering")
    assert culprit is not None
    assert (culprit.names, culprit.alone) == (("sin",), False)


def test_a_failure_below_inductor_is_not_blamed_on_inductor() -> None:
    found = list(bisected(Inquiry(case_of(), Fake({}, lambda t, at: t.case.setting.target != "dynamo"))))
    assert [one.names for one in of(found, Culprit)] == [("aot_eager",)]


def test_a_decomposition_is_named() -> None:
    parts = {"decomposition": ["aten.std", "aten.var"]}

    def fails(trial: Trial, at: dict[str, Sequence[str]]) -> bool:
        return (
            trial.case.setting.target in ("inductor", "aot_eager_decomp_partition")
            and "aten.var" in at["decomposition"]
        )

    found = list(bisected(Inquiry(case_of(), Fake(parts, fails))))
    assert [one.names for one in of(found, Culprit)] == [("aot_eager_decomp_partition",), ("aten.var",)]


def test_nothing_is_named_where_nothing_cures() -> None:
    found = list(
        bisected(Inquiry(case_of(), Fake({"lowerings": ["x"]}, lambda t, at: t.case.setting.target == "inductor")))
    )
    assert [one.names for one in of(found, Culprit)] == [("inductor",)]
    assert of(found, Note)
    cures = of(found, Cures)[0]
    assert cures.found == ()
    assert cures.tried > 20


def test_an_optimiser_and_its_level_are_named() -> None:
    parts = {"optimisers": ["CastElimination", "LayerNormFusion", "GeluFusion"]}

    def fails(trial: Trial, at: dict[str, Sequence[str]]) -> bool:
        level = trial.case.setting.knob("optimization", "ALL")
        return level in ("EXTENDED", "LAYOUT", "ALL") and "LayerNormFusion" in at["optimisers"]

    found = list(bisected(Inquiry(case_of("onnxruntime"), Fake(parts, fails))))
    assert [rung.verdict for rung in of(found, Rung)] == ["good", "good", "bad", "bad", "bad"]
    assert [one.names for one in of(found, Culprit)] == [("optimization=EXTENDED",), ("LayerNormFusion",)]


def test_what_fails_without_optimisation_is_no_optimisers_fault() -> None:
    found = list(bisected(Inquiry(case_of("onnxruntime"), Fake({}, lambda t, at: True))))
    assert not of(found, Culprit)
    assert "without any optimisation" in str(of(found, Note)[0])


def test_single_optimisers_are_left_out_one_by_one_only_where_that_can_help() -> None:
    tried: list[object] = []

    def fails(trial: Trial, at: dict[str, Sequence[str]]) -> bool:
        tried.append(trial.case.setting.knob("disabled"))
        return trial.case.setting.knob("optimization", "ALL") != "NONE" or not helps

    for helps in (True, False):
        tried.clear()
        assert of(list(bisected(Inquiry(case_of("onnxruntime"), Fake({}, fails)))), Cures)[0].tried > 5
        assert (set(tried) != {None}) == helps


def test_a_pass_of_tvm_is_named_with_the_stage_that_the_oracles_blame() -> None:
    parts = {"tvm passes": ["FoldConstant", "FuseOps", "tirx.StmtSimplify"]}
    staged = replace(BAD, stage="relax.build")

    def execute(trials: Sequence[Trial]) -> list[Shown]:
        found = Fake(parts, lambda t, at: "FuseOps" in at["tvm passes"])(trials)
        return [replace(one, stage=staged.stage) if one.failure else one for one in found]

    stage, culprit = of(list(bisected(Inquiry(case_of("tvm"), execute))), Culprit)
    assert stage.names == ("relax.build",)
    assert (culprit.names, culprit.number, culprit.of) == (("FuseOps",), 2, 3)


@pytest.mark.parametrize(("name", "says"), [("openvino", "no switch"), ("export", "no switch"), ("eager", "no parts")])
def test_what_an_interface_does_not_allow_is_said(name: str, says: str) -> None:
    notes = of(list(bisected(Inquiry(case_of(name), Fake({}, lambda t, at: True)))), Note)
    assert any(says in str(note) for note in notes)


def test_knobs_that_do_not_matter_are_put_back() -> None:
    case = case_of(max_fusion_size=1, pattern_matcher=False)
    inquiry = Inquiry(case, Fake({}, lambda t, at: t.case.setting.knob("max_fusion_size") == 1))
    assert next(iter(bisected(inquiry))) == Knobs((("max_fusion_size", 1),))
    assert inquiry.case.setting.knobs == (("max_fusion_size", 1),)
    cures = inquiry.cures()
    assert ("max_fusion_size", 64) in cures.found


def test_default_settings_that_fail_are_told_so() -> None:
    inquiry = Inquiry(case_of(max_fusion_size=1), Fake({}, lambda t, at: True))
    assert inquiry.needed_knobs() == ()


def test_what_does_not_fail_is_refused() -> None:
    with pytest.raises(NotReproduced, match="does not fail here"):
        Inquiry(case_of(), Fake({}, lambda t, at: False))
    with pytest.raises(NotReproduced, match="in the way that was told"):
        Inquiry(case_of(), Fake({}, lambda t, at: True), wanted=Failure("inductor", "crash", "SIGSEGV"))


def test_rare_failures_run_more_often() -> None:
    count = [0]

    def sometimes(trial: Trial, at: dict[str, Sequence[str]]) -> bool:
        count[0] += 1
        return count[0] % 3 == 0 and trial.case.setting.target == "inductor"

    inquiry = Inquiry(case_of(), Fake({}, sometimes))
    assert inquiry.certainty.needed > 4
    assert [rung.verdict for rung in inquiry.rungs(("dynamo", "aot_eager"))] == ["good", "good"]


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (Shown("failed", WRONG), "bad"),
        (Shown("failed", replace(WRONG, target="aot_eager", culprit="a stage")), "bad"),
        (Shown("failed", replace(WRONG, symptom="NaN lost")), "skip"),
        (Shown("failed", Failure("inductor", "exception", "LoweringException", "x")), "skip"),
        (Shown("compared"), "good"),
        (Shown("unsupported"), "skip"),
        (Shown("invalid"), "skip"),
        (Shown("infra"), "infra"),
    ],
)
def test_what_a_run_says(shown: Shown, verdict: str) -> None:
    assert judged(shown, WRONG) == verdict


def test_exceptions_are_the_same_by_template_on_one_target_and_in_any_class_on_another() -> None:
    wanted = Failure("inductor", "exception", "InductorError", "compile | no such N")
    assert judged(Shown("failed", replace(wanted, culprit="run | no such N")), wanted) == "bad"
    assert judged(Shown("failed", replace(wanted, culprit="compile | other")), wanted) == "skip"
    assert judged(Shown("failed", replace(wanted, target="aot_eager", symptom="KeyError", culprit="")), wanted) == "bad"


def test_the_gate_decides_the_same_for_one_key_and_counts_anew_for_each_compilation() -> None:
    names: list[str] = []
    gate = Gate(Limit("fusions", 1), names.append)
    gate.begin()
    assert [gate("a", "a"), gate("b", "b"), gate("a", "a"), gate("b", "b")] == [True, False, True, False]
    gate.begin()
    assert [gate("a", "a"), gate("b", "b")] == [True, False]
    assert names == ["a", "b"]
    gate = Gate(Limit("x", without=1))
    assert [gate("a"), gate("b"), gate("c")] == [True, False, True]


def test_facts_survive_their_file(tmp_path: Path) -> None:
    culprit = Culprit("lowering", ("sin",), 2, 3, True, 0.97)
    releases = Releases((("torch 1", "good"), ("torch 2", "bad")), "torch 2", (), "torch 1", confidence=0.98)
    found = (Rung("dynamo", "good"), Knobs((("a", 1),)), culprit, Cures((("b", False),), 5), Note("so"), releases)
    bisection = Bisection("id", "inductor", str(WRONG), "5 of 5", found, (("torch", "2"),), 7, 1.5, True)
    within(tmp_path).write(bisection, None)
    assert within(tmp_path).read() == bisection
    lines = "\n".join(bisection.lines())
    assert "lowering sin (number 2 of 3); cured without it; confidence 0.97" in lines
    assert "first bad torch 2, torch 1 is good" in lines
    assert "NOT checked" in lines


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2}', '{"format": 1, "facts": [{"fact": "x"}]}'])
def test_a_damaged_file_is_no_bisection(tmp_path: Path, text: str) -> None:
    (within(tmp_path).path).write_text(text)
    assert within(tmp_path).read() is None


# --- the command ------------------------------------------------------------------------------------------------------


class NoPool:
    """Runs trials by a function in the pool's place."""

    def __init__(self, run: Callable[[Sequence[Trial]], list[Shown]]) -> None:
        self.run = run

    def __enter__(self) -> NoPool:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, trials: Sequence[Trial]) -> list[Shown]:
        return self.run(trials)


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Sequence[Trial]], list[Shown]]], None]:
    """Puts a fake compiler in the pool's place."""
    return lambda run: monkeypatch.setattr(stored, "TrialPool", lambda *args, **more: NoPool(run))


def finding(folder: Path, case: Case) -> Path:
    folder.mkdir()
    (folder / "case.json").write_text(case.text)
    return folder


def test_the_command_keeps_what_it_found(tmp_path: Path, pooled: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finding(tmp_path / "SH-0000", case_of("aot_eager"))
    pooled(Fake({}, lambda t, at: t.case.setting.target == "aot_eager"))
    assert main(["bisect", str(folder), "--plain"]) == Exit.OK
    said = capsys.readouterr().out
    assert "rung      dynamo                       good" in said
    assert "culprit   stage aot_eager" in said
    kept = within(folder).read()
    assert kept is not None
    assert kept.complete
    assert kept.case == case_of("aot_eager").id
    assert main(["bisect", str(folder), "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["reliability"] == "5 of 5"


def test_whoever_bisects_is_told_and_answered_and_nothing_is_printed(
    tmp_path: Path, pooled: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    job = stored.chosen(finding(tmp_path / "SH-0000", case_of("aot_eager")))
    pooled(Fake({}, lambda t, at: t.case.setting.target == "aot_eager"))
    told: list[events.Event] = []
    answer = stored.bisect_stored(job, workers=1, memory=1, stop=Stop(), tell=told.append)
    assert answer == stored.Answer(answer.bisection)
    assert answer.bisection.complete
    assert answer.bisection == job.kept.read()
    facts = [event for event in told if isinstance(event, events.FactFound)]
    assert [event.fact for event in facts] == [str(fact) for fact in answer.bisection.facts]
    assert {"rung", "setting", "culprit"} <= {event.label for event in facts}
    asked = [event for event in told if isinstance(event, events.Asking)]
    assert asked[-1].runs > asked[0].runs
    # What is known is told again, and nothing is asked.
    told.clear()
    again = stored.bisect_stored(job, workers=1, memory=1, stop=Stop(), tell=told.append)
    assert again == stored.Answer(answer.bisection, before=True)
    assert told == facts
    assert capsys.readouterr() == ("", "")


def test_interrupted_it_keeps_what_is_known(tmp_path: Path, pooled: Callable) -> None:
    folder = finding(tmp_path / "SH-0000", case_of())
    fake = Fake({}, lambda t, at: t.case.setting.target == "inductor")

    def run(trials: Sequence[Trial]) -> list[Shown]:
        if any(trial.limit is not None for trial in trials):
            os.kill(os.getpid(), signal.SIGINT)
        return fake(trials)

    pooled(run)
    assert main(["bisect", str(folder), "--plain"]) == Exit.INTERRUPTED
    kept = within(folder).read()
    assert kept is not None
    assert not kept.complete
    assert kept.culprit is not None
    assert kept.culprit.names == ("inductor",)


def test_the_minimised_case_is_taken_where_there_is_one(tmp_path: Path) -> None:
    folder = finding(tmp_path / "SH-0000", case_of(max_fusion_size=1))
    assert stored.chosen(folder).file == folder / "case.json"
    (folder / stored.MINIMISED).write_text(case_of().text)
    assert stored.chosen(folder).case == codec.decode(case_of().text)
    assert stored.chosen(folder).folder == folder
    assert stored.chosen(folder / "case.json").folder is None


@pytest.mark.parametrize(("path", "status"), [("nothing.json", Exit.USAGE), ("SH-none", Exit.DIRECTORY)])
def test_what_is_no_case_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, status: Exit) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bisect", path]) == status


def test_a_case_that_passes_is_told(tmp_path: Path, pooled: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finding(tmp_path / "SH-0000", case_of())
    pooled(Fake({}, lambda t, at: False))
    assert main(["bisect", str(folder), "--plain"]) == Exit.OK
    assert "does not fail here" in capsys.readouterr().out
    assert within(folder).read() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_whatever_ends_it_another_bisection_goes_on_from_what_is_known(
    tmp_path: Path, pooled: Callable, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    path = tmp_path / "case.min.json"
    path.write_text(case_of().text)
    parts = {"joint_graph_passes": ("fold", "wrong"), "patterns": ("one", "two")}

    def broken(trial: Trial, at: dict[str, Sequence[str]]) -> bool:
        switched = trial.case.setting.knob("joint_graph_constant_folding", True) is False
        return trial.case.setting.target == "inductor" and "wrong" in at["joint_graph_passes"] and not switched

    whole = Fake(parts, broken)
    pooled(whole)
    assert main(["bisect", str(path), "--plain", "--json"]) == Exit.OK
    expected = json.loads(capsys.readouterr().out)
    beside(path, "").path.unlink()

    first = Fake(parts, broken)

    def run(trials: Sequence[Trial]) -> list[Shown]:
        if any(trial.limit is not None and trial.limit.kind == "patterns" for trial in trials):
            os.kill(os.getpid(), number)
            return [Shown("infra") for _ in trials]
        return first(trials)

    pooled(run)
    assert main(["bisect", str(path), "--plain"]) == Exit.INTERRUPTED
    said = capsys.readouterr().out
    assert "joint-graph pass wrong" in said
    assert "the same command goes on from here" in said
    kept = beside(path, "").read()
    assert kept is not None
    assert (kept.complete, kept.culprit is not None) == (False, True)

    second = Fake(parts, broken)
    pooled(second)
    assert main(["bisect", str(path), "--plain", "--json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert {**found, "seconds": 0} == {**expected, "seconds": 0, "trials": found["trials"]}
    assert 0 < second.runs < whole.runs
    assert first.runs + second.runs == whole.runs

    third = Fake(parts, broken)
    pooled(third)
    assert main(["bisect", str(path), "--plain"]) == Exit.OK
    assert "known from before" in capsys.readouterr().out
    assert third.runs == 0
    assert main(["bisect", str(path), "--plain", "--again"]) == Exit.OK
    assert third.runs == whole.runs


def test_each_fact_is_written_as_it_is_found(tmp_path: Path, pooled: Callable) -> None:
    path = tmp_path / "case.json"
    path.write_text(case_of().text)
    fake, seen = Fake({}, lambda t, at: t.case.setting.target == "inductor"), []

    def run(trials: Sequence[Trial]) -> list[Shown]:
        kept = beside(path, "").read()
        seen.append(() if kept is None else kept.facts)
        return fake(trials)

    pooled(run)
    assert main(["bisect", str(path), "--plain"]) == Exit.OK
    assert seen[0] == ()
    assert Rung("dynamo", "good") in seen[-1]
    assert [len(one) for one in seen] == sorted(len(one) for one in seen)
    assert len({len(one) for one in seen}) > 3


def test_a_budget_ends_it_and_is_no_interruption(
    tmp_path: Path, pooled: Callable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "case.json"
    path.write_text(case_of().text)
    fake, clock = Fake({}, lambda t, at: t.case.setting.target == "inductor"), [1000.0]

    def run(trials: Sequence[Trial]) -> list[Shown]:
        clock[0] += 10
        return fake(trials)

    pooled(run)
    monkeypatch.setattr("shakeout.fuzz.ground.progress.time.monotonic", lambda: clock[0])
    rounds = []
    for _ in range(20):
        assert main(["bisect", str(path), "--plain", "--seconds", "25"]) == Exit.OK
        rounds.append(capsys.readouterr().out)
        if "is used up" not in rounds[-1]:
            break
    assert "the budget is used up; the same command goes on from here" in rounds[0]
    assert 2 < len(rounds) < 20
    kept = beside(path, "").read()
    assert kept is not None
    assert kept.complete
    assert main(["bisect", str(path), "--seconds", "0"]) == Exit.USAGE


def test_what_other_versions_said_is_asked_again(
    tmp_path: Path, pooled: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "case.json"
    path.write_text(case_of("aot_eager").text)
    fake = Fake({}, lambda t, at: t.case.setting.target == "aot_eager")
    pooled(fake)
    assert main(["bisect", str(path), "--plain"]) == Exit.OK
    once = fake.runs
    monkeypatch.setattr(stored, "describe", lambda: {"packages": {"torch": "3.0"}})
    assert main(["bisect", str(path), "--plain"]) == Exit.OK
    assert fake.runs == 2 * once


def test_what_releases_said_stays_and_a_report_has_it_all(
    tmp_path: Path, pooled: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "case.min.json"
    case = case_of("aot_eager")
    path.write_text(case.text)
    said = Releases((("torch==1", "good"),), newest="torch==9.9", newest_verdict="bad")
    beside(path, case.id).write(Bisection(case.id, "aot_eager", facts=(said,)), None)
    pooled(Fake({}, lambda t, at: t.case.setting.target == "aot_eager"))
    assert main(["bisect", str(path), "--plain"]) == Exit.OK
    job = stored.chosen(path)
    found = job.known()
    assert found is not None
    assert found.releases == said
    assert found.culprit is not None
    for name, value in (
        ("export", Exported("import torch\n", "long", True, "exit status 1", "wrong")),
        ("collected", ""),
        ("observed", None),
    ):
        monkeypatch.setattr(drafting, name, lambda *case, value=value: value)
    capsys.readouterr()
    assert main(["report", str(path)]) == Exit.OK
    assert "stage aot_eager" in capsys.readouterr().out
    path.write_text(case_of("aot_eager", dynamic=True).text)
    assert stored.chosen(path).known() is None, "the file holds another case now"


def test_a_file_of_a_finding_is_of_the_finding_and_what_ships_keeps_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finding(tmp_path / "SH-0000", case_of())
    (folder / "result.json").write_text("{}")
    (folder / stored.MINIMISED).write_text(case_of().text)
    assert stored.chosen(folder / stored.MINIMISED).kept == within(folder)
    (folder / "other.json").write_text(case_of().text)
    assert stored.chosen(folder / "other.json").kept.path == folder / "other.bisection.json"
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path))
    shipped = stored.chosen(known.DIRECTORY / "mul-by-zero-loses-nan.json")
    assert shipped.kept.path == tmp_path / "bisections" / f"{shipped.case.id}.json"


def test_where_nothing_can_be_kept_everything_is_told(
    tmp_path: Path, pooled: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "case.json"
    path.write_text(case_of("aot_eager").text)
    (tmp_path / "case.bisection.json").mkdir()
    pooled(Fake({}, lambda t, at: t.case.setting.target == "aot_eager"))
    assert main(["bisect", str(path), "--plain"]) == Exit.OK
    said = capsys.readouterr().out
    assert "culprit   stage aot_eager" in said
    assert "kept      NOT: " in said


def test_a_memory_survives_its_file() -> None:
    inquiry = Inquiry(case_of(), Fake({"lowerings": ("a", "b")}, lambda t, at: "b" in at["lowerings"]))
    assert list(bisected(inquiry))
    memory = inquiry.memory()
    assert memory.answers
    assert Memory.from_json(json.loads(json.dumps(memory.to_json()))) == memory
    with pytest.raises(ValueError, match="not the memory"):
        Memory.from_json({"answers": [{}]})


# --- real compilers ---------------------------------------------------------------------------------------------------


def test_a_decomposition_that_is_left_out_is_not_called() -> None:
    case = capture(torch.logit, lambda: [torch.full((3,), 0.25)], setting=Setting("aot_eager_decomp_partition"))
    with limited(case.setting.target, Limit("decomposition")) as names:
        assert in_process([Trial(case)])[0].status == "compared"
    assert any("logit" in name for name in names), names
    shown = in_process([Trial(case, Limit("decomposition", 0)), Trial(case)])
    assert [one.status for one in shown] == ["compared", "compared"]


def test_the_lowering_in_which_a_fault_is_planted_is_named() -> None:
    fault = next(fault for fault in FAULTS if fault.name == "tanh saturates early")
    assert isinstance(fault.plant, Compiled)
    # Planted without the canary's second compilation, which would be counted too.
    with uncached(), fault.plant.patch(Canary()):
        found = Inquiry(fault.case(), in_process).culprit("lowerings", "lowering")
    assert found is not None
    assert found.alone
    assert len(found.names) == 1
    assert found.names[0].startswith("aten.tanh")


@contextlib.contextmanager
def fused_attention_forgets_its_scale() -> Iterator[None]:
    """A mistake in what Inductor puts in the place of attention that is written out, in one pattern of thirty."""
    right, first = fuse_attention._scaled_dot_product_attention, fuse_attention._sfdp_replacement_1.__code__

    def wrong(*args: torch.Tensor, scale: float | None = None, **kwargs: Any) -> Any:
        return right(*args, scale=1.0 if sys._getframe(1).f_code is first else scale, **kwargs)

    with uncached(), mock.patch.object(fuse_attention, "_scaled_dot_product_attention", wrong):
        yield


@pytest.mark.long
def test_a_pass_of_patterns_is_told_as_the_pattern_that_is_wrong() -> None:
    def network(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return torch.matmul(query, key.transpose(-2, -1)).div(4.0).softmax(dim=-1).matmul(value)

    given = [torch.arange(64.0).reshape(2, 2, 4, 4).sub(30 + shift).div(20) for shift in range(3)]
    case = capture(network, lambda: [one.clone() for one in given], setting=Setting("inductor"))
    with fused_attention_forgets_its_scale():
        inquiry = Inquiry(case, in_process)
        coarse = inquiry.culprit("joint_graph_passes", "joint-graph pass")
        fine = inquiry.culprit("patterns", "pattern")
    assert coarse is not None
    assert fine is not None
    assert coarse.names == ("pass_pattern_0",)
    (name,) = fine.names
    search, _, rest = name.partition(", replaced by ")
    assert search == "fuse_attention._sfdp_pattern_1"
    replacement = fuse_attention._sfdp_replacement_1
    line = replacement.__code__.co_firstlineno
    place = f"_sfdp_replacement_1 (torch/_inductor/fx_passes/fuse_attention.py:{line}) at aten."
    assert rest.startswith(place)
    assert fine.alone is True


def test_each_kind_of_pattern_has_a_name() -> None:
    def handler(match: object) -> None:
        """Takes a match's place."""

    def registered(search_fn: object, replace_fn: object) -> object:
        """As torch's ``register_replacement`` makes it."""
        return SimpleNamespace(extra_check=lambda match: (search_fn, replace_fn), pattern_name="unique")

    def partial(function: Callable[[object], None]) -> Callable[[], None]:
        bound = functools.partial(function, None)
        return lambda: bound()

    line = handler.__code__.co_firstlineno
    here = f"test_bisect.test_each_kind_of_pattern_has_a_name.handler (test_bisect.py:{line})"
    searched = "test_bisect.test_each_kind_of_pattern_has_a_name.partial"
    assert limits._pattern(SimpleNamespace(handler=handler)) == here
    assert limits._pattern(SimpleNamespace(handler=functools.partial(handler, None))) == here
    assert limits._pattern(SimpleNamespace(handler=partial(handler))) == here
    told = limits._pattern(registered(partial, partial(handler)))
    assert told == f"{searched}, replaced by handler (test_bisect.py:{line})"
    # What another torch holds elsewhere, or does not hold.
    assert limits._pattern(SimpleNamespace(extra_check=lambda match: True, pattern_name="unique")) == "unique"
    assert limits._pattern(SimpleNamespace(extra_check=print)) == "SimpleNamespace"
    assert limits._pattern(registered(None, None)) == "unique"


def test_passes_that_nothing_is_compiled_without_are_not_left_out() -> None:
    asked: list[str] = []

    class Nothing:
        """A gate that lets nothing pass."""

        def begin(self) -> None:
            pass

        def __call__(self, name: str, key: object = None) -> bool:
            asked.append(name)
            return False

    from torch._inductor.compiler_bisector import CompilerBisector

    with limits.post_grad_passes(Nothing()):
        off = [
            CompilerBisector.disable_subsystem("inductor", "post_grad_passes", functools.partial(str, name))
            for name in ("reinplace_inplaceable_ops", "decompose_auto_functionalized")
        ]
    assert off == [True, False]
    assert asked == ["reinplace_inplaceable_ops"]
