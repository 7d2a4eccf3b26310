"""What an operator is called: the one place that takes its qualified name apart."""

from __future__ import annotations

import functools
from dataclasses import dataclass

__all__ = ["Operator", "identify"]

#: Operators of libraries, which public functions call: ``torch.ops.LIBRARY.NAME.OVERLOAD``.
_LIBRARIES = ("torch", "ops")

#: Begin like an in-place method and are none.
_NOT_IN_PLACE = frozenset(("__invert__", "__index__", "__int__", "__iter__"))


@dataclass(frozen=True, slots=True)
class Operator:
    """A qualified name in its parts.

    Attributes:
        qualified: as it stands in a case: ``torch.Tensor.add_``, ``torch.ops.aten.add_.Tensor``, ``my.kernels:scale``.
        namespace: what it is looked up in: ``torch.Tensor``, ``torch.ops.aten``, ``my.kernels``.
        name: within the namespace: ``add_``, ``__iadd__``, ``scale``.
        overload: of an operator of a library, ``Tensor``; empty for others, and where none is told.
        base: the name without the mark of the in-place form: ``add``, ``__add__``.
        in_place: whether the name says that the first operand is written to. ``x[i] = y`` is such a name.
        kernel: whether it is a user's, of the form ``MODULE:NAME``.
        library: whether it is of a library beneath the public functions.
    """

    qualified: str
    namespace: str
    name: str
    overload: str
    base: str
    in_place: bool
    kernel: bool
    library: bool

    @property
    def private(self) -> bool:
        """Whether the name says that it is nobody's business."""
        return self.name.startswith("_") and not self.name.startswith("__")

    def named(self, name: str) -> str:
        """The qualified name of a neighbour: in the same namespace, of an overload of the same name."""
        if self.kernel:
            return f"{self.namespace}:{name}"
        return ".".join(filter(None, (self.namespace, name, self.overload)))


@functools.lru_cache(1 << 14)
def identify(qualified: str) -> Operator:
    """The parts of a qualified name; every text has some, whether there is such an operator or not."""
    module, colon, attribute = qualified.partition(":")
    parts = qualified.split(".")
    library = not colon and tuple(parts[:2]) == _LIBRARIES and len(parts) > 3
    if colon:
        namespace, name, overload = module, attribute, ""
    elif library:
        namespace, name, overload = ".".join(parts[:3]), parts[3], ".".join(parts[4:])
    else:
        namespace, name, overload = ".".join(parts[:-1]), parts[-1], ""
    base = _base(name)
    in_place = base != name or name == "__setitem__"
    return Operator(qualified, namespace, name, overload, base, in_place, bool(colon), library)


def _base(name: str) -> str:
    if name.startswith("__i") and name.endswith("__") and name not in _NOT_IN_PLACE:
        return f"__{name[3:]}"
    if name.endswith("_") and not name.endswith("__"):
        return name[:-1]
    return name
