"""Commands for what people hand over: ``import`` and ``check``."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shakeout.fuzz.commands.places import Add, Mistake, add_allow
from shakeout.fuzz.ground.exits import Exit

if TYPE_CHECKING:
    from shakeout.fuzz.intake.importing import Imported, Written

__all__ = ["add_commands", "read_for"]

#: Where cases are written if nobody says.
OUTPUT = Path("imported")

#: Seconds for the file: what it compiles is not compiled, so it is torch that is loaded, and the script's own work.
SECONDS = 300.0

_FILES = """
FILE is run in a process of its own, as you would run it; so do not import what you would not run. It may be

  a script       what it gives to torch.compile is not compiled, but taken: each callable with its real arguments,
                 the blocks around the call, and the settings as knobs; what it gives to torch.export.export and to
                 AOTInductor likewise; of a step of training what computes the loss, up to its backward pass;
                 a script that only defines tests is run by pytest
  FILE:NAME      NAME is a function or a torch.nn.Module, and inputs(), example_inputs or get_inputs() of the file
                 gives its arguments (a tuple, or a dictionary of keyword arguments); or NAME is a function without
                 arguments that returns (function or module, inputs); or a test, which pytest runs
  a .ipynb       the script of its cells, without %time and !pip
  a repro.py     of PyTorch's minifier, or an fx_graph_runnable.py
  a script       that Shakeout printed, edited or not
  a .pt2         of torch.export.save, which is read as data: nothing of it runs but operators of PyTorch's library
  a .onnx        model, read as data, node by node, for the targets that take ONNX models; with --target of one that
                 takes programs of torch, a model whose operators have a plain form there. Of a script, what its
                 sessions of ONNX Runtime are fed is a case as well

