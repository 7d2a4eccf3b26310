"""What targets that run a user's pass need; its functions are printed into their scripts, as those of ``staged.py``.

``FIRED`` is where the worker looks for how many graphs were changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from shakeout.targets.staged import stage

FIRED: list[bool] = []


def form(graph_module: torch.fx.GraphModule) -> list[Any]:
    """What a graph computes, without the names of its nodes: equal for graphs that are the same."""
    numbers: dict[torch.fx.Node, str] = {}
    found: list[Any] = []
    live: set[torch.fx.Node] = set()
    for node in reversed(graph_module.graph.nodes):
        if node in live or node.op in ("placeholder", "output") or node.is_impure():
            live.update((node, *node.all_input_nodes))
    for number, node in enumerate(one for one in graph_module.graph.nodes if one in live):
        numbers[node] = f"%{number}"
        what = node.target
        if node.op in ("get_attr", "call_module"):
            for name in str(node.target).split("."):
                what = getattr(graph_module if what is node.target else what, name, None)
            what = id(what)
        elif node.op in ("placeholder", "output"):
            what = None
        given = torch.fx.node.map_arg((node.args, node.kwargs), numbers.__getitem__)
        found.append((node.op, what, repr(given)))
    return found


def rewritten(run: Callable[[Any], Any], graph_module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The graph after the pass, checked and compiled to Python anew; notes whether it changed."""
    before = form(graph_module)
    with stage("the pass"):
        made: torch.fx.GraphModule = run(graph_module)
    FIRED.append(form(made) != before)
    with stage("the graph that the pass left"):
        made.graph.lint()
        made.recompile()
    return made


def of_dynamo(change: Callable[[Any], Any]) -> Callable[..., Any]:
    """A backend of torch.compile that runs the graph which Dynamo captured, changed."""

    def backend(graph_module: torch.fx.GraphModule, given: Sequence[Any]) -> Any:
        return change(graph_module).forward

    return backend


def of_aten(change: Callable[[Any], Any]) -> Callable[..., Any]:
    """A backend of torch.compile that runs AOTAutograd's graphs, forward and backward, each changed."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch._aot_autograd.utils import make_boxed_func

    def compiled(graph_module: torch.fx.GraphModule, given: Sequence[Any]) -> Any:
        return make_boxed_func(change(graph_module).forward)

    return aot_autograd(fw_compiler=compiled, bw_compiler=compiled)


def of_joint(change: Callable[[Any], Any]) -> Callable[..., Any]:
    """The same, changed before it is cut into forward and backward; without a gradient there is one graph alone."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch._aot_autograd.utils import make_boxed_func
    from torch._functorch.partitioners import default_partition

    def whole(graph_module: torch.fx.GraphModule, given: Sequence[Any]) -> Any:
        return make_boxed_func(change(graph_module).forward)

    def part(graph_module: torch.fx.GraphModule, given: Sequence[Any]) -> Any:
        return make_boxed_func(graph_module.forward)

    def cut(joint: torch.fx.GraphModule, given: Sequence[Any], **more: Any) -> Any:
        return default_partition(change(joint), given, **more)

    return aot_autograd(fw_compiler=part, bw_compiler=part, inference_compiler=whole, partition_fn=cut)
