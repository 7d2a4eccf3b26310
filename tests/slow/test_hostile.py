"""A thousand hostile case files: nothing of them is executed, imported, written or started; each is told in a line."""

import copy
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from shakeout.corpus import codec, known, regressions

FILES = 1000
HERE = Path(__file__).parent

#: Modules that lie in the working directory or in the library, which only a file could ask for.
MODULES = ["evil", "evil_package", "antigravity", "this", "turtledemo"]

OPERATORS = """
    torch.os.system torch.sys.exit torch.load torch.save torch.from_file torch.hub.load torch.hub.download_url_to_file
    torch.utils.cpp_extension.load torch.utils.cpp_extension.load_inline torch.classes.load_library torch.compile
    torch.ops.load_library torch.ops.import_module torch.ops.aten.from_file torch.ops.aten.from_file.default
    torch.ops.aten.from_file.out torch.ops.aten.save torch.ops.aten.save.default torch.ops.aten.set_.source_Storage
    torch.ops.aten.warn.default torch.ops.aten.__getattr__ torch.ops.aten.add.Tensor.__call__ torch.ops.prims.add
    torch.ops.mylib.run.default torch.jit.load torch.package.PackageImporter torch.serialization.load
    torch.import_ir_module torch.Tensor.numpy torch.Tensor.apply_ torch.Tensor.register_hook
    torch.Tensor.__reduce_ex__ torch.Tensor.share_memory_
    torch.nn.functional.handle_torch_function torch.nn.functional.torch.load torch.multiprocessing.spawn
    torch._C._jit_get_all_schemas torch.__builtins__ torch.__dict__ torch.importlib.import_module torch.set_num_threads
    os.system os.abort os.kill subprocess.run builtins.eval builtins.exec builtins.open __import__ eval exec open exit
    shutil.rmtree ctypes.string_at sys.exit evil.run evil:run evil_package.inner:run os:system antigravity:fly this:s
    builtins:eval subprocess:run shakeout.fuzz.cli:main shakeout:__main__ torch:load torch.os:system
    torch.relu; torch.relu() torch.relu\n torch.\uff52elu torch.relu\x00 lambda:0 torch.for torch..relu
    :x x: evil:import
""".split(" ")
OPERATORS = [name for text in OPERATORS for name in text.split("\n") if name.strip()] + [
    "torch.relu\n",
    "torch.relu #",
    "torch.relu(x0); import evil; torch.relu",
    "evil:run\n",
    "",
]
STRINGS = [
    "touch PROOF",
    "PROOF",
    "PROOF.pt",
    "evil.pt",
    "'); open('PROOF', 'w').close(); ('",
    '"); open("PROOF", "w").close(); ("',
    "\\",
    "\n",
    "\x00",
    "\ud800",
    "{x0}",
    "é\u2028\u202e",
    "cuda:0",
    "meta",
    "evil",
    "x" * 5000,
]
NAMES = ["torch.load", "torch.save", "torch.os", "torch.compile", "torch.float33", "torch.relu", "torch.__dict__", "os"]
KEYS = [
    "out",
    "weights_only",
    "generator",
    "if",
    "None",
    "__debug__",
    "self",
    "input",
    "a=1)\nimport evil\n(",
    "\uff44im",
    "",
]
KEYS += ["device", "dtype", "filename", "distance_function", "print", "x0", "torch"]
TARGETS = ["evil:run", "os:system", "evil_package.inner:run", "eager", "eager:x", "inductor", "nothing", "a:b:c", "x-y"]
TARGETS += ["shakeout.fuzz.cli:main", "../evil", "eager\n", "planted", "export", "onnxruntime", "openvino", "tvm", "é"]
KNOBS = [
    "cpp.cxx",
    "trace.debug_dir",
    "post_grad_custom_pre_pass",
    "sanitize",
    "history",
    "dynamic",
    "saved",
    "disabled",
]
KNOBS += [
    "strict",
    "decompositions",
    "optimization",
    "fault",
    "pin_memory",
    "opcheck",
    "a'b",
    "__class__",
    "\uff53aved",
]
NUMBERS = [0, -1, 1, 2, 1 << 28, 1 << 31, 1 << 62, 1 << 64, -(1 << 63), 10**30, 10**400, 0.5, 1e308, True]


def deep(levels: int) -> Any:
    nested: Any = 1
    for _ in range(levels):
        nested = [nested]
    return nested