A case is proven to be the same program, bit for bit, or it is refused with the line that is to blame.
"""


def add_commands(add: Add) -> None:
    """Add them to the parser."""
    parser = add("import", _import, "make cases of what a file compiles", "shakeout import bug.py")
    _of_file(parser)
    parser.add_argument("--target", metavar="NAME", help="of the cases (default: the one that the file compiles for)")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help=f"default: {OUTPUT}/")
    check = add(
        "check", _check, "run what a file compiles on compilers, and say what differs", "shakeout check bug.py:case"
    )
    _of_file(check)
    check.add_argument(
        "--target", action="append", metavar="NAME", help="may be repeated (default: every compiler that is installed)"
    )


def _of_file(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description}\n{_FILES}"
    parser.add_argument(
        "file", metavar="FILE[:NAME]", help="a Python file or notebook, and what of it; or a .pt2 or .onnx"
    )
    parser.add_argument("--mode", choices=("inference", "training"), help="default: what each call says")
    parser.add_argument(
        "--refusals",
        action="store_true",
        help="what a target refuses as not supported, a graph break say, is a difference as well",
    )
    parser.add_argument(
        "--inputs", type=Path, metavar="FILE.npz", help="what a .onnx is fed, arrays by name (default: drawn values)"
    )
    parser.add_argument("--cpu", action="store_true", help="what the file puts on a GPU stays on the CPU")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"that it may take (default {SECONDS:.0f})")
    add_allow(parser)


def _import(options: argparse.Namespace) -> int:
    found = _imported(options, options.output, options.target or "")
    for one in found.cases:
        _show(one)
        print(f"  case    {one.path}")
    _rest(found)
    if not found.cases:
        raise Mistake("nothing was imported")
    print(f"Next: shakeout check, or shakeout replay {found.cases[0].path}")
    return Exit.OK


def _check(options: argparse.Namespace) -> int:
    from shakeout.fuzz.intake.checking import check_case, chosen
    from shakeout.fuzz.running.case_file import SECONDS as EACH
    from shakeout.targets.target import UnknownTarget

    _known(options.target or ())
    differs = refused = False
    with tempfile.TemporaryDirectory(prefix="shakeout-check-") as scratch:
        found = _imported(options, Path(scratch), read_for(options.file, options.target or ()))
        asked: set[tuple[str, str]] = set()
        for one in found.cases:
            _show(one)
            # A script mostly compiles one thing for several targets, each of which is a case.
            try:
                wanted = chosen(one.case, options.target or ())
            except UnknownTarget as error:
                raise Mistake(str(error)) from None
            names = [name for name in wanted if (_on(one, name), name) not in asked]
            asked.update((_on(one, name), name) for name in names)
            for checked in check_case(one.case, names, EACH):
                said = "\n".join(checked.lines).splitlines() or [""]  # the rest of an exception's says replay
                print(f"  {checked.target:<12} {checked.status}: {said[0]}", flush=True)
                differs, refused = differs or checked.status == "differs", refused or checked.refused
        _rest(found)
    if not found.cases:
        raise Mistake("nothing was imported, so nothing was compared")
    if refused:
        print("With --refusals, what a target refuses is a difference as well.", file=sys.stderr)
    return Exit.FOUND if differs else Exit.OK


def read_for(file: str, names: Sequence[str]) -> str:
    """The target for which ``check`` has a file read; empty for the one that it says itself.

    A model becomes a program of torch if it is only targets of such programs that are asked.
    """
    from shakeout.targets.registry import within
    from shakeout.targets.target import UnknownTarget

    if not names or not file.endswith(".onnx"):
        return ""
    for name in names:
        with contextlib.suppress(UnknownTarget):
            within("onnx", name)
            return ""
    return names[0]


def _on(one: Written, name: str) -> str:
    """The id of what runs on a target."""
    from shakeout.fuzz.intake.checking import on

    return on(one.case, name).id


def _known(names: Sequence[str]) -> None:
    """Raise UnknownTarget before anything is run."""
    from shakeout.targets.registry import target

    for name in names:
        target(name)


def _imported(options: argparse.Namespace, output: Path, target: str) -> Imported:
    from shakeout.fuzz.campaign.config import Config
    from shakeout.fuzz.ground.progress import interruptible
    from shakeout.fuzz.intake.importing import CannotImport, import_file

    path, name = _split(options.file)
    if not options.seconds > 0:
        raise Mistake(f"--seconds: expected a positive number, found {options.seconds!r}")
    _known([target] if target else ())
    memory = Config().memory_limit
    print(
        f"running {path} in a process of its own, for {options.seconds:.0f} s and {memory / (1 << 30):.0f} GiB at most",
        file=sys.stderr,
        flush=True,
    )
    with interruptible() as stop:
        try:
            return import_file(
                path,
                name,
                output=output,
                target=target,
                mode=options.mode or "",
                refusals=options.refusals,
                inputs=_inputs(options, path),
                cpu=options.cpu,
                seconds=options.seconds,
                memory=memory,
                stop=stop,
            )
        except CannotImport as error:
            if stop.asked:
                raise KeyboardInterrupt from None
            raise Mistake(str(error)) from None


def _inputs(options: argparse.Namespace, path: Path) -> Path | None:
    """The file of what a model is fed."""
    file: Path | None = options.inputs
    if file is not None and path.suffix != ".onnx":
        raise Mistake(f"--inputs goes with a model (FILE.onnx), and {path} is none")
    if file is not None and not file.is_file():
        raise Mistake(f"--inputs: {str(file)!r} is no file")
    return file


def _split(text: str) -> tuple[Path, str]:
    """FILE and NAME."""
    file, colon, name = text.rpartition(":")
    if not colon or (not name.isidentifier() and Path(text).exists()):
        file, name = text, ""
    path = Path(file)
    if not path.is_file():
        raise Mistake(f"{file!r} is no file")
    if path.suffix in (".pt2", ".onnx") and not name:
        return path, ""
    if path.suffix not in (".py", ".ipynb"):
        raise Mistake(
            f"{file}: expected a Python file (FILE.py) or notebook (FILE.ipynb), a program of torch.export.save "
            "(FILE.pt2) or a model (FILE.onnx); shakeout replay and minimise take a case.json"
        )
    if colon and name and not name.isidentifier():
        raise Mistake(f"{text!r}: expected FILE:NAME with a name of Python, found {name!r}")
    return path, name


def _show(one: Written) -> None:
    program, setting = one.case.program, one.case.setting
    counts = {"operator": len(program.operators()), "input": len(program.inputs)}
    told = [f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items()]
    knobs = [f"{name}={value}" for name, value in setting.knobs]
    print(f"{one.case.id}  {one.label}: {', '.join([*told, setting.mode, setting.target, *knobs])}", flush=True)
    for note in one.notes:
        print(f"  note    {note}")


def _rest(found: Imported) -> None:
    """What did not become a case, and what is to be said of the file."""
    for refused in found.refused:
        print(f"cannot be imported: {refused.label}\n  {refused.reason}", file=sys.stderr)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
