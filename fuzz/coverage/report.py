"""The lines and arcs of a campaign as a file of coverage.py, which ``coverage html`` and editors open."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from shakeout.fuzz.coverage.log import NAME, Book, rows
from shakeout.fuzz.coverage.python import module_unit
from shakeout.fuzz.coverage.traced import arc

__all__ = ["FILE", "write_data"]

#: Its name in a campaign's directory: the one for which coverage.py looks.
FILE = ".coverage"


def write_data(directory: Path) -> tuple[Path, int]:
    """Write the file, in place of an older one; where it is, and of how many modules. Raises OSError.

    A module that has changed since it was traced is left out: its lines are others now. What a module does when it is
    loaded was done before anything was traced, and counts as run.
    """
    import coverage

    book = Book()
    for hits, _ in rows(directory / NAME):
        if (hits.source, hits.kind) == ("python", "arcs"):
            book.add(hits)
    arcs = {}
    for (_, unit, _), seen in book.seen.items():
        file = unit.partition(":")[2]
        if module_unit(file) == unit:
            arcs[file] = [*(arc(int(key)) for key in seen.keys), *_loading(Path(file))]
    path = directory / FILE
    path.unlink(missing_ok=True)
    try:
        data = coverage.CoverageData(basename=str(path))
        data.add_arcs(arcs)
        data.write()
    except coverage.CoverageException as error:
        raise OSError(f"{path} cannot be written: {error}") from None
    return path, len(arcs)


def _loading(file: Path) -> list[tuple[int, int]]:
    """Arcs through the lines that run whenever a module is loaded; what stands behind a condition is none of them."""
    try:
        lines = sorted(set(_statements(ast.parse(file.read_bytes()).body)))
    except (OSError, SyntaxError, ValueError):
        return []
    return [(-1, lines[0]), *pairwise(lines), (lines[-1], -1)] if lines else []


def _statements(body: list[ast.stmt]) -> Iterator[int]:
    for statement in body:
        yield statement.lineno
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (one.lineno for one in statement.decorator_list)
        if isinstance(statement, ast.ClassDef):
            yield from _statements(statement.body)
