"""What the target ``openvino`` needs; its functions are printed into its scripts, like ``staged.py``."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from shakeout.targets.staged import KEPT, Declined, export_declined, exported, functional, stage, varying


def openvino_loaded() -> Any:
    """The package, without its usage statistics, which it sends over the network from threads."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def openvino_types() -> dict[torch.dtype, str]:
    """Each dtype's name in OpenVINO."""
    names = {"bool": "boolean", "uint8": "u8", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64"}
    names |= {"uint16": "u16", "uint32": "u32", "uint64": "u64", "float16": "f16", "bfloat16": "bf16"}
    names |= {"float32": "f32", "float64": "f64", "float8_e4m3fn": "f8e4m3", "float8_e5m2": "f8e5m2"}
    return {getattr(torch, dtype): name for dtype, name in names.items()}


class Narrowed(torch.fx.Interpreter):
    """Declines programs with values that the CPU plugin does not hold.

    It computes in float32 and int32; what an overflow of an integer gives is left open by OpenVINO's operators.
    """

    def run_node(self, n: torch.fx.Node) -> Any:
        """Look at each result."""
        result = super().run_node(n)
        for t in result if isinstance(result, (list, tuple)) else [result]:
            if not isinstance(t, torch.Tensor):
                continue
            if t.dtype not in openvino_types() or t.dtype in (torch.uint16, torch.uint32, torch.uint64):
                raise Declined(f"OpenVINO's converter takes no {t.dtype}")
            if t.dtype == torch.float64:
                raise Declined("OpenVINO's CPU computes float64 in float32")
            if t.dtype == torch.int64 and t.numel() and (t.max() > 2**31 - 1 or t.min() < -(2**31)):
                raise Declined("OpenVINO's CPU computes int64 in int32")
        if n.op == "call_function" and isinstance(result, torch.Tensor) and self.overflows(n, result):
            raise Declined("an integer overflows, and OpenVINO leaves open what that gives")
        return result

    def overflows(self, n: torch.fx.Node, result: torch.Tensor) -> bool:
        """Whether an operator, or one of those that it is made of, gives something else if integers have 64 bits."""
        whole = (torch.uint8, torch.int8, torch.int16, torch.int32)
        widened = []

        def widen(value: Any) -> Any:
            if (value.dtype if isinstance(value, torch.Tensor) else value) not in whole:
                return value
            widened.append(value)
            return value.to(torch.int64) if isinstance(value, torch.Tensor) else torch.int64

        args, kwargs = torch.utils._pytree.tree_map(widen, self.fetch_args_kwargs_from_env(n))
        if not widened or "bitwise" in str(n.target) or "shift" in str(n.target):
            return False
        try:
            wide = n.target(*args, **kwargs)  # type: ignore[operator]
        except Exception:  # an operator that takes no other type
            return False
        if wide.shape != result.shape:
            return False
        if result.dtype in whole:
            return wide.dtype == torch.int64 and bool((wide != result).any())
        return result.is_floating_point() and not torch.allclose(wide.to(result.dtype), result, 1e-2, equal_nan=True)


def openvino_taken(function: Callable[..., Any], given: Sequence[torch.Tensor]) -> None:
    """Decline a program that the CPU plugin cannot compute for these arguments."""
    program = functional(exported(function, given))
    with stage("exported program"), torch.no_grad():
        if "narrowed" not in KEPT:
            KEPT["narrowed"] = Narrowed(program.module())
            KEPT["narrowed"].extra_traceback = False
        KEPT["narrowed"].run(*[t.detach() for t in given])


def openvino_model(function: Callable[..., Any], given: Sequence[torch.Tensor]) -> Any:
    """The OpenVINO model of the exported program; kept for other settings of the same program."""
    if "OpenVINO model" not in KEPT:
        program = exported(function, given)
        functional(program)  # declines a program that writes to its inputs
        with stage("convert_model"):
            KEPT["OpenVINO model"] = openvino_loaded().convert_model(program)
    return KEPT["OpenVINO model"]


def openvino_compiled(
    model: Any,
    given: Sequence[torch.Tensor],
    config: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
    static: bool = False,
    reload: str | None = None,
) -> Any:
    """An inference request of the model on the CPU.

    ``static`` gives the model the sizes of the arguments, ``reload`` (ir, blob) is a format in which the model is saved
    and loaded again.
    """
    openvino = openvino_loaded()
    # One precision for all machines, and no threads that are bound to cores.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
    settings |= dict(config)
    with stage("compile_model"):
        core = openvino.Core()
        if static and varying(given) is None:
            model = model.clone()
            model.reshape({i: list(t.shape) for i, t in enumerate(openvino_chosen(model.inputs, given))})
        if reload == "ir":
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "model.xml")
                openvino.save_model(model, path, compress_to_fp16=False)
                compiled = core.compile_model(core.read_model(path), "CPU", settings)
        else:
            compiled = core.compile_model(model, "CPU", settings)
        if reload == "blob":
            compiled = core.import_model(compiled.export_model(), "CPU", settings)
        return compiled.create_infer_request()


