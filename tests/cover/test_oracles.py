"""Each oracle on hand-made observations: what it must see, and what it must not mind."""

import math
from dataclasses import replace

import pytest
import torch

from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View
from shakeout.corpus.observation import Observation, Raised
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
from shakeout.fuzz.running.execute import ROUNDS
from shakeout.oracles import tolerance
from shakeout.oracles.aliasing import Aliasing
from shakeout.oracles.difference import Difference
from shakeout.oracles.exception import ExceptionParity
from shakeout.oracles.forgiven import forgiven
from shakeout.oracles.metadata import Metadata
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Outcome, Question, Verdict, merge

X = TensorType("float32", (3,))
CASE = Case(
    Program((Input(X),), (), (0,)),
    (InputSet((Storage("float32", 3, Values("uniform", 1)),), (View(0, "float32", (3,), (1,)),)),),
    Setting("inductor"),
)
VALUE = Difference("value", "output")


def seen(*outputs: torch.Tensor, gradient: tuple = (), memory: tuple = (), aliases: tuple | None = None) -> Observation:
    owners = tuple(range(len(outputs))) if aliases is None else aliases
    call = {"output": outputs, "gradient": gradient, "input after the call": memory, "aliases": owners, "given": 0}
    return Observation([call])


def judge(oracle, reference: Observation, subject: Observation, /, **others: Observation):
    answers = {REFERENCE: reference, SUBJECT: subject}
    said = oracle.judge(CASE, answers)
    for _ in range(ROUNDS - 1):
        if isinstance(said, Verdict):
            break
        # Whatever else it asks is answered by the reference, unless told otherwise.
        for question in said:
            answers[question] = others.get(question.what, subject if question.what == "subject" else reference)
        said = oracle.judge(CASE, answers)
    assert isinstance(said, Verdict)
    return said


def test_equal_runs_pass_without_further_questions() -> None:
    x = torch.tensor([1.0, math.nan, math.inf])
    said = VALUE.judge(CASE, {REFERENCE: seen(x), SUBJECT: seen(x.clone())})
    assert isinstance(said, Verdict)
    assert said.outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("want", "got", "symptom"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.1], "wrong value"),
        ([1.0, math.nan, 3.0], [1.0, 0.0, 3.0], "NaN lost"),
        ([1.0, 2.0, 3.0], [1.0, math.nan, 3.0], "NaN appears"),
        ([1.0, math.inf, 3.0], [1.0, 3e38, 3.0], "infinity lost"),
        ([1.0, 2.0, 3.0], [1.0, -math.inf, 3.0], "infinity appears"),
        ([1.0, math.inf, 3.0], [1.0, -math.inf, 3.0], "wrong value"),
        ([1, 2, 3], [1, 2, 4], "wrong value"),
        ([True, False], [True, True], "wrong value"),
    ],
)
def test_one_wrong_element_fails(want: list, got: list, symptom: str) -> None:
    verdict = judge(VALUE, seen(torch.tensor(want)), seen(torch.tensor(got)))
    assert (verdict.outcome, verdict.symptom) == (Outcome.FAIL, symptom)
    assert verdict.evidence["wrong"] == 1


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_eight_bit_floats_are_judged(name: str) -> None:
    dtype = getattr(torch, name)
    verdict = judge(VALUE, seen(torch.tensor([1.0, 2.0]).to(dtype)), seen(torch.tensor([1.0, 7.0]).to(dtype)))
    assert (verdict.outcome, verdict.symptom) == (Outcome.FAIL, "wrong value")
    verdict = judge(VALUE, seen(torch.tensor([1.0, 2.0]).to(dtype)), seen(torch.tensor([1.0, math.nan]).to(dtype)))
    assert (verdict.outcome, verdict.symptom) == (Outcome.FAIL, "NaN appears")


def test_one_wrong_element_of_a_million_fails() -> None:
    want = torch.zeros(1_000_000)
    got = want.clone()
    got[-1] = 0.1
    verdict = judge(VALUE, seen(want), seen(got))
    assert verdict.outcome is Outcome.FAIL
    assert verdict.evidence["index"] == [999_999]
    assert verdict.evidence["where"] == "one element"


