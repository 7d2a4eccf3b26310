"""The kernels and runtimes that a repository declares, read from its sources without importing any of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from shakeout.fuzz.gate.repository import repository
from shakeout.fuzz.gate.sides import ROOTS

__all__ = ["declared", "declared_in"]

_DECORATORS = ("kernel", "runtime")


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
    """The names in a file that stand below ``@shakeout.kernel(...)`` or ``@shakeout.runtime``."""
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
