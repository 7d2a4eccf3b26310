"""Programs whose results are exact in floating point, so that the verdict is equality of numbers, without tolerance.

Whole numbers, added and multiplied, stay whole numbers. As long as every sum of magnitudes along the way keeps below
the least whole number that a format cannot hold (2**24 in float32), each partial sum is exact in whatever order it is
taken, with whatever terms are fused, and every right implementation gives the same numbers. Whether a program keeps to
that is proven for each case, on its own inputs: its values are computed in double precision next to a majorant of
theirs, in which each input is its magnitude and each difference a sum; and the reference must show just these values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shakeout.corpus.case import Case
from shakeout.corpus.observation import PARTS
from shakeout.corpus.program import Arg, Call
from shakeout.oracles.verdict import REFERENCE, Answers, Question

if TYPE_CHECKING:
    import torch

__all__ = ["EXACT", "LIMITS", "OPERATORS", "candidate", "elementary", "kind", "majorised", "proven"]

#: The observation that proves it: the program in double precision, or an error that says what is not proven.
EXACT = Question("exact")

#: The whole numbers up to here are in a format without a gap.
LIMITS = {"float64": 2.0**52, "float32": 2.0**24, "float16": 2.0**11, "bfloat16": 2.0**8}

#: Move elements, or repeat them, or leave some out.
_MOVES = frozenset(
    "reshape reshape_as view view_as transpose t T mT H mH adjoint permute movedim moveaxis swapaxes swapdims squeeze "
    "unsqueeze expand expand_as broadcast_to broadcast_tensors select narrow narrow_copy slice_scatter select_scatter "
    "diagonal diagonal_scatter diagonal_copy diag diag_embed diagflat flip fliplr flipud roll rot90 tile repeat "
    "repeat_interleave cat concat concatenate stack hstack vstack dstack column_stack row_stack chunk split "
    "tensor_split hsplit vsplit dsplit unbind unfold unfold_copy unflatten flatten ravel clone contiguous copy_ fill_ "
    "zero_ fill __getitem__ __setitem__ index_select index_copy index_copy_ index_fill index_fill_ take take_along_dim "
    "gather scatter scatter_ masked_select masked_fill masked_fill_ masked_scatter where tril tril_ triu triu_ pad "
    "atleast_1d atleast_2d atleast_3d meshgrid to float double half bfloat16 type_as zeros_like ones_like new_zeros "
    "new_ones new_full full full_like zeros ones eye detach alias resolve_conj resolve_neg positive __pos__ "
    "expand_copy permute_copy squeeze_copy unsqueeze_copy transpose_copy t_copy view_copy select_copy split_copy "
    "unbind_copy pixel_shuffle pixel_unshuffle channel_shuffle sum_to_size squeeze_ unsqueeze_ t_ transpose_ "
    "swapaxes_ swapdims_".split()
)

#: Sums of products of the operands, whose majorant is the same operator on magnitudes.
_SUMS = frozenset(
    "add add_ __add__ __radd__ __iadd__ mul mul_ multiply multiply_ __mul__ __rmul__ __imul__ square square_ addcmul "
    "addcmul_ sum nansum cumsum cumsum_ prod cumprod cumprod_ trace mm matmul __matmul__ __rmatmul__ bmm mv dot inner "
    "outer ger kron addmm addmm_ addmv addmv_ addr addbmm baddbmm linear bilinear tensordot einsum chain_matmul "
    "multi_dot vdot vecdot conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d index_add "
    "index_add_ scatter_add scatter_add_ embedding".split()
)

#: Differences, by the sum that majorises them.
_DIFFERENCES = {
    "sub": "add",
    "sub_": "add_",
    "subtract": "add",
    "subtract_": "add_",
    "rsub": "add",
    "__sub__": "__add__",
    "__rsub__": "__radd__",
    "__isub__": "__iadd__",
    "neg": "positive",
    "negative": "positive",
}

#: Give a whole number for whole numbers whatever the order of anything, and no sum of them.
_CHOICES = frozenset(
    "abs absolute relu relu6 hardtanh threshold clamp clamp_min clamp_max clip maximum minimum fmax fmin max min amax "
    "amin aminmax sign sgn round floor ceil trunc fix eq ne lt le gt ge equal not_equal less less_equal greater "
    "greater_equal __eq__ __ne__ __lt__ __le__ __gt__ __ge__ isnan isinf isfinite isposinf isneginf isreal signbit "
    "logical_and logical_or logical_xor logical_not any all count_nonzero nan_to_num heaviside sort msort topk "
    "cummax cummin bitwise_and bitwise_or bitwise_xor bitwise_not bool int long short char byte max_pool1d max_pool2d "
    "max_pool3d".split()
)

#: Keyword arguments that are factors or terms.
_COEFFICIENTS = frozenset("alpha beta value other".split())

#: Every operator of the closure, by the last part of its name.
OPERATORS = _MOVES | _SUMS | frozenset(_DIFFERENCES) | _CHOICES


def kind(operator: str) -> str:
    """``moves``, ``sums``, ``choices``, or nothing for an operator outside the closure."""
    if ":" in operator:
        return ""
    last = operator.rpartition(".")[2]
    if last in _MOVES:
        return "moves"
    if last in _SUMS or last in _DIFFERENCES:
        return "sums"
    return "choices" if last in _CHOICES else ""


#: Rounded once, as IEEE 754 demands.
_ROUNDED = frozenset("div div_ true_divide divide divide_ __truediv__ __itruediv__ sqrt sqrt_ mean".split())


def elementary(case: Case) -> bool:
    """Whether all that a program rounds are sums, products, quotients and roots of its operands.

    Then replicas have every rounding error that a right implementation may have. An operator that is computed from
    series or tables (``erf``, ``lgamma``) rounds within, where nothing moves it.
    """
    if case.program.vocabulary != "torch" or case.program.structured():
        return False
    return all(kind(name) or name.rpartition(".")[2] in _ROUNDED for name in set(case.program.operators()))


def majorised(call: Call) -> Call:
    """The call whose result on magnitudes bounds every partial sum of this one.

    A number among the arguments of an elementwise operator becomes its magnitude; what else an argument means, a
    dimension say, stays.
    """
    from dataclasses import replace

    last = call.operator.rpartition(".")[2]
    operator = call.operator
    if last in _DIFFERENCES:
        operator = f"{operator.removesuffix(last)}{_DIFFERENCES[last]}"
        operator = "torch.add" if operator == "torch.rsub" else operator
    args, kwargs = call.args, call.kwargs
    if last in _DIFFERENCES or last in ("add", "add_", "mul", "mul_", "multiply", "multiply_") or last.startswith("__"):
        args = tuple(_magnitude(arg) for arg in args)
    kwargs = tuple((key, _magnitude(arg) if key in _COEFFICIENTS else arg) for key, arg in kwargs)
    return replace(call, operator=operator, args=args, kwargs=kwargs)


def _magnitude(arg: Arg) -> Arg:
    return abs(arg) if isinstance(arg, int | float) and not isinstance(arg, bool) else arg


def candidate(case: Case) -> bool:
    """Whether a case looks exact: operators of the closure, whole numbers, and inputs that share nothing.

    Not one with regions: under autocast they compute in formats that no type tells.
    """
    if case.program.structured():
        return False
    operators = case.program.operators()
    kinds = {kind(operator) for operator in operators}
    if "" in kinds or (case.setting.mode == "training" and "choices" in kinds) or case.program.vocabulary != "torch":
        return False
    for inputs in case.calls:
        if inputs.shared():
            return False
        for storage, dtype in ((inputs.storages[view.storage], view.dtype) for view in inputs.views):
            if storage.dtype != dtype or dtype.startswith(("complex", "float8")):
                return False
            if not dtype.startswith(("float", "bfloat")):
                continue
            values = storage.values
            literal = values.kind == "literal" and all(float(x).is_integer() for x in values.items)  # type: ignore[arg-type]
            if not (values.kind == "integers" or literal):
                return False
    return True


def proven(answers: Answers) -> bool:
    """Whether the proof came out, and the reference shows the very values of double precision."""
    exact, reference = answers.get(EXACT), answers[REFERENCE]
    if exact is None or exact.error is not None or len(exact.calls) != len(reference.calls) or not exact.calls:
        return False
    return all(
        len(want[part]) == len(got[part]) and all(map(_same, want[part], got[part]))
        for want, got in zip(reference.calls, exact.calls, strict=True)
        for part in PARTS
        if part != "random state"
    )


def _same(narrow: torch.Tensor | None, wide: torch.Tensor | None) -> bool:
    import torch

    if narrow is None or wide is None:
        return narrow is wide
    if narrow.shape != wide.shape:
        return False
    return bool(torch.equal(narrow.to(wide.dtype), wide))
