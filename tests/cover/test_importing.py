"""Files that people hand over: what is found in them, what is said of it, and what is refused in words."""

import json
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests import regions

from shakeout.corpus import blobs, codec
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.program import Input, Program, Ref
from shakeout.corpus.short_script import short
from shakeout.fuzz.cli import main
from shakeout.fuzz.ground import child
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.origin import read_origin, write_origin
from shakeout.fuzz.intake import checking, reader
from shakeout.fuzz.intake.compiled import KINDS, MOST, TRIED, Candidates
from shakeout.fuzz.intake.files import CannotRead, read
from shakeout.fuzz.intake.importing import CannotImport, import_file
from shakeout.fuzz.intake.told import Request, Told
from shakeout.fuzz.intake.wanted import Wanted
from shakeout.fuzz.running import fresh
from shakeout.fuzz.running.case_file import read_case
from shakeout.fuzz.running.execute import execute, repro
from shakeout.fuzz.running.fresh import Replay
from shakeout.oracles.verdict import Outcome
from shakeout.targets.registry import short as short_of


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("bug", "repro"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def found(folder: Path, text: str, name: str = "", target: str = "", mode: str = "") -> Candidates:
    """What is in a file with this text, read in this process."""
    file = folder / "bug.py"
    file.write_text(f"import torch\nfrom torch import nn\n\n{text}")
    candidates = Candidates(Request(str(file), name, target, mode, str(folder), ""))
    read(file, name, candidates)
    return candidates


def case_of(candidates: Candidates) -> Case:
    assert not candidates.refused
    (one,) = candidates.found
    return codec.decode(one.case)


# --- a script ---------------------------------------------------------------------------------------------------------

SCRIPT = """
def function(x, y):
    return x @ y

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
    def forward(self, x, *, scale=1.0):
        return self.linear(x) * scale

@torch.compile(backend="aot_eager", dynamic=True)
def decorated(x):
    return x.sin()

if __name__ == "__main__":
    model = Model().eval()
    compiled = torch.compile(model, mode="max-autotune-no-cudagraphs", fullgraph=True)
    with torch.no_grad():
        compiled(torch.ones(4, 3), scale=2.0)
        compiled(torch.ones(4, 3), scale=2.0)
        assert compiled.linear is model.linear
    decorated(torch.ones(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        options = {"epilogue_fusion": False, "max_autotune": True}
        torch.compile(function, options=options)(torch.ones(2, 2), torch.ones(2, 2))
    model.compile(backend="eager")
    model(torch.ones(1, 3))
    raise ValueError("what the script is about")
"""


def test_a_script_gives_what_it_compiles_with_its_real_arguments(tmp_path: Path) -> None:
    candidates = found(tmp_path, SCRIPT)
    assert not candidates.refused
    labels = [one.label for one in candidates.found]
    assert labels == ["Model (bug.py:21)", "decorated (bug.py:15)", "function (bug.py:29)", "Model (bug.py:30)"]
    model, decorated, function, compiled = (codec.decode(one.case) for one in candidates.found)
    assert (model.setting.target, model.setting.mode) == ("inductor", "inference")
    assert [given.role for given in model.program.inputs] == ["input", "parameter", "parameter"]
    assert decorated.setting == Setting("aot_eager", (("dynamic", True),))
    assert function.setting.knobs == (("epilogue_fusion", False),)
    assert [call.operator for call in function.program.around] == ["torch.autocast"]
    assert compiled.setting.target == "dynamo"
    assert any("max_autotune=True is no knob of inductor" in note for note in candidates.found[2].notes)
    assert "Model (bug.py:21) is called 2 times; the first is taken" in candidates.done()
    assert any("the script raises ValueError: what the script is about" in note for note in candidates.notes)


def test_switches_of_configuration_are_knobs(tmp_path: Path) -> None:
    import torch._inductor.config as config

    with config.patch({"max_fusion_size": 4, "cpp.simdlen": 1, "cpp.threads": 3}):
        setting, notes = Wanted().setting()
    assert setting.knobs == (("cpp.simdlen", 1), ("max_fusion_size", 4))
    assert notes == ["torch._inductor.config cpp.threads=3 is no knob of inductor and is left at its default"]


def test_another_target_gets_none_of_the_knobs() -> None:
    setting, notes = Wanted(options={"epilogue_fusion": False}).setting("export")
    assert setting == Setting("export")
    assert notes == ["it was compiled for inductor, whose knobs are left behind"]
    assert Wanted().setting("export") == (Setting("export"), [])
    assert Wanted(backend="somebodys").setting()[1] == ["the backend 'somebodys' is no target; inductor is taken"]


@pytest.mark.long
def test_a_script_that_compiles_a_hundred_functions_gives_some_and_says_so(tmp_path: Path) -> None:
    candidates = found(tmp_path, "for n in range(100):\n    torch.compile(lambda x, n=n: x + n)(torch.ones(1))\n")
    assert len(candidates.found) == MOST
    assert candidates.notes == [f"more is compiled; at most {MOST} are taken"]


def test_what_a_script_exports_is_a_case_for_export(tmp_path: Path) -> None:
    text = (
        "from torch.export import Dim, export\nmodel = nn.Linear(3, 2)\n"
        "program = export(model, (torch.ones(4, 3),), dynamic_shapes=({0: Dim('n')},))\n"
        "assert program.module()(torch.ones(5, 3)).shape == (5, 2)\n"
    )
    candidates = found(tmp_path, text)
    case = case_of(candidates)
    assert case.setting == Setting("export")
    assert case.program.operators() == ("torch.nn.functional.linear",)
    (note,) = candidates.notes
    assert note.startswith("Linear (bug.py:6): dynamic_shapes are left behind")


def test_further_calls_with_other_values_are_calls_of_the_case(tmp_path: Path) -> None:
    text = (
        "linear = nn.Linear(2, 2)\nfast = torch.compile(linear)\n"
        "with torch.no_grad():\n    for n in range(8):\n        fast(torch.full((2, 2), float(n % 3)))\n"
        "    fast(torch.ones(3, 2))\n"
    )
    candidates = found(tmp_path, text)
    assert not candidates.refused
    assert [one.label for one in candidates.found] == ["Linear (bug.py:5)", "Linear (bug.py:5), call 9"]
    case, other = (codec.decode(one.case) for one in candidates.found)
    assert [inputs.storages[0].values.items[0] for inputs in case.input_sets] == [0.0, 1.0, 2.0]
    assert other.program.inputs[0].type.shape == (3, 2)
    assert candidates.done() == ["Linear (bug.py:5) is called 9 times; 4 with different values are taken"]
    assert execute(case.on("eager")).outcome is Outcome.PASS


def test_a_thousand_calls_and_a_hundred_sizes_cost_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    own = Candidates._captured
    monkeypatch.setattr(Candidates, "_captured", lambda *given: tried.append(given) or own(*given))  # type: ignore[func-returns-value]
    text = (
        "def f(x):\n    return x.sin()\nfast = torch.compile(f)\n"
        "for n in range(1000):\n    fast(torch.ones(2))\nfor n in range(100):\n    fast(torch.ones(n))\n"
    )
    candidates = found(tmp_path, text)
    assert len(candidates.found) == KINDS
    assert len(tried) < KINDS + TRIED
    assert len(candidates.done()) == 1


def test_what_is_refused_does_not_keep_the_rest_back(tmp_path: Path) -> None:
    text = (
        "def bad(x):\n    return x * x.sum().item()\n"
        "torch.compile(bad)(torch.ones(2))\ntorch.compile(torch.sin)(torch.ones(2))\n"
    )
    candidates = found(tmp_path, text)
    assert len(candidates.found) == 1
    (refused,) = candidates.refused
    assert refused.label == "bad (bug.py:6)"
    assert "bug.py:5: item makes a plain value" in refused.reason
    assert "return x * x.sum().item()" in refused.reason


TESTS = """
import pytest
import torch
import torch._dynamo as dynamo

@pytest.mark.parametrize("dim", [0, 1])
def test_softmax(dim):
    fast = dynamo.optimize("aot_eager", nopython=True)(lambda x: x.softmax(dim))
    assert fast(torch.ones(2, 3)).sum() == -1  # what the report is about

def test_raises():
    with pytest.raises(ZeroDivisionError):
        torch.compile(lambda x: x / 0 if x.dim() == 1 else 1 / 0)(torch.ones(2, 2))
"""


def test_tests_that_a_file_defines_are_run_by_pytest(tmp_path: Path) -> None:
    """In a process of its own; with the older way to compile, which is taken as well."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --an-option-of-somebodys\n")
    file = tmp_path / "bug.py"
    file.write_text(TESTS)
    told = import_file(file, output=tmp_path / "out", seconds=240, memory=8 << 30)
    assert [one.case.setting.target for one in told.cases] == ["aot_eager", "aot_eager"]
    assert [one.case.program.operators() for one in told.cases] == [("torch.Tensor.softmax",)] * 2
    (refused,) = told.refused
    assert "the function raises ZeroDivisionError" in refused.reason


def test_a_test_is_named_like_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(arguments: list[str]) -> int:
        asked.append(arguments)
        return 5

    monkeypatch.setattr(pytest, "main", run)
    text = "def test_it():\n    pass\n"
    with pytest.raises(CannotRead, match=r"test_it was run by pytest \(are none\), and nothing"):
        found(tmp_path, text, "test_it")
    with pytest.raises(CannotRead, match="were run by pytest"):
        found(tmp_path, text)
    assert [one[-1] for one in asked] == [f"{tmp_path}/bug.py::test_it", f"{tmp_path}/bug.py"]


def test_a_script_may_take_its_directory_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # and back, whatever becomes of it
    file = tmp_path / "bug.py"
    file.write_text(
        "import os, torch\nos.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "torch.compile(torch.sin)(torch.ones(2))\n"
    )
    told = reader._read(Request(str(file), "", "", "", str(tmp_path), ""))
    assert [one.label for one in told.found] == ["sin (bug.py:3)"]


def test_a_notebook_is_its_cells_of_code(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# what is wrong"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "  !pip install torch\n", "import torch"]},
        {"cell_type": "code", "source": "def f(x):\n    return x.sin()\n\ntorch.compile(f)(torch.ones(2))"},
        {"cell_type": "code", "source": '%%bash\nrm -r "$HOME/nothing'},
        {
            "cell_type": "code",
            "source": "%%time\nfor i in range(2):\n    %time f(i)\n    last = i\n    !ls",
        },
        {"cell_type": "code", "source": "text = ('''\n!%d\u2028'''\n  % last)\nassert text == '\\n!1\\u2028'"},
    ]
    file = tmp_path / "bug.ipynb"
    for text, said in [
        (json.dumps({"cells": cells[:1]}), "has no cells of code"),
        ("{", "is no notebook"),
        ("[1]", "is no notebook"),
        ("[" * 100_000, "is no notebook"),
        (json.dumps({"cells": cells}), ""),
    ]:
        file.write_text(text)
        candidates = Candidates(Request(str(file), "", "", "", str(tmp_path), ""))
        if said:
            with pytest.raises(CannotRead, match=said):
                read(file, "", candidates)
        else:
            read(file, "", candidates)
            assert case_of(candidates).program.operators() == ("torch.Tensor.sin",)
            assert candidates.notes == []  # nothing was raised


CUDA = """import torch\f
assert len("a cuda") == 6  # a string that names no device
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 2, device='cuda:1')
    def forward(self, x):
        return self.linear(x).to("cuda") + torch.ones(2, device=x.device)
