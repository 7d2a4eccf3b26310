"""The compiler as a target of Shakeout."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from shakeout.corpus.case import Knob, KnobSpace, Setting
from shakeout.targets.target import Facts, Gate, Ladder, Levels, Part, Short, Target, module_available

#: Written out, because the compiler imports torch, and listing targets has to be quick.
PASSES = ("square", "reciprocal", "fast_sine")


class Example(Target):
    """``compiler.compile``."""

    name = "example"
    facts = Facts(
        summary="the compiler of example-stack",
        promises=frozenset({"writes", "repeats"}),
        packages=("example-stack",),
        owner="example-stack",
        compiler=True,
        turns=3,
        settings=2,
        accelerator=False,
        support=Path(__file__).parent / "support",
        ladder=Ladder(
            levels=Levels("level", (0, 1, 2), "optimisation level", "it fails without any pass: the interpreter"),
            parts=(Part("passes", "pass", "example_stack.target:limited"),),
            single="disabled",
            otherwise="no single pass is to blame",
        ),
    )

    def knobs(self) -> KnobSpace:
        return (
            Knob("level", (2, 0, 1), "which passes are done"),
            Knob("disabled", (None, *PASSES), "one pass that is left out"),
            Knob("fast_math", (False, True), "less exact formulas; only where it is pinned", drawn=False),
        )

    def unavailable(self) -> str | None:
        return None if module_available("torch") else "torch is not installed: pip install torch"

    def source(self, setting: Setting) -> str:
        lines = [
            "from example_stack import compiler",
            "",
            "",
            "def prepare(function):",
            f"    return {_call('function', setting)}",
            "",
            "",
            "def declined(error):",
            "    return isinstance(error, compiler.Unsupported)",
        ]
        return "\n".join(lines) + "\n"

    def short(self, setting: Setting) -> Short | None:
        prepare = f"def prepare(network):\n    return {_call('network', setting)}\n"
        return Short(prepare, ("from example_stack import compiler",))


def _call(function: str, setting: Setting) -> str:
    arguments = [function]
    for name, value in setting.knobs:
        given = value if name != "disabled" else () if value is None else (value,)
        arguments.append(f"{name}={given!r}")
    return f"compiler.compile({', '.join(arguments)})"


@contextlib.contextmanager
def limited(gate: Gate) -> Iterator[None]:
    """Has the compiler ask before each pass."""
    from example_stack import compiler

    right = compiler.selected

    def selected(*args, **kwargs):
        gate.begin()
        return [name for name in right(*args, **kwargs) if gate(name)]

    with mock.patch.object(compiler, "selected", selected):
        yield


EXAMPLE = Example()