def test_what_rounding_explains_is_no_failure() -> None:
    want, got = torch.tensor([1.0]), torch.tensor([1.001])
    moved = seen(torch.tensor([1.0005]))
    assert judge(VALUE, seen(want), seen(got), replica=moved).symptom == "unstable"
    assert judge(VALUE, seen(want), seen(got)).outcome is Outcome.FAIL


def test_a_result_as_close_to_double_precision_as_the_reference_is_no_failure() -> None:
    want, got = torch.tensor([1.0]), torch.tensor([1.02])
    truth = torch.tensor([1.01], dtype=torch.float64)
    assert strictly(network("torch.exp", "torch.sin"), want, got, baseline=truth).symptom == "unstable"
    # An overflow of the reference that double precision does not have.
    want, got = torch.tensor([math.inf], dtype=torch.float16), torch.tensor([60000.0], dtype=torch.float16)
    truth = torch.tensor([60000.0], dtype=torch.float64)
    assert strictly(network("torch.exp", "torch.sin"), want, got, baseline=truth).symptom == "unstable"


def test_a_flipped_decision_is_no_failure() -> None:
    want, got = torch.tensor([3]), torch.tensor([5])
    assert judge(VALUE, seen(want), seen(got), replica=seen(torch.tensor([5]))).symptom == "unstable"


def test_a_program_without_meaning_is_no_evidence() -> None:
    want, got = torch.tensor([1.0]), torch.tensor([2.0])
    for what in ("relaid", "poisoned"):
        verdict = judge(VALUE, seen(want), seen(got), **{what: seen(torch.tensor([7.0]))})
        assert (verdict.outcome, verdict.symptom) == (Outcome.UNKNOWN, "undefined")


def test_an_answer_that_changes_is_nondeterministic() -> None:
    want, got = torch.tensor([1.0]), torch.tensor([2.0])
    assert judge(VALUE, seen(want), seen(got), subject=seen(torch.tensor([3.0]))).symptom == "nondeterministic"


def test_the_later_call_is_named() -> None:
    right, wrong = seen(torch.ones(2)).calls[0], seen(torch.zeros(2)).calls[0]
    verdict = judge(VALUE, Observation([right, right]), Observation([right, wrong]))
    assert verdict.symptom == "wrong value on a later call"
    assert verdict.evidence["call"] == 1


def test_a_later_call_that_is_wrong_without_the_first_is_named_like_any_other() -> None:
    right, wrong = seen(torch.ones(2)).calls[0], seen(torch.zeros(2)).calls[0]
    verdict = judge(VALUE, Observation([right, right]), Observation([right, wrong]), alone=Observation([wrong]))
    assert verdict.symptom == "wrong value"
    assert verdict.evidence["call"] == 1
    # Another element is wrong there: that is no sign that these do not need the call before.
    half = seen(torch.tensor([0.0, 1.0])).calls[0], seen(torch.tensor([1.0, 0.0])).calls[0]
    verdict = judge(VALUE, Observation([right, right]), Observation([right, half[0]]), alone=Observation([half[1]]))
    assert verdict.symptom == "wrong value on a later call"


def test_an_exact_target_may_not_round() -> None:
    want, got = torch.tensor([1.0]), torch.tensor([1.0 + 2**-23])
    assert judge(VALUE, seen(want), seen(got)).outcome is Outcome.PASS
    assert judge(Difference("value", "output", exact=True), seen(want), seen(got)).outcome is Outcome.FAIL


def test_gradients_are_compared_by_element_and_presence() -> None:
    oracle = Difference("gradient", "gradient")
    one, two = torch.tensor([1.0, 1.0]), torch.tensor([1.0, 2.0])
    assert judge(oracle, seen(gradient=(one,)), seen(gradient=(two,))).outcome is Outcome.FAIL
    assert judge(oracle, seen(gradient=(one,)), seen(gradient=(None,))).symptom == "gradient lost"
    assert judge(oracle, seen(gradient=(None,)), seen(gradient=(one,))).symptom == "gradient appears"
    assert judge(oracle, seen(gradient=(None,)), seen(gradient=(torch.zeros(2),))).outcome is Outcome.PASS
    assert judge(oracle, seen(gradient=(None,)), seen(gradient=(None,))).outcome is Outcome.PASS