model = Model().cuda().eval()
with torch.autocast(device_type="cuda", dtype=torch.bfloat16), torch.no_grad():
    torch.compile(model)(torch.randn(3, 2, device="cuda"))
torch.cuda.synchronize()
done = 1 / 0
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="what a machine without a GPU says")
def test_a_script_for_a_gpu_runs_on_the_cpu_if_somebody_says_so(tmp_path: Path) -> None:
    file = tmp_path / "bug.py"
    file.write_text(CUDA)
    request = Request(str(file), "", "", "", str(tmp_path / "scratch"), "")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(CannotRead, match=r"with --cpu it runs on the CPU\)\n  .*bug.py:6"):
        read(file, "", Candidates(request))
    candidates = Candidates(replace(request, cpu=True))
    read(file, "", candidates)
    case = case_of(candidates)
    assert candidates.found[0].label == "Model (bug.py:11)"
    assert (case.setting.device, case.setting.mode) == ("cpu", "inference")
    assert [str(call.args) for call in case.program.around] == ["('cpu',)"]
    (note,) = candidates.notes
    assert "bug.py:13: the script raises ZeroDivisionError" in note
    assert Told(notes=(note,)).without(f"{tmp_path}/scratch/").notes[0].startswith("bug.py:13")
    assert file.read_text() == CUDA


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


