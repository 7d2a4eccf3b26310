"""The oracles that judge every case, in the order in which their findings are told."""

from __future__ import annotations

import functools

from shakeout.corpus.case import Promise
from shakeout.oracles.aliasing import Aliasing
from shakeout.oracles.determinism import Determinism
from shakeout.oracles.difference import Difference
from shakeout.oracles.exception import ExceptionParity
from shakeout.oracles.metadata import Metadata
from shakeout.oracles.storage import Storage
from shakeout.oracles.verdict import Oracle

__all__ = ["oracles"]


@functools.cache
def oracles(promises: frozenset[Promise]) -> tuple[Oracle, ...]:
    """Shakeout's own and those registered under ``shakeout.oracles``.

    Args:
        promises: of the target. With ``bits`` no tolerance applies; without ``layout`` neither strides nor shared
            memory are compared; with ``repeats`` it is compared with itself.
    """
    from importlib.metadata import entry_points

    exact = "bits" in promises
    own: tuple[Oracle, ...] = (
        ExceptionParity(),
        Storage(),
        Metadata(strides="layout" in promises),
        Difference("value", "output", exact),
        Difference("gradient", "gradient", exact),
        Difference("mutation", "input after the call", exact),
    )
    if "layout" in promises:
        own = (*own, Aliasing())
    if exact:
        # A compiler may draw from the generator in another order; what only stores tensors may not touch it.
        own = (*own, Difference("randomness", "random state", exact=True))
    if "repeats" in promises:
        own = (*own, Determinism())
    return own + tuple(entry.load() for entry in entry_points(group="shakeout.oracles"))
