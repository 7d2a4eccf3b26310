"""ONNX Runtime on the CPU, by way of torch.onnx's exporter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import Knob, KnobSpace, Setting
from shakeout.targets.packages import holds, uninstalled
from shakeout.targets.printed import loaded, staged
from shakeout.targets.target import Facts, Ladder, Levels, Part, Short, Target
from shakeout.targets.through_export import through_export

if TYPE_CHECKING:
    import torch

__all__ = [
    "KNOBS",
    "ONNXRUNTIME",
    "OPTIMISERS",
    "OPTIMISER_PART",
    "OnnxRuntime",
    "lacking",
    "ladder",
    "model_script",
    "session_arguments",
]

#: What makes up the chain beside torch: distribution and module.
_PACKAGES = (("onnx", "onnx"), ("onnxscript", "onnxscript"), ("onnxruntime", "onnxruntime"))

#: Optimisers that can do something to a model without quantisation, by the names under which they can be left out.
OPTIMISERS = tuple(
    """
    AttentionFusion BiasGeluFusion BiasSoftmaxFusion CastElimination CommonSubexpressionElimination ConstantFolding
    ConstantSharing ConvActivationFusion ConvAddActivationFusion ConvAddFusion ConvBNFusion ConvMulFusion DivMulFusion
    EliminateDropout EliminateIdentity FastGeluFusion FuseReluClip GatherSliceToSplitFusion GatherToSliceFusion
    GeluFusionL1 GeluFusionL2 GemmActivationFusion GemmTransposeFusion LayerNormFusionL1 LayerNormFusionL2
    Level1_RuleBasedTransformer Level2_RuleBasedTransformer MatMulActivationFusion MatMulAddFusion MatMulScaleFusion
    MatMul_BatchNormalization_Fusion MatmulTransposeFusion NchwcTransformer NhwcTransformer NotWhereFusion Pad_Fusion
    PreShapeNodeElimination QuickGeluFusion ReshapeFusion SimplifiedLayerNormFusion SkipLayerNormFusion
    SliceConcatToSpaceToDepthFusion SwiGluFusion TransposeOptimizer TransposeOptimizer_CPUExecutionProvider
    """.split()
)

_EXPORT = (
    Knob("export.optimize", (True, False), "the exporter's own rewrites and constant folding"),
    Knob("export.opset", (None, 18, 21, 23), "version of the operator set; None is the exporter's choice"),
)

#: What may vary of a session, whatever its model comes from.
KNOBS = (
    Knob("optimization", ("ALL", "LAYOUT", "EXTENDED", "BASIC", "NONE"), "level of graph optimisation"),
    Knob("disabled", (None, *OPTIMISERS), "one optimiser that is left out"),
    Knob("optimization.loops", (None, 0, 2), "session.graph_optimizations_loop_level: repeat the optimisers"),
    Knob("constant_folding_limit", (None, 16), "largest folded constant in bytes"),
    Knob("saved", (None, "onnx", "ort"), "save the optimised model in a format and load it again"),
    Knob("execution_mode", ("ORT_SEQUENTIAL", "ORT_PARALLEL"), "operators one after the other or side by side"),
    Knob("execution_order", ("DEFAULT", "PRIORITY_BASED"), "how the graph is sorted"),
    Knob("threads", (1, 2), "threads within an operator"),
    Knob("memory_pattern", (True, False), "plan all memory ahead once sizes are known"),
    Knob("memory_arena", (True, False), "allocate from an arena"),
    Knob("memory_reuse", (True, False), "give freed buffers to later results"),
    Knob("prepacking", (True, False), "rearrange constant operands when the session is made"),
    Knob("inlining", (True, False), "inline functions before the graph is partitioned"),
    Knob("again", (False, True), "run twice on the same inputs, and look at the second run's outputs"),
)


OPTIMISER_PART = Part("optimisers", "optimiser", "shakeout.targets.limits:ort_optimisers")


def ladder(innermost: str) -> Ladder:
    """How a failure of a session is bisected.

    Args:
        innermost: what is to blame where it fails without any optimisation.
    """
    return Ladder(
        levels=Levels(
            "optimization",
            ("NONE", "BASIC", "EXTENDED", "LAYOUT", "ALL"),
            label="optimisation level",
            off=f"it fails without any optimisation: {innermost}",
        ),
        parts=(OPTIMISER_PART,),
        single="disabled",
        otherwise="no optimiser that can be left out cures it",
    )


def lacking(*packages: tuple[str, str]) -> str | None:
    """The install line if a package is missing, or if onnxruntime is there without its compiled part."""
    if missing := uninstalled(*packages):
        return missing
    if not holds("onnxruntime", "capi/onnxruntime_pybind11_state*"):
        return "onnxruntime lacks its compiled module: pip install --force-reinstall onnxruntime"
    return None


class OnnxRuntime(Target):
    """``torch.onnx.export`` with ``dynamo=True``, then an inference session on the CPU provider."""

    name = "onnxruntime"
    facts = Facts(
        summary="ONNX Runtime's CPU provider, by way of torch.onnx",
        packages=tuple(distribution for distribution, _ in _PACKAGES),
        owner="onnxruntime",
        witness="shakeout.targets.witnesses:onnxruntime",
        libraries=("onnxruntime_pybind11_state*.so", "libonnxruntime.so*"),
        instrumented=("torch.onnx._internal.exporter", "onnxscript.rewriter", "onnxscript.optimizer"),
        compiler=True,
        turns=1,
        settings=24,
        accelerator=False,
        shortcuts=frozenset({"translations", "dispatcher"}),
        foreign=frozenset({"complex32", "complex64", "complex128"}),
        mode="inference",
        ladder=ladder("what torch.onnx made of it, or a kernel"),
        behind=frozenset({"InferenceSession", "run", "unoptimised session", "onnxruntime"}),
    )

    def knobs(self) -> KnobSpace:
        """How the model is exported, optimised and run."""
        return (*_EXPORT, *KNOBS)

    def unavailable(self) -> str | None:
        """The install line if a package is missing, or is there without its compiled part."""
        return lacking(*_PACKAGES)

    def warm(self) -> None:
        """Export one small network; onnxruntime starts a thread when it is imported, so each worker does that."""
        import torch

        loaded(self.source(Setting(self.name)))["onnx_model"](lambda x: (torch.sin(x),), (torch.ones(3),))

    def warm_with(self, shortcuts: Collection[str], door: int) -> None:
        """The same, with the exporter's tables read once for all exports."""
        from shakeout.targets.shortcuts import install_exporter

        install_exporter(shortcuts)
        self.warm()

    def source(self, setting: Setting) -> str:
        """Export and make a session at the first call, and run that from then on."""
        from shakeout.corpus.onnx_elements import elements
        from shakeout.targets import onnx_staged as printed

        export = []
        if setting.knob("export.optimize") is False:
            export.append("optimize=False")
        if setting.knob("export.opset") is not None:
            export.append(f"opset={setting.knob('export.opset')!r}")
        run = "ort_run(session, given, complexes)"
        lines = [
            "def prepare(function):",
            "    made = []",
            "",
            "    def run(*given):",
            "        if not made:",
            *(['            raise Declined("the model has no backward pass")'] * (setting.mode == "training")),
            f"            model = {_call('onnx_model', 'function', 'given', *export)}",
            '            program = KEPT["functional"]',
            "            complexes = complex_outputs(program)",
            f"            session = {_call('ort_compiled', 'model', *session_arguments(setting))}",
            "            made.append((session, complexes))",
            "            STAGES.extend(onnx_stages(program, model, complexes))",
            "        session, complexes = made[0]",
            '        with stage("run"):',
            *([f"            {run}"] * bool(setting.knob("again"))),
            f"            return {run}",
            "",
            "    return run",
            "",
            "",
            "declined = onnx_declined",
        ]
        functions = (
            elements,
            printed.pairs,
            printed.onnx_model,
            printed.complex_outputs,
            printed.ort_session,
            printed.onnx_lacks_type,
            printed.ort_compiled,
            printed.ort_run,
            printed.onnx_reference,
            printed.onnx_agreed,
            printed.onnx_stages,
            printed.onnx_declined,
        )
        imports = ("ctypes", "logging", "os", "re", "tempfile", "warnings")
        return staged("\n".join(lines), *functions, imports=[f"import {name}" for name in imports])

    def short(self, setting: Setting) -> Short | None:
        """Export and run at some level of optimisation; no other knob has a short form."""
        knobs = dict(setting.knobs)
        if knobs.keys() - {"optimization"}:
            return None
        name = str(knobs.get("optimization", "ALL"))
        level = "DISABLE_ALL" if name == "NONE" else f"ENABLE_{name}"
        return through_export(
            "program = torch.export.export(Exportable(network), given)",
            "model = torch.onnx.export(program, dynamo=True, verbose=False).model_proto.SerializeToString()",
            "options = onnxruntime.SessionOptions()",
            f"options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_{level}",
            'session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])',
            "feeds = {name.name: tensor.numpy() for name, tensor in zip(session.get_inputs(), given)}",
            "return [torch.from_numpy(output) for output in session.run(None, feeds)]",
            imports=("import onnxruntime",),
        )

    def model(
        self, setting: Setting, kept: Mapping[str, Any], given: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]
    ) -> str | None:
        """The ONNX model, built with ``onnx.helper``; what is done twice, or by way of a file, is not shown by it."""
        return model_script(setting, kept, given, expected)


