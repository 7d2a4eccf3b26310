"""Cases as text: what is written is read, and what is not a case is refused in words."""

import json
import math
from pathlib import Path

import hypothesis.strategies as st
import jsonschema
import pytest
from hypothesis import given, settings

from shakeout.corpus import codec
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous
from shakeout.corpus.program import Call, Input, Name, Program, Ref, Role, Slice, TensorType

SCHEMA = json.loads((Path(codec.__file__).parent / "data" / "case.schema.json").read_text())

DTYPES = st.sampled_from(["float32", "float16", "int64", "bool", "complex64"])
SIZES = st.integers(0, 5)
SHAPES = st.lists(SIZES, max_size=3).map(tuple)
TYPES = st.builds(TensorType, DTYPES, SHAPES)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


def arguments(values: int) -> st.SearchStrategy:
    leaves = (
        SCALARS
        | st.complex_numbers()
        | st.integers(0, values - 1).map(Ref)
        | st.sampled_from(["torch.float32", "torch.channels_last"]).map(Name)
        | st.just(...)
        | st.builds(Slice, st.none() | st.integers(), st.none() | st.integers(), st.none() | st.integers())
    )
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    inputs = draw(st.lists(TYPES, min_size=1, max_size=3))
    count = len(inputs)
    calls = []
    for _ in range(draw(st.integers(0, 3))):
        results = tuple(draw(st.lists(TYPES, min_size=1, max_size=2)))
        keywords = draw(st.dictionaries(st.sampled_from(["dim", "alpha", "out_"]), arguments(count), max_size=2))
        calls.append(
            Call(
                draw(st.sampled_from(["torch.add", "torch.Tensor.add_", "mine.kernels:conv"])),
                tuple(draw(st.lists(arguments(count), max_size=3))),
                tuple(sorted(keywords.items())),
                results,
                "tensor" if len(results) == 1 else "sequence",
            )
        )
        count += len(results)
    storages, views = [], []
    for i, type_ in enumerate(inputs):
        values = draw(
            st.just(Values("literal", items=tuple(float(j) for j in range(type_.numel))))
            | st.builds(Values, st.just("uniform"), st.integers(0, 2**31 - 1), st.just(-1.5), st.just(2))
        )
        storages.append(Storage(type_.dtype, type_.numel, values))
        views.append(View(i, type_.dtype, type_.shape, contiguous(type_.shape), 0, draw(st.booleans())))
    setting = Setting(
        draw(st.sampled_from(["eager", "inductor", "mine.kernels:conv"])),
        tuple(sorted(draw(st.dictionaries(st.sampled_from(["dynamic", "cpp.simdlen"]), SCALARS)).items())),
        draw(st.sampled_from(["inference", "training"])),
    )
    roles: list[Role] = draw(
        st.lists(st.sampled_from(["input", "parameter"]), min_size=len(inputs), max_size=len(inputs))
    )
    program = Program(tuple(map(Input, inputs, roles)), tuple(calls), (draw(st.integers(0, count - 1)),))
    return Case(program, (InputSet(tuple(storages), tuple(views)),), setting)


@given(cases())
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read(case: Case) -> None:
    text = codec.encode(case)
    again = codec.decode(text)
    assert codec.encode(again) == text
    assert again.id == case.id
    assert text.isascii()
    jsonschema.validate(json.loads(text), SCHEMA)


def small() -> dict:
    x = TensorType("float32", (3,))
    program = Program((Input(x),), (Call("torch.mul", (Ref(0), 0), (), (x,)),), (1,))
    inputs = InputSet(
        (Storage("float32", 3, Values("literal", items=(1.0, math.nan, 2.0))),), (View(0, "float32", (3,), (1,)),)
    )
    return codec.to_json(Case(program, (inputs,), Setting("inductor")))


def test_the_identity_is_fixed() -> None:
    # A change here changes the id of every stored case: raise codec.FORMAT and convert instead.
    assert codec.from_json(small()).id == "92a05c796a11094b"


