"""Sizes among the arguments of a call, which have to follow when a tensor gets another size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from shakeout.corpus.program import Arg, Call, Slice
from shakeout.corpus.vocabularies import Vocabulary
from shakeout.corpus.vocabularies.operator import identify

__all__ = ["scaled"]


def scaled(call: Call, sizes: Mapping[int, int], words: Vocabulary) -> Call:
    """The call with sizes among its arguments changed; multiples of them too where an operator names sizes."""
    # Of a user's kernel that is not known without loading it, which only workers do.
    sized = not identify(call.operator).kernel and words.traits(call.operator).sized

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