def model_script(
    setting: Setting,
    kept: Mapping[str, Any],
    given: Sequence[torch.Tensor],
    expected: Sequence[torch.Tensor],
    meaning: str = "",
) -> str | None:
    """The script of an ONNX model on a session; None where a setting has no short form.

    Args:
        setting: of the session.
        kept: what the target's source left, the model among it.
        given: what it is run on.
        expected: what it should give.
        meaning: a sentence that says who gives that; empty for PyTorch.
    """
    from shakeout.targets.onnx_printed import printed
    from shakeout.targets.onnx_staged import pairs

    model = next((one for key, one in kept.items() if key.startswith("ONNX model")), None)
    if model is None or setting.knob("saved") is not None or setting.knob("again"):
        return None
    level = str(setting.knob("optimization", "ALL"))
    name = "ORT_DISABLE_ALL" if level == "NONE" else f"ORT_ENABLE_{level}"
    lines = [f"options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{name}"]
    options, entries = _options(setting)
    for attribute, value in options:
        text = f"onnxruntime.{value[0]}.{value[1]}" if isinstance(value, tuple) else repr(value)
        lines.append(f"options.{attribute} = {text}")
    lines += [f"options.add_session_config_entry({key!r}, {value!r})" for key, value in entries]
    disabled = [str(one) for one in (setting.knob("disabled"),) if one is not None]
    return printed(model, pairs(given), pairs(expected), lines, disabled, meaning)