def test_a_lost_mutation_is_seen() -> None:
    oracle = Difference("mutation", "input after the call")
    verdict = judge(oracle, seen(memory=(torch.ones(3),)), seen(memory=(torch.zeros(3),)))
    assert (verdict.outcome, verdict.symptom) == (Outcome.FAIL, "wrong mutation")


def test_half_precision_complex_numbers_are_compared() -> None:
    x = torch.tensor([1 + 2j, 3j], dtype=torch.complex64).to(torch.complex32)
    assert judge(VALUE, seen(x), seen(x.clone())).outcome is Outcome.PASS
    assert judge(VALUE, seen(x), seen(-x)).outcome is Outcome.FAIL


def test_the_random_state_must_agree() -> None:
    oracle = Difference("randomness", "random state", exact=True)
    state = torch.arange(4, dtype=torch.uint8)
    reference, subject = ({**seen().calls[0], "random state": [s]} for s in (state, state + 1))
    verdict = judge(oracle, Observation([reference]), Observation([subject]))
    assert (verdict.outcome, verdict.symptom) == (Outcome.FAIL, "random state differs")


@pytest.mark.parametrize(
    ("want", "got", "symptom"),
    [
        (torch.ones(2), torch.ones(2, dtype=torch.float64), "wrong dtype"),
        (torch.ones(2), torch.ones(2, 1), "wrong shape"),
        (torch.ones(2, 3), torch.ones(3, 2).t(), "wrong strides"),
        (torch.ones(3).expand(2, 3), torch.ones(2, 3), "wrong strides"),
        (torch.ones(1, 3), torch.ones(3, 1).t(), ""),
        (torch.ones(0, 3), torch.ones(3, 0).t(), ""),
    ],
)
def test_metadata(want: torch.Tensor, got: torch.Tensor, symptom: str) -> None:
    verdict = judge(Metadata(), seen(want), seen(got))
    assert (verdict.outcome is Outcome.FAIL, verdict.symptom) == (bool(symptom), symptom)


def test_the_number_of_outputs() -> None:
    assert judge(Metadata(), seen(torch.ones(1)), seen()).symptom == "wrong number of outputs"


@pytest.mark.parametrize(
    ("what", "symptom"),
    [("poisoned", "undefined"), ("relaid", "undefined"), ("reference", "undefined"), ("replica", "unstable")],
)
def test_a_shape_that_the_reference_itself_does_not_keep_is_no_evidence(what: str, symptom: str) -> None:
    want, got, other = seen(torch.ones(15, 2)), seen(torch.ones(16, 2)), seen(torch.ones(14, 2))
    verdict = judge(Metadata(), want, got, **{what: other})
    assert (verdict.outcome, verdict.symptom) == (Outcome.UNKNOWN, symptom)
    assert judge(Metadata(), want, got, baseline=other).symptom == "wrong shape", "bits read as another dtype"
    failed = Observation([], Raised("ValueError", "no", ()))
    assert judge(Metadata(), want, got, **{what: failed}).symptom == "wrong shape"


@pytest.mark.parametrize(
    ("want", "got", "symptom"),
    [((0,), (2,), "alias lost"), ((2,), (0,), "alias appears"), ((0,), (1,), "wrong alias"), ((3,), (2,), "")],
)
def test_aliasing(want: tuple, got: tuple, symptom: str) -> None:
    def run(owners: tuple) -> Observation:
        call = dict(seen(torch.ones(1), aliases=owners).calls[0])
        call["given"] = 2
        return Observation([call])

    assert judge(Aliasing(), run(want), run(got)).symptom == symptom


