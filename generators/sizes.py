"""Sizes among the arguments of a call, which have to follow when a tensor gets another size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from shakeout.corpus.program import Arg, Call, Slice

__all__ = ["scaled"]

#: Operators whose whole numbers are sizes of the result, so that they may be multiples of an input's size.
_SIZED = frozenset(
    "view reshape expand broadcast_to unflatten view_copy expand_copy _unsafe_view full zeros ones new_zeros new_ones "
    "new_full as_strided".split()
)


def scaled(call: Call, sizes: Mapping[int, int]) -> Call:
    """The call with sizes among its arguments changed; multiples of them too where an operator names sizes."""
    sized = call.operator.removesuffix(".default").rpartition(".")[2] in _SIZED

    def scale(arg: Arg) -> Arg:
        match arg:
            case bool():
                return arg
            case int():
                if arg in sizes:
                    return sizes[arg]
                for old, new in sizes.items() if sized else ():
                    if old > 1 and arg > old and arg % old == 0:
                        return arg // old * new
            case tuple():
                return tuple(scale(item) for item in arg)
            case Slice(start, stop, step):
                return Slice(scale(start), scale(stop), step)
        return arg

    return replace(
        call,
        args=tuple(scale(arg) for arg in call.args),
        kwargs=tuple((key, scale(value)) for key, value in call.kwargs),
    )
