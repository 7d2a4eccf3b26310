"""A case beside what it was captured from: both are run in the same way, and have to agree bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from shakeout.corpus import script, standalone
from shakeout.corpus.case import Case, Mode
from shakeout.corpus.intake.branches import without_reentrance
from shakeout.corpus.intake.refusal import NotCaptured, blamed
from shakeout.corpus.intake.subject import Attributes, Contents, Subject, results_of
from shakeout.corpus.program import Call
from shakeout.corpus.vocabularies import structured
from shakeout.corpus.vocabularies import torch as words

__all__ = ["called", "fresh", "prove"]

_PARTS = ("output", "gradient", "input after the call", "random state")


def fresh(tensors: Sequence[torch.Tensor], mode: Mode) -> list[torch.Tensor]:
    """Copies of tensors with the same layout, that share memory as they do, and are leaves."""
    storages: dict[int, torch.Tensor] = {}
    copies = []
    for tensor in tensors:
        key = tensor.untyped_storage()._cdata
        if key not in storages:
            storages[key] = standalone.memory(tensor).clone()
        window = standalone.strided(
            storages[key], tensor.dtype, tensor.shape, tensor.stride(), int(tensor.storage_offset())
        )
        copies.append(window.detach().requires_grad_(mode == "training" and tensor.requires_grad))
    return copies


@contextlib.contextmanager
def called(around: tuple[Call, ...], mode: Mode) -> Iterator[None]:
    """How a network of a case is called: inside the blocks around it, with or without gradients."""
    blocks = _Blocks(around)
    gradients = torch.enable_grad() if mode == "training" else torch.no_grad()
    with torch.inference_mode(False), gradients, blocks:
        torch.default_generator.manual_seed(0)
        yield


class _Blocks(contextlib.ExitStack):
    """The blocks around a program, entered together."""

    def __init__(self, around: tuple[Call, ...]) -> None:
        super().__init__()
        self._around = around

    def __enter__(self) -> _Blocks:
        for call in self._around:
            args = [words.value(arg, ()) for arg in call.args]
            kwargs = {key: words.value(arg, ()) for key, arg in call.kwargs}
            self.enter_context(structured.resolve(call.operator)(*args, **kwargs))
        return self


def prove(
    case: Case, subject: Subject, originals: Sequence[torch.Tensor], contents: Contents, attributes: Attributes
) -> None:
    """Raise NotCaptured unless a case shows what the subject shows, bit for bit.

    Args:
        case: with one call.
        subject: what it was captured from.
        originals: the tensors that are its program's inputs, as the subject knows them.
        contents: of everything that the subject may write to.
        attributes: of its module.
    """
    arguments = len(subject.tensors)

    def original() -> Mapping[str, Any]:
        try:
            return _shown(case, subject, originals, arguments)
        except NotCaptured:
            raise
        except Exception as error:
            said = (str(error).strip().splitlines() or [""])[0][:300]
            raise NotCaptured(
                f"the function raises {type(error).__name__}: {said}", blamed(error.__traceback__)
            ) from None
        finally:
            contents.put_back()
            attributes.put_back()

    with torch.inference_mode(False), torch.enable_grad(), without_reentrance():
        _agree(case, original)


def _agree(case: Case, original: Callable[[], Mapping[str, Any]]) -> None:
    want = original()
    apart = _apart(want, original())
    if apart:
        raise NotCaptured(f"called again with the same inputs the function gives something else: {apart}")
    try:
        (found,) = standalone.run(**_functions(case))
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0][:300]
        raise NotCaptured(f"what was recorded raises {type(error).__name__}: {said}", lower=True) from None
    if apart := _apart(want, found):
        raise NotCaptured(
            f"what was recorded is not what the function does: {apart}. It depends on something that is no operator of "
            "torch, or a gradient takes another way",
            lower=True,
        )


def _functions(case: Case) -> dict[str, Any]:
    namespace = script.load(case)
    same: Callable[[Any], Any] = lambda network: network  # noqa: E731
    return {
        "bind": namespace["bind"],
        "arguments": namespace["arguments"],
        "calls": namespace["CALLS"],
        "prepare": same,
    }


def _shown(case: Case, subject: Subject, originals: Sequence[torch.Tensor], arguments: int) -> Mapping[str, Any]:
    """What the subject shows when it is called as ``standalone.run`` calls a network."""
    program, training = case.program, case.setting.mode == "training"
    tensors = [*fresh(originals[:arguments], case.setting.mode), *originals[arguments:]]
    given = [tensor for tensor, one in zip(tensors, program.inputs, strict=True) if one.role == "input"]
    parameters = [tensor for tensor, one in zip(tensors, program.inputs, strict=True) if one.role == "parameter"]
    leaves = [tensor for tensor in [*given, *parameters] if training and tensor.requires_grad]

    def network(*ignored: torch.Tensor) -> list[torch.Tensor]:
        with _Blocks(program.around):
            returned = subject(tensors[:arguments])
        return [one for one in results_of(returned)[0] if isinstance(one, torch.Tensor)]

    torch.default_generator.manual_seed(0)
    outputs, gradients = standalone.observe(network, given, leaves, case.setting.cotangent)
    state = torch.default_generator.get_state()
    standalone.step(parameters, leaves, gradients)
    return standalone.shown(outputs, gradients, [*given, *parameters], state)


def _apart(want: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Where two runs differ, in words; empty if they agree bit for bit."""
    for part in _PARTS:
        if len(want[part]) != len(found[part]):
            return f"{len(want[part])} {part}s and {len(found[part])}"
        for number, (a, b) in enumerate(zip(want[part], found[part], strict=True)):
            if told := _differ(a, b, layout=part == "output"):
                return f"{part} {number} {told}"
    if want["aliases"] != found["aliases"]:
        return "the results share memory with something else"
    return ""


def _differ(a: torch.Tensor | None, b: torch.Tensor | None, *, layout: bool) -> str:
    if a is None or b is None:
        present = b if a is None else a
        return "" if present is None or not present.any() else "is there in one of them only"
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return f"is {a.dtype} of {tuple(a.shape)}, and {b.dtype} of {tuple(b.shape)}"
    if layout and a.stride() != b.stride() and a.numel() > 1:
        return f"has strides {a.stride()}, and {b.stride()}"
    if not a.numel() or torch.equal(_bytes(a), _bytes(b)):
        return ""
    return "has other bits"


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().flatten()
    return plain.view(torch.uint8)
