"""What compilers tell of their passes, and what becomes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.coverage.hits import Hits
from shakeout.fuzz.coverage.passes import PassSource
from shakeout.targets.packages import module_available
from shakeout.targets.witnesses import change


def test_changes_are_told_in_steps() -> None:
    before, after = Counter(add=5, mul=1, relu=2), Counter(add=5, relu=7, exp=1)
    assert change(before, after) == "exp +1, mul -1, relu +8"
    assert change(before, before) == ""


#: What the witness of the next test was given.
told: list[Any] = []


def witness(tell: Any) -> Any:
    tell("patterns", "warm")
    tell("patterns", "warm", False)
    tell("patterns", "other", False)
    tell("counters", "warm: 1")
    told.append(tell)
    return lambda: tell("counters", "after: 2")


def test_what_could_happen_and_what_did_are_each_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "test_coverage_passes", sys.modules[__name__])
    source = PassSource(["test_coverage_passes:witness", "test_coverage_passes:nobody"])
    fine, broken = source.arm()
    assert not fine.reason
    assert "nobody" in broken.reason
    assert source.arm() == ()
    # What its warm-up did, no case did.
    source.before_fork([Hits("passes", "witness", "witness", "patterns", exist=("other",))])

    def hits(kind: str, *keys: str, exist: tuple[str, ...] = ()) -> Hits:
        return Hits("passes", "witness", "witness", kind, keys, exist=exist)

    assert source.take() == (hits("patterns", exist=("warm",)),)
    told[-1]("patterns", "warm")
    told[-1]("patterns", "warm", False)
    told[-1]("effects", "x" * 1000)
    source.end(None, "compared")
    kinds = {one.kind: one for one in source.take()}
    assert kinds["patterns"] == hits("patterns", "warm")
    assert kinds["counters"] == hits("counters", "after: 2")
    assert len(kinds["effects"].keys[0]) < 250
    source.end(None, "compared")
    assert source.take() == ()
    source.before_fork([hits("patterns", "warm")])
    told[-1]("patterns", "warm")
    told[-1]("patterns", "other")
    assert source.take() == (hits("patterns", "other"),)


def test_each_target_has_the_witness_that_it_names() -> None:
    for name in ("inductor", "tvm", "onnxruntime"):
        (found,) = Config(targets=(name,), coverage=True).watched.witnesses
        assert found == f"shakeout.targets.witnesses:{name}"
    assert Config(targets=("inductor",)).watched.witnesses == ()


_MODEL = """
import json, sys
import numpy as np, onnx, onnxruntime
from onnx import helper as h
from shakeout.targets import witnesses

node = [h.make_node("MatMul", ["x", "w"], ["a"]), h.make_node("Add", ["a", "b"], ["c"])]
node += [h.make_node("Relu", ["c"], ["y"])]
given, result = h.make_tensor_value_info("x", 1, [2, 3]), h.make_tensor_value_info("y", 1, [2, 4])
weights = [h.make_tensor("w", 1, [3, 4], [1.0] * 12), h.make_tensor("b", 1, [4], [0.5] * 4)]
model = h.make_model(h.make_graph(node, "g", [given], [result], weights), opset_imports=[h.make_opsetid("", 18)],
                     ir_version=9).SerializeToString()
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
def run():
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.arange(6, dtype=np.float32).reshape(2, 3)})[0].tolist()
plain = run()
told = []
witnesses.onnxruntime(lambda *words: told.append(words))
assert run() == plain
assert options.log_severity_level == 4
print(json.dumps(told))
"""


@pytest.mark.skipif(not module_available("onnxruntime"), reason="onnxruntime is not installed")
def test_transformers_of_onnxruntime_are_told_where_the_errors_go_to_a_file(tmp_path: Path) -> None:
    def run(errors: Any) -> list[Any]:
        done = subprocess.run([sys.executable, "-c", _MODEL], stdout=subprocess.PIPE, stderr=errors, check=True)
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    with (tmp_path / "errors").open("wb") as file:
        rows = run(file)
    assert ["transformers", "MatMulAddFusion", True] in rows
    assert ["transformers", "ConstantFolding", False] in rows
    assert run(subprocess.DEVNULL) == []
