"""Cases as text: what is written is read, and what is not a case is refused in words."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import jsonschema
import pytest
from hypothesis import given, settings

from shakeout.corpus import codec
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous
from shakeout.corpus.program import Arg, Call, Form, Input, Name, Program, Ref, Region, Role, Slice, TensorType
from shakeout.corpus.user_objects import ALLOWED

SCHEMA = json.loads((Path(codec.__file__).parent / "data" / "case.schema.json").read_text())
VALIDATOR = jsonschema.validators.validator_for(SCHEMA)(SCHEMA)

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


def keywords(draw: st.DrawFn, values: int) -> tuple[tuple[str, Arg], ...]:
    found = draw(st.dictionaries(st.sampled_from(["dim", "alpha", "out_"]), arguments(values), max_size=2))
    return tuple(sorted(found.items()))


def calls_on(draw: st.DrawFn, types: list[TensorType], depth: int) -> tuple[Call, ...]:
    """A few calls on values of these types, some with regions; ``types`` grows by those of their results."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["plain", "plain", "block", "cond", "loop"] if depth < 3 else ["plain"]))
        results = tuple(draw(st.lists(TYPES, min_size=1, max_size=2)))
        numbers = st.integers(0, len(types) - 1)
        if kind == "plain":
            operator = draw(st.sampled_from(["torch.add", "torch.Tensor.add_", "mine.kernels:conv"]))
            args = tuple(draw(st.lists(arguments(len(types)), max_size=3)))
            form: Form = "tensor" if len(results) == 1 else "sequence"
            found.append(Call(operator, args, keywords(draw, len(types)), results, form))
        elif kind == "block":
            body = region(draw, types, (), len(results), depth)
            operator = draw(st.sampled_from(["torch.no_grad", "torch.enable_grad", "torch.autocast"]))
            found.append(Call(operator, (), (), results, "sequence", (body,)))
        else:
            given = tuple(draw(st.lists(numbers, min_size=1, max_size=2)))
            operands = tuple(map(Ref, given))
            parameters = tuple(types[number] for number in given)
            if kind == "cond":
                bodies = tuple(region(draw, types, parameters, len(results), depth) for _ in range(2))
                found.append(Call("torch.cond", (Ref(draw(numbers)), operands), (), results, "sequence", bodies))
            else:
                counts = (1, len(given))
                bodies = tuple(region(draw, types, parameters, count, depth) for count in counts)
                operator, results = "torch._higher_order_ops.while_loop", parameters
                found.append(Call(operator, (operands,), (), results, "sequence", bodies))
        types.extend(results)
    return tuple(found)


def region(
    draw: st.DrawFn, types: list[TensorType], parameters: tuple[TensorType, ...], returns: int, depth: int
) -> Region:
    captures = tuple(draw(st.lists(st.integers(0, len(types) - 1), min_size=1, max_size=2)))
    inner = [*parameters, *(types[number] for number in captures)]
    calls = calls_on(draw, inner, depth + 1)
    returned = draw(st.lists(st.integers(0, len(inner) - 1), min_size=returns, max_size=returns))
    return Region(parameters, captures, calls, tuple(returned))


