"""The source of functions as scripts show it: without annotations, which say nothing to whoever reads a report."""

from __future__ import annotations

import ast
import functools
import inspect
import io
import itertools
import re
import tokenize
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["source_of", "stripped"]

#: Columns that a printed line has at most, as the formatter has it for the source.
WIDTH = 120

#: A comment that speaks to the type checker.
_FOR_TYPES = re.compile(r"#\s*type:")

#: A place in a text: line, counted from one, and column in characters.
_Place = tuple[int, int]
#: What stands between two places is replaced by a text.
_Change = tuple[_Place, _Place, str]


@functools.cache
def source_of(function: Callable[..., Any]) -> str:
    """The source of a function or class as it is printed into scripts, without a last newline.

    It is the text as it was written, comments and layout included, without annotations and comments for the type
    checker. A signature that takes several lines because of its annotations is printed in one.
    """
    return stripped(inspect.getsource(function)).rstrip()


def stripped(text: str) -> str:
    """The text of functions and classes without annotations."""
    text = _applied(text, _changes(text))
    return _applied(text, _joined(text))


def _changes(text: str) -> Iterator[_Change]:
    """What takes the annotations and the comments for the type checker out of a text."""
    lines = text.splitlines()
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))

    def place(line: int, column: int) -> _Place:
        # The tree counts bytes.
        return line, len(lines[line - 1].encode()[:column].decode())

    def end(node: ast.expr) -> _Place:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return place(node.end_lineno, node.end_col_offset)

    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                defaults = _defaults(node.args)
                for arg in _arguments(node.args):
                    if arg.annotation is not None:
                        line, column = place(arg.lineno, arg.col_offset)
                        default = defaults.get(arg.arg)
                        # An annotated argument has spaces around its default, one without has none.
                        last = end(arg.annotation) if default is None else place(default.lineno, default.col_offset)
                        yield (line, column + len(arg.arg)), last, "" if default is None else "="
                if node.returns is not None:
                    arrow = max(
                        i
                        for i, token in enumerate(tokens)
                        if token.string == "->" and token.start < place(node.returns.lineno, node.returns.col_offset)
                    )
                    yield tokens[arrow - 1].end, end(node.returns), ""
            case ast.AnnAssign(value=None):
                raise ValueError(f"printed source declares a name without a value: {ast.unparse(node)}")
            case ast.AnnAssign():
                yield end(node.target), end(node.annotation), ""
    for before, token in itertools.pairwise(tokens):
        if token.type == tokenize.COMMENT and _FOR_TYPES.match(token.string):
            yield before.end, token.end, ""


def _joined(text: str) -> Iterator[_Change]:
    """What puts the signatures of a text that take several lines, and would fit into one, into one."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = next(i for i, token in enumerate(tokens) if token.start >= (node.lineno, node.col_offset))
        depth = 0
        for last in range(first, len(tokens)):
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(tokens[last].string, 0)
            if not depth and tokens[last].string == ":":
                break
        head = [token for token in tokens[first : last + 1] if token.type != tokenize.NL]
        if head[0].start[0] == head[-1].end[0] or any(token.type == tokenize.COMMENT for token in head):
            continue
        line = head[0].string
        for before, token in itertools.pairwise(head):
            if before.end[0] == token.start[0]:
                line += " " * (token.start[1] - before.end[1]) + token.string
            elif token.string == ")":
                line = line.removesuffix(",") + token.string
            else:
                line += ("" if before.string in "([{" else " ") + token.string
        if head[0].start[1] + len(line) <= WIDTH:
            yield head[0].start, head[-1].end, line


def _arguments(given: ast.arguments) -> list[ast.arg]:
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [*named, *(arg for arg in (given.vararg, given.kwarg) if arg is not None)]


def _defaults(given: ast.arguments) -> dict[str, ast.expr]:
    """The default of each argument that has one."""
    plain = [*given.posonlyargs, *given.args]
    found = {arg.arg: default for arg, default in zip(reversed(plain), reversed(given.defaults), strict=False)}
    pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    return found | {arg.arg: default for arg, default in pairs if default is not None}


def _applied(text: str, changes: Iterator[_Change]) -> str:
    """The text with its changes, which do not overlap."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    for (first, left), (last, right), new in sorted(changes, reverse=True):
        text = text[: starts[first - 1] + left] + new + text[starts[last - 1] + right :]
    return text
