"""Same dtype, shape and strides as the reference, and the same number of results.

Policy: strides of dimensions of size one and of empty tensors carry no meaning; strides of gradients are not
promised; those of a user's kernel, and of what a later operator makes of them, are a note unless the kernel promises
them. A shape that depends on values (``argwhere``, a mask as an index) is promised as far as these are: where rounding,
uninitialised memory or another layout of the inputs gives the reference another one, it is no evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import Case
from shakeout.corpus.layouts import Layout, steps
from shakeout.oracles.difference import AGAIN, BASELINE, DOUBTS, POISONED, RELAID, SECOND, pairs, result
from shakeout.oracles.exception import LAID_OUT
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Answers, Note, Outcome, Question, Verdict

if TYPE_CHECKING:
    import torch

__all__ = ["STRIDES", "Metadata"]


#: By what strides of a user's kernel were asked for, which a finding of them says.
_SWITCH = "strides=True of @shakeout.kernel"


#: What is said of a kernel that was not asked for them.
STRIDES = Note("other strides than its reference", "strides=True on @shakeout.kernel makes them findings")


def _steps(tensor: torch.Tensor) -> tuple[int, ...]:
    """The strides that matter."""
    return steps(tuple(tensor.shape), tensor.stride())


def _elsewhere(want: Sequence[Layout], got: Sequence[Layout]) -> bool:
    """Whether results of one shape lie in memory in another way."""
    return any(a.shape == b.shape and a.steps != b.steps for a, b in zip(want, got, strict=False))


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
        elsewhere = False
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
                if self.strides and part == "output" and _steps(want) != _steps(got):
                    found = self._fail("wrong strides", place, list(want.stride()), list(got.stride()))
                    if case.program.vocabulary != "kernel":
                        return found
                    if subject.layouts:
                        # What was not asked of the kernel is not asked of a later operator that follows its strides.
                        if LAID_OUT not in answers:
                            return (LAID_OUT,)
                        laid = result(answers[LAID_OUT], part, number, position)
                        if laid is not None and laid.shape == got.shape and _steps(laid) == _steps(got):
                            elsewhere = True
                            continue
                    message = f"{found.message} (asked for by {_SWITCH})"
                    return replace(found, message=message, evidence={**found.evidence, "asked": _SWITCH})
        return Verdict(self.name, Outcome.PASS, notes=(STRIDES,)) if elsewhere else self._passed(answers)

    def _passed(self, answers: Answers) -> Verdict | Sequence[Question]:
        """That nothing promised differs, with a note of other strides where none were promised."""
        subject, reference = answers[SUBJECT].layouts, answers[REFERENCE].layouts
        if subject and not reference:
            # What the reference showed while the program grew does not say where it left its results.
            if SECOND not in answers:
                return (SECOND,)
            reference = answers[SECOND].layouts
        # Calls of which one run has more cannot be told apart.
        if len(subject) == len(reference) and any(map(_elsewhere, reference, subject)):
            return Verdict(self.name, Outcome.PASS, notes=(STRIDES,))
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
