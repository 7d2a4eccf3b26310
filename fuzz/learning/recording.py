"""Runs a user's tests or script with the calls of one declared kernel written down; a process of its own.

``python -m shakeout.fuzz.learning.recording MODULE:NAME PATH OUT``. OUT holds JSON lines: the traces, as they come, and
at the end the records that the calls give.
"""

from __future__ import annotations

import functools
import json
import runpy
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from shakeout.corpus.interpreter import add_working_directory

__all__ = ["main"]

#: Calls of which records are made: they keep their tensors.
MOST_KEPT = 64


class _Calls:
    """Writes down calls of the kernel, and of its reference where that is a function of the user's."""

    def __init__(self, operator: str, out: IO[str]) -> None:
        from shakeout.generators.rules.collect import Tracer

        self.operator, self._out = operator, out
        self.tracer = Tracer()
        self.tracer.source = "user"
        self.kept: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.heard = self.left_out = 0
        self._inside = False

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call, and write it down; one within another is not."""
        from shakeout.generators.vocabularies.recorder import Unrecordable, heard

        if self._inside:
            return function(*args, **kwargs)
        self.heard += 1
        told = None
        try:
            call = heard(self.operator, args, kwargs)
            told = self.tracer(call)
            self._keep(args, kwargs)
        except Unrecordable:
            self.left_out += 1
        self._inside = True
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            # What the kernel says that it does not support. Any other error is a bug of its, or of the test's.
            if told is not None and isinstance(error, NotImplementedError):
                told(None, error)
                self.kept.pop()
            raise
        finally:
            self._inside = False
        if told is not None:
            told(result, None)
        self.write()
        return result

    def write(self) -> None:
        """Write down what is new."""
        if found := self.tracer.take():
            row = {"entry": self.operator, "traces": [trace.to_json() for trace in found]}
            self._out.write(json.dumps(row) + "\n")
            self._out.flush()

    def _keep(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        import torch
        from torch.utils import _pytree as pytree

        def copied(leaf: Any) -> Any:
            return leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf

        self.kept.append(pytree.tree_map(copied, (args, dict(kwargs))))
        if len(self.kept) > MOST_KEPT:
            del self.kept[MOST_KEPT // 2]


def _watch(operator: str, calls: _Calls) -> None:
    """Have every call of the kernel go through ``calls``."""
    from shakeout.corpus.user_objects import Kernel
    from shakeout.corpus.vocabularies.kernel import kernel

    wanted = kernel(operator)
    plain = Kernel.__call__

    def called(self: Kernel, *args: Any, **kwargs: Any) -> Any:
        if self is not wanted:
            return plain(self, *args, **kwargs)
        return calls.run(functools.partial(plain, self), args, kwargs)

    Kernel.__call__ = called  # type: ignore[method-assign]
    reference = wanted.reference
    module = sys.modules.get(getattr(reference, "__module__", "") or "")
    if isinstance(reference, types.FunctionType) and module is not None and not module.__name__.startswith("torch"):

        @functools.wraps(reference)
        def referred(*args: Any, **kwargs: Any) -> Any:
            return calls.run(reference, args, kwargs)

        for name, value in list(vars(module).items()):
            if value is reference:
                setattr(module, name, referred)


def _ran(path: Path) -> int:
    """Run a file or folder of tests, or a script; its status."""
    if path.is_dir() or path.name.startswith("test_") or path.stem.endswith("_test"):
        import pytest

        return int(pytest.main(["-q", "-p", "no:cacheprovider", str(path)]))
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(bool(error.code))
    except Exception:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def main(argv: Sequence[str]) -> int:
    """Record, and say at the end how it went."""
    operator, path, target = argv[0], Path(argv[1]), Path(argv[2])
    add_working_directory()  # where the kernel is
    import torch

    from shakeout.corpus.vocabularies.kernel import UnknownOperator, kernel
    from shakeout.fuzz.learning.errors import Errors
    from shakeout.generators.values import DTYPES
    from shakeout.generators.vocabularies.bootstrap import records_of_examples

    torch.set_num_threads(1)
    try:
        kernel(operator)
    except UnknownOperator as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        return 2
    with target.open("a", encoding="utf-8") as out:
        calls = _Calls(operator, out)
        _watch(operator, calls)
        status = _ran(path)
        calls.write()
        errors = Errors()
        with torch.no_grad():
            records = [one.to_json() for one in records_of_examples(operator, calls.kept, list(DTYPES), errors)]
        end = {"status": status, "heard": calls.heard, "left_out": calls.left_out, "records": records}
        end["errors"] = errors.counts
        out.write(json.dumps(end) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
