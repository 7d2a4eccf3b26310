"""What a user declared: found by ``MODULE:NAME``, and the only thing of a user's that a stored case may call.

A case may come from anybody, so its text must not decide what is imported or runs here. A module is imported only if
somebody named it on a command line (``allow``), now or earlier: that is remembered by the module's name and file, so
that findings of one's own kernel go on being replayed, minimised and bisected, wherever they lie, and a file of a
stranger imports nothing. Its source has to mention Shakeout as well, and of what is in it only an object made by one of
the decorators is ever called.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import hashlib
import importlib
import inspect
import keyword
import os
import re
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from shakeout.corpus import cache
from shakeout.corpus.interpreter import add_working_directory

__all__ = [
    "ALLOWED",
    "Accuracy",
    "CannotImport",
    "Declared",
    "Example",
    "Invariant",
    "InvariantBroken",
    "Kernel",
    "NotAllowed",
    "NotDeclared",
    "allow",
    "check",
    "find",
    "fingerprint",
    "import_lines",
    "local_name",
]

#: What a kernel says of its rounding errors.
Accuracy = Literal["elementwise", "normwise"]

#: The environment variable that lists, separated by commas, modules of users that may be imported; workers inherit it.
ALLOWED = "SHAKEOUT_ALLOW"

#: What holds for every call of a kernel: given its function and the arguments, what is wrong, or None.
Invariant = Callable[..., str | None]

#: Modules that a file may name without anybody's word: Shakeout's own kernels and runtimes, which it is made of anyway.
SHIPPED = "shakeout.targets."

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)

_AS_KERNEL = "put @shakeout.kernel(reference=...) above it, as the outermost decorator"
_AS_RUNTIME = "put @shakeout.runtime above it, as the outermost decorator"
_AS_REWRITE = "put @shakeout.rewrite(pattern=..., examples=...) above it, as the outermost decorator"
_AS_FUNCTION = (
    f"it is a function; if it is a kernel, {_AS_KERNEL}; if it makes context managers, {_AS_RUNTIME}; if it is a pass "
    f"over graphs of torch.fx, {_AS_REWRITE}"
)


class NotDeclared(ValueError):
    """A name behind which there is nothing that a user declared; the message says what to do."""


class CannotImport(NotDeclared):
    """A module that is there, and cannot be read or imported; the message says why."""


class NotAllowed(NotDeclared):
    """A name that nobody gave on a command line: only a file asks for it. The message says how to allow it."""


class InvariantBroken(Exception):
    """What a kernel's invariant said is wrong; the message is the invariant's name and its words."""


class Declared:
    """What the decorators make; nothing else is called on behalf of a stored case."""


class Example(NamedTuple):
    """One call that a kernel accepts."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Kernel(Declared):
    """A function beside its reference; called, it is the function.

    Attributes:
        function: the kernel itself.
        reference: a callable that takes the same arguments and is right.
        examples: calls that both accept, made on first use.
        strides: whether results must lie in memory as the reference's do.
        accuracy: whether errors are small beside each element, or beside the largest one.
        invariants: what holds for every call beside that.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        reference: Callable[..., Any],
        make_examples: Callable[[], tuple[Example, ...]],
        strides: bool,
        accuracy: Accuracy = "elementwise",
        invariants: tuple[Invariant, ...] = (),
    ) -> None:
        # Not the dictionary: that of a custom operator holds the operator's own state.
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.reference = reference
        self.strides = strides
        self.accuracy = accuracy
        self.invariants = invariants
        self._make_examples = make_examples

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kernel."""
        return self.function(*args, **kwargs)

    def checked(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kernel, and see that its invariants hold on the same arguments.

        Raises:
            InvariantBroken: one does not.
        """
        import torch

        with torch.no_grad():
            given = [_detached(one) for one in args]
            named = {key: _detached(one) for key, one in kwargs.items()}
        result = self.function(*args, **kwargs)
        for invariant in self.invariants:
            with contextlib.suppress(NotImplementedError), torch.random.fork_rng(devices=[]):
                if said := invariant(
                    self.function, *map(_detached, given), **{k: _detached(v) for k, v in named.items()}
                ):
                    raise InvariantBroken(f"{getattr(invariant, '__name__', invariant)}: {said}")
        return result

    def __getattr__(self, name: str) -> Any:
        # So that @my_kernel.register_fake and the like go on working on a declared custom operator.
        if name == "function":
            raise AttributeError(name)
        return getattr(self.function, name)

    def __repr__(self) -> str:
        return f"<shakeout.kernel {self.function!r}>"

    @functools.cached_property
    def examples(self) -> tuple[Example, ...]:
        """The example calls; raises RuntimeError where the user's function that makes them fails."""
        try:
            return self._make_examples()
        except Exception as error:
            raise RuntimeError(f"making the examples of {self!r} fails: {type(error).__name__}: {error}") from error


def _detached(value: Any) -> Any:
    """A tensor as it is, in memory of its own and without a past."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return type(value)(map(_detached, value)) if type(value) in (list, tuple) else value


@functools.cache
def find(name: str) -> Declared:
    """What is declared as ``MODULE:NAME``.

    Raises:
        NotDeclared: with what is missing and what to do about it.
    """
    check(name)
    module_name, attribute = _split(name)
    module = sys.modules.get(module_name) or _imported(module_name, attribute)
    if not hasattr(module, attribute):
        raise NotDeclared(f"{module_name} has no {attribute!r}{_others(module)}")
    found = getattr(module, attribute)
    if not isinstance(found, Declared):
        raise NotDeclared(f"{name} is not declared for Shakeout: {_advice(found)}")
    return found


def allow(name: str) -> None:
    """Say that a module may be imported: somebody named it, as ``MODULE`` or ``MODULE:NAME``.

    Holds for this process and those that it starts, and is remembered for later ones where the cache can be written.
    """
    module = name.partition(":")[0]
    os.environ[ALLOWED] = ",".join(sorted({*_listed(), module}))
    with contextlib.suppress(OSError, NotDeclared):
        if (mark := _mark(module)) is not None:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def check(name: str) -> None:
    """Raise NotDeclared unless ``MODULE:NAME`` may be looked for; imports nothing.

    It may if its module was allowed, now or earlier, or if this process has loaded the module and the name is declared.
    """
    module, attribute = _split(name)
    if module in _listed() or module.startswith(SHIPPED):
        return
    # Not by getattr: a module may import what it is asked for.
    if isinstance(vars(sys.modules.get(module, object)).get(attribute), Declared):
        return
    with contextlib.suppress(Exception):  # of finders
        if (mark := _mark(module)) is not None and mark.exists():
            return
    raise NotAllowed(
        f"{name} is named by a file only, and a file imports no module; if you trust {module}, "
        f"add --allow {module} (or set {ALLOWED}={module})"
    )


def fingerprint(name: str) -> str | None:
    """The beginning of a hash of the file that holds ``MODULE:NAME``, which is not imported; None if there is none."""
    try:
        _look_here()
        spec = _spec(_split(name)[0])
        if spec is None or not spec.origin:
            return None
        with open(spec.origin, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()[:12]
    except Exception:  # of finders as well
        return None


def _listed() -> list[str]:
    return [word.strip() for word in os.environ.get(ALLOWED, "").split(",") if word.strip()]


def _mark(module: str) -> Path | None:
    """The empty file that remembers that a module was allowed, by its name and where it lies: none takes its place."""
    if not _MODULE.fullmatch(module):
        return None
    _look_here()
    spec = _spec(module)
    if spec is None or not spec.origin or not os.path.isfile(spec.origin):
        return None
    key = hashlib.sha256(f"{module}\n{os.path.realpath(spec.origin)}".encode()).hexdigest()
    return cache.directory() / "allowed" / key[:32]


def _split(name: str) -> tuple[str, str]:
    module, _, attribute = name.partition(":")
    words = [*module.split("."), attribute]
    if not _MODULE.fullmatch(module) or not _MODULE.fullmatch(attribute) or "." in attribute:
        raise NotDeclared(f"{name!r} is not of the form MODULE:NAME, as mypackage.kernels:my_conv2d is")
    if any(map(keyword.iskeyword, words)):
        raise NotDeclared(f"{name!r} contains a keyword of Python")
    return module, attribute


def _imported(name: str, attribute: str) -> ModuleType:
    """The module, imported only if its source mentions Shakeout."""
    _look_here()
    try:
        spec = _spec(name)
        source = None if spec is None or spec.loader is None else _source(spec)
    except Exception as error:
        raise CannotImport(f"{name} cannot be read: {type(error).__name__}: {error}") from error
    if spec is None:
        raise NotDeclared(
            f"there is no module {name}, neither in the working directory ({os.getcwd()}) nor among what is installed"
        )
    # What is shipped is ours, and where pytest loads it nobody can read its source.
    if not name.startswith(SHIPPED) and (source is None or "shakeout" not in source):
        raise NotDeclared(f"{name}:{attribute} is not declared for Shakeout: {_advice_unread(source or '', attribute)}")
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise CannotImport(f"importing {name} fails: {type(error).__name__}: {error}") from error


def _look_here() -> None:
    """The one place where the user's working directory becomes importable: behind all that is installed."""
    add_working_directory()
    importlib.invalidate_caches()


def _spec(name: str) -> ModuleSpec | None:
    """Where a module lies; unlike ``importlib.util.find_spec`` this imports no parent package."""
    path: list[str] | None = None
    *parents, last = name.split(".")
    for depth, part in enumerate(parents):
        spec = _found(".".join(parents[: depth + 1]), path)
        if spec is not None and spec.origin is not None:
            locations = spec.submodule_search_locations
            path = None if locations is None else list(locations)
        else:  # a folder without ``__init__.py``
            folders = [os.path.join(place, part) for place in (sys.path if path is None else path)]
            path = [folder for folder in folders if os.path.isdir(folder)]
        if not path:
            return None  # what should hold it is no package
    return _found(".".join((*parents, last)), path)


def _found(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        # Of a folder without ``__init__.py`` in another one Python asks the parent, which is not imported.
        with contextlib.suppress(KeyError):
            if hasattr(finder, "find_spec") and (spec := finder.find_spec(name, path)) is not None:
                return spec
    return None


def _source(spec: ModuleSpec) -> str | None:
    read = getattr(spec.loader, "get_source", None)
    return None if read is None else read(spec.name)


def _others(module: ModuleType) -> str:
    declared = sorted(name for name, value in vars(module).items() if isinstance(value, Declared))
    return f"; declared there: {', '.join(declared)}" if declared else "; nothing is declared there"


def _advice(found: object) -> str:
    """Which decorator an object wants."""
    inner = inspect.unwrap(found) if callable(found) else found
    if inspect.isgeneratorfunction(inner) or (inspect.isclass(inner) and hasattr(inner, "__enter__")):
        return f"it makes context managers, so {_AS_RUNTIME}"
    if inspect.isfunction(inner) or type(inner).__name__ in ("CustomOpDef", "OpOverload", "OpOverloadPacket"):
        return _AS_FUNCTION
    return f"it is a {type(found).__name__}, and neither a kernel nor a function that makes context managers or a pass"


def _advice_unread(source: str, attribute: str) -> str:
    """Which decorator a definition wants, in a module that was not imported."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return f"its module has a syntax error in line {error.lineno}"
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == attribute:
            return f"if it is a context manager, {_AS_RUNTIME}"
        if isinstance(node, ast.FunctionDef) and node.name == attribute:
            if any(isinstance(part, ast.Yield) for part in ast.walk(node)):
                return f"it makes context managers, so {_AS_RUNTIME}"
            return _AS_FUNCTION
    return (
        "its module does not mention shakeout and was not imported; name the module that holds the "
        "@shakeout.kernel(reference=...), @shakeout.runtime or @shakeout.rewrite(pattern=..., examples=...)"
    )


# --- in source text ---------------------------------------------------------------------------------------------------

_TAKEN = frozenset(
    "torch math sys os subprocess contextlib nan inf bind arguments program Network CALLS LAYOUTS TOLERANCES prepare "
    "declined tensors self network".split()
)


def local_name(name: str) -> str:
    """The name by which source text calls it: its own, unless a script needs that one for something else."""
    from shakeout.corpus import standalone

    attribute = _split(name)[1]
    taken = attribute in _TAKEN or hasattr(standalone, attribute) or hasattr(builtins, attribute)
    if taken or re.fullmatch(r"[xpvs]\d+|inputs_\d+", attribute):
        return f"{attribute}_declared"
    return attribute


def import_lines(name: str) -> list[str]:
    """The lines that bring it into a script, which is run in the directory that the campaign ran in."""
    module, attribute = _split(name)
    local = local_name(name)
    return [
        'sys.path.append("")  # modules of the working directory',
        f"from {module} import {attribute}" + (f" as {local}" if local != attribute else ""),
    ]
