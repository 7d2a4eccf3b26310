"""Bisecting a case: what a ladder asks, what it concludes, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.bisecting import BAD, WRONG, Fake, case_of, of

from shakeout.fuzz.bisect.ablation import Ablation
from shakeout.fuzz.bisect.facts import Bisection, Culprit, Cures, Knobs, Note, Releases, Rung
from shakeout.fuzz.bisect.hooks import Gate, Limit
from shakeout.fuzz.bisect.kept import within
from shakeout.fuzz.bisect.ladders import bisected, taken_apart
from shakeout.fuzz.bisect.trials import Shown, Trial, judged
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.targets.registry import facts_of


def test_a_lowering_is_named() -> None:
    parts = {"lowerings": ["aten.cos (cos)", "aten.sin (sin)", "aten.add (add)"], "fusions": ["a with b"]}
    fake = Fake(parts, lambda t, at: t.case.setting.target == "inductor" and "aten.sin (sin)" in at["lowerings"])
    found = list(bisected(Ablation(case_of(), fake)))
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

    found = of(list(bisected(Ablation(case_of(), Fake(parts, fails)))), Culprit)
    assert [(one.kind, one.names) for one in found] == [
        ("stage", ("inductor",)),
        ("joint-graph pass", ("fold",)),
        ("pattern", ("two",)),
    ]


def test_two_lowerings_that_are_both_wrong_are_told_as_not_cured_alone() -> None:
    parts = {"lowerings": ["sin", "cos", "sin again"]}
    fake = Fake(parts, lambda t, at: any("sin" in name for name in at["lowerings"]))
    culprit = Ablation(case_of(), fake).culprit("lowerings", "lowering")
    assert culprit is not None
    assert (culprit.names, culprit.alone) == (("sin",), False)


def test_a_failure_below_inductor_is_not_blamed_on_inductor() -> None:
    found = list(bisected(Ablation(case_of(), Fake({}, lambda t, at: t.case.setting.target != "dynamo"))))
    assert [one.names for one in of(found, Culprit)] == [("aot_eager",)]


def test_a_decomposition_is_named() -> None:
    parts = {"decomposition": ["aten.std", "aten.var"]}

    def fails(trial: Trial, at: dict[str, Sequence[str]]) -> bool:
        return (
            trial.case.setting.target in ("inductor", "aot_eager_decomp_partition")
            and "aten.var" in at["decomposition"]
        )

    found = list(bisected(Ablation(case_of(), Fake(parts, fails))))
    assert [one.names for one in of(found, Culprit)] == [("aot_eager_decomp_partition",), ("aten.var",)]


def test_nothing_is_named_where_nothing_cures() -> None:
    found = list(
        bisected(Ablation(case_of(), Fake({"lowerings": ["x"]}, lambda t, at: t.case.setting.target == "inductor")))
    )
    assert [one.names for one in of(found, Culprit)] == [("inductor",)]
    assert of(found, Note)
    cures = of(found, Cures)[0]
    assert cures.found == ()
    assert cures.tried > 20


def test_where_no_part_is_to_blame_an_exception_is_told_with_what_raised_it() -> None:
    """The step that raises is left out once more, since what raises behind it is told as well."""
    wanted = Failure("inductor", "exception", "AssertionError", "no such number")
    other = Failure("inductor", "exception", "LoweringException", "no such argument")

    def run(trials: Sequence[Trial]) -> list[Shown]:
        found = []
        for trial in trials:
            if trial.case.setting.target != "inductor":
                found.append(Shown("compared"))
            elif trial.limit is None or trial.limit.kind != "raising":
                found.append(Shown("failed", wanted))
            elif trial.limit.most == 0:
                found.append(Shown("failed", other, ("loop (loop), in update", "loop (loop), in run_node")))
            else:
                found.append(Shown("failed", wanted, ("loop (loop), in update",)))
        return found

    ladder = facts_of("inductor").ladder
    assert ladder is not None
    *_, culprit, note = taken_apart(Ablation(case_of(), run), ladder)
    assert culprit == Culprit("operator", ("loop (loop), in update",))
    assert note == Note("without that step it raises at loop (loop), in run_node")


def test_an_optimiser_and_its_level_are_named() -> None:
    parts = {"optimisers": ["CastElimination", "LayerNormFusion", "GeluFusion"]}

    def fails(trial: Trial, at: dict[str, Sequence[str]]) -> bool:
        level = trial.case.setting.knob("optimization", "ALL")
        return level in ("EXTENDED", "LAYOUT", "ALL") and "LayerNormFusion" in at["optimisers"]

    found = list(bisected(Ablation(case_of("onnxruntime"), Fake(parts, fails))))
    assert [rung.verdict for rung in of(found, Rung)] == ["good", "good", "bad", "bad", "bad"]
    assert [one.names for one in of(found, Culprit)] == [("optimization=EXTENDED",), ("LayerNormFusion",)]


def test_what_fails_without_optimisation_is_no_optimisers_fault() -> None:
    found = list(bisected(Ablation(case_of("onnxruntime"), Fake({}, lambda t, at: True))))
    assert not of(found, Culprit)
    assert "without any optimisation" in str(of(found, Note)[0])


def test_single_optimisers_are_left_out_one_by_one_only_where_that_can_help() -> None:
    tried: list[object] = []

    def fails(trial: Trial, at: dict[str, Sequence[str]]) -> bool:
        tried.append(trial.case.setting.knob("disabled"))
        return trial.case.setting.knob("optimization", "ALL") != "NONE" or not helps

    for helps in (True, False):
        tried.clear()
        assert of(list(bisected(Ablation(case_of("onnxruntime"), Fake({}, fails)))), Cures)[0].tried > 5
        assert (set(tried) != {None}) == helps


def test_a_pass_of_tvm_is_named_with_the_stage_that_the_oracles_blame() -> None:
    parts = {"tvm passes": ["FoldConstant", "FuseOps", "tirx.StmtSimplify"]}
    staged = replace(BAD, stage="relax.build")

    def execute(trials: Sequence[Trial]) -> list[Shown]:
        found = Fake(parts, lambda t, at: "FuseOps" in at["tvm passes"])(trials)
        return [replace(one, stage=staged.stage) if one.failure else one for one in found]

    stage, culprit = of(list(bisected(Ablation(case_of("tvm"), execute))), Culprit)
    assert stage.names == ("relax.build",)
    assert (culprit.names, culprit.number, culprit.of) == (("FuseOps",), 2, 3)


@pytest.mark.parametrize(("name", "says"), [("openvino", "no switch"), ("export", "no switch"), ("eager", "no parts")])
def test_what_an_interface_does_not_allow_is_said(name: str, says: str) -> None:
    notes = of(list(bisected(Ablation(case_of(name), Fake({}, lambda t, at: True)))), Note)
    assert any(says in str(note) for note in notes)


def test_knobs_that_do_not_matter_are_put_back() -> None:
    case = case_of(max_fusion_size=1, pattern_matcher=False)
    ablation = Ablation(case, Fake({}, lambda t, at: t.case.setting.knob("max_fusion_size") == 1))
    assert next(iter(bisected(ablation))) == Knobs((("max_fusion_size", 1),))
    assert ablation.case.setting.knobs == (("max_fusion_size", 1),)
    cures = ablation.cures()
    assert ("max_fusion_size", 64) in cures.found


def test_default_settings_that_fail_are_told_so() -> None:
    ablation = Ablation(case_of(max_fusion_size=1), Fake({}, lambda t, at: True))
    assert ablation.needed_knobs() == ()


def test_what_does_not_fail_is_refused() -> None:
    with pytest.raises(NotReproduced, match="does not fail here"):
        Ablation(case_of(), Fake({}, lambda t, at: False))
    with pytest.raises(NotReproduced, match="in the way that was told"):
        Ablation(case_of(), Fake({}, lambda t, at: True), wanted=Failure("inductor", "crash", "SIGSEGV"))


def test_rare_failures_run_more_often() -> None:
    count = [0]

    def sometimes(trial: Trial, at: dict[str, Sequence[str]]) -> bool:
        count[0] += 1
        return count[0] % 3 == 0 and trial.case.setting.target == "inductor"

    ablation = Ablation(case_of(), Fake({}, sometimes))
    assert ablation.certainty.needed > 4
    assert [rung.verdict for rung in ablation.rungs(("dynamo", "aot_eager"))] == ["good", "good"]


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
