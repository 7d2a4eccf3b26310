"""What a target is stands with the target, so one of another package has all that Shakeout's own have."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests import packages

from shakeout.corpus import support
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.bisect.ablation import Ablation
from shakeout.fuzz.bisect.facts import Culprit, Fact, Note, Rung
from shakeout.fuzz.bisect.ladders import bisected
from shakeout.fuzz.bisect.releases import product
from shakeout.fuzz.bisect.trials import Shown, Trial, in_process
from shakeout.fuzz.campaign import schedule
from shakeout.fuzz.cli import main
from shakeout.fuzz.ground import versions
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.reporting.draft import Draft
from shakeout.fuzz.reporting.exported import Exported, short_form
from shakeout.fuzz.reporting.formats import FORMATS, form_of
from shakeout.fuzz.reporting.forms import written
from shakeout.fuzz.running import compose as composing
from shakeout.fuzz.workers import pool as module
from shakeout.fuzz.workers.pool import WorkerPool
from shakeout.targets import registry
from shakeout.targets.eager import Eager
from shakeout.targets.registry import compilers, facts_of, hook, may_use_accelerator, names, target
from shakeout.targets.shortcuts import SHORTCUTS
from shakeout.targets.target import Facts, Ladder, Part, Target, UnknownTarget

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place where packages are installed."""
    monkeypatch.syspath_prepend(tmp_path)
    registry.target.cache_clear()
    versions.describe.cache_clear()
    yield tmp_path
    registry.target.cache_clear()
    versions.describe.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("example_stack", "mine")]:
        del sys.modules[name]


@pytest.fixture
def example(site: Path) -> Target:
    """The target of the example package."""
    packages.example(site)
    return target("example")


def sine(setting: Setting) -> Case:
    return capture(lambda x: torch.sin(torch.square(x)), lambda: [torch.tensor([3.0, 2.0])], setting=setting)


# --- of another package -----------------------------------------------------------------------------------------------


def test_it_is_listed_and_tested_by_default(example: Target, capsys: pytest.CaptureFixture[str]) -> None:
    assert names()[-1] == "example"
    assert compilers()[-1] == "example"
    assert main(["targets", "--knobs"]) == 0
    assert "the compiler of example-stack" in capsys.readouterr().out


def test_its_turns_and_packages_are_its_own(example: Target) -> None:
    assert schedule.turns(("inductor", "example", "eager")) == ("inductor", *("example",) * 3, "eager", "eager")
    assert versions.describe()["packages"]["example-stack"] == "1.2.3"
    assert product("example") == "example-stack"


def test_what_it_declines_is_drawn_less_often(example: Target) -> None:
    folder = example.facts.support
    assert folder is not None
    assert support.declined("example", folder) == {"torch.view_as_complex"}
    composing.prepare(lambda text: None)
    asked: list[object] = []

    def declined(*given: object) -> frozenset[str]:
        asked.append(given)
        return frozenset()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composing, "declined", declined)
        for seed in range(6):
            composing.compose(Grow(number=seed, target="example", seed=seed, recipe={"operators": 1}))
    assert set(asked) == {("example", folder)}


def test_what_it_declines_is_shown(example: Target, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["operators", "--target", "example"]) == 0
    assert "torch.view_as_complex" in capsys.readouterr().out
    assert main(["operators", "--target", "no_such"]) == 2
    assert capsys.readouterr().err.startswith("shakeout: unknown target 'no_such'; there are eager")


def test_it_has_a_short_script(example: Target) -> None:
    text = short_form(sine(Setting("example", (("fast_math", True), ("level", 1)))))
    assert text is not None
    assert "    return compiler.compile(network, fast_math=True, level=1)\n" in text
    assert "\nfrom example_stack import compiler\n" in text


def test_bisect_names_its_level_and_its_pass(example: Target) -> None:
    ablation = Ablation(sine(Setting("example", (("disabled", "square"), ("fast_math", True)))), in_process)
    found = list(bisected(ablation))
    assert [str(rung).split() for rung in found if isinstance(rung, Rung)] == [
        ["level=0", "good"],
        ["level=1", "good"],
        ["level=2", "bad"],
    ]
    level, culprit = (fact for fact in found if isinstance(fact, Culprit))
    assert (level.kind, level.names) == ("optimisation level", ("level=2",))
    assert (culprit.kind, culprit.names, culprit.number, culprit.of, culprit.alone) == (
        "pass", ("fast_sine",), 3, 3, True,
    )  # fmt: skip


def test_its_report_goes_to_its_owner(example: Target) -> None:
    draft = Draft("x", sine(Setting("example")), True, Exported("", "short", True, "", ""), owner=example.facts.owner)
    assert form_of(example.facts.owner) == "markdown"
    assert "It is for example-stack, whose form Shakeout does not know." in written(draft, "markdown")
    # A project with a form of its own is told by it.
    for owner in ("", *FORMATS):
        assert "It is for" not in written(replace(draft, owner=owner), form_of(owner))


def test_it_is_warmed_before_workers_are_forked_though_there_is_an_accelerator(
    example: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "present", lambda: True)
    pool = WorkerPool(tmp_path / "pool", ["example"], 1)
    assert pool.warmed == ("example",)
    pool.stop()


