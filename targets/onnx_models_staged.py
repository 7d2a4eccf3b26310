"""What targets of ONNX models need; its functions are printed into their scripts, like ``staged.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.reference
import torch

from shakeout.corpus.onnx_standalone import array_of
from shakeout.targets.onnx_staged import ort_run, ort_session
from shakeout.targets.openvino_staged import openvino_loaded
from shakeout.targets.staged import Declined, stage

if TYPE_CHECKING:
    from shakeout.corpus.standalone import CALLS, arguments


def unsized(model: Any) -> Any:
    """The model with a name of its own for each size of its inputs, and no shape for its outputs."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for info in model.graph.input:
        for axis, size in enumerate(info.type.tensor_type.shape.dim):
            size.dim_param = f"{info.name}_{axis}"
    for info in model.graph.output:
        info.type.tensor_type.ClearField("shape")
    return model


def declared(model: Any) -> Any:
    """The model as it is, but without the sizes of its inputs where those differ between the calls."""
    if len(CALLS) == 1:
        return model
    shapes = {tuple(t.shape for t in arguments(make())) for make in CALLS}
    return model if len(shapes) == 1 else unsized(model)


def session_of(model: Any, **knobs: Any) -> Any:
    """``ort_session``; what the runtime refuses without optimisation as well, or cannot save, it declines."""
    with stage("InferenceSession"):
        try:
            return ort_session(model, **knobs)
        except Exception as error:
            if "saved" in knobs and models_declined(error):
                raise Declined(str(error)) from error
            try:
                ort_session(model, "NONE")
            except Exception as plain:
                raise Declined(str(plain)) from error
            raise


def answered(session: Any, model: Any, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What a session gives; what an unoptimised one refuses as well, the runtime declines."""
    try:
        return ort_run(session, given)
    except Exception as error:
        try:
            ort_run(ort_session(model, "NONE"), given)
        except Exception as plain:
            raise Declined(str(plain)) from error
        raise


def session_declined(error: BaseException | None) -> bool:
    """Whether ONNX Runtime does not take the model.

    That it says so of an optimised session alone is a bug, in whatever words: an optimiser made what nothing runs.
    """
    while error is not None:
        if type(error).__name__ == "Declined":
            return True
        error = error.__cause__
    return False


def models_declined(error: BaseException | None) -> bool:
    """Whether the runtime says that it does not take the model."""
    while error is not None:
        if type(error).__name__ in ("Declined", "NotImplemented", "NotImplementedError"):
            return True
        if any(part in str(error) for part in ("not implemented", "not supported", "NOT_IMPLEMENTED")):
            return True
        error = error.__cause__
    return False


def outvoted(model: Any, given: Sequence[torch.Tensor], said: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """What an unoptimised session of ONNX Runtime gives, if it is what the target gave last: two against the reference.

    Where they disagree nothing is known of the reference, and it raises.
    """
    other = ort_run(ort_session(model, "NONE"), given)
    for one, two in zip(other, said[-1], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-2, atol=1e-3, equal_nan=True)
    return other


def narrow(model: Any, given: Sequence[torch.Tensor]) -> None:
    """Decline a model some value of which OpenVINO's CPU plugin does not hold: it computes in float32 and int32."""
    feeds = {info.name: array_of(t) for info, t in zip(model.graph.input, given, strict=True)}
    with np.errstate(all="ignore"):
        values: Any = onnx.reference.ReferenceEvaluator(model).run(None, feeds, intermediate=True)
    for name, value in values.items():
        dtype = getattr(value, "dtype", None)
        if dtype is not None and str(dtype) in ("float64", "uint16", "uint32", "uint64"):
            raise Declined(f"OpenVINO's CPU holds no {dtype}")
        if dtype == np.int64 and value.size and max(abs(int(value.min())), abs(int(value.max()))) > 2**31 - 1:
            raise Declined(f"OpenVINO's CPU computes {name} in int32")


def openvino_read_model(model: Any) -> Any:
    """The model as OpenVINO reads it."""
    with stage("read_model"):
        return openvino_loaded().Core().read_model(model.SerializeToString())


def tvm_from_onnx(model: Any) -> Any:
    """The Relax module of the model; its initialisers are constants of it."""
    with stage("from_onnx"):
        from tvm.relax.frontend.onnx import from_onnx

        return from_onnx(model)


def tvm_outputs(machine: Any, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Run a virtual machine; its only output is no sequence of one."""
    import tvm

    feeds = [tvm.runtime.from_dlpack(t.detach().clone(memory_format=torch.contiguous_format)) for t in given]
    found = machine["main"](*feeds)
    return [torch.utils.dlpack.from_dlpack(one).clone() for one in ([found] if hasattr(found, "numpy") else found)]
