"""A case as a script for a report: the program, its inputs, and the difference, and nothing that other cases need.

It says less than ``script.standalone`` and is read in a minute. Which failures it shows is not decided here: whoever
exports one runs it, and takes the long form where the short one shows nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from shakeout.corpus import script
from shakeout.corpus.case import Case, InputSet, Values
from shakeout.corpus.source import source_of
from shakeout.corpus.symptom import GUARD, OTHER, Symptom
from shakeout.corpus.vocabularies import vocabulary

__all__ = ["short"]

#: Values that are drawn are written out up to so many of one tensor.
WRITTEN = 64

_SHOW = """def show(prepare):
    tensors = inputs_0()
    function = prepare({network})
{run}
"""

_RUN = """    with torch.no_grad():
        outputs = function({given})
    return [*outputs, *tensors]"""

_TRAIN = """    outputs = function({given})
    roots = [output for output in outputs if output.requires_grad]
    leaves = [tensor for tensor in tensors if tensor.requires_grad]
    gradients = torch.autograd.grad(roots, leaves, [{cotangent} for output in roots], allow_unused=True)
    return [*outputs, *tensors, *gradients]"""

# Eager's gradients mostly lie as what they are asked for with; compilers choose freely.
_ROW_MAJOR = "    gradients = [None if gradient is None else gradient.contiguous() for gradient in gradients]\n"

_END = """print({versions}, flush=True)
try:
    expected = show(lambda network: network)
except Exception as error:
    print("eager raises", error)
    sys.exit(125)
try:
    found = show(prepare)
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}")
    {raised}
try:
    torch.testing.assert_close(found, expected, {how})
except AssertionError as error:
    print(f"{{error}}\\n\\nexpected {{expected}}\\nfound    {{found}}")
    {differs}
print("no difference")"""


def short(
    case: Case,
    prepare: str,
    *,
    imports: Sequence[str] = (),
    strides: bool = True,
    packages: Sequence[str] = (),
    symptom: Symptom | None = None,
) -> str | None:
    """The script; None for a case with several calls, or one called inside blocks, which has no short form.

    It exits as ``symptom.py`` says, where a difference is one by the default tolerances of
    ``torch.testing.assert_close``; a crash is the status of the crash.

    Args:
        case: what to run.
        prepare: source of ``prepare(network)``, which gives what is called in the network's place.
        imports: lines that it needs beside ``import torch``.
        strides: whether the target promises the strides of eager.
        packages: distributions beside torch whose versions are shown.
        symptom: what it looks for; None if any difference counts.
    """
    from shakeout.corpus import standalone

    if len(case.input_sets) != 1 or case.program.around:
        return None
    case = replace(case, input_sets=(_written(case.input_sets[0]),))
    training = case.setting.mode == "training"
    if any(given.role == "parameter" for given in case.program.inputs):
        network, given = "bind(tensors)", "*arguments(tensors)"
        defined = script.network(case.program, case.setting.device).rstrip()
    else:
        # Nothing is bound: how the network is made and called needs no functions.
        network, given = "program", "*tensors"
        defined = script.definition(case.program, case.setting.device)
    body = "\n\n\n".join([defined, *script.inputs(case)])
    scaled = "magnitudes(" in body
    wanted: list[Any] = [standalone.fill] if scaled or "fill(" in body else []
    wanted += [standalone.magnitudes] if scaled else []
    wanted += [standalone.blob] if "blob(" in body else []
    wanted += [standalone.strided] if "strided(" in body else []
    kind = case.setting.cotangent
    wanted += [standalone.cotangent] if training else []
    wanted += [standalone.unusual_cotangent] if kind != "whole" else []
    functions = [source_of(function) for function in wanted]
    text = "\n".join([body, *functions])
    modules = ["os", "sys", *(name for name in ("hashlib", "math") if f"{name}." in text)]
    modules += ["importlib.metadata"] if packages else []
    modules += ["traceback"] if symptom is not None and symptom.raises else []
    head = [*(f"import {name}" for name in sorted(modules)), "", GUARD, ""]
    head += ["import torch", *imports, *vocabulary(case.program.vocabulary).imports(case.program)]
    if any(word in text for word in ("nan", "inf")):
        head += ["", 'nan, inf = float("nan"), float("inf")']
    asked = "cotangent(output)" if kind == "whole" else f"unusual_cotangent(output, {kind!r})"
    run = (_TRAIN if training else _RUN).format(given=given, cotangent=asked)
    if kind != "whole":
        before, _, returned = run.rpartition("    return")
        run = f"{before}{_ROW_MAJOR}    return{returned}"
    how = "equal_nan=True" + (", check_stride=True" if strides else "")
    raised, differs = _exits(symptom)
    versions = '"torch", torch.__version__'
    if packages:
        names = ", ".join(f'"{name}"' for name in ("torch", *packages))
        versions = f'*(f"{{name}} {{importlib.metadata.version(name)}}" for name in ({names}))'
    parts = ["\n".join(head), body, *functions, prepare.rstrip()]
    parts += [
        _SHOW.format(network=network, run=run).rstrip(),
        _END.format(how=how, versions=versions, raised=raised, differs=differs),
    ]
    return "\n\n\n".join(parts) + "\n"


def _exits(symptom: Symptom | None) -> tuple[str, str]:
    """What the script does where the target raises, and where something differs."""
    if symptom is None:
        return "sys.exit(1)", "sys.exit(1)"
    plain = {"True": "sys.exit(1)", "False": f"sys.exit({OTHER})"}
    asked = plain.get(symptom.condition, f"sys.exit(1 if {symptom.condition} else {OTHER})")
    if symptom.raises:
        return f"said = traceback.format_exc()\n    {asked}", f"sys.exit({OTHER})"
    return f"sys.exit({OTHER})", f"said = str(error)\n    {asked}" if "said" in asked else asked


def _written(inputs: InputSet) -> InputSet:
    """The same inputs with drawn values written out where there are few."""
    import torch

    from shakeout.corpus.value_cache import filled

    storages = []
    for storage in inputs.storages:
        values = storage.values
        if values.kind not in ("literal", "blob") and storage.size <= WRITTEN:
            tensor = filled(
                getattr(torch, storage.dtype), (storage.size,), values.kind, values.seed, values.low, values.high
            )
            items = tensor.tolist()
            if all(_exact(item) for item in items):
                storage = replace(storage, values=Values("literal", items=tuple(items)))
        storages.append(storage)
    return replace(inputs, storages=tuple(storages))


def _exact(item: complex) -> bool:
    """Whether the number's text says all of it; what bits a NaN has, it does not say."""
    return not (isinstance(item, float) and math.isnan(item))
