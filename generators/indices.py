"""Places that operators are told to leave out: a padding row of a table, a class that counts for nothing."""

from __future__ import annotations

import functools

from shakeout.corpus.program import Arg
from shakeout.corpus.vocabularies.operator import identify
from shakeout.generators.choices import Choices

__all__ = ["ignored", "ignoring"]

#: The argument by which operators are told, by their names.
_IGNORED = {
    "embedding": "padding_idx",
    "embedding_bag": "padding_idx",
    "nll_loss": "ignore_index",
    "cross_entropy": "ignore_index",
    "linear_cross_entropy": "ignore_index",
}

Kwargs = tuple[tuple[str, Arg], ...]


@functools.lru_cache(4096)
def ignored(operator: str) -> str:
    """The argument that names a place which an operator leaves out; empty where it has none."""
    identity = identify(operator)
    return _IGNORED.get(identity.name, "") if identity.namespace == "torch.nn.functional" else ""


def ignoring(choices: Choices, operator: str, kwargs: Kwargs, share: float) -> Kwargs:
    """Keyword arguments that, in some share of the calls, leave out a place which is likely to be there.

    Args:
        choices: decides.
        operator: qualified name.
        kwargs: keyword arguments.
        share: of calls in which one is left out.
    """
    name = ignored(operator)
    if not name or not choices.boolean(share):
        return kwargs
    # Negative ones count from the end, where rows of a table are meant.
    place = choices.pick((0, 1, 2)) if name == "ignore_index" else choices.pick((0, 1, -1, 2))
    return tuple(sorted([*(pair for pair in kwargs if pair[0] != name), (name, place)]))
