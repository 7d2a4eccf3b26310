"""Shakeout shakes the bugs out of deep-learning stacks.

The public names are loaded when they are first used: whoever declares a kernel, or asks ``shakeout --help``,
does not pay for the rest.
"""

# What a type checker takes for true; ``typing`` itself would be looked for in the working directory by
# ``python -m shakeout``.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from shakeout import testing
    from shakeout.fuzz.commands.public import run
    from shakeout.fuzz.intake.public import capture, check
    from shakeout.fuzz.plugin.strategies import cases, judge
    from shakeout.generators.strategies import programs, tensors
    from shakeout.targets.compilers.declare import rewrite
    from shakeout.targets.kernels.declare import kernel
    from shakeout.targets.offload.declare import runtime

    __version__: str

__all__ = [
    "__version__",
    "capture",
    "cases",
    "check",
    "judge",
    "kernel",
    "programs",
    "rewrite",
    "run",
    "runtime",
    "tensors",
    "testing",
]

_PUBLIC = {
    "capture": ("shakeout.fuzz.intake.public", "capture"),
    "cases": ("shakeout.fuzz.plugin.strategies", "cases"),
    "check": ("shakeout.fuzz.intake.public", "check"),
    "judge": ("shakeout.fuzz.plugin.strategies", "judge"),
    "kernel": ("shakeout.targets.kernels.declare", "kernel"),
    "programs": ("shakeout.generators.strategies", "programs"),
    "rewrite": ("shakeout.targets.compilers.declare", "rewrite"),
    "run": ("shakeout.fuzz.commands.public", "run"),
    "runtime": ("shakeout.targets.offload.declare", "runtime"),
    "tensors": ("shakeout.generators.strategies", "tensors"),
    "testing": ("shakeout.testing", ""),  # the module itself
}

# Hidden from type checkers, which would otherwise accept any misspelt name.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name == "__version__":
            value = _version()
        elif name in _PUBLIC:
            from importlib import import_module

            module, attribute = _PUBLIC[name]
            value = getattr(import_module(module), attribute) if attribute else import_module(module)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("shakeout")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"
