"""Passes of users: how they are declared, what is grown around their programs, and how often they fire."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests import packages
from tests.bisecting import Fake, of

import shakeout
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.database import Database
from shakeout.fuzz.bisect.ablation import Ablation
from shakeout.fuzz.bisect.facts import Culprit
from shakeout.fuzz.bisect.ladders import bisected
from shakeout.fuzz.bisect.trials import Trial
from shakeout.fuzz.campaign.schedule import seed_of
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.reporting.notes import noted
from shakeout.fuzz.running.case_file import render
from shakeout.fuzz.running.compose import compose
from shakeout.fuzz.running.execute import execute
from shakeout.fuzz.triage.cause import told_at_once
from shakeout.generators.choices import SeededChoices
from shakeout.generators.motifs.patterns import VARIATIONS, grow_pattern
from shakeout.generators.recipe import Recipe
from shakeout.generators.vocabularies.torch import load_records
from shakeout.oracles.verdict import Outcome, Verdict
from shakeout.targets.compilers.declare import Rewrite
from shakeout.targets.compilers.rewritten import form
from shakeout.targets.compilers.user import UserRewrite
from shakeout.targets.registry import source, target

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch about odd arguments

MODULE = "shakeout_rewrites"
TEXT = """
    import torch
    import torch.nn.functional as F

    import shakeout


    def scaled(x, w, b):
        return torch.mul(F.linear(x, w, b), 0.5)


    def operands():
        yield torch.ones(4, 3), torch.ones(5, 3), torch.ones(5)


    def folded(graph_module, bias):
        graph = graph_module.graph
        for node in graph.find_nodes(op="call_function", target=torch.mul):
            product, scale = node.args if len(node.args) == 2 else (None, None)
            if getattr(product, "target", None) is not F.linear or not isinstance(scale, float):
                continue
            given = {**dict(zip(("input", "weight", "bias"), product.args)), **product.kwargs}
            if not product.meta["example_value"].dtype.is_floating_point:
                continue
            with graph.inserting_before(node):
                w = graph.call_function(torch.mul, (given["weight"], scale))
                b = given.get("bias")
                if b is not None and bias:
                    b = graph.call_function(torch.mul, (b, scale))
                made = graph.call_function(F.linear, (given["input"], w, b))
            node.replace_all_uses_with(made)
            graph.erase_node(node)


    @shakeout.rewrite(pattern=scaled, examples=operands)
    def right(graph_module):
        folded(graph_module, bias=True)


    @shakeout.rewrite(pattern=scaled, examples=operands)
    def forgets_the_bias(graph_module):
        folded(graph_module, bias=False)


    @shakeout.rewrite(pattern=scaled, examples=operands)
    def never(graph_module):
        pass


    @shakeout.rewrite(pattern=scaled, examples=operands)
    def raises(graph_module):
        if any(graph_module.graph.find_nodes(op="call_function", target=F.linear)):
            raise KeyError("weight")


    def relus(level):
        def once(graph_module):
            target = torch.relu if level == "dynamo" else torch.ops.aten.relu.default
            for node in graph_module.graph.find_nodes(op="call_function", target=target):
                if getattr(node.args[0], "target", None) is target:
                    node.replace_all_uses_with(node.args[0])
                    graph_module.graph.erase_node(node)
            return graph_module

        relu = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.ReLU())
        return shakeout.rewrite(programs=[(lambda x: torch.relu(torch.relu(x)), torch.ones(2, 3))], level=level)(once)


    dynamo, aten, joint = map(relus, ("dynamo", "aten", "joint"))
    branching = shakeout.rewrite(programs=[(lambda x: x if x.sum() > 9 else -x, torch.ones(3))])(never.function)
    failing = shakeout.rewrite(programs=[(lambda x: x @ x, torch.ones(2, 3))])(never.function)
    empty = shakeout.rewrite(programs=[])(never.function)
