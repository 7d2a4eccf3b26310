"""What a file holds that somebody hands over, and how what is in it is called.

``NAME`` is a function, a module, a class of modules, a function without arguments that returns what is to be compiled
and its inputs, or a test. A file without ``NAME`` is what PyTorch's minifier leaves behind (``mod`` and
``load_args``), a script that Shakeout printed, or a script of somebody's, which is run; tests that it only defines are
run by pytest. A notebook is the script of its cells. A ``.pt2`` and a ``.onnx`` are read as data.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from shakeout.corpus.case import COTANGENTS, Cotangent
from shakeout.corpus.intake.archive import exported
from shakeout.corpus.intake.refusal import NotCaptured, blamed
from shakeout.fuzz.intake.compiled import Candidates
from shakeout.fuzz.intake.on_cpu import changed, without_gpu
from shakeout.fuzz.intake.sessions import take_program, watching_sessions
from shakeout.fuzz.intake.wanted import Wanted
from shakeout.targets.packages import uninstalled

__all__ = ["CannotRead", "read"]

#: What gives the inputs of a NAME, in the order in which it is looked for.
INPUTS = ("inputs", "example_inputs", "get_inputs", "get_example_inputs")


#: A line that is a command of IPython's, with what it is indented by.
_COMMAND = re.compile(r"^(\s*)[%!].*$")

#: Commands on top of a cell beneath which is Python.
_OF_PYTHON = ("%%time", "%%timeit", "%%capture", "%%prun")


class CannotRead(Exception):
    """A file in which nothing is found that could be imported; the message says what was expected."""


def read(path: Path, name: str, candidates: Candidates) -> None:
    """Find what a file compiles, by running it.

    Raises:
        CannotRead: there is nothing of the kind.
    """
    sys.argv = [str(path)]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # behind what is installed, as everywhere
    if path.suffix == ".pt2":
        _archive(path, candidates)
        return
    if path.suffix == ".onnx":
        if missing := uninstalled(("onnx", "onnx")):
            raise CannotRead(f"{path.name} is read with ONNX's own package: {missing}")
        take_program(candidates, path)
        return
    if path.suffix == ".ipynb":
        path = _cells(path, candidates.directory)
    if candidates.cpu:
        _defined(path)  # a syntax error is told with its line
        here = candidates.directory / path.name
        here.write_text(changed(path.read_text(encoding="utf-8")), encoding="utf-8")
        with without_gpu():
            _source(here, name, candidates)
    else:
        _source(path, name, candidates)


def _source(path: Path, name: str, candidates: Candidates) -> None:
    if name and _is_test(name) and name in _defined(path):
        _tests(path, name, candidates)
        return
    if name:
        _named(_module(path, candidates), name, candidates)
        return
    defined = _defined(path)
    if "cotangent" in defined:
        candidates.cotangent = _cotangent(path)
    if {"mod", "load_args"} <= defined:
        _minified(path, candidates)
    elif {"bind", "arguments", "CALLS", "prepare"} <= defined:
        _printed(path, candidates)
    else:
        _script(path, defined, candidates)


def _cells(path: Path, folder: Path) -> Path:
    """The code of a notebook as a script in another folder, without what only a notebook understands."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CannotRead(f"{path.name} is no notebook: expected JSON with cells, as Jupyter writes it") from None
    if not code:
        raise CannotRead(f"{path.name} has no cells of code")
    script = folder / f"{path.stem}.py"
    script.write_text("\n\n".join(map(_plain, code)), encoding="utf-8", errors="replace")
    return script


def _plain(cell: str) -> str:
    """A cell as Python, which most are as they stand; of others without what only a notebook understands.

    That are the commands of IPython's (``%time``, ``!pip``), each a line, and whole cells in another language.
    """
    if _is_python(cell):  # where a line that begins with % is the second half of an expression
        return cell
    lines = cell.split("\n")
    first = next((line.split()[0] for line in lines if line.strip()), "")
    if first.startswith("%%") and first not in _OF_PYTHON:
        return "\n" * cell.count("\n")
    kept = "\n".join(_COMMAND.sub(r"\1pass", line) for line in lines)
    # IPython takes a command that is indented for no reason.
    return kept if _is_python(kept) else "\n".join(_COMMAND.sub("pass", line) for line in lines)


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _defined(path: Path) -> set[str]:
    """The names that a file defines at its top level, without running it."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise CannotRead(f"{path.name}:{error.lineno}: a syntax error: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):  # not UTF-8, zero bytes, or nested too deep
        raise CannotRead(f"{path.name} is no Python source") from None
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return found


def _cotangent(path: Path) -> Cotangent:
    """What a script that Shakeout printed asks for gradients with."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="unusual_cotangent"), args=[_, ast.Constant(value=kind)]):
                pass
            case ast.Assign(targets=[ast.Attribute(attr="cotangent")], value=ast.Constant(value=kind)):
                pass
            case _:
                continue
        if kind in COTANGENTS:
            return kind
    return "whole"


