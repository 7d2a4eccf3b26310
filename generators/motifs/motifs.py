"""The motifs, and how a program grows of one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping

import torch

from shakeout.corpus.program import reference
from shakeout.generators.calls import Rejected
from shakeout.generators.choices import Choices
from shakeout.generators.finishing import finished, watched
from shakeout.generators.growth import Growth
from shakeout.generators.growth_config import GrowthConfig
from shakeout.generators.motifs.blocks import Block, Value
from shakeout.generators.motifs.recurrent import recurrent
from shakeout.generators.recipe import Grown, Recipe
from shakeout.generators.values import InputSampler

__all__ = ["MOTIFS", "grow_motif"]

F = "torch.nn.functional"

#: Dtypes of a block's inputs, and how often.
_DTYPES = (("float32", 0.6), ("bfloat16", 0.15), ("float16", 0.15), ("float64", 0.1))


def _attention(block: Block) -> None:
    """Scaled dot-product attention, written out or as one operator, with a mask, a causal one or none."""
    heads, long, wide = block.size(1, 2, 4), block.size(4, 3, 7, 8, 16), block.size(4, 8, 3, 16)
    batch = block.size(2, 1, 3)
    shape = batch, heads, long, wide
    query, key, value = block.input(*shape), block.input(*shape), block.input(*shape)
    match block.choices.integer(0, 3):
        case 0:
            block.on(f"{F}.scaled_dot_product_attention", (query, key, value))
            return
        case 1:
            block.on(f"{F}.scaled_dot_product_attention", (query, key, value), is_causal=True)
            return
    turned = block.on("torch.transpose", (key,), -2, -1)
    scores = block.on("torch.matmul", (query, turned))
    if block.choices.boolean(0.5):
        scores = block.on("torch.mul", (scores,), 1 / math.sqrt(wide))
    else:
        scores = block.on("torch.div", (scores,), math.sqrt(wide))
    if block.choices.boolean(0.5):
        scores = block.on("torch.add", (scores, block.input(long, long)))
    weights = block.on("torch.softmax", (scores,), -1)
    mixed = block.on("torch.matmul", (weights, value))
    joined = block.on("torch.transpose", (mixed,), 1, 2)
    block.on("torch.reshape", (joined,), (batch, long, heads * wide))


def _normalisation(block: Block) -> None:
    """A residual that is added before or after a normalisation: of a layer, of the root mean square, of groups."""
    rows, wide = block.size(4, 2, 8, 17), block.size(8, 16, 32, 7)
    x, residual = block.input(2, rows, wide), block.input(2, rows, wide)
    total = block.on("torch.add", (x, residual))
    match block.choices.integer(0, 2):
        case 0:
            weight, bias = block.weight(wide), block.weight(wide)
            normal = block.call(f"{F}.layer_norm", reference(total), (wide,), reference(weight), reference(bias), 1e-5)
        case 1:
            square = block.on("torch.pow", (total,), 2)
            mean = block.call("torch.mean", reference(square), -1, True)
            root = block.on("torch.rsqrt", (block.on("torch.add", (mean,), 1e-5),))
            normal = block.on("torch.mul", (block.on("torch.mul", (total, root)), block.weight(wide)))
        case _:
            mean = block.call("torch.mean", reference(total), -1, True)
            centred = block.on("torch.sub", (total, mean))
            spread = block.call("torch.mean", reference(block.on("torch.mul", (centred, centred))), -1, True)
            normal = block.on("torch.div", (centred, block.on("torch.sqrt", (block.on("torch.add", (spread,), 1e-5),))))
    block.on("torch.add", (normal, residual if block.choices.boolean(0.5) else total))


def _rotary(block: Block) -> None:
    """Rotary position embedding: halves of the features are turned against each other by an angle of the position."""
    long, half = block.size(4, 8, 5), block.size(4, 2, 8)
    x = block.input(2, block.size(2, 1), long, 2 * half)
    angles = block.on("torch.mul", (block.input(long, 1), block.input(1, half)))
    both = block.call("torch.cat", (reference(angles), reference(angles)), -1)
    cosine, sine = block.on("torch.cos", (both,)), block.on("torch.sin", (both,))
    first = block.on("torch.narrow", (x,), -1, 0, half)
    second = block.on("torch.narrow", (x,), -1, half, half)
    turned = block.call("torch.cat", (reference(block.on("torch.neg", (second,))), reference(first)), -1)
    block.on("torch.add", (block.on("torch.mul", (x, cosine)), block.on("torch.mul", (turned, sine))))


def _convolution(block: Block) -> None:
    """A convolution with batch normalisation by stored statistics and an activation; pooled, or added to its input."""
    channels, out = block.size(4, 3, 8), block.size(4, 8, 3)
    x = block.input(block.size(2, 1), channels, block.size(8, 7, 5), 8)
    kernel = block.size(3, 1)
    weight = block.weight(out, channels, kernel, kernel)
    padding = block.size(kernel // 2, 0)
    y = block.call(f"{F}.conv2d", reference(x), reference(weight), None, block.size(1, 2), padding)
    mean, variance = block.statistic(out), block.statistic(out, positive=True)
    scale, shift = block.weight(out), block.weight(out)
    y = block.on(f"{F}.batch_norm", (y, mean, variance, scale, shift), False, 0.1, 1e-5)
    y = _activation(block, y)
    if block.choices.boolean(0.4) and min(block.shape(y)[2:]) >= 2:
        block.on(f"{F}.max_pool2d", (y,), 2)
    elif block.shape(y) == block.shape(x):
        block.on("torch.add", (y, x))


def _gated(block: Block) -> None:
    """A gated multilayer perceptron: an activation of one projection scales another one, and a third leads back."""
    wide, inner = block.size(8, 4, 16), block.size(16, 8, 7)
    x = block.input(2, block.size(3, 4, 1), wide)
    gate = _activation(block, block.on(f"{F}.linear", (x, block.weight(inner, wide))))
    up = block.on(f"{F}.linear", (x, block.weight(inner, wide)))
    down = block.on(f"{F}.linear", (block.on("torch.mul", (gate, up)), block.weight(wide, inner)))
    if block.choices.boolean(0.5):
        block.on("torch.add", (down, x))


def _activation(block: Block, value: Value) -> Value:
    return block.on(f"{F}.{block.choices.pick(('relu', 'silu', 'gelu', 'hardswish', 'leaky_relu'))}", (value,))


#: Every motif, by name.
MOTIFS: Mapping[str, Callable[[Block], None]] = {
    "attention": _attention,
    "normalisation": _normalisation,
    "rotary": _rotary,
    "convolution": _convolution,
    "gated": _gated,
    "recurrent": recurrent,
}


def grow_motif(choices: Choices, recipe: Recipe, name: str, before_call: Callable[[str], None] | None = None) -> Grown:
    """Grow one motif, with sizes, dtype, layouts and variant drawn; see ``network.grow``.

    A motif of which torch takes a part only, as of half precision on some builds, is that part.

    Args:
        choices: makes every decision.
        recipe: of which mode, dynamic, repeat, values, writes and foreign dtypes are heeded.
        name: of the motif.
        before_call: told of each call before it happens.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        training = recipe.mode == "training" or (recipe.mode is None and choices.boolean(0.3))
        kind: str = recipe.values or choices.pick(("uniform", "uniform", "integers"))
        growth = Growth(
            choices,
            InputSampler(choices, kind, 0.5),
            GrowthConfig(training=training, special=kind == "special", writes=recipe.writes),
            foreign=recipe.foreign,
        )
        tell = None if before_call is None else watched(growth, "torch", before_call)
        dtype = choices.weighted(tuple(pair for pair in _DTYPES if pair[0] not in recipe.foreign) or _DTYPES[:1])
        try:
            MOTIFS[name](Block(growth, dtype))
        except Rejected as reason:
            growth.note(str(reason))
        if not growth.steps:
            Block(growth, "float32").on("torch.neg", (Block(growth, "float32").input(3),))
        return finished(growth, recipe, "network", "torch", tell)