BLOCKS = st.sampled_from(
    [
        Call("torch.autocast", ("cpu",), (("dtype", Name("torch.bfloat16")),), (), "none"),
        Call("torch.no_grad", (), (), (), "none"),
    ]
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    inputs = draw(st.lists(TYPES, min_size=1, max_size=3))
    types = list(inputs)
    calls = calls_on(draw, types, 0)
    storages, views = [], []
    for i, type_ in enumerate(inputs):
        values = draw(
            st.just(Values("literal", items=tuple(float(j) for j in range(type_.numel))))
            | st.binary(min_size=32, max_size=32).map(lambda digest: Values("blob", blob=digest.hex()))
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
    returns = (draw(st.integers(0, len(types) - 1)),)
    around = tuple(draw(st.lists(BLOCKS, max_size=2)))
    program = Program(tuple(map(Input, inputs, roles)), calls, returns, "kernel", around)
    return Case(program, (InputSet(tuple(storages), tuple(views)),), setting)


@pytest.fixture(autouse=True, scope="module")
def _allowed() -> Iterator[None]:
    """The kernels of these cases are somebody's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ALLOWED, "mine.kernels")
        yield


@given(cases())
@settings(max_examples=40, deadline=None)  # programs within programs, each of which takes long to draw
def test_what_is_written_is_read(case: Case) -> None:
    text = codec.encode(case)
    again = codec.decode(text)
    assert codec.encode(again) == text
    assert again.id == case.id
    assert text.isascii()
    VALIDATOR.validate(json.loads(text))


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
        ("program/calls/0/args", [{"name": "os.system"}], "not a dtype, memory format or layout"),
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
        ("calls/0/storages/0/values", {"kind": "ladder", "seed": 1, "low": 0, "high": 1024}, "whole numbers between"),
        ("calls/0/storages/0/values", {"kind": "ladder", "seed": 1, "low": 4, "high": 3}, "the least first"),
        ("calls/0/storages/0/values", {"kind": "ladder", "seed": 1, "low": 0.5, "high": 3}, "expected two whole"),
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


# --- formats ----------------------------------------------------------------------------------------------------------

SHIPPED = sorted((Path(codec.__file__).parent / "data").glob("*/*.json"))


def test_a_case_without_regions_and_blobs_is_written_as_format_1() -> None:
    stored = [json.loads(path.read_text()).get("case") for path in SHIPPED]
    cases = [data for data in stored if data is not None]
    assert len(cases) > 100
    for data in cases:
        # The identities of stored bugs follow from these very bytes.
        assert codec.from_json(data).text == json.dumps(data, sort_keys=True, separators=(",", ":"))
        assert data["format"] == 1
        assert codec.from_json({**data, "format": 2}).id == codec.from_json(data).id


def structured() -> dict:
    """A case with a block in a branch."""
    x, flag = TensorType("float32", (3,)), TensorType("bool", ())
    inside = Region((), (0,), (Call("torch.neg", (Ref(0),), (), (x,)),), (1,))
    block = Call("torch.no_grad", (), (), (x,), "sequence", (inside,))
    true = Region((x,), (1,), (block, Call("torch.add", (Ref(0), Ref(1)), (), (x,))), (3,))
    false = Region((x,), (), (Call("torch.neg", (Ref(0),), (), (x,)),), (1,))
    branch = Call("torch.cond", (Ref(0), (Ref(1),)), (), (x,), "sequence", (true, false))
    program = Program((Input(flag), Input(x)), (branch,), (2,))
    numbers = Values("literal", items=(1.0, 2.0, 3.0))
    inputs = InputSet(
        (Storage("bool", 1, Values("literal", items=(True,))), Storage("float32", 3, numbers)),
        (View(0, "bool", (), ()), View(1, "float32", (3,), (1,))),
    )
    return codec.to_json(Case(program, (inputs,), Setting("inductor")))


def deep(levels: int) -> dict:
    data = structured()
    call = data["program"]["calls"][0]["regions"][0]["calls"][0]
    call["regions"][0] |= {"calls": [], "returns": [0]}
    for _ in range(levels - 2):
        inner = json.loads(json.dumps(call))
        call["regions"][0] |= {"calls": [inner], "returns": [1]}
    return data


BRANCH = "program/calls/0"
FIRST = f"{BRANCH}/regions/0"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("format", 1, "format 1 has neither regions nor blocks"),
        (f"{BRANCH}/regions", [], "torch.cond needs 2 regions, and is given 0"),
        (f"{BRANCH}/regions", 1, "expected list"),
        (f"{BRANCH}/regions/0", {}, "'parameters' is missing"),
        (f"{BRANCH}/operator", "torch.add", "torch.add takes no regions"),
        (f"{BRANCH}/operator", "torch.no_grad", "torch.no_grad needs 1 region, and is given 2"),
        (f"{BRANCH}/args", [{"ref": 0}], "fills 0 parameters of region 0, which has 1"),
        (f"{BRANCH}/form", "tensor", "gives a sequence"),
        (f"{FIRST}/captures", [2], "uses value 2, but only tensors among 0..1"),
        (f"{FIRST}/captures", ["x1"], "not a value number"),
        (f"{FIRST}/returns", [4], "returns value 4"),
        (f"{FIRST}/parameters", [{"dtype": "float32", "shape": [-1]}], "not a size"),
        (f"{FIRST}/calls/1/operator", "torch.add(t0); import os", "not a valid name"),
        (f"{FIRST}/calls/1/args", [{"ref": 3}], "region 0: call 1 .torch.add. uses value 3"),
        (f"{FIRST}/calls/1/args", [{"name": "os.system"}], "not a dtype, memory format or layout"),
        (f"{FIRST}/calls/0/args", [{"ref": 0}], "takes 0 arguments beside its regions, and is given 1"),
        (f"{FIRST}/calls/0/kwargs", {"enabled": {"ref": 0}}, "takes no values but those that its block captures"),
        (f"{FIRST}/calls/0/regions/0/returns", [0, 0], "returns 2 values from its block as 1"),
        (f"{FIRST}/calls/1/results", [{"dtype": "python_int", "shape": []}], ""),
        (f"{BRANCH}/results", [{"dtype": "python_int", "shape": []}], "inside regions only"),
        ("program/around", [{"operator": "torch.add"}], "'kwargs' is missing"),
        ("calls/0/storages/1/values", {"kind": "blob", "sha256": "../../etc/passwd"}, "not a valid name"),
        ("calls/0/storages/1/values", {"kind": "blob"}, "'sha256' is missing"),
    ],
)
def test_a_bad_region_is_refused_in_words(path: str, value: object, words: str) -> None:
    data = structured()
    assert codec.from_json(data).text
    place = data
    *way, last = path.split("/")
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    place[int(last) if isinstance(place, list) else last] = value
    if not words:
        assert codec.decode(json.dumps(data))
        return
    with pytest.raises(codec.MalformedCase, match=words):
        codec.decode(json.dumps(data))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call("torch.add", (), (), (), "none"), "torch.add is no block"),
        (Call("torch.cond", (), (), (), "none"), "torch.cond is no block"),
        (Call("torch.no_grad", (True,), (), (), "none"), "torch.no_grad is no block"),
    ],
)
def test_what_stands_around_a_program_is_a_block(call: Call, words: str) -> None:
    case = codec.from_json(small())
    text = codec.encode(replace(case, program=replace(case.program, around=(call,))))
    with pytest.raises(codec.MalformedCase, match=words):
        codec.decode(text)


def test_regions_are_read_up_to_the_depth_that_a_program_may_have() -> None:
    assert codec.from_json(deep(8)).program.operators().count("torch.no_grad") == 7
    with pytest.raises(codec.MalformedCase, match="nested more than 8 deep"):
        codec.from_json(deep(9))
    with pytest.raises(codec.MalformedCase, match="nested more than 8 deep"):
        codec.decode(json.dumps(deep(60)))
