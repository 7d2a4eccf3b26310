"""Collects traces from PyTorch's samples, from what it says must be rejected, and from its docstrings' examples.

A process of its own, because op_db changes torch and an example may do anything:
``python -m shakeout.generators.rules.collect PATH SKIP...``. It says on standard output what comes next, and appends
what that gave to PATH, one line each, so that it goes on where it was ended; the last line's name is empty.
"""

from __future__ import annotations

import contextlib
import doctest
import functools
import inspect
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from shakeout.corpus.vocabularies import torch as words
from shakeout.generators.calls import Rejected, read_results
from shakeout.generators.rules.execution import outcome
from shakeout.generators.rules.observed import template
from shakeout.generators.rules.trace import Trace, Variant, variant_of
from shakeout.generators.vocabularies.recorder import CallRecorder, Heard, operator_names, type_of
from shakeout.generators.vocabularies.samples import dtypes_of, entries, errors, samples, title

__all__ = ["Tracer", "main", "names_in"]

#: Traces kept of one variant, for each source, and for each dtype of the first operand.
PER_VARIANT = 24
PER_DTYPE = 4
#: Of calls that were rejected.
PER_ERROR = 16
#: Samples looked at under each further dtype.
FURTHER_SAMPLES = 6
_MAIN = ("float32", "complex64", "int32", "int64", "bool", "float64")


class Tracer:
    """Keeps some of the calls that are heard, as traces."""

    def __init__(self, wanted: Callable[[str], bool] = lambda operator: True) -> None:
        self.source = "sample"
        self.traces: list[Trace] = []
        self._wanted = wanted
        self._counts: dict[tuple[Variant, str, bool], int] = {}
        self._known: set[str] = set()

    def __call__(self, call: Heard) -> Callable[[Any, Exception | None], None] | None:
        """Hear one call; what is given hears how it ended."""
        if not self._wanted(call.operator):
            return None
        operands = tuple([type_of(tensor) for tensor in call.tensors])
        trace = Trace(call.operator, call.args, call.kwargs, operands, source=self.source)

        def ended(result: Any, error: Exception | None) -> None:
            self._ended(trace, result, error)

        return ended

    def _ended(self, trace: Trace, result: Any, error: Exception | None) -> None:
        variant = variant_of(trace)
        dtype = trace.operands[0].dtype if trace.operands else ""
        counts = self._counts
        whole, part = (variant, "", error is None), (variant, dtype, error is None)
        of_dtype = part if dtype != "float32" else whole
        if counts.get(whole, 0) >= (PER_ERROR if error is not None else PER_VARIANT) or (
            dtype != "float32" and counts.get(of_dtype, 0) >= PER_DTYPE
        ):
            return
        key = repr((trace.args, trace.kwargs, trace.operands, trace.operator))
        if key in self._known:
            return
        if error is not None:
            made = Trace(
                trace.operator, trace.args, trace.kwargs, trace.operands, error=template(error), source=trace.source
            )
        else:
            try:
                form, results = read_results(result)
            except Rejected:
                return
            types = outcome(results)
            if types is None:
                return
            made = Trace(trace.operator, trace.args, trace.kwargs, trace.operands, types, form, "", trace.source)
        self._known.add(key)
        self.traces.append(made)
        counts[whole] = counts.get(whole, 0) + (dtype == "float32")
        counts[part] = counts.get(part, 0) + 1

    def take(self) -> list[Trace]:
        """What was heard since this was last asked for."""
        found, self.traces = self.traces, []
        return found


def _sampled(info: Any, tracer: Tracer, recorder: CallRecorder) -> None:
    supported = dtypes_of(info)
    first = next((name for name in _MAIN if name in supported), None)
    if first is None:
        return
    for dtype in (first, *sorted(supported - {first})):
        tracer.source = "sample"
        for sample in samples(info, getattr(torch, dtype), None if dtype == first else FURTHER_SAMPLES):
            with contextlib.suppress(Exception):
                recorder.hear(info.op, (sample.input, *sample.args), sample.kwargs)
    tracer.source = "error input"
    for wrong in errors(info):
        sample = wrong.sample_input
        with contextlib.suppress(Exception):
            recorder.hear(info.op, (sample.input, *sample.args), sample.kwargs)


def _documented(function: Any, tracer: Tracer, recorder: CallRecorder) -> None:
    """Run the examples of a docstring; what one of them defines, the next ones see."""
    tracer.source = "docstring"
    text = inspect.getdoc(function) or ""
    if ">>>" not in text:
        return
    scope: dict[str, Any] = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
    try:
        found = doctest.DocTestParser().get_examples(text)
    except ValueError:
        return  # not written as doctest wants it
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), torch.enable_grad():
        for example in found:
            with contextlib.suppress(Exception, SystemExit):
                code = compile(example.source, "<docstring>", "single", dont_inherit=True)
                with recorder:
                    exec(code, scope)
    torch.set_default_dtype(torch.float32)


def names_in(path: Path) -> set[str]:
    """What a file of traces has already; a line that was cut off counts as missing."""
    found = set()
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                found.add(json.loads(line)["entry"])
    return found


def _put(out: IO[str], name: str, rows: list[Any]) -> None:
    # Begun on a line of its own: the last one may have been cut off.
    out.write("\n" + json.dumps({"entry": name, "traces": rows}, separators=(",", ":")) + "\n")
    out.flush()


def _work() -> Iterator[tuple[str, Callable[[Tracer, CallRecorder], None]]]:
    """Everything that gives traces, by name."""
    functions = dict(words.operators())
    for info in entries():
        if name := title(info):
            yield name, functools.partial(_sampled, info)
    for name, function in functions.items():
        if ">>>" in (getattr(function, "__doc__", None) or ""):
            yield f"docstring of {name}", functools.partial(_documented, function)


def main(argv: Sequence[str]) -> int:
    """Append traces to ``argv[0]``; further arguments are names to leave out."""
    path, skip = Path(argv[0]), frozenset(argv[1:])
    torch.set_num_threads(1)
    names = operator_names()  # before op_db adds to what there is
    tracer = Tracer()
    recorder = CallRecorder(names, tracer)
    done = names_in(path) | skip
    with warnings.catch_warnings(), torch.no_grad(), path.open("a", encoding="utf-8") as out:
        warnings.simplefilter("ignore")
        todo = list(_work())
        told = os.fdopen(os.dup(1), "w")
        for number, (name, collect) in enumerate(todo):
            if name in done:
                continue
            print(json.dumps([name, number, len(todo)]), file=told, flush=True)
            torch.manual_seed(0)
            collect(tracer, recorder)
            rows = [trace.to_json() for trace in tracer.take()]
            _put(out, name, rows)
        _put(out, "", [])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
