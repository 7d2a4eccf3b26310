"""What is one bug: the rule by which a smallest case is counted under a bug that is there, or is a new one.

Two smallest cases are one bug if they have one *cause*. A cause is, in this order:

1. **What a user tests.** A kernel, where it is the first to go wrong, or the smallest program calls it last: its name,
   and what of that call is wrong (``outputs``, ``gradients``, ``inputs`` that it wrote to, an ``exception``, ``death``
   of the process). A mistake shows with many dtypes, sizes and values, as a wrong number, as NaN and as a wrong shape,
   and what comes behind it fails in ways of its own; cases are reduced towards the kernel's own call, so that all of
   this ends here. Where the smallest case has to write to something behind that call, the kernel shares memory. What
   shows only through operators behind the call is one bug for each place as well, apart from what the call shows by
   itself, since a tolerance may be what is wrong with it; all that those operators have in common is the kernel. Two
   mistakes that are in one kernel and show in one of these places are one row, until the first is put right. So it is
   of a runtime around whole networks, where it promises equal bits: no operator in it is to blame; and of a pass over
   graphs, where torch without it is right.
2. **An exception that says where it was raised**: its class, its message without numbers and names, and the innermost
   frame that is nobody's plumbing. Dtypes, layouts and sizes only decide whether that place is reached, and so does
   the target: what torch.export refuses it refuses under each target that exports. Within a stage that several targets
   share the operators do not matter either; elsewhere they do, because an innermost frame may be a helper of many.
3. Anything else: the **fine signature** (``shakeout.fuzz.triage.bug_signature``). Where a stage is named in which the
   values first go wrong the target is left out, since the same stage is wrong under each of them.
4. What has no signature, because it did not fail again or is a network still, is the user's kernel, if there is one,
   since all else is the same on both sides, and its values say where; anything else is one cause with whatever else of
   its coarse signature has none.

All of it is text, so that equal causes are found in a table. Nothing here runs or reads anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shakeout.corpus.case import Case
from shakeout.fuzz.ground.results import LOSSES, Result
from shakeout.fuzz.triage.bug_signature import Signature, culprit_of
from shakeout.oracles.verdict import Outcome
from shakeout.targets.registry import facts_of

__all__ = ["cause_of", "told_at_once", "unclassified", "unreduced"]

#: What of a call is wrong, by the oracle that says so; the other oracles look at what comes out.
_PLACES = {
    "gradient": "gradients",
    "mutation": "inputs",
    "exception": "exception",
    **dict.fromkeys(LOSSES, "death"),
}


def cause_of(signature: Signature, result: Result, case: Case) -> str:
    """The cause of a smallest case, as one line: equal for what is one bug.

    Args:
        signature: of the smallest case.
        result: of its run.
        case: the smallest case.
    """
    if own := _own(result, case, smallest=True):
        return own
    if behind := _kernel_in(result, case):
        return f"{behind} | with others"
    if signature.oracle == "exception" and "@" in signature.culprit:
        return _raised(signature.symptom, signature.culprit, signature.stage or "+".join(signature.operators))
    return replace(signature, target="").text if signature.stage else signature.text


def told_at_once(result: Result, case: Case) -> str:
    """The cause of a case that nobody has reduced, where that would change nothing of it; empty where it might.

    It is so where nothing but the user's own is wrong or could be, and for what a stage that several targets share
    refuses.
    """
    if own := _own(result, case, smallest=False):
        return own
    failing = result.failure
    culprit = culprit_of(failing) if failing is not None and failing.oracle == "exception" else ""
    if failing is not None and "@" in culprit and result.stage not in ("", case.setting.target):
        return _raised(failing.symptom, culprit, result.stage)
    return ""


def unreduced(result: Result, case: Case | None, coarse: str) -> str:
    """The cause of what nobody could reduce to a few operators, as far as there is one.

    Args:
        result: of the case.
        case: that failed; None if it is not known.
        coarse: its coarse signature.
    """
    own = "" if case is None else told_at_once(result, case) or _kernel_in(result, case)
    return own or unclassified(coarse)


def unclassified(coarse: str) -> str:
    """The cause of what has no signature, by its coarse one."""
    return f"unclassified | {coarse}"


def _own(result: Result, case: Case, *, smallest: bool) -> str:
    """The cause of what is wrong of a user's kernel, runtime or pass; empty for everything else.

    Args:
        result: of the case.
        case: that failed.
        smallest: nothing can be left away of it, so a call that it ends with is to blame.
    """
    name, failing = case.setting.target, result.failure
    if failing is None:
        return ""
    place = _place(result)
    # What a user declares is a kernel, with a vocabulary of its own, a pass over graphs, or a runtime.
    if result.fired is not None:
        # What is wrong without the pass too is not the pass's, and what it raises is told apart by where.
        return f"pass | {name} | {place}" if result.stage == name and failing.oracle != "exception" else ""
    if "bits" in facts_of(name).promises or (":" in name and case.program.vocabulary == "torch"):
        return f"runtime | {name} | {place}"
    operators = [call.operator for call in case.program.calls]
    if name not in operators:
        return ""
    if result.divergence is not None and result.divergence.operator == name:
        blamed = True
    elif smallest and _writes(operators[operators.index(name) + 1 :]):
        # Everything but the kernel is the same on both sides, so memory is shared that should not be, or is not.
        blamed = True
    elif result.divergence is not None:
        blamed = False
    else:
        blamed = set(operators) == {name} or (smallest and operators[-1] == name)
    return f"kernel | {name} | {place}" if blamed else ""


def _place(result: Result) -> str:
    """What of a call is wrong, by the verdicts of a run that failed."""
    assert result.failure is not None
    place = _PLACES.get(result.failure.oracle, "outputs")
    failed = {verdict.oracle for verdict in result.verdicts if verdict.outcome is Outcome.FAIL}
    if "mutation" in failed and place in ("outputs", "gradients"):
        return "inputs"  # what was written to one shows in whatever is made of it afterwards
    return place


def _kernel_in(result: Result, case: Case) -> str:
    """The cause of values that are wrong in a network with a user's kernel; empty for everything else.

    Where something is raised, or the process dies, it may be an operator behind that refuses what it was given.
    """
    name, failing = case.setting.target, result.failure
    if failing is None or failing.oracle in ("exception", *LOSSES):
        return ""
    if all(call.operator != name for call in case.program.calls):
        return ""
    return f"kernel | {name} | {_place(result)}"


def _writes(operators: Sequence[str]) -> bool:
    """Whether one of some operators writes to what it is given, as its name says."""
    return any(name.endswith("_") and not name.endswith("__") for name in operators)


def _raised(symptom: str, culprit: str, where: str) -> str:
    return f"exception | {symptom} | {culprit} | {where}"
