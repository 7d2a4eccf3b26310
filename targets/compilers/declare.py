"""``@shakeout.rewrite``: declare a function to be a pass over graphs of torch.fx, with the programs that it is for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from shakeout.corpus.user_objects import Declared

__all__ = ["Level", "Pattern", "Rewrite", "rewrite"]

#: Where a pass is run: on the graph that Dynamo captures, as operators were written; on AOTAutograd's graphs of ATen,
#: forward and backward by themselves; or on the two as one graph, before it is cut.
Level = Literal["dynamo", "aten", "joint"]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A program that a pass is for, and a call of it.

    Attributes:
        program: a function of tensors, or a module.
        args: its arguments.
        kwargs: its keyword arguments.
    """

    program: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Rewrite(Declared):
    """A pass over graphs of torch.fx; called, it gives the changed graph module, whatever the function gives.

    Attributes:
        function: the pass itself.
        level: where it is run.
    """

    def __init__(
        self, function: Callable[..., Any], level: Level, make_patterns: Callable[[], tuple[Pattern, ...]]
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.level = level
        self._make_patterns = make_patterns

    def __call__(self, graph_module: Any) -> Any:
        """Run the pass; it may have worked in place and give nothing, or a ``PassResult``.

        Raises:
            TypeError: it gives something else.
        """
        import torch

        given = self.function(graph_module)
        given = graph_module if given is None else getattr(given, "graph_module", given)
        if not isinstance(given, torch.fx.GraphModule):
            raise TypeError(
                f"{self!r} returned a {type(given).__name__}, expected a GraphModule, a PassResult, or nothing where "
                "it has changed the one that it was given"
            )
        return given

    def __repr__(self) -> str:
        return f"<shakeout.rewrite {self.function!r}>"

    @functools.cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        """The programs that it is for; raises RuntimeError where the user's function that makes them fails."""
        try:
            return self._make_patterns()
        except Exception as error:
            raise RuntimeError(f"making the programs of {self!r} fails: {type(error).__name__}: {error}") from error


def rewrite(
    function: Callable[..., Any] | None = None,
    /,
    *,
    pattern: Callable[..., Any] | None = None,
    examples: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
    programs: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
    level: Level = "dynamo",
) -> Callable[[Callable[..., Any]], Rewrite]:
    """Declare a pass: ``shakeout run --target mypackage.passes:my_fold`` grows networks that contain its pattern.

    The pass takes a ``torch.fx.GraphModule`` and returns one, or changes it and returns nothing. Networks run with the
    pass, and what they give, gradients included, is compared with eager PyTorch. How often it changed a graph is
    counted.

    Args:
        function: not to be given; the decorator is called first.
        pattern: a function of tensors, or a module, that computes what the pass looks for.
        examples: calls of the pattern, or a function that makes them: each a tuple of arguments, or a pair of such a
            tuple and a dictionary of keyword arguments.
        programs: further programs that contain what it looks for, or a function that makes them: each a tuple of a
            function or module and its arguments.
        level: ``dynamo`` for the graph of ``torch.*`` calls that Dynamo captures; ``aten`` for AOTAutograd's graphs of
            ATen operators, forward and backward each by itself; ``joint`` for both as one graph.

    Raises:
        TypeError: an argument is of the wrong kind.

    Example:
        >>> @shakeout.rewrite(pattern=lambda x: torch.relu(torch.relu(x)), examples=[(torch.randn(3),)])
        ... def relu_once(graph_module):
        ...     for node in graph_module.graph.find_nodes(op="call_function", target=torch.relu):
        ...         if node.args[0].target is torch.relu:
        ...             node.replace_all_uses_with(node.args[0])
        ...             graph_module.graph.erase_node(node)
    """
    if function is not None:
        name = getattr(function, "__name__", repr(function))
        raise TypeError(
            f"write @shakeout.rewrite(pattern=..., examples=...), not @shakeout.rewrite: what does {name} look for?"
        )
    if pattern is None and programs is None:
        raise TypeError(
            "shakeout.rewrite needs what the pass looks for: pattern=..., a function of tensors, with examples=[(x, "
            "w), ...], or programs=[(function, x, w), ...]"
        )
    if pattern is not None and (not callable(pattern) or inspect.isclass(pattern)):
        raise TypeError(f"shakeout.rewrite: pattern is {pattern!r}, expected a function of tensors or a module")
    if (pattern is None) != (examples is None):
        raise TypeError(
            "shakeout.rewrite: pattern= and examples= go together: the examples are the tensors that the pattern is "
            "called with, such as examples=[(torch.randn(2, 3),)]"
        )
    if level not in get_args(Level):
        raise TypeError(f"shakeout.rewrite: level is {level!r}, expected 'dynamo', 'aten' or 'joint'")
    make_examples = _later("examples", examples, lambda place, item: _called(place, item, pattern))
    make_programs = _later("programs", programs, _program)

    def declare(function: Callable[..., Any]) -> Rewrite:
        if isinstance(function, Declared):
            raise TypeError(f"shakeout.rewrite: {function!r} is declared already")
        if not callable(function) or inspect.isclass(function):
            raise TypeError(f"shakeout.rewrite: {function!r} is no function")
        return Rewrite(function, level, lambda: (*make_examples(), *make_programs()))

    return declare


def _later(name: str, given: Any, read: Callable[[str, Any], Pattern]) -> Callable[[], tuple[Pattern, ...]]:
    """What makes the patterns; what is given as such is looked at now, what a function makes when it is needed."""

    def found(items: Any) -> tuple[Pattern, ...]:
        if isinstance(items, Mapping | str) or not isinstance(items, Iterable):
            raise TypeError(f"shakeout.rewrite: {name} is {type(items).__name__}, expected a list of tuples")
        return tuple(read(f"{name}[{number}]", item) for number, item in enumerate(items))

    if given is None:
        return tuple
    if callable(given):
        return lambda: found(given())
    ready = found(given)
    return lambda: ready


def _called(place: str, item: Any, program: Any) -> Pattern:
    if not isinstance(item, tuple):
        raise TypeError(
            f"shakeout.rewrite: {place} is a {type(item).__name__}, expected a tuple of arguments such as (x, w), or "
            "a pair such as ((x, w), {'stride': 2})"
        )
    if len(item) == 2 and isinstance(item[0], tuple) and isinstance(item[1], Mapping):
        return Pattern(program, item[0], _named(place, item[1]))
    return Pattern(program, item, {})


def _named(place: str, given: Mapping[Any, Any]) -> Mapping[str, Any]:
    if not all(isinstance(key, str) for key in given):
        raise TypeError(f"shakeout.rewrite: {place} has a keyword that is no text: {list(given)}")
    return dict(given)


def _program(place: str, item: Any) -> Pattern:
    if not isinstance(item, tuple) or not item or not callable(item[0]) or inspect.isclass(item[0]):
        raise TypeError(
            f"shakeout.rewrite: {place} is a {type(item).__name__}, expected a tuple of a function or module and its "
            "arguments, such as (conv_bn, x, w)"
        )
    return Pattern(item[0], item[1:], {})
