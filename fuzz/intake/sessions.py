"""What a script gives to ONNX Runtime: each model with what it is fed, as cases for that target."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from shakeout.corpus.case import Setting
from shakeout.corpus.intake.onnx_model import onnx_model
from shakeout.corpus.intake.onnx_program import check_names, read_inputs, read_program
from shakeout.corpus.intake.refusal import NotCaptured, here
from shakeout.fuzz.intake.compiled import Candidates
from shakeout.fuzz.intake.told import Found, Refused
from shakeout.targets.registry import facts_of

__all__ = ["take_model", "take_program", "watching_sessions"]

TARGET = "onnxruntime"
#: What a model is run on as it is, if nobody says.
MODELS = "onnx.onnxruntime"

#: What the levels of ``GraphOptimizationLevel`` are called by the knob ``optimization``, whose default is the last.
_LEVELS = {
    "ORT_DISABLE_ALL": "NONE",
    "ORT_ENABLE_BASIC": "BASIC",
    "ORT_ENABLE_EXTENDED": "EXTENDED",
    "ORT_ENABLE_LAYOUT": "LAYOUT",
}


def take_model(
    candidates: Candidates,
    source: Path | bytes,
    label: str,
    given: Sequence[torch.Tensor] | Mapping[str, torch.Tensor] | None,
    level: str = "",
) -> None:
    """Make a case of a model.

    Args:
        candidates: to which it is added.
        source: its file, or its bytes.
        label: what it is called.
        given: what it is fed, in order or by name; None for small whole numbers.
        level: of ONNX Runtime's graph optimisation, by its own name; empty for the default.
    """
    knobs = (("optimization", _LEVELS[level]),) if level in _LEVELS and not candidates.target else ()
    try:
        model = onnx_model(source)
        if isinstance(given, Mapping):
            given = _in_order(given, model.names)
        given = model.example() if given is None else given
        model.check(given)
    except NotCaptured as error:
        candidates.refused.append(Refused(label, str(error)))
        return
    with torch.no_grad():
        candidates.take(model, given, {}, label, Setting(candidates.target or TARGET, knobs))
    candidates.notes.extend(note for note in model.notes if note not in candidates.notes)


def _in_order(given: Mapping[str, torch.Tensor], names: Sequence[str]) -> list[torch.Tensor]:
    check_names(given, names)
    return [given[name] for name in names]


def take_program(candidates: Candidates, path: Path) -> None:
    """Make a case of the model in a file, node by node.

    For a target that takes programs of torch it is what ``take_model`` makes of it.
    """
    setting = Setting(candidates.target or MODELS)
    try:
        inputs = None if candidates.inputs is None else read_inputs(candidates.inputs)
        if facts_of(setting.target).vocabulary != "onnx":
            take_model(candidates, path, path.name, inputs)
            return
        read = read_program(path, inputs, setting, candidates.directory)
    except NotCaptured as error:
        candidates.refused.append(Refused(path.name, str(error)))
        return
    candidates.found.append(Found(path.name, read.case.text, read.notes))


@contextlib.contextmanager
def watching_sessions(candidates: Candidates, text: str) -> Iterator[None]:
    """As long as the context is open, what sessions of ONNX Runtime are fed first is taken; they go on as ever.

    Args:
        candidates: to which cases are added.
        text: of the script; one that does not mention ONNX Runtime is spared the import of it.
    """
    if TARGET not in text or importlib.util.find_spec(TARGET) is None:
        yield
        return
    import onnxruntime

    session = onnxruntime.InferenceSession
    made, run = session.__init__, session.run
    sources: dict[int, tuple[Any, str]] = {}

    def init(self: Any, path_or_bytes: Any, sess_options: Any = None, *args: Any, **kwargs: Any) -> None:
        level = "" if sess_options is None else sess_options.graph_optimization_level.name
        sources[id(self)] = (path_or_bytes, level)
        made(self, path_or_bytes, sess_options, *args, **kwargs)

    def fed(self: Any, output_names: Any, input_feed: Any, *args: Any, **kwargs: Any) -> Any:
        source, level = sources.pop(id(self), (None, ""))
        if source is not None:
            place = here()
            where = f" ({Path(place.file).name}:{place.line})" if place is not None else ""
            given = [torch.from_numpy(input_feed[one.name].copy()) for one in self.get_inputs()]
            model = source if isinstance(source, bytes) else Path(source)
            take_model(candidates, model, f"InferenceSession{where} {level}".strip(), given, level)
        return run(self, output_names, input_feed, *args, **kwargs)

    with mock.patch.object(session, "__init__", init), mock.patch.object(session, "run", fed):
        yield
