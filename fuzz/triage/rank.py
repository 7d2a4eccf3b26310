"""The order of bugs: what a person should read first, and why it stands where it stands.

First what goes wrong in silence with ordinary values under default settings, then crashes, then what goes wrong under
other settings or at special values, then programs that are refused, then metadata; last what the project itself would
close. Among equals ordinary programs come first, then what nobody reported yet, what fresh processes bear out, what
shows without training, and what is small. All of it follows from what is stored; nothing runs, no torch is imported.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shakeout.corpus.case import Case
from shakeout.corpus.program import Arg, Call, rebuilt, walk
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.ground.results import LOSSES, Result
from shakeout.fuzz.ground.signature import what
from shakeout.fuzz.triage.bug_signature import layout_of, needed
from shakeout.oracles.vendor import unusual
from shakeout.oracles.verdict import Outcome, Verdict

__all__ = ["Rank", "Severity", "exotic", "rank", "special"]


class Severity(enum.IntEnum):
    """How bad a failure is for whoever runs the program; 1 is worst."""

    #: Values, shapes, gradients or what is written are wrong, with ordinary values under default settings.
    SILENT = 1
    #: The process dies or hangs, or memory is read or written that is not the program's.
    CRASH = 2
    #: Wrong with ordinary values, but only under a setting that somebody has to ask for.
    KNOBS = 3
    #: Wrong at NaN, infinities, -0.0, the ends of a dtype's range, or without any element.
    SPECIAL = 4
    #: A valid program is refused: whoever runs it knows.
    EXCEPTION = 5
    #: Strides, dtype, shared memory, or bits that are not the same twice; the values are right.
    METADATA = 6
    #: The project's own rules for such reports would have it closed.
    OBJECTIONABLE = 7
    #: Nothing is stored that could be judged.
    UNKNOWN = 8


@dataclass(frozen=True, slots=True)
class Rank:
    """Where a bug stands.

    Attributes:
        severity: its class.
        key: what orders bugs, the smallest first; no two bugs have the same.
        reason: why, in words: ``silent wrong value at ordinary values and default settings``.
    """

    severity: Severity
    key: tuple[int | str, ...]
    reason: str


#: How much of the evidence is there, by the state of a bug; what is not listed has least.
_EVIDENCE = {"confirmed": 0, "history": 1, "new": 2}

#: Symptoms of the metadata oracle after which the values are another tensor's: whoever reads them reads wrong ones.
_OTHER_TENSOR = ("wrong shape", "wrong number of outputs")

#: Oracles that look at what surrounds the values.
_AROUND = ("metadata", "aliasing", "determinism")

#: Largest and least magnitudes that are ordinary, by dtype: of floats those whose square is a number still, of integers
#: half of the range. Those of eight bits have no ends: all that they hold are small numbers.
_ENDS = {
    "float16": (2.0**14, 2.0**-14),
    "bfloat16": (2.0**63, 2.0**-63),
    "float32": (2.0**63, 2.0**-63),
    "complex64": (2.0**63, 2.0**-63),
    "float64": (2.0**511, 2.0**-511),
    "complex128": (2.0**511, 2.0**-511),
    "int16": (2.0**14, 0.0),
    "uint16": (2.0**15, 0.0),
    "int32": (2.0**30, 0.0),
    "uint32": (2.0**31, 0.0),
    "int64": (2.0**62, 0.0),
    "uint64": (2.0**63, 0.0),
}

#: What makes a program exotic weighs this much; what is merely seldom weighs one.
_HEAVY = 2

#: Networks compute with floating point; programs of these alone are found around them. Others are exotic anyway.
_ORDINARY_WHOLE = frozenset(("int64", "int32", "bool"))

#: Families of the operators that networks are written with. A bug in one of them concerns many; in another one, few.
_EVERYDAY = frozenset(
    # arithmetic and activations
    "add sub mul div neg abs exp log sqrt rsqrt pow square reciprocal sin cos tanh sigmoid relu relu6 gelu silu elu "
    "leaky_relu hardtanh hardswish hardsigmoid mish softplus erf clamp clamp_min clamp_max maximum minimum floor ceil "
    "round sign floordiv remainder mod softmax log_softmax logsumexp cumsum "
    # comparisons and masks
    "where eq ne lt le gt ge and or invert logical_and logical_or logical_not bitwise_and bitwise_or bitwise_not isnan "
    "isinf isfinite masked_fill masked_select nonzero tril triu "
    # reductions and choices
    "sum mean amax amin max min argmax argmin any all var std var_mean prod norm vector_norm topk sort "
    # products, convolutions, attention, normalisation, pooling
    "matmul mm bmm mv dot addmm baddbmm linear einsum scaled_dot_product_attention conv1d conv2d conv3d "
    "conv_transpose1d conv_transpose2d layer_norm batch_norm group_norm instance_norm rms_norm normalize dropout "
    "max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d "
    "interpolate grid_sample pixel_shuffle pad embedding one_hot "
    # what moves elements, makes tensors, or changes their dtype
    "reshape view flatten unflatten permute transpose t T mT squeeze unsqueeze expand expand_as broadcast_to repeat "
    "repeat_interleave tile cat stack hstack vstack split chunk unbind narrow select getitem setitem gather scatter "
    "scatter_add index_select index_add index_put roll flip diagonal contiguous clone detach to float half bfloat16 "
    "int long bool type_as zero copy fill zeros ones full arange linspace meshgrid zeros_like ones_like full_like "
    "new_zeros new_ones "
    # losses
    "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss binary_cross_entropy binary_cross_entropy_with_logits "
    "kl_div cosine_similarity".split()
)
#: The same of ONNX, by their names there.
_EVERYDAY_NODES = frozenset(
    "Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Clip Concat Conv ConvTranspose Cos CumSum "
    "DequantizeLinear Div Einsum Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm "
    "GlobalAveragePool Greater GridSample GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LSTM "
    "LayerNormalization LeakyRelu Less Log LogSoftmax MatMul Max MaxPool Min Mod Mul Neg NonZero Not OneHot Or PRelu "
    "Pad Pow QLinearConv QuantizeLinear Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize "
    "Round ScatterElements ScatterND Shape Sigmoid Sign Sin Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh "
    "Tile TopK Transpose Trilu Unsqueeze Where".split()
)


def rank(
    case: Case | None, result: Result | None, *, bug: str = "", state: str = "confirmed", known: bool = False
) -> Rank:
    """The rank of a bug.

    Args:
        case: its smallest case, or else the one that shows it best; None for what died before there was a case.
        result: of that case; None if none is stored.
        bug: its id, which decides between equals.
        state: of ``shakeout.corpus.rows.STATES``.
        known: whether somebody has reported it.
    """
    odd = () if case is None else exotic(case)
    # What died before there was a case is no example that somebody would look at first.
    weight = _HEAVY if case is None else sum(weight for _, weight in odd)
    failing = [] if result is None else [one for one in result.verdicts if one.outcome is Outcome.FAIL]
    if result is None or not failing:
        severity, reason = Severity.UNKNOWN, "no failing verdict is stored"
    else:
        # Wrong strides are told before wrong values, and are the lesser evil.
        graded = [_Graded.of(case, result, verdict) for verdict in failing]
        worst = min(graded, key=lambda one: one.severity)
        severity, reason = worst.severity, _reason(worst, result, [name for name, _ in odd])
    training = case is not None and case.setting.mode == "training"  # what shows without concerns more people
    key = (int(severity), weight, int(known), _EVIDENCE.get(state, len(_EVIDENCE)), int(training), *_size(case), bug)
    return Rank(severity, key, reason)


# --- how bad ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Graded:
    """A failing verdict, what is special about the values with which it fails, and how bad that is."""

    verdict: Verdict
    at: tuple[str, ...]
    severity: Severity

    @classmethod
    def of(cls, case: Case | None, result: Result, verdict: Verdict) -> _Graded:
        at = () if case is None else special(case, verdict)
        return cls(verdict, at, _severity(case, result, verdict, at))


def _severity(case: Case | None, result: Result, verdict: Verdict, at: tuple[str, ...]) -> Severity:
    if result.vendor is not None and result.vendor.objections:
        return Severity.OBJECTIONABLE
    if verdict.oracle in LOSSES or "Sanitizer" in verdict.symptom:
        return Severity.CRASH
    if verdict.oracle == "exception":
        return Severity.EXCEPTION
    if verdict.oracle in _AROUND and verdict.symptom not in _OTHER_TENSOR:
        return Severity.METADATA
    if at:
        return Severity.SPECIAL
    return Severity.KNOBS if case is not None and case.setting.told().knobs else Severity.SILENT


def special(case: Case, verdict: Verdict) -> tuple[str, ...]:
    """What is special about the values with which a case fails; nothing where they are ordinary."""
    found = [word for word in needed(case) if word in ("NaN", "infinity", "-0.0", "special values")]
    found += [word for word in _told(verdict) if word not in found]
    constants = list(_constants(case))
    if any(item != item for item in constants):
        found.append("NaN")
    if any(abs(item) == float("inf") for item in constants):
        found.append("infinity")
    if any(_extreme(case)):
        found.append("the ends of the range")
    if _empty(case):
        found.append("no elements")
    return tuple(dict.fromkeys(found))


def _told(verdict: Verdict) -> Iterator[str]:
    """What the reference's own element is where it is no number: ordinary inputs may have such a result."""
    expected = str(verdict.evidence.get("expected", "")) if verdict.oracle in ("value", "gradient", "mutation") else ""
    if verdict.symptom.startswith("NaN lost") or "nan" in expected:
        yield "NaN"
    elif verdict.symptom.startswith("infinity lost") or "inf" in expected:
        yield "infinity"


