"""How a target is called in the script of a report: the interface that its users know, and nothing around it."""

from __future__ import annotations

from dataclasses import dataclass

from shakeout.corpus.case import Setting
from shakeout.targets.target import check_knobs, target

__all__ = ["Short", "short_source"]


@dataclass(frozen=True, slots=True)
class Short:
    """Source of ``prepare(network)``, and the lines of import that it needs beside torch."""

    prepare: str
    imports: tuple[str, ...] = ()


_MODULE = """class Exportable(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, *given):
        return self.network(*given)


"""

_EXPORT = """def prepare(network):
    def run(*given):
        program = torch.export.export(Exportable(network), given, strict={strict}){decompositions}
        return program.module()(*given)

    return run
"""

_ONNXRUNTIME = """def prepare(network):
    def run(*given):
        program = torch.export.export(Exportable(network), given)
        model = torch.onnx.export(program, dynamo=True, verbose=False).model_proto.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_{level}
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feeds = {{name.name: tensor.numpy() for name, tensor in zip(session.get_inputs(), given)}}
        return [torch.from_numpy(output) for output in session.run(None, feeds)]

    return run
"""

_OPENVINO = """def prepare(network):
    def run(*given):
        model = openvino.convert_model(torch.export.export(Exportable(network), given))
        compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        outputs = compiled([tensor.numpy() for tensor in given])
        return [torch.from_numpy(outputs[i].copy()) for i in range(len(compiled.outputs))]

    return run
"""

_TVM = """def prepare(network):
    def run(*given):
        module = from_exported_program(torch.export.export(Exportable(network), given))
        built = tvm.relax.build(module, "llvm")
        machine = tvm.relax.VirtualMachine(built, tvm.cpu())
        outputs = machine["main"](*[tvm.runtime.from_dlpack(tensor.contiguous()) for tensor in given])
        return [torch.from_dlpack(output) for output in outputs]

    return run
"""


def short_source(setting: Setting) -> Short | None:
    """How the target is called under a setting; None where it takes more than a few lines."""
    knobs = dict(setting.knobs)
    if knobs:
        check_knobs(target(setting.target), setting)
    match setting.target:
        case "inductor" | "aot_eager" if not knobs.keys() & {"history", "sanitize"}:
            return Short(_torch_compile(setting))
        case "export" if not knobs.keys() - {"strict", "decompositions"}:
            tail = {"functional": ".run_decompositions({})", "core_aten": ".run_decompositions()"}
            tail["twice"] = tail["functional"] + tail["core_aten"]
            decompositions = tail.get(str(knobs.get("decompositions")), "")
            text = _EXPORT.format(strict=knobs.get("strict", False), decompositions=decompositions)
            return Short(_MODULE + text)
        case "onnxruntime" if not knobs.keys() - {"optimization"}:
            name = str(knobs.get("optimization", "ALL"))
            level = "DISABLE_ALL" if name == "NONE" else f"ENABLE_{name}"
            return Short(_MODULE + _ONNXRUNTIME.format(level=level), ("import onnxruntime",))
        case "openvino" if not knobs:
            return Short(_MODULE + _OPENVINO, ("import openvino",))
        case "tvm" if not knobs:
            importer = "from tvm.relax.frontend.torch import from_exported_program"
            return Short(_MODULE + _TVM, ("import tvm", importer))
    return None


def _torch_compile(setting: Setting) -> str:
    from shakeout.targets.dynamo import AOT_EAGER, INDUCTOR

    compiler = INDUCTOR if setting.target == "inductor" else AOT_EAGER
    return f"def prepare(network):\n    return {compiler.call(setting).replace('function', 'network', 1)}\n"
