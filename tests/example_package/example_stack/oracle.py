"""An oracle: a zero must keep its sign, which ``==`` does not see."""

from collections.abc import Sequence

from shakeout.corpus.case import Case
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Answers, Outcome, Question, Verdict

#: One more run of the reference, from scratch.
AGAIN = Question("reference", 1)


class SignedZero:
    """Fails where the target gives a zero of the other sign, and the reference gives its own again."""

    name = "signed zero"

    def questions(self, case: Case) -> Sequence[Question]:
        return (REFERENCE, SUBJECT)

    def judge(self, case: Case, answers: Answers) -> Verdict | Sequence[Question]:
        if answers[REFERENCE].error is not None or answers[SUBJECT].error is not None:
            return Verdict(self.name, Outcome.PASS)  # others judge errors
        place = _differing(answers[REFERENCE], answers[SUBJECT])
        if not place:
            return Verdict(self.name, Outcome.PASS)
        if AGAIN not in answers:
            return (AGAIN,)
        if _differing(answers[REFERENCE], answers[AGAIN]):
            return Verdict(self.name, Outcome.UNKNOWN, "undefined", "the reference does not agree with itself")
        return Verdict(self.name, Outcome.FAIL, "sign of zero", f"{place}: a zero has the other sign", place)


def _differing(one, other) -> str:
    for want, got in zip(one.calls, other.calls, strict=False):
        for number, (a, b) in enumerate(zip(want["output"], got["output"], strict=False)):
            if a is None or b is None or a.shape != b.shape or not a.is_floating_point() or a.dtype != b.dtype:
                continue
            if bool(((a == 0) & (b == 0) & (a.signbit() != b.signbit())).any()):
                return f"output {number}"
    return ""


SIGNED_ZERO = SignedZero()
