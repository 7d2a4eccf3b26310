"""Repositories with a history, made for tests and benchmarks: changes that break something, and changes that do not.

Each change is a branch of its own off the state before it. The innocent ones are merged one after the other; those that
break something are not, as a gate would have it.
"""

import subprocess
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.packages import registered

__all__ = ["KERNELS", "PASSES", "RUNTIME", "Change", "History", "branches", "git", "made"]


@dataclass(frozen=True)
class Change:
    """One commit: in each file, what takes the place of what; a file that is not there is made of the new text."""

    title: str
    breaks: bool
    edits: Mapping[str, Sequence[tuple[str, str]]]

    @property
    def branch(self) -> str:
        return "".join(sign if sign.isalnum() else "-" for sign in self.title.lower()).strip("-")


@dataclass(frozen=True)
class History:
    """A repository: its first state, what is tested in it, and its changes."""

    files: Mapping[str, str]
    targets: tuple[str, ...]
    changes: tuple[Change, ...]
    arguments: tuple[str, ...] = ()
    entry_points: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def git(folder: Path, *arguments: str) -> str:
    """A command of git, as nobody in particular."""
    named = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.invalid", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *named, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def made(history: History, folder: Path) -> Path:
    """The repository in its first state, on the branch ``main``."""
    folder.mkdir(parents=True)
    for name, text in history.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_text(text))
    if history.entry_points:
        registered(folder, "example-passes", history.entry_points)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "What there is")
    return folder


def apply(folder: Path, change: Change) -> None:
    """Commit a change on a branch of its own off ``main``, and check that out."""
    git(folder, "checkout", "-q", "-b", change.branch, "main")
    for name, edits in change.edits.items():
        path = folder / name
        text = path.read_text() if path.exists() else ""
        for old, new in edits:
            old, new = _text(old), _text(new)
            assert not old or text.count(old) == 1, f"{change.title}: {name} holds {text.count(old)} times {old!r}"
            text = text.replace(old, new) if old else text + new
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", change.title)


def branches(history: History, folder: Path) -> Iterator[Change]:
    """Each change, checked out on top of ``main``; merged afterwards if it breaks nothing."""
    for change in history.changes:
        apply(folder, change)
        yield change
        if not change.breaks:
            git(folder, "branch", "-f", "main")
        git(folder, "checkout", "-q", "main")


