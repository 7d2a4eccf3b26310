"""Whether a vocabulary keeps to the protocol: what is printed is what is evaluated, and nothing else can be called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from shakeout.corpus.case import Case
from shakeout.corpus.program import Program
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.conformance.problems import told

__all__ = ["HAZARDS", "check_vocabulary"]

#: What operators may declare; see ``corpus/vocabularies/torch.py``.
HAZARDS = frozenset({"random", "uninitialised", "strides", "duplicates", "ties"})

_NEEDED = "resolve call evaluate expression value argument hazards sized_by_values bindings namespace imports".split()

#: Names that a stored case may hold, and that no vocabulary may give anything for.
_HOSTILE = ("os.system", "torch.load", "torch.os.system", "builtins.exec", "no.such.operator", "torch.__init__")


def check_vocabulary(name: str, cases: Sequence[Case]) -> None:
    """Check a vocabulary on programs of it, in seconds.

    Args:
        name: under which it is registered.
        cases: with programs of this vocabulary that use each of its operators at least once.

    Raises:
        NotConforming: something is wrong; the message has a line for each thing.
    """
    words: Any = vocabulary(name)
    checks = {"names": _names, "operators": _operators, "text": _text, "writes": _writes, "wider": _wider}
    told(
        f"vocabulary {name}",
        ((what, lambda check=check: check(words, name, cases)) for what, check in checks.items()),  # type: ignore[misc]
    )


def _names(words: Any, name: str, cases: Sequence[Case]) -> Iterator[str]:
    for needed in _NEEDED:
        if not callable(getattr(words, needed, None)):
            yield f"it has no {needed}()"
    for case in cases:
        if case.program.vocabulary != name:
            yield f"a case is of the vocabulary {case.program.vocabulary!r}"
    if not cases:
        yield "there is no case to check it on"


def _operators(words: Any, name: str, cases: Sequence[Case]) -> Iterator[str]:
    """Names resolve to functions, and only to operators; what they declare is known."""
    for operator in sorted({operator for case in cases for operator in case.program.operators()}):
        if not callable(words.resolve(operator)):
            yield f"{operator} resolves to what cannot be called"
        if odd := frozenset(words.hazards(operator)) - HAZARDS:
            yield f"{operator} has the hazards {', '.join(sorted(odd))}, expected some of {', '.join(sorted(HAZARDS))}"
        if not isinstance(words.sized_by_values(operator), bool):
            yield f"sized_by_values({operator!r}) is no bool"
    for operator in _HOSTILE:
        try:
            words.resolve(operator)
        except ValueError:  # UnknownOperator is one
            continue
        yield f"{operator} resolves, expected UnknownOperator: a case may come from anybody"


def _inputs(case: Case) -> list[Any]:
    from shakeout.corpus import script

    made: list[Any] = script.load(case)["CALLS"][0]()
    return made


def _returned(program: Program, words: Any, tensors: Sequence[Any]) -> list[Any]:
    values = words.evaluate(program, tensors)
    return [values[number] for number in program.returns]


def _text(words: Any, name: str, cases: Sequence[Case]) -> Iterator[str]:
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


def _writes(words: Any, name: str, cases: Sequence[Case]) -> Iterator[str]:
    """What a call writes to, ``written`` says."""
    if not hasattr(words, "written"):
        return
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


def _widened(tensor: Any, words: Any) -> Any:
    import torch

    return tensor.detach().to(getattr(torch, words.wider(str(tensor.dtype).removeprefix("torch."))))


def _wider(words: Any, name: str, cases: Sequence[Case]) -> Iterator[str]:
    """The program in higher precision is a program of the same operators' results, or None."""
    if not hasattr(words, "widened"):
        return
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
