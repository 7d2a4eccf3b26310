"""A compiler whose pass rewrites operators, and what was done to it."""

from tests.histories.history import Change, History

__all__ = ["PASSES"]

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


@rule(aten.hardshrink.default)
def hardshrink(x, lambd=0.5):
    return torch.where((x >= -lambd) & (x <= lambd), 0, x)


@rule(aten.hardtanh.default)
def hardtanh(x, low=-1, high=1):
    return torch.clamp(x, low, high) if x.is_floating_point() else NotImplemented


@rule(aten.threshold.default)
def threshold(x, threshold, value):
    return torch.where(wide(x) <= threshold, value, x) if x.is_floating_point() else NotImplemented
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
    arguments=("--focus", "*silu*", "--focus", "*hardshrink*", "--focus", "*hardtanh*", "--focus", "*threshold*"),
    entry_points={"shakeout.targets": {"fxlib": "fxlib.target:TARGET"}},
    changes=(
        Change("Say what a rule is", False, {"fxlib/passes.py": [("RULES = {}", "#: By overload.\nRULES = {}")]}),
        Change(
            "One bound",
            True,
            {"fxlib/passes.py": [("(x >= -lambd) & (x <= lambd)", "(x >= -0.5) & (x <= 0.5)")]},
        ),
        Change(
            "A product where a quotient was",
            False,
            {"fxlib/passes.py": [("w / (1 + torch.exp(-w))", "w * torch.sigmoid(w)")]},
        ),
        Change("Nothing is zero", True, {"fxlib/passes.py": [("<= threshold, value, x)", "<= threshold, 0, x)")]}),
        Change("Unused imports", False, {"fxlib/passes.py": [("import operator\n\n", "")]}),
        Change(
            "Always between minus one and one",
            True,
            {"fxlib/passes.py": [("torch.clamp(x, low, high)", "torch.clamp(x, -1, 1)")]},
        ),
        Change(
            "Compare once",
            False,
            {"fxlib/passes.py": [("(x >= -lambd) & (x <= lambd)", "x.abs() <= lambd")]},
        ),
        Change(
            "Half precision as it is",
            True,
            {"fxlib/passes.py": [("return (w * torch.sigmoid(w)).to(x.dtype)", "return w * torch.sigmoid(w)")]},
        ),
    ),
)
