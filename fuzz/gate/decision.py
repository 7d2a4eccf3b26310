"""What blocks a merge: a pure function of how a case behaved on the head and on the base."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["ERROR", "LEAST_COMPARED", "LEAST_SHARE", "Behaviour", "Decision", "Trials", "decide", "needed", "vacuous"]

#: How often at most a failure that has nothing to do with the change may block: one in a thousand findings that fail
#: now and then. A gate meets a handful of findings, and few of them are flaky, so a repository with twenty merges a day
#: sees such a red gate less than once a year.
ERROR = 0.001

#: Cases that must have been compared in all, with an element that could differ, before a green gate says anything.
#: A fault that shows in a fifth of all cases is missed by twenty of them once in a hundred gates (0.8 ** 20 = 0.012),
#: and by fewer much more often.
LEAST_COMPARED = 20

#: The least share of a target's cases that must have been compared. The pickiest right kernel of our tests, which takes
#: three dtypes and one rank, compares one case in four; a target below one in fifty has refused what it was given.
LEAST_SHARE = 0.02

#: What one run of a case showed: it ``fails`` as on the head, fails ``otherwise``, ``passes``, is ``declined`` by its
#: target, its target is ``absent``, the run says nothing (``unclear``), or the budget was over before it (``late``).
Behaviour = Literal["fails", "otherwise", "passes", "declined", "absent", "unclear", "late"]


@dataclass(frozen=True, slots=True)
class Trials:
    """Runs of one case on one side.

    Attributes:
        runs: what each showed.
        note: what the last one that was no pass said, in one line.
    """

    runs: tuple[Behaviour, ...] = ()
    note: str = ""

    @property
    def failed(self) -> int:
        """In how many runs it failed in the way that is asked for."""
        return self.runs.count("fails")

    @property
    def shown(self) -> str:
        """``5 of 5``."""
        return f"{self.failed} of {len(self.runs)}"

    @property
    def counts(self) -> dict[Behaviour, int]:
        """How often it did what."""
        return dict(Counter(self.runs))


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a finding blocks.

    Attributes:
        blocking: only what the change did.
        reason: why, or why not, in words.
    """

    blocking: bool
    reason: str
    head: Trials = field(default=Trials())
    base: Trials = field(default=Trials())

    @property
    def late(self) -> bool:
        """Whether there was no time to decide."""
        return "late" in self.head.runs or "late" in self.base.runs


def needed(before: int, error: float = ERROR) -> int:
    """K: runs on each side after which a failure that both sides share blocks with at most this probability.

    Head and base are the same to such a failure: it fails each run with some probability p, and blocks if it fails
    ``before`` + K times in a row on the head and then K times not on the base, which has the probability
    p^(before + K) (1 - p)^K. Nobody knows p, so the worst one counts, p = (before + K) / (before + 2 K). Without
    any run before that is 4^-K, so K = 5 for one in a thousand; a failure that was seen to be reliable needs fewer.

    Args:
        before: runs in which it failed without exception before it is tried here; 0 if nobody has measured it.
        error: the probability.
    """
    for k in itertools.count(1):
        worst = (before + k) / (before + 2 * k)
        if worst ** (before + k) * (1 - worst) ** k <= error:
            return k
    raise AssertionError("not reached")


def decide(head: Trials, base: Trials, *, flaky: str = "") -> Decision:
    """Whether a finding blocks: it fails in every run on the head and in none on the base.

    Args:
        head: runs on the head.
        base: as many runs on the base.
        flaky: why the finding is known to be unreliable; empty if it is not.
    """

    def told(blocking: bool, reason: str) -> Decision:
        return Decision(blocking, reason, head, base)

    k = len(head.runs)
    if flaky:
        return told(False, f"flaky: {flaky}")
    if not k:
        return told(False, f"cannot be decided: it did not run on the head{_because(head)}")
    if "late" in head.runs or (head.failed == k and "late" in base.runs):
        return told(False, "not decided: the budget was over")
    if head.failed < k:
        if not head.failed and set(head.runs) <= {"unclear", "declined", "absent"}:
            return told(False, f"cannot be decided: it did not run on the head{_because(head)}")
        return told(False, f"flaky: it fails in {head.shown} runs on the head")
    seen = base.counts
    if len(base.runs) < k or "unclear" in seen:
        return told(False, f"cannot be decided: it did not run on the base{_because(base)}")
    if seen.get("fails") == k:
        return told(False, "the base has it too")
    if "fails" in seen:
        return told(False, f"the base has it too, in {base.shown} runs")
    if "otherwise" in seen:
        return told(False, f"the base fails too, otherwise{_because(base)}")
    if seen.get("absent") == k:
        return told(True, f"fails {head.shown} on the head; what is tested is new since the base")
    if seen.get("declined") == k:
        return told(True, f"fails {head.shown} on the head; the base declines it{_because(base)}")
    if seen.get("passes") == k:
        return told(True, f"fails {head.shown} on the head, {base.shown} on the base")
    return told(False, f"cannot be decided: the base behaves in several ways{_because(base)}")


def _because(trials: Trials) -> str:
    return f": {trials.note}" if trials.note else ""


def vacuous(
    rows: Mapping[str, tuple[int, int]], changed: Collection[str] = (), operators: int | None = None
) -> list[str]:
    """Why a gate that found nothing says nothing; empty if it does say something.

    Args:
        rows: by target, how many cases were grown, and of how many there was something to compare.
        changed: the targets that the change touches, of which alone enough must have been compared; empty for all.
        operators: cases with an operator in focus that were compared; None if none is in focus.
    """
    found = []
    for target, (generated, compared) in rows.items():
        if not compared or compared < LEAST_SHARE * generated:
            found.append(f"{target}: {compared} of {generated} cases compared")
    total = sum(compared for target, (_, compared) in rows.items() if target in changed or not changed)
    if not found and total < LEAST_COMPARED:
        found.append(f"{total} cases compared, expected {LEAST_COMPARED} or more; a larger --budget compares more")
    if not found and operators is not None and operators < LEAST_COMPARED:
        found.append(f"{operators} cases with an operator in focus compared, expected {LEAST_COMPARED} or more")
    return found