ARGUMENTS = (
    st.sampled_from(STRINGS)
    | st.sampled_from(NAMES).map(lambda name: {"name": name})
    | st.sampled_from(NUMBERS)
    | st.sampled_from(["nan", "inf", "-inf", "1e3", "evil"]).map(lambda text: {"float": text})
    | st.sampled_from([10**400, 1, {"float": "nan"}, "x"]).map(lambda part: {"complex": [part, 0]})
    | st.sampled_from([-1, 0, 1, 10**9]).map(lambda index: {"ref": index})
    | st.sampled_from([10, 33, 300]).map(deep)
    | st.sampled_from([{}, {"pickle": "x"}, {"slice": [1]}, {"slice": [{"slice": [1, 2, 3]}, None, "x"]}, {"name": 1}])
    | st.just({"ellipsis": True})
    | st.none()
)

BASES = [
    codec.to_json(case)
    for case in [*(bug.case for bug in known.load_all()), *(bug.case for bug in regressions.load_all())]
    if len(case.text) < 3000 and case.setting.device == "cpu"
]


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """A file: a real case with one to three things in it changed, or no case at all."""
    data = copy.deepcopy(draw(st.sampled_from(BASES)))
    changes = draw(st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=3))
    for name in sorted(changes, key=lambda name: name == "_anything"):  # which leaves no tree for the others
        CHANGES[name](draw, data)
    text = json.dumps(data).encode()
    match draw(st.integers(0, 19)):
        case 0:
            place = draw(st.integers(0, len(text)))
            more = draw(st.sampled_from([b"", b"\xff\x00", b"{", b"[" * 100_000, b"1e999", b"NaN"]))
            return text[:place] + more + text[place + draw(st.integers(0, 9)) :]
        case 1:
            binary = bytes(range(256)) * 64
            return draw(st.sampled_from([b"[" * 200_000, b'{"a":' * 100_000, binary, b"9" * 5000, b"null"]))
        case 2:
            return b'{"case": ' + text + b"}"
    return text


def _call(draw: st.DrawFn, data: Any) -> Any:
    calls = data["program"]["calls"]
    return draw(st.sampled_from(calls)) if calls else {"args": [], "kwargs": {}}


def _operator(draw: st.DrawFn, data: Any) -> None:
    call = _call(draw, data)
    call["operator"] = draw(st.sampled_from(OPERATORS))
    if draw(st.booleans()):
        call["args"] = draw(st.lists(ARGUMENTS, max_size=2))
    if draw(st.booleans()):
        data["program"]["vocabulary"] = "kernel"


def _argument(draw: st.DrawFn, data: Any) -> None:
    arguments = _call(draw, data)["args"]
    arguments.insert(draw(st.integers(0, len(arguments))), draw(ARGUMENTS))


def _keyword(draw: st.DrawFn, data: Any) -> None:
    _call(draw, data)["kwargs"][draw(st.sampled_from(KEYS))] = draw(ARGUMENTS)


def _target(draw: st.DrawFn, data: Any) -> None:
    data["setting"]["target"] = draw(st.sampled_from(TARGETS))


def _knob(draw: st.DrawFn, data: Any) -> None:
    data["setting"]["knobs"][draw(st.sampled_from(KNOBS))] = draw(ARGUMENTS)


def _vocabulary(draw: st.DrawFn, data: Any) -> None:
    data["program"]["vocabulary"] = draw(st.sampled_from(["kernel", "os", "evil", "onnx", "torch.os", "é", ""]))


def _anything(draw: st.DrawFn, data: Any) -> None:
    """Any place of the tree, replaced, or left out."""
    place = data
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
            place = place[key]
            continue
        if draw(st.booleans()):
            place[key] = draw(ARGUMENTS | st.sampled_from(["load", "float33", "special", "cuda", [], [-1], {"a": {}}]))
        else:
            del place[key]
        return


def _region(draw: st.DrawFn, data: Any) -> None:
    """A hostile call inside a block, inside a branch inside of one, or in the place of a block around it all."""
    data["format"] = 2
    call = {"operator": draw(st.sampled_from(OPERATORS)), "args": draw(st.lists(ARGUMENTS, max_size=2)), "kwargs": {}}
    call |= {"results": [], "form": "none"}
    if draw(st.booleans()):
        data["program"]["around"] = [call]
        return
    inside = {"parameters": [], "captures": [], "calls": [call], "returns": []}
    for operator in draw(st.sampled_from([["torch.no_grad"], ["torch.cond", "torch.autocast"], ["torch.relu"]])):
        both = [inside, inside] if operator == "torch.cond" else [inside]
        call = {"operator": operator, "args": [], "kwargs": {}, "results": [], "form": "none", "regions": both}
        inside = {"parameters": [], "captures": [], "calls": [call], "returns": []}
    data["program"]["calls"].append(call)