def test_exceptions() -> None:
    oracle, fine = ExceptionParity(), seen(torch.ones(1))
    boom = Raised("LoweringException", "index 17 is out of range at 0x7f00", ("graph.py:run",))
    verdict = judge(oracle, fine, Observation(error=boom))
    assert (verdict.outcome, verdict.symptom) == (Outcome.FAIL, "LoweringException")
    assert verdict.evidence["template"] == "index N is out of range at ADDRESS"
    declined = Raised("Unsupported", "no", (), declined=True)
    assert judge(oracle, fine, Observation(error=declined)).outcome is Outcome.UNKNOWN
    assert judge(oracle, fine, fine).outcome is Outcome.PASS


def test_outcomes_merge() -> None:
    assert merge([]) is Outcome.PASS
    assert merge([Outcome.PASS, Outcome.UNKNOWN]) is Outcome.UNKNOWN
    assert merge([Outcome.UNKNOWN, Outcome.FAIL, Outcome.PASS]) is Outcome.FAIL


def test_a_dtype_without_tolerance_must_agree() -> None:
    assert tolerance.default(torch.int8) == (0.0, 0.0)
    assert not tolerance.within(torch.tensor([1], dtype=torch.uint8), torch.tensor([2], dtype=torch.uint8)).any()


def test_questions_are_asked_once_there_is_doubt() -> None:
    said = VALUE.judge(CASE, {REFERENCE: seen(torch.ones(1)), SUBJECT: seen(torch.zeros(1))})
    assert not isinstance(said, Verdict)
    assert {question.what for question in said} == {"baseline", "poisoned", "replica"}
    assert len(said) <= 4


def test_more_replicas_run_only_where_few_do_not_explain_a_difference() -> None:
    want, got = torch.ones(4), torch.ones(4) + 2.0**-14
    for explains, most in ((0, 4), (5, 11), (None, 53)):
        answers, asked = {REFERENCE: seen(want), SUBJECT: seen(got)}, 0
        said = VALUE.judge(CASE, answers)
        while not isinstance(said, Verdict):
            asked += len([question for question in said if question not in answers])
            for question in said:
                far = question == Question("replica", -1 if explains is None else explains)
                answers[question] = seen(got if far or question.what == "subject" else want)
            said = VALUE.judge(CASE, answers)
        assert asked == most
        assert said.outcome is (Outcome.FAIL if explains is None else Outcome.UNKNOWN)


@pytest.mark.parametrize(("operator", "more"), [("torch.div", set()), ("torch.atan2", {"conditioned"})])
def test_of_a_small_number_no_larger_errors_are_asked_for(operator: str, more: set[str]) -> None:
    case, answers = products(operator), {REFERENCE: seen(SMALL), SUBJECT: seen(WRONG)}
    said = VALUE.judge(case, answers)
    while not isinstance(said, Verdict):
        answers |= {question: seen(WRONG if question.what == "subject" else SMALL) for question in said}
        said = VALUE.judge(case, answers)
    assert said.symptom == "imprecise value"
    asked = {question.what for question in answers} - {"reference", "subject"}
    assert asked == {"baseline", "replica", "relaid", "poisoned"} | more


def test_a_worker_answers_as_often_as_an_oracle_may_ask() -> None:
    one = products()
    sets = tuple(replace(each, storages=(Storage("float32", 3, Values("integers", 1)),)) for each in one.input_sets)
    one = replace(one, input_sets=sets, program=replace(one.program, returns=(1, 1)))
    right, wrong = seen(SMALL, torch.ones(1)), seen(WRONG, torch.zeros(1))
    moved = seen(WRONG, torch.ones(1))

    def run(what: str, number: int) -> Observation:
        if what == "exact":
            return Observation(error=Raised("NotProven", "", ()))
        if what in ("alone", "reference alone"):
            return right
        # The small number is what the very last replica has, and the other one is wrong, on the second call alone.
        second = moved if (what, number) == ("replica", tolerance.REPLICAS[-1] - 1) else right
        return Observation([*right.calls, *(wrong if what == "subject" else second).calls])

    answers = {question: run(question.what, question.number) for question in VALUE.questions(one)}
    for _ in range(ROUNDS):
        said = VALUE.judge(one, answers)
        if isinstance(said, Verdict):
            break
        answers |= {question: run(question.what, question.number) for question in said}
    assert isinstance(said, Verdict)
    assert (said.place, said.symptom) == ("output 1", "wrong value on a later call")