def _constants(case: Case) -> Iterator[complex]:
    """The numbers among the arguments of a program's calls."""
    found: list[complex] = []

    def note(leaf: Arg) -> Arg:
        if isinstance(leaf, int | float | complex):
            found.append(leaf)
        return leaf

    for call in walk(case.program.calls):
        for arg in _arguments(call):
            rebuilt(arg, note)
    yield from found


def _extreme(case: Case) -> Iterator[bool]:
    """Whether numbers lie near an end of their dtype's range."""
    for storage in (storage for inputs in case.input_sets for storage in inputs.storages):
        largest, least = _ENDS.get(storage.dtype, (float("inf"), 0.0))
        values = storage.values
        bounds = () if values.kind in ("literal", "blob") else (values.low, values.high)
        if values.kind == "ladder":
            bounds = (2.0**values.low, 2.0**values.high)
        for item in (*values.items, *bounds):
            size = max(abs(item.real), abs(item.imag)) if isinstance(item, complex) else abs(item)
            yield largest < size < float("inf") or 0 < size < least


def _empty(case: Case) -> bool:
    views = (view.shape for inputs in case.input_sets for view in inputs.views)
    made = (type_.shape for type_ in case.program.types() if type_ is not None)
    return any(0 in shape for shape in (*views, *made))


