"""A function or module with real arguments, recorded as a case that is proven to be the same.

The function runs once while its operators are written down, and then beside the case that came of it: both are called
in the same way, from the same memory and random state, and everything that one call shows has to agree bit for bit. So
what nobody thought of is refused as well, and never becomes another program.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from shakeout.corpus.case import Case, Mode, Setting
from shakeout.corpus.codec import encode
from shakeout.corpus.inputs import describe_inputs
from shakeout.corpus.intake import beside, switches
from shakeout.corpus.intake.reach import is_plain_object
from shakeout.corpus.intake.recorder import Level, Number, ProgramRecorder, type_of
from shakeout.corpus.intake.refusal import NotCaptured, blamed
from shakeout.corpus.intake.seeing import recording, seeing
from shakeout.corpus.intake.subject import PLAIN, Attributes, Contents, Subject, results_of
from shakeout.corpus.intake.trace import closed
from shakeout.corpus.program import Call, Input, InvalidProgram, Program, Role

__all__ = ["Captured", "capture"]

#: Levels at which a function is seen, in the order in which they are tried.
LEVELS: tuple[Level, ...] = ("torch", "aten")


@dataclass(frozen=True, slots=True)
class Captured:
    """A case, and how it came to be.

    Attributes:
        case: what was captured.
        level: at which its operators were seen.
        notes: what a person should know of it, one sentence each.
    """

    case: Case
    level: Level
    notes: tuple[str, ...] = ()


def capture(
    function: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    setting: Setting,
    mode: Mode | None = None,
    around: tuple[Call, ...] | None = None,
    levels: Sequence[Level] = LEVELS,
    directory: Path | None = None,
) -> Captured:
    """The case that calls a function or module with these arguments.

    Args:
        function: what would be compiled. It is run a few times; what it writes to is put back each time.
        args: its arguments: tensors, plain values, and lists, tuples and dictionaries of them.
        kwargs: its keyword arguments.
        setting: target and knobs; its mode and device are taken from what is captured.
        mode: ``inference`` or ``training``; None for training where gradient mode is on and something that is a leaf
            wants a gradient (of a module in evaluation mode that has to be an argument), and inference otherwise.
            A module counts that the function reaches, of a closure or as a global.
        around: blocks around the call; None for those that are open now.
        levels: at which it may be seen, in the order in which they are tried.
        directory: where the case is going to be stored; large inputs go to its folder of blobs. Without one every
            element is in the case's text.

    Raises:
        NotCaptured: it cannot be held, with the line that is to blame and the reason.
    """
    subject = Subject(function, args, kwargs or {})
    with contextlib.closing(subject):
        return _captured_of(subject, setting, mode, around, levels, directory)


def _captured_of(
    subject: Subject,
    setting: Setting,
    mode: Mode | None,
    around: tuple[Call, ...] | None,
    levels: Sequence[Level],
    directory: Path | None,
) -> Captured:
    around = switches.ambient() if around is None else around
    chosen = mode or _mode(subject)
    if torch.is_inference_mode_enabled():
        subject.notes.append("it is called in inference mode; the case is called without gradients")
    with torch.inference_mode(False):
        found = _at_some_level(subject, levels, chosen, setting, around, directory)
        if (
            mode is None
            and chosen == "training"
            and not any(one.requires_grad for one in found.case.input_sets[0].views)
        ):
            # What asks for a gradient is within reach, and not used.
            return _at_some_level(subject, levels, "inference", setting, around, directory)
        return found


def _at_some_level(
    subject: Subject,
    levels: Sequence[Level],
    mode: Mode,
    setting: Setting,
    around: tuple[Call, ...],
    directory: Path | None,
) -> Captured:
    contents, attributes = Contents(subject.kept()), Attributes(subject.modules, subject.objects)
    first: NotCaptured | None = None
    for level in levels:
        blocks = around if level == "torch" else tuple(one for one in around if one.operator != "torch.autocast")
        try:
            with _restored(), _plain_attention(), subject.asking(mode):
                found = _captured(subject, level, mode, setting, blocks, contents, attributes, directory)
        except NotCaptured as error:
            first = first or error
            if not error.lower:
                break
        else:
            if first is None:
                return found
            why = f"operators of PyTorch's library, because of what the source calls: {first}"
            return replace(found, notes=(why, *found.notes))
    assert first is not None
    raise first


def _mode(subject: Subject) -> Mode:
    if not torch.is_grad_enabled():
        return "inference"
    learning = [one for module in subject.modules if module.training for one in module.parameters()]
    wanted = any(tensor.requires_grad for tensor in (*subject.tensors, *subject.found, *learning))
    return "training" if wanted else "inference"


def _captured(
    subject: Subject,
    level: Level,
    mode: Mode,
    setting: Setting,
    around: tuple[Call, ...],
    contents: Contents,
    attributes: Attributes,
    directory: Path | None,
) -> Captured:
    lifted: list[torch.Tensor] = []

    def lift(tensor: torch.Tensor) -> bool:
        if not subject.existed(tensor):
            return False
        contents.keep(tensor)
        lifted.append(tensor)
        return True

    given = beside.fresh(subject.tensors, mode)
    with beside.called(around, mode):
        recorder = ProgramRecorder(level, lift, seeing, gradients=mode == "training")
        for tensor in given:
            recorder.give(tensor)
        try:
            with subject.leaving_no_gradients(), recording(recorder):
                returned = subject(given)
                recorder.check()
            written = {id(tensor) for tensor in lifted if contents.changed(tensor)}
        except NotCaptured:
            raise
        except Exception as error:
            raise _raised(error, recorder) from error
        finally:
            contents.put_back()
            changed = attributes.put_back()
    outputs, spec = results_of(returned)
    notes = [*subject.notes, *recorder.notes, *_about_results(outputs, spec)]
    if changed:
        notes.append(f"the call binds {', '.join(changed)} anew; the case holds the first call")
    recorder.scope.returns = tuple(recorder.number_of(one) for one in outputs if isinstance(one, torch.Tensor))
    tensors = [tensor for _, tensor in recorder.inputs]
    program = _program(recorder, subject, written, around)
    if not program.returns and not any(True for _ in _writes(program)):
        raise NotCaptured("it returns no tensor and writes to none, so there is nothing to compare")
    own = {id(copy): one for copy, one in zip(given, subject.tensors, strict=True)}
    originals = [own.get(id(tensor), tensor) for tensor in tensors]
    devices = {tensor.device.type for tensor in originals} or {"cpu"}
    if len(devices) > 1 or not devices <= {"cpu", "cuda"}:
        raise NotCaptured(f"its tensors are on {' and '.join(sorted(devices))}; a case has one device, cpu or cuda")
    contents.put_back()
    try:
        inputs = describe_inputs(originals, directory)
        case = Case(program, (inputs,), replace(setting, mode=mode, device=devices.pop()))
        encode(case)  # a case that cannot be stored is told now
    except NotCaptured:
        raise
    except InvalidProgram as error:
        raise NotCaptured(str(error)) from None
    beside.prove(case, subject, originals, contents, attributes)
    return Captured(case, level, tuple(dict.fromkeys(notes)))


def _program(
    recorder: ProgramRecorder, subject: Subject, written: Collection[int], around: tuple[Call, ...]
) -> Program:
    """What was recorded.

    Args:
        recorder: it.
        subject: of what.
        written: the tensors, by identity, that the call has written to.
        around: blocks around it.
    """
    arguments, state = len(subject.tensors), {id(one) for one in subject.state()}
    placed = []
    for place, (number, tensor) in enumerate(recorder.inputs):
        held = place >= arguments and (id(tensor) in state or isinstance(tensor, torch.nn.Parameter))
        # A buffer that is written is an input, so that what is written is seen, whoever else holds the network.
        belongs = held and (isinstance(tensor, torch.nn.Parameter) or id(tensor) not in written)
        role: Role = "parameter" if belongs else "input"
        placed.append((number, Input(type_of(tensor), role)))
    try:
        return closed(recorder.scope, placed, recorder.types, around)
    except KeyError:
        raise NotCaptured("a value that a branch or loop computes is used outside of it") from None


def _writes(program: Program) -> Iterator[int]:
    from shakeout.corpus.vocabularies import vocabulary

    words = vocabulary(program.vocabulary)
    for call in program.calls:
        yield from words.written(call)


def _about_results(outputs: Sequence[Any], spec: Any) -> Iterator[str]:
    """What is to be said of results that are no plain tensor or tuple of tensors.

    Raises:
        NotCaptured: one is neither a tensor nor a plain value.
    """
    plain = [one for one in outputs if not isinstance(one, torch.Tensor)]
    for one in plain:
        if not isinstance(one, PLAIN | Number | None) and (callable(one) or not is_plain_object(one)):
            raise NotCaptured(f"it returns a {type(one).__name__}, which a case cannot hold; return its tensors")
    if plain:
        are = "is a plain value" if len(plain) == 1 else "are plain values"
        yield f"{len(plain)} of its results {are}, and not compared"
    kinds = [one for one in (dict, list) if _nested_in(spec, one)]
    if kinds:
        yield f"its result, nested in {' and '.join(one.__name__ for one in kinds)}s, is returned as a flat tuple"


def _nested_in(spec: Any, kind: type) -> bool:
    children = spec.children() if callable(getattr(spec, "children", None)) else getattr(spec, "children_specs", [])
    return spec.type is kind or any(_nested_in(child, kind) for child in children)


def _raised(error: Exception, recorder: ProgramRecorder) -> NotCaptured:
    """What a function that raises says of itself."""
    said = (str(error).strip().splitlines() or [""])[0][:300]
    lower = recorder.level == "torch" and bool(recorder.scope.seen)
    return NotCaptured(f"the function raises {type(error).__name__}: {said}", blamed(error.__traceback__), lower=lower)


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Random states are what they were."""
    with torch.random.fork_rng(devices=[]):
        yield


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Modules of attention call the functions that they are written with.

    Their short cut for inference is taken in eager mode only: neither while operators are seen, nor by a compiler.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
