"""What "the same failure" means: one reason of a failure, and the ways in which two are compared.

A result fails for a reason, ``Failure``. Whether two failures are one depends on what was changed between them, so
there are several ways, and each is used where its sentence holds:

* **equal** (``==``): only the case became smaller, or fewer ran before it. The minimiser follows nothing else, and a
  known bug is recognised so (there its smallest case must occur in the other one besides).
* ``repeated``: nothing was changed, the very case ran again. The signature must be the same, with all that is in it.
* ``remembered``: the versions changed, or whoever wrote the failure down left open what tells it from others.
* ``with_less``: a compiler does less, or another one is asked. Stages, sizes and wrapping classes change with that.
* ``grown_alike``: the case has more elements. How a value is wrong may change, where it comes from may not.

What tells *bugs* apart, across cases, is neither of them: ``shakeout.fuzz.ground.signature`` for cases as they are
found, and ``shakeout.fuzz.triage.bug_signature`` for smallest ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from shakeout.fuzz.ground.results import LOSSES, Result

__all__ = ["Failure", "failure_of", "grown_alike", "remembered", "repeated", "with_less"]

_LISTED = re.compile(r"N(?:, N)+,?")
_PLACED = re.compile(r"device='cuda(?::N)?'(?:, )?")


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason of a failure.

    Attributes:
        target: what failed; the reference if that crashed.
        oracle: which oracle saw it.
        symptom: its class: ``wrong value``, ``NaN lost``, an exception's class, a signal.
        culprit: what tells failures of one symptom apart, as far as it stays the same while a case shrinks: the
            message of an exception without numbers, the stage of a target that works in stages, the phase in which a
            process died and the assertion that ended it.
    """

    target: str
    oracle: str
    symptom: str
    culprit: str = ""

    def __str__(self) -> str:
        parts = (self.target, self.oracle, self.symptom, self.culprit)
        return " | ".join(part for part in parts if part)


def failure_of(result: Result) -> Failure | None:
    """The reason for which a case failed; None if it did not, or if that says nothing of its target."""
    verdict = result.failure
    if verdict is None or result.status == "infra":
        return None
    parts = [result.stage] if result.stage not in ("", result.target) else []
    if verdict.oracle == "exception":
        # A message lists sizes; a tensor with fewer dimensions is still the same message. It also says where a tensor
        # is, if that is not the CPU.
        parts.append(_LISTED.sub("N", _PLACED.sub("", verdict.evidence["template"])))
    elif verdict.oracle in LOSSES:
        parts.append(f"phase {verdict.place}")
        said = verdict.message.partition(": ")[2]
        # What an allocator complains about depends on what was overwritten; an assertion is always the same one.
        if "assert" in said.lower():
            parts.append(re.sub(r"\d+", "N", said))
    return Failure(result.target, verdict.oracle, verdict.symptom, " | ".join(parts))


def repeated(result: Result, before: Result) -> bool:
    """Whether a case that ran again fails as it did before."""
    return bool(before.signature) and result.signature == before.signature


def remembered(failure: Failure, wanted: Failure | None) -> bool:
    """Whether a failure is the one that was written down; what that leaves open may be anything."""
    return wanted is None or replace(failure, culprit=wanted.culprit and failure.culprit) == wanted


def with_less(failure: Failure, wanted: Failure) -> bool:
    """Whether a failure, perhaps of a compiler that does less, is the wanted one.

    Stages and sizes change with what is left out, so neither counts. A front end wraps what a back end raises in other
    classes, so between targets any exception is taken for the wanted one.
    """
    if failure.oracle != wanted.oracle:
        return False
    if wanted.oracle == "exception":
        return failure.target != wanted.target or _template(failure) == _template(wanted)
    # A hang and a lack of memory are told with their limits.
    return wanted.oracle in ("hang", "memory") or failure.symptom == wanted.symptom


def grown_alike(failure: Failure, wanted: Failure) -> bool:
    """Whether a failure of a case with more elements comes from where the wanted one does."""
    return (failure.oracle, failure.culprit) == (wanted.oracle, wanted.culprit)


def _template(failure: Failure) -> tuple[str, str]:
    return failure.symptom, failure.culprit.rpartition(" | ")[2]
