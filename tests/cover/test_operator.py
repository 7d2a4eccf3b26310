"""An operator's name is taken apart in one place, and an overload of ATen has the traits of its public function."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous
from shakeout.corpus.program import Arg, Call, Input, Program, Ref, TensorType
from shakeout.corpus.vocabularies import aten
from shakeout.corpus.vocabularies import torch as words
from shakeout.corpus.vocabularies.operator import identify
from shakeout.corpus.vocabularies.torch_traits import _COUNTERPARTS, NAMES, traits
from shakeout.fuzz.running import runs
from shakeout.oracles.exactness import candidate, majorised
from shakeout.oracles.relations import RELATIONS


@pytest.mark.parametrize(
    ("qualified", "namespace", "name", "overload", "base", "in_place"),
    [
        ("torch.add", "torch", "add", "", "add", False),
        ("torch.Tensor.add_", "torch.Tensor", "add_", "", "add", True),
        ("torch.Tensor.__iadd__", "torch.Tensor", "__iadd__", "", "__add__", True),
        ("torch.Tensor.__setitem__", "torch.Tensor", "__setitem__", "", "__setitem__", True),
        ("torch.Tensor.__invert__", "torch.Tensor", "__invert__", "", "__invert__", False),
        ("torch.Tensor.__int__", "torch.Tensor", "__int__", "", "__int__", False),
        ("torch.nn.functional.relu_", "torch.nn.functional", "relu_", "", "relu", True),
        ("torch.ops.aten.add_.Tensor", "torch.ops.aten", "add_", "Tensor", "add", True),
        ("torch.ops.aten.add_", "torch.ops.aten", "add_", "", "add", True),
        ("torch.ops.aten.relu.default", "torch.ops.aten", "relu", "default", "relu", False),
        ("my.kernels:scale", "my.kernels", "scale", "", "scale", False),
    ],
)
def test_a_name_has_parts(qualified: str, namespace: str, name: str, overload: str, base: str, in_place: bool) -> None:
    found = identify(qualified)
    assert (found.namespace, found.name, found.overload) == (namespace, name, overload)
    assert (found.base, found.in_place) == (base, in_place)
    assert found.named(name) == qualified
    assert found.kernel == (":" in qualified)
    assert found.library == ("ops" in qualified)


def test_what_the_table_names_exists() -> None:
    known = {identify(name).name for name in words.operators()}
    unknown = {name for name in NAMES - known if not hasattr(torch.ops.aten, name)}
    assert unknown == {"__pos__", "__rdiv__"}  # which torch has, and does not list


def overloads() -> list[tuple[str, torch.FunctionSchema]]:
    """Every overload of ATen that takes a tensor and that a case may call."""
    found = []
    for schema in torch._C._jit_get_all_schemas():
        namespace, _, name = schema.name.partition("::")
        given = any("Tensor" in str(one.type) for one in schema.arguments)
        operator = f"torch.ops.aten.{name}.{schema.overload_name or 'default'}"
        if namespace == "aten" and given and aten.overload(operator) is not None:
            found.append((operator, schema))
    return found


def test_an_overload_has_the_traits_of_its_public_function() -> None:
    # Torch shows what is behind some public functions as well; under ATen's name it has the public function's traits.
    apart = set(_COUNTERPARTS)
    seen = 0
    for operator, _ in overloads():
        name = identify(operator).name
        for public in (f"torch.{name}", f"torch.Tensor.{name}", f"torch.nn.functional.{name}"):
            if public in words.operators() and name not in apart:
                assert replace(traits(operator), internal=False) == replace(traits(public), internal=False), operator
                seen += 1
    assert seen > 1000


@pytest.mark.parametrize(
    ("operator", "public"),
    [
        ("torch.ops.aten.convolution.default", "torch.nn.functional.conv2d"),
        ("torch.ops.aten.linalg_svd.default", "torch.linalg.svd"),
        ("torch.ops.aten._linalg_eigh.default", "torch.linalg.eigh"),
        ("torch.ops.aten._fft_r2c.default", "torch.fft.rfft"),
        ("torch.ops.aten.special_erf.default", "torch.special.erf"),
        ("torch.ops.aten.native_layer_norm.default", "torch.nn.functional.layer_norm"),
        ("torch.ops.aten.upsample_bilinear2d.vec", "torch.nn.functional.interpolate"),
        ("torch.ops.aten.max_pool2d_with_indices.default", "torch.nn.functional.max_pool2d"),
        ("torch.ops.aten._unsafe_view.default", "torch.Tensor.view"),
        ("torch.ops.aten.slice.Tensor", "torch.Tensor.__getitem__"),
        (
            "torch.ops.aten._scaled_dot_product_efficient_attention.default",
            "torch.nn.functional.scaled_dot_product_attention",
        ),
    ],
)
def test_what_atens_own_names_stand_for(operator: str, public: str) -> None:
    assert replace(traits(operator), internal=False) == traits(public)


def test_traits_of_overloads_that_were_lost() -> None:
    assert "duplicates" in traits("torch.ops.aten.index_put_.default").hazards
    assert traits("torch.ops.aten.uniform.default").random
    assert traits("torch.ops.aten.div.Tensor_mode").division
    assert traits("torch.ops.aten.add.Tensor").exactness == "sums"
    assert traits("torch.ops.aten.sum.dim_IntList").addition == "products"
    assert traits("torch.ops.aten.cumsum_.default").elsewhere


def test_an_overload_writes_to_what_its_schema_says() -> None:
    for operator, schema in overloads():
        args: list[Arg] = []
        kwargs: list[tuple[str, Arg]] = []
        marked = []
        for number, argument in enumerate(schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                marked.append(number)
            if argument.kwarg_only:
                kwargs.append((argument.name, Ref(number)))
            else:
                args.append(Ref(number))
        assert words.written(Call(operator, tuple(args), tuple(kwargs))) == tuple(marked), operator


def test_writes_are_known_without_torch() -> None:
    """And by the name alone they are those of the schema, for what writes to its first operand."""
    told = [
        operator
        for operator, schema in overloads()
        if identify(operator).in_place
        and (first := schema.arguments[0]).alias_info is not None
        and first.alias_info.is_write
    ]
    assert len(told) > 300
    code = (
        "import sys\n"
        "from shakeout.corpus.program import Call, Ref\n"
        "from shakeout.corpus.vocabularies import vocabulary\n"
        "words = vocabulary('kernel')\n"
        "print(all(words.written(Call(one, (Ref(3), Ref(1)))) == (3,) for one in sys.stdin.read().split()),\n"
        "      words.written(Call('torch.ops.aten.add.out', (Ref(0), Ref(1)), (('out', Ref(2)),))),\n"
        "      words.written(Call('torch.ops.aten.add.Tensor', (Ref(0), Ref(1)))), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=" ".join(told), capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[0] == "True (2,) () False"


F = TensorType("float32", (2, 2))


def case(calls: list[Call], returns: tuple[int, ...]) -> Case:
    values = Values("literal", items=(3.0, -1.0, 2.0, 5.0))
    view = View(0, "float32", (2, 2), contiguous((2, 2)))
    inputs = InputSet((Storage("float32", 4, values),) * 2, (view, replace(view, storage=1)))
    return Case(Program((Input(F), Input(F)), tuple(calls), returns), (inputs,), Setting("eager"))


def test_a_program_of_overloads_is_proven_exact() -> None:
    one = case(
        [
            Call("torch.ops.aten.mm.default", (Ref(0), Ref(1)), (), (F,)),
            Call("torch.ops.aten.sub.Tensor", (Ref(2), Ref(0)), (("alpha", 2),), (F,)),
            Call("torch.ops.aten.add_.Tensor", (Ref(3), Ref(1)), (), (F,)),
        ],
        (4,),
    )
    assert candidate(one)
    assert runs.exact(one).error is None
    assert majorised(one.program.calls[1], words).operator == "torch.ops.aten.add.Tensor"


def test_an_input_that_an_overload_writes_to_becomes_no_constant() -> None:
    writing = case([Call("torch.ops.aten.add_.Tensor", (Ref(0), Ref(1)), (), (F,))], (2,))
    for place in range(2):
        made = RELATIONS["input made a constant"](writing, place)
        assert made is not None
        assert made.case.program.inputs == (Input(F),)
        # It is the other input, so the one that is written to is still there.
        [constant, added] = made.case.program.calls
        assert constant.operator == "torch.tensor"
        assert added.args == (Ref(0), Ref(1))