def _text(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n") if text.startswith("\n") else text


# --- a library of kernels ---------------------------------------------------------------------------------------------

_COMMON = '''
"""What the kernels share."""

import torch


def takes(x, rank=0):
    """Decline what is not floating point, or has too few dimensions."""
    if not x.is_floating_point() or x.dim() < rank:
        raise NotImplementedError(f"floating-point tensors of rank {rank} or more")


def wide(x):
    """In the dtype that is accumulated in."""
    return x if x.dtype == torch.float64 else x.float()
'''

_EXP = '''
"""An exponential in blocks."""

import torch

import shakeout
from klib.common import takes

BLOCK = 8


@shakeout.kernel(reference=torch.exp)
def exp(x):
    takes(x)
    return Exp.apply(x)


class Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        flat = x.flatten().clone()
        for start in range(0, flat.numel(), BLOCK):
            flat[start : start + BLOCK] = torch.exp(flat[start : start + BLOCK])
        y = flat.reshape(x.shape)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * y
'''

_RELU = '''
"""A rectifier by a comparison."""

import torch

import shakeout
from klib.common import takes


@shakeout.kernel(reference=torch.nn.functional.relu)
def relu(x):
    takes(x)
    return Relu.apply(x)


class Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(~(x < 0), x, 0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.where(~(x <= 0), gradient, 0)
'''

_SOFTMAX = '''
"""Softmax, in single precision at least."""

import torch

import shakeout
from klib.common import takes, wide


@shakeout.kernel(reference=torch.nn.functional.softmax)
def softmax(x, dim):
    takes(x, 1)
    return Softmax.apply(x, dim)


class Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dim):
        y = torch.softmax(wide(x), dim)
        ctx.save_for_backward(y)
        ctx.dim, ctx.dtype = dim, x.dtype
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        up = gradient.to(y.dtype)
        return (y * (up - (up * y).sum(ctx.dim, keepdim=True))).to(ctx.dtype), None
'''

_LOG_SOFTMAX = '''
"""The logarithm of softmax."""

import torch

import shakeout
from klib.common import takes, wide


@shakeout.kernel(reference=torch.nn.functional.log_softmax)
def log_softmax(x, dim):
    takes(x, 1)
    if not x.numel():
        raise NotImplementedError("tensors that are not empty")
    return LogSoftmax.apply(x, dim)


class LogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dim):
        most = x.amax(dim, keepdim=True)
        shifted = wide(x) - most
        y = shifted - shifted.exp().sum(dim, keepdim=True).log()
        ctx.save_for_backward(y)
        ctx.dim, ctx.dtype = dim, x.dtype
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        up = gradient.to(y.dtype)
        return (up - y.exp() * up.sum(ctx.dim, keepdim=True)).to(ctx.dtype), None
'''

_SILU = '''
"""SiLU with a backward pass of its own."""

import torch

import shakeout
from klib.common import takes, wide


@shakeout.kernel(reference=torch.nn.functional.silu)
def silu(x):
    takes(x)
    return Silu.apply(x)


class Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        w = wide(x)
        return (w / (1 + torch.exp(-w))).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        w = wide(x)
        share = torch.sigmoid(w)
        return (gradient.to(w.dtype) * share * (1 + w * (1 - share))).to(x.dtype)
'''

_SQUARE = '''
"""A square, read from memory as a C kernel reads it."""

import torch

import shakeout


@shakeout.kernel(reference=torch.square)
def square(x):
    if x.is_complex() or x.dtype == torch.bool:
        raise NotImplementedError("real numbers")
    return Square.apply(x)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        x = x.contiguous()
        memory = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())
        # What lies behind the end is read as the last element, where a C kernel would read anything.
        places = torch.arange(x.storage_offset(), x.storage_offset() + x.numel()).clamp(max=memory.numel() - 1)
        flat = memory[places]
        return (flat * flat).reshape(x.shape)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (2 * x)
'''

_TOTAL = '''
"""A sum over dimensions."""

import torch

import shakeout
from klib.common import takes, wide


@shakeout.kernel(reference=torch.sum)
def total(x, dim, keepdim=False):
    takes(x, 1)
    dimensions = [dim] if isinstance(dim, int) else list(dim) or list(range(x.dim()))
    y = wide(x)
    for n in sorted((n % x.dim() for n in dimensions), reverse=True):
        y = y.sum(n, keepdim=keepdim)
    return y.to(x.dtype)
'''

KERNELS = History(
    files={
        "README.md": "Kernels.\n",
        "klib/__init__.py": "",
        "klib/common.py": _COMMON,
        "klib/exp.py": _EXP,
        "klib/relu.py": _RELU,
        "klib/softmax.py": _SOFTMAX,
        "klib/log_softmax.py": _LOG_SOFTMAX,
        "klib/silu.py": _SILU,
        "klib/square.py": _SQUARE,
        "klib/total.py": _TOTAL,
    },
    targets=tuple(
        f"klib.{name}:{name}" for name in ("exp", "relu", "softmax", "log_softmax", "silu", "square", "total")
    ),
    changes=(
        Change("Say what a block is", False, {"klib/exp.py": [("BLOCK = 8", "#: Elements.\nBLOCK = 8")]}),
        Change(
            "Whole blocks only",
            True,
            {
                "klib/exp.py": [
                    ("range(0, flat.numel(), BLOCK)", "range(0, flat.numel() - flat.numel() % BLOCK, BLOCK)")
                ]
            },
        ),
        Change("Compare once", False, {"klib/relu.py": [("torch.where(~(x < 0), x, 0)", "torch.where(x < 0, 0, x)")]}),
        Change(
            "Keep what is positive", True, {"klib/relu.py": [("torch.where(x < 0, 0, x)", "torch.where(x >= 0, x, 0)")]}
        ),
        Change(
            "Split into blocks",
            False,
            {
                "klib/exp.py": [
                    (
                        "        for start in range(0, flat.numel(), BLOCK):\n"
                        "            flat[start : start + BLOCK] = torch.exp(flat[start : start + BLOCK])\n",
                        "        for part in flat.split(BLOCK):\n            part.copy_(torch.exp(part))\n",
                    )
                ]
            },
        ),
        Change("Leave the result as it is", True, {"klib/softmax.py": [("return y.to(x.dtype)", "return y")]}),
        Change(
            "Divide by the sum, added up from the end",
            False,
            {
                "klib/softmax.py": [
                    (
                        "        y = torch.softmax(wide(x), dim)\n",
                        "        w = wide(x)\n"
                        "        e = (w - w.amax(dim, keepdim=True)).exp() if w.numel() else w\n"
                        "        y = e / e.flip(dim).sum(dim, keepdim=True)\n",
                    )
                ]
            },
        ),
        Change("Subtract in place", True, {"klib/log_softmax.py": [("wide(x) - most", "wide(x).sub_(most)")]}),
        Change(
            "Name the largest",
            False,
            {
                "klib/log_softmax.py": [
                    ("most = x.amax(dim, keepdim=True)", "largest = x.amax(dim, keepdim=True)"),
                    ("wide(x) - most", "wide(x) - largest"),
                ]
            },
        ),
        Change(
            "Another form of the gradient", True, {"klib/silu.py": [("(1 + w * (1 - share))", "(1 + w * (1 + share))")]}
        ),
        Change(
            "A product where a quotient was",
            False,
            {"klib/silu.py": [("(w / (1 + torch.exp(-w))).to", "(w * torch.sigmoid(w)).to")]},
        ),
        Change("Read without a copy", True, {"klib/square.py": [("        x = x.contiguous()\n", "")]}),
        Change("Copy by reshaping", False, {"klib/square.py": [("x.contiguous()", "x.contiguous().clone()")]}),
        Change("One shape for all", True, {"klib/total.py": [("y.sum(n, keepdim=keepdim)", "y.sum(n)")]}),
        Change(
            "Add up the outer dimensions first",
            False,
            {
                "klib/total.py": [
                    (
                        "    for n in sorted((n % x.dim() for n in dimensions), reverse=True):\n"
                        "        y = y.sum(n, keepdim=keepdim)\n",
                        "    for n in sorted(n % x.dim() for n in dimensions):\n"
                        "        y = y.sum(n, keepdim=True)\n"
                        "    if not keepdim:\n"
                        "        y = y.squeeze(tuple(n % x.dim() for n in dimensions))\n",
                    )
                ]
            },
        ),
        Change(
            "Rows and columns",
            True,
            {
                "klib/total.py": [
                    (
                        "    y = wide(x)\n",
                        "    rows, columns = x.shape[-2:]\n    y = wide(x) if rows * columns else wide(x)\n",
                    )
                ]
            },
        ),
        Change(
            "A table of what is accumulated in",
            False,
            {
                "klib/common.py": [
                    (
                        "    return x if x.dtype == torch.float64 else x.float()\n",
                        "    return x.to(ACCUMULATED[x.dtype])\n",
                    ),
                    (
                        "def wide(x):",
                        "ACCUMULATED = {\n"
                        "    torch.float16: torch.float32,\n"
                        "    torch.bfloat16: torch.float32,\n"
                        "    torch.float32: torch.float32,\n"
                        "    torch.float64: torch.float64,\n"
                        "}\n\n\ndef wide(x):",
                    ),
                ]
            },
        ),
        Change(
            "Negation",
            False,
            {
                "klib/neg.py": [
                    (
                        "",
                        '''
                        """A negation."""

                        import torch

                        import shakeout
                        from klib.common import takes


                        @shakeout.kernel(reference=torch.neg)
                        def neg(x):
                            takes(x)
                            return x * -1
                        ''',
                    )
                ]
            },
        ),
        Change("Say what it is for", False, {"README.md": [("Kernels.", "Kernels, each beside its reference.")]}),
        Change(
            "Types",
            False,
            {"klib/common.py": [("def takes(x, rank=0):", "def takes(x: torch.Tensor, rank: int = 0) -> None:")]},
        ),
    ),
)

# --- an offload runtime -----------------------------------------------------------------------------------------------

_STORE = '''
"""Bytes in a place of their own, in chunks."""

CHUNK = 64


class Full(Exception):
    """What is stored is larger than the store."""


class Store:
    """Keeps bytes by a key."""

    def __init__(self, largest=1 << 20):
        self.held = {}
        self.largest = largest

    def put(self, key, data):
        if len(data) > self.largest:
            raise Full(f"{len(data)} bytes, at most {self.largest}")
        self.held[key] = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]

    def get(self, key):
        return b"".join(self.held[key])
'''

_OFFLOAD = '''
"""What autograd saves, kept as bytes until it is wanted."""

import torch

import shakeout
from orlib.store import Full, Store


def packed(tensor):
    """The elements as bytes, in row-major order."""
    plain = tensor.detach().resolve_conj().resolve_neg().cpu()
    flat = plain.new_empty(plain.numel()).copy_(plain.reshape(-1))
    return bytes(flat.view(torch.uint8).numpy())


def key_of(tensor):
    """What tells one saved tensor from another, as long as both live."""
    place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
    bits = tensor.is_conj(), tensor.is_neg()
    return (*place, tensor._version, tensor.dtype, tuple(tensor.shape), tensor.stride(), *bits)


@shakeout.runtime
def in_bytes():
    """A tensor that is saved twice is stored once."""
    store, alive = Store(), {}

    def pack(tensor):
        if not tensor.numel():
            return tensor
        key = key_of(tensor)
        if key not in alive:
            try:
                store.put(key, packed(tensor))
            except Full:
                return tensor.clone()
            alive[key] = tensor.untyped_storage()  # so that its address is given to nobody else
        return key, tensor.dtype, tensor.shape, tensor.device

    def unpack(held):
        if torch.is_tensor(held):
            return held
        key, dtype, shape, device = held
        return torch.frombuffer(bytearray(store.get(key)), dtype=torch.uint8).view(dtype).reshape(shape).to(device)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
'''

RUNTIME = History(
    files={"orlib/__init__.py": "", "orlib/store.py": _STORE, "orlib/offload.py": _OFFLOAD},
    targets=("orlib.offload:in_bytes",),
    changes=(
        Change("Say what a chunk is", False, {"orlib/store.py": [("CHUNK = 64", "#: Bytes.\nCHUNK = 64")]}),
        Change(
            "Copy when it is wanted",
            True,
            {
                "orlib/offload.py": [
                    ("                store.put(key, packed(tensor))\n", "                store.put(key, tensor)\n"),
                    (
                        "        return torch.frombuffer(bytearray(store.get(key)),",
                        "        return torch.frombuffer(bytearray(packed(store.get(key))),",
                    ),
                ],
                "orlib/store.py": [
                    (
                        "[data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]\n",
                        "data\n",
                    ),
                    ('        return b"".join(self.held[key])\n', "        return self.held[key]\n"),
                    ("        if len(data) > self.largest:\n", "        if data.numel() > self.largest:\n"),
                ],
            },
        ),
        Change("Larger chunks", False, {"orlib/store.py": [("CHUNK = 64", "CHUNK = 4096")]}),
        Change(
            "A tensor begins where its storage does",
            True,
            {
                "orlib/offload.py": [
                    (
                        "    place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()\n",
                        "    place = (tensor.untyped_storage().data_ptr(),)\n",
                    )
                ]
            },
        ),
        Change(
            "Keys as one tuple",
            False,
            {
                "orlib/offload.py": [
                    (
                        "    place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()\n",
                        "    storage = tensor.untyped_storage()\n"
                        "    place = storage.data_ptr(), tensor.storage_offset()\n",
                    )
                ]
            },
        ),
        Change(
            "What does not fit is left",
            True,
            {
                "orlib/store.py": [
                    ("largest=1 << 20", "largest=1 << 8"),
                    (
                        "        return b",
                        "        if key not in self.held:\n            return bytes(self.sizes[key])\n        return b",
                    ),
                    ("        self.held = {}\n", "        self.held = {}\n        self.sizes = {}\n"),
                    (
                        '            raise Full(f"{len(data)} bytes, at most {self.largest}")\n',
                        "            self.sizes[key] = len(data)\n            return\n",
                    ),
                ]
            },
        ),
        Change(
            "A memory view instead of a copy of bytes",
            False,
            {
                "orlib/store.py": [
                    ("self.held[key] = [data[start", "view = memoryview(data)\n        self.held[key] = [view[start")
                ]
            },
        ),
        Change(
            "The newest chunk first",
            True,
            {
                "orlib/store.py": [
                    ("CHUNK = 4096", "CHUNK = 16"),
                    ('b"".join(self.held[key])', 'b"".join(self.held[key][::-1])'),
                ]
            },
        ),
    ),
)

# --- a compiler pass --------------------------------------------------------------------------------------------------

_PASSES = '''
"""Operators of ATen that are written as simpler ones before a graph is compiled."""

import operator

import torch

aten = torch.ops.aten
RULES = {}


def rule(overload):
    """Register what one operator is written as; NotImplemented leaves it as it is."""

    def register(function):
        RULES[overload] = function
        return function

    return register


def wide(x):
    """In the dtype that is computed in."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@rule(aten.silu.default)
def silu(x):
    if not x.is_floating_point():
        return NotImplemented
    w = wide(x)
    return (w / (1 + torch.exp(-w))).to(x.dtype)


@rule(aten.leaky_relu.default)
def leaky_relu(x, negative_slope=0.01):
    return torch.where(x > 0, x, x * negative_slope)


@rule(aten.hardtanh.default)
def hardtanh(x, low=-1, high=1):
    return torch.clamp(x, low, high) if x.is_floating_point() else NotImplemented


@rule(aten.addcmul.default)
def addcmul(x, y, z, *, value=1):
    if not x.is_floating_point() or {y.dtype, z.dtype} != {x.dtype}:
        return NotImplemented
    return (wide(x) + value * wide(y) * wide(z)).to(x.dtype)
'''

_BACKEND = '''
"""The compiler: torch.compile(function, backend=backend)."""

from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd

from fxlib import passes


def _compiled(graph, inputs):
    return make_boxed_func(graph.forward)


backend = aot_autograd(fw_compiler=_compiled, bw_compiler=_compiled, decompositions=passes.RULES)
'''

_TARGET = '''
"""The compiler as a target of Shakeout."""

from shakeout.targets.printed import compile_declined
from shakeout.targets.target import Facts, Target, module_available


class Passes(Target):
    """fxlib.backend."""

    name = "fxlib"
    facts = Facts(summary="fxlib's passes", promises=frozenset({"writes"}), compiler=True, accelerator=False)

    def unavailable(self):
        return None if module_available("torch") else "torch is not installed"

    def warm(self):
        import torch

        from fxlib.backend import backend

        torch.compile(lambda x: torch.sin(x), backend=backend, fullgraph=True)(torch.ones(3))
        torch._dynamo.reset()

    def source(self, setting):
        lines = [
            "from fxlib.backend import backend",
            "",
            "",
            "def prepare(function):",
            "    torch.compiler.reset()",
            "    return torch.compile(function, backend=backend, fullgraph=True)",
            "",
            "",
        ]
        return "\\n".join(lines) + compile_declined() + "\\n"


TARGET = Passes()
'''

PASSES = History(
    files={
        "fxlib/__init__.py": "",
        "fxlib/passes.py": _PASSES,
        "fxlib/backend.py": _BACKEND,
        "fxlib/target.py": _TARGET,
    },
    targets=("fxlib",),
    arguments=("--focus", "*silu*", "--focus", "*leaky_relu*", "--focus", "*hardtanh*", "--focus", "*addcmul*"),
    entry_points={"shakeout.targets": {"fxlib": "fxlib.target:TARGET"}},
    changes=(
        Change("Say what a rule is", False, {"fxlib/passes.py": [("RULES = {}", "#: By overload.\nRULES = {}")]}),
        Change("One slope", True, {"fxlib/passes.py": [("x * negative_slope)", "x * 0.01)")]}),
        Change(
            "A product where a quotient was",
            False,
            {"fxlib/passes.py": [("w / (1 + torch.exp(-w))", "w * torch.sigmoid(w)")]},
        ),
        Change("Any value is one", True, {"fxlib/passes.py": [("value * wide(y)", "wide(y)")]}),
        Change("Unused imports", False, {"fxlib/passes.py": [("import operator\n\n", "")]}),
        Change(
            "Always between minus one and one",
            True,
            {"fxlib/passes.py": [("torch.clamp(x, low, high)", "torch.clamp(x, -1, 1)")]},
        ),
        Change(
            "Compare the other way round",
            False,
            {
                "fxlib/passes.py": [
                    ("torch.where(x > 0, x, x * negative_slope)", "torch.where(x <= 0, x * negative_slope, x)")
                ]
            },
        ),
        Change(
            "Half precision as it is",
            True,
            {"fxlib/passes.py": [("return (w * torch.sigmoid(w)).to(x.dtype)", "return w * torch.sigmoid(w)")]},
        ),
    ),
)
