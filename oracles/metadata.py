"""Same dtype, shape and strides as the reference, and the same number of results.

Policy: strides of dimensions of size one and of empty tensors carry no meaning; strides of gradients are not
promised. A shape that depends on values (``argwhere``, a mask as an index) is promised as far as these are: where
rounding, uninitialised memory or another layout of the inputs gives the reference another one, it is no evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import Case
from shakeout.oracles.difference import AGAIN, BASELINE, DOUBTS, POISONED, RELAID, SECOND, pairs, result
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Answers, Outcome, Question, Verdict

if TYPE_CHECKING:
    import torch

__all__ = ["Metadata"]


#: What a finding about a user's kernel says: where it was asked for.
_SWITCH = " (asked for by strides=True of @shakeout.kernel)"


def _steps(tensor: torch.Tensor) -> list[int]:
    """The strides that matter."""
    return [step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


@dataclass(frozen=True, slots=True)
class Metadata:
    """Compares what is static about outputs and gradients.

    Attributes:
        strides: whether the target promises those of its outputs.
        name: in verdicts.
    """

    strides: bool = True
    name: str = "metadata"

    def questions(self, case: Case) -> Sequence[Question]:
        """The two runs."""
        return (REFERENCE, SUBJECT)

    def judge(self, case: Case, answers: Answers) -> Verdict | Sequence[Question]:
        """The first difference."""
        reference, subject = answers[REFERENCE], answers[SUBJECT]
        for want_call, got_call in zip(reference.calls, subject.calls, strict=False):
            if len(want_call["output"]) != len(got_call["output"]):
                counts = len(want_call["output"]), len(got_call["output"])
                return self._fail("wrong number of outputs", "outputs", *counts)
        for part in ("output", "gradient"):
            for number, position, want, got in pairs(part, reference, subject):
                if want is None or got is None:
                    continue
                place = f"{part} {position}"
                if want.dtype != got.dtype:
                    return self._fail("wrong dtype", place, str(want.dtype), str(got.dtype))
                if want.shape != got.shape:
                    doubt = self._doubted(answers, part, number, position, want)
                    return doubt or self._fail("wrong shape", place, list(want.shape), list(got.shape))
                if self.strides and part == "output" and want.numel() and _steps(want) != _steps(got):
                    found = self._fail("wrong strides", place, list(want.stride()), list(got.stride()))
                    return (
                        replace(found, message=found.message + _SWITCH)
                        if case.program.vocabulary == "kernel"
                        else found
                    )
        return Verdict(self.name, Outcome.PASS)

    def _doubted(
        self, answers: Answers, part: str, number: int, position: int, want: torch.Tensor
    ) -> Verdict | Sequence[Question] | None:
        """What is to be asked about a shape, or that the reference itself has another one; None where it has not."""
        for doubts in DOUBTS:
            if any(question not in answers for question in doubts):
                return doubts
            for question in doubts:
                # In double precision a tensor that is read as another dtype has another shape, whatever its values.
                if question in (AGAIN, BASELINE):
                    continue
                other = result(answers[question], part, number, position)
                if other is None or other.shape == want.shape:
                    continue
                place, shapes = f"{part} {position}", f"{list(want.shape)} and {list(other.shape)}"
                if question in (POISONED, RELAID, SECOND):
                    message = f"the reference itself gives the shapes {shapes}"
                    return Verdict(self.name, Outcome.UNKNOWN, "undefined", message, place)
                message = f"rounding decides between the shapes {shapes}"
                return Verdict(self.name, Outcome.UNKNOWN, "unstable", message, place)
        return None

    def _fail(self, symptom: str, place: str, want: Any, got: Any) -> Verdict:
        message = f"{place}: {symptom.removeprefix('wrong ')} {want} expected, {got} found"
        return Verdict(self.name, Outcome.FAIL, symptom, message, place, {"expected": want, "found": got})
