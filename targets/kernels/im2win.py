"""Convolution over a window tensor (Im2win): the rows of a window lie next to each other, one copy for each output row.

Lu, Chu, Liu: Im2win: Memory Efficient Convolution On SIMD Architectures (HPEC 2022). Of an image ``X[n, c, h, w]`` and
filters of ``FH`` rows and ``FW`` columns the window tensor is ``Win[n, c, k, m * FH + r] = X[n, c, k * s + r, m]``, so
that the window of output ``(k, l)`` is the slice of ``FH * FW`` elements from ``l * s * FH`` on: a product of vectors
without the ``FW``-fold copies of im2col. Its buffer has ``OH * W * FH`` elements for each channel, which may be more
than the image has: with a stride below ``FH`` rows are copied more than once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from shakeout.targets.kernels.declare import kernel
from shakeout.targets.kernels.invariants import differing, on_whole_numbers
from shakeout.targets.kernels.operands import floating, wide

__all__ = ["im2col_conv2d", "im2win_conv2d", "window_tensor"]


def window_tensor(x: torch.Tensor, rows: int, stride: int, dilation: int) -> torch.Tensor:
    """``Win[n, c, k, m * FH + r]`` of a padded image.

    Args:
        x: ``[n, c, h, w]``.
        rows: ``FH``, of the filters.
        stride: of the output rows.
        dilation: of the filters' rows.
    """
    batch, channels, height, width = x.shape
    count = (height - dilation * (rows - 1) - 1) // stride + 1
    buffer = x.new_zeros(batch, channels, count, width * rows)
    for r in range(rows):
        first = r * dilation
        buffer[..., r::rows] = x[:, :, first : first + (count - 1) * stride + 1 : stride]
    return buffer


def _image(win: Any, height: int, rows: int, stride: int, dilation: int) -> Any:
    """The transpose of ``window_tensor``: what lies in several places is added up."""
    batch, channels, count, length = win.shape
    x = win.new_zeros(batch, channels, height, length // rows)
    for r in range(rows):
        first = r * dilation
        x[:, :, first : first + (count - 1) * stride + 1 : stride] += win[..., r::rows]
    return x


def _windows(win: Any, rows: int, columns: int, stride: int, dilation: int) -> Any:
    """``[n, c, k, l, FW, FH]``: the slice of each output, of which a dilated filter takes every so many columns."""
    span = dilation * (columns - 1) + 1
    return win.unfold(-1, span * rows, stride * rows).unflatten(-1, (span, rows))[..., ::dilation, :]


def _slid(windows: Any, width: int, stride: int, dilation: int) -> Any:
    """The transpose of ``_windows``."""
    batch, channels, count, across, columns, rows = windows.shape
    win = windows.new_zeros(batch, channels, count, width, rows)
    for m in range(columns):
        first = m * dilation
        win[..., first : first + (across - 1) * stride + 1 : stride, :] += windows[..., m, :]
    return win.flatten(-2)


class _Im2win(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, steps: Any, groups: int) -> Any:
        (sh, sw), (ph, pw), (dh, dw) = steps
        padded = F.pad(wide(x), (pw, pw, ph, ph))
        win = window_tensor(padded, weight.shape[2], sh, dh)
        windows = _windows(win, weight.shape[2], weight.shape[3], sw, dw).unflatten(1, (groups, -1))
        filters: Any = wide(weight).mT
        filters = filters.unflatten(0, (groups, -1))  # F~[o, c, m, r]
        ctx.save_for_backward(win, filters)
        ctx.given = x.dtype, padded.shape, steps
        return torch.einsum("ngcklmr,gocmr->ngokl", windows, filters).flatten(1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        win, filters = ctx.saved_tensors
        dtype, (_, _, height, width), ((sh, sw), (ph, pw), (dh, dw)) = ctx.given
        groups, _, _, columns, rows = filters.shape
        given = gradient.unflatten(1, (groups, -1))
        image = weight = None
        if ctx.needs_input_grad[0]:
            windows = torch.einsum("ngokl,gocmr->ngcklmr", given, filters).flatten(1, 2)
            padded = _image(_slid(windows, width, sw, dw), height, rows, sh, dh)
            image = padded[:, :, ph : height - ph, pw : width - pw].to(dtype)
        if ctx.needs_input_grad[1]:
            windows = _windows(win, rows, columns, sw, dw).unflatten(1, (groups, -1))
            weight = torch.einsum("ngokl,ngcklmr->gocmr", given, windows).flatten(0, 1).mT.to(dtype)
        return image, weight, None, None


def _sensible(x: Any, weight: Any, bias: Any, steps: Any, groups: int) -> None:
    """Refuse what does not fit together, where a product would take a size of one for any; raises ValueError."""
    if weight.dim() != 4 or x.shape[1] != groups * weight.shape[1] or weight.shape[0] % groups:
        raise ValueError(f"{groups} groups of filters for {x.shape[1]} channels, not filters {list(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"a bias for each of {weight.shape[0]} filters, not {list(bias.shape)}")
    for size, of_filter, pad, dilation in zip(x.shape[2:], weight.shape[2:], *steps[1:], strict=True):
        if size + 2 * pad <= dilation * (of_filter - 1):
            raise ValueError(f"images that are no smaller than the filters, not {list(x.shape)}")


# --- the second implementation ----------------------------------------------------------------------------------------


def im2col_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Any:
    """The same by im2col: every window as a column, and one product."""
    (sh, sw), (ph, pw), (dh, dw) = map(_pair, (stride, padding, dilation))
    columns: Any = F.unfold(x, weight.shape[2:], (dh, dw), (ph, pw), (sh, sw))
    columns = columns.unflatten(1, (groups, -1))
    y = (weight.reshape(groups, weight.shape[0] // groups, -1) @ columns).flatten(1, 2)
    height = (x.shape[2] + 2 * ph - dh * (weight.shape[2] - 1) - 1) // sh + 1
    y = y if bias is None else y + bias[:, None]
    return y.unflatten(2, (height, -1))


def window_tensor_is_a_view(kernel: Any, x: torch.Tensor, weight: torch.Tensor, *rest: Any, **more: Any) -> str | None:
    """Of an image whose columns lie next to each other the window tensor is a view, so both show the same bits."""
    named = dict(zip(("bias", "stride", "padding", "dilation", "groups"), rest, strict=False)) | more
    (sh, _), (ph, pw), (dh, _) = (
        _pair(named.get(key, n)) for key, n in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    padded = F.pad(x, (pw, pw, ph, ph)).contiguous()
    batch, channels, height, width = padded.shape
    rows = weight.shape[2]
    count = (height - dh * (rows - 1) - 1) // sh + 1
    shape = batch, channels, count, width, rows
    seen = padded.as_strided(shape, (channels * height * width, height * width, sh * width, 1, dh * width))
    return differing(window_tensor(padded, rows, sh, dh), seen.reshape(batch, channels, count, width * rows))


# --- the kernel -------------------------------------------------------------------------------------------------------


def _examples() -> Iterator[Any]:
    """Filters that are not square, strides below and above their sizes, and what else a front end adds."""
    x, w, b = torch.ones(2, 4, 7, 6), torch.ones(4, 4, 3, 2), torch.ones(4)
    yield x, w
    yield x, torch.ones(2, 4, 3, 1), torch.ones(2)  # tall and narrow: the window tensor is larger than the image
    yield (x, w, b), {"stride": 2}
    yield (x, torch.ones(3, 4, 2, 3)), {"stride": (1, 3)}
    yield (x, w, b), {"padding": (1, 2), "stride": (2, 1)}
    yield (x, w, b), {"padding": 1, "dilation": 2}
    yield (x, w, b), {"padding": (0, 2), "dilation": (1, 2), "stride": (3, 2)}
    yield (x, torch.ones(6, 2, 2, 3)), {"groups": 2, "padding": 1}
    yield (x, torch.ones(4, 1, 3, 3), b), {"groups": 4, "padding": 1, "stride": 2}
    yield (torch.ones(2, 1, 5, 5).to(memory_format=torch.channels_last), torch.ones(3, 1, 3, 3)), {"padding": 1}


@kernel(
    reference=F.conv2d,
    examples=_examples,
    invariants=(on_whole_numbers(F.conv2d), on_whole_numbers(im2col_conv2d), window_tensor_is_a_view),
)
def im2win_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Convolution of images ``[n, c, h, w]``."""
    floating(x, weight, bias)
    if x.dim() != 4 or 0 in x.shape or 0 in weight.shape or isinstance(padding, str):
        raise NotImplementedError("batches of images that are not empty, with a padding in numbers")
    steps = tuple(map(_pair, (stride, padding, dilation)))
    _sensible(x, weight, bias, steps, groups)
    y: torch.Tensor = _Im2win.apply(x, weight, steps, groups)  # type: ignore[no-untyped-call]
    return (y if bias is None else y + wide(bias)[:, None, None]).to(x.dtype)


def _pair(value: Any) -> tuple[int, int]:
    """One number for both dimensions, or one for each."""
    one, other = (value, value) if isinstance(value, int) else value * 2 if len(value) == 1 else value
    return int(one), int(other)