def _call(name: str, *arguments: str) -> str:
    return f"{name}({', '.join(arguments)})"


def _options(setting: Setting) -> tuple[list[tuple[str, object]], list[tuple[str, str]]]:
    """Attributes of the session's options, and its configuration."""
    options: list[tuple[str, object]] = []
    entries: list[tuple[str, str]] = []
    for knob, value in setting.knobs:
        match knob:
            case "execution_mode":
                options += [("execution_mode", ("ExecutionMode", value)), ("inter_op_num_threads", 2)]
                entries.append(("session.inter_op.allow_spinning", "0"))
            case "execution_order":
                options.append(("execution_order", ("ExecutionOrder", value)))
            case "threads":
                options.append(("intra_op_num_threads", value))
                entries.append(("session.intra_op.allow_spinning", "0"))
            case "memory_pattern":
                options.append(("enable_mem_pattern", value))
            case "memory_arena":
                options.append(("enable_cpu_mem_arena", value))
            case "memory_reuse":
                options.append(("enable_mem_reuse", value))
            case "prepacking":
                entries.append(("session.disable_prepacking", "1"))
            case "inlining":
                entries.append(("session.disable_aot_function_inlining", "1"))
            case "optimization.loops":
                entries.append(("session.graph_optimizations_loop_level", str(value)))
            case "constant_folding_limit":
                entries.append(("optimization.constant_folding_max_output_size_in_bytes", str(value)))
    return options, entries


def session_arguments(setting: Setting) -> list[str]:
    """The keyword arguments of the session."""
    options, entries = _options(setting)
    arguments = []
    if setting.knob("optimization") is not None:
        arguments.append(f"level={setting.knob('optimization')!r}")
    if options:
        arguments.append(f"options={options!r}")
    if entries:
        arguments.append(f"entries={entries!r}")
    if setting.knob("disabled") is not None:
        arguments.append(f"disabled={[setting.knob('disabled')]!r}")
    if setting.knob("saved") is not None:
        arguments.append(f"saved={setting.knob('saved')!r}")
    return arguments


ONNXRUNTIME = OnnxRuntime()
