"""Printed source says nothing to a type checker, and is what was written otherwise; typed source is checked."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

from shakeout.corpus import regressions, source, standalone
from shakeout.corpus.case import Setting
from shakeout.fuzz.reporting.exported import short_form
from shakeout.fuzz.running.case_file import render
from shakeout.targets import history, onnx_staged, openvino_staged, sanitizers, staged, tvm_staged
from shakeout.targets.registry import target

ROOT = Path(__file__).parents[2]
PRINTED = (standalone, history, sanitizers, staged, onnx_staged, openvino_staged, tvm_staged)

WRITTEN = """
@some.decorator(1)
def one(
    first: dict[str, tuple[int, ...]],  # é, of two bytes
    *rest: int,
    key: str = "a: b -> c",
    **more: object,
) -> list[str]:
    # a comment stays
    seen: dict[str, int] = {"a": 1}  # and so does this
    left, right = lambda x: x, seen["a":1]  # type: ignore[misc]

    def inner(é: str = "é", /, plain=2, *, last: int = -1) -> None: ...

    class Kept:
        name: str = "x"

    return [f"{key:>3}", *map(str, rest)]


async def two(
    long: tuple[str, ...] = (), *, other: int | None = None
) -> dict[str, int]:
    return {}  # type: ignore
"""

PLAIN = """
@some.decorator(1)
def one(
    first,  # é, of two bytes
    *rest,
    key="a: b -> c",
    **more,
):
    # a comment stays
    seen = {"a": 1}  # and so does this
    left, right = lambda x: x, seen["a":1]

    def inner(é="é", /, plain=2, *, last=-1): ...

    class Kept:
        name = "x"

    return [f"{key:>3}", *map(str, rest)]


async def two(long=(), *, other=None):
    return {}
"""


def unannotated(text: str) -> bool:
    """Whether nothing in a text is for a type checker."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.AnnAssign) or getattr(node, "annotation", None) or getattr(node, "returns", None):
            return False
        imported = {one.name for one in node.names} if isinstance(node, ast.Import) else set()
        imported |= {node.module} if isinstance(node, ast.ImportFrom) else set()
        if imported & {"typing", "collections.abc", "__future__"}:
            return False
    return not re.search(r"#\s*type:|TYPE_CHECKING", text)


def test_annotations_go_and_all_else_stays() -> None:
    assert source.stripped(WRITTEN) == PLAIN
    assert source.stripped(PLAIN) == PLAIN
    assert unannotated(PLAIN)
    assert not unannotated(WRITTEN)


def test_a_signature_that_stays_long_keeps_its_lines() -> None:
    arguments = "".join(f"    argument_number_{i}: int,\n" for i in range(9))
    text = f"def f(\n{arguments}) -> int:\n    return 1\n"
    assert source.stripped(text) == text.replace(": int,", ",").replace(" -> int", "")


def test_a_name_without_a_value_cannot_be_printed() -> None:
    with pytest.raises(ValueError, match="declares a name without a value: x: int"):
        source.stripped("def f():\n    x: int\n")


@pytest.mark.parametrize("module", PRINTED, ids=lambda module: module.__name__)
def test_what_is_printed_is_typed_in_its_module(module) -> None:
    path = Path(module.__file__)
    assert not path.with_suffix(".pyi").exists()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            assert node.returns is not None, node.name
            assert all(arg.annotation is not None for arg in given if arg.arg != "self"), node.name


@pytest.mark.parametrize("regression", regressions.load_all(), ids=lambda regression: regression.id)
def test_no_annotation_is_in_the_script_of_a_shipped_case(regression: regressions.Regression) -> None:
    for text in (render(regression.case), short_form(regression.case)):
        assert text is None or unannotated(text)


@pytest.mark.parametrize("name", ["inductor", "aot_eager", "export", "onnxruntime", "openvino", "tvm"])
def test_no_annotation_is_in_the_script_of_any_setting(name: str) -> None:
    case = regressions.load_all()[0].case
    for knob in target(name).knobs():
        for value in knob.values:
            for mode in ("inference", "training"):
                setting = Setting(name, mode=mode, knobs=((knob.name, value),))
                assert unannotated(render(replace(case, setting=setting)))
