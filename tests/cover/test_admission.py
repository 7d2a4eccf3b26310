"""What a stored case may name: all that Shakeout itself makes, and nothing that reaches beyond tensors."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from shakeout.corpus import canonical, codec, known, regressions, script, user_objects, vocabularies
from shakeout.corpus import capture as capturing
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View
from shakeout.corpus.program import Call, Input, InvalidProgram, Name, Program, Ref, Region, TensorType
from shakeout.corpus.vocabularies import MEMBERS, admission, aten
from shakeout.corpus.vocabularies import torch as words
from shakeout.corpus.vocabularies.admission import NotAdmitted, admit
from shakeout.corpus.vocabularies.structured import STRUCTURES
from shakeout.fuzz import cli
from shakeout.fuzz.ground.exits import Exit
from shakeout.generators.rules.library import library_of_torch
from shakeout.generators.validity import InvalidCandidate, validated
from shakeout.targets.registry import source
from shakeout.targets.target import UnknownKnob

X = TensorType("float32", (3,))

HOSTILE = [
    "torch.os.system",
    "torch.load",
    "torch.save",
    "torch.from_file",
    "torch.hub.load",
    "torch.utils.cpp_extension.load",
    "torch.classes.load_library",
    "torch.ops.load_library",
    "torch.ops.aten.from_file",
    "torch.ops.aten.from_file.default",
    "torch.ops.aten.from_file.out",
    "torch.ops.aten.save.default",
    "torch.ops.aten.set_.source_Storage",
    "torch.ops.aten.manual_seed.default",
    "torch.ops.aten.segment_reduce.default",
    "torch.ops.aten.__class__",
    "torch.ops.aten.add.__class__",
    "torch.ops.aten.add.Tensor.__globals__",
    "torch.ops.prims.add.default",
    "torch.ops.mine.op.default",
    "torch.Tensor.numpy",
    "torch.Tensor.add.__globals__",
    "torch.Tensor.register_hook",
    "torch.nn.functional.torch.load",
    "torch.compile",
    "torch.sys.exit",
    "os.system",
    "builtins.eval",
    "eval",
    "__import__",
]


def program(operator: str, *args: object, vocabulary: str = "torch", **kwargs: object) -> Program:
    call = Call(operator, args or (Ref(0),), tuple(sorted(kwargs.items())), (X,))  # type: ignore[arg-type]
    return Program((Input(X),), (call,), (1,), vocabulary)


def case(one: Program, setting: Setting = Setting("eager")) -> Case:  # noqa: B008
    inputs = InputSet((Storage("float32", 3, Values("integers")),), (View(0, "float32", (3,), (1,)),))
    return Case(one, (inputs,), setting)


# --- what ships is admitted -------------------------------------------------------------------------------------------


def test_the_table_is_what_torch_says() -> None:
    here, table = admission.of_installed(), admission.table()
    overloads = {(name, one) for name, found in here.overloads.items() for one in found}
    listed = {(name, one) for name, found in table.overloads.items() for one in found}
    if here.versions <= table.versions:
        assert here.functions <= table.functions
        assert overloads <= listed
        assert here.constants <= table.constants
        assert here.dtypes <= table.dtypes
    # What the table has and torch does not resolve is an operator of another release, and not something forbidden.
    for name in table.functions - here.functions:
        owner, _, last = name.rpartition(".")
        assert not hasattr(eval(owner), last), name
    for name, one in listed - overloads:
        assert not hasattr(getattr(torch.ops.aten, name, None), one), (name, one)


def test_every_operator_that_is_generated_or_ships_is_admitted() -> None:
    names = set(library_of_torch().operators)
    assert len(names) > 500
    cases = [
        *(bug.case for bug in known.load_all()),
        *(bug.case for bug in regressions.load_all()),
    ]  # read, and so admitted
    assert len(cases) > 100
    names |= {operator for one in cases for operator in one.program.operators()}
    names |= {name for name in words.operators() if hasattr(torch, name.split(".")[1])}
    for name in names:
        admit(program(name))
        admit(program(name, vocabulary="kernel"))


@pytest.mark.parametrize(
    "name", ["aten.add.Tensor", "aten.add", "aten.relu.default", "aten.div.Tensor_mode", "aten.full.default"]
)
def test_overloads_that_compute_are_admitted_and_resolved(name: str) -> None:
    admit(program(f"torch.ops.{name}"))
    assert callable(words.resolve(f"torch.ops.{name}"))


def test_no_admitted_overload_takes_a_name_of_a_file_or_anything_but_data() -> None:
    for base, overloads in aten.names().items():
        for overload in overloads:
            schema = getattr(getattr(torch.ops.aten, base), overload)._schema
            for one in schema.arguments:
                assert "file" not in one.name.lower(), (base, overload)
                assert not {"Storage", "Stream", "Any", "Future", "__torch__"} & set(
                    str(one.type).replace("]", "[").split("[")
                ), (base, overload)


def test_reading_what_is_known_imports_no_torch() -> None:
    path = Path(known.DIRECTORY) / "negative-zero-plus-zero.json"
    text = json.dumps(json.loads(path.read_text())["case"])
    check = "import sys; from shakeout.corpus import codec; codec.decode(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check, text], check=False).returncode == 0


# --- what is hostile is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_what_reaches_beyond_tensors_is_refused_where_it_is_read_and_where_it_becomes_text(name: str) -> None:
    hostile = case(program(name, "touch proof"))
    with pytest.raises(codec.MalformedCase, match=r"program.calls\[0\]: "):
        codec.decode(codec.encode(hostile))
    for make in (script.network, lambda one: script.body(case(one)), lambda one: script.load(case(one))):
        with pytest.raises(NotAdmitted):
            make(hostile.program)
    with pytest.raises(words.UnknownOperator):
        words.resolve(name)


def nested(call: Call, *operators: str) -> Program:
    """A program in which a call is inside blocks, the innermost first."""
    for operator in operators:
        call = Call(operator, (), (), (), "none", (Region((), (), (call,), ()),))
    return Program((Input(X),), (call,), (0,))


@pytest.mark.parametrize("name", ["torch.os.system", "torch.load", "os.system", "torch.compile", "torch.Tensor.numpy"])
def test_what_is_inside_of_regions_or_around_a_program_is_asked_as_well(name: str) -> None:
    call = Call(name, ("touch proof",), (), (), "none")
    once, twice = nested(call, "torch.no_grad"), nested(call, "torch.no_grad", "torch.enable_grad")
    for hostile, where in (
        (once, r"calls\[0\]\.regions\[0\]\.calls\[0\]: "),
        (twice, r"calls\[0\]\.regions\[0\]\.calls\[0\]\.regions\[0\]\.calls\[0\]: "),
        (replace(program("torch.relu"), around=(call,)), r"around\[0\]: "),
    ):
        with pytest.raises(codec.MalformedCase, match=rf"program\.{where}"):
            codec.decode(codec.encode(case(hostile)))
        with pytest.raises(NotAdmitted):
            script.network(hostile)


def test_constants_are_asked_inside_of_regions_and_around_a_program_as_well() -> None:
    loading = Call("torch.autocast", ("cpu",), (("dtype", Name("torch.load")),), (), "none")
    inside = nested(Call("torch.full", ((2,), 1), (("dtype", Name("torch.load")),), (X,)), "torch.no_grad")
    for hostile in (inside, replace(program("torch.relu"), around=(loading,))):
        with pytest.raises(codec.MalformedCase, match="is not a dtype, memory format or layout"):
            codec.decode(codec.encode(case(hostile)))


@pytest.mark.parametrize("name", sorted(STRUCTURES))
def test_an_operator_with_regions_is_one_only_with_them(name: str) -> None:
    for one in (program(name), nested(Call(name, (), (), (), "none"), "torch.no_grad")):
        with pytest.raises(codec.MalformedCase, match="and is given 0"):
            codec.decode(codec.encode(case(one)))
        with pytest.raises(NotAdmitted):
            script.network(one)


@pytest.mark.parametrize("name", ["torch.load", "torch.save", "torch.os", "torch.nn", "torch.relu", "torch.qint8_"])
def test_only_dtypes_layouts_and_memory_formats_are_named(name: str) -> None:
    for one in (
        program("torch.Tensor.to", Ref(0), Name(name)),
        program("torch.add", Ref(0), (1, (Name(name),))),
        program("torch.nn.functional.triplet_margin_with_distance_loss", Ref(0), distance_function=Name(name)),
    ):
        with pytest.raises(codec.MalformedCase, match="is not a dtype, memory format or layout"):
            codec.decode(codec.encode(case(one)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kwargs": {"if": 1}}, "not a keyword"),
        ({"kwargs": {"__debug__": 1}}, "not a keyword"),
        ({"operator": "torch.add\n"}, "not a valid name"),
        ({"operator": "torch.\uff41dd"}, "not a valid name"),
        ({"args": [{"complex": [10**400, 0]}]}, "not an argument"),
        ({"results": [{"dtype": "load", "shape": [3]}]}, "not a dtype"),
    ],
)
def test_a_call_that_is_none(change: dict[str, object], words: str) -> None:
    data = codec.to_json(case(program("torch.relu")))
    data["program"]["calls"][0] |= change
    with pytest.raises(codec.MalformedCase, match=words):
        codec.decode(json.dumps(data))


def test_numbers_that_no_float_holds_are_refused_in_words() -> None:
    data = codec.to_json(case(program("torch.relu")))
    data["calls"][0]["storages"][0]["values"]["low"] = 10**400
    with pytest.raises(codec.MalformedCase, match="two finite numbers"):
        codec.decode(json.dumps(data))


@pytest.mark.parametrize(
    ("target", "knobs"),
    [
        ("inductor", {"cpp.cxx": "/bin/sh"}),  # a switch of Inductor's that names a command
        ("inductor", {"trace.debug_dir": "/tmp"}),
        ("inductor", {"sanitize": "address -wrapper sh"}),
        ("inductor", {"dynamic": 1}),
        ("export", {"strict": "True); import os; os.abort("}),
        ("onnxruntime", {"saved": "elsewhere"}),
        ("eager", {"fault": "abort"}),
    ],
)
def test_a_setting_varies_only_what_its_target_declares(target: str, knobs: dict[str, object]) -> None:
    from shakeout.targets.registry import short

    setting = Setting(target, tuple(sorted(knobs.items())))  # type: ignore[arg-type]
    for text in (source, short):
        with pytest.raises(UnknownKnob):
            text(setting)


# --- other vocabularies -----------------------------------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A vocabulary of another package, with one operator, and one that cannot be loaded."""

    def resolve(operator: str) -> object:
        if operator != "mine.twice":
            raise ValueError(f"{operator} is none of mine")
        return operator

    def constant(name: str) -> object:
        if name != "mine.NEWER":
            raise ValueError(f"{name} is no constant of mine")
        return name

    own = {"resolve": resolve, "constants": lambda: {"mine.UP"}, "constant": constant}
    mine = SimpleNamespace(**{**{member: getattr(words, member) for member in MEMBERS}, **own})

    class Entry(EntryPoint):
        def load(self) -> object:
            if self.name == "broken":
                raise ImportError("no module of ours")
            return mine

    def entry_points(group: str, name: str) -> list[EntryPoint]:
        assert group == "shakeout.vocabularies"
        return [Entry(name, "m", group)] if name in ("mine", "broken") else []

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    vocabularies.vocabulary.cache_clear()
    yield
    vocabularies.vocabulary.cache_clear()


