"""What a repository declares for Shakeout, and which of it a change touches, read from sources that are not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from shakeout.fuzz.gate.repository import repository
from shakeout.fuzz.gate.sides import ROOTS

__all__ = ["declared", "declared_in", "touched"]

_DECORATORS = ("kernel", "runtime", "rewrite")


def declared(folder: Path) -> tuple[str, ...]:
    """``MODULE:NAME`` of everything that git tracks below a folder and that is declared; tests are left out."""
    found = repository(folder)
    if found is None:
        return ()
    names: dict[str, None] = {}
    for file in found.files():
        path = found.root / file
        if path.suffix != ".py" or "tests" in Path(file).parts or Path(file).name.startswith("test_"):
            continue
        module = _module(path, folder.resolve())
        if module:
            names |= dict.fromkeys(f"{module}:{name}" for name in declared_in(path))
    return tuple(names)


def declared_in(path: Path) -> tuple[str, ...]:
    """The names in a file that stand below one of Shakeout's decorators."""
    try:
        text = path.read_text(encoding="utf-8")
        if "shakeout" not in text:
            return ()
        tree = ast.parse(text)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
        return ()
    local = set(_imported(tree))
    return tuple(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and any(_is(one, local) for one in node.decorator_list)
    )


def _imported(tree: ast.Module) -> Iterator[str]:
    """By which names ``from shakeout import kernel`` is called here."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "shakeout":
            yield from (one.asname or one.name for one in node.names if one.name in _DECORATORS)


def _is(decorator: ast.expr, local: set[str]) -> bool:
    match decorator.func if isinstance(decorator, ast.Call) else decorator:
        case ast.Attribute(value=ast.Name(id="shakeout"), attr=name):
            return name in _DECORATORS
        case ast.Name(id=name):
            return name in local
    return False


def _module(path: Path, folder: Path) -> str:
    """The name under which a file is imported from a folder; empty if it cannot be."""
    for root in ROOTS:
        try:
            parts = path.resolve().relative_to((folder / root).resolve()).with_suffix("").parts
        except ValueError:
            continue
        words = parts[:-1] if parts[-1] == "__init__" else parts
        if words and all(word.isidentifier() for word in words):
            return ".".join(words)
    return ""


# --- what a change touches --------------------------------------------------------------------------------------------


def touched(targets: Sequence[str], front: Sequence[Path], root: Path, changed: Sequence[str]) -> tuple[str, ...]:
    """Those of a user's own targets whose module, or one that it imports from the repository, has changed.

    Args:
        targets: names; only those of the form ``MODULE:NAME`` are looked at.
        front: folders from which modules of the repository are imported.
        root: of the repository.
        changed: files, from the root on.
    """
    files = {(root / name).resolve() for name in changed}
    return tuple(name for name in targets if ":" in name and files & _behind(name.partition(":")[0], front))


def _behind(module: str, front: Sequence[Path]) -> set[Path]:
    """The files of the repository that importing a module reads, itself among them, as far as import statements say."""
    found: set[Path] = set()
    pending = [module]
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        # Packages are imported with what lies in them.
        if "." in name:
            pending.append(name.rpartition(".")[0])
        path = next((path for folder in front for path in _candidates(folder, name) if path.is_file()), None)
        if path is None:
            continue
        found.add(path.resolve())
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
            continue
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        pending += [one for node in ast.walk(tree) for one in _names(node, package)]
    return found


def _candidates(folder: Path, module: str) -> tuple[Path, Path]:
    place = folder.joinpath(*module.split("."))
    return place.with_suffix(".py"), place / "__init__.py"


def _names(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that an import statement may mean."""
    match node:
        case ast.Import(names=names):
            yield from (one.name for one in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            words = package.split(".") if package else []
            base = ".".join([*words[: len(words) - level + 1], *([module] if module else [])]) if level else module
            if base:
                yield base
                yield from (f"{base}.{one.name}" for one in names)