def test_a_decision_is_flipped_often_before_a_failure_is_told() -> None:
    want, got = torch.tensor([True]), torch.tensor([False])
    answers = {REFERENCE: seen(want), SUBJECT: seen(got)}
    for _ in range(ROUNDS):
        said = VALUE.judge(CASE, answers)
        if isinstance(said, Verdict):
            break
        for question in said:
            last = question.what == "replica" and question.number == tolerance.REPLICAS[-1] - 1
            answers[question] = seen(got) if last or question.what == "subject" else seen(want)
    assert isinstance(said, Verdict)
    assert (said.outcome, said.symptom) == (Outcome.UNKNOWN, "unstable")


def test_a_decision_may_be_taken_by_any_error_that_a_number_may_have() -> None:
    want, got = torch.tensor([0.5, 3.0]), torch.tensor([0.5, 4.0])
    assert strictly(CASE, want, got, wide=torch.tensor([0.5, 4.0])).outcome is Outcome.UNKNOWN
    # A larger spread is no reason by itself.
    assert strictly(CASE, want, got, wide=torch.tensor([0.5, 5.0])).outcome is Outcome.FAIL


def test_where_no_run_with_other_errors_has_a_tensor_nothing_is_said_of_it() -> None:
    answers = {REFERENCE: seen(torch.ones(1)), SUBJECT: seen(torch.zeros(1))}
    said = VALUE.judge(CASE, answers)
    while not isinstance(said, Verdict):
        for question in said:
            answers[question] = Observation() if question.what == "replica" else seen(torch.ones(1))
        said = VALUE.judge(CASE, answers)
    assert (said.outcome, said.symptom) == (Outcome.UNKNOWN, "undecided")


def test_a_tensor_of_which_nothing_is_known_hides_no_other_one() -> None:
    known, wrong = torch.ones(1), torch.zeros(1)
    answers = {REFERENCE: seen(gradient=(known, known)), SUBJECT: seen(gradient=(wrong, wrong))}
    oracle = Difference("gradient", "gradient")
    said = oracle.judge(CASE, answers)
    while not isinstance(said, Verdict):
        for question in said:
            answers[question] = seen(gradient=(None if question.what == "replica" else known, known))
        said = oracle.judge(CASE, answers)
    assert (said.outcome, said.place) == (Outcome.FAIL, "gradient 1")


def test_bits_are_measured_by_inputs_laid_out_anew_as_well() -> None:
    want, got = torch.ones(2), torch.tensor([1.0, 1.0 + 2.0**-23])
    bits = Difference("gradient", "gradient", exact=True)
    for relaid, outcome in ((got, Outcome.UNKNOWN), (want, Outcome.FAIL)):
        answers = {REFERENCE: seen(gradient=(want,)), SUBJECT: seen(gradient=(got,))}
        said = bits.judge(CASE, answers)
        while not isinstance(said, Verdict):
            for question in said:
                other = {"relaid": relaid, "subject": got}.get(question.what, want)
                answers[question] = seen(gradient=(other,))
            said = bits.judge(CASE, answers)
        assert said.outcome is outcome


def test_an_error_that_rounding_gives_the_reference_as_well_is_none() -> None:
    fails = Observation(error=Raised("RuntimeError", "sizes 15 and 14 differ", ()))
    moved = Observation(error=Raised("RuntimeError", "sizes 15 and 13 differ", ()))
    fine = seen(torch.ones(1))
    assert judge(ExceptionParity(), fine, fails, replica=moved).symptom == "unstable"
    assert judge(ExceptionParity(), fine, fails, replica=fine).outcome is Outcome.FAIL
    other = Observation(error=Raised("RuntimeError", "not implemented", ()))
    assert judge(ExceptionParity(), fine, fails, replica=other).outcome is Outcome.FAIL