"""


@pytest.fixture(scope="module", autouse=True)
def passes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with packages.imported(tmp_path_factory.mktemp("rewrites"), MODULE, TEXT):
        yield


def results(name: str, count: int, **recipe: Any) -> Iterator[Result]:
    """What comes of the first cases of a pass."""
    for number in range(count):
        job = Grow(
            number=number, target=f"{MODULE}:{name}", seed=seed_of(1, number), recipe=recipe, knobs={}, knob_share=0.1,
            device="cpu",
        )  # fmt: skip
        yield execute(compose(job).case, explain=False)


# --- declaring --------------------------------------------------------------------------------------------------------


def double(graph_module: torch.fx.GraphModule) -> None:
    """A pass that does nothing."""


X = torch.ones(2)


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: shakeout.rewrite(double), r"write @shakeout.rewrite\(pattern=.*what does double look for"),
        (lambda: shakeout.rewrite(), "needs what the pass looks for: pattern="),
        (
            lambda: shakeout.rewrite(pattern=torch.nn.ReLU, examples=[(X,)]),
            "a function of tensors or a module",
        ),
        (lambda: shakeout.rewrite(pattern=torch.relu), "pattern= and examples= go together"),
        (lambda: shakeout.rewrite(programs=[], examples=[(X,)]), "pattern= and examples= go together"),
        (lambda: shakeout.rewrite(pattern=torch.relu, examples=[X]), r"examples\[0\] is a Tensor, expected a tuple"),
        (lambda: shakeout.rewrite(programs=[(X, X)]), r"programs\[0\] is a tuple, expected a tuple of a function"),
        (lambda: shakeout.rewrite(programs={}), "programs is dict, expected a list"),
        (lambda: shakeout.rewrite(programs=[], level="fx"), "level is 'fx', expected 'dynamo', 'aten' or 'joint'"),
        (lambda: shakeout.rewrite(programs=[])(5), "5 is no function"),
        (lambda: shakeout.rewrite(programs=[])(shakeout.rewrite(programs=[])(double)), "declared already"),
    ],
)
def test_what_is_declared_wrongly_says_what_is_expected(declare: Callable[[], object], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        declare()


def test_a_pass_may_work_in_place_return_a_module_or_a_pass_result() -> None:
    from torch.fx.passes.infra.pass_base import PassResult

    graph_module = torch.fx.symbolic_trace(lambda x: torch.relu(x))
    ways = [lambda g: None, lambda g: g, lambda g: PassResult(g, True)]
    for way in ways:
        assert shakeout.rewrite(programs=[])(way)(graph_module) is graph_module
    with pytest.raises(TypeError, match="returned a Graph, expected a GraphModule, a PassResult, or nothing"):
        shakeout.rewrite(programs=[])(lambda g: g.graph)(graph_module)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("branching", "program 0 (<lambda>) cannot be read: "),
        ("failing", "program 0 (<lambda>) cannot be read: "),
        ("empty", "it is declared with no program at all"),
    ],
)
def test_a_program_that_is_none_is_told_in_one_line(name: str, words: str) -> None:
    why = target(f"{MODULE}:{name}").unavailable()
    assert why is not None
    assert why.startswith(f"{MODULE}:{name}: {words}")
    assert "\n" not in why


def test_it_is_a_target_whose_text_says_what_it_is() -> None:
    found = target(f"{MODULE}:right")
    assert isinstance(found, UserRewrite)
    assert isinstance(found.rewrite, Rewrite)
    assert found.unavailable() is None
    assert [knob.name for knob in found.knobs()] == ["dynamic", "pass"]
    text = source(Setting(found.name))
    assert f"from {MODULE} import right" in text
    short = found.short(Setting(found.name))
    assert short is not None
    assert "right(graph_module)" in short.prepare
    assert "right" not in source(Setting(found.name, (("pass", "off"),))).partition("def prepare")[2]


# --- what fires -------------------------------------------------------------------------------------------------------


def test_the_form_of_a_graph_heeds_neither_names_nor_dead_code() -> None:
    one = torch.fx.symbolic_trace(lambda x: torch.relu(x))
    other = torch.fx.symbolic_trace(lambda y: torch.relu(y))
    with other.graph.inserting_after(next(iter(other.graph.nodes))):
        other.graph.call_function(torch.sin, (next(iter(other.graph.nodes)),))
    assert form(one) == form(other)
    assert form(one) != form(torch.fx.symbolic_trace(lambda x: torch.relu(torch.relu(x))))


@pytest.mark.parametrize("level", ["dynamo", "aten", "joint"])
def test_a_pass_fires_at_its_level_and_is_right(level: str) -> None:
    seen = list(results(level, 4))
    assert all(one.outcome is Outcome.PASS for one in seen if one.status == "compared")
    assert any(one.fired for one in seen)


def test_a_pass_that_is_right_has_no_finding_and_one_that_forgets_an_operand_has() -> None:
    seen = list(results("right", 8))
    assert not [one.signature for one in seen if one.signature]
    assert any(one.fired for one in seen)
    found = next(one for one in results("forgets_the_bias", 12) if one.signature)
    assert found.stage == f"{MODULE}:forgets_the_bias"  # right until the pass ran
    assert found.fired


def test_what_a_pass_raises_is_told_as_its_own() -> None:
    failed = next(one for one in results("raises", 6) if one.status == "failed")
    assert (failed.stage, failed.outcome) == ("the pass", Outcome.FAIL)


def test_what_is_wrong_without_the_pass_too_is_not_counted_under_the_pass() -> None:
    name = f"{MODULE}:forgets_the_bias"
    case = capture(lambda x: x.sin(), lambda: [torch.ones(2)], setting=Setting(name))

    def cause(stage: str = "") -> str:
        verdict = Verdict("value", Outcome.FAIL, "wrong value", "", "output 0")
        return told_at_once(Result("", name, "compared", (verdict,), stage=stage, fired=1), case)

    assert cause(stage=name) == f"pass | {name} | outputs"
    assert cause(stage="torch.compile without the pass") == cause() == ""


def test_without_the_pass_nothing_fires() -> None:
    job = Grow(
        number=0, target=f"{MODULE}:forgets_the_bias", seed=3, recipe={}, knobs={"pass": "off"}, knob_share=0.0,
        device="cpu",
    )  # fmt: skip
    result = execute(compose(job).case)
    assert (result.fired, result.signature) == (0, "")


def wrong_case() -> Case:
    """What the pass that forgets the bias gets wrong."""
    setting = Setting(f"{MODULE}:forgets_the_bias")
    given = torch.ones(4, 3), torch.ones(5, 3), torch.ones(5)
    return capture(lambda x, w, b: torch.mul(F.linear(x, w, b), 0.5), lambda: list(given), setting=setting)


def test_a_script_says_that_without_the_pass_it_is_right(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # a script has one of its own
    script: dict[str, Any] = {"__name__": "script"}
    exec(render(wrong_case()), script)
    assert script["main"](script["prepare"], script["STAGES"]) == 1
    said = capsys.readouterr().out
    assert "wrong value" in said
    assert "torch.compile without the pass: no difference" in said


@pytest.mark.parametrize("blamed", ["pass", "torch"])
def test_bisecting_tells_a_pass_from_what_runs_it(blamed: str) -> None:
    def fails(trial: Trial, at: object) -> bool:
        setting = trial.case.setting
        return blamed == "torch" or (":" in setting.target and setting.knob("pass", "on") == "on")

    found = of(list(bisected(Ablation(wrong_case(), Fake({}, fails)))), Culprit)
    names = [one.names for one in found]
    assert names == ([(f"{MODULE}:forgets_the_bias",), ("pass=on",)] if blamed == "pass" else [("dynamo",)])


# --- growing ----------------------------------------------------------------------------------------------------------


def test_networks_vary_everything_of_a_pattern_and_follow_from_the_seed() -> None:
    vocabulary, patterns = load_records(), target(f"{MODULE}:right").patterns()
    operators: Counter[str] = Counter()
    keywords = users = shapes = training = 0
    for seed in range(40):
        grown = grow_pattern(SeededChoices(seed), Recipe(), patterns, vocabulary)
        calls = grown.program.calls
        operators.update(call.operator for call in calls)
        linear = [n for n, call in enumerate(calls) if call.operator == "torch.nn.functional.linear"]
        keywords += any("weight" in dict(calls[n].kwargs) or "bias" in dict(calls[n].kwargs) for n in linear)
        results = [grown.program.firsts()[n] for n in linear]
        used = Counter(number for call in calls for number in call.operands()) + Counter(grown.program.returns)
        users += any(used[number] > 1 for number in results)
        shapes += any(len(calls[n].results[0].shape) != 2 for n in linear)  # type: ignore[union-attr]
        training += grown.mode == "training"
    assert operators["torch.nn.functional.linear"] > 20
    assert operators["torch.mul"] > 20
    assert len(operators) > 20
    assert min(keywords, users, shapes, training) >= 2
    assert set(VARIATIONS) >= {"keywords", "absent", "structure", "sibling", "rank", "attribute", "shape", "dtype"}
    again = [grow_pattern(SeededChoices(7), Recipe(), patterns, vocabulary).program for _ in range(2)]
    assert again[0] == again[1]


# --- what a campaign says ---------------------------------------------------------------------------------------------


def test_a_campaign_says_how_often_a_pass_changed_a_graph(tmp_path: Path) -> None:
    from collections import deque

    from shakeout.fuzz.campaign.ledger import Ledger
    from shakeout.fuzz.campaign.traces import TraceLog
    from shakeout.fuzz.coverage.log import CoverageLog
    from shakeout.fuzz.ground.results import Answer, Reply

    def answers(name: str, fired: int) -> Answer:
        job = Grow(
            number=0, target=name, seed=0, recipe={}, knobs={}, knob_share=0.0, device="cpu"
        )  # fmt: skip
        return Answer(job, 0, Reply(result=Result("c", name, "compared", fired=fired)))

    with (
        Database.create(tmp_path / "campaign.db") as database,
        TraceLog(tmp_path) as traces,
        CoverageLog(tmp_path) as coverage,
    ):
        ledger = Ledger(database, traces, coverage, deque())
        with database.transaction():
            for name, fired in (("m:one", 1), ("m:one", 0), ("m:one", 2), ("m:never", 0)):
                answer = answers(name, fired)
                assert answer.reply.result is not None
                ledger.count(answer, Result.from_json(answer.reply.result.to_json()))
        lines = [one.line for one in noted(database)]
    assert lines[1] == "m:one: the pass changed a graph in 2 of 3 cases"
    assert lines[0].startswith("m:never: the pass changed a graph in 0 of 1 cases; it was not tested: declare programs")


def test_any_target_runs_networks_around_a_motif_or_the_programs_of_a_pass() -> None:
    for motif, wanted in ((f"{MODULE}:right", "torch.nn.functional.linear"), ("attention", "softmax")):
        found = 0
        for seed in range(6):
            job = Grow(
                number=seed, target="aot_eager", seed=seed, recipe={"motifs": [motif]}, knobs={}, knob_share=0.0,
                device="cpu",
            )  # fmt: skip
            found += any(wanted in one or "attention" in one for one in compose(job).case.program.operators())
        assert found >= 3


def test_a_motif_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from shakeout.fuzz.cli import main

    assert main(["run", "--target", "eager", "--motif", "atention"]) == 2
    assert "--motif atention: expected attention, " in capsys.readouterr().err
