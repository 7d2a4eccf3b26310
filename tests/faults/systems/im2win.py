"""Broken variants of the convolution over a window tensor."""

from tests.faults.systems import Broken

BROKEN = (
    Broken(
        "im2win_conv2d",
        "the window tensor has the size of the image, and what does not fit is lost",
        "    for r in range(rows):\n        first = r * dilation\n        buffer[",
        "    room = height // count if count else rows\n    for r in range(min(rows, max(room, 1))):\n"
        "        first = r * dilation\n        buffer[",
        published="buffer sized for the image where FH > stride >= FW; read in the published code",
    ),
    Broken(
        "im2win_conv2d",
        "groups ignored in the filters",
        '("ngokl,gocmr->ngcklmr", given, filters)',
        '("ngokl,gocmr->ngcklmr", given, filters[:1].expand_as(filters))',
    ),
    Broken(
        "im2win_conv2d",
        "the filter is not transposed",
        "filters: Any = wide(weight).mT",
        "filters: Any = wide(weight).reshape(wide(weight).mT.shape)",
    ),
    Broken(
        "im2win_conv2d",
        "the last row of a filter has no part in the gradient of the image",
        "for r in range(rows):\n        first = r * dilation\n        x[:, :,",
        "for r in range(max(rows - 1, 1)):\n        first = r * dilation\n        x[:, :,",
    ),
    Broken(
        "im2win_conv2d",
        "the stride of columns is the rows'",
        "windows = _windows(win, weight.shape[2], weight.shape[3], sw, dw)",
        "windows = _windows(win, weight.shape[2], weight.shape[3], sh, dw)",
    ),
    Broken(
        "im2win_conv2d",
        "dilation of columns forgotten in the gradient of the image",
        "_slid(windows, width, sw, dw)",
        "_slid(windows, width, sw, 1)",
    ),
    Broken(
        "im2win_conv2d",
        "filters are rounded to half precision",
        "filters = filters.unflatten",
        "filters = filters.half().to(filters.dtype).unflatten",
    ),
)