def test_a_reference_that_gives_other_values_the_second_time_means_nothing() -> None:
    bits = Difference("value", "output", exact=True)
    first, second = torch.tensor([1.0]), torch.tensor([1.0 + 2.0**-20])
    answers = {REFERENCE: seen(first), SUBJECT: seen(first + 2.0**-19)}
    for again, outcome in ((second, Outcome.UNKNOWN), (first, Outcome.FAIL)):
        told = dict(answers)
        said = bits.judge(CASE, told)
        while not isinstance(said, Verdict):
            for question in said:
                told[question] = seen(again if question == Question("reference", 1) else first)
            said = bits.judge(CASE, told)
        assert said.outcome is outcome


def test_of_a_complex_number_with_an_infinite_part_the_other_part_is_compared() -> None:
    want = torch.tensor([complex(1.0, math.inf)])
    assert tolerance.within(want, torch.tensor([complex(1.0 + 2.0**-22, math.inf)])).all()
    assert not tolerance.within(want, torch.tensor([complex(1.1, math.inf)])).any()
    assert not tolerance.within(want, torch.tensor([complex(1.0, -math.inf)])).any()


def test_a_number_without_digits_may_be_infinite() -> None:
    want, got = torch.tensor([64.0]), torch.tensor([math.inf])
    assert tolerance.moved(want, got, None, [torch.tensor([32.0])]).all()
    assert not tolerance.moved(want, got, None, [torch.tensor([63.9])]).any()
    assert not tolerance.moved(want, got, None, [want]).any()


# --- the derived tolerance --------------------------------------------------------------------------------------------


def products(operator: str = "torch.mul") -> Case:
    call = Call(operator, (Ref(0), Ref(0)), (), (X,))
    return replace(CASE, program=Program((Input(X),), (call,), (1,)))


def strictly(one: Case, want: torch.Tensor, got: torch.Tensor, **others: torch.Tensor) -> Verdict:
    answers = {REFERENCE: seen(want), SUBJECT: seen(got)}
    said = VALUE.judge(one, answers)
    while not isinstance(said, Verdict):
        for question in said:
            plain = got if question.what == "subject" else want
            answers[question] = seen(others.get(question.what, plain))
        said = VALUE.judge(one, answers)
    return said


SMALL = torch.tensor([1e-7, 0.5, 0.0])
WRONG = torch.tensor([0.0, 0.5, 0.0])


def test_a_small_number_that_is_wrong_is_seen_within_the_default_tolerances() -> None:
    assert bool(tolerance.within(SMALL, WRONG).all())
    verdict = strictly(products(), SMALL, WRONG)
    assert (verdict.outcome, verdict.symptom) == (Outcome.FAIL, "imprecise value")
    assert (verdict.evidence["tolerance"], verdict.evidence["index"]) == ("derived", [0])


@pytest.mark.parametrize("what", ["replica", "baseline", "reference", "relaid", "poisoned"])
def test_rounding_and_other_runs_of_the_reference_explain_a_small_number(what: str) -> None:
    assert strictly(products(), SMALL, WRONG, **{what: WRONG}).outcome is Outcome.PASS


ROUGH = torch.tensor([0.9e-7, 0.5, 0.0])


def test_what_rounds_within_an_operator_is_judged_where_all_of_it_is_wrong() -> None:
    # A hundredth is more than the rounding errors of a quotient, and may be the error of a formula.
    assert strictly(products("torch.div"), SMALL, ROUGH).outcome is Outcome.FAIL
    assert strictly(products("torch.atan2"), SMALL, ROUGH).outcome is Outcome.PASS
    verdict = strictly(products("torch.atan2"), SMALL, WRONG)
    assert (verdict.outcome, verdict.symptom) == (Outcome.FAIL, "imprecise value")
    assert verdict.message.endswith("wrong by all of itself")