def test_another_packages_vocabulary_decides_for_itself(registered: None) -> None:
    admit(program("mine.twice", vocabulary="mine"))
    for name in ("torch.relu", "torch.os.system"):
        with pytest.raises(NotAdmitted, match=name):
            admit(program(name, vocabulary="mine"))
    for vocabulary, said in (("broken", "no module of ours"), ("nothing", "unknown vocabulary 'nothing'")):
        with pytest.raises(NotAdmitted, match=said):
            admit(program("mine.twice", vocabulary=vocabulary))
        with pytest.raises(NotAdmitted, match=said):
            admit(Program((Input(X),), (), (0,), vocabulary))


def test_another_packages_vocabulary_tells_its_own_constants(registered: None) -> None:
    def one(name: str) -> Program:
        return program("mine.twice", Ref(0), (Name(name),), vocabulary="mine")

    for name in ("mine.UP", "mine.NEWER"):
        admit(one(name))
        assert codec.decode(codec.encode(case(one(name)))) == case(one(name))
    for name in ("torch.float32", "torch.load", "os.system", "mine"):
        with pytest.raises(codec.MalformedCase, match=f"{name} is no constant of mine"):
            codec.decode(codec.encode(case(one(name))))
    # And what is a constant there is none here.
    for name in ("mine.UP", "float32", "torch.os.path"):
        with pytest.raises(codec.MalformedCase, match="is not a dtype, memory format or layout"):
            codec.decode(codec.encode(case(program("torch.add", Ref(0), Name(name)))))


