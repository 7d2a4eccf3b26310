"""What a file names, and what tools left behind: read as it stands, or refused in words."""

import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests import regions
from tests.imported import case_of, found

from shakeout.corpus import codec
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.program import Input, Program, Ref
from shakeout.corpus.short_script import short
from shakeout.fuzz.intake.compiled import Candidates
from shakeout.fuzz.intake.files import CannotRead, read
from shakeout.fuzz.intake.told import Request
from shakeout.fuzz.running.execute import repro
from shakeout.targets.registry import short as short_of


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("bug", "repro"):
        monkeypatch.delitem(sys.modules, name, raising=False)


# --- a name -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("function", "def function(x):\n    return x.sin()\ndef inputs():\n    return (torch.ones(2),)\n"),
        ("function", "def function(x):\n    return x.sin()\nexample_inputs = [torch.ones(2)]\n"),
        ("function", "def function(x):\n    return x.sin()\ndef inputs():\n    return {'x': torch.ones(2)}\n"),
        ("function", "def function(x):\n    return x.sin()\ndef inputs():\n    return torch.ones(2)\n"),
        ("case", "def case():\n    return torch.sin, (torch.ones(2),)\n"),
        ("module", "module = nn.ReLU()\ninputs = (torch.ones(2),)\n"),
        (
            "Model",
            "class Model(nn.Module):\n    def __init__(self, n):\n        super().__init__()\n"
            "    def forward(self, x):\n        return x.sin()\n"
            "def get_init_inputs():\n    return [3]\ndef get_inputs():\n    return [torch.ones(2)]\n",
        ),
        ("fast", "@torch.compile\ndef fast(x):\n    return x.sin()\ndef inputs():\n    return (torch.ones(2),)\n"),
    ],
)
def test_a_name_and_its_inputs(name: str, text: str, tmp_path: Path) -> None:
    case = case_of(found(tmp_path, text, name))
    assert case.setting.target == "inductor"
    assert len(case.program.inputs) == 1
    assert case_of(found(tmp_path, text, name, target="export")).setting.target == "export"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent", "def function(x):\n    return x\n", "bug.py has no 'absent'; it has function"),
        ("function", "def function(x):\n    return x\n", "there are no inputs for function: define inputs()"),
        ("case", "def case():\n    return 3\n", "case() returns a int; a function without arguments has to return"),
        ("number", "number = 3\n", "number is a int; expected a function or a torch.nn.Module"),
        ("case", "def case():\n    return 1 / 0\n", "bug.py:5: case() raises ZeroDivisionError"),
        ("case", "raise RuntimeError('no')\n", "bug.py:4: importing bug.py raises RuntimeError: no"),
        ("", "def function(x):\n    return x\n", "calls nothing that torch.compile gave it"),
        ("", "torch.compile(torch.sin)\n", "was run and never calls what it compiles: sin (bug.py:4)\nName what"),
        ("", "1 / 0\n", "the script raises ZeroDivisionError"),
        ("", "raise SystemExit(3)\n", "the script ends with status 3"),
        ("", "def f(:\n", "bug.py:4: a syntax error"),
    ],
)
def test_a_file_with_nothing_to_import_says_what_was_expected(name: str, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRead) as caught:
        found(tmp_path, text, name)
    assert said in str(caught.value)


# --- what tools leave behind ------------------------------------------------------------------------------------------

MINIFIED = """
from torch import device
from torch.nn import *
class Repro(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
    def forward(self, arg0_1, arg1_1):
        mul = torch.ops.aten.mul.Tensor(arg0_1, arg1_1);  arg0_1 = None
        full = torch.ops.aten.full.default([2], 1.5, dtype = torch.float32, layout = torch.strided, \\
            device = device(type='cpu'), pin_memory = False)
        sum_1 = torch.ops.aten.sum.dim_IntList(mul, [0]);  mul = None
        add = torch.ops.aten.add.Tensor(sum_1, full);  sum_1 = full = None
        return (add,)

mod = Repro()
def load_args(reader):
    buf0 = reader.storage(None, 24)
    reader.tensor(buf0, (3, 2), is_leaf=True)
    buf1 = reader.storage(None, 8)
    reader.tensor(buf1, (2,), is_leaf=True)
load_args._version = 0
if __name__ == '__main__':
    from torch._dynamo.repro.after_aot import run_repro
    with torch.no_grad():
        run_repro(mod, load_args, accuracy=False, command='run', save_dir=None, tracing_mode='real', check_str=None)
"""


