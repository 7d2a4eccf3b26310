"""The order of bugs: of those that ship, of small cases that differ in one point, and of what can hardly be judged."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shakeout.corpus import regressions
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.vocabularies.torch_traits import family
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.triage.rank import Rank, Severity, rank
from shakeout.oracles.vendor import Points
from shakeout.oracles.verdict import Outcome, Verdict

SHIPPED = {bug.id: bug for bug in regressions.load_all()}


def failing(case: Case, oracle: str = "value", symptom: str = "wrong value", **evidence: object) -> Result:
    verdict = Verdict(oracle, Outcome.FAIL, symptom, evidence=evidence)
    return Result(case.id, case.setting.target, "compared", (verdict,))


def ranked(bug: regressions.Regression) -> Rank:
    result = failing(bug.case, bug.failure["oracle"], bug.failure["symptom"])
    return rank(bug.case, result, bug=bug.id, known=bool(bug.reference))


ORDER = sorted(SHIPPED, key=lambda name: ranked(SHIPPED[name]).key)


def case_of(function: Callable[..., object], *tensors: torch.Tensor, target: str = "inductor", **knobs: object) -> Case:
    return capture(function, lambda: list(tensors), setting=Setting(target, tuple(sorted(knobs.items()))))  # type: ignore[arg-type]


X = torch.tensor([1.0, 2.0, 3.0])


# --- bugs that ship ---------------------------------------------------------------------------------------------------


def test_every_shipped_bug_has_a_place_of_its_own_and_a_reason() -> None:
    ranks = [ranked(bug) for bug in SHIPPED.values()]
    assert len({one.key for one in ranks}) == len(ranks) > 120
    assert all(one.reason and one.severity is not Severity.UNKNOWN for one in ranks)
    shuffled = list(SHIPPED.values())
    random.Random(0).shuffle(shuffled)
    assert [bug.id for bug in sorted(shuffled, key=lambda bug: ranked(bug).key)] == ORDER


@pytest.mark.parametrize(
    ("name", "severity", "reason"),
    [
        ("tvm-add-ignores-alpha", Severity.SILENT, "silent wrong value at ordinary values and default settings"),
        (
            "logical-not-in-place-of-a-scalar-is-lost",
            Severity.SILENT,
            "silent wrong write to an input at ordinary values and default settings",
        ),
        (
            "unfold-gradient-of-overlapping-windows",
            Severity.SILENT,
            "silent wrong value of a gradient at ordinary values and default settings; seldom used operators",
        ),
        (
            "openvino-squeeze-forgets-the-size",
            Severity.SILENT,
            "silent wrong shape at ordinary values and default settings",
        ),
        (
            "openvino-tensordot-over-crossed-dimensions",
            Severity.SILENT,
            "silent other values in each run at ordinary values and default settings; seldom used operators",
        ),
        ("openvino-expand-to-nothing", Severity.CRASH, "crash (SIGFPE); empty inputs, shapes=static"),
        (
            "add-of-booleans-with-alpha-overflows",
            Severity.KNOBS,
            "silent wrong value at ordinary values, not at default settings; cpp.simdlen=256, bool alone",
        ),
        ("elu-of-minus-zero", Severity.SPECIAL, "wrong value at special values (-0.0)"),
        ("tvm-not-equal-of-nan", Severity.SPECIAL, "wrong value at special values (NaN)"),
        ("openvino-remainder-by-infinity", Severity.SPECIAL, "NaN appears at special values (infinity)"),
        ("openvino-var-of-one-element", Severity.SPECIAL, "NaN lost at special values (NaN)"),
        ("onnxruntime-repeat-interleave-of-zero", Severity.SPECIAL, "wrong shape at special values (no elements)"),
        ("flip-of-a-scalar", Severity.EXCEPTION, "exception on a valid program"),
        (
            "trace-with-a-gradient-and-two-shapes",
            Severity.EXCEPTION,
            "exception on a valid program; several calls, seldom used operators",
        ),
        ("cat-of-one-tensor-keeps-strides", Severity.METADATA, "wrong strides (metadata); strided"),
        ("adding-zeros-gives-the-input", Severity.METADATA, "alias appears (metadata)"),
    ],
)
def test_shipped_bugs_stand_where_a_vendor_would_have_them(name: str, severity: Severity, reason: str) -> None:
    found = ranked(SHIPPED[name])
    assert (found.severity, found.reason) == (severity, reason)


def test_the_order_of_shipped_bugs_is_that_of_their_classes() -> None:
    severities = [ranked(SHIPPED[name]).severity for name in ORDER]
    assert severities == sorted(severities)
    silent = ORDER[: severities.count(Severity.SILENT)]
    # What the documentation does not allow may be computed in several ways, which no value tells.
    arguable = ["addcmul-in-place-of-integers-with-a-fractional-value"]
    assert [name for name in silent if SHIPPED[name].judgement != "real"] == arguable
    # Nobody reads strides before wrong numbers.
    assert all(SHIPPED[name].failure["oracle"] in ("metadata", "aliasing") for name in ORDER[-15:])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # everyday operators before seldom ones
        ("tvm-add-ignores-alpha", "onnx-atan2-of-zero-and-minus-one"),
        ("tvm-pow-of-bfloat16", "tvm-atan2-of-float16"),
        # arguments that people write before an empty list of dimensions
        ("openvino-vstack-of-one-keeps-its-rank", "all-over-no-dimension"),
        # floating point before whole numbers alone
        ("tvm-argmax-of-bfloat16", "openvino-min-of-bool"),
        # ordinary dtypes before others
        ("combinations-leaves-pending-symbols", "combinations-of-four-leave-pending-symbols"),
        # row-major before strided, and that before shared memory
        ("slice-of-a-reshaped-intermediate-has-other-strides", "view-of-an-intermediate-has-other-strides"),
        # elements before none
        ("tvm-vstack-of-two-dtypes", "bmm-of-nothing-of-two-dtypes"),
        # default settings before others
        ("tvm-add-of-a-float-to-integers", "tvm-to-that-copies-keeps-the-dtype"),
        # one call before several
        ("to-dense-of-a-dense-tensor", "tvm-trapz-of-a-second-size"),
        # one operator before two
        ("flip-of-a-scalar", "view-of-a-folded-constant"),
    ],
)
def test_among_equals_ordinary_comes_before_exotic(first: str, second: str) -> None:
    assert ORDER.index(first) < ORDER.index(second)


# --- one point at a time ----------------------------------------------------------------------------------------------


def test_what_is_new_sure_and_small_comes_first() -> None:
    small, large = case_of(lambda x: x.exp(), X), case_of(lambda x: x.exp(), torch.ones(5))

    def key(case: Case = small, **rest: object) -> tuple[int | str, ...]:
        return rank(case, failing(case), **rest).key  # type: ignore[arg-type]

    assert key(known=False) < key(known=True)
    assert key(state="confirmed") < key(state="history") < key(state="new") < key(state="flaky")
    assert key(small) < key(large)
    training = replace(small, setting=replace(small.setting, mode="training"))
    assert key(large) < key(training) < key(large, state="history")
    # A known one stands behind a new one that is less sure, and this behind a larger one that is sure.
    assert key(large, state="confirmed") < key(small, state="new") < key(small, known=True)
    assert key(bug="SH-1") < key(bug="SH-2")


def test_knobs_are_counted_one_by_one() -> None:
    cases = [
        case_of(lambda x: x.exp(), X),
        case_of(lambda x: x.exp(), X, dynamic=True),
        case_of(lambda x: x.exp(), X, dynamic=True, epilogue_fusion=False),
    ]
    keys = [rank(case, failing(case, "exception", "RuntimeError")).key for case in cases]
    assert keys == sorted(keys)
    assert [key[1] for key in keys] == [0, 2, 4]


@pytest.mark.parametrize(
    ("values", "special"),
    [
        ([1.0, 300.0], ""),
        ([1.0, float("nan")], "NaN"),
        ([1.0, float("-inf")], "infinity"),
        ([1.0, -0.0], "-0.0"),
        ([1.0, 1e30], "the ends of the range"),
        ([1.0, 1e-40], "the ends of the range"),
        ([], "no elements"),
    ],
)
def test_values_are_special_or_not(values: list[float], special: str) -> None:
    case = case_of(lambda x: x.exp(), torch.tensor(values))
    found = rank(case, failing(case))
    assert found.severity is (Severity.SPECIAL if special else Severity.SILENT)
    assert f"({special})" in found.reason or not special


@pytest.mark.parametrize(
    ("dtype", "value", "extreme"),
    [
        (torch.uint8, 255, False),
        (torch.int8, -128, False),
        (torch.int32, 1000, False),
        (torch.int32, 2**31 - 1, True),
        (torch.int64, 2**31, False),
        (torch.int64, -(2**63), True),
        (torch.float64, 1e30, False),
        (torch.float16, 60000.0, True),
    ],
)
def test_the_ends_of_a_range_are_those_of_the_dtype(dtype: torch.dtype, value: float, extreme: bool) -> None:
    case = case_of(lambda x: x + x, torch.tensor([value], dtype=dtype))
    assert (rank(case, failing(case)).severity is Severity.SPECIAL) is extreme


def test_a_number_in_an_argument_is_a_value_too() -> None:
    case = case_of(lambda x: torch.clamp(x, max=float("inf")), X)
    assert rank(case, failing(case)).reason == "wrong value at special values (infinity)"
    # So is one that the reference gives for ordinary inputs; one that the target alone gives is a wrong value.
    case = case_of(lambda x: x.log(), X)
    assert rank(case, failing(case, "value", "wrong value", expected="(nan+0j)")).severity is Severity.SPECIAL
    assert rank(case, failing(case, "value", "NaN appears", expected=1.0, found="nan")).severity is Severity.SILENT


def test_a_sanitizer_reports_a_memory_error() -> None:
    case = case_of(lambda x: x.exp(), X)
    found = rank(case, failing(case, "exception", "SanitizerReport"))
    assert (found.severity, found.reason) == (Severity.CRASH, "memory error (SanitizerReport)")


def test_the_worst_of_several_verdicts_counts() -> None:
    case = case_of(lambda x: x.exp(), X)
    strides, values = failing(case, "metadata", "wrong strides"), failing(case)
    both = replace(strides, verdicts=(*strides.verdicts, *values.verdicts))
    assert rank(case, both) == rank(case, values)
    assert rank(case, replace(both, verdicts=both.verdicts[::-1])) == rank(case, values)


def test_what_a_project_would_close_comes_last() -> None:
    case = case_of(lambda x: x.exp(), X)
    told = replace(failing(case), vendor=Points("kept", objections=("it keeps to the default tolerances",)))
    found = rank(case, told)
    assert found.reason == "its project would close it: it keeps to the default tolerances"
    assert found.key > rank(case, failing(case, "metadata", "wrong strides")).key


def test_what_died_before_there_was_a_case_has_a_place() -> None:
    case = case_of(lambda x: x.exp(), X)
    died = Result("", "eager", "failed", (Verdict("crash", Outcome.FAIL, "SIGSEGV"),))
    found = rank(None, died, bug="SH-1")
    assert (found.severity, found.reason) == (Severity.CRASH, "crash (SIGSEGV)")
    assert rank(case, failing(case, "crash", "SIGSEGV")).key < found.key < rank(None, None, bug="SH-1").key
    assert rank(case, Result(case.id, "inductor", "compared")).severity is Severity.UNKNOWN


def test_everyday_operators_are_operators() -> None:
    from shakeout.fuzz.triage import rank as module

    listed = json.loads((Path(regressions.__file__).parent / "data/operators/torch.json").read_text())["functions"]
    families = {family(f"{space}.{name}") for space, names in listed.items() for name in names.split()}
    assert families >= module._EVERYDAY


def test_it_is_told_without_torch() -> None:
    code = """
import sys
from shakeout.corpus import regressions
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.ground.signature import headline
from shakeout.fuzz.triage.rank import rank
from shakeout.oracles.verdict import Outcome, Verdict
for bug in regressions.load_all():
    verdict = Verdict(bug.failure["oracle"], Outcome.FAIL, bug.failure["symptom"])
    result = Result(bug.case.id, bug.case.setting.target, "compared", (verdict,))
    assert rank(bug.case, result).reason and headline(bug.case, result)
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
