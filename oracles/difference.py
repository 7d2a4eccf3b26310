"""Same values as the reference: outputs, gradients, the inputs' memory after the call, and the random state.

A tight comparison comes first and is nearly always the last. Only where it fails does the oracle ask for double
precision, for replicas moved by rounding errors, and for the runs that show whether the program means anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import Case
from shakeout.corpus.observation import Observation
from shakeout.oracles import tolerance
from shakeout.oracles.deviation import deviation
from shakeout.oracles.exactness import EXACT, candidate, chained, elementary, proven
from shakeout.oracles.explanation import Explanation, explanation, scalar
from shakeout.oracles.extent import extent
from shakeout.oracles.forgiven import Forgiven, maker
from shakeout.oracles.tolerance import Bound
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Answers, Outcome, Question, Verdict

if TYPE_CHECKING:
    import torch

__all__ = [
    "AGAIN",
    "BASELINE",
    "DOUBTS",
    "POISONED",
    "RELAID",
    "REPEATS",
    "RESAVED",
    "SECOND",
    "Difference",
    "pairs",
    "result",
]

BASELINE = Question("baseline")
RELAID = Question("relaid")
POISONED = Question("poisoned")
#: The reference with what autograd saved laid out anew: row-major, dense, column-major, and out of alignment.
RESAVED = tuple(Question("resaved", number) for number in range(4))
AGAIN = Question("subject", 1)
#: The reference once more, with its memory elsewhere: some of LAPACK depends on where its operands happen to lie.
SECOND = Question("reference", 1)
#: The same, so often where bits have to be equal. A solver gives one of a few answers then, the commonest in half of
#: the runs or in nine of ten (``linalg.lstsq`` by ``gelsy``): one more run mostly agrees, and says too little.
REPEATS = tuple(Question("reference", number) for number in range(1, 9))
_REPLICAS = tuple(Question("replica", number) for number in range(tolerance.REPLICAS[-1]))
_FEW, _SOME, _ = tolerance.REPLICAS
#: Before a failure is told, replicas whose errors are as large as what is granted to numbers. A decision (rounding to
#: whole numbers, a threshold) may be taken by any error that a number may have.
_WIDE = tuple(Question("wide", number) for number in range(tolerance.WIDE))
#: What is asked of a difference, a stage at a time, until rounding explains it: first no more than four runs of the
#: reference, and only before a failure is told the target once more, which means to compile once more.
DOUBTS = (
    (BASELINE, POISONED, *_REPLICAS[:_FEW]),
    (RELAID, *_REPLICAS[_FEW:_SOME]),
    (AGAIN, SECOND, *_REPLICAS[_SOME:], *_WIDE),
)
#: Before a number is told that is wrong by all of itself and small, replicas that know how functions are conditioned.
_CONDITIONED = tuple(Question("conditioned", number) for number in range(tolerance.CONDITIONED))
#: Where bits have to be equal, no rounding explains anything but what eager itself does to them.
_EXACT_DOUBTS = ((BASELINE, POISONED, RELAID, AGAIN, *REPEATS),)
#: A target that promises the reference's bits keeps what autograd saves, and need not keep its strides: kernels of the
#: backward pass add up in the order of memory.
_BIT_DOUBTS = ((*RESAVED, RELAID), *_EXACT_DOUBTS)


def pairs(
    part: str, reference: Observation, subject: Observation
) -> Iterator[tuple[int, int, torch.Tensor | None, torch.Tensor | None]]:
    """Call number, position, wanted and found tensor of one part, as far as both runs have it."""
    for number, (want, got) in enumerate(zip(reference.calls, subject.calls, strict=False)):
        for position, (a, b) in enumerate(zip(want[part], got[part], strict=False)):
            yield number, position, a, b


def result(observation: Observation, part: str, number: int, position: int) -> torch.Tensor | None:
    """A tensor of a run, if that got so far."""
    try:
        found: torch.Tensor | None = observation.calls[number][part][position]
    except IndexError:
        return None
    return found


def _at(observation: Observation, part: str, number: int, position: int, like: torch.Tensor) -> torch.Tensor | None:
    """The same tensor in another run, if that run got so far and agrees on the shape."""
    found = result(observation, part, number, position)
    return found if found is not None and found.shape == like.shape else None


def _symptom(want: torch.Tensor, got: torch.Tensor) -> str:
    """The class of a difference between two elements."""
    import torch

    if not (want.dtype.is_floating_point or want.dtype.is_complex):
        return "wrong value"
    if want.dtype.itemsize == 1:
        want, got = want.float(), got.float()  # not every eight-bit float can be asked whether it is infinite
    if torch.isnan(want) != torch.isnan(got):
        return "NaN lost" if torch.isnan(want) else "NaN appears"
    if torch.isinf(want) != torch.isinf(got):
        return "infinity lost" if torch.isinf(want) else "infinity appears"
    return "wrong value"


def _whereabouts(bad: torch.Tensor) -> str:
    """Which elements are wrong, as a class: all, one, the last ones, or some."""
    flat = bad.reshape(-1)
    count, total = int(flat.sum()), flat.numel()
    if count == total:
        return "all"
    if count == 1:
        return "one element"
    return "a tail" if bool(flat[total - count :].all()) else "some"


@dataclass(frozen=True, slots=True)
class Difference:
    """Compares one part of the observations.

    Attributes:
        name: ``value``, ``gradient``, ``mutation`` or ``randomness``.
        part: the part it looks at.
        exact: whether the target promises the reference's bits.
    """

    name: str
    part: str
    exact: bool = False

    def questions(self, case: Case) -> Sequence[Question]:
        """The two runs."""
        return (REFERENCE, SUBJECT)

    def judge(self, case: Case, answers: Answers) -> Verdict | Sequence[Question]:
        """Pass, fail, or unknown where the program's meaning is not defined or too ill-conditioned."""
        import torch

        reference, subject = answers[REFERENCE], answers[SUBJECT]
        unstable, absent = 0, Verdict(self.name, Outcome.PASS)
        explained: list[Explanation] = []
        forgiven = Forgiven()
        for number, position, want, got in pairs(self.part, reference, subject):
            if want is None or got is None:
                said = self._missing(case, answers, number, position, want, got) if want is not got else None
                if isinstance(said, Verdict) and said.outcome is Outcome.UNKNOWN:
                    absent = said
                elif said is not None:
                    return said
                continue
            if want.dtype != got.dtype or want.shape != got.shape or want.numel() == 0:
                continue  # the metadata oracle's matter
            want, got = _comparable(want), _comparable(got)
            if torch.equal(want, got):
                continue
            if not self.exact and EXACT not in answers and candidate(case):
                return (EXACT,)
            exact = self.exact or proven(answers)
            bound = Bound.BITS if exact else Bound.DEFAULT
            bad = bound.beyond(want, got)
            if not exact and not bad.any() and not case.program.structured():
                bound = Bound.RELATIVE if elementary(case) else Bound.ALL
                bad = bound.beyond(want, got)
            if not bad.any():
                continue
            place, suspects = f"{self.part} {position}", bad
            for doubts in self._stages(bound):
                if any(question not in answers for question in doubts):
                    return doubts
                if self.exact and RESAVED[0] in doubts:
                    laid_out = self._laid_out(answers, number, position, want, got)
                    bad = forgiven.excuse(suspects, [("tensors laid out anew", laid_out)], self._maker(case, position))
                    if not bad.any():
                        break
                    continue
                if self._changes(answers, POISONED, number, position, want, suspects):
                    reason = "the reference itself shows uninitialised memory"
                    return Verdict(self.name, Outcome.UNKNOWN, "undefined", reason, place)
                if not exact:
                    rules = self._explained(case, answers, number, position, want, got, bound)
                    bad = forgiven.excuse(suspects, rules, self._maker(case, position), count=not bound.derived)
                if not bad.any():
                    break
            if not bound.derived and bool((doubted := suspects & ~bad).any()):
                unstable += int(doubted.sum())
                explained.append(self._explanation(answers, number, position, want, got, doubted))
            if not bad.any():
                continue
            if not exact and not self._told(answers, number, position):
                if not bound.derived:  # what the default tolerances pass needs no more to be said of it
                    reason = "what rounding does to it is not known, because no run with other rounding errors has it"
                    absent = Verdict(self.name, Outcome.UNKNOWN, "undecided", f"{place}: {reason}", place)
                continue  # of another tensor it may be known
            repeats = REPEATS if exact else (SECOND,)
            measure = Bound.BITS if exact else Bound.DEFAULT
            if any(self._changes(answers, question, number, position, want, bad, measure) for question in repeats):
                reason = "the reference itself does not give the same values twice"
                return Verdict(self.name, Outcome.UNKNOWN, "undefined", reason, place)
            if bound.derived and any(
                self._changes(answers, question, number, position, want, bad, bound)
                for question in (SECOND, RELAID, POISONED)
            ):
                continue  # nor does the reference keep to it
            # Only now: another layout also means another order of summation, which is rounding.
            if self._changes(answers, RELAID, number, position, want, bad):
                reason = "the reference itself depends on how its inputs lie in memory"
                return Verdict(self.name, Outcome.UNKNOWN, "undefined", reason, place)
            later = number > 0 and not _fails_first(self.part, reference, subject)
            if later and any(question not in answers for question in _alone(number)):
                return _alone(number)
            later = later and not self._fails_alone(answers, number, position, want, bad, bound)
            return self._failed(answers, number, position, want, got, bad, unstable, bound, later)
        if unstable:
            most = max(explained, key=lambda one: one.count)
            others = f"; so are {unstable - most.count} elements elsewhere" * (len(explained) > 1)
            evidence = {"unstable": unstable, **most.to_json(), "forgiven": forgiven.to_json()}
            return Verdict(self.name, Outcome.UNKNOWN, "unstable", most.text + others, most.place, evidence)
        return absent

    def _maker(self, case: Case, position: int) -> str:
        """The operator behind an output; of gradients and memory none is known."""
        return maker(case, case.program.returns[position]) if self.part == "output" else ""

    def _stages(self, bound: Bound) -> Sequence[Sequence[Question]]:
        """What is asked, a stage at a time, until the difference is explained."""
        if self.exact:
            return _BIT_DOUBTS
        if bound is Bound.BITS:
            return _EXACT_DOUBTS
        if bound is Bound.DEFAULT:
            return DOUBTS
        # What the default tolerances pass is too small for a decision.
        last = tuple(question for question in DOUBTS[-1] if question not in _WIDE)
        return (*DOUBTS[:-1], (*last, *_CONDITIONED) if bound is Bound.ALL else last)

    def _laid_out(
        self, answers: Answers, number: int, position: int, want: torch.Tensor, got: torch.Tensor
    ) -> torch.Tensor:
        """Which elements are no further from the reference than eager's are with other tensors laid out anew.

        Those that were saved, or those that it was given: what is computed again is given copies.
        """
        found = [_at(answers[question], self.part, number, position, want) for question in (*RESAVED, RELAID)]
        return tolerance.spanned(want, got, [other for other in found if other is not None])

    def _told(self, answers: Answers, number: int, position: int) -> bool:
        """Whether any run with other rounding errors has this tensor, or that they all failed is another matter."""
        replicas = [answer for question, answer in answers.items() if question.what == "replica"]
        return any(one.error is not None or result(one, self.part, number, position) is not None for one in replicas)

    def _explained(
        self,
        case: Case,
        answers: Answers,
        number: int,
        position: int,
        want: torch.Tensor,
        got: torch.Tensor,
        bound: Bound,
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Which elements each rule explains, as far as there are answers."""
        baseline, replicas = self._moved(answers, number, position, want, bound)
        # A gradient has passed through two steps at least, forward and backward; and what the default tolerances pass
        # may be as far off as the reference itself.
        chain = self.part != "output" or bound.derived or chained(case, case.program.returns[position])
        yield from tolerance.excused(want, got, baseline, replicas, bound, chained=chain)
        for question in _WIDE if bound is Bound.DEFAULT else ():
            other = _at(answers[question], self.part, number, position, want) if question in answers else None
            if other is not None:
                yield "a decision of a larger error", tolerance.decided(want, got, other)

    def _explanation(
        self, answers: Answers, number: int, position: int, want: torch.Tensor, got: torch.Tensor, doubted: torch.Tensor
    ) -> Explanation:
        """What is told of the elements that rounding explains."""
        place = f"{self.part} {position}" + f" of call {number}" * (number > 0)
        return explanation(place, want, got, doubted, *self._moved(answers, number, position, want))

    def _moved(
        self, answers: Answers, number: int, position: int, want: torch.Tensor, bound: Bound = Bound.DEFAULT
    ) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        """The tensor in double precision, and in each run with other rounding errors, as far as there are answers.

        Where bits have to be equal, those have saved tensors laid out anew, and double precision tells nothing.
        """
        kinds = {"resaved"} if self.exact else {"replica", "conditioned"} if bound is Bound.ALL else {"replica"}
        found = [
            _at(answer, self.part, number, position, want)
            for question, answer in answers.items()
            if question.what in kinds
        ]
        baseline = None if self.exact else _at(answers[BASELINE], self.part, number, position, want)
        return baseline, [other for other in found if other is not None]

    def _changes(
        self,
        answers: Answers,
        question: Question,
        number: int,
        position: int,
        want: torch.Tensor,
        bad: torch.Tensor,
        bound: Bound = Bound.DEFAULT,
    ) -> bool:
        """Whether another run of the reference disagrees with it about the elements in question."""
        other = _at(answers[question], self.part, number, position, want)
        if other is None or other.dtype != want.dtype:
            return False
        return bool((bad & bound.beyond(_comparable(want), _comparable(other))).any())

    def _fails_alone(
        self,
        answers: Answers,
        number: int,
        position: int,
        want: torch.Tensor,
        bad: torch.Tensor,
        bound: Bound,
    ) -> bool:
        """Whether a call is wrong in the same elements where it is the only one."""
        reference, subject = (_at(answers[question], self.part, 0, position, want) for question in _alone(number))
        if reference is None or subject is None or reference.dtype != subject.dtype:
            return False
        return bool((bad & bound.beyond(_comparable(reference), _comparable(subject))).any())

    def _missing(
        self,
        case: Case,
        answers: Answers,
        number: int,
        position: int,
        want: torch.Tensor | None,
        got: torch.Tensor | None,
    ) -> Verdict | Sequence[Question] | None:
        """What is to be said of a tensor that only one of the two runs has; None if that says the same."""
        place = f"{self.part} {position}"
        if self.part == "output":
            return None  # the storage oracle's matter
        # A gradient that is all zero and one that is absent say the same, and backends choose freely between them.
        present = want if want is not None else got
        if present is not None and not present.any():
            return None
        if got is None and not self.exact and EXACT not in answers and candidate(case):
            return (EXACT,)
        # Zero times infinity is no number, and an absent gradient times infinity is absent.
        for doubts in () if got is not None or self.exact or proven(answers) else DOUBTS:
            if any(question not in answers for question in doubts):
                return doubts
            runs = [answers[question].calls for question in doubts if question.what == "replica"]
            if any(len(calls) > number and calls[number][self.part][position] is None for calls in runs):
                reason = f"{place}: expected, but absent, as it may be where what it is made of is zero"
                return Verdict(self.name, Outcome.UNKNOWN, "unstable", reason, place)
        symptom = f"{self.part} {'lost' if got is None else 'appears'}"
        return Verdict(
            self.name,
            Outcome.FAIL,
            symptom,
            f"{place}: {'expected, but absent' if got is None else 'not expected, but present'}",
            place,
            {"call": number},
        )

    def _failed(
        self,
        answers: Answers,
        number: int,
        position: int,
        want: torch.Tensor,
        got: torch.Tensor,
        bad: torch.Tensor,
        unstable: int,
        bound: Bound,
        later: bool,
    ) -> Verdict:
        index = tuple(int(i) for i in bad.nonzero()[0])
        symptom = "imprecise value" if bound.derived else _symptom(want[index], got[index])
        if self.part == "input after the call":
            symptom = "wrong mutation"
        if self.part == "random state":
            symptom = "random state differs"
        again = _at(answers[AGAIN], self.part, number, position, got)
        if again is not None and not same_values(again, got):
            symptom = "nondeterministic"
        if later:
            symptom += " on a later call"
        baseline = _at(answers[BASELINE], self.part, number, position, want)
        evidence: dict[str, Any] = {
            "call": number,
            "index": list(index),
            "expected": scalar(want[index]),
            "found": scalar(got[index]),
            "double": None if baseline is None else scalar(baseline[index]),
            "wrong": int(bad.sum()),
            "total": want.numel(),
            "where": _whereabouts(bad),
            "deviation": deviation(want, got, bad),
            "extent": extent(want, got, bad).to_json(),
            "unstable": unstable,
            "dtype": str(want.dtype).removeprefix("torch."),
            "exact": self.exact or proven(answers),
            "tolerance": "derived" if bound.derived else "default",
        }
        place = f"{self.part} {position}"
        message = (
            f"{place}{list(index)}: expected {evidence['expected']}, found {evidence['found']} "
            f"({evidence['wrong']} of {evidence['total']} elements, {evidence['where']})"
        )
        if bound.derived:
            share = "by all of itself" if bound is Bound.ALL else "by more than rounding explains"
            message += f", within the default tolerances, and wrong {share}"
        return Verdict(self.name, Outcome.FAIL, symptom, message, place, evidence)


def _comparable(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers in a dtype that can be compared; torch compares no two half-precision complex numbers."""
    import torch

    return tensor.to(torch.complex64) if tensor.dtype == torch.complex32 else tensor


def same_values(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors of one shape hold the same values, NaN equal to NaN."""
    return a.dtype == b.dtype and bool(tolerance.equal(_comparable(a), _comparable(b)).all())


def _alone(number: int) -> tuple[Question, Question]:
    """The two runs that show whether a call goes wrong without those before it."""
    return Question("reference alone", number), Question("alone", number)


def _fails_first(part: str, reference: Observation, subject: Observation) -> bool:
    """Whether the first call is wrong as well."""
    return any(
        number == 0
        and want is not None
        and got is not None
        and (want.dtype != got.dtype or want.shape != got.shape or not tolerance.within(want, got).all())
        for number, _, want, got in pairs(part, reference, subject)
    )
