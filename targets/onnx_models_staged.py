"""What targets of ONNX models need; its functions are printed into their scripts, like ``staged.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import torch

from shakeout.targets.onnx_staged import ort_run, ort_session
from shakeout.targets.staged import Declined, stage


def unsized(model: Any) -> Any:
    """The model with a name of its own for each size of its inputs, and no shape for its outputs."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for info in model.graph.input:
        for axis, size in enumerate(info.type.tensor_type.shape.dim):
            size.dim_param = f"{info.name}_{axis}"
    for info in model.graph.output:
        info.type.tensor_type.ClearField("shape")
    return model


def session_of(model: Any, **knobs: Any) -> Any:
    """``ort_session``; what the runtime refuses without any optimisation as well, it declines."""
    with stage("InferenceSession"):
        try:
            return ort_session(model, **knobs)
        except Exception as error:
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


def models_declined(error: BaseException | None) -> bool:
    """Whether the runtime says that it does not take the model."""
    while error is not None:
        if type(error).__name__ in ("Declined", "NotImplemented", "NotImplementedError"):
            return True
        if any(part in str(error) for part in ("not implemented", "not supported", "NOT_IMPLEMENTED")):
            return True
        error = error.__cause__
    return False
