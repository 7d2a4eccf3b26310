"""What a reproducing script needs besides torch; its functions are printed into every script.

The worker imports these very functions, so what runs in a campaign and what runs in a pasted script is one text.
Keep them short, and independent of everything else in Shakeout: each is printed by ``source_of``,
without its annotations.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import math
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    # What the script defines beside them.
    PACKAGES: Sequence[str] = ()
    CALLS: Sequence[Callable[[], list[torch.Tensor]]] = ()
    TOLERANCES: Mapping[str, tuple[float, float]] = {}
    PROMISES: Collection[str] = ()
    SYMPTOM: Sequence[str] = ()

    def bind(tensors: list[torch.Tensor]) -> Any:
        """The network, with its parameters."""

    def arguments(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """What it is called with."""

    def declined(error: BaseException) -> bool:
        """Whether the target says that it does not support the program."""


nan, inf = math.nan, math.inf


def fill(dtype: torch.dtype, shape: tuple[int, ...], kind: str, seed: int, low: float, high: float) -> torch.Tensor:
    """Values of a counter-based hash (SplitMix64's finaliser): the same numbers on every machine and version."""
    size = math.prod(shape)
    h = torch.arange(1, size + 1, dtype=torch.int64) * -7046029254386353131 + seed * 6364136223846793005 % 2**63
    h = (h ^ (h >> 30)) * -4658895280553007687
    h = (h ^ (h >> 27)) * -7723592293110705685
    h = (h ^ (h >> 31)) & 0x7FFFFFFFFFFFFFFF
    if dtype.is_complex:
        half = torch.float64 if dtype == torch.complex128 else torch.float32
        parts = [fill(half, shape, kind, 2 * seed + i, low, high) for i in range(2)]
        return torch.complex(*parts).to(dtype)
    if kind == "uniform" or (kind == "special" and dtype.is_floating_point):
        x = low + (h >> 11).to(torch.float64) * 2.0**-52 * (high - low)
    else:
        x = int(low) + h % (int(high) - int(low) + 1)
    if kind == "special" and dtype != torch.bool:
        if dtype.is_floating_point:
            f = torch.finfo(dtype)
            edges = [
                nan,
                inf,
                -inf,
                -0.0,
                0.0,
                f.tiny,
                f.tiny / 4,
                -f.tiny / 4,
                f.max,
                f.min,
                f.eps,
                1.0,
                -1.0,
            ]
        else:
            i = torch.iinfo(dtype)
            edges = [i.min, i.max, i.min + 1, i.max - 1, 0, 1, 2, i.max // 2]
            edges = [e - 2**64 if e >= 2**63 else e for e in edges]
        table = torch.tensor(edges, dtype=x.dtype)
        x = torch.where((h >> 7) % 4 == 0, table[(h >> 20) % len(edges)], x)
    return x.to(dtype).reshape(shape)


def magnitudes(
    dtype: torch.dtype, shape: tuple[int, ...], kind: str, seed: int, low: float, high: float
) -> torch.Tensor:
    """Values by magnitude: a ``ladder`` of binary exponents, or numbers ``beside`` multiples of simple fractions."""
    if dtype.is_complex:
        half = torch.float64 if dtype == torch.complex128 else torch.float32
        parts = [magnitudes(half, shape, kind, 2 * seed + i, low, high) for i in range(2)]
        return torch.complex(*parts).to(dtype)
    h = fill(torch.int64, (math.prod(shape),), "integers", seed, 0, 2**62 - 1)
    if dtype == torch.bool:
        return (h % 2 == 1).reshape(shape)
    if kind == "ladder":
        exponent = int(low) + (h >> 3) % (int(high) - int(low) + 1)
        sign = 1 - 2 * (h & 1) if dtype.is_signed else torch.ones_like(h)
        if dtype.is_floating_point:
            # Made of bits: no library rounds a power of two differently.
            bits = ((exponent.clamp(-1022, 1023) + 1023) << 52) | ((h << 1) & (2**52 - 1))
            return (bits.view(torch.float64) * sign).to(dtype).reshape(shape)
        width = min(8 * dtype.itemsize - dtype.is_signed, 63)
        return (((1 << exponent.clamp(2, width - 1)) + (h >> 9) % 5 - 2) * sign).to(dtype).reshape(shape)
    shares = torch.tensor([1.0, 2.0, 10.0, 3.0], dtype=torch.float64)[(h >> 20) % 4]
    least, most = torch.ceil(low * shares), torch.floor(high * shares)
    whole = least + (h >> 24) % torch.clamp(most - least + 1, min=1)
    x = torch.clamp(whole / shares, low, high).to(dtype)
    # Zero has no neighbours of ordinary size; beyond an end of the range lies nothing.
    move = torch.where(whole == 0, 0, (h >> 5) % 3 - 1)
    moved = (x.view(getattr(torch, f"int{8 * dtype.itemsize}")) + move).to(getattr(torch, f"int{8 * dtype.itemsize}"))
    moved = moved.view(dtype)
    inside = (moved.to(torch.float64) >= low) & (moved.to(torch.float64) <= high)
    return torch.where(inside, moved.to(torch.float64), x.to(torch.float64)).to(dtype).reshape(shape)


def blob(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """The tensor in the file of this name beside the script; the name is the SHA-256 of its bytes."""
    import safetensors.torch

    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "blobs")
    values = safetensors.torch.load_file(os.path.join(folder, f"{name}.safetensors"))["values"]
    if hashlib.sha256(values.view(torch.uint8).numpy().tobytes()).hexdigest() != name:
        raise ValueError(f"{name}.safetensors was changed")
    return values.view(dtype).reshape(shape)


def strided(
    storage: torch.Tensor, dtype: torch.dtype, shape: Sequence[int], strides: Sequence[int], offset: int | torch.SymInt
) -> torch.Tensor:
    """A window on a flat storage."""
    storage = storage if storage.dtype == dtype else storage.view(dtype)
    return storage.as_strided(shape, strides, offset)


def cotangent(output: torch.Tensor) -> torch.Tensor:
    """What is fed into the backward pass: small whole numbers, so that linear gradients stay exact."""
    ramp = torch.arange(output.numel(), device=output.device) % 5 - 2
    return ramp.to(output.dtype).reshape(output.shape)


def unusual_cotangent(output: torch.Tensor, kind: str) -> torch.Tensor:
    """The same in another place of memory, with one row for all, or eighths."""
    whole = cotangent(output)
    backwards = list(range(output.dim()))[::-1]
    if kind == "transposed":
        return whole.permute(backwards).contiguous().permute(backwards)
    if kind == "expanded" and output.dim():
        return whole[:1].expand(output.shape)
    if kind == "sliced" and output.dtype.itemsize > 1:
        return torch.stack([whole, whole + 3], -1)[..., 0]
    if kind == "fractional":
        ramp = (torch.arange(output.numel(), device=output.device) % 11 - 5) / 8
        return ramp.to(output.dtype).reshape(output.shape)
    return whole


def observe(
    function: Callable[..., Any],
    arguments: Sequence[torch.Tensor],
    leaves: Sequence[torch.Tensor],
    kind: str = "whole",
) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    """One call: its outputs, and the gradient of each leaf (None where there is none)."""
    if not leaves:
        with torch.no_grad():
            return list(function(*arguments)), []
    outputs = list(function(*arguments))
    roots = [o for o in outputs if o.requires_grad]
    grads: Sequence[torch.Tensor | None] = [None] * len(leaves)
    if roots:
        asked = [cotangent(o) if kind == "whole" else unusual_cotangent(o, kind) for o in roots]
        grads = torch.autograd.grad(roots, leaves, asked, allow_unused=True)
    return [o.detach() for o in outputs], list(grads)


def memory(tensor: torch.Tensor) -> torch.Tensor:
    """All of the storage behind a tensor, flat."""
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(tensor.detach().untyped_storage())


def aliases(tensors: Sequence[torch.Tensor], given: Sequence[torch.Tensor]) -> list[int]:
    """For each tensor, the first one in ``given + tensors`` whose storage it shares (its own place if none)."""
    seen: dict[int, int] = {}
    owners = [t.untyped_storage().data_ptr() if t.numel() else None for t in [*given, *tensors]]
    return [i if p is None else seen.setdefault(p, i) for i, p in enumerate(owners)][len(given) :]


def step(
    parameters: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]
) -> None:
    """Parameters take a step, so that the next call sees others."""
    with torch.no_grad():
        for leaf, gradient in zip(leaves, gradients):
            moves = gradient is not None and leaf.dtype.itemsize > 1 and 0 not in leaf.stride()
            if moves and any(leaf is parameter for parameter in parameters):
                leaf.sub_(gradient, alpha=0.5)  # type: ignore[arg-type]


def shown(
    outputs: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
    held: Sequence[torch.Tensor],
    state: torch.Tensor,
) -> dict[str, Any]:
    """All that one call showed; ``held`` is what it was given."""
    return {
        "output": outputs,
        "gradient": gradients,
        "input after the call": [memory(t).clone() for t in held],
        "random state": [state],
        "aliases": aliases(outputs, held),
        "given": len(held),
    }


def copied(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with the very layout, for a backward pass that sees nothing of what is written later."""
    copy = memory(tensor).clone().as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    copy = copy.conj() if tensor.is_conj() else copy
    return copy._neg_view() if tensor.is_neg() else copy


def keeping() -> contextlib.AbstractContextManager[Any]:
    """Copies are saved for the backward pass: eager itself refuses it if what it saved was written to."""
    return torch.autograd.graph.saved_tensors_hooks(copied, lambda held: held)


def run(
    bind: Callable[[list[torch.Tensor]], Any],
    arguments: Callable[[list[torch.Tensor]], list[torch.Tensor]],
    calls: Sequence[Callable[[], list[torch.Tensor]]],
    prepare: Callable[[Any], Callable[..., Any]],
) -> list[dict[str, Any]]:
    """Every call of a case through one artefact; what each one showed."""
    function, seen = None, []
    for make in calls:
        tensors = make()
        if function is None:
            network = bind(tensors)
            function = prepare(network)
            parameters = list(network.parameters()) if isinstance(network, torch.nn.Module) else []
        given = arguments(tensors)
        leaves = [t for t in [*given, *parameters] if t.requires_grad]
        torch.default_generator.manual_seed(0)
        within = getattr(network, "within", lambda function: function)  # the blocks in which it is called
        plain = keeping if getattr(make, "overwrites", False) else contextlib.nullcontext
        with getattr(function, "around", plain)():
            outputs, gradients = observe(within(function), given, leaves, getattr(make, "cotangent", "whole"))
        if any(t.is_cuda for t in given):
            torch.cuda.synchronize()  # what a kernel did wrong is told late
        state = torch.default_generator.get_state()
        step(parameters, leaves, gradients)
        seen.append(shown(outputs, gradients, [*given, *parameters], state))
    return seen


def beyond(tensor: torch.Tensor) -> str:
    """What a tensor lacks of the memory that its sizes and strides speak of, in words; nothing if it has all of it."""
    if tensor.layout != torch.strided or not tensor.numel():
        return ""
    last = tensor.storage_offset() + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride()))
    needed, held = (last + 1) * tensor.element_size(), tensor.untyped_storage().nbytes()
    return f"beyond its memory, which has {held} bytes of {needed}" if needed > held else ""


def compare(
    name: str,
    want: torch.Tensor | None,
    got: torch.Tensor | None,
    tolerances: Mapping[str, tuple[float, float]],
    strides: bool = True,
) -> list[str]:
    """How two tensors differ, in words; nothing if they agree."""
    if want is None or got is None:  # a gradient that is absent and one that is zero say the same
        present = got if want is None else want
        absent = "expected" if want is None else "found"
        return [f"{name}: none {absent}"] if present is not None and present.any() else []
    if outside := beyond(got):  # nobody may look at what is in it
        return [f"{name}: {outside}"]
    found = []
    for what in ("dtype", "shape"):
        if getattr(want, what) != getattr(got, what):
            found.append(f"{name}: {what} {getattr(want, what)} expected, {getattr(got, what)} found")
    steps = [[s for s, n in zip(t.stride(), t.shape) if n > 1] for t in (want, got)]
    if strides and not found and want.numel() and steps[0] != steps[1]:
        found.append(f"{name}: strides {want.stride()} expected, {got.stride()} found")
    if found:
        return found
    rtol, atol = tolerances.get(str(want.dtype).removeprefix("torch."), (0, 0))
    want, got = want.detach().cpu(), got.detach().cpu()
    if want.is_floating_point():  # those of eight bits have no arithmetic of their own
        want, got = want.double(), got.double()
    same = torch.isclose(got, want, rtol=rtol, atol=atol, equal_nan=True)
    if not same.all():
        bad = (~same).nonzero().tolist()
        where = tuple(bad[0])
        text = f"{name}: {len(bad)} of {same.numel()} elements differ, first at {list(where)}: "
        values = f"{want[where].item()} expected, {got[where].item()} found"
        found.append(f"{text}{values}: {kind(want[where], got[where])}")
    return found


def kind(want: torch.Tensor, got: torch.Tensor) -> str:
    """The class of a difference between two elements."""
    for word, of in (("NaN", torch.isnan), ("infinity", torch.isinf)):
        if of(want) != of(got):
            return f"{word} {'lost' if of(want) else 'appears'}"
    return "wrong value"


def status(lines: Sequence[str]) -> int:
    """The exit status of what was found: 1 only if one line has all words of the failure that the script is about."""
    if not lines:
        return 0
    return 1 if any(all(word in line for word in SYMPTOM) for line in lines) else 3


def differences(
    expected: Sequence[Mapping[str, Any]],
    actual: Sequence[Mapping[str, Any]],
    tolerances: Mapping[str, tuple[float, float]],
    promises: Collection[str],
) -> list[str]:
    """Every difference between two runs, in words."""
    found = []
    for number, (want, got) in enumerate(zip(expected, actual)):
        prefix = f"call {number}, " if len(expected) > 1 else ""
        for part in ("output", "gradient", "input after the call") + ("random state",) * ("bits" in promises):
            if len(want[part]) != len(got[part]):
                found.append(f"{prefix}{part}s: {len(want[part])} expected, {len(got[part])} found")
            for i, (a, b) in enumerate(zip(want[part], got[part])):
                found += compare(f"{prefix}{part} {i}", a, b, tolerances, part == "output" and "layout" in promises)
        owners = zip(want["aliases"], got["aliases"]) if "layout" in promises else ()
        for i, (a, b) in enumerate(owners):
            a, b = (x if x < want["given"] else None for x in (a, b))
            if a != b:
                found.append(f"{prefix}output {i}: shares memory with input {a} expected, {b} found")
    return found


def main(prepare: Callable[[Any], Callable[..., Any]], stages: Sequence[tuple[str, Callable[..., Any]]] = ()) -> int:
    """Run eager, run the target, show the differences, and the first of its stages that shows one."""
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES))
    try:
        expected = run(bind, arguments, CALLS, lambda network: network)
    except Exception as error:  # another release of torch may lack an operator
        print(f"the reference raises {type(error).__name__}: {str(error)[:500]}")
        return 125
    try:
        actual = run(bind, arguments, CALLS, prepare)
    except Exception as error:
        if declined(error):
            print(f"declined: {type(error).__name__}: {str(error)[:500]}")
            return 125
        where = f" in {error.stage}" if hasattr(error, "stage") else ""
        print(f"the reference runs, the target raises {type(error).__name__}{where}: {str(error)[:2000]}")
        return status(["".join(traceback.format_exception(error))])
    found = differences(expected, actual, TOLERANCES, PROMISES)
    print("\n".join(found) or "no difference")
    for name, form in stages if found else ():
        made = form if getattr(form, "prepares", False) else lambda network: form  # noqa: B023
        try:
            wrong = differences(expected, run(bind, arguments, CALLS, made), TOLERANCES, ())
            print(f"{name}: {wrong[0] if wrong else 'no difference'}")
        except Exception as error:
            print(f"{name}: cannot be run: {type(error).__name__}: {str(error)[:200]}")
    return status(found)


def isolated(
    prepare: Callable[[Any], Callable[..., Any]], limit: float, stages: Sequence[tuple[str, Callable[..., Any]]] = ()
) -> int:
    """``main`` in a child process, so that a crash or a hang is a result too."""
    if "--child" in sys.argv:
        return main(prepare, stages)
    try:
        done = subprocess.run([sys.executable, os.path.abspath(__file__), "--child"], timeout=limit)
    except subprocess.TimeoutExpired:
        print(said := f"no answer within {limit} s")
        return status([said])
    if done.returncode < 0:
        print(said := f"the process died with status {done.returncode}: {signal.Signals(-done.returncode).name}")
        return status([said])
    return done.returncode


def mark(calls: Sequence[Mapping[str, Any]]) -> str:
    """A digest of all that was shown, but for which NaN it is."""
    seen = hashlib.sha256()
    for call in calls:
        for tensor in [*call["output"], *call["gradient"], *call["input after the call"]]:
            if tensor is not None:
                seen.update(f"{tensor.dtype}{tensor.shape}".encode())
                shown = tensor.detach().cpu().contiguous()
                shown = torch.view_as_real(shown.resolve_conj()) if shown.is_complex() else shown
                if shown.is_floating_point() and shown.dtype.itemsize > 1:
                    shown = torch.where(torch.isnan(shown), torch.full_like(shown, nan), shown)
                seen.update(bytes(shown.flatten().view(torch.uint8).tolist()))
    return seen.hexdigest()[:16]


def repeated(prepare: Callable[[Any], Callable[..., Any]], limit: float) -> int:
    """Run the target twice in each of two fresh processes, and compare the bits of what it shows."""
    if "--mark" in sys.argv:
        torch.set_num_threads(1)
        print(*[mark(run(bind, arguments, CALLS, prepare)) for _ in range(2)])
        return 0
    marks = []
    for seed in ("1", "2"):
        changed = {"PYTHONHASHSEED": seed, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
        command = [sys.executable, os.path.abspath(__file__), "--mark"]
        wanted: dict[str, Any] = {"env": {**os.environ, **changed}, "capture_output": True, "text": True}
        done = subprocess.run(command, **wanted, timeout=limit or None)
        if done.returncode:
            print(done.stderr[-2000:])
            return 125
        marks += done.stdout.split()[-2:]
    print(f"two runs in each of two processes show {', '.join(marks)}")
    return 1 if len(set(marks)) > 1 else 0
