"""Which operators and constants a case may name: decided where a case is read, without importing torch.

A case may come from anybody, and what it calls is printed into source text and run. So every name in it has to be one
that its vocabulary knows to be harmless. Of torch that is a table (``table.py``), and not torch itself, because who
reads a case mostly has no torch loaded (the supervisor never has), and because what may be read must not depend on
which torch happens to be installed. Torch itself is asked only of a name that the table lacks: an operator of a newer
torch, or a hostile one. A vocabulary of another package is asked of its operators by ``resolve``, and of its constants
by ``constants`` and ``constant``. What has regions, or stands around a program, is one of ``structured.py``, and what
is inside of regions is asked as what is outside.

``python -m shakeout.corpus.vocabularies.admission`` adds the installed torch to the table.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from shakeout.corpus.program import Arg, Call, InvalidProgram, Name, Program, Slice
from shakeout.corpus.vocabularies import Vocabulary, aten, onnx_schemas, vocabulary
from shakeout.corpus.vocabularies.structured import check, structures
from shakeout.corpus.vocabularies.table import TABLE, Table, table

__all__ = ["TABLE", "NotAdmitted", "Table", "admit", "is_dtype", "of_installed", "table"]

#: The vocabularies whose operators are those of the table.
_OURS = ("torch", "kernel")


class NotAdmitted(InvalidProgram):
    """A case names what is no operator or constant of its vocabulary; nothing of it may run."""


def admit(program: Program) -> None:
    """Raise NotAdmitted unless every operator and every constant of a program may be named by a case.

    Those inside of regions and those of the blocks around it are asked as well.
    """
    words = _words(program.vocabulary)
    structured = structures(words)
    if program.vocabulary == "onnx":
        for type_ in program.types():
            if type_ is not None and type_.dtype not in onnx_schemas.ELEMENTS:
                raise NotAdmitted(f"ONNX has no tensors of {type_.dtype} here")
    _admit(program.calls, program.vocabulary, structured, "program.calls")
    _admit(program.around, program.vocabulary, structured, "program.around")
    try:
        # An operator with regions is one only where it has those that it needs, and no other has any.
        check(program, words)
    except InvalidProgram as error:
        raise NotAdmitted(str(error)) from None


def _admit(calls: Sequence[Call], vocabulary_: str, structured: Collection[str], where: str) -> None:
    """Raise NotAdmitted unless every name in these calls, and in those inside their regions, may be named by a case."""
    for position, call in enumerate(calls):
        here = f"{where}[{position}]"
        try:
            if call.operator not in structured:
                _admit_operator(vocabulary_, call.operator)
            if vocabulary_ == "onnx" and (others := onnx_schemas.SPELLING.intersection(dict(call.kwargs))):
                raise NotAdmitted(f"{min(others)!r} is no attribute of an operator of ONNX")
            for name in _names(call):
                _admit_constant(vocabulary_, name)
        except NotAdmitted as error:
            raise NotAdmitted(f"{here}: {error}") from None
        for number, region in enumerate(call.regions):
            _admit(region.calls, vocabulary_, structured, f"{here}.regions[{number}].calls")


@functools.lru_cache(1024)
def is_dtype(name: str) -> bool:
    """Whether a name (``float32``) is an element type of tensors."""
    if name in table().dtypes:
        return True
    try:
        import torch
    except ImportError:
        return False
    return isinstance(getattr(torch, name, None), torch.dtype)


def _names(call: Call) -> Iterator[str]:
    """The constants that a call names."""
    pending: list[Arg] = [*call.args, *(value for _, value in call.kwargs)]
    while pending:
        match pending.pop():
            case Name(name):
                yield name
            case tuple() as items:
                pending.extend(items)
            case Slice(start, stop, step):
                pending.extend((start, stop, step))


@functools.lru_cache(1024)
def _known(operator: str) -> bool:
    """Whether the table has an operator."""
    known = table()
    if operator.startswith(aten.PREFIX):
        base, _, which = operator.removeprefix(aten.PREFIX).partition(".")
        return base in known.overloads and (not which or which in known.overloads[base])
    return operator in known.functions


def _admit_operator(vocabulary_: str, operator: str) -> None:
    if vocabulary_ == "kernel" and ":" in operator:
        from shakeout.corpus import user_objects

        try:
            user_objects.check(operator)
        except user_objects.NotDeclared as error:
            raise NotAdmitted(str(error)) from None
        return
    if vocabulary_ in _OURS and _known(operator):
        return
    if vocabulary_ == "onnx" and onnx_schemas.known(operator):
        return
    # Of a name that the table lacks, or of another package's vocabulary, the vocabulary itself decides.
    _asked(vocabulary_, operator, _words(vocabulary_).resolve)


def _admit_constant(vocabulary_: str, name: str) -> None:
    words = _words(vocabulary_)

    def give(name: str) -> Any:
        return name in words.constants() or words.constant(name)

    _asked(vocabulary_, name, give)


def _asked(vocabulary_: str, name: str, give: Callable[[str], Any]) -> None:
    """Raise NotAdmitted unless a vocabulary gives something for a name."""
    try:
        give(name)
    except ImportError as error:
        raise NotAdmitted(f"{_shown(name)} is not known, and torch cannot be asked: {error}") from None
    except ValueError as error:
        raise NotAdmitted(str(error)) from None
    except Exception as error:  # another package's
        raise NotAdmitted(f"the vocabulary {_shown(vocabulary_)} cannot say what {_shown(name)} is: {error}") from None


def _words(name: str) -> Vocabulary:
    try:
        return vocabulary(name)
    except InvalidProgram as error:
        raise NotAdmitted(str(error)) from None
    except Exception as error:  # another package's
        raise NotAdmitted(f"the vocabulary {_shown(name)} cannot be loaded: {error}") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def of_installed() -> Table:
    """What the installed torch has."""
    import torch

    from shakeout.corpus.vocabularies import torch as plain

    found = {name: getattr(torch, name) for name in dir(torch)}
    return Table(
        versions=frozenset({torch.__version__.partition("+")[0]}),
        functions=frozenset(plain.operators()),
        overloads={name: frozenset(overloads) for name, overloads in aten.names().items()},
        constants=frozenset(
            f"torch.{n}" for n, one in found.items() if isinstance(one, torch.layout | torch.memory_format)
        ),
        dtypes=frozenset(name for name, one in found.items() if isinstance(one, torch.dtype)),
    )


def _main() -> None:
    old = table() if TABLE.exists() else Table(frozenset(), frozenset(), {}, frozenset(), frozenset())
    new = of_installed()
    owners: dict[str, list[str]] = {}
    for name in sorted(old.functions | new.functions):
        owner, _, last = name.rpartition(".")
        owners.setdefault(owner, []).append(last)
    overloads = {
        name: " ".join(sorted(old.overloads.get(name, frozenset()) | new.overloads.get(name, frozenset())))
        for name in sorted(old.overloads.keys() | new.overloads.keys())
    }
    data = {
        "versions": sorted(old.versions | new.versions),
        "dtypes": sorted(old.dtypes | new.dtypes),
        "constants": sorted(old.constants | new.constants),
        "functions": {owner: " ".join(names) for owner, names in owners.items()},
        "overloads": overloads,
    }
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _main()