def _blob(draw: st.DrawFn, data: Any) -> None:
    """Values in a file that is not there, or is no file of values."""
    data["format"] = 2
    name = draw(st.sampled_from(["0" * 64, "../evil", "evil.pt", "/etc/passwd", "0" * 63 + "\n", "", "é" * 64]))
    for inputs in data["calls"]:
        for storage in inputs["storages"]:
            storage["values"] = {"kind": "blob", "sha256": name}


CHANGES = {
    one.__name__: one
    for one in (_operator, _argument, _keyword, _target, _knob, _vocabulary, _region, _blob, _anything)
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working directory with modules in it that leave proof of being imported, and a pickle that does."""
    proof = "import pathlib, shakeout\npathlib.Path('PROOF').touch()\n"
    (tmp_path / "evil.py").write_text(proof)
    (tmp_path / "evil_package").mkdir()
    (tmp_path / "evil_package" / "__init__.py").write_text(proof)
    (tmp_path / "evil_package" / "inner.py").write_text(proof)
    (tmp_path / "evil.pt").write_bytes(b"cevil\nrun\n.")
    (tmp_path / "files").mkdir()
    return tmp_path


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "SHAKEOUT_CACHE": str(place / "cache"), "SHAKEOUT_ALLOW": ""}


def test_a_thousand_hostile_files(place: Path) -> None:
    count = 0

    @settings(
        max_examples=FILES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile())
    def write(data: bytes) -> None:
        nonlocal count
        (place / "files" / f"{count:04}.json").write_bytes(data)
        count += 1

    write()
    assert count >= FILES
    before = sorted(place.rglob("*"))
    done = subprocess.run(
        [sys.executable, str(HERE / "audited.py"), "files", *MODULES],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, list[str]] = json.loads(done.stdout)
    assert len(told) == count
    bad = {name: said for name, said in told.items() if len(said) > 1 or not said[0].startswith(("refused: ", *GOOD))}
    assert not bad, json.dumps(dict(list(bad.items())[:20]), indent=1)
    assert sorted(place.rglob("*")) == before
    # The mutations reach what they are meant to reach, and leave cases behind that run.
    counts = Counter(said[0].partition(":")[0] for said in told.values())
    assert counts["refused"] > 500, counts
    assert counts["ran"] + counts["rejected"] > 50, counts


GOOD = ("ran", "read", "rejected: ")


def changed(**call: object) -> dict[str, Any]:
    data = copy.deepcopy(BASES[0])
    data["setting"] |= {"target": "eager", "knobs": {}}
    data["program"]["calls"][0] |= call
    return data


REPLAYED: dict[str, Any] = {
    "a command": changed(operator="torch.os.system", args=["touch PROOF"]),
    "a pickle": changed(operator="torch.load", args=["evil.pt"], kwargs={"weights_only": False}),
    "a file": changed(operator="torch.save", args=[{"ref": 0}, "PROOF"]),
    "a map": changed(operator="torch.ops.aten.from_file.default", args=["PROOF", True, 5]),
    "a callable": changed(kwargs={"distance_function": {"name": "torch.save"}}),
    "a module": {**changed(), "setting": {**changed()["setting"], "target": "evil:run"}},
    "a switch": {**changed(), "setting": {**changed()["setting"], "target": "inductor", "knobs": {"cpp.cxx": "touch"}}},
    "a vocabulary": {**changed(), "program": {**changed()["program"], "vocabulary": "evil"}},
}


#: One process, so that torch is loaded once.
COMMANDS = """
import contextlib, io, json
from pathlib import Path
from shakeout.fuzz.cli import main

told = {}
for file in sorted(Path().glob("case_*.json")):
    for command in ("replay", "minimise", "bisect", "report"):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([command, str(file)])
        told[f"{command} {file}"] = status, out.getvalue(), err.getvalue()
print(json.dumps(told))
"""


def test_what_a_command_does_with_one(place: Path) -> None:
    for number, data in enumerate(REPLAYED.values()):
        (place / f"case_{number}.json").write_text(json.dumps(data))
    before = sorted(place.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told: dict[str, tuple[int, str, str]] = json.loads(done.stdout)
    assert len(told) == 4 * len(REPLAYED)
    for command, (status, out, err) in told.items():
        assert status == 2, (command, err)
        assert err.startswith(f"shakeout: {command.split()[1]}: "), err
        assert err.count("\n") == 1, err
        assert out == ""
    assert sorted(place.rglob("*")) == before