# --- what goes wrong in another package -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (None, "cannot be loaded: ModuleNotFoundError"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError: division by zero"),
        ("", "cannot be loaded: AttributeError"),
        ("THING = 3", "is of the type int, expected an object of a class that is derived from"),
        ("from shakeout.targets.eager import Eager as THING", "is the class Eager, expected an object"),
        ("from shakeout.targets.eager import EAGER as THING", "has the name 'eager'"),
        (
            "from shakeout.targets.eager import Eager\nclass Mine(Eager):\n    name = 'mine'\n    facts = None\n"
            "THING = Mine()",
            "has the name 'mine' and NoneType for facts",
        ),
    ],
)
def test_a_package_that_is_broken_costs_its_own_target_only(
    site: Path, module: str | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    packages.registered(site, "mine", {registry.GROUP: {"mine": "mine:THING"}})
    if module is not None:
        (site / "mine.py").write_text(module + "\n")
    assert says in str(target("mine").unavailable())
    assert "mine" not in compilers()
    assert main(["targets"]) == 0
    assert f"unavailable: mine:THING of mine {says}" in capsys.readouterr().out
    assert main(["run", "--target", "mine", "--cases", "1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("shakeout: target mine cannot run here: mine:THING of mine")
    assert len(said.splitlines()) == 1


def test_a_name_of_ours_stays_ours(site: Path) -> None:
    packages.registered(site, "mine", {registry.GROUP: {"eager": "mine:THING"}})
    assert names().count("eager") == 1
    assert target("eager").unavailable() is None


# --- our own ----------------------------------------------------------------------------------------------------------


def test_the_supervisor_learns_what_it_needs_without_importing_a_compiler() -> None:
    code = """
import sys
from shakeout.fuzz.ground import versions
from shakeout.fuzz.campaign import schedule
from shakeout.fuzz.workers import pool
from shakeout.targets.registry import facts_of, may_use_accelerator, names, target
schedule.turns((*names(), "some.module:kernel"))
versions.describe()
assert may_use_accelerator("some.module:kernel")
for name in names():
    facts_of(name), target(name).knobs(), target(name).unavailable()
print([name for name in ("torch", "numpy", "onnx", "onnxruntime", "openvino", "tvm", "some") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_compilers_are_in_the_order_that_stored_campaigns_have() -> None:
    order = ("inductor", "aot_eager", "export", "onnxruntime", "openvino", "tvm")
    found = compilers()
    assert found == tuple(name for name in order if name in found)
    assert found[:2] == order[:2]


def test_each_shortcut_is_of_a_target() -> None:
    assert {name for one in names() for name in facts_of(one).shortcuts} == set(SHORTCUTS)


def test_only_what_is_known_to_keep_off_accelerators_does() -> None:
    assert Facts().accelerator
    assert may_use_accelerator("my.module:kernel")
    assert not may_use_accelerator("inductor")


def test_every_owner_of_ours_has_a_form() -> None:
    assert {form_of(facts_of(name).owner) for name in compilers()} <= set(FORMATS) - {"markdown"}


def test_a_part_that_is_not_there_is_told() -> None:
    with pytest.raises(UnknownTarget, match="inductor has no part 'passes'; it has pre_grad_passes, "):
        hook("inductor", "passes")
    with pytest.raises(UnknownTarget, match="eager has no part 'passes'; it has none"):
        hook("eager", "passes")


# --- ladders ----------------------------------------------------------------------------------------------------------


def facts_with(monkeypatch: pytest.MonkeyPatch, ladder: Ladder, cured_by: Sequence[str]) -> list[Fact]:
    """What is found out of a target with a ladder, that fails unless one of these kinds of parts is left out."""
    asked: list[str] = []

    def execute(trials: Sequence[Trial]) -> list[Shown]:
        shown = []
        for trial in trials:
            limit = trial.limit
            asked.append(limit.kind if limit is not None else "")
            off = limit is not None and limit.kind in cured_by and (limit.most == 0 or limit.without == 0)
            failure = None if off else Failure("eager", "value", "wrong value")
            shown.append(Shown("compared" if off else "failed", failure, (f"the {limit.kind}",) if limit else ()))
        return shown

    monkeypatch.setattr(Eager, "facts", Facts(ladder=ladder))
    found = bisected(Ablation(sine(Setting("eager")), execute))
    return [fact for fact in found if isinstance(fact, Culprit | Note)]


PARTS = (Part("a", "pass", "x:y"), Part("b", "other pass", "x:y"), Part("c", "pattern", "x:y", finer=True))


def test_the_first_of_several_parts_is_named_and_what_is_finer_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = facts_with(monkeypatch, Ladder(parts=PARTS, otherwise="nothing"), ("a", "b", "c"))
    assert [str(fact).split(" (")[0] for fact in found] == ["pass the a", "pattern the c"]


def test_without_a_culprit_the_target_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    found = facts_with(monkeypatch, Ladder(parts=PARTS, otherwise="nothing but the rest"), ())
    assert found == [Note("nothing but the rest")]


# --- what the pages say -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["add-a-target.md", "add-an-oracle.md", "add-a-vocabulary.md"])
def test_the_pages_show_the_package_that_is_tested(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    shown = re.findall(r"```python\n# example_stack/(\w+\.py)\n(.*?)\n```", text, re.DOTALL)
    assert shown
    for name, piece in shown:
        assert piece in (packages.EXAMPLE / "example_stack" / name).read_text(), piece
    for piece in re.findall(r"```toml\n(.*?)\n```", text, re.DOTALL):
        assert piece in (packages.EXAMPLE / "pyproject.toml").read_text(), piece
