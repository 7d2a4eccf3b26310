"""A program as a drawing of boxes and lines, from the inputs at the top to what is returned at the bottom.

The boxes stand in layers, as Sugiyama, Tagawa and Toda have it: each below all that it uses, lines that pass a layer
get a place in it as if they were boxes, and the order in a layer follows the neighbours' so that few lines cross.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import networkx

from shakeout.corpus import script
from shakeout.corpus.program import Program
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.reporting.html.visible import visible

__all__ = ["LARGEST", "Box", "Drawing", "drawing"]

#: Boxes above which nobody could read a drawing; the program's text stands beside it anyway.
LARGEST = 120

#: Pixels: a character of the monospaced text, a line of it, what is left free inside a box and around it.
CHARACTER, LINE, INSIDE, ASIDE, BELOW = 7.25, 17.0, 10.0, 24.0, 34.0

#: Characters of a line of text in a box.
LONGEST = 46

#: Sweeps over the layers: the order does not change any more after a few.
SWEEPS = 4

#: A box by its number, or a line on its way: from, to, and the layer that it passes.
_Node: TypeAlias = int | tuple[int, int, int]
_Near: TypeAlias = dict[_Node, list[_Node]]
_Across: TypeAlias = dict[_Node, float]


@dataclass(frozen=True, slots=True)
class Box:
    """An input or a call.

    Attributes:
        kind: ``input``, ``parameter`` or ``call``.
        lines: text in it.
        loud: numbers of those lines that say why it stands out; none if it does not.
        x, y: of its middle.
        width, height: in pixels.
    """

    kind: str
    lines: tuple[str, ...]
    loud: tuple[int, ...]
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes, and lines as the points that they go through, all inside of ``width`` times ``height`` pixels."""

    boxes: tuple[Box, ...]
    lines: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    height: float


def drawing(program: Program, marks: Mapping[int, str]) -> Drawing | None:
    """A program as a drawing; None where it is too large for one.

    What stands in a region, a branch or the body of a loop, is in the box of its operator.

    Args:
        program: what is drawn.
        marks: by number of a value, what makes it stand out.
    """
    if not 0 < len(program.inputs) + len(program.calls) <= LARGEST:
        return None
    boxes, lines = _written(program, marks)
    layers = _layered(len(boxes), lines)
    near = _neighbours(layers, lines)
    layers = _ordered(layers, *near)
    sizes = [box.size for box in boxes]
    at, heights, width, height = _placed(layers, sizes, *near)
    entries = _entries(lines, at, sizes)
    paths = tuple(
        (
            (at[above][0], at[above][1] + sizes[above][1] / 2),
            *(
                (at[above, below, layer][0], at[above, below, layer][1] + half)
                for layer, high in enumerate(heights)
                if (above, below, layer) in at
                for half in (-high / 2, high / 2)
            ),
            (entries[above, below], at[below][1] - sizes[below][1] / 2),
        )
        for above, below in lines
    )
    return Drawing(
        tuple(Box(box.kind, box.lines, box.loud, *at[number], *box.size) for number, box in enumerate(boxes)),
        paths,
        width,
        height,
    )


@dataclass(frozen=True, slots=True)
class _Text:
    """A box that has no place yet."""

    kind: str
    lines: tuple[str, ...]
    loud: tuple[int, ...]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        return max(map(len, self.lines)) * CHARACTER + 2 * INSIDE, len(self.lines) * LINE + 2 * INSIDE


def _written(program: Program, marks: Mapping[int, str]) -> tuple[list[_Text], list[tuple[int, int]]]:
    """The boxes, inputs before calls, and which of them uses which."""
    names, types = script.value_names(program), program.types()
    words = vocabulary(program.vocabulary)

    def box(kind: str, own: range, head: Sequence[str]) -> _Text:
        text = [*head, *(f"{names[number]}: {types[number]}" for number in own if types[number] is not None)]
        text += [f"returned as output {place}" for place, value in enumerate(program.returns) if value in own]
        told = dict.fromkeys(marks[number] for number in own if number in marks)
        loud = range(len(text), len(text) + len(told))
        return _Text(kind, tuple(map(_short, (*text, *told))), tuple(loud))

    boxes = [box(given.role, range(number, number + 1), ()) for number, given in enumerate(program.inputs)]
    maker = list(range(len(boxes)))
    lines: dict[tuple[int, int], None] = {}
    for call, first in zip(program.calls, program.firsts(), strict=True):
        lines |= {(maker[operand], len(boxes)): None for operand in call.operands()}
        maker += [len(boxes)] * len(call.results)
        head = call.operator if call.regions else words.expression(call, names)
        boxes.append(box("call", range(first, first + len(call.results)), (head,)))
    return boxes, list(lines)


