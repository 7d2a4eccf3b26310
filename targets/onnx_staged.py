"""What targets that go through an ONNX model need; its functions are printed into their scripts, like ``staged.py``.

Complex tensors travel as pairs of real ones (a last dimension of size 2), which is the exporter's own convention.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

from shakeout.corpus.onnx_elements import elements
from shakeout.targets.staged import KEPT, Declined, export_declined, exported, functional, stage


def onnx_model(
    function: Callable[..., Any], given: Sequence[torch.Tensor], optimize: bool = True, opset: int | None = None
) -> Any:
    """The ONNX model that torch.onnx makes of the exported program; kept for other settings of the same program."""
    key = f"ONNX model, optimize={optimize}, opset={opset}"
    if key not in KEPT:
        program = exported(function, given)
        functional(program)  # declines a program that writes to its inputs
        with stage("torch.onnx"):
            for name in ("torch.onnx", "onnx_ir", "onnxscript"):
                logging.getLogger(name).setLevel(logging.ERROR)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                options: dict[str, Any] = {} if opset is None else {"opset_version": opset}
                made = torch.onnx.export(program, dynamo=True, optimize=optimize, verbose=False, **options)
                KEPT[key] = made.model_proto  # type: ignore[union-attr]
    return KEPT[key]


def pairs(given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Row-major copies that ONNX has a type for: complex numbers become pairs."""
    flat = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in given]
    for t in flat:
        if t.dtype not in elements():
            raise Declined(f"ONNX has no tensors of {t.dtype}")
    return [t.detach().resolve_neg().clone(memory_format=torch.contiguous_format) for t in flat]


def complex_outputs(program: torch.export.ExportedProgram) -> list[int]:
    """The positions of an exported program's complex outputs."""
    returned = next(node for node in program.graph.nodes if node.op == "output").args[0]
    return [i for i, node in enumerate(returned) if isinstance(node, torch.fx.Node) and node.meta["val"].is_complex()]


def ort_session(
    model: Any,
    level: str = "ALL",
    options: Sequence[tuple[str, Any]] = (),
    entries: Sequence[tuple[str, str]] = (),
    disabled: Sequence[str] = (),
    saved: str | None = None,
) -> Any:
    """A session for the model on the CPU.

    ``options`` are attributes of the session's options, ``entries`` its configuration, ``disabled`` the optimisers that
    are left out; ``saved`` (onnx, ort) is a format in which the optimised model is saved and loaded again.
    """
    import onnxruntime

    model = model if isinstance(model, bytes) else model.SerializeToString()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # errors arrive as exceptions
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, "ORT_" + ("DISABLE_ALL" if level == "NONE" else f"ENABLE_{level}")
    )
    for name, value in options:
        setattr(
            settings, name, getattr(getattr(onnxruntime, value[0]), value[1]) if isinstance(value, tuple) else value
        )
    for name, value in entries:
        settings.add_session_config_entry(name, value)
    # Without its fallback, which prints, and tries once more without the list of optimisers.
    knobs = {"disabled_optimizers": list(disabled), "enable_fallback": 0, "providers": ["CPUExecutionProvider"]}
    if saved is None:
        return onnxruntime.InferenceSession(model, settings, **knobs)
    with tempfile.TemporaryDirectory() as folder:
        settings.optimized_model_filepath = os.path.join(folder, f"model.{saved}")
        onnxruntime.InferenceSession(model, settings, **knobs)
        with open(settings.optimized_model_filepath, "rb") as file:
            model = file.read()
    settings.optimized_model_filepath = ""
    return onnxruntime.InferenceSession(model, settings, **knobs)


def onnx_lacks_type(model: Any, text: str) -> bool:
    """Whether a model was rejected because ONNX's operator takes only other dtypes of the same kind.

    That is a limit of ONNX, like an operator that it does not have. Where it takes no dtype of the kind (a sine of
    whole numbers), the exporter should have promoted the operand.
    """
    import onnx

    found = re.search(r"Type 'tensor\((\w+)\)' of input parameter \((.*)\) of operator \((\w+)\)", text)
    version = next((one.version for one in model.opset_import if one.domain == ""), 0)
    if found is None or not onnx.defs.has(found[3], version):
        return False

    def family(dtype: str) -> str:
        return "float" if "float" in dtype or dtype == "double" else "int" if "int" in dtype else dtype

    formal = onnx.defs.get_schema(found[3], version).inputs
    taken = set()
    for node in model.graph.node:
        if node.op_type == found[3] and found[2] in node.input:
            position = min(list(node.input).index(found[2]), len(formal) - 1)
            taken |= {re.sub(r".*tensor\(|\)", "", one) for one in formal[position].types}
    return found[1] not in taken and family(found[1]) in map(family, taken)


def ort_compiled(model: Any, **knobs: Any) -> Any:
    """``ort_session``; where it raises, and the model breaks ONNX's own rules, that is the exporter's fault."""
    import onnx

    with stage("InferenceSession"):
        try:
            return ort_session(model, **knobs)
        except Exception as error:
            if onnx_lacks_type(model, str(error)):
                raise Declined(str(error)) from error
            try:
                onnx.checker.check_model(model, full_check=True)
            except Exception:
                error.stage = "torch.onnx"  # type: ignore[attr-defined]
            raise


