"""Programs of ``torch.export.save`` become cases, and are read as data whatever is in them."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shakeout.corpus.case import Setting
from shakeout.corpus.intake.archive import exported
from shakeout.corpus.intake.capturing import Captured, capture
from shakeout.corpus.intake.refusal import NotCaptured
from shakeout.fuzz.intake.compiled import Candidates
from shakeout.fuzz.intake.files import CannotRead, read
from shakeout.fuzz.intake.told import Request


class Model(nn.Module):
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("scale", torch.full((2,), 2.0), persistent=False)

    def forward(self, x: torch.Tensor, *, n: int = 2) -> dict[str, Any]:
        with torch.no_grad():
            total = x.sum()
        first, second = (self.norm(self.linear(x)) * n + self.scale + total).chunk(2, 1)
        return {"first": first, "rest": [second.to(torch.float16)]}


class Symbolic(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x.view(x.shape[0] * 2, -1).sum(0), torch.arange(x.shape[0])


def saved(folder: Path, module: nn.Module, *args: Any, **more: Any) -> Path:
    path = folder / "program.pt2"
    torch.export.save(torch.export.export(module, args, **more), path)
    return path


def captured(path: Path) -> Captured:
    program = exported(path)
    args, kwargs = program.example
    return capture(program, args, kwargs, setting=Setting("eager"))


def test_an_exported_program_is_the_same_program(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Model(), torch.randn(4, 3)
    path = saved(tmp_path, module, x)
    found = captured(path)
    operators = found.case.program.operators()
    assert operators[:3] == ("torch.no_grad", "torch.ops.aten.sum.default", "torch.ops.aten.linear.default")
    roles = [given.role for given in found.case.program.inputs]
    assert roles.count("input") == 4  # x, and what batch normalisation writes to
    assert found.case.setting.mode == "inference"
    want = module(x)
    got = exported(path)(x)
    assert torch.equal(got[0], want["first"])
    assert torch.equal(got[1], want["rest"][0])


def test_sizes_that_are_symbolic_are_those_of_the_example(tmp_path: Path) -> None:
    path = saved(tmp_path, Symbolic(), torch.randn(4, 6), dynamic_shapes=({0: torch.export.Dim("b")},))
    assert captured(path).case.program.operators() == (
        "torch.ops.aten.view.default",
        "torch.ops.aten.sum.dim_IntList",
        "torch.ops.aten.arange.default",
    )


def test_a_decomposed_program_writes_its_buffers(tmp_path: Path) -> None:
    path = tmp_path / "program.pt2"
    program = torch.export.export(Model(), (torch.randn(4, 3),)).run_decompositions()
    torch.export.save(program, path)
    assert "torch.Tensor.copy_" in captured(path).case.program.operators()


def test_a_file_is_a_candidate_like_any_other(tmp_path: Path) -> None:
    path = saved(tmp_path, nn.ReLU(), torch.randn(3))
    candidates = Candidates(Request(str(path), "", "", "", str(tmp_path), ""))
    read(path, "", candidates)
    assert [one.label for one in candidates.found] == ["program.pt2"]
    (tmp_path / "bad.pt2").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(CannotRead, match=r"bad.pt2 is no file of torch.export.save"):
        read(tmp_path / "bad.pt2", "", candidates)


# --- hostile ones -----------------------------------------------------------------------------------------------------


def changed(path: Path, member: str, change: Callable[[Any], Any]) -> Path:
    """The file with one of its members changed: JSON as values, others as bytes."""
    other = path.with_name("hostile.pt2")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.partition("/")[2] == member:
                data = json.dumps(change(json.loads(data))).encode() if member.endswith(".json") else change(data)
            target.writestr(name, data)
    return other


def with_target(name: str) -> Callable[[Any], Any]:
    def change(model: Any) -> Any:
        model["graph_module"]["graph"]["nodes"][0]["target"] = name
        return model

    return change


@pytest.mark.parametrize(
    "target",
    ["os.system", "torch.ops.aten.from_file.default", "torch.ops.aten.set_.source_Tensor", "builtins.eval",
     "_operator.attrgetter", "torch.load", "torch.ops.prims.sin.default", "torch.ops.higher_order.cond"],
)  # fmt: skip
def test_only_operators_of_a_case_are_called(target: str, tmp_path: Path) -> None:
    path = changed(saved(tmp_path, nn.ReLU(), torch.randn(3)), "models/model.json", with_target(target))
    with pytest.raises(NotCaptured, match="is not an operator of a case"):
        captured(path)


def test_expressions_are_not_evaluated(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = f"__import__('pathlib').Path({str(ran)!r}).touch()"

    def change(model: Any) -> Any:
        model["range_constraints"] = {code: {"min_val": 0, "max_val": 4}}
        model["guards_code"] = [code]
        for value in model["graph_module"]["graph"]["tensor_values"].values():
            value["sizes"] = [{"as_expr": {"expr_str": code, "hint": {"as_int": 4}}}, {"as_int": 6}]
        return model

    path = saved(tmp_path, Symbolic(), torch.randn(4, 6), dynamic_shapes=({0: torch.export.Dim("b")},))
    captured(changed(path, "models/model.json", change))
    assert not ran.exists()


def test_pickles_are_not_read(tmp_path: Path) -> None:
    import io
    import pickle  # noqa: TID251

    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (ran,))

    def pickled(config: Any) -> Any:
        for entry in config["config"].values():
            entry["use_pickle"] = True
        return config

    path = saved(tmp_path, nn.Linear(3, 2), torch.randn(4, 3))
    with pytest.raises(NotCaptured, match="is pickled in the file, and nothing is unpickled"):
        captured(changed(path, "data/weights/model_weights_config.json", pickled))
    buffer = io.BytesIO()
    torch.save(Evil(), buffer)
    assert pickle.dumps(Evil())  # it is one that would run
    program = exported(changed(path, "data/sample_inputs/model.pt", lambda data: buffer.getvalue()))
    assert not ran.exists()
    assert any("random ones are taken" in note for note in program.notes)
    assert [tensor.shape for tensor in program.example[0]] == [torch.Size((4, 3))]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: {},
        lambda model: [],
        lambda model: {"graph_module": {"graph": {}, "signature": {"input_specs": [3], "output_specs": []}}},
        lambda model: {"graph_module": {**model["graph_module"], "signature": {"input_specs": [], "output_specs": []}}},
    ],
)
def test_a_damaged_file_says_so(change: Callable[[Any], Any], tmp_path: Path) -> None:
    path = changed(saved(tmp_path, nn.ReLU(), torch.randn(3)), "models/model.json", change)
    with pytest.raises(NotCaptured):
        captured(path)