def _layered(boxes: int, lines: Sequence[tuple[int, int]]) -> list[list[_Node]]:
    """The layers, each with its boxes and with the lines that pass it."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(boxes))
    graph.add_edges_from(lines)
    layers: list[list[_Node]] = [sorted(layer) for layer in networkx.topological_generations(graph)]
    layer = {box: depth for depth, boxes in enumerate(layers) for box in boxes}
    # What uses nothing stands right above its first use, not at the top of everything.
    for box in layers[0][:]:
        if (first := min((layer[below] for below in graph.successors(box)), default=1)) > 1:
            layers[0].remove(box)
            layers[first - 1].append(box)
            layer[box] = first - 1
    for above, below in lines:
        for depth in range(layer[above] + 1, layer[below]):
            layers[depth].append((above, below, depth))
    return layers


def _neighbours(layers: Sequence[Sequence[_Node]], lines: Sequence[tuple[int, int]]) -> tuple[_Near, _Near]:
    """What is joined to each node in the layer above it, and in the one below."""
    passing = {node for layer in layers for node in layer if isinstance(node, tuple)}
    above: _Near = {}
    below: _Near = {}
    for high, low in lines:
        way: list[_Node] = [high, *sorted(node for node in passing if node[:2] == (high, low)), low]
        for one, next_one in pairwise(way):
            above.setdefault(next_one, []).append(one)
            below.setdefault(one, []).append(next_one)
    return above, below


def _ordered(layers: list[list[_Node]], above: _Near, below: _Near) -> list[list[_Node]]:
    """The layers with neighbours near each other: each goes to the mean place of its own, down and up in turn."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            place = {node: number / max(len(each) - 1, 1) for each in layers for number, node in enumerate(each)}
            near = {node: (above if down else below).get(node, [node]) for node in layer}
            means = {node: sum(place[one] for one in others) / len(others) for node, others in near.items()}
            layer.sort(key=means.__getitem__)
    return layers


def _placed(
    layers: Sequence[Sequence[_Node]], sizes: Sequence[tuple[float, float]], above: _Near, below: _Near
) -> tuple[dict[_Node, tuple[float, float]], list[float], float, float]:
    """The middle of everything, the height of each layer, and width and height of it all."""

    def wide(node: _Node) -> float:
        return sizes[node][0] if isinstance(node, int) else 0.0

    x: dict[_Node, float] = {}
    for layer in layers:
        x |= _spread(layer, dict.fromkeys(layer, 0.0), wide)
    for sweep in range(2 * SWEEPS):
        # What has neighbours on both sides heeds those that were placed last, so lines become straight from there.
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            near = {node: (above if sweep % 2 == 0 else below).get(node, [node]) for node in layer}
            wanted = {node: sum(x[one] for one in others) / len(others) for node, others in near.items()}
            x |= _spread(layer, wanted, wide)
    left = min(x[node] - wide(node) / 2 for node in x)
    width = max(x[node] + wide(node) / 2 for node in x) - left
    heights = [max((sizes[node][1] for node in layer if isinstance(node, int)), default=0.0) for layer in layers]
    at: dict[_Node, tuple[float, float]] = {}
    y = 0.0
    for layer, high in zip(layers, heights, strict=True):
        at |= {node: (x[node] - left, y + high / 2) for node in layer}
        y += high + BELOW
    return at, heights, width, y - BELOW


def _spread(layer: Sequence[_Node], wanted: Mapping[_Node, float], wide: Callable[[_Node], float]) -> _Across:
    """Places across as near to the wanted ones as they can be without touching; the order stays.

    Pushing everything to the right where it would touch, and to the left, are two ways to do it; so is their mean.
    """
    apart = [(wide(one) + wide(other)) / 2 + ASIDE for one, other in pairwise(layer)]
    right, left = [wanted[node] for node in layer], [wanted[node] for node in layer]
    for number, gap in enumerate(apart, 1):
        right[number] = max(right[number], right[number - 1] + gap)
    for number, gap in reversed(list(enumerate(apart))):
        left[number] = min(left[number], left[number + 1] - gap)
    return {node: (one + other) / 2 for node, one, other in zip(layer, right, left, strict=True)}


def _entries(
    lines: Sequence[tuple[int, int]], at: Mapping[_Node, tuple[float, float]], sizes: Sequence[tuple[float, float]]
) -> dict[tuple[int, int], float]:
    """Where each line meets its box from above: side by side, in the order in which they come."""
    into: dict[int, list[tuple[int, int]]] = {}
    for line in lines:
        into.setdefault(line[1], []).append(line)
    found = {}
    for below, members in into.items():
        apart = min(2 * INSIDE, sizes[below][0] / (len(members) + 1))
        for place, line in enumerate(sorted(members, key=lambda line: at[line[0]][0])):
            found[line] = at[below][0] + apart * (place - (len(members) - 1) / 2)
    return found


def _short(text: str) -> str:
    line = visible(" ".join(text.split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"
