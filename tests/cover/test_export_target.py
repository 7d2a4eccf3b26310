"""torch.export as a target, and what every target that works in stages relies on."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shakeout.corpus import regressions
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Mode, Setting
from shakeout.fuzz.running.compose import drawn_knobs
from shakeout.fuzz.running.execute import Shared, execute, repro
from shakeout.generators.choices import SeededChoices
from shakeout.oracles.verdict import Outcome
from shakeout.targets.export import EXPORT
from shakeout.targets.printed import staged
from shakeout.targets.registry import target


def case(function: Callable, *inputs: torch.Tensor, mode: Mode = "inference", **knobs) -> Case:
    def make() -> list[torch.Tensor]:
        return [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]

    return capture(function, make, setting=Setting("export", tuple(sorted(knobs.items())), mode))


def network(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    z = torch.sin(x).mT.add_(1)
    return z, x.reshape(-1)[1:], z.sum() * y


SETTINGS: Sequence[dict] = [
    {},
    *({knob.name: value} for knob in EXPORT.knobs() for value in knob.values[1:]),
    {"decompositions": "core_aten", "reload": True, "strict": True},
]


@pytest.mark.parametrize("knobs", SETTINGS, ids=str)
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_every_setting_exports_and_runs(knobs: dict, mode: Mode) -> None:
    x = torch.arange(6.0).reshape(2, 3).requires_grad_(mode == "training")
    result = execute(case(network, x, torch.tensor(2.0), mode=mode, **knobs))
    assert (result.status, result.outcome) == ("compared", Outcome.PASS), result
    assert result.seconds["torch.export"] > 0


def test_writes_to_inputs_arrive() -> None:
    for knobs in SETTINGS:
        result = execute(case(lambda x: (x.t().mul_(2), x + 1), torch.arange(6.0).reshape(2, 3), **knobs))
        assert (result.status, result.outcome) == ("compared", Outcome.PASS), (knobs, result)


def test_writes_to_parameters_arrive_unless_the_program_was_loaded_with_its_own() -> None:
    def make() -> list[torch.Tensor]:
        return [torch.ones(3), torch.zeros(3)]

    writing = capture(lambda x, p: (p.add_(x),), make, setting=Setting("export"), parameters=(1,))
    reading = capture(lambda x, p: (p + x,), make, setting=Setting("export"), parameters=(1,))
    reload = Setting("export", (("reload", True),))
    assert [execute(c).status for c in (writing, reading)] == ["compared", "compared"]
    assert execute(replace(reading, setting=reload)).status == "compared"
    declined = execute(replace(writing, setting=reload))
    assert declined.status == "unsupported", declined


def test_sizes_may_vary_between_the_calls() -> None:
    one = case(lambda x: (torch.relu(x).sum(0),), torch.ones(4, 3))
    other = case(lambda x: (torch.relu(x).sum(0),), torch.ones(7, 3))
    result = execute(replace(one, input_sets=(*one.input_sets, *other.input_sets)))
    assert (result.status, result.outcome) == ("compared", Outcome.PASS), result


def test_what_export_does_not_take_is_declined_and_says_in_which_stage() -> None:
    result = execute(case(lambda x: torch.fft.fft(torch.nonzero(x), dim=0), torch.ones(3)))
    assert result.status == "unsupported"
    assert result.stage == "torch.export"


# --- stages, on a target whose compiler is planted -------------------------------------------------------------------

BODY = """
def prepare(function):
    def run(*given):
        program = exported(function, given)
        imported = lambda *given: IMPORT(program.module()(*given))
        STAGES.extend([("exported program", program.module()), ("imported program", imported)])
        with stage("compile"):
            return COMPILE(imported(*given))

    return run


declined = export_declined
"""

SAME = "lambda outputs: outputs"
WRONG = "lambda outputs: [output + 1 for output in outputs]"


def planted(monkeypatch: pytest.MonkeyPatch, importing: str, compiling: str) -> None:
    text = staged(BODY.replace("IMPORT", f"({importing})").replace("COMPILE", f"({compiling})"))
    monkeypatch.setattr(type(EXPORT), "source", lambda self, setting: text)


@pytest.mark.parametrize(
    ("importing", "compiling", "stage", "where"),
    [(SAME, WRONG, "export", "export: "), (WRONG, SAME, "imported program", "export (imported program): ")],
)
def test_the_first_stage_with_other_values_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, importing: str, compiling: str, stage: str, where: str
) -> None:
    planted(monkeypatch, importing, compiling)
    one = case(lambda x: (x * 2,), torch.ones(3))
    result = execute(one)
    assert result.failure is not None
    assert (result.failure.oracle, result.stage) == ("value", stage)
    text = repro(one, result)
    assert text.startswith(f'"""{where}wrong value')
    script = tmp_path / "repro.py"
    script.write_text(text)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 1, done
    assert "exported program: no difference" in done.stdout
    said = "no difference" if importing == SAME else "output 0: 3 of 3 elements differ"
    assert f"imported program: {said}" in done.stdout


def test_the_stage_that_raises_is_named_and_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, SAME, "lambda outputs: outputs[7]")
    result = execute(case(lambda x: (x * 2,), torch.ones(3)))
    assert (result.status, result.stage) == ("failed", "compile")
    assert result.signature.startswith("export | compile | exception | IndexError")


def test_settings_of_one_program_share_what_is_kept_and_the_reference() -> None:
    one = case(lambda x: (torch.cos(x),), torch.ones(3))
    shared = Shared()
    first = execute(one, shared=shared)
    second = execute(replace(one, setting=Setting("export", (("reload", True),))), shared=shared)
    assert "torch.export" in first.seconds
    assert "torch.export" not in second.seconds  # it was kept
    assert "reference" not in second.seconds
    assert second.outcome is Outcome.PASS


def test_settings_are_drawn_apart() -> None:
    space = target("export").knobs()
    many = drawn_knobs(SeededChoices(3), space, {}, 0.0, 8)
    assert many[0] == ()
    assert len(set(many)) == len(many) == 8
    pinned = drawn_knobs(SeededChoices(3), space, {"strict": True}, 0.0, 4)
    assert all(("strict", True) in setting for setting in pinned)
    assert drawn_knobs(SeededChoices(3), (), {}, 1.0, 5) == [()]


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "tvm"])
def test_a_converter_gets_the_program_as_it_was_exported(name: str) -> None:
    if lacking := target(name).unavailable():
        pytest.skip(lacking)
    # Decomposed twice it fails, and a converter decomposes what it gets.
    known = next(bug for bug in regressions.load_all() if bug.id == "export-addcmul-decomposes-into-other-strides")
    result = execute(replace(known.case, setting=Setting(name)))
    assert (result.status, result.outcome) == ("compared", Outcome.PASS), result
