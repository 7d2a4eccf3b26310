"""OpenVINO on the CPU, by way of its converter for exported programs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import Knob, KnobSpace, Setting
from shakeout.targets.packages import holds, uninstalled
from shakeout.targets.printed import run_once, staged
from shakeout.targets.target import Facts, Ladder, Short, Target
from shakeout.targets.through_export import through_export

if TYPE_CHECKING:
    import torch

__all__ = ["KNOBS", "OPENVINO", "OpenVino", "compile_arguments"]

KNOBS = (
    Knob("shapes", ("dynamic", "static"), "sizes of the model: free, or those of the arguments"),
    Knob("reload", (None, "ir", "blob"), "save the model, or the compiled model, and load it again"),
    Knob("performance_hint", ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT"), "what the plugin plans for"),
    Knob("execution_mode_hint", ("PERFORMANCE", "ACCURACY"), "what the plugin may give up"),
    Knob("threads", (1, 2), "threads within an operator"),
    Knob("waiting", (False, True), "run in the background, and wait"),
    Knob("again", (False, True), "run twice on the same inputs, and look at the second run's outputs"),
)


class OpenVino(Target):
    """``openvino.convert_model`` of the exported program, compiled for the CPU in float32."""

    name = "openvino"
    facts = Facts(
        summary="OpenVINO's CPU plugin, by way of its converter",
        packages=("openvino",),
        libraries=("libopenvino*.so*",),
        owner="openvino",
        shortcuts=frozenset({"dispatcher"}),
        compiler=True,
        turns=1,
        settings=8,
        accelerator=False,
        foreign=frozenset({"float64", "complex32", "complex64", "complex128", "uint16", "uint32", "uint64"}),
        mode="inference",
        ladder=Ladder(
            otherwise="OpenVINO's compile_model has no switch for single transformations; only its properties are tried"
        ),
        behind=frozenset({"compile_model", "run", "openvino"}),
    )

    def knobs(self) -> KnobSpace:
        """How the model is compiled, stored and run."""
        return KNOBS

    def unavailable(self) -> str | None:
        """The install line if the package is missing, or is there without its compiled part."""
        if missing := uninstalled(("openvino", "openvino")):
            return missing
        if not holds("openvino", "_pyopenvino.*"):
            return "openvino has no compiled module: pip install --force-reinstall openvino"
        return None

    def warm(self) -> None:
        """Convert and run one small network."""
        import gc

        run_once(self.source(Setting(self.name)))
        # A process that is forked while a compiled model lives dies with its first own one.
        gc.collect()

    def warm_with(self, shortcuts: Collection[str], door: int) -> None:
        """The same, with the dispatcher's operators read once for all exports."""
        from shakeout.targets.shortcuts import install_exporter

        install_exporter(self.facts.shortcuts.intersection(shortcuts))
        self.warm()

    def source(self, setting: Setting) -> str:
        """Convert and compile at the first call, and run the inference request from then on."""
        from shakeout.targets import openvino_staged as printed

        run = f"openvino_run(made[0], given{', waiting=True' if setting.knob('waiting') else ''})"
        lines = [
            "def prepare(function):",
            "    made = []",
            "",
            "    def run(*given):",
            *(['        raise Declined("the model has no backward pass")'] * (setting.mode == "training")),
            "        openvino_taken(function, given)",
            "        if not made:",
            "            model = openvino_model(function, given)",
            f"            made.append(openvino_compiled({', '.join(['model', 'given', *compile_arguments(setting)])}))",
            "            STAGES.extend(openvino_stages(model))",
            '        with stage("run"):',
            *([f"            {run}"] * bool(setting.knob("again"))),
            f"            return {run}",
            "",
            "    return run",
            "",
            "",
            "declined = openvino_declined",
        ]
        functions = (
            printed.openvino_loaded,
            printed.openvino_types,
            printed.Narrowed,
            printed.openvino_taken,
            printed.openvino_model,
            printed.openvino_compiled,
            printed.openvino_chosen,
            printed.openvino_fed,
            printed.openvino_read,
            printed.openvino_run,
            printed.openvino_stages,
            printed.openvino_declined,
        )
        return staged(
            "\n".join(lines), *functions, imports=[f"import {name}" for name in ("ctypes", "os", "sys", "tempfile")]
        )

    def short(self, setting: Setting) -> Short | None:
        """Convert, compile and run under default settings."""
        if setting.knobs:
            return None
        return through_export(
            "model = openvino.convert_model(torch.export.export(Exportable(network), given))",
            f'compiled = openvino.compile_model(model, "CPU", {{{"".join(_HARNESS.values())}}})',
            "outputs = compiled([tensor.numpy() for tensor in given])",
            "return [torch.from_numpy(outputs[i].copy()) for i in range(len(compiled.outputs))]",
            imports=("import openvino",),
            harness=_HARNESS,
        )

    def model(
        self, setting: Setting, kept: Mapping[str, Any], given: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]
    ) -> str | None:
        """The model that the converter made, built from its operators; under default settings alone."""
        from shakeout.targets.openvino_printed import printed

        converted = kept.get("OpenVINO model")
        if setting.knobs or converted is None:
            return None
        return printed(converted, given, expected, {"INFERENCE_PRECISION_HINT": "f32"})


#: What ``openvino_compiled`` sets, as the short script has it, by the name that OpenVINO's users know it by.
_HARNESS = {
    "INFERENCE_PRECISION_HINT=f32": '"INFERENCE_PRECISION_HINT": "f32", ',
    "INFERENCE_NUM_THREADS=1": '"INFERENCE_NUM_THREADS": 1, ',
    "ENABLE_CPU_PINNING=False": '"ENABLE_CPU_PINNING": False, ',
}


def compile_arguments(setting: Setting) -> list[str]:
    """The keyword arguments of the compilation."""
    names = {"threads": "INFERENCE_NUM_THREADS"}
    names |= {name: name.upper() for name in ("performance_hint", "execution_mode_hint")}
    config = {names[knob]: value for knob, value in setting.knobs if knob in names}
    arguments = [f"config={config!r}"] if config else []
    if setting.knob("shapes") == "static":
        arguments.append("static=True")
    if setting.knob("reload") is not None:
        arguments.append(f"reload={setting.knob('reload')!r}")
    return arguments


OPENVINO = OpenVino()
