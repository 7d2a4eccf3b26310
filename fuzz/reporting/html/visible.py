"""Text of strangers as a page can hold it: exceptions, programs and what a dying process said may hold anything."""

from __future__ import annotations

import re

__all__ = ["visible"]

#: What is invisible, is no character at all, or turns the direction of the text around it: control characters but tabs
#: and line feeds, halves of surrogate pairs, noncharacters, and marks of direction and width.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with what nobody could see, or no file could hold, as Python would escape it."""
    return _INVISIBLE.sub(lambda found: _spelled(ord(found[0])), text)


def _spelled(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
