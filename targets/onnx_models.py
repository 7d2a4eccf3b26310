"""Targets of ONNX models as programs: what takes the model of a case itself, without an exporter before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import Knob, KnobSpace, Setting
from shakeout.targets.eager import DECLINES_NOTHING
from shakeout.targets.onnxruntime import KNOBS, lacking, ladder, model_script, session_arguments
from shakeout.targets.openvino import KNOBS as OPENVINO_KNOBS
from shakeout.targets.openvino import OPENVINO, compile_arguments
from shakeout.targets.packages import uninstalled
from shakeout.targets.printed import loaded, staged
from shakeout.targets.target import Facts, Target
from shakeout.targets.tvm import TVM, build_arguments

if TYPE_CHECKING:
    import torch

__all__ = [
    "ONNXRUNTIME_MODEL",
    "ONNX_REFERENCE",
    "OPENVINO_MODEL",
    "TVM_MODEL",
    "OnnxReference",
    "OnnxRuntimeModel",
    "OpenVinoModel",
    "TvmModel",
]

#: Dtypes of which ONNX has none, and of which the CPU kernels of runtimes take hardly any.
FOREIGN = frozenset(("complex32", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "bfloat16"))


class OnnxReference(Target):
    """ONNX's reference evaluator: it says what a program of this vocabulary means."""

    name = "onnx.reference"
    facts = Facts(
        summary="ONNX's reference evaluator: what a model means, judged against itself",
        called="ONNX's evaluator",
        vocabulary="onnx",
        packages=("onnx",),
        owner="onnx",
        promises=frozenset({"bits"}),
        accelerator=False,
        mode="inference",
        modules=("onnx.reference",),
    )

    def unavailable(self) -> str | None:
        """The install line if onnx is missing."""
        return uninstalled(("onnx", "onnx"))

    def warm(self) -> None:
        """Import it."""
        import onnx.reference  # noqa: F401

    def source(self, setting: Setting) -> str:
        """The identity."""
        return f"def prepare(network):\n    return network\n\n\n{DECLINES_NOTHING}\n"


_SHAPES = Knob("shapes", ("static", "symbolic"), "whether the model declares the sizes of its inputs")


class OnnxRuntimeModel(Target):
    """An inference session on the CPU provider, made of the model."""

    name = "onnx.onnxruntime"
    facts = Facts(
        summary="ONNX Runtime's CPU provider on ONNX models that are grown as such",
        vocabulary="onnx",
        packages=("onnx", "onnxruntime"),
        owner="onnxruntime",
        witness="shakeout.targets.witnesses:onnxruntime",
        libraries=("onnxruntime_pybind11_state*.so", "libonnxruntime.so*"),
        turns=1,
        settings=4,
        accelerator=False,
        foreign=FOREIGN,
        mode="inference",
        ladder=ladder("a kernel, or the reference"),
        behind=frozenset({"InferenceSession", "run", "unoptimised session", "onnx.onnxruntime"}),
    )

    def knobs(self) -> KnobSpace:
        """How the model is optimised and run."""
        return (*KNOBS, _SHAPES)

    def unavailable(self) -> str | None:
        """The install line if a package is missing, or is there without its compiled part."""
        return lacking(("onnx", "onnx"), ("onnxruntime", "onnxruntime"))

    def warm(self) -> None:
        """Import onnx; onnxruntime starts a thread when it is imported, so each worker does that."""

        loaded(self.source(Setting(self.name)))

    def source(self, setting: Setting) -> str:
        """Make a session of the model, and run that from then on."""
        from shakeout.targets import onnx_models_staged as own
        from shakeout.targets import onnx_staged as printed
        from shakeout.targets import staged as stages

        run = "answered(session, model, given)"
        symbolic = setting.knob("shapes") == "symbolic"
        lines = [
            "def prepare(network):",
            f"    model = {'unsized' if symbolic else 'declared'}(network.model)",
            '    KEPT["ONNX model"] = model',
            f"    session = {_call('session_of', 'model', *session_arguments(setting))}",
            '    STAGES.append(("unoptimised session", lambda *given: ort_run(ort_session(model, "NONE"), given)))',
            "",
            "    def run(*given):",
            '        with stage("run"):',
            *([f"            {run}"] * bool(setting.knob("again"))),
            f"            return {run}",
            "",
            "    return run",
            "",
            "",
            "declined = session_declined",
        ]
        functions = (
            printed.pairs,
            printed.ort_session,
            printed.ort_run,
            own.unsized,
            *(() if symbolic else (own.declared,)),
            own.session_of,
            own.answered,
            own.session_declined,
            own.models_declined,
        )
        imports = [f"import {name}" for name in ("ctypes", "os", "tempfile")]
        return staged("\n".join(lines), *functions, imports=imports, shared=(stages.Declined, stages.stage))

    def model(
        self, setting: Setting, kept: Mapping[str, Any], given: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]
    ) -> str | None:
        """The model, built with ``onnx.helper``; what is done twice, or by way of a file, is not shown by it."""
        return model_script(setting, kept, given, expected, "What ONNX's reference evaluator gives.")


