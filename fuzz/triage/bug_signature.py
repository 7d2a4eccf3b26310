"""The signature of a minimised finding: what is left of it when sizes, names and chance are taken away.

It is made of the smallest case and of what the oracle said of that case, so it means little for a case that was not
minimised; such findings are ``unclassified``. Equal signatures are probably one bug. That is a suggestion: nothing is
merged because of it (``shakeout.fuzz.triage.similar``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shakeout.corpus.case import Case, View, contiguous
from shakeout.corpus.observation import OURS, place
from shakeout.corpus.program import walk
from shakeout.corpus.storage import extreme
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.ground.results import Result
from shakeout.oracles.verdict import Verdict

__all__ = ["UNCLASSIFIED", "Signature", "culprit_of", "dtype_class", "layout_of", "needed", "signature_of"]

#: The bucket of what could not be minimised: not reproduced, without a case, or still a network.
UNCLASSIFIED = "unclassified"

#: A case with more operators than this is a network: most of them are bystanders, and no class of bugs.
MOST_OPERATORS = 4

#: Extents that a vector, a tile or a block has. Below the first a dimension is as small as it could be made.
EXTENTS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)

#: Numbers from here on are no small whole ones: they were needed.
FAR = 100

#: Frames that tell where it broke, the innermost first.
FRAMES = 2

_CLASSES = {
    "float32": "float",
    "float64": "float",
    "float16": "half",
    "bfloat16": "half",
    "bool": "bool",
    "complex32": "complex",
    "complex64": "complex",
    "complex128": "complex",
}

#: Frames of whoever runs the case or the compiler, which are there whatever fails. Shakeout's own are told by their
#: package; in what was stored before they were, some are told by the names that their files had then.
_NOISE = re.compile(
    rf"^{re.escape(OURS)}|^<"
    r"|^(?:worker|execute|runs|standalone|zygote|nursery|staged|conduct)\.py:"
    r"|^(?:threading|contextlib|runpy|eval_frame|_ops|module|_tensor|_bootstrap|socket|selectors|process|thread)\.py:"
)
_STACK = re.compile(r'^\s*File "([^"]+)", line \d+ in (\S+)', re.MULTILINE)
_LISTS = re.compile(r"[\[(](?:(?:torch\.Size\()?[\[(]?-?N[\])]*,? ?)+[\])]")
_REPEATED = re.compile(r"N(?:, N)+,?")
#: Values and symbols that a compiler numbers; the numbers are N already.
_NAMES = re.compile(r"\b(?:arg|primals|tangents|buf|tmp|op|v|x|s|u|zuf|extern_kernel|view|node)_?N(?:_N)*\b")


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells bugs apart.

    Attributes:
        target: what failed.
        stage: of a target that works in stages.
        oracle: which oracle saw it.
        symptom: its class.
        operators: families of the smallest program's operators, sorted, with repetition.
        dtypes: classes of the dtypes that it is fed with, or makes if it is fed with nothing.
        layout: what is special about its inputs' layout; empty where all are row-major.
        inputs: what else they had to keep: extents, NaN, infinity, negative zero, numbers far from zero.
        deviation: in which way values differ, one of ``shakeout.oracles.deviation.DEVIATIONS``, or what is found
            instead of which dtype; empty for other oracles.
        setting: what differs from the default: knobs, training, several calls.
        culprit: the message's template and where it broke, for exceptions and crashes.
        growth: which elements are wrong when the smallest case has more of them (``shakeout.fuzz.triage.scaling``).
    """

    target: str
    stage: str
    oracle: str
    symptom: str
    operators: tuple[str, ...]
    dtypes: tuple[str, ...]
    layout: str
    inputs: tuple[str, ...]
    deviation: str
    setting: tuple[str, ...]
    culprit: str
    growth: str = ""

    @property
    def text(self) -> str:
        """One line."""
        program = "+".join(self.operators) or "no operator"
        parts = (self.target, self.stage, self.oracle, self.symptom, program, "+".join(self.dtypes), self.layout)
        needed = "+".join((*self.inputs, *self.setting))
        return " | ".join(part for part in (*parts, needed, self.deviation, self.culprit, self.growth) if part)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signature:
        """Read what ``to_json`` wrote."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        return cls(**values)


def signature_of(case: Case, result: Result, growth: str = "") -> Signature | None:
    """The signature of a minimised case.

    Args:
        case: the smallest one.
        result: of its run.
        growth: which elements are wrong when it has more of them, where that was looked at.

    Returns:
        None if it is unclassified: it did not fail, or is a network still.
    """
    verdict = result.failure
    if verdict is None or len(case.program.operators()) > MOST_OPERATORS:
        return None
    target, stage, words = result.target, result.stage, vocabulary(case.program.vocabulary)
    return Signature(
        target=target,
        stage="" if stage == target else stage,
        oracle=verdict.oracle,
        symptom=verdict.symptom,
        operators=tuple(sorted(map(words.family, case.program.operators()))),
        dtypes=_dtypes(case),
        layout=layout_of(case),
        inputs=needed(case),
        deviation=_deviation(verdict),
        setting=_setting(case),
        culprit=culprit_of(verdict),
        growth=growth,
    )


def dtype_class(dtype: str) -> str:
    """A dtype without its width: ``float``, ``half``, ``float8``, ``complex``, ``signed``, ``unsigned`` or ``bool``."""
    if dtype.startswith("float8"):
        return "float8"
    return _CLASSES.get(dtype) or ("unsigned" if dtype.startswith("uint") else "signed")


def _dtypes(case: Case) -> tuple[str, ...]:
    given = [one.type.dtype for one in case.program.inputs]
    made = [result.dtype for call in walk(case.program.calls) for result in call.results if result is not None]
    return tuple(sorted({dtype_class(dtype) for dtype in given or made}))


def layout_of(case: Case) -> str:
    """What the minimiser could not make row-major."""
    found = set()
    for inputs in case.input_sets:
        if inputs.shared():
            found.add("shared memory")
        for view in inputs.views:
            if inputs.storages[view.storage].dtype != view.dtype:
                found.add("bytes of another dtype")
            if view.strides != contiguous(view.shape):
                found.add("overlapping" if _overlaps(view) else "strided")
            elif view.offset:
                found.add("offset")
    return "+".join(sorted(found))


def needed(case: Case) -> tuple[str, ...]:
    """What the minimiser could not make small or simple."""
    views = [view for inputs in case.input_sets for view in inputs.views]
    largest = max((extent for view in views for extent in view.shape), default=0)
    found = {f"extent {bound}" for bound in [bound for bound in EXTENTS if largest >= bound][-1:]}
    for storage in (storage for inputs in case.input_sets for storage in inputs.storages):
        values = storage.values
        if extreme(storage):
            found.add("special values")
        numbers = [part for item in values.items for part in _parts(item)]
        found |= {name for name, there in _SPECIAL.items() if any(map(there, numbers))}
    return tuple(sorted(found))


def _parts(item: complex) -> tuple[float, ...]:
    return (item.real, item.imag) if isinstance(item, complex) else (item,)


_SPECIAL: dict[str, Callable[[float], bool]] = {
    "NaN": lambda item: item != item,
    "infinity": lambda item: abs(item) == math.inf,
    "-0.0": lambda item: item == 0 and math.copysign(1, item) < 0,
    "far from zero": lambda item: FAR <= abs(item) < math.inf,
}


def _overlaps(view: View) -> bool:
    """Whether two elements lie in one place: there is a step that does not leave what the smaller ones cover."""
    reach = 1
    for step, extent in sorted(zip(view.strides, view.shape, strict=True)):
        if extent > 1:
            if step < reach:
                return True
            reach += (extent - 1) * step
    return False


def _setting(case: Case) -> tuple[str, ...]:
    setting = case.setting
    found = [f"{name}={value}" for name, value in setting.knobs]
    found += [f"cotangent={setting.cotangent}"] if setting.cotangent != "whole" else []
    found += [word for word, there in (("training", setting.mode == "training"), (setting.device, True)) if there]
    if len(case.input_sets) > 1:
        found.append("several calls")
    return tuple(sorted(word for word in found if word != "cpu"))


def _deviation(verdict: Verdict) -> str:
    evidence = verdict.evidence
    if verdict.symptom == "wrong dtype":
        names = [str(evidence[key]).removeprefix("torch.") for key in ("expected", "found")]
        return f"{names[0]} becomes {names[1]}"
    return str(evidence.get("deviation", ""))


def culprit_of(verdict: Verdict) -> str:
    """What an exception or a crash says, and where; empty for other oracles."""
    evidence = verdict.evidence
    match verdict.oracle:
        case "exception":
            frames: Sequence[str] = evidence.get("frames", ())
            return " @ ".join(filter(None, (stripped(evidence["template"]), *_telling(reversed(frames), 1))))
        case "crash" | "hang" | "memory":
            said = verdict.message.partition(": ")[2]
            # What an allocator complains about depends on what was overwritten; an assertion is always the same one.
            said = re.sub(r"\d+", "N", said) if "assert" in said.lower() else ""
            stack = [f"{place(path)}:{name}" for path, name in _STACK.findall(evidence.get("output", ""))]
            return " @ ".join(filter(None, (f"phase {verdict.place}", said, *_telling(stack, FRAMES))))
    return ""


def _telling(frames: Iterable[str], count: int) -> list[str]:
    """The first frames that are no runtime noise."""
    return [frame for frame in frames if not _NOISE.search(frame)][:count]


def stripped(template: str) -> str:
    """A message's template without sizes and names of values; numbers, addresses and paths are gone already."""
    text = _REPEATED.sub("N", _LISTS.sub("[N]", template))
    return _NAMES.sub("NAME", text)
