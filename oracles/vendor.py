"""What a vendor asks of a report that comes from a fuzzer, answered for one finding.

PyTorch's own form for reports asks for default tolerances, a baseline in higher precision, an equal random state, and
no comparison of the indices of max and min; reports that break these rules are closed (pytorch 143182, 179578), and so
are those in which eager errs as much as the compiler (pytorch 188430, 116433, 150993, 185878). Nothing here decides
whether something is wrong. It says how a finding stands in the eyes of the person who would have to read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shakeout.corpus.case import Case
from shakeout.corpus.observation import PARTS
from shakeout.corpus.program import Call
from shakeout.corpus.storage import extreme
from shakeout.corpus.vocabularies import vocabulary
from shakeout.corpus.vocabularies.traits import Traits
from shakeout.oracles import tolerance
from shakeout.oracles.difference import pairs, same_values
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Answers, Question, Verdict

if TYPE_CHECKING:
    import torch

__all__ = ["Points", "answered", "questions", "unusual"]

#: dtypes that most users' programs are made of; a vendor looks at these first.
_ORDINARY = frozenset(("float32", "int64", "bool", "float16", "bfloat16", "int32", "float64"))

#: Calls of more operators than this are nobody's first example.
_SHORT = 10

#: A result that is off by no more than this multiple of eager's own error is no worse than eager.
_NO_WORSE = 2.0

Tolerances = Literal["violated", "kept", "not compared"]
Double = Literal["agrees", "disagrees", "not known"]
Random = Literal["fixed", "drawn"]
Indices = Literal["no", "ties", "distinct"]


@dataclass(frozen=True, slots=True)
class Points:
    """The answers.

    Attributes:
        tolerances: whether the default tolerances of ``torch.testing.assert_close`` are violated at the place that is
            told; ``not compared`` where no values are (exceptions, crashes, strides).
        double: whether double precision agrees with the reference at the element that is told.
        reference_error: the reference's distance from double precision there; None if there is none.
        target_error: the target's.
        random: ``fixed`` where every run starts from one random state and none depends on it, ``drawn`` where the
            reference's values depend on it.
        indices: whether nothing but places of elements differs, as those of max, min and argsort: ``ties`` where both
            places hold equal elements, ``distinct`` where they do not.
        unusual: what an ordinary program would not have.
        objections: why a vendor would close the report, in words; empty if nothing speaks against it.
    """

    tolerances: Tolerances = "not compared"
    double: Double = "not known"
    reference_error: float | None = None
    target_error: float | None = None
    random: Random = "fixed"
    indices: Indices = "no"
    unusual: tuple[str, ...] = ()
    objections: tuple[str, ...] = ()

    @property
    def reportable(self) -> bool:
        """Whether nothing speaks against a report."""
        return not self.objections

    def to_json(self) -> dict[str, Any]:
        """As JSON values; an error that is no number is None."""
        return {
            "tolerances": self.tolerances,
            "double": self.double,
            "reference_error": self.reference_error,
            "target_error": self.target_error,
            "random": self.random,
            "indices": self.indices,
            "ordinary": not self.unusual,
            "unusual": list(self.unusual),
            "objections": list(self.objections),
            "reportable": self.reportable,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Points:
        """Read what ``to_json`` wrote; what it derived is derived anew."""
        names = [name for name in cls.__slots__ if name in data]
        own: dict[str, Any] = {name: tuple(v) if isinstance(v := data[name], list) else v for name in names}
        return cls(**own)


def questions(case: Case, verdict: Verdict, answers: Answers) -> tuple[Question, ...]:
    """What else has to be observed to answer for a failing verdict: nothing, nearly always."""
    wanted = []
    if _draws(case):
        wanted.append(Question("reseeded"))
    if (call := _only_places(case, answers)) is not None and call.operands():
        wanted.append(Question("operand", call.operands()[0]))
    return tuple(wanted)


def answered(case: Case, verdict: Verdict, answers: Answers) -> Points:
    """The points of a failing verdict.

    Args:
        case: what failed.
        verdict: the one that is told.
        answers: all that was observed, those to ``questions`` among it.
    """
    found: dict[str, Any] = {"random": _random(answers), "unusual": unusual(case)}
    number = verdict.evidence.get("call")
    part, _, position = verdict.place.rpartition(" ")
    if part in PARTS and number is not None and "index" in verdict.evidence:
        index = tuple(verdict.evidence["index"])
        found |= _element(answers, part, int(number), int(position), index)
    call = _only_places(case, answers)
    if call is not None:
        found["indices"] = "ties" if _tied(case, call, answers) else "distinct"
    return Points(**found, objections=tuple(_objections(Points(**found))))


def _objections(points: Points) -> Iterator[str]:
    if points.tolerances == "kept":
        yield "it keeps to the default tolerances of torch.testing.assert_close"
    if points.double == "disagrees":
        yield "double precision does not agree with the reference"
    mine, theirs = points.reference_error, points.target_error
    if mine and theirs is not None and theirs <= _NO_WORSE * mine:
        yield "the target is as close to double precision as the reference is"
    if points.random == "drawn":
        yield "the values depend on the random state, which compilers use in another order"
    if points.indices != "no":
        same = "of equal elements" if points.indices == "ties" else "of max, min or a sort"
        yield f"only indices {same} differ"


def unusual(case: Case) -> tuple[str, ...]:
    """What an ordinary program would not have: dtypes, settings, values, sizes, operators that few people use."""
    found = []
    if (count := len(case.program.operators())) > _SHORT:
        found.append(f"{count} operators")
    found += [operator for operator in dict.fromkeys(case.program.operators()) if _private(case, operator)]
    types = case.program.types()
    dtypes = {type_.dtype for type_ in types if type_ is not None} | {view.dtype for view in case.input_sets[0].views}
    found += sorted(dtypes - _ORDINARY)
    if case.setting.told().knobs:
        found.append("knobs")
    if any(extreme(storage) for inputs in case.input_sets for storage in inputs.storages):
        found.append("special values")
    if any(0 in view.shape for view in case.input_sets[0].views):
        found.append("empty inputs")
    if any(inputs.shared() for inputs in case.input_sets):
        found.append("inputs that share memory")
    return tuple(found)


def _private(case: Case, operator: str) -> bool:
    """Whether an operator is one that programs are not written with."""
    if operator == case.setting.target:
        return False  # a user's kernel, whose traits only a process knows that has imported it
    traits = _traits(case, operator)
    return traits.internal or traits.plain


# --- values -----------------------------------------------------------------------------------------------------------


def _element(answers: Answers, part: str, number: int, position: int, index: tuple[int, ...]) -> dict[str, Any]:
    """Tolerances and errors at the element that a verdict tells."""
    want = _tensor(answers, REFERENCE, part, number, position)
    got = _tensor(answers, SUBJECT, part, number, position)
    if want is None or got is None or want.shape != got.shape:
        return {}
    found: dict[str, Any] = {"tolerances": "kept" if bool(tolerance.within(want, got)[index]) else "violated"}
    double = _tensor(answers, Question("baseline"), part, number, position)
    if double is None or double.shape != want.shape:
        return found
    exact = double[index]
    found["double"] = "agrees" if bool(tolerance.within(want[index], exact.to(want.dtype))) else "disagrees"
    for name, tensor in (("reference_error", want), ("target_error", got)):
        distance = _distance(tensor[index], exact)
        found[name] = distance if math.isfinite(distance) else None
    return found


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    a, b = one.item(), other.item()
    return 0.0 if a == b or (a != a and b != b) else float(abs(a - b))


def _tensor(answers: Answers, question: Question, part: str, number: int, position: int) -> torch.Tensor | None:
    seen = answers.get(question)
    if seen is None:
        return None
    try:
        found: torch.Tensor | None = seen.calls[number][part][position]
    except IndexError:
        return None
    return found


# --- random numbers ---------------------------------------------------------------------------------------------------


def _traits(case: Case, operator: str) -> Traits:
    return vocabulary(case.program.vocabulary).traits(operator)


def _draws(case: Case) -> bool:
    return any(_traits(case, operator).random for operator in case.program.operators())


def _random(answers: Answers) -> Random:
    """Every run is seeded alike; what is asked is whether another seed would show something else."""
    other = answers.get(Question("reseeded"))
    if other is None:
        return "fixed"
    reference = answers[REFERENCE]
    same = all(
        a is b or (a is not None and b is not None and a.shape == b.shape and same_values(a, b))
        for part in PARTS
        if part != "random state"
        for _, _, a, b in pairs(part, reference, other)
    )
    return "fixed" if same else "drawn"


# --- indices ----------------------------------------------------------------------------------------------------------


def _differing(answers: Answers) -> Iterator[tuple[str, int, int]]:
    """Part, call and position of all tensors that differ beyond the default tolerances."""
    for part in PARTS:
        for number, position, want, got in pairs(part, answers[REFERENCE], answers[SUBJECT]):
            if (want is None) != (got is None):
                yield part, number, position
            elif want is not None and got is not None:
                same_type = want.dtype == got.dtype and want.shape == got.shape
                if not same_type or not bool(tolerance.within(want, got).all()):
                    yield part, number, position


def _only_places(case: Case, answers: Answers) -> Call | None:
    """The operator that gave the places, if nothing but places of elements differs; the first of several."""
    if answers[SUBJECT].error is not None:
        return None
    found: Call | None = None
    for part, _, position in _differing(answers):
        value = case.program.returns[position] if part == "output" else -1
        call = _gives_place(case, value)
        if call is None:
            return None
        found = found or call
    return found


def _gives_place(case: Case, value: int) -> Call | None:
    """The call of which a value is the place of a largest, least or sorted element."""
    program = case.program
    if value < len(program.inputs):
        return None
    position = program.producer(value)
    assert position is not None
    call = program.calls[position]
    type_ = program.types()[value]
    traits = _traits(case, call.operator)
    if type_ is None or type_.dtype != "int64":
        return None
    if traits.places:
        return call
    nth = value - program.firsts()[position]
    return call if nth > 0 and traits.ties else None


def _tied(case: Case, call: Call, answers: Answers) -> bool:
    """Whether the places that differ hold equal elements; where that cannot be told, they count as equal."""
    for part, number, position in _differing(answers):
        want = _tensor(answers, REFERENCE, part, number, position)
        got = _tensor(answers, SUBJECT, part, number, position)
        operand = _tensor(answers, Question("operand", call.operands()[0]), "output", number, 0)
        if want is None or got is None or want.shape != got.shape or operand is None:
            continue
        if _gives_place(case, case.program.returns[position]) is call and not _equal_there(
            case, call, operand, want, got
        ):
            return False
    return True


def _equal_there(case: Case, call: Call, operand: torch.Tensor, want: torch.Tensor, got: torch.Tensor) -> bool:
    """Whether an operand has the same elements at the places wanted and found."""
    dim = _dimension(call, _traits(case, call.operator))
    if dim is None:
        operand, want, got, dim = operand.flatten(), want.flatten(), got.flatten(), 0
    elif want.dim() < operand.dim():
        want, got = want.unsqueeze(dim), got.unsqueeze(dim)
    if want.dim() != operand.dim():
        return True
    size = operand.shape[dim] if operand.dim() else 1
    if bool(((got < 0) | (got >= size)).any()):
        return False  # no place at all
    return same_values(operand.gather(dim, want), operand.gather(dim, got))


def _dimension(call: Call, traits: Traits) -> int | None:
    """Along which dimension an operator looks; None for all of them."""
    place = traits.dimension
    given: Sequence[Any] = call.args
    named = dict(call.kwargs)
    for name in ("dim", "axis"):
        if isinstance(named.get(name), int):
            return int(named[name])  # type: ignore[arg-type]
    if len(given) > place and isinstance(given[place], int) and not isinstance(given[place], bool):
        return int(given[place])
    return None if traits.whole else -1
