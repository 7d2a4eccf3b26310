"""TVM on the CPU: Relax's importer of exported programs, and code made by LLVM."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import Knob, KnobSpace, Setting
from shakeout.targets.packages import holds, uninstalled
from shakeout.targets.printed import run_once, staged
from shakeout.targets.target import Facts, Ladder, Levels, Part, Short, Target
from shakeout.targets.through_export import through_export

if TYPE_CHECKING:
    import torch

__all__ = ["OPTIONAL", "TVM", "Tvm", "build_arguments"]

#: Passes that can be left out: the others' results do not rest on theirs.
OPTIONAL = (
    "CanonicalizeBindings",
    "DeadCodeElimination",
    "FoldConstant",
    "FuseOps",
    "FuseTIR",
    "KillAfterLastUse",
    "RewriteDataflowReshape",
    "StaticPlanBlockMemory",
    "s_tir.CompactBufferAllocation",
    "s_tir.HoistIfThenElse",
    "s_tir.LoopPartition",
    "s_tir.RenormalizeSplitPattern",
    "s_tir.StmtSimplify",
    "tirx.CommonSubexprElim",
    "tirx.NarrowDataType",
    "tirx.RemoveNoOp",
    "tirx.StmtSimplify",
    "tirx.StorageRewrite",
    "tirx.UnrollLoop",
)

#: Passes over Relax modules that keep the meaning of any program, and need no arguments.
_FURTHER = (
    "AdjustMatmulOrder",
    "CanonicalizeBindings",
    "CombineParallelMatmul",
    "ConvertToDataflow",
    "DataflowUseInplaceCalls",
    "DeadCodeElimination",
    "DecomposeOpsForInference",
    "EliminateCommonSubexpr",
    "ExpandMatmulOfSum",
    "FoldBatchnormToConv2D",
    "FoldConstant",
    "FuseTransposeMatmul",
    "InlinePrivateFunctions",
    "LambdaLift",
    "OptimizeLayoutTransform",
    "RemoveRedundantReshape",
    "ReorderPermuteDimsAfterConcat",
    "ReorderTakeAfterMatmul",
    "TopologicalSort",
)

_KNOBS = (
    Knob("import.decompositions", (True, False), "rewrite into core ATen before the import"),
    Knob("pipeline", ("default", "zero", "cpu"), "relax.build's own, after the zero pipeline, the CPU backend's"),
    Knob("further", (None, *_FURTHER), "one more pass over the Relax module, before all others"),
    Knob("opt_level", (None, 0, 1, 3), "of the pass context; None is TVM's default"),
    Knob("disabled", (None, *OPTIONAL), "one pass that is left out"),
    Knob("exec_mode", ("bytecode", "compiled"), "how the virtual machine runs the calls"),
    Knob("llvm.opt_level", (None, 0, 1, 2), "of LLVM; None is TVM's default"),
    Knob("llvm.cpu", (None, "host"), "the code is for any machine, or for this one's processor"),
    Knob("again", (False, True), "run twice on the same inputs, and look at the second run's outputs"),
)


_LADDER = Ladder(
    levels=Levels("opt_level", (0, 1)),
    parts=(Part("tvm passes", "pass", "shakeout.targets.limits:tvm_passes"),),
    single="disabled",
    otherwise="no pass that can be left out cures it: the importer, a pass that must run, LLVM, or the runtime",
)


class Tvm(Target):
    """``from_exported_program``, ``relax.build`` and the Relax virtual machine."""

    name = "tvm"
    facts = Facts(
        summary="TVM's Relax importer and its LLVM code for the CPU",
        packages=("apache-tvm",),
        libraries=("libtvm*.so",),
        modules=("tvm",),
        shortcuts=frozenset({"dispatcher"}),
        witness="shakeout.targets.witnesses:tvm",
        instrumented=("tvm.relax.frontend.torch", "tvm.relax.transform", "tvm.relax.backend", "tvm.relax.pipeline"),
        owner="tvm",
        compiler=True,
        turns=1,
        settings=6,
        accelerator=False,
        foreign=frozenset({"complex32", "complex64", "complex128"}),
        mode="inference",
        ladder=_LADDER,
        behind=frozenset({"relax.build", "run", "tvm"}),
    )

    def knobs(self) -> KnobSpace:
        """How the program is imported, built and run."""
        return _KNOBS

    def unavailable(self) -> str | None:
        """The install line if a package is missing, or is there without its compiler or its importer."""
        if missing := uninstalled(("apache-tvm", "tvm"), ("apache-tvm-ffi", "tvm_ffi")):
            return missing
        # Older packages of the same name have neither; builds from source keep their libraries elsewhere.
        if not holds("tvm", "relax/frontend/torch/exported_program_translator.py"):
            return "tvm has no importer of exported programs: pip install --force-reinstall apache-tvm"
        return None

    def warm(self) -> None:
        """Import, build and run one small network."""
        run_once(self.source(Setting(self.name)))

    def warm_with(self, shortcuts: Collection[str], door: int) -> None:
        """The same, with the dispatcher's operators read once for all exports."""
        from shakeout.targets.shortcuts import install_exporter

        install_exporter(self.facts.shortcuts.intersection(shortcuts))
        self.warm()

    def source(self, setting: Setting) -> str:
        """Import and build at the first call, and run the virtual machine from then on."""
        from shakeout.targets import tvm_staged as printed

        importing = ["decompositions=False"] if setting.knob("import.decompositions") is False else []
        unoptimised = {"level": 0, "disabled": list(OPTIONAL), "llvm": 0}
        run = "tvm_run(made[0], given)"
        lines = [
            f"UNOPTIMISED = {unoptimised!r}",
            "",
            "",
            "def prepare(function):",
            "    made = []",
            "",
            "    def run(*given):",
            "        if not made:",
            *(['            raise Declined("the module has no backward pass")'] * (setting.mode == "training")),
            f"            module = tvm_imported({', '.join(['function', 'given', *importing])})",
            f"            made.append(tvm_built({', '.join(['module', *build_arguments(setting)])}))",
            "            STAGES.extend(tvm_stages(module, UNOPTIMISED))",
            '        with stage("run"):',
            *([f"            {run}"] * bool(setting.knob("again"))),
            f"            return {run}",
            "",
            "    return run",
            "",
            "",
            "declined = tvm_declined",
        ]
        functions = (
            printed.tvm_imported,
            printed.tvm_built,
            printed.tvm_run,
            printed.tvm_stages,
            printed.tvm_declined,
        )
        return staged("\n".join(lines), *functions)

    def short(self, setting: Setting) -> Short | None:
        """Import, build and run under default settings."""
        if setting.knobs:
            return None
        return through_export(
            "module = from_exported_program(torch.export.export(Exportable(network), given))",
            'built = tvm.relax.build(module, "llvm")',
            "machine = tvm.relax.VirtualMachine(built, tvm.cpu())",
            'outputs = machine["main"](*[tvm.runtime.from_dlpack(tensor.contiguous()) for tensor in given])',
            "return [torch.from_dlpack(output) for output in outputs]",
            imports=("import tvm", "from tvm.relax.frontend.torch import from_exported_program"),
        )

    def model(
        self, setting: Setting, kept: Mapping[str, Any], given: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]
    ) -> str | None:
        """The Relax module that the importer made, as TVMScript; under the build's default settings alone."""
        from shakeout.targets.tvm_printed import printed

        imported = next((one for key, one in kept.items() if key.startswith("Relax module")), None)
        if imported is None or {name for name, _ in setting.knobs} - {"import.decompositions"}:
            return None
        return printed(imported, given, expected)


def build_arguments(setting: Setting) -> list[str]:
    """The keyword arguments of the build."""
    arguments = []
    for knob, value in setting.knobs:
        match knob:
            case "pipeline":
                arguments.append(f"pipeline={value!r}")
            case "further" if value is not None:
                arguments.append(f"passes={[value]!r}")
            case "opt_level" if value is not None:
                arguments.append(f"level={value!r}")
            case "disabled" if value is not None:
                arguments.append(f"disabled={[value]!r}")
            case "exec_mode":
                arguments.append(f"mode={value!r}")
            case "llvm.opt_level" if value is not None:
                arguments.append(f"llvm={value!r}")
            case "llvm.cpu" if value is not None:
                arguments.append(f"cpu={value!r}")
    return arguments


TVM = Tvm()