def changed(path: str, value: object) -> str:
    data = small()
    place = data
    *way, last = path.split("/")
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    place[int(last) if isinstance(place, list) else last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("format", 3, "newer"),
        ("format", 0, "does not exist"),
        ("format", "1", "expected int"),
        ("program/calls/0/operator", "torch.mul(x); import os", "not a valid name"),
        ("program/calls/0/operator", "__import__('os').system", "not a valid name"),
        ("program/calls/0/kwargs", {"a=1)\nimport os\n(": 1}, "not a keyword"),
        ("program/calls/0/args", [{"name": "torch.float32) or print("}], "not an argument"),
        ("program/calls/0/args", [{"name": "os.system"}], "not an argument"),
        ("program/calls/0/args", [{"ref": 7}], "uses value 7"),
        ("program/calls/0/args", [{"ref": True}], "not an argument"),
        ("program/calls/0/args", [{"pickle": "x"}], "not an argument"),
        ("program/calls/0/args", [{"float": "1e3"}], "not an argument"),
        ("program/calls/0/form", "none", "does not go with"),
        ("program/returns", [9], "value 9"),
        ("program/returns", [1.0], "not a value number"),
        ("program/inputs/0/role", "output", "expected one of input, parameter"),
        ("program/inputs/0/type/shape", [-1], "not a size"),
        ("program/vocabulary", "Torch!", "not a valid name"),
        ("calls", [], "at least one input set"),
        ("calls/0/views", [], "gives 0 inputs"),
        ("calls/0/views/0/storage", 1, "does not exist"),
        ("calls/0/views/0/strides", [1, 1], "strides"),
        ("calls/0/views/0/offset", -1, "not an offset"),
        ("calls/0/views/0/shape", [1], "reaches element"),
        ("calls/0/storages/0/size", 1 << 40, "not between"),
        ("calls/0/storages/0/dtype", "float32); import os", "not a valid name"),
        ("calls/0/storages/0/values/items", [1.0], "1 numbers for a storage of 3"),
        ("calls/0/storages/0/values/items", [1.0, "a", 2.0], "not a number"),
        ("calls/0/storages/0/values", {"kind": "uniform", "seed": -1, "low": 0, "high": 1}, "seed"),
        ("calls/0/storages/0/values", {"kind": "uniform", "seed": 1, "low": "0", "high": 1}, "finite numbers"),
        ("setting/target", "inductor; rm", "not a valid name"),
        ("setting/knobs", {"a b": 1}, "not a knob"),
        ("setting/mode", "evaluation", "expected one of"),
        ("setting", None, "expected dict"),
    ],
)
def test_what_is_not_a_case_is_refused_in_words(path: str, value: object, words: str) -> None:
    if "reaches" in words:
        # A window that leaves its storage: two elements, the second at element 3 of 3.
        data = small()
        data["calls"][0]["views"][0].update(shape=[2], strides=[3])
        text = json.dumps(data)
    else:
        text = changed(path, value)
    with pytest.raises(codec.MalformedCase, match=words):
        codec.decode(text)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "[" * 100_000, "\x00", '{"format": 1}', b"\xff\xfe", "NaN"])
def test_any_text_gives_a_clear_error(text: str) -> None:
    with pytest.raises(codec.MalformedCase):
        codec.decode(text)


def test_a_truncated_case_is_refused() -> None:
    text = json.dumps(small())
    for length in range(0, len(text), 7):
        with pytest.raises(codec.MalformedCase):
            codec.decode(text[:length])


def test_a_deeply_nested_argument_is_refused() -> None:
    data = small()
    nested: object = 1
    for _ in range(500):
        nested = [nested]
    data["program"]["calls"][0]["args"] = [{"ref": 0}, nested]
    with pytest.raises(codec.MalformedCase, match="nested"):
        codec.decode(json.dumps(data))


def test_a_huge_text_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(codec.MalformedCase, match="bytes"):
        codec.decode(" " * (codec.MAX_BYTES + 1))
