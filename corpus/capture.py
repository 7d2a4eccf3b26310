"""A case from a Python function of tensors: run it once, write down which operators it calls.

This is how known bugs, regressions and tests are written by hand: as plain PyTorch. Every value of the inputs is stored
literally, so the case shows exactly what a person would type. What users hand over goes through
``intake.capturing.capture``, which takes modules too and proves that the case is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import Case, Setting
from shakeout.corpus.codec import encode
from shakeout.corpus.inputs import LITERAL, describe_inputs
from shakeout.corpus.program import Input, InvalidProgram, Program

if TYPE_CHECKING:
    import torch

__all__ = ["LITERAL", "capture", "describe_inputs"]


def capture(
    function: Callable[..., Any],
    *calls: Callable[[], Sequence[torch.Tensor]],
    setting: Setting,
    parameters: Sequence[int] = (),
    directory: Path | None = None,
) -> Case:
    """The case that calls ``function`` once for each maker of inputs.

    Args:
        function: takes tensors, calls operators of torch and nothing else on them, returns a tensor or a sequence.
        calls: each makes fresh inputs; the program is recorded from the first.
        setting: what the case runs under.
        parameters: positions of inputs that are parameters of the network.
        directory: where the case is going to be stored: inputs of more than ``LITERAL`` elements are written into its
            folder of blobs. Without one every element is in the case's text, which may be too long to be read.

    Raises:
        InvalidProgram: it calls what is no operator, uses a tensor that is not an input, or is larger than what can be
            stored.
    """
    program = _recorded(function, list(calls[0]()), parameters)
    sets = tuple(describe_inputs(make(), directory) for make in calls)
    case = Case(program, sets, setting)
    encode(case)  # a case that cannot be stored is told now
    return case


def _recorded(function: Callable[..., Any], tensors: Sequence[torch.Tensor], parameters: Sequence[int]) -> Program:
    import torch

    from shakeout.corpus.intake.recorder import ProgramRecorder, type_of
    from shakeout.corpus.intake.seeing import recording, seeing
    from shakeout.corpus.intake.trace import closed

    with torch.no_grad():
        recorder = ProgramRecorder("torch", lambda tensor: False, seeing)
        # One tensor that is given twice is two inputs of one memory.
        given = [one.detach() if any(one is other for other in tensors[:n]) else one for n, one in enumerate(tensors)]
        for tensor in given:
            recorder.give(tensor)
        with recording(recorder):
            returned = function(*given)
    outputs = [returned] if isinstance(returned, torch.Tensor) else list(returned or ())
    recorder.scope.returns = tuple(recorder.number_of(output) for output in outputs)
    if len(recorder.inputs) != len(tensors):
        raise InvalidProgram("a tensor is made of data that is no argument of a case")
    inputs = [
        (number, Input(type_of(tensor), "parameter" if place in parameters else "input"))
        for place, (number, tensor) in enumerate(recorder.inputs)
    ]
    return closed(recorder.scope, inputs, recorder.types, ())
