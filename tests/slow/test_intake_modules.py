"""Modules of torch.nn with their usual arguments, and blocks built from them: imported, and right on graph capture.

That each is the same program as the module, bit for bit in results, gradients and writes, is proven by the capture.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.tiers import some
from torch import nn
from torch.nn import functional as F

from shakeout.corpus.case import Setting
from shakeout.corpus.intake.capturing import Captured, capture
from shakeout.fuzz.running.execute import execute
from shakeout.oracles.verdict import Outcome

Made = tuple[nn.Module | Callable[..., Any], tuple[Any, ...]]


def leaf(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, requires_grad=True)


def whole(most: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, most, shape)


MODULES: dict[str, Callable[[], Made]] = {
    "Linear": lambda: (nn.Linear(4, 3), (leaf(2, 4),)),
    "Bilinear": lambda: (nn.Bilinear(3, 4, 2), (leaf(2, 3), leaf(2, 4))),
    "Conv1d": lambda: (nn.Conv1d(3, 4, 3), (leaf(2, 3, 8),)),
    "Conv2d": lambda: (nn.Conv2d(3, 4, 3, padding=1, stride=2), (leaf(2, 3, 8, 8),)),
    "Conv2d reflect": lambda: (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (leaf(2, 3, 8, 8),)),
    "Conv3d": lambda: (nn.Conv3d(2, 3, 2), (leaf(1, 2, 4, 4, 4),)),
    "ConvTranspose2d": lambda: (nn.ConvTranspose2d(3, 4, 3, stride=2), (leaf(2, 3, 4, 4),)),
    "BatchNorm1d": lambda: (nn.BatchNorm1d(4), (leaf(6, 4),)),
    "BatchNorm2d": lambda: (nn.BatchNorm2d(3), (leaf(4, 3, 5, 5),)),
    "InstanceNorm2d": lambda: (nn.InstanceNorm2d(3, affine=True, track_running_stats=True), (leaf(2, 3, 4, 4),)),
    "LayerNorm": lambda: (nn.LayerNorm(5), (leaf(2, 5),)),
    "GroupNorm": lambda: (nn.GroupNorm(2, 4), (leaf(2, 4, 3),)),
    "RMSNorm": lambda: (nn.RMSNorm(5), (leaf(2, 5),)),
    "LocalResponseNorm": lambda: (nn.LocalResponseNorm(2), (leaf(1, 4, 3, 3),)),
    "Embedding": lambda: (nn.Embedding(10, 4, padding_idx=0), (whole(10, 2, 3),)),
    "EmbeddingBag": lambda: (nn.EmbeddingBag(10, 4, mode="mean"), (whole(10, 4), torch.tensor([0, 2]))),
    "LSTM": lambda: (nn.LSTM(4, 5, 2, batch_first=True), (leaf(2, 3, 4),)),
    "GRU": lambda: (nn.GRU(4, 5, bidirectional=True), (leaf(3, 2, 4),)),
    "RNN": lambda: (nn.RNN(4, 5, nonlinearity="relu"), (leaf(3, 2, 4),)),
    "LSTMCell": lambda: (nn.LSTMCell(4, 5), (leaf(2, 4),)),
    "GRUCell": lambda: (nn.GRUCell(4, 5), (leaf(2, 4), leaf(2, 5))),
    "MultiheadAttention": lambda: (nn.MultiheadAttention(8, 2, batch_first=True), (leaf(2, 3, 8),) * 3),
    "TransformerEncoderLayer": lambda: (nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), (leaf(2, 3, 8),)),
    "TransformerDecoderLayer": lambda: (nn.TransformerDecoderLayer(8, 2, 16, 0.0), (leaf(3, 2, 8), leaf(4, 2, 8))),
    "MaxPool2d": lambda: (nn.MaxPool2d(2, return_indices=True), (leaf(1, 2, 4, 4),)),
    "AvgPool2d": lambda: (nn.AvgPool2d(2), (leaf(1, 2, 4, 4),)),
    "AdaptiveAvgPool2d": lambda: (nn.AdaptiveAvgPool2d((2, None)), (leaf(1, 2, 4, 4),)),
    "AdaptiveMaxPool1d": lambda: (nn.AdaptiveMaxPool1d(2), (leaf(1, 2, 4),)),
    "LPPool2d": lambda: (nn.LPPool2d(2, 2), (leaf(1, 2, 4, 4),)),
    "PReLU": lambda: (nn.PReLU(), (leaf(3, 4),)),
    "GELU": lambda: (nn.GELU("tanh"), (leaf(3, 4),)),
    "Softmax": lambda: (nn.Softmax(-1), (leaf(3, 4),)),
    "GLU": lambda: (nn.GLU(), (leaf(3, 4),)),
    "Hardswish": lambda: (nn.Hardswish(), (leaf(3, 4),)),
    "Mish": lambda: (nn.Mish(inplace=False), (leaf(3, 4),)),
    "CrossEntropyLoss": lambda: (nn.CrossEntropyLoss(label_smoothing=0.1), (leaf(3, 4), torch.tensor([0, 1, 3]))),
    "HuberLoss": lambda: (nn.HuberLoss(), (leaf(3), torch.randn(3))),
    "BCEWithLogitsLoss": lambda: (nn.BCEWithLogitsLoss(), (leaf(3), torch.rand(3))),
    "TripletMarginLoss": lambda: (nn.TripletMarginLoss(), (leaf(3, 4), torch.randn(3, 4), torch.randn(3, 4))),
    "CosineSimilarity": lambda: (nn.CosineSimilarity(), (leaf(3, 4), torch.randn(3, 4))),
    "Upsample": lambda: (nn.Upsample(scale_factor=2, mode="bilinear"), (leaf(1, 2, 3, 3),)),
    "PixelShuffle": lambda: (nn.PixelShuffle(2), (leaf(1, 4, 3, 3),)),
    "Fold": lambda: (nn.Fold((4, 4), 2), (leaf(1, 8, 9),)),
    "Unfold": lambda: (nn.Unfold(2), (leaf(1, 2, 4, 4),)),
    "ReflectionPad2d": lambda: (nn.ReflectionPad2d(1), (leaf(1, 2, 4, 4),)),
    "Flatten": lambda: (nn.Flatten(), (leaf(2, 3, 4),)),
    "weight_norm": lambda: (nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), (leaf(2, 4),)),
}


class Residual(nn.Module):
    """A residual convolution with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


