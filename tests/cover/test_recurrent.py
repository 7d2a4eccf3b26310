"""Recurrent layers as operators: sizes that do not fit are told, before they are memory that is written beyond."""

from typing import Any

import pytest
import torch
from torch import nn

from shakeout.corpus.vocabularies import torch as words
from shakeout.corpus.vocabularies.recurrent import GATES

LAYERS = {"torch.lstm": nn.LSTM, "torch.gru": nn.GRU, "torch.rnn_tanh": nn.RNN, "torch.rnn_relu": nn.RNN}


def operands(operator: str, **more: Any) -> tuple[nn.Module, list[Any]]:
    """A layer, and what it calls its operator with."""
    if operator == "torch.rnn_relu":
        more["nonlinearity"] = "relu"
    layer = LAYERS[operator](3, 4, **more).eval()
    ways, layers = 2 if layer.bidirectional else 1, layer.num_layers
    x = torch.randn(2, 5, 3)
    states = [torch.zeros(layers * ways, 2 if layer.batch_first else 5, getattr(layer, "proj_size", 0) or 4)]
    if operator == "torch.lstm":
        states.append(torch.zeros(layers * ways, 2 if layer.batch_first else 5, 4))
    held = tuple(states) if operator == "torch.lstm" else states[0]
    return layer, [x, held, list(layer._flat_weights), layer.bias, layers, 0.0, False, ways == 2, layer.batch_first]


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}, {"bias": False, "bidirectional": True}],
)
def test_what_a_layer_calls_is_taken(operator: str, options: dict[str, Any]) -> None:
    layer, given = operands(operator, **options)
    found = words.resolve(operator)(*given)
    assert torch.equal(found[0], layer(given[0])[0])


def test_projections_and_packed_sequences_are_taken() -> None:
    layer, given = operands("torch.lstm", proj_size=2, num_layers=2)
    assert torch.equal(words.resolve("torch.lstm")(*given)[0], layer(given[0])[0])
    layer, given = operands("torch.gru", batch_first=True)
    packed = nn.utils.rnn.pack_padded_sequence(given[0], torch.tensor([5, 3]), batch_first=True)
    assert packed.batch_sizes is not None
    found = words.resolve("torch.gru")(packed.data, packed.batch_sizes, *given[1:-1])
    assert torch.equal(found[0], layer(packed)[0].data)
    with pytest.raises(RuntimeError, match=r"expected rows of sizes \[8\], found \[7\]"):
        words.resolve("torch.gru")(packed.data[:7], packed.batch_sizes, *given[1:-1])


@pytest.mark.parametrize("operator", GATES)
def test_what_does_not_fit_is_told(operator: str) -> None:
    """In eager mode some of it corrupts the heap."""
    function = words.resolve(operator)
    _, given = operands(operator)
    states = given[1] if operator == "torch.lstm" else (given[1],)
    wrong = [one[:, :1] for one in states]
    weights = given[2]
    for place, instead in [
        (0, given[0][..., :2]),
        (0, given[0][0]),
        (1, tuple(wrong) if operator == "torch.lstm" else wrong[0]),
        (2, [weights[0][:, :2], *weights[1:]]),
        (2, [*weights[:3], weights[3][:2]]),
        (2, weights[:3]),
        (2, [weights[0].double(), *weights[1:]]),
        (4, 2),
        (7, True),
    ]:
        with pytest.raises(RuntimeError, match=f"{operator}: expected"):
            function(*given[:place], instead, *given[place + 1 :])
    with pytest.raises(RuntimeError, match="expected all arguments by position"):
        function(*given[:5])
