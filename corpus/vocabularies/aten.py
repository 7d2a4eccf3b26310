"""PyTorch's operator library: which overloads a case may call, decided from their schemas.

``torch.ops`` reaches far more than functions of tensors: ``aten`` alone has operators that map files, print, set flags
of the process, or belong to TorchScript's own lists and dictionaries; other namespaces are whatever anybody registered.
"""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["PREFIX", "names", "overload"]

PREFIX = "torch.ops.aten."

#: What an argument may be, beside tensors: plain data. Storages, streams, generators, futures and classes are not.
_DATA = frozenset("int float bool complex number str Device".split())

#: Make tensors from nothing but sizes and numbers.
_FACTORIES = frozenset(
    "arange bartlett_window blackman_window empty empty_permuted empty_strided eye full hamming_window hann_window "
    "kaiser_window linspace logspace normal ones rand randint randn randperm range scalar_tensor tril_indices "
    "triu_indices zeros".split()
)

#: What a schema does not tell. ``from_file`` and ``save`` touch files; ``set_`` changes what a tensor's memory is; the
#: segment reductions do not check their lengths and write past their operands, and the sparse and nested ones without
#: checks trust their indices likewise; the rest is kept out of ``torch.Tensor`` as well.
_FORBIDDEN = frozenset(
    "from_file save set set_ set_data segment_reduce _segment_reduce_backward _sparse_coo_tensor_unsafe "
    "_sparse_csr_tensor_unsafe _sparse_csc_tensor_unsafe _sparse_bsr_tensor_unsafe _sparse_bsc_tensor_unsafe "
    "_sparse_compressed_tensor_unsafe _nested_view_from_buffer _nested_view_from_jagged _nested_view_from_buffer_copy "
    "_nested_view_from_jagged_copy unsafe_chunk unsafe_split unsafe_split_with_sizes requires_grad_ "
    "slice_inverse".split()
)


@functools.cache
def overload(operator: str) -> Any:
    """The overload behind ``torch.ops.aten.NAME.OVERLOAD``, or None where a case may not call it or torch lacks it.

    ``torch.ops.aten.NAME`` stands for all its overloads; some of them must take tensors.
    """
    import torch

    base, _, which = operator.removeprefix(PREFIX).partition(".")
    if base in _FORBIDDEN:
        return None
    packet = getattr(torch.ops.aten, base, None)
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        return None
    overloads: list[str] = packet.overloads()  # type: ignore[no-untyped-call]
    found = [one for one in overloads if _computes(base, getattr(packet, one)._schema)]
    if which:
        return getattr(packet, which) if which in found else None
    return packet if found else None


def names() -> dict[str, list[str]]:
    """The overloads that a case may call, by operator, in the installed torch."""
    import torch

    found: dict[str, list[str]] = {}
    for schema in torch._C._jit_get_all_schemas():
        space, _, base = schema.name.partition("::")
        which = schema.overload_name or "default"
        if space == "aten" and overload(f"{PREFIX}{base}.{which}") is not None:
            found.setdefault(base, []).append(which)
    return {base: sorted(set(overloads)) for base, overloads in sorted(found.items())}


def _computes(base: str, schema: Any) -> bool:
    """Whether an overload makes or changes tensors, from tensors and plain data."""
    if not all(_plain(str(one.type)) for one in schema.arguments):
        return False
    given = any("Tensor" in str(one.type) and not one.is_out for one in schema.arguments)
    gives = any("Tensor" in str(one.type) for one in schema.returns)
    written = any(one.alias_info is not None and one.alias_info.is_write for one in schema.arguments)
    return (given or base in _FACTORIES) and (gives or written)


def _plain(type_: str) -> bool:
    """Whether an argument of this type, by TorchScript's name for it, is a tensor or plain data."""
    if type_ == "Optional[Generator]":  # which a case leaves at its default
        return True
    for outer in ("Optional[", "List["):
        if type_.startswith(outer) and type_.endswith("]"):
            return _plain(type_[len(outer) : -1])
    return type_ == "Tensor" or type_ in _DATA