class OpenVinoModel(Target):
    """The model, read by OpenVINO's own importer of ONNX and compiled for the CPU in float32."""

    name = "onnx.openvino"
    facts = Facts(
        summary="OpenVINO's CPU plugin on ONNX models that are grown as such",
        vocabulary="onnx",
        packages=("onnx", "onnxruntime", "openvino"),
        libraries=("libopenvino*.so*",),
        owner="openvino",
        turns=1,
        settings=4,
        accelerator=False,
        foreign=FOREIGN | {"float64", "uint16", "uint32", "uint64"},
        mode="inference",
        ladder=OPENVINO.facts.ladder,
    )

    def knobs(self) -> KnobSpace:
        """How the model is compiled, stored and run."""
        return OPENVINO_KNOBS

    def unavailable(self) -> str | None:
        """The install line if a package is missing; ONNX Runtime gives the second opinion on the reference."""
        return uninstalled(("onnx", "onnx"), ("onnxruntime", "onnxruntime")) or OPENVINO.unavailable()

    def warm(self) -> None:
        """Compile and run one small model."""
        import gc

        _run_once(self.source(Setting(self.name)))
        # A process that is forked while a compiled model lives dies with its first own one.
        gc.collect()

    def source(self, setting: Setting) -> str:
        """Read and compile the model at the first call, and run the inference request from then on."""
        from shakeout.targets import onnx_models_staged as own
        from shakeout.targets import onnx_staged as runtime
        from shakeout.targets import openvino_staged as printed
        from shakeout.targets import staged as stages

        run = f"openvino_run(made[0], given{', waiting=True' if setting.knob('waiting') else ''})"
        made = [
            "read = openvino_read_model(model)",
            f"made.append(openvino_compiled({', '.join(['read', 'given', *compile_arguments(setting)])}))",
        ]
        functions = (
            stages.varying,
            printed.openvino_loaded,
            printed.openvino_types,
            printed.openvino_compiled,
            printed.openvino_chosen,
            printed.openvino_fed,
            printed.openvino_read,
            printed.openvino_run,
            runtime.pairs,
            runtime.ort_session,
            runtime.ort_run,
            own.unsized,
            own.declared,
            own.openvino_read_model,
            own.narrow,
            own.outvoted,
            own.models_declined,
        )
        return _sourced(["narrow(model, given)"], made, run, setting, functions, ("sys",))


