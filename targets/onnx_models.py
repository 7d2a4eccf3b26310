"""Targets of ONNX models as programs: what takes the model of a case itself, without an exporter before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import Knob, KnobSpace, Setting
from shakeout.targets.eager import DECLINES_NOTHING
from shakeout.targets.onnxruntime import KNOBS, OPTIMISER_PART, model_script, session_arguments
from shakeout.targets.packages import holds, uninstalled
from shakeout.targets.printed import loaded, staged
from shakeout.targets.target import Facts, Ladder, Levels, Target

if TYPE_CHECKING:
    import torch

__all__ = ["ONNXRUNTIME_MODEL", "ONNX_REFERENCE", "OnnxReference", "OnnxRuntimeModel"]

#: Dtypes of which ONNX has none, and of which the CPU kernels of runtimes take hardly any.
FOREIGN = frozenset(("complex32", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "bfloat16"))


class OnnxReference(Target):
    """ONNX's reference evaluator: it says what a program of this vocabulary means."""

    name = "onnx.reference"
    facts = Facts(
        summary="ONNX's reference evaluator: what a model means, judged against itself",
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


_LADDER = Ladder(
    levels=Levels(
        "optimization",
        ("NONE", "BASIC", "EXTENDED", "LAYOUT", "ALL"),
        label="optimisation level",
        off="it fails without any optimisation: a kernel, or the reference",
    ),
    parts=(OPTIMISER_PART,),
    single="disabled",
    otherwise="no optimiser that can be left out cures it",
)

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
        ladder=_LADDER,
        behind=frozenset({"InferenceSession", "run", "unoptimised session", "onnx.onnxruntime"}),
    )

    def knobs(self) -> KnobSpace:
        """How the model is optimised and run."""
        return (*KNOBS, _SHAPES)

    def unavailable(self) -> str | None:
        """The install line if a package is missing, or is there without its compiled part."""
        if missing := uninstalled(("onnx", "onnx"), ("onnxruntime", "onnxruntime")):
            return missing
        if not holds("onnxruntime", "capi/onnxruntime_pybind11_state*"):
            return "onnxruntime lacks its compiled module: pip install --force-reinstall onnxruntime"
        return None

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
            f"    model = {'unsized(network.model)' if symbolic else 'network.model'}",
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
            "declined = models_declined",
        ]
        functions = (
            printed.pairs,
            printed.ort_session,
            printed.ort_run,
            *((own.unsized,) if symbolic else ()),
            own.session_of,
            own.answered,
            own.models_declined,
        )
        imports = [f"import {name}" for name in ("ctypes", "os", "tempfile")]
        return staged("\n".join(lines), *functions, imports=imports, shared=(stages.Declined, stages.stage))

    def model(
        self, setting: Setting, kept: Mapping[str, Any], given: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]
    ) -> str | None:
        """The model, built with ``onnx.helper``; what is done twice, or by way of a file, is not shown by it."""
        return model_script(setting, kept, given, expected, "What ONNX's reference evaluator gives.")


def _call(name: str, *arguments: str) -> str:
    return f"{name}({', '.join(arguments)})"


ONNX_REFERENCE = OnnxReference()
ONNXRUNTIME_MODEL = OnnxRuntimeModel()