def _module(path: Path, candidates: Candidates) -> ModuleType:
    """The file as a module, which does what it does when it is imported."""
    _defined(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise CannotRead(f"{path.name} is no Python source: expected a file FILE.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    with candidates.watching():
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            raise CannotRead(_raised(error, f"importing {path.name}")) from None
    return module


def _named(module: ModuleType, name: str, candidates: Candidates) -> None:
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise CannotRead(f"{Path(str(module.__file__)).name} has no {name!r}; it has {', '.join(known) or 'nothing'}")
    found = getattr(module, name)
    label = f"{name} ({Path(str(module.__file__)).name})"
    before = len(candidates.found) + len(candidates.refused)
    with candidates.watching():
        try:
            function, args, kwargs = _subject(module, name, found)
        except NotCaptured as error:
            raise CannotRead(str(error)) from None
        if isinstance(getattr(function, "_orig_mod", None), torch.nn.Module) or hasattr(function, "__wrapped__"):
            function(*args, **kwargs)  # compiled in the file: calling it is what takes it, with what it is compiled for
        if len(candidates.found) + len(candidates.refused) == before:
            candidates.take(function, args, kwargs, label)


def _subject(module: ModuleType, name: str, found: Any) -> tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]:
    """What is to be compiled, and its arguments."""
    maker = next((key for key in INPUTS if hasattr(module, key) and key != name), None)
    if inspect.isclass(found) and issubclass(found, torch.nn.Module):
        initial = getattr(module, "get_init_inputs", tuple)
        found = _made(name, found, initial() if callable(initial) else initial)
    elif not isinstance(found, torch.nn.Module) and callable(found) and not _required(found):
        made = _made(name, found, ())
        if isinstance(made, tuple) and len(made) == 2 and callable(made[0]):
            return (made[0], *_arguments(made[1]))
        if maker is None:
            raise CannotRead(
                f"{name}() returns a {type(made).__name__}; a function without arguments has to return what is to be "
                "compiled and its inputs: (function or module, inputs)"
            )
    if not callable(found):
        raise CannotRead(f"{name} is a {type(found).__name__}; expected a function or a torch.nn.Module")
    if maker is None:
        raise CannotRead(
            f"there are no inputs for {name}: define inputs() in the file, which returns its arguments as a tuple (or "
            f"its keyword arguments as a dictionary), or a function that returns ({name}, inputs)"
        )
    given = getattr(module, maker)
    return (found, *_arguments(_made(maker, given, ()) if callable(given) else given))


def _required(function: Callable[..., Any]) -> bool:
    """Whether a function has to be given something."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters)


def _arguments(given: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if isinstance(given, dict):
        return (), given
    return (tuple(given) if isinstance(given, tuple | list) else (given,)), {}


def _made(name: str, function: Callable[..., Any], args: Sequence[Any]) -> Any:
    try:
        return function(*args)
    except (Exception, SystemExit) as error:
        raise CannotRead(_raised(error, f"{name}()")) from None


def _archive(path: Path, candidates: Candidates) -> None:
    """A program of ``torch.export.save``, read as data."""
    try:
        program = exported(path)
    except NotCaptured as error:
        raise CannotRead(str(error)) from None
    candidates.notes.extend(program.notes)
    args, kwargs = program.example
    candidates.take(program, args, kwargs, path.name)


def _minified(path: Path, candidates: Candidates) -> None:
    """What PyTorch's minifier and its ``fx_graph_runnable.py`` leave behind."""
    from torch._dynamo.debug_utils import InputReader

    module = _module(path, candidates)
    saved, backend = _said(path, "save_dir"), _said(path, "backend")
    folder = str(path.parent / saved) if saved and (path.parent / saved).is_dir() else None
    reader = InputReader(save_dir=folder)
    if folder is None:
        candidates.notes.append("its inputs are not beside it; random ones are taken")
    try:
        module.load_args(reader)
    except Exception as error:
        raise CannotRead(_raised(error, "load_args()")) from None
    text = path.read_text(encoding="utf-8")
    with torch.set_grad_enabled("torch.no_grad()" not in text):
        wanted = Wanted(backend or "inductor")
        candidates.take(module.mod, reader.args, {}, f"mod ({path.name})", wanted)


def _said(path: Path, keyword: str) -> str:
    """What a minifier's file gives for a keyword argument, as text; empty for nothing."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == keyword and isinstance(node.value, ast.Constant):
            return node.value.value if isinstance(node.value.value, str) else ""
    return ""


def _printed(path: Path, candidates: Candidates) -> None:
    """A script that Shakeout printed, perhaps edited by hand."""
    module = _module(path, candidates)
    with candidates.watching():
        try:
            tensors = module.CALLS[0]()
            network = module.bind(tensors)
            function = module.prepare(network)
            within = getattr(network, "within", lambda called: called)
            wants = any(tensor.requires_grad for tensor in tensors)
            with torch.set_grad_enabled(wants):
                within(function)(*module.arguments(tensors))
        except (Exception, SystemExit) as error:
            raise CannotRead(_raised(error, path.name)) from None
        if not candidates.found and not candidates.refused:
            raise CannotRead(f"{path.name} prepares its network otherwise than by torch.compile; import its case.json")


def _script(path: Path, defined: set[str], candidates: Candidates) -> None:
    text = path.read_text(encoding="utf-8")
    stopped = ""
    with candidates.watching(), watching_sessions(candidates, text):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as error:
            if error.code not in (None, 0):
                candidates.notes.append(f"the script ends with status {error.code}")
        except Exception as error:
            stopped = _raised(error, "the script")
            candidates.notes.append(stopped)
    if candidates.found or candidates.refused:
        return
    if any(map(_is_test, defined)) and not stopped:
        _tests(path, "", candidates)
        return
    uncalled = candidates.uncalled()
    if stopped:
        what = "stops before it calls anything that torch.compile gave it"
        if "cuda" in stopped.lower() and not torch.cuda.is_available():
            what += " (there is no GPU here: with --cpu it runs on the CPU)"
    elif uncalled:
        what = f"was run and never calls what it compiles: {', '.join(uncalled)}"
    else:
        what = "was run and calls nothing that torch.compile gave it, nor a session of ONNX Runtime"
    names = ", ".join(f"{path.name}:{name}" for name in sorted(defined)) or "nothing"
    told = "".join(f"\n  {note}" for note in candidates.notes)
    raise CannotRead(f"{path.name} {what}{told}\nName what is to be compiled (FILE:NAME); it defines {names}")


def _is_test(name: str) -> bool:
    """Whether pytest takes something of this name for a test."""
    return name.startswith(("test", "Test"))


def _tests(path: Path, name: str, candidates: Candidates) -> None:
    """Tests that a file defines, run by pytest in this process; without a name all of them."""
    what = f"{path.name}:{name}" if name else f"the tests of {path.name}"
    try:
        import pytest
    except ImportError:
        raise CannotRead(f"{what} would be run by pytest, which is not installed: pip install pytest") from None
    # Its own options, and other processes, have no place here; what fails is what the file is about.
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", "--rootdir", str(path.parent)]
    with candidates.watching(), watching_sessions(candidates, path.read_text(encoding="utf-8")):
        status = pytest.main([*options, f"{path}::{name}" if name else str(path)])
    if not candidates.found and not candidates.refused:
        words = {0: "passed", 1: "failed", 5: "are none"}.get(int(status), f"could not be run (status {int(status)})")
        raise CannotRead(
            f"{what} {'was' if name else 'were'} run by pytest ({words}), and nothing that torch.compile gave was "
            "called. Name what is to be compiled (FILE:NAME)"
        )


def _raised(error: BaseException, what: str) -> str:
    said = (str(error).strip().splitlines() or [""])[0][:300]
    place = blamed(error.__traceback__)
    where = f"{place}: " if place is not None else ""
    return f"{where}{what} raises {type(error).__name__}: {said}" + (
        f"\n    {place.text}" if place is not None and place.text else ""
    )