@pytest.mark.parametrize("name", ["mine.UP\n", "mine.UP; import os", "mine..UP", "mine[0]", "\uff4dine.UP", "", "1.e"])
def test_a_constant_is_no_other_text(registered: None, name: str) -> None:
    data = codec.to_json(case(program("mine.twice", Name("mine.UP"), vocabulary="mine")))
    data["program"]["calls"][0]["args"] = [{"name": name}]
    with pytest.raises(codec.MalformedCase, match="is not an argument"):
        codec.decode(json.dumps(data))


# --- modules of users -------------------------------------------------------------------------------------------------

MODULE = "shakeout_stranger"


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that mentions shakeout, importable from here, and leaves proof that it was imported."""
    text = "import torch, shakeout\nopen('proof', 'w').close()\n\n@shakeout.kernel(reference=torch.relu)\n"
    (tmp_path / f"{MODULE}.py").write_text(text + "def my_relu(x):\n    return torch.relu(x)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(user_objects.ALLOWED, "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    user_objects.find.cache_clear()
    yield tmp_path
    sys.modules.pop(MODULE, None)
    user_objects.find.cache_clear()


KERNEL = f"{MODULE}:my_relu"


def texts() -> list[str]:
    called = case(program(KERNEL, vocabulary="kernel"))
    return [codec.encode(called), codec.encode(case(program("torch.relu"), Setting(KERNEL)))]


def test_a_file_alone_imports_no_module(stranger: Path) -> None:
    for text in texts():
        with pytest.raises(codec.MalformedCase, match=f"add --allow {MODULE}"):
            codec.decode(text)
    with pytest.raises(user_objects.NotAllowed):
        user_objects.find(KERNEL)
    assert MODULE not in sys.modules
    assert not (stranger / "proof").exists()


@pytest.mark.parametrize("name", ["os:system", "shakeout:kernel", "torch:onnx", "antigravity:x", "a.b:c", "x:import"])
def test_a_module_that_happens_to_be_loaded_is_asked_for_nothing(stranger: Path, name: str) -> None:
    with pytest.raises(codec.MalformedCase):
        codec.decode(codec.encode(case(program(name, vocabulary="kernel"))))
    assert "antigravity" not in sys.modules


def test_what_was_allowed_once_is_remembered_by_name_and_place(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user_objects.allow(KERNEL)
    for text in texts():
        codec.decode(text)
    # In another process, without a word on the command line.
    monkeypatch.setenv(user_objects.ALLOWED, "")
    for text in texts():
        codec.decode(text)
    assert not (stranger / "proof").exists()  # reading imports nothing
    assert isinstance(user_objects.find(KERNEL), user_objects.Kernel)
    assert (stranger / "proof").exists()
    # Another module of that name, in another place, is another module.
    del sys.modules[MODULE]
    elsewhere = stranger / "elsewhere"
    elsewhere.mkdir()
    (stranger / f"{MODULE}.py").rename(elsewhere / f"{MODULE}.py")
    monkeypatch.chdir(elsewhere)
    for text in texts():
        with pytest.raises(codec.MalformedCase, match="--allow"):
            codec.decode(text)


def test_what_this_process_declared_needs_no_permission(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shakeout

    module = ModuleType(MODULE)
    vars(module)["my_relu"] = shakeout.kernel(reference=torch.relu)(torch.relu)
    monkeypatch.setitem(sys.modules, MODULE, module)
    for text in texts():
        codec.decode(text)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--allow", MODULE], True),
        (["--target", KERNEL], True),
        ([], False),
        (["--target", "eager"], False),
    ],
)
def test_the_command_line_allows(
    stranger: Path, capsys: pytest.CaptureFixture, arguments: list[str], allowed: bool
) -> None:
    (stranger / "case.json").write_text(texts()[0] + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "shakeout", "replay", "case.json", *arguments], capture_output=True, text=True
    )
    assert (done.returncode, (stranger / "proof").exists()) == ((0, True) if allowed else (2, False)), done.stderr
    if not allowed:
        assert done.stderr == (
            f"shakeout: case.json: program.calls[0]: {KERNEL} is named by a file only, and a file imports no module; "
            f"if you trust {MODULE}, add --allow {MODULE} (or set {user_objects.ALLOWED}={MODULE})\n"
        )
    else:
        # From now on it needs no word.
        assert cli.main(["replay", "case.json"]) == Exit.OK


# --- what is written is read ------------------------------------------------------------------------------------------


def large(count: int) -> Case:
    one = program("torch.relu")
    values = Values("literal", items=tuple([0.5] * count))
    inputs = InputSet((Storage("float32", count, values),), (View(0, "float32", (3,), (1,)),))
    return Case(one, (inputs,), Setting("eager"))


def test_a_case_that_is_too_large_to_be_read_is_not_written() -> None:
    with pytest.raises(codec.CannotBeStored, match=r"at most 4194304 .* its largest tensor has 1500000 elements"):
        codec.encode(large(1_500_000))
    small = large(900_000)
    assert codec.decode(small.text) == small
    assert codec.stored(small)
    assert not codec.stored(large(1_500_000))


def test_a_capture_that_is_too_large_says_so_when_it_is_made() -> None:
    with pytest.raises(InvalidProgram, match="at most 4194304 are stored"):
        capturing.capture(torch.relu, lambda: [torch.rand(2000, 1000)], setting=Setting("eager"))


def test_a_case_that_would_be_nested_too_deep_is_not_written() -> None:
    nested: object = 1
    for _ in range(canonical.MAX_DEPTH):
        nested = (nested,)
    codec.decode(codec.encode(case(program("torch.add", Ref(0), nested))))
    with pytest.raises(codec.CannotBeStored, match="nested"):
        codec.encode(case(program("torch.add", Ref(0), (nested,))))
    with pytest.raises(codec.CannotBeStored, match="digits"):
        codec.encode(case(program("torch.add", Ref(0), 10**5000)))


def test_a_candidate_that_cannot_be_stored_is_no_candidate() -> None:
    with pytest.raises(InvalidCandidate, match="larger than what can be stored"):
        validated(large(1_500_000))