@pytest.mark.parametrize("what", ["replica", "conditioned", "baseline", "reference", "relaid", "poisoned"])
def test_a_small_number_is_not_wrong_by_all_of_itself_if_another_run_has_it(what: str) -> None:
    assert strictly(products("torch.atan2"), SMALL, WRONG, **{what: WRONG}).outcome is Outcome.PASS


def test_double_precision_has_to_agree_with_the_reference_about_a_small_number() -> None:
    # To two digits, and of what is nothing there it does not say what it should be.
    for double, outcome in ((1.005e-7, Outcome.FAIL), (1.05e-7, Outcome.PASS), (0.0, Outcome.PASS)):
        baseline = torch.tensor([double, 0.5, 0.0], dtype=torch.float64)
        assert strictly(products("torch.atan2"), SMALL, WRONG, baseline=baseline).outcome is outcome
    residue = torch.tensor([1e-7, 0.5, 1e-9])
    assert strictly(products("torch.atan2"), SMALL, residue).outcome is Outcome.PASS


def test_what_underflows_may_be_zero() -> None:
    tiny = torch.tensor([1e-39, 0.5, 0.0])
    assert strictly(products(), tiny, WRONG).outcome is Outcome.PASS
    half = torch.tensor([5e-5, 0.5, 0.0], dtype=torch.float16)
    assert not bool(tolerance.Bound.RELATIVE.beyond(half, torch.zeros_like(half))[0])


# --- more precision, and what is forgiven -----------------------------------------------------------------------------


def network(*operators: str, vocabulary: str = "torch") -> Case:
    calls = tuple(Call(operator, (Ref(n),), (), (X,)) for n, operator in enumerate(operators))
    return replace(CASE, program=Program((Input(X),), calls, (len(calls),), vocabulary))


@pytest.mark.parametrize(
    ("operators", "outcome"),
    [
        # In half precision ``hardshrink`` rounds its bound, or does not; nothing lies between operators.
        (("torch.nn.functional.hardshrink",), Outcome.FAIL),
        (("torch.Tensor.clone", "torch.exp", "torch.t"), Outcome.FAIL),
        (("torch.exp", "torch.nn.functional.hardshrink"), Outcome.UNKNOWN),
        (("torch.sum",), Outcome.UNKNOWN),
        # Nobody knows what it does inside.
        (("torch.igamma",), Outcome.UNKNOWN),
    ],
)
def test_more_precision_is_kept_only_on_the_way(operators: tuple[str, ...], outcome: Outcome) -> None:
    want, got = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.1, 0.5, 1.0])
    assert strictly(network(*operators), want, got, baseline=got).outcome is outcome
    # So with decisions.
    assert strictly(network(*operators), want > 0, got > 0, baseline=got > 0).outcome is outcome


def test_to_round_to_decimals_is_a_product_and_a_decision() -> None:
    want, got = torch.tensor([0.02, 0.5, 1.0]), torch.tensor([0.01, 0.5, 1.0])
    for more, outcome in (((), Outcome.FAIL), ((("decimals", 2),), Outcome.UNKNOWN)):
        call = Call("torch.round", (Ref(0),), more, (X,))
        one = replace(CASE, program=Program((Input(X),), (call,), (1,)))
        assert strictly(one, want, got, baseline=got).outcome is outcome


def test_what_is_forgiven_says_by_which_rule_and_behind_which_operator() -> None:
    want, got = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.1, 0.6, 1.0])
    one = network("torch.exp", "torch.sin", "torch.Tensor.clone")
    said = strictly(one, want, got, replica=torch.tensor([0.1, 0.5, 1.0]), baseline=got)
    assert said.evidence["forgiven"] == [
        ["the spread of replicas", "torch.sin", 1],
        ["closer to double precision", "torch.sin", 1],
    ]
    assert forgiven(said) == [("value: the spread of replicas", "torch.sin"),
                              ("value: closer to double precision", "torch.sin")]  # fmt: skip
    assert forgiven(strictly(one, want, want)) == []
    unsupported = Verdict("exception", Outcome.UNKNOWN, "unsupported")
    assert forgiven(unsupported) == [("exception: unsupported", "")]
