"""Scripts, tests and notebooks that people hand over: what is found in them, and what is said of it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.imported import case_of, found

from shakeout.corpus import codec
from shakeout.corpus.case import Setting
from shakeout.fuzz.intake import compiled, reader
from shakeout.fuzz.intake.compiled import KINDS, TRIED, Candidates
from shakeout.fuzz.intake.files import CannotRead, read
from shakeout.fuzz.intake.importing import import_file
from shakeout.fuzz.intake.told import Request, Told
from shakeout.fuzz.intake.wanted import Wanted
from shakeout.fuzz.running.execute import execute
from shakeout.oracles.verdict import Outcome


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("bug", "repro"):
        monkeypatch.delitem(sys.modules, name, raising=False)


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
        # What changes no program is not spoken of; tests of this process have set it as well, as workers do.
        setting, notes = Wanted(options={"run_gc_after_compile": False}).setting()
    assert setting.knobs == (("cpp.simdlen", 1), ("max_fusion_size", 4))
    assert notes == ["torch._inductor.config cpp.threads=3 is no knob of inductor and is left at its default"]


def test_another_target_gets_none_of_the_knobs() -> None:
    setting, notes = Wanted(options={"epilogue_fusion": False}).setting("export")
    assert setting == Setting("export")
    assert notes == ["it was compiled for inductor, whose knobs are left behind"]
    assert Wanted(options={"run_gc_after_compile": False}).setting("export") == (Setting("export"), [])
    assert Wanted(backend="somebodys").setting()[1] == ["the backend 'somebodys' is no target; inductor is taken"]


def test_a_graph_break_that_is_asked_for_is_told(tmp_path: Path) -> None:
    """And of ``fullgraph=True`` what becomes of a graph break: neither is a part of the case."""
    text = (
        "from torch._dynamo import graph_break\ndef f(x):\n    x = x.sin()\n    graph_break()\n    return x.cos()\n"
        "torch.compile(f, backend='eager')(torch.ones(2))\n"
        "torch.compile(torch.sin, fullgraph=True)(torch.ones(2))\n"
    )
    candidates = found(tmp_path, text)
    broken, whole = candidates.found
    assert codec.decode(broken.case).program.operators() == ("torch.Tensor.sin", "torch.Tensor.cos")
    (note,) = broken.notes
    assert note.endswith("bug.py:7: a graph break is asked for, and left out; the case is compiled in one piece")
    assert whole.notes == ("of fullgraph=True: that a graph breaks is no finding without --refusals",)


def test_a_script_that_compiles_a_hundred_functions_gives_some_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "MOST", 3)
    candidates = found(tmp_path, "for n in range(100):\n    torch.compile(lambda x, n=n: x + n)(torch.ones(1))\n")
    assert len(candidates.found) == 3
    assert candidates.notes == ["more is compiled; at most 3 are taken"]


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


AHEAD = """
from torch import _export, _inductor
model = nn.Linear(3, 2).eval()
x = torch.ones(4, 3)
program = torch.export.export(model, (x,))
path = _inductor.aoti_compile_and_package(program, package_path="a.pt2", inductor_configs={"epilogue_fusion": False})
want = model(x)
assert torch.equal(_inductor.aoti_load_package("a.pt2")(x), want)
other = _inductor.aoti_compile_and_package(program.run_decompositions())
assert torch.equal(_inductor.aoti_load_package(other)(x), want)
library = _export.aot_compile(model, (x,))
assert torch.equal(_export.aot_load(library, "cpu")(x), want)
assert not any(__import__("os").path.exists(one) for one in (path, other, library))
"""


def test_what_a_script_compiles_ahead_of_time_is_a_case_for_inductor(tmp_path: Path) -> None:
    """With the options that are knobs; nothing is compiled, and what is loaded computes what it would."""
    candidates = found(tmp_path, AHEAD)
    assert not candidates.refused
    assert not candidates.notes
    assert [one.label for one in candidates.found] == [
        "Linear (bug.py:8)",
        "Linear (bug.py:9)",
        "exported program (bug.py:12)",
        "Linear (bug.py:14)",
    ]
    exported, packaged, decomposed, library = (codec.decode(one.case) for one in candidates.found)
    assert exported.setting == Setting("export")
    assert packaged.setting == Setting("inductor", (("epilogue_fusion", False),))
    assert packaged.program == exported.program == library.program
    assert all(name.startswith("torch.ops.aten.") for name in decomposed.program.operators())
    for one in candidates.found[1:]:
        assert any("AOTInductor is no target" in note for note in one.notes)


STEP = """
import torch.nn.functional as F

net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

@torch.compile(backend="aot_eager")
def step(x, y):
    opt.zero_grad()
    loss = F.mse_loss(net(x), y) / 2
    try:
        loss.backward()
    except Exception:
        raise SystemExit("nothing of the user's is to take the end")
    opt.step()
    return loss

@torch.compile(backend="aot_eager")
def backward(loss):
    loss.backward()

for _ in range(2):
    step(torch.ones(3, 4), torch.ones(3, 1))
backward(net(torch.ones(3, 4)).sum())
assert net[0].weight.grad is not None
"""


def test_of_a_step_of_training_what_computes_the_loss_is_a_case(tmp_path: Path) -> None:
    """As graph capture has it, which ends its graph at the backward pass; of that alone there is nothing to compile."""
    candidates = found(tmp_path, STEP)
    assert not candidates.notes
    (one,) = candidates.found
    case = codec.decode(one.case)
    assert (case.setting.target, case.setting.mode) == ("aot_eager", "training")
    assert [given.role for given in case.program.inputs].count("parameter") == 4
    assert case.program.operators()[-2:] == ("torch.nn.functional.mse_loss", "torch.Tensor.div")
    assert any("bug.py:15: the backward pass ends" in note for note in one.notes)
    assert execute(case).outcome is Outcome.PASS
    (refused,) = candidates.refused
    assert "bug.py:23: " in refused.reason
    assert "hand over what computes the loss" in refused.reason


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