def ort_run(session: Any, given: Sequence[torch.Tensor], complexes: Collection[int] = ()) -> list[torch.Tensor]:
    """Run a session on tensors of any dtype; the outputs are copied out, and ``complexes`` among them joined."""
    import onnxruntime

    held = pairs(given)
    binding = session.io_binding()
    for info, t in zip(session.get_inputs(), held, strict=True):
        if t.numel():
            binding.bind_input(info.name, "cpu", 0, elements()[t.dtype], list(t.shape), t.data_ptr())
        else:
            empty = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(t.shape), elements()[t.dtype])
            binding.bind_ortvalue_input(info.name, empty)
    returned = [info.name for info in session.get_outputs()]
    bound = list(dict.fromkeys(returned))  # the same value may be returned twice, and is bound once
    for name in bound:
        binding.bind_output(name, "cpu")
    session.run_with_iobinding(binding)
    values = dict(zip(bound, binding.get_outputs(), strict=True))
    dtypes = {number: dtype for dtype, number in elements().items()}
    outputs = []
    for i, value in enumerate(values[name] for name in returned):
        output = torch.empty(value.shape(), dtype=dtypes[value.element_type()])
        ctypes.memmove(output.data_ptr(), value.data_ptr(), output.nbytes)
        outputs.append(torch.view_as_complex(output) if i in complexes and output.shape[-1:] == (2,) else output)
    return outputs


def onnx_reference(model: Any, given: Sequence[torch.Tensor], complexes: Collection[int] = ()) -> list[torch.Tensor]:
    """Run a model on ONNX's reference evaluator, which is NumPy."""
    import onnx.reference

    # NumPy takes the bytes of the dtypes that it does not know, and onnx's own names for them.
    names = {dtype: onnx.helper.tensor_dtype_to_np_dtype(number) for dtype, number in elements().items()}
    feeds = {}
    for info, t in zip(model.graph.input, pairs(given), strict=True):
        feeds[info.name] = t.reshape(-1).view(torch.uint8).numpy().view(names[t.dtype]).reshape(tuple(t.shape))
    outputs = []
    for i, value in enumerate(onnx.reference.ReferenceEvaluator(model).run(None, feeds)):
        dtype = next(dtype for dtype, name in names.items() if name == value.dtype)
        output = (
            torch.frombuffer(bytearray(value.tobytes()), dtype=dtype) if value.size else torch.empty(0, dtype=dtype)
        )
        output = output.reshape(value.shape)
        outputs.append(torch.view_as_complex(output) if i in complexes and output.shape[-1:] == (2,) else output)
    return outputs


def onnx_agreed(
    model: Any, given: Sequence[torch.Tensor], complexes: Collection[int], meant: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """What the model means: the outputs on which ONNX's evaluator and the unoptimised session agree.

    One of the two may have a bug of its own. An output on which they disagree is given as it is ``meant``, so that
    nobody is accused, unless the model itself declares another dtype for it.
    """
    said = ort_run(ort_session(model, "NONE"), given, complexes)
    try:
        others = onnx_reference(model, given, complexes)
    except Exception:  # it does not have every operator
        others = [None] * len(said)  # type: ignore[list-item]
    outputs = []
    for info, one, other, right in zip(model.graph.output, said, others, meant, strict=True):
        wide = torch.complex128 if one.is_complex() else torch.float64
        if (
            other is not None
            and (one.dtype, one.shape) == (other.dtype, other.shape)
            and torch.allclose(one.to(wide), other.to(wide), rtol=1e-2, atol=1e-3, equal_nan=True)
        ):
            outputs.append(other)
        elif one.dtype != right.dtype and elements().get(one.dtype) == info.type.tensor_type.elem_type:
            outputs.append(one)
        else:
            outputs.append(right)
    return outputs


def onnx_stages(
    program: torch.export.ExportedProgram, model: Any, complexes: Collection[int]
) -> list[tuple[str, Callable[..., list[torch.Tensor]]]]:
    """The forms of the program on its way to the optimised session; each is made when it is first run."""
    made: list[Any] = []

    def run_program(*given: torch.Tensor) -> Any:
        if not made:
            made.append(program.module())
        return made[0](*given)

    def run_model(*given: torch.Tensor) -> Any:
        return onnx_agreed(model, given, complexes, run_program(*given))

    def run_unoptimised(*given: torch.Tensor) -> Any:
        return ort_run(ort_session(model, "NONE"), given, complexes)

    return [("exported program", run_program), ("ONNX model", run_model), ("unoptimised session", run_unoptimised)]


def onnx_declined(error: BaseException | None) -> bool:
    """Whether torch.export, torch.onnx or the runtime says that it does not take the program."""
    while error is not None:
        name, text = type(error).__name__, str(error)
        if name in ("DispatchError", "NotImplemented", "NotImplementedError"):
            return True
        if name == "KeyError" and text.startswith("torch."):  # a dtype, in the exporter's table
            return True
        if any(part in text for part in ("not implemented", "not supported", "NOT_IMPLEMENTED")):
            return True
        if export_declined(error):
            return True
        error = error.__cause__
    return False