class TvmModel(Target):
    """The model, imported by ``tvm.relax.frontend.onnx`` and compiled for the CPU."""

    name = "onnx.tvm"
    facts = Facts(
        summary="TVM's Relax importer of ONNX and its LLVM code for the CPU, on ONNX models that are grown as such",
        vocabulary="onnx",
        packages=("onnx", "onnxruntime", *TVM.facts.packages),
        libraries=TVM.facts.libraries,
        owner="tvm",
        turns=1,
        settings=2,
        accelerator=False,
        foreign=FOREIGN,
        mode="inference",
        ladder=TVM.facts.ladder,
    )

    def knobs(self) -> KnobSpace:
        """How the module is built."""
        return tuple(knob for knob in TVM.knobs() if not knob.name.startswith("import."))

    def unavailable(self) -> str | None:
        """The install line if a package is missing; ONNX Runtime gives the second opinion on the reference."""
        return uninstalled(("onnx", "onnx"), ("onnxruntime", "onnxruntime")) or TVM.unavailable()

    def warm(self) -> None:
        """Build and run one small model."""
        _run_once(self.source(Setting(self.name)))

    def source(self, setting: Setting) -> str:
        """Import and build the model at the first call, and run the virtual machine from then on."""
        from shakeout.targets import onnx_models_staged as own
        from shakeout.targets import onnx_staged as runtime
        from shakeout.targets import tvm_staged as printed

        made = [
            "module = tvm_from_onnx(model)",
            f"made.append(tvm_built({', '.join(['module', *build_arguments(setting)])}))",
        ]
        functions = (
            printed.tvm_built,
            runtime.pairs,
            runtime.ort_session,
            runtime.ort_run,
            own.unsized,
            own.declared,
            own.tvm_from_onnx,
            own.tvm_outputs,
            own.outvoted,
            own.models_declined,
        )
        return _sourced([], made, "tvm_outputs(made[0], given)", setting, functions)


def _sourced(
    before: Sequence[str],
    made: Sequence[str],
    run: str,
    setting: Setting,
    functions: Sequence[Callable[..., Any]],
    imports: Sequence[str] = (),
) -> str:
    """The text of a target that compiles the model at the first call, with ONNX Runtime as the second opinion.

    Args:
        before: lines that look at the model and the arguments of each call.
        made: lines that compile ``model`` and append what runs to ``made``.
        run: the expression that runs it.
        setting: of the target.
        functions: that these use.
        imports: modules that they use beside those of a session.
    """
    from shakeout.targets import staged as stages

    lines = [
        "def prepare(network):",
        "    model, made, said = declared(network.model), [], []",
        '    KEPT["ONNX model"] = model',
        '    STAGES.append(("reference evaluator", lambda *given: outvoted(model, given, said)))',
        "",
        "    def run(*given):",
        *(f"        {line}" for line in before),
        "        if not made:",
        *(f"            {line}" for line in made),
        '        with stage("run"):',
        *([f"            {run}"] * bool(setting.knob("again"))),
        f"            said.append({run})",
        "        return said[-1]",
        "",
        "    return run",
        "",
        "",
        "declined = models_declined",
    ]
    named = [f"import {name}" for name in sorted({"ctypes", "os", "tempfile", *imports})]
    return staged("\n".join(lines), *functions, imports=named, shared=(stages.Declined, stages.stage))


def _run_once(text: str) -> None:
    """Prepare and run a model of one node."""
    import torch

    from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
    from shakeout.corpus.vocabularies import onnx as words
    from shakeout.targets.printed import executed

    type_ = TensorType("float32", (3,))
    program = Program((Input(type_),), (Call("onnx.v13.Neg", (Ref(0),), (), (type_,)),), (1,), "onnx")
    namespace = {"torch": torch, **words.namespace(program)}
    exec(words.network(program, ("x0", "v1")), namespace)
    namespace |= {"CALLS": [lambda: [torch.ones(3)]]}
    executed(text, namespace).prepare(namespace["bind"]([]))(torch.ones(3))


def _call(name: str, *arguments: str) -> str:
    return f"{name}({', '.join(arguments)})"


ONNX_REFERENCE = OnnxReference()
ONNXRUNTIME_MODEL = OnnxRuntimeModel()
OPENVINO_MODEL = OpenVinoModel()
TVM_MODEL = TvmModel()