# --- the commands -----------------------------------------------------------------------------------------------------

TO_IMPORT = """
import torch
from torch import nn
def case():
    print("said by the file")
    torch.manual_seed(0)
    return nn.Linear(40, 20), (torch.randn(2, 40),)
"""


def test_import_writes_a_case_that_other_commands_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(blobs.VARIABLE, "")
    Path("bug.py").write_text(TO_IMPORT)
    assert main(["import", "bug.py:case", "--target", "eager"]) == Exit.OK
    out, err = capsys.readouterr()
    assert "running bug.py in a process of its own" in err
    assert "said by the file" not in out
    (file,) = Path("imported").glob("*/case.json")
    assert f"case    {file}" in out
    case = read_case(file, None)
    assert case.id == file.parent.name
    assert out.startswith(f"{case.id}  case (bug.py): 1 operator, 3 inputs, training, eager")
    assert (file.parent / "blobs").is_dir()
    assert read_origin(file.parent) == "bug.py"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import", "absent.py"], "'absent.py' is no file"),
        (["import", "folder.py"], "'folder.py' is no file"),
        (["import", "case.json"], "expected a Python file"),
        (["import", "bug.py:a-b"], "expected FILE:NAME with a name of Python"),
        (["import", "bug.py", "--seconds", "0"], "--seconds: expected a positive number"),
        (["import", "bug.py", "--target", "absent"], "absent"),
        (["check", "bug.py", "--target", "absent"], "absent"),
    ],
)
def test_bad_arguments_are_told_before_anything_runs(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("case.json").write_text("{}")
    Path("folder.py").mkdir()
    Path("bug.py").write_text("open('ran', 'w')\n")
    assert main(arguments) == Exit.USAGE
    assert said in capsys.readouterr().err
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("text", "limits", "said"),
    [
        ("import time\nprint('before')\ntime.sleep(60)\n", {"seconds": 1.0}, "took longer than 1 s and was ended"),
        ("import os\nprint('before', flush=True)\nos.abort()\n", {}, "ended its process with SIGABRT\n"),
        ("import os\nos._exit(7)\n", {}, "ended its process with status 7"),
        ("held = bytearray(1 << 30)\nimport time\ntime.sleep(60)\n", {"memory": 700 << 20}, "and was ended: it held"),
    ],
)
def test_a_file_that_hangs_crashes_or_takes_all_memory_is_ended_and_told(
    text: str, limits: dict, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "bug.py"
    file.write_text(text)
    with pytest.raises(CannotImport) as caught:
        import_file(file, output=tmp_path / "out", **{"seconds": 120.0, "memory": 8 << 30, **limits})
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_defect_of_ours_is_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from shakeout.fuzz.intake import importing

    monkeypatch.setattr(importing, "_told", lambda *given: Told(problem="SHAKEOUT-INTERNAL KeyError: 3"))
    (tmp_path / "bug.py").write_text("")
    assert main(["import", str(tmp_path / "bug.py")]) == Exit.INTERNAL
    assert "SHAKEOUT-INTERNAL RuntimeError: KeyError: 3" in capsys.readouterr().err


def test_pickles_are_not_read_whoever_asks(tmp_path: Path) -> None:
    import pickle  # noqa: TID251

    class Evil:
        def __reduce__(self) -> tuple:
            return (Path(tmp_path / "ran").touch, ())

    with (tmp_path / "weights.pt").open("wb") as file:
        pickle.dump(Evil(), file)
    (tmp_path / "bug.py").write_text(
        f"import torch\nstate = torch.load({str(tmp_path / 'weights.pt')!r}, weights_only=False)\n"
    )
    with pytest.raises(CannotImport):
        import_file(tmp_path / "bug.py", output=tmp_path / "out", seconds=120, memory=8 << 30)
    assert not (tmp_path / "ran").exists()


def test_a_command_that_holds_too_much_memory_is_ended() -> None:
    command = [sys.executable, "-c", "held = bytearray(300 << 20)\nimport time\ntime.sleep(60)"]
    with pytest.raises(child.OutOfMemory):
        child.run(command, 60, subprocess.DEVNULL, environment={}, memory=200 << 20)


def test_what_is_told_is_json() -> None:
    from shakeout.fuzz.intake.told import Found, Refused

    told = Told((Found("a", "{}", ("b",)),), (Refused("c", "d"),), ("e",), "f")
    assert Told.from_json(json.loads(json.dumps(told.to_json()))) == told


# --- in Python --------------------------------------------------------------------------------------------------------


def test_a_test_suite_hands_its_failing_example_over_in_one_line(tmp_path: Path) -> None:
    import shakeout

    module = torch.nn.Linear(40, 20).eval()
    x = torch.randn(2, 40)
    case = shakeout.capture(module, x, knobs={"epilogue_fusion": False}, directory=tmp_path)
    assert case.setting == Setting("inductor", (("epilogue_fusion", False),))
    assert read_case(tmp_path / "case.json", None) == case
    with pytest.raises(ValueError, match="has no knob 'absent'"):
        shakeout.capture(module, x, knobs={"absent": 1})
    with pytest.raises(ValueError, match="absent"):
        shakeout.check(module, x, targets=["absent"])
    with pytest.raises(ValueError, match=r"test_importing\.py"):
        shakeout.capture(lambda x: x * x.sum().item(), x)


def test_check_asks_targets_in_fresh_processes(tmp_path: Path) -> None:
    import shakeout

    (seen,) = shakeout.check(lambda x: x * 0, torch.tensor([float("nan"), 1.0]), targets=["aot_eager"])
    assert (seen.target, seen.status) == ("aot_eager", "agrees")


def test_targets_are_asked_side_by_side_and_told_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the others to have begun; whoever gives up ends what still runs."""
    names = ["export", "aot_eager", "dynamo"]
    begun, ended = threading.Barrier(3, timeout=60), []

    def answer(case: Case, seconds: float, stop: Callable[[], bool]) -> Replay:
        begun.wait()
        if case.setting.target == "dynamo":
            while not stop():
                time.sleep(0.01)
            ended.append(case.setting.target)
        return Replay(0, ("no difference",))

    monkeypatch.setattr(fresh, "answer", answer)
    monkeypatch.setattr(checking, "at_a_time", lambda: 3)
    case = capture(torch.sin, lambda: [torch.ones(2)], setting=Setting("eager"))
    asked = checking.check_case(case, names, 60.0)
    assert [next(asked).target, next(asked).target] == names[:2]
    assert isinstance(asked, Generator)
    asked.close()
    assert ended == ["dynamo"]


def test_a_report_says_that_a_person_brought_it(tmp_path: Path) -> None:
    from shakeout.fuzz.reporting.draft import Draft
    from shakeout.fuzz.reporting.exported import Exported
    from shakeout.fuzz.reporting.forms import written

    case = capture(torch.sin, lambda: [torch.ones(2)], setting=Setting("inductor"))
    script = Exported("pass", "short", True, "exit status 1", "")
    for brought, said in [("bug.py", "A person brought it (bug.py)"), ("", "It was found by a fuzzer")]:
        assert said in written(Draft("a title", case, False, script, brought=brought), "pytorch")
    assert read_origin(tmp_path) == ""
    write_origin(tmp_path, "bug.py", "f (bug.py:3)", ["a note"])
    assert read_origin(tmp_path) == "bug.py"
    (tmp_path / "origin.json").write_text("[3]")
    assert read_origin(tmp_path) == ""