class Classifier(nn.Module):
    """An LSTM over embedded words, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm, self.head = nn.Embedding(12, 4), nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, words: torch.Tensor) -> dict[str, torch.Tensor]:
        states, (last, _) = self.lstm(self.embedding(words))
        return {"logits": self.head(last[-1]), "states": states}


class Stage(nn.Module):
    """A stage of a U-Net: down, up, and what is kept beside."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.out = nn.Conv2d(2, 4, 3, padding=1), nn.ConvTranspose2d(4, 2, 2, 2), nn.Conv2d(4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = F.max_pool2d(F.relu(self.down(x)), 2)
        return self.out(torch.cat([x, self.up(inner)], 1))


class Experts(nn.Module):
    """A mixture of experts in which every token goes through two of three."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(2, -1)
        spread = torch.zeros_like(x[:, :3]).scatter(1, chosen, weights)
        return sum(spread[:, n : n + 1] * expert(x) for n, expert in enumerate(self.experts))  # type: ignore[return-value]


def deep() -> Made:
    """A model of more than 200 operators."""
    layers = [nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.GELU(), nn.Dropout(0.0)) for _ in range(51)]
    return nn.Sequential(*layers), (leaf(2, 6),)


BLOCKS: dict[str, Callable[[], Made]] = {
    "residual": lambda: (Residual(), (leaf(2, 3, 5, 5),)),
    "encoder": lambda: (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0), 2), (leaf(3, 2, 8),)),
    "decoder": lambda: (
        nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, 0.0), 2),
        (leaf(3, 2, 8), leaf(4, 2, 8)),
    ),
    "classifier": lambda: (Classifier(), (whole(12, 2, 3),)),
    "stage": lambda: (Stage(), (leaf(1, 2, 4, 4),)),
    "experts": lambda: (Experts(), (leaf(5, 4),)),
    "deep": deep,
}


def captured(make: Callable[[], Made], mode: Any) -> Captured:
    torch.manual_seed(0)
    module, args = make()
    assert isinstance(module, nn.Module)
    module.train(mode == "training")
    return capture(module, args, setting=Setting("aot_eager"), mode=mode)


@pytest.mark.parametrize("name", some(MODULES, every=4))
def test_a_module_is_imported_and_right_under_graph_capture(name: str) -> None:
    """In both modes; a case of training compares what one of inference does, and gradients."""
    level = "aten" if name == "weight_norm" else "torch"
    assert captured(MODULES[name], "inference").level == level
    found = captured(MODULES[name], "training")
    assert found.level == level
    result = execute(found.case)
    assert result.status == "compared"
    assert result.outcome is Outcome.PASS


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", some(BLOCKS, every=3))
def test_a_block_is_imported_and_right_under_graph_capture(name: str, mode: str) -> None:
    found = captured(BLOCKS[name], mode)
    assert found.level == "torch"
    assert name != "deep" or len(found.case.program.calls) >= 200
    result = execute(found.case)
    assert result.status == "compared"
    assert result.outcome is Outcome.PASS
