"""The conformance kit: what ships keeps to it, and each way of breaking it is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import torch
from tests import packages

import shakeout
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Knob, KnobSpace, Setting
from shakeout.corpus.program import Call, Input, Name, Program, Ref, TensorType
from shakeout.corpus.vocabularies import torch_traits, vocabulary
from shakeout.corpus.vocabularies.traits import Hazard, Traits
from shakeout.oracles.registry import oracles
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Answers, Oracle, Outcome, Question, Verdict
from shakeout.targets import registry
from shakeout.targets.eager import Eager
from shakeout.targets.registry import target
from shakeout.targets.target import Facts, Ladder, Levels, Part
from shakeout.testing import NotConforming, check_oracle, check_target, check_vocabulary, small_cases

EAGER = target("eager")
EVERY = oracles(frozenset({"bits", "layout", "writes", "repeats"}))


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    packages.example(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    registry.target.cache_clear()
    yield
    registry.target.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "example_stack"]:
        del sys.modules[name]


# --- targets ----------------------------------------------------------------------------------------------------------


def test_the_reference_conforms() -> None:
    check_target("eager")


@pytest.mark.usefixtures("example")
def test_a_target_of_another_package_conforms() -> None:
    check_target("example")


def identity(setting: Setting, *lines: str, declined: str = "False") -> str:
    body = [f"    {line}" for line in lines or ("return function",)]
    return "\n".join(["def prepare(function):", *body, "", "def declined(error):", f"    return {declined}"])


class Mine(Eager):
    """A target that keeps to everything, for tests to change."""

    name = "mine"
    facts = Facts(summary="mine", accelerator=False)

    def knobs(self) -> KnobSpace:
        return (Knob("level", (1, 0)),)

    def source(self, setting: Setting) -> str:
        return identity(setting)


def mine(**changes: Any) -> Mine:
    return type("Mine", (Mine,), changes)()  # type: ignore[no-any-return]


def part(hook: str) -> Ladder:
    return Ladder(parts=(Part("passes", "pass", hook),))


def wrong(*lines: str) -> Callable[..., str]:
    return lambda self, setting: identity(setting, *lines)


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Mine], None]]:
    """A target in a module of its own, as ours are registered, checked without a process for each look at it."""

    def bring(subject: Mine) -> None:
        module = ModuleType("shakeout_mine")
        vars(module)["MINE"] = subject
        monkeypatch.setitem(sys.modules, "shakeout_mine", module)
        monkeypatch.setitem(registry._BUILT_IN, "mine", ("shakeout_mine", "MINE"))
        registry.target.cache_clear()
        check_target(subject, small_cases(subject)[:3])

    monkeypatch.setattr("shakeout.fuzz.conformance.targets.TARGET_CHECKS", CHECKS)
    yield bring
    registry.target.cache_clear()


CHECKS = tuple(row for row in shakeout.testing.TARGET_CHECKS if row[0] not in ("imports", "scripts"))


def test_a_target_that_keeps_to_everything_passes(brought: Callable[[Mine], None]) -> None:
    brought(mine())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"facts": Facts()}, "facts: summary is '', expected one line"),
        ({"facts": Facts(summary="x", promises=frozenset({"speed"}))}, "facts: promises speed"),
        ({"facts": Facts(summary="x", mode="learning")}, "facts: mode is 'learning'"),
        ({"facts": Facts(summary="x", turns=0)}, "facts: turns and settings are 0 and 1"),
        ({"facts": Facts(summary="x", foreign=frozenset({"float33"}))}, "facts: foreign has 'float33'"),
        ({"facts": Facts(summary="x", packages=("no-such-package",))}, "facts: packages has 'no-such-package'"),
        ({"facts": Facts(summary="x", support=Path("/nowhere"))}, "facts: support is /nowhere"),
        ({"facts": Facts(summary="x", ladder=Ladder(below=("no_such",)))}, "facts: UnknownTarget: unknown target"),
        ({"facts": Facts(summary="x", ladder=Ladder(levels=Levels("depth", (0,))))}, "of a knob 'depth'"),
        ({"facts": Facts(summary="x", ladder=Ladder(levels=Levels("level", (0, 7))))}, "levels have [7], which"),
        ({"facts": Facts(summary="x", ladder=Ladder(single="one"))}, "single parts with a knob 'one'"),
        ({"facts": Facts(summary="x", ladder=part("no_such_module:f"))}, "facts: ModuleNotFoundError"),
        ({"knobs": lambda self: (Knob("a", (1, 1)),)}, "knobs: knob 'a' has the values (1, 1), expected distinct"),
        ({"knobs": lambda self: (Knob("a", (1,)), Knob("a", (2,)))}, "knobs: there are two knobs 'a'"),
        ({"knobs": lambda self: (Knob("a", ((1, 2),)),)}, "knobs: "),
        ({"source": lambda self, setting: "def prepare(function) return function"}, "source: SyntaxError"),
        ({"source": lambda self, setting: "def prepare(function): return function"}, "does not define declined"),
        ({"source": wrong("return lambda *given: [1 + one for one in function(*given)]")}, "cases: case 0"),
        ({"source": wrong("raise RuntimeError('nothing works')")}, "fails: RuntimeError: RuntimeError: nothing works"),
        (
            {"source": lambda self, setting: identity(setting, "raise KeyError('x')", declined="True")},
            "cases: none of 3 cases was compared: it declines everything",
        ),
        (
            {"source": lambda self, setting: identity(setting, declined="True")},
            "declined: declined(RuntimeError('planted fault')) is True, expected False",
        ),
        (
            {
                "source": wrong(
                    "def run(*given):",
                    "    try:",
                    "        return function(*given)",
                    "    except Exception:",
                    "        return [torch.zeros(3)]",
                    "return run",
                )
            },
            "declined: a network that raises gives outputs on it",
        ),
        ({"source": wrong("torch.set_default_dtype(torch.float64)", "return function")}, "leaves behind"),
        (
            {"source": wrong("made = []", "def run(*given):", "    made[:] = made or [function(*given)]",
                             "    return made[0]", "return run")},
            "3 calls) fails: wrong value",
        ),
        ({"unavailable": lambda self: "no licence"}, "available: it cannot run here, so nothing more can be checked"),
        ({"warm": lambda self: 1 / 0}, "warm: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_each_way_of_breaking_it_is_told(
    brought: Callable[[Mine], None], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], says: str
) -> None:
    if "3 calls" in says:
        again = small_cases(EAGER)[7]
        monkeypatch.setattr(sys.modules[__name__], "small_cases", lambda subject: [again])
    with pytest.raises(NotConforming) as told:
        brought(mine(**changes))
    assert says in str(told.value)
    assert str(told.value).startswith("target mine does not conform:\n")


def test_a_part_that_breaks_what_it_is_left_out_of_is_told(brought: Callable[[Mine], None]) -> None:
    import contextlib
    from unittest import mock

    @contextlib.contextmanager
    def limited(gate: Any) -> Iterator[None]:
        gate.begin()
        right = Mine.source
        broken = right if gate("a pass") else wrong("return lambda *given: [1 + one for one in function(*given)]")
        with mock.patch.object(Mine, "source", broken):
            yield

    module = ModuleType("shakeout_hooks")
    vars(module)["limited"] = limited
    with mock.patch.dict(sys.modules, {"shakeout_hooks": module}), pytest.raises(NotConforming) as told:
        brought(mine(facts=Facts(summary="x", ladder=part("shakeout_hooks:limited"))))
    assert "ladder: with every pass left out, a case is compared" in str(told.value)
    assert "every pass counted" not in str(told.value)


def test_a_target_that_is_slow_to_list_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages.registered(tmp_path, "mine", {registry.GROUP: {"mine": "shakeout_slow:MINE"}})
    (tmp_path / "shakeout_slow.py").write_text(
        "import torch\nfrom shakeout.targets.eager import Eager\nfrom shakeout.targets.target import Facts\n"
        "class Mine(Eager):\n    name = 'mine'\n    facts = Facts(summary='mine')\nMINE = Mine()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry.target.cache_clear()
    with pytest.raises(NotConforming) as told:
        check_target("mine")
    [line] = str(told.value).splitlines()[1:]
    assert line == "  imports: facts, knobs or unavailable import torch, numpy, which slows down every listing"
    registry.target.cache_clear()


# --- oracles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("oracle", EVERY, ids=lambda oracle: oracle.name)
def test_every_oracle_that_ships_conforms(oracle: Oracle) -> None:
    check_oracle(oracle)


@pytest.mark.usefixtures("example")
def test_an_oracle_of_another_package_conforms() -> None:
    from example_stack.oracle import SIGNED_ZERO

    check_oracle(SIGNED_ZERO)


class Judge:
    """An oracle that keeps to everything, for tests to change."""

    name = "mine"

    def questions(self, case: Case) -> Sequence[Question]:
        return (REFERENCE, SUBJECT)

    def judge(self, case: Case, answers: Answers) -> Any:
        return Verdict("mine", Outcome.PASS)


def failing(self: Judge, case: Case, answers: Answers) -> Verdict:
    return Verdict("mine", Outcome.FAIL, "odd", "odd")


def runs(self: Judge, case: Case, answers: Answers) -> Verdict:
    from shakeout.corpus import script

    script.load(case)
    return Verdict("mine", Outcome.PASS)


def starts(self: Judge, case: Case, answers: Answers) -> Verdict:
    subprocess.run(["true"], check=True)
    return Verdict("mine", Outcome.PASS)


def writes(self: Judge, case: Case, answers: Answers) -> Verdict:
    for call in answers[SUBJECT].calls:
        call["output"][0].zero_()
    return Verdict("mine", Outcome.PASS)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": ""}, "name: its name is ''"),
        ({"questions": lambda self, case: ["reference"]}, "asks: questions gives 1 of ('reference',)"),
        ({"questions": lambda self, case: [Question("replica", i) for i in range(99)]}, "asks: questions gives 99"),
        ({"judge": lambda self, case, answers: True}, "judges: TypeError"),
        ({"judge": lambda self, case, answers: [REFERENCE]}, "with a new one"),
        ({"judge": lambda self, case, answers: [Question("reference", len(answers))]}, "it still asks after"),
        ({"judge": lambda self, case, answers: Verdict("other", Outcome.PASS)}, "its verdict is of 'other'"),
        (
            {"judge": lambda self, case, answers: Verdict("mine", Outcome.PASS, evidence={"x": torch.ones(2)})},
            "no JSON",
        ),
        ({"judge": failing}, "although eager agrees with itself"),
        ({"judge": failing}, "although the target declined the case"),
        ({"judge": runs}, "it runs a case itself"),
        ({"judge": starts}, "it starts a process (subprocess.Popen)"),
        ({"judge": writes}, "judge changes the tensors that it is shown"),
    ],
)
def test_each_way_in_which_an_oracle_breaks_it_is_told(changes: dict[str, Any], says: str) -> None:
    oracle = type("Mine", (Judge,), changes)()
    with pytest.raises(NotConforming) as told:
        check_oracle(oracle, small_cases(EAGER)[:1])
    assert says in str(told.value)


def test_an_oracle_that_keeps_to_everything_passes() -> None:
    check_oracle(Judge(), small_cases(EAGER)[:1])


# --- vocabularies -----------------------------------------------------------------------------------------------------


def test_torch_conforms() -> None:
    check_vocabulary("torch", small_cases(EAGER))


def test_kernels_of_users_conform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conforming_kernels.py").write_text(
        "import shakeout\nimport torch\n\n\n@shakeout.kernel(reference=torch.nn.functional.relu)\n"
        "def my_relu(x):\n    return torch.where(x > 0, x, x * 0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SHAKEOUT_ALLOW", "conforming_kernels")
    relu = Call("conforming_kernels:my_relu", (Ref(0),), (), (MATRIX,))
    twice = Call("torch.mul", (Ref(2), 2), (), (MATRIX,))
    check_vocabulary("kernel", [own(relu, vocabulary="kernel"), own(relu, twice, vocabulary="kernel")])


def own(*calls: Call, vocabulary: str = "example") -> Case:
    matrix = TensorType("float32", (2, 3))
    case = capture(torch.add, lambda: [torch.ones(2, 3), torch.full((2, 3), 2.0)], setting=Setting("eager"))
    program = Program((Input(matrix), Input(matrix)), calls, (len(calls) + 1,), vocabulary)
    return replace(case, program=program)


MATRIX = TensorType("float32", (2, 3))
AXPY = Call("example.axpy", (0.5, Ref(0), Ref(1)), (), (MATRIX,))
HALF = Name("example.HALF")
SCALE = Call("example.scale_", (Ref(2), 3.0), (), (MATRIX,))


@pytest.mark.usefixtures("example")
def test_a_vocabulary_of_another_package_conforms() -> None:
    check_vocabulary("example", [own(AXPY), own(AXPY, SCALE), own(replace(AXPY, args=(HALF, *AXPY.args[1:])))])


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(
    ("name", "replacement", "says"),
    [
        ("expression", lambda operation, names, device="cpu": f"{names[0]} + 0", "text: case 0"),
        (
            "written",
            lambda operation: (),
            "writes: example.scale_ writes to operands [2], which written() does not tell",
        ),
        ("traits", lambda operator: Traits(hazards=frozenset({"slow"})), "traits: example.axpy has the hazards slow"),
        ("traits", lambda operator: Traits(exactness="often"), "has the exactness often"),
        ("traits", lambda operator: frozenset(), "gives frozenset, expected Traits"),
        ("resolve", lambda operator: print, "hostile: os.system resolves, expected a ValueError"),
        ("resolve", lambda operator: 3, "operators: example.axpy resolves to what cannot be called"),
        ("constant", lambda name: name, "hostile: torch.load is a constant, expected a ValueError"),
        ("constants", lambda: {"torch.load"}, "hostile: constants() has torch.load: a case may come from anybody"),
        ("operators", lambda: {"example.lost": print}, "operators: UnknownOperator: example.lost is not an operator"),
        ("meaning", lambda operator: "torch.load", "operators: UnknownOperator: torch.load is not an operator"),
        ("family", lambda operator: "", "operators: family('example.axpy') is '', expected a name"),
        ("spelled", lambda operator: True, "operators: spelled('example.axpy') is True"),
        ("SIMPLEST", {"torch.clone": 0}, "operators: SIMPLEST has 'torch.clone' with 0"),
        ("REFERENCE", "example_interpreter", "names: UnknownTarget: unknown target 'example_interpreter'"),
        ("widened", lambda program: 3, "wider: widened() gives int"),
        ("imports", None, "names: it has no imports()"),
    ],
)
def test_each_way_in_which_a_vocabulary_breaks_it_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, replacement: Any, says: str
) -> None:
    monkeypatch.setattr(vocabulary("example"), name, replacement)
    with pytest.raises(NotConforming) as told:
        check_vocabulary("example", [own(AXPY, SCALE)])
    assert says in str(told.value)


def test_a_vocabulary_that_loads_torch_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages.registered(tmp_path, "heavy", {"shakeout.vocabularies": {"heavy": "shakeout_heavy"}})
    (tmp_path / "shakeout_heavy.py").write_text(
        "import torch\nfrom shakeout.corpus.vocabularies import torch as plain\n"
        "def __getattr__(name):\n    return getattr(plain, name)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NotConforming) as told:
        check_vocabulary("heavy", [own(Call("torch.neg", (Ref(0),), (), (MATRIX,)), vocabulary="heavy")])
    [line] = str(told.value).splitlines()[1:]
    assert line == "  imports: it imports torch where it is loaded, which slows down every reading of a case"


def test_every_hazard_is_one_of_some_operator() -> None:
    assert set(torch_traits._HAZARDS) == set(get_args(Hazard))
