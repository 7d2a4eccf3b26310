"""Whether a vocabulary keeps to the protocol: what is printed is what is evaluated, and nothing else can be called."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from shakeout.corpus.case import Case
from shakeout.corpus.program import Program
from shakeout.corpus.vocabularies import MEMBERS, Vocabulary, vocabulary
from shakeout.corpus.vocabularies.traits import Addition, Exactness, Hazard, Traits
from shakeout.fuzz.conformance.problems import told
from shakeout.targets.registry import target

__all__ = ["check_vocabulary"]

#: Are values; all else that there is of a vocabulary is called.
_VALUES = ("REFERENCE", "SIMPLEST")

#: Names that a stored case may hold, and that no vocabulary may give anything for.
_HOSTILE = ("os.system", "torch.load", "torch.os.system", "builtins.exec", "no.such.operator", "torch.__init__")

#: Seconds for an import in a process of its own.
SECONDS = 180.0

_IMPORTED = """
import sys
from shakeout.corpus.vocabularies import vocabulary
words = vocabulary(sys.argv[1])
words.REFERENCE, words.SIMPLEST, words.family("torch.add"), words.constants()
print("torch" if "torch" in sys.modules else "")
"""


def check_vocabulary(name: str, cases: Sequence[Case]) -> None:
    """Check a vocabulary on programs of it, in seconds.

    Args:
        name: under which it is registered.
        cases: with programs of this vocabulary that use each of its operators at least once.

    Raises:
        InvalidProgram: it is not registered, cannot be loaded, or lacks what a vocabulary has to have.
        NotConforming: something is wrong; the message has a line for each thing.
    """
    words = vocabulary(name)
    checks = {
        "names": _names,
        "imports": _light,
        "operators": _operators,
        "traits": _traits,
        "hostile": _hostile,
        "text": _text,
        "writes": _writes,
        "wider": _wider,
    }
    told(
        f"vocabulary {name}",
        ((what, lambda check=check: check(words, name, cases)) for what, check in checks.items()),  # type: ignore[misc]
    )


def _names(words: Vocabulary, name: str, cases: Sequence[Case]) -> Iterator[str]:
    for member in MEMBERS:
        if member not in _VALUES and not callable(getattr(words, member)):
            yield f"it has no {member}()"
    target(words.REFERENCE)
    for case in cases:
        if case.program.vocabulary != name:
            yield f"a case is of the vocabulary {case.program.vocabulary!r}"
    if not cases:
        yield "there is no case to check it on"


def _light(words: Vocabulary, name: str, cases: Sequence[Case]) -> Iterator[str]:
    """Loading it, and asking what is asked where nothing is run, does not load torch."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-c", _IMPORTED, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)
    if done.returncode:
        yield f"it cannot be loaded in a fresh process: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
    elif done.stdout.strip():
        yield "it imports torch where it is loaded, which slows down every reading of a case"


def _used(cases: Sequence[Case]) -> list[str]:
    return sorted({operator for case in cases for operator in case.program.operators()})


def _operators(words: Vocabulary, name: str, cases: Sequence[Case]) -> Iterator[str]:
    """Names resolve to functions: those of the cases, those that are proposed, and those put in their place."""
    for operator in sorted({*_used(cases), *words.operators(), *words.SIMPLEST}):
        if not callable(words.resolve(operator)):
            yield f"{operator} resolves to what cannot be called"
    for operator in _used(cases):
        words.resolve(words.meaning(operator))
        if not isinstance(family := words.family(operator), str) or not family:
            yield f"family({operator!r}) is {family!r}, expected a name"
        if (spelled := words.spelled(operator)) is not None and not isinstance(spelled, str):
            yield f"spelled({operator!r}) is {spelled!r}, expected a name or None"
    for operator, operands in words.SIMPLEST.items():
        if not isinstance(operands, int) or operands < 1:
            yield f"SIMPLEST has {operator!r} with {operands!r}, expected its number of operands"


