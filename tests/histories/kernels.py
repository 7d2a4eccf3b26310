"""A library of kernels, and what was done to it."""

from tests.histories.history import Change, History

__all__ = ["KERNELS"]

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
