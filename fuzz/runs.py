"""The runs that oracles ask for: the text as it is, in double precision, relaid, poisoned, or with rounding errors."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shakeout.corpus import script
from shakeout.corpus.case import Case
from shakeout.corpus.observation import Observation, raised
from shakeout.corpus.program import Call, Program
from shakeout.corpus.vocabularies import vocabulary
from shakeout.oracles.rounding import FORMATS, rounded

if TYPE_CHECKING:
    import torch

__all__ = ["baseline", "observe", "poisoned", "relaid", "replica"]

#: The dtype of a complex number's parts.
_PARTS = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}

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

    began = time.monotonic()
    declined: Callable[[BaseException], bool] = lambda error: False  # noqa: E731
    try:
        if source is not None:
            exec(compile(source, "<target>", "exec"), namespace)
            prepare, declined = namespace["prepare"], namespace["declined"]
            if kept is not None and "KEPT" in namespace:
                namespace["KEPT"] = kept
        calls = run(namespace["bind"], namespace["arguments"], namespace["CALLS"], prepare)
    except (Exception, SystemExit) as error:
        told = raised(error, declined=declined(error))
        return Observation((), told, time.monotonic() - began, dict(namespace.get("SPENT", {})))
    return Observation(calls, None, time.monotonic() - began, dict(namespace.get("SPENT", {})))


def _fed(namespace: dict[str, Any], change: Callable[[list[torch.Tensor]], list[torch.Tensor]]) -> dict[str, Any]:
    """The same text with its inputs changed on the way in."""
    makers: list[Callable[[], list[torch.Tensor]]] = namespace["CALLS"]
    return {**namespace, "CALLS": [functools.partial(_changed, make, change) for make in makers]}


def _changed(
    make: Callable[[], list[torch.Tensor]], change: Callable[[list[torch.Tensor]], list[torch.Tensor]]
) -> list[torch.Tensor]:
    return change(make())


def relaid(case: Case) -> Observation:
    """The reference on row-major copies of its inputs; nothing where inputs share memory, which copies would undo."""
    if any(inputs.shared() for inputs in case.calls):
        return NOTHING
    import torch

    def copy(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        return [
            t.detach().clone(memory_format=torch.contiguous_format).requires_grad_(t.requires_grad) for t in tensors
        ]

    return observe(_fed(script.load(case), copy))


def poisoned(case: Case) -> Observation:
    """The reference while fresh memory is filled with NaN, or the largest integer."""
    import torch

    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        # PyTorch fills every fresh tensor in this mode (torch.utils.deterministic.fill_uninitialized_memory).
        return observe(script.load(case))
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def baseline(case: Case) -> Observation:
    """The reference in double precision, on inputs drawn in their own dtype and then widened."""
    wide = _wide(case)
    return NOTHING if wide is None else observe(wide)


def _wide(case: Case) -> dict[str, Any] | None:
    """The text in double precision; None where the bytes of a float are reinterpreted, which has no wider version."""
    words = vocabulary(case.program.vocabulary)
    if not hasattr(words, "widened"):
        return None
    for inputs in case.calls:
        for view in inputs.views:
            held = inputs.storages[view.storage].dtype
            if view.dtype != held and (words.wider(view.dtype), words.wider(held)) != (view.dtype, held):
                return None

    def widen(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        return _widen(tensors, words.wider)

    return _fed(script.load(replace(case, program=words.widened(case.program))), widen)


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


def replica(case: Case, number: int) -> Observation:
    """The reference with other rounding errors, drawn by ``number``.

    Of every four replicas two have each freshly computed result moved by at most one unit in the last place. The other
    two run in double precision with each result rounded stochastically to the dtype that it has in the program, as if
    every operator rounded once; in the second of them half of the results stay unrounded, as a fusion keeps them.
    """
    words = vocabulary(case.program.vocabulary)
    if not hasattr(words, "evaluate"):
        return NOTHING
    import torch

    noise = torch.Generator("cpu").manual_seed(number)
    if number % 2 == 0:
        return _interpreted(
            case,
            case.program,
            script.load(case),
            lambda call, result, dtype, seen: _move(call.operator, result, seen, noise),
        )
    wide = _wide(case)
    if wide is None:
        return NOTHING
    kept = 0.5 if number % 4 == 3 else 0.0

    def round_(call: Call, result: Any, dtype: str, seen: set[int]) -> Any:
        if kept and float(torch.rand((), generator=noise)) < kept:
            if isinstance(result, torch.Tensor):
                seen.add(result.untyped_storage()._cdata)  # its views must stay views
            return result
        return _round(call.operator, result, dtype, seen, noise)

    return _interpreted(case, words.widened(case.program), wide, round_)


#: What takes a result's place, given the call, the result, the dtype that it has in the case's program, and the
#: storages that are known already.
Change = Callable[[Call, Any, str, set[int]], Any]


def _interpreted(case: Case, program: Program, namespace: dict[str, Any], change: Change) -> Observation:
    """A program call by call, each result changed; results are told by the types that the case's program has."""
    import torch

    words, device = vocabulary(program.vocabulary), case.setting.device

    def prepare(network: Any) -> Callable[..., list[torch.Tensor]]:
        def changed(*given: torch.Tensor) -> list[torch.Tensor]:
            inputs = iter(given)
            parameters = iter(network.parameters() if isinstance(network, torch.nn.Module) else ())
            tensors = [next(parameters if one.role == "parameter" else inputs) for one in program.inputs]
            seen = {t.untyped_storage()._cdata for t in tensors}
            types = iter(case.program.calls)

            def after(call: Call, results: list[Any]) -> list[Any]:
                dtypes = [one.dtype if one is not None else "" for one in next(types).results]
                return [change(call, *pair, seen) for pair in zip(results, dtypes, strict=True)]

            with contextlib.nullcontext() if device == "cpu" else torch.device(device):
                values: Sequence[torch.Tensor] = words.evaluate(program, tensors, after)
            return [values[i] for i in program.returns]

        return changed

    return observe(namespace, prepare=prepare)


