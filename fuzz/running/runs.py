"""The runs that oracles ask for: the text as it is, in double precision, relaid, or poisoned."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shakeout.corpus import script
from shakeout.corpus.case import Case
from shakeout.corpus.layouts import Layout
from shakeout.corpus.observation import Observation, raised
from shakeout.corpus.user_objects import local_name
from shakeout.corpus.vocabularies import structured, vocabulary
from shakeout.fuzz.running import proof as proof
from shakeout.targets.printed import Executed, executed

if TYPE_CHECKING:
    import torch

__all__ = [
    "baseline",
    "exact",
    "fed",
    "laid_out",
    "observe",
    "operand",
    "poisoned",
    "relaid",
    "repeated",
    "resaved",
    "reseeded",
]

#: What a run tells when it could not be made at all: nothing.
NOTHING = Observation()


def observe(
    namespace: dict[str, Any],
    source: str | None = None,
    prepare: Callable[[Any], Any] = lambda network: network,
    kept: dict[str, Any] | None = None,
) -> Observation:
    """Run a loaded text: as it is, through ``prepare``, or on the target whose source is given.

    ``kept`` is what that target may use again of another setting of the program, and where it leaves such things.
    """
    from shakeout.corpus.standalone import run

    structured.forget()
    began = time.monotonic()
    calls: Sequence[Mapping[str, Any]] = ()
    told = None
    subject = Executed(prepare, lambda error: False, {}, ())
    try:
        if source is not None:
            subject = executed(source, namespace, kept)
        calls = run(namespace["bind"], namespace["arguments"], namespace["CALLS"], subject.prepare)
    except (Exception, SystemExit) as error:
        told = raised(error, declined=subject.declined(error))
    spent, layouts = time.monotonic() - began, tuple(namespace.get("LAYOUTS", ()))
    fired = None if subject.fired is None else sum(subject.fired)
    calls, outside = _within(calls)
    return Observation(calls, told, spent, dict(subject.spent), tuple(subject.stages), layouts, fired, outside)


def _within(calls: Sequence[Mapping[str, Any]]) -> tuple[Sequence[Mapping[str, Any]], tuple[tuple[str, str], ...]]:
    """What calls showed, without results that reach beyond their memory, which nobody may look at; and those."""
    from shakeout.corpus.standalone import beyond

    found: list[tuple[str, str]] = []
    kept = []
    for call in calls:
        shown = dict(call)
        for part in ("output", "gradient"):
            said = ["" if tensor is None else beyond(tensor) for tensor in call[part]]
            found += [(f"{part} {place}", words) for place, words in enumerate(said) if words]
            shown[part] = [None if words else tensor for tensor, words in zip(call[part], said, strict=True)]
        kept.append(shown)
    return (kept, tuple(found)) if found else (calls, ())


def fed(namespace: dict[str, Any], change: Callable[[list[torch.Tensor]], list[torch.Tensor]]) -> dict[str, Any]:
    """A loaded text with its inputs changed on the way in."""
    makers: list[Callable[[], list[torch.Tensor]]] = namespace["CALLS"]
    # What gradients are asked for with is told by the maker.
    changed = [functools.update_wrapper(functools.partial(_changed, make, change), make) for make in makers]
    return {**namespace, "CALLS": changed}


def _changed(
    make: Callable[[], list[torch.Tensor]], change: Callable[[list[torch.Tensor]], list[torch.Tensor]]
) -> list[torch.Tensor]:
    return change(make())


def relaid(case: Case) -> Observation:
    """The reference on row-major copies of its inputs; nothing where inputs share memory, which copies would undo."""
    if any(inputs.shared() for inputs in case.input_sets):
        return NOTHING
    import torch

    def copy(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        return [
            t.detach().clone(memory_format=torch.contiguous_format).requires_grad_(t.requires_grad) for t in tensors
        ]

    return observe(fed(script.load(case), copy))


def resaved(case: Case, number: int) -> Observation:
    """The reference with copies in the place of what autograd saves, in layout ``number`` of ``LAYOUTS``."""
    from torch.autograd.graph import saved_tensors_hooks

    def prepare(network: Any) -> Callable[..., Any]:
        def called(*given: torch.Tensor) -> Any:
            return network(*given)

        # As the contexts of runtimes are: entered around forward and backward.
        called.around = lambda: saved_tensors_hooks(LAYOUTS[number], lambda held: held)  # type: ignore[attr-defined]
        return called

    return observe(script.load(case), prepare=prepare)


def laid_out(case: Case, layouts: Sequence[tuple[Layout, ...]]) -> Observation:
    """The reference with the results of each call of a user's kernel where the kernel left them, as far as is known."""
    namespace, left = script.load(case), iter(layouts)

    def placed(reference: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            result, places = reference(*args, **kwargs), iter(next(left, ()))
            if isinstance(result, list | tuple):
                return [_placed(item, next(places, None)) for item in result]
            return _placed(result, next(places, None))

        return called

    kernels = {
        local_name(operator): placed(namespace[local_name(operator)].reference)
        for operator in case.program.operators()
        if ":" in operator
    }
    return observe(namespace, prepare=lambda network: lambda *given: network(*given, **kernels))


def _placed(result: Any, layout: Layout | None) -> Any:
    import torch

    if not isinstance(result, torch.Tensor) or layout is None or layout.shape != result.shape:
        return result
    held = result.new_empty_strided(layout.shape, layout.strides)
    # Elements that share memory take no copy, and are row-major in the text of the case.
    return result if torch._debug_has_internal_overlap(held) == 1 else held.copy_(result)


def _row_major(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone()


def _column_major(tensor: torch.Tensor) -> torch.Tensor:
    backwards = tuple(reversed(range(tensor.dim())))
    return _row_major(tensor.detach().permute(backwards)).permute(backwards)


def _shifted(tensor: torch.Tensor) -> torch.Tensor:
    """Row-major, and one element behind where memory is aligned, which decides where vector loops begin."""
    held = tensor.new_empty(tensor.numel() + 1)
    return held[1:].view(tensor.shape).copy_(tensor.detach())


#: How a copy of a saved tensor may lie in memory.
LAYOUTS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (_row_major, _dense, _column_major, _shifted)


def poisoned(case: Case) -> Observation:
    """The reference while fresh memory is filled with NaN, or the largest integer."""
    import torch

    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    # What torch.use_deterministic_algorithms calls, which imports TorchInductor to tell that as well: most of a second.
    switch = torch._C._set_deterministic_algorithms
    switch(True, warn_only=True)
    try:
        # PyTorch fills every fresh tensor in this mode (torch.utils.deterministic.fill_uninitialized_memory).
        return observe(script.load(case))
    finally:
        switch(before[0], warn_only=before[1])


def repeated(case: Case, number: int) -> Observation:
    """The reference once more, with its memory elsewhere than in the runs with other numbers."""
    import torch

    held = [torch.empty((17 * (place + number)) % 129 + 1) for place in range(64)]
    del held[number % 2 :: 2]  # the holes are where fresh memory comes from
    return observe(script.load(case))


def reseeded(case: Case) -> Observation:
    """The reference from another random state than every other run."""
    import torch

    def prepare(network: Any) -> Callable[..., Any]:
        def called(*given: torch.Tensor) -> Any:
            torch.default_generator.manual_seed(1)
            return network(*given)

        return called

    return observe(script.load(case), prepare=prepare)


def operand(case: Case, number: int) -> Observation:
    """The reference, returning one value of the program alone."""
    calls = case.program.calls
    producer = case.program.producer(number)
    kept = () if producer is None else calls[: producer + 1]
    return observe(script.load(replace(case, program=replace(case.program, calls=kept, returns=(number,)))))


def baseline(case: Case) -> Observation:
    """The reference in double precision, on inputs drawn in their own dtype and then widened."""
    wide = _wide(case)
    return NOTHING if wide is None else observe(wide)


def exact(case: Case) -> Observation:
    """The same, if every result is proven to be exact; with an error that says why not."""
    return proof.exact(case, _wide(case), observe)


def _wide(case: Case) -> dict[str, Any] | None:
    """The text in double precision; None where the bytes of a float are reinterpreted, which has no wider version.

    The parts of complex numbers are as many numbers in double precision.
    """
    words = vocabulary(case.program.vocabulary)
    for inputs in case.input_sets:
        for view in inputs.views:
            held = inputs.storages[view.storage].dtype
            if _real(view.dtype) != _real(held) and (words.wider(view.dtype), words.wider(held)) != (view.dtype, held):
                return None

    program = words.widened(case.program)
    if program is None:
        return None

    def widen(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        return _widen(tensors, words.wider)

    return fed(script.load(replace(case, program=program)), widen)


def _real(dtype: str) -> str:
    import torch

    found: torch.dtype = getattr(torch, dtype)
    return str(found.to_real()).removeprefix("torch.")


def _widen(tensors: list[torch.Tensor], wider: Callable[[str], str]) -> list[torch.Tensor]:
    """Wider copies with the same windows on the same shared storages."""
    import torch

    from shakeout.corpus.standalone import memory, strided

    storages: dict[int, torch.Tensor] = {}
    wide = []
    for tensor in tensors:
        dtype: torch.dtype = getattr(torch, wider(str(tensor.dtype).removeprefix("torch.")))
        if dtype == tensor.dtype:
            wide.append(tensor)
            continue
        key = tensor.untyped_storage()._cdata
        if key not in storages:
            storages[key] = memory(tensor).to(dtype)
        window = strided(storages[key], dtype, tensor.shape, tensor.stride(), tensor.storage_offset())
        wide.append(window.detach().requires_grad_(tensor.requires_grad))
    return wide