def openvino_chosen(ports: Sequence[Any], given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The argument of each input of a model: the converter leaves out those that no result is computed from."""
    if len(ports) == len(given):
        return list(given)
    named = dict(zip(KEPT["functional"].graph_signature.user_inputs, given, strict=True))
    try:
        return [next(named[name] for name in port.get_names() if name in named) for port in ports]
    except StopIteration:
        raise Declined("OpenVINO's converter leaves out inputs, and gives others another name") from None


def openvino_fed(ports: Sequence[Any], given: Sequence[torch.Tensor]) -> list[Any]:
    """Tensors of any layout as OpenVINO's, which own their memory, for the inputs of a model."""
    openvino = openvino_loaded()
    fed = []
    for t in openvino_chosen(ports, given):
        t = t.detach().resolve_neg().clone(memory_format=torch.contiguous_format)
        fed.append(openvino.Tensor(getattr(openvino.Type, openvino_types()[t.dtype]), openvino.Shape(list(t.shape))))
        ctypes.memmove(fed[-1].data.ctypes.data, t.data_ptr(), t.nbytes)
    return fed


def openvino_read(tensors: Sequence[Any]) -> list[torch.Tensor]:
    """Copies of OpenVINO's tensors."""
    dtypes = {name: dtype for dtype, name in openvino_types().items()}
    outputs = []
    for t in tensors:
        outputs.append(torch.empty(tuple(t.shape), dtype=dtypes[t.element_type.get_type_name()]))
        ctypes.memmove(outputs[-1].data_ptr(), t.data.ctypes.data, outputs[-1].nbytes)
    return outputs


def openvino_run(request: Any, given: Sequence[torch.Tensor], waiting: bool = False) -> list[torch.Tensor]:
    """Run an inference request; with ``waiting``, in the background."""
    feeds = openvino_fed(request.model_inputs, given)
    for i, t in enumerate(feeds):
        request.set_input_tensor(i, t)
    if waiting:
        request.start_async()
        request.wait()
    else:
        request.infer()
    return openvino_read([request.get_output_tensor(i) for i in range(len(request.model_outputs))])


def openvino_stages(model: Any) -> list[tuple[str, Callable[..., list[torch.Tensor]]]]:
    """The forms of the program on its way to the compiled model; each is made when it is first run."""
    made: dict[str, Any] = {}

    def program(*given: torch.Tensor) -> Any:
        return (made.get("program") or made.setdefault("program", KEPT["functional"].module()))(*given)

    def evaluated(*given: torch.Tensor) -> Any:
        openvino = openvino_loaded()
        outputs = [openvino.Tensor(o.get_element_type(), openvino.Shape([0])) for o in model.outputs]
        if not model.evaluate(outputs, openvino_fed(model.inputs, given)):
            raise Declined("an operator of the model has no reference implementation")
        return openvino_read(outputs)

    return [("exported program", program), ("OpenVINO model", evaluated)]


def openvino_declined(error: BaseException | None) -> bool:
    """Whether torch.export, the converter or the plugin says that it does not take the program."""
    said = ("No conversion rule found", "not supported", "Not Implemented", "not implemented")
    while error is not None:
        if export_declined(error) or any(part in str(error) for part in said):
            return True
        error = error.__cause__
    return False