def test_what_the_minifier_leaves_behind(tmp_path: Path) -> None:
    candidates = found(tmp_path, MINIFIED)
    case = case_of(candidates)
    names = ("mul.Tensor", "full.default", "sum.dim_IntList", "add.Tensor")
    assert case.program.operators() == tuple(f"torch.ops.aten.{name}" for name in names)
    assert case.setting.mode == "inference"
    assert candidates.notes == ["its inputs are not beside it; random ones are taken"]


def test_what_the_installed_minifier_writes(tmp_path: Path) -> None:
    from torch._dynamo.repro import after_aot, after_dynamo
    from torch.fx.experimental.proxy_tensor import make_fx

    x, w = torch.linspace(0, 1, 6).reshape(2, 3), torch.ones(3, 2)
    graph = make_fx(lambda x, w: (torch.nn.functional.gelu(x @ w),))(x, w)
    with (tmp_path / "repro.py").open("w") as file:
        after_aot.save_graph_repro(file, graph, [x, w], "inductor", save_dir=str(tmp_path / "saved"))
    candidates = Candidates(Request(str(tmp_path / "repro.py"), "", "", "", str(tmp_path), ""))
    read(tmp_path / "repro.py", "", candidates)
    case = case_of(candidates)
    assert case.program.operators() == ("torch.ops.aten.mm.default", "torch.ops.aten.gelu.default")
    assert case.input_sets[0].storages[0].values.items == tuple(x.flatten().tolist())
    assert not candidates.notes

    traced = torch.fx.symbolic_trace(
        torch.nn.Sequential(OrderedDict(first=torch.nn.Linear(3, 2), then=torch.nn.ReLU()))
    )
    text = after_dynamo.generate_dynamo_fx_repro_string(traced, [x], "aot_eager")
    (tmp_path / "repro.py").write_text(text)
    candidates = Candidates(Request(str(tmp_path / "repro.py"), "", "", "", str(tmp_path), ""))
    read(tmp_path / "repro.py", "", candidates)
    case = case_of(candidates)
    assert case.setting == Setting("aot_eager", mode="training")
    assert len(case.program.inputs) == 3


def test_a_script_that_shakeout_printed_is_the_case_again(tmp_path: Path) -> None:
    setting = Setting("inductor", (("epilogue_fusion", False),))
    case = capture(lambda x, y: (x @ y).relu(), lambda: [torch.ones(2, 3), torch.ones(3, 2)], setting=setting)
    file = tmp_path / "repro.py"
    file.write_text(repro(case, limit=60))
    candidates = Candidates(Request(str(file), "", "", "", str(tmp_path), ""))
    read(file, "", candidates)
    again = case_of(candidates)
    assert (again.program, again.setting) == (case.program, case.setting)


@pytest.mark.parametrize("form", ["long", "short"])
def test_a_printed_script_brings_its_cotangent_and_its_operators(form: str, tmp_path: Path) -> None:
    operator = replace(regions.custom().calls[1], args=((Ref(0), Ref(3)), (1,)))
    calls = (regions.call("torch.clone", Ref(1)), operator, regions.call("torch.mul", Ref(2), Ref(3)))
    program = Program((Input(regions.TWO),) * 3, calls, (5, 4))
    case = regions.fed(program, "inductor", "training")
    (inputs,) = case.input_sets
    # The operator is given what asks for no gradient, since it has no formula for one.
    views = (*inputs.views[:2], replace(inputs.views[2], requires_grad=True))
    setting = replace(case.setting, cotangent="transposed")
    case = Case(program, (replace(inputs, views=views),), setting)
    told = short_of(setting)
    assert told is not None
    text = repro(case, limit=60) if form == "long" else short(case, told.prepare)
    assert text is not None
    file = tmp_path / "repro.py"
    file.write_text(text)
    candidates = Candidates(Request(str(file), "", "", "", str(tmp_path), ""))
    read(file, "", candidates)
    again = case_of(candidates)
    assert again.setting == case.setting
    assert again.program.operators() == case.program.operators()
    assert codec.decode(again.text) == again