def _fresh(operator: str, result: Any, seen: set[int]) -> tuple[bool, bool]:
    """Whether a result holds floats that its operator computed, and whether it wrote them over an operand."""
    import torch

    if not isinstance(result, torch.Tensor) or not (result.dtype.is_floating_point or result.dtype.is_complex):
        return False, False
    last = operator.rpartition(".")[2]
    in_place = (last.endswith("_") and not last.endswith("__")) or last.startswith("__i")
    return in_place or result.untyped_storage()._cdata not in seen, in_place


def _round(operator: str, result: Any, dtype: str, seen: set[int], noise: torch.Generator) -> Any:
    """A result in double precision, rounded stochastically to the numbers of ``dtype``; its gradient as well."""
    import torch

    fresh, in_place = _fresh(operator, result, seen)
    form = _PARTS.get(dtype, dtype)
    if not fresh or form not in FORMATS or form == "float64" or result.real.dtype != torch.float64:
        return result

    def near(x: torch.Tensor) -> torch.Tensor:
        parts = torch.view_as_real(x.resolve_conj().resolve_neg()) if x.dtype.is_complex else x
        done = rounded(parts, form, mode="stochastic", generator=noise)
        return torch.view_as_complex(done.contiguous()) if x.dtype.is_complex else done

    with torch.no_grad():
        target = near(result)
    if in_place:
        # Past autograd's version counter: the value that it saved is the one that was rounded.
        result.data.copy_(target)
        return result
    if result.requires_grad:
        # The value is the rounded one, the gradient passes through and is rounded on its way.
        step = torch.where(torch.isfinite(target) & torch.isfinite(result.detach()), target - result.detach(), 0.0)
        target = result + step
        target.register_hook(near)
    seen.add(target.untyped_storage()._cdata)
    return target


def _move(operator: str, result: Any, seen: set[int], noise: torch.Generator) -> Any:
    """A result with rounding errors, and with another NaN for NaN; views and what is not a float stay as they are."""
    import torch

    fresh, in_place = _fresh(operator, result, seen)
    if not fresh:
        return result
    steps = torch.randint(-1, 2, result.shape, generator=noise, device="cpu").to(result.device)
    factor = 1.0 + steps.to(torch.float64) * torch.finfo(result.dtype).eps
    # Eight-bit floats are not multiplied by anything.
    wide = result.to(torch.float64) if result.dtype.itemsize == 1 else result
    moved = (wide * factor.to(result.real.dtype if result.dtype.is_complex else torch.float64)).to(result.dtype)
    if result.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        # Which NaN an operator gives is nobody's promise; a program that reads its bits depends on it.
        other = torch.full((), -1, dtype=getattr(torch, f"int{8 * result.element_size()}")).view(result.dtype)
        moved = torch.where(torch.isnan(moved), other, moved)
    if in_place:
        # Past autograd's version counter: the value that it saved is the one that was moved.
        result.data.copy_(moved)
        return result
    seen.add(moved.untyped_storage()._cdata)
    return moved
