"""Puts the text of a target together from real functions, so that what is printed is also linted and tested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shakeout.corpus.source import source_of

__all__ = ["loaded", "run_once", "staged", "wrapped"]

#: Where the functions of ``staged.py`` leave what others may want to see.
_STATE = """KEPT = {}  # what other settings of the same program may use again
SPENT = {}  # seconds by stage
STAGES = []  # intermediate forms of the program that can be run: name, function of the same arguments"""


def staged(body: str, *functions: Callable[..., Any], imports: Sequence[str] = ()) -> str:
    """The text of a target that works in stages.

    Args:
        body: the target's own ``prepare`` and ``declined``.
        functions: what it uses of the targets' printed functions, in order.
        imports: lines of import that it needs beside torch.
    """
    from shakeout.targets.staged import Declined, Exportable, export_declined, exported, functional, stage, varying

    shared = (Declined, stage, Exportable, varying, exported, functional, export_declined)
    head = "\n".join(sorted({"import contextlib", "import time", "import warnings", *imports}))
    return "\n\n\n".join([head, _STATE, *map(source_of, (*shared, *functions)), body.rstrip()]) + "\n"


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
