"""ONNX's own tools as targets: what its checker, shape inference, converter, printer and parser make of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shakeout.corpus.case import Knob, KnobSpace, Setting
from shakeout.targets.packages import uninstalled
from shakeout.targets.printed import staged
from shakeout.targets.target import Facts, Target

__all__ = ["ONNX_CHECKER", "ONNX_CONVERTER", "OnnxChecker", "OnnxConverter"]


class OnnxChecker(Target):
    """The checker and shape inference: the model is valid, and every value has the type and sizes that they infer."""

    name = "onnx.checker"
    facts = Facts(
        summary="ONNX's checker and shape inference: what they infer is what the reference evaluator gives",
        vocabulary="onnx",
        packages=("onnx",),
        owner="onnx",
        turns=1,
        settings=2,
        accelerator=False,
        mode="inference",
        modules=("onnx.checker", "onnx.shape_inference"),
    )

    def knobs(self) -> KnobSpace:
        """How types and sizes are inferred."""
        return (
            Knob("data_prop", (True, False), "follow the values of sizes and axes through the graph"),
            Knob("shapes", ("static", "symbolic"), "whether the model declares the sizes of its inputs"),
            Knob("through_file", (False, True), "infer from a file, as is done with models beyond 2 GiB"),
        )

    def unavailable(self) -> str | None:
        """The install line if onnx is missing."""
        return uninstalled(("onnx", "onnx"))

    def warm(self) -> None:
        """Import it."""
        import onnx.reference  # noqa: F401

    def source(self, setting: Setting) -> str:
        """Check and infer once, and hold every run of the evaluator against that."""
        from shakeout.targets import onnx_models_staged as models
        from shakeout.targets import onnx_tools_staged as own

        given = ", ".join(
            ["model", f"data_prop={setting.knob('data_prop', True)!r}"]
            + (["through_file=True"] if setting.knob("through_file") else [])
        )
        symbolic = setting.knob("shapes") == "symbolic"
        lines = [
            f"    model = {'unsized' if symbolic else 'declared'}(network.model)",
            '    KEPT["ONNX model"] = model',
            *([] if symbolic else ["    checked(model)"]),
            f"    types = inferred({given})",
            "    return lambda *given: as_inferred(model, types, given)",
        ]
        functions = (
            models.unsized,
            *(() if symbolic else (models.declared, own.checked)),
            own.inferred,
            own.as_inferred,
            own.tools_declined,
        )
        return _sourced(lines, functions, ("os", "tempfile"))


class OnnxConverter(Target):
    """The version converter, and the printer and parser of the textual form: the outputs stay what they are."""

    name = "onnx.converter"
    facts = Facts(
        summary="ONNX's version converter, and its textual form read back: the outputs stay what they are",
        vocabulary="onnx",
        packages=("onnx",),
        owner="onnx",
        turns=1,
        settings=4,
        accelerator=False,
        mode="inference",
        modules=("onnx.version_converter", "onnx.printer", "onnx.parser"),
    )

    def knobs(self) -> KnobSpace:
        """What is made of the model before the reference evaluator runs it."""
        return (
            Knob("version", (28, 25, 23, 22, 21, 19, 18, 17, 13), "operator set that the model is converted to"),
            Knob("text", (False, True), "print the model, and parse it again"),
        )

    def unavailable(self) -> str | None:
        """The install line if onnx is missing."""
        return uninstalled(("onnx", "onnx"))

    def warm(self) -> None:
        """Import it."""
        import onnx.parser
        import onnx.printer
        import onnx.reference
        import onnx.version_converter  # noqa: F401

    def source(self, setting: Setting) -> str:
        """Convert once, and run what came of it from then on."""
        from shakeout.targets import onnx_models_staged as models
        from shakeout.targets import onnx_tools_staged as own

        text = bool(setting.knob("text"))
        made = f"converted(model, {setting.knob('version', 28)!r})"
        lines = [
            "    model = declared(network.model)",
            '    KEPT["ONNX model"] = model',
            f"    return ran({f'printed_and_parsed({made})' if text else made})",
        ]
        functions = (
            models.unsized,
            models.declared,
            own.converted,
            *((own.printed_and_parsed,) if text else ()),
            own.ran,
            own.tools_declined,
        )
        return _sourced(lines, functions, ("onnx.parser", "onnx.printer", "onnx.version_converter"))


def _sourced(lines: Sequence[str], functions: Sequence[Callable[..., Any]], imports: Sequence[str]) -> str:
    from shakeout.targets import staged as stages

    body = "\n".join(["def prepare(network):", *lines, "", "", "declined = tools_declined"])
    return staged(
        body, *functions, imports=[f"import {name}" for name in imports], shared=(stages.Declined, stages.stage)
    )


ONNX_CHECKER = OnnxChecker()
ONNX_CONVERTER = OnnxConverter()