def _traits(words: Vocabulary, name: str, cases: Sequence[Case]) -> Iterator[str]:
    """Traits are known ones, and every name has some."""
    for operator in [*_used(cases), *words.SIMPLEST, *_HOSTILE]:
        traits = words.traits(operator)
        if not isinstance(traits, Traits):
            yield f"traits({operator!r}) gives {type(traits).__name__}, expected Traits"
            continue
        for what, given, known in (
            ("hazards", traits.hazards, get_args(Hazard)),
            ("exactness", {traits.exactness}, get_args(Exactness)),
            ("addition", {traits.addition}, get_args(Addition)),
        ):
            if odd := sorted(frozenset(given) - frozenset(known)):
                yield f"{operator} has the {what} {', '.join(odd)}, expected of {', '.join(filter(None, known))}"


def _hostile(words: Vocabulary, name: str, cases: Sequence[Case]) -> Iterator[str]:
    """What a case may hold and is no operator, or no constant, gives nothing."""
    for operator in _HOSTILE:
        if operator in words.constants():
            yield f"constants() has {operator}: a case may come from anybody"
        for what, give in (("resolves", words.resolve), ("is a constant", words.constant)):
            try:
                give(operator)
            except ValueError:
                continue
            yield f"{operator} {what}, expected a ValueError: a case may come from anybody"


def _inputs(case: Case) -> list[Any]:
    from shakeout.corpus import script

    made: list[Any] = script.load(case)["CALLS"][0]()
    return made


def _returned(program: Program, words: Vocabulary, tensors: Sequence[Any]) -> list[Any]:
    values = words.evaluate(program, tensors)
    return [values[number] for number in program.returns]


def _text(words: Vocabulary, name: str, cases: Sequence[Case]) -> Iterator[str]:
    """The text, executed, gives the bits that ``evaluate`` gives."""
    import torch

    from shakeout.corpus import script

    for number, case in enumerate(cases):
        namespace = script.load(case)
        tensors = namespace["CALLS"][0]()
        with torch.no_grad():
            torch.manual_seed(0)
            printed = list(namespace["bind"](tensors)(*namespace["arguments"](tensors)))
            torch.manual_seed(0)
            evaluated = _returned(case.program, words, _inputs(case))
        pairs = list(zip(printed, evaluated, strict=True))
        if any(_bits(a) != _bits(b) for a, b in pairs):
            yield f"case {number} ({', '.join(case.program.operators())}): its text gives other values than evaluate()"


def _bits(tensor: Any) -> tuple[Any, ...]:
    import torch

    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return str(tensor.dtype), tuple(tensor.shape), bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""


def _writes(words: Vocabulary, name: str, cases: Sequence[Case]) -> Iterator[str]:
    """What a call writes to, ``written`` says."""
    for case in cases:
        values = _inputs(case)
        for call in case.program.calls:
            before = {number: _bits(values[number]) for number in call.operands()}
            results = words.call(call, values)
            changed = {number for number, bits in before.items() if _bits(values[number]) != bits}
            written = set(words.written(call))
            stores = {values[number].untyped_storage()._cdata for number in written}
            odd = {number for number in changed if values[number].untyped_storage()._cdata not in stores}
            if odd:
                yield f"{call.operator} writes to operands {sorted(odd)}, which written() does not tell"
            values += results


def _widened(tensor: Any, words: Vocabulary) -> Any:
    import torch

    return tensor.detach().to(getattr(torch, words.wider(str(tensor.dtype).removeprefix("torch."))))


def _wider(words: Vocabulary, name: str, cases: Sequence[Case]) -> Iterator[str]:
    """The program in higher precision is a program of the same operators' results, or None."""
    for case in cases:
        wide = words.widened(case.program)
        if wide is None:
            continue
        if not isinstance(wide, Program) or (wide.vocabulary, len(wide.calls)) != (name, len(case.program.calls)):
            yield f"widened() gives {type(wide).__name__} of another form, expected the same calls in {name}"
            continue
        tensors = [_widened(tensor, words) for tensor in _inputs(case)]
        if len(_returned(wide, words, tensors)) != len(case.program.returns):
            yield "the widened program gives another number of results"