# --- how exotic -------------------------------------------------------------------------------------------------------


def exotic(case: Case) -> tuple[tuple[str, int], ...]:
    """What an ordinary program would not have, each with its weight."""
    found = [(word, _HEAVY) for word in unusual(case) if word != "knobs"]
    found += [(f"{name}={value}", _HEAVY) for name, value in case.setting.told().knobs]
    layout = layout_of(case).split("+") if layout_of(case) else []
    found += [(word, _HEAVY) for word in layout if word in ("overlapping", "bytes of another dtype")]
    found += [(word, 1) for word in layout if word in ("strided", "offset")]
    if len(case.input_sets) > 1:
        found.append(("several calls", 1))
    words = vocabulary(case.program.vocabulary)
    seldom = [name for name in case.program.operators() if not _common(words.family(name), name)]
    found += [("seldom used operators", 1)] if seldom else []
    # The shape of a scalar is an empty list that everybody writes. Only who is given one is looked up: a user's kernel
    # would be imported for that, and may be gone.
    given_one = [call for call in walk(case.program.calls) if any(_empty_list(arg) for arg in _arguments(call))]
    if any(not words.traits(call.operator).sized for call in given_one):
        found.append(("an empty list as argument", 1))
    given = {one.type.dtype for one in case.program.inputs}
    floats = {dtype for dtype in given if "float" in dtype}
    if len(floats) > 1:
        found.append(("floats of two widths", 1))
    if given and not floats and given <= _ORDINARY_WHOLE:
        found.append((f"{' and '.join(sorted(given))} alone", 1))
    return tuple(found)


def _arguments(call: Call) -> tuple[Arg, ...]:
    return (*call.args, *(value for _, value in call.kwargs))


def _empty_list(arg: Arg) -> bool:
    return isinstance(arg, tuple) and (not arg or any(map(_empty_list, arg)))


def _common(family: str, operator: str) -> bool:
    """Whether an operator is of an everyday family; a user's kernel is, to its user."""
    return family in _EVERYDAY or family.removeprefix("onnx.") in _EVERYDAY_NODES or ":" in operator


def _size(case: Case | None) -> tuple[int, int, int]:
    """Operators, elements and length of the text; a case that is not there counts as large."""
    if case is None:
        return (1 << 30, 1 << 30, 1 << 30)
    elements = sum(storage.size for inputs in case.input_sets for storage in inputs.storages)
    return sum(1 for _ in walk(case.program.calls)), elements, len(case.text)


# --- in words ---------------------------------------------------------------------------------------------------------


def _reason(worst: _Graded, result: Result, odd: Sequence[str]) -> str:
    verdict, at = worst.verdict, worst.at
    match worst.severity:
        case Severity.SILENT:
            text = f"silent {what(verdict)} at ordinary values and default settings"
        case Severity.KNOBS:
            text = f"silent {what(verdict)} at ordinary values, not at default settings"
        case Severity.SPECIAL:
            text = f"{what(verdict)} at special values ({', '.join(at)})"
        case Severity.CRASH:
            text = what(verdict) if verdict.oracle in LOSSES else f"memory error ({verdict.symptom})"
        case Severity.EXCEPTION:
            text = "exception on a valid program"
        case Severity.METADATA:
            text = f"{what(verdict)} (metadata)"
        case _:
            return "its project would close it: " + "; ".join(result.vendor.objections if result.vendor else ())
    more = ", ".join(word for word in odd if word not in at)
    return text + (f"; {more}" if more else "")
