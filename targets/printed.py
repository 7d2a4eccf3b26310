"""Puts the text of a target together from real functions, so that what is printed is also linted and tested."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from shakeout.corpus.source import source_of

__all__ = ["Executed", "compile_declined", "executed", "loaded", "run_once", "staged", "wrapped"]

#: Where the functions of ``staged.py`` leave what others may want to see; ``executed`` looks there, and nobody else.
_STATE = """KEPT = {}  # what other settings of the same program may use again
SPENT = {}  # seconds by stage
STAGES = []  # intermediate forms of the program that can be run: name, function of the same arguments"""


def staged(
    body: str,
    *functions: Callable[..., Any],
    imports: Sequence[str] = (),
    shared: Sequence[Callable[..., Any]] | None = None,
) -> str:
    """The text of a target that works in stages.

    Args:
        body: the target's own ``prepare`` and ``declined``.
        functions: what it uses of the targets' printed functions, in order.
        imports: lines of import that it needs beside torch.
        shared: of the functions of ``staged.py`` those that it uses; None for all, which exporting a program needs.
    """
    from shakeout.targets.staged import Declined, Exportable, export_declined, exported, functional, stage, varying

    if shared is None:
        shared = (Declined, stage, Exportable, varying, exported, functional, export_declined)
    head = "\n".join(sorted({"import contextlib", "import time", "import warnings", *imports}))
    return "\n\n\n".join([head, _STATE, *map(source_of, (*shared, *functions)), body.rstrip()]) + "\n"


#: What only torch.export has to say, or calls by another name.
_OF_EXPORT = {
    "export_declined": "declined",
    "torch.export says": "the compiler says",
    '"Declined", ': "",
    '    words |= {"ConstraintViolationError", "PendingUnbackedSymbolNotFound"}\n': "",
}


@functools.cache
def compile_declined() -> str:
    """``declined`` of torch.compile: it captures programs as torch.export does, and refuses them in the same words.

    Raises:
        ValueError: the words of ``staged.export_declined`` are other ones by now.
    """
    from shakeout.targets.staged import export_declined

    text = source_of(export_declined)
    for theirs, ours in _OF_EXPORT.items():
        if text.count(theirs) != 1:
            raise ValueError(f"export_declined says {theirs!r} {text.count(theirs)} times, expected once")
        text = text.replace(theirs, ours)
    return text


def wrapped(call: str, declined: str, history: str = "", sanitizer: str = "") -> str:
    """The text of a target whose artefact has a history, or whose kernels are checked by a sanitizer.

    Args:
        call: the expression that compiles ``function``.
        declined: the target's own ``declined``.
        history: of ``targets/history.py``, or nothing.
        sanitizer: of ``targets/sanitizers.py``, or nothing.
    """
    from shakeout.targets import history as past
    from shakeout.targets import sanitizers as checked

    imports, lines = ["contextlib"], list[str]()
    used: list[Callable[..., Any]] = []
    if history:
        imports += ["functools"]
        used += [past.copies, past.changed, past.otherwise, past.switched, past.cached, past.after]
        lines += ["function = switched(function)"] if history == "python_state" else []
        call = f"after(function, {call}, {history!r})"
    if sanitizer:
        imports += ["os", "subprocess", "sys", "tempfile"]
        used += [checked.SanitizerReport, checked.checks, checked.runtime, checked.process_environment]
        used += [checked.preloaded, checked.told, checked.sanitized, checked.guarded]
        lines.insert(0, f"preloaded({sanitizer!r})")
        call = f"guarded({call}, {sanitizer!r})"
    body = ["def prepare(function):", *(f"    {line}" for line in (*lines, "torch.compiler.reset()", f"return {call}"))]
    head = "\n".join(f"import {name}" for name in sorted(imports))
    return "\n\n\n".join([head, *map(source_of, used), "\n".join(body), declined]) + "\n"


@dataclass(frozen=True, slots=True)
class Executed:
    """The text of a target, executed beside that of a case.

    Attributes:
        prepare: gives what is called in a network's place.
        declined: whether an exception means "not supported".
        spent: seconds by stage; of a target that works in stages it fills as the target runs.
        stages: intermediate forms of the program by name, each a function of the same arguments, or, where it has the
            attribute ``prepares``, what makes such a function of a network; fills likewise.
        fired: of a target that is a pass, for each graph whether it changed it; fills likewise. None of any other.
    """

    prepare: Callable[[Any], Any]
    declined: Callable[[BaseException], bool]
    spent: Mapping[str, float]
    stages: Sequence[tuple[str, Callable[..., Any]]]
    fired: Sequence[bool] | None = None


def executed(text: str, namespace: dict[str, Any], kept: MutableMapping[str, Any] | None = None) -> Executed:
    """Execute the text of a target.

    Args:
        text: of ``Target.source``.
        namespace: of the case, which the text may use.
        kept: what the target made of the same program under another setting, and where it leaves such things.
    """
    for code in _codes(text):
        exec(code, namespace)
    if kept is not None and "KEPT" in namespace:
        namespace["KEPT"] = kept
    return Executed(
        namespace["prepare"],
        namespace["declined"],
        namespace.get("SPENT", {}),
        namespace.get("STAGES", ()),
        namespace.get("FIRED"),
    )


def _codes(text: str) -> Sequence[Any]:
    """The text as code; a new one each time where Dynamo sees it, which knows functions by theirs."""
    if "torch.compile" in text or "torch.export" in text:
        return (_compiled.__wrapped__(text),)
    shared, mark, own = text.partition(_OWN)
    if not mark:
        return (_compiled(text),)
    # In tracebacks the lines have the numbers that they have in the whole.
    return _compiled(shared), _compiled("\n" * shared.count("\n") + mark + own)


#: Where what differs between the settings of a target begins: before it stand the functions that all of them print,
#: which take several milliseconds to compile.
_OWN = "\n\n\ndef prepare("


@functools.lru_cache(256)
def _compiled(text: str) -> Any:
    # A target has few texts, and compiling one takes as long as the quickest targets need for a case.
    return compile(text, "<target>", "exec")


def loaded(text: str) -> dict[str, Any]:
    """The functions of a target's text, beside a case of one small tensor as a worker would have it."""
    import torch

    namespace: dict[str, Any] = {"torch": torch}
    exec(text, namespace)
    namespace |= {"CALLS": [lambda: [torch.ones(3)]], "arguments": lambda tensors: tensors}
    return namespace


def run_once(text: str) -> None:
    """Prepare and run one small network, which loads whatever the target needs."""
    import torch

    loaded(text)["prepare"](lambda x: (torch.sin(x),))(torch.ones(3))
