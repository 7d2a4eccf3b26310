"""Recurrent layers as one call each, with their weights, as ``torch.nn.LSTM``, ``GRU`` and ``RNN`` call them."""

from __future__ import annotations

from shakeout.corpus.program import Arg, reference
from shakeout.corpus.vocabularies.recurrent import GATES
from shakeout.generators.motifs.blocks import Block

__all__ = ["recurrent"]


def recurrent(block: Block) -> None:
    """A recurrent network of one or two layers, in one direction or both; of its output the last step, and a head."""
    operator = block.choices.pick(tuple(GATES))
    layers, ways = block.size(1, 1, 2), 2 if block.choices.boolean(0.3) else 1
    steps, batch = block.size(3, 1, 5), block.size(2, 1, 4)
    wide, hidden = block.size(4, 3, 8), block.size(5, 4, 1)
    biases, batch_first = block.choices.boolean(0.8), block.choices.boolean(0.5)
    x = block.input(*((batch, steps) if batch_first else (steps, batch)), wide)
    states = [block.input(layers * ways, batch, hidden) for _ in range(2 if operator == "torch.lstm" else 1)]
    rows, weights = GATES[operator] * hidden, []
    for layer in range(layers):
        for _ in range(ways):
            weights += [block.weight(rows, wide if layer == 0 else hidden * ways), block.weight(rows, hidden)]
            weights += [block.weight(rows), block.weight(rows)] if biases else []
    state: Arg = tuple(map(reference, states)) if len(states) > 1 else reference(states[0])
    training = block.growth.config.training
    options = (biases, layers, 0.0, training, ways == 2, batch_first)
    y = block.call(operator, reference(x), state, tuple(map(reference, weights)), *options)
    last = block.on("torch.select", (y,), 1 if batch_first else 0, -1)
    block.on("torch.nn.functional.linear", (last, block.weight(3, hidden * ways)))
