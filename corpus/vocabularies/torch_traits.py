"""The traits of torch's operators: one table, by the names that functions, methods and their in-place forms have.

It is asked with no torch in the process as well, so it imports none.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from shakeout.corpus.vocabularies.operator import Operator, identify
from shakeout.corpus.vocabularies.traits import Addition, Exactness, Hazard, Traits

__all__ = ["NAMES", "family", "traits"]

_HAZARDS: dict[Hazard, str] = {
    "random": (
        "bernoulli bernoulli_ cauchy_ exponential_ geometric_ log_normal_ multinomial normal normal_ poisson rand "
        "rand_like randint randint_like randn randn_like random_ randperm rrelu rrelu_ uniform_ dropout dropout_ "
        "dropout1d dropout2d dropout3d alpha_dropout alpha_dropout_ feature_alpha_dropout feature_alpha_dropout_ "
        "feature_dropout feature_dropout_ native_dropout fractional_max_pool2d fractional_max_pool3d "
        "fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices gumbel_softmax svd_lowrank pca_lowrank "
        "lobpcg binomial scaled_dot_product_attention multi_head_attention_forward _fill_mem_eff_dropout_mask_ "
        "_sample_dirichlet _standard_gamma"
    ),
    "uninitialised": (
        "empty empty_like empty_permuted empty_strided new_empty new_empty_strided resize_ resize_as_ empty_quantized "
        "_empty_affine_quantized resize resize_as"
    ),
    "strides": "as_strided as_strided_ as_strided_copy as_strided_scatter is_contiguous stride",
    "duplicates": (
        "scatter scatter_ index_put index_put_ index_copy index_copy_ put put_ index_fill index_fill_ "
        "_unsafe_index_put __setitem__ masked_scatter masked_scatter_"
    ),
    "ties": "sort argsort topk kthvalue mode median nanmedian msort max min cummax cummin",
}

#: What is either so or not.
_FLAGS = {
    "sized_by_values": (
        "unique unique_consecutive nonzero nonzero_numpy argwhere masked_select bincount repeat_interleave one_hot "
        "histogramdd"
    ),
    "sized": (
        "view reshape expand broadcast_to unflatten view_copy expand_copy _unsafe_view full zeros ones new_zeros "
        "new_ones new_full as_strided"
    ),
    "compares": (
        "eq ne lt le gt ge not_equal less less_equal greater greater_equal eq_ ne_ lt_ le_ gt_ ge_ not_equal_ less_ "
        "less_equal_ greater_ greater_equal_ __eq__ __ne__ __lt__ __le__ __gt__ __ge__"
    ),
    "reinterprets": "view view_copy",
    "rounded": "div div_ true_divide divide divide_ __truediv__ __itruediv__ sqrt sqrt_ mean",
    # Beside differences and special methods.
    "scalars": "add add_ mul mul_ multiply multiply_",
    # Covariances, too, round whole numbers in the default dtype.
    "transforms": (
        "fft ifft fft2 ifft2 fftn ifftn rfft irfft rfft2 irfft2 rfftn irfftn hfft ihfft hfft2 ihfft2 hfftn ihfftn cov "
        "corrcoef"
    ),
    "waves": (
        "hann hamming blackman nuttall bartlett cosine general_cosine general_hamming hann_window hamming_window "
        "blackman_window bartlett_window"
    ),
    # Sums, products with another operand, averages, and choices that a positive factor does not change.
    "homogeneous": (
        "mm bmm matmul __matmul__ mv dot inner outer linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d "
        "conv_transpose3d sum nansum mean cumsum trace neg negative abs absolute relu amax amin avg_pool1d avg_pool2d "
        "avg_pool3d max_pool1d max_pool2d max_pool3d diff"
    ),
    "elementwise": (
        "abs absolute acos acosh asin asinh atan atanh ceil cos cosh digamma erf erfc erfinv exp exp2 expm1 fix floor "
        "frac gelu hardsigmoid hardswish lgamma log log10 log1p log2 logit logsigmoid mish neg negative reciprocal "
        "relu relu6 round rsqrt selu sigmoid sign signbit silu sin sinc sinh softplus softsign sqrt square tan tanh "
        "tanhshrink trunc isnan isinf isfinite bitwise_not logical_not"
    ),
    # Beside those that look at one operand, functions of an operand and Python's numbers.
    "once": (
        "hardshrink softshrink threshold threshold_ hardtanh hardtanh_ leaky_relu leaky_relu_ relu6 elu elu_ celu "
        "celu_ hardsigmoid hardswish abs_ neg_ relu_ clamp_ clip_"
    ),
    "division": (
        "div div_ divide divide_ floor_divide floor_divide_ true_divide remainder remainder_ fmod fmod_ __floordiv__ "
        # What divides truly does so to whole numbers with a ``rounding_mode``.
        "__rfloordiv__ __ifloordiv__ __mod__ __rmod__ __imod__ __div__ __rdiv__ __truediv__ __rtruediv__ __itruediv__ "
        "gcd lcm gcd_ lcm_"
    ),
    "shift": (
        "bitwise_left_shift bitwise_left_shift_ bitwise_right_shift bitwise_right_shift_ __lshift__ __ilshift__ "
        "__rlshift__ __rshift__ __irshift__ __rrshift__ ldexp ldexp_"
    ),
    "counts": "bincount one_hot repeat_interleave",
    "pairs": "combinations cartesian_prod",
    # And all polynomials.
    "loops": "polygamma polygamma_ matrix_power",
    # What LAPACK computes.
    "finite": (
        "svd svdvals eigh eigvalsh lstsq pinv pinverse matrix_rank cond matrix_norm norm nuclear_norm matrix_exp "
        "inverse inv inv_ex det slogdet logdet cholesky cholesky_ex cholesky_inverse cholesky_solve lu_factor "
        "lu_factor_ex lu_solve lu_unpack lu solve solve_ex solve_triangular triangular_solve tensorinv tensorsolve "
        "householder_product orgqr ormqr matrix_power"
    ),
    "pivots": "lu_solve lu_unpack ldl_solve",
    "eliminates": "lu lu_factor lu_factor_ex pinverse pinv inverse inv inv_ex",
    "apart": "pdist _pdist_forward",
    "sampled": "grid_sample grid_sampler grid_sampler_2d grid_sampler_3d _grid_sampler_2d_cpu_fallback",
    # With four dimensions the CPU's kernel reads as many values as there are keys.
    "attends": "scaled_dot_product_attention",
    # Its default on a processor is `gelsy`, which gives equal calls different bits.
    "unwritten": "lstsq",
    "elsewhere": (
        "batch_norm native_batch_norm instance_norm addmm_ addbmm_ baddbmm_ addmv_ addr_ index_add_ index_copy_ "
        "scatter_ scatter_add_ scatter_reduce_ index_reduce_ put_ index_put_ masked_scatter_ cumsum_ cumprod_"
    ),
    "alike": "fill_ zero_ __setitem__",
    "reshapes": "t_ transpose_ squeeze_ unsqueeze_ swapaxes_ swapdims_ as_strided_ resize_",
    "tamed": (
        "dropout dropout_ dropout1d dropout2d dropout3d alpha_dropout alpha_dropout_ feature_alpha_dropout "
        "feature_alpha_dropout_ feature_dropout feature_dropout_ native_dropout rrelu rrelu_ "
        "scaled_dot_product_attention multi_head_attention_forward"
    ),
    # Elsewhere an ascending sample is an accident.
    "ascending": "searchsorted bucketize histogram histogramdd embedding_bag",
    # The guide for reports says not to compare these.
    "places": "argmax argmin argsort",
    "unordered": "unique topk",
    "whole": "argmax argmin",
    "last": (
        "softmax log_softmax softmin gumbel_softmax normalize glu logsumexp logcumsumexp cosine_similarity _softmax "
        "_log_softmax _logcumsumexp"
    ),
}

_EXACTNESS: dict[Exactness, str] = {
    # Move elements, or repeat them, or leave some out.
    "moves": (
        "reshape reshape_as view view_as transpose t T mT H mH adjoint permute movedim moveaxis swapaxes swapdims "
        "squeeze unsqueeze expand expand_as broadcast_to broadcast_tensors select narrow narrow_copy slice_scatter "
        "select_scatter diagonal diagonal_scatter diagonal_copy diag diag_embed diagflat flip fliplr flipud roll rot90 "
        "tile repeat repeat_interleave cat concat concatenate stack hstack vstack dstack column_stack row_stack chunk "
        "split tensor_split hsplit vsplit dsplit unbind unfold unfold_copy unflatten flatten ravel clone contiguous "
        "copy_ fill_ zero_ fill __getitem__ __setitem__ index_select index_copy index_copy_ index_fill index_fill_ "
        "take take_along_dim gather scatter scatter_ masked_select masked_fill masked_fill_ masked_scatter where tril "
        "tril_ triu triu_ pad atleast_1d atleast_2d atleast_3d meshgrid to float double half bfloat16 type_as "
        "zeros_like ones_like new_zeros new_ones new_full full full_like zeros ones eye detach alias resolve_conj "
        "resolve_neg positive __pos__ expand_copy permute_copy squeeze_copy unsqueeze_copy transpose_copy t_copy "
        "view_copy select_copy split_copy unbind_copy pixel_shuffle pixel_unshuffle channel_shuffle sum_to_size "
        "squeeze_ unsqueeze_ t_ transpose_ swapaxes_ swapdims_"
    ),
    # Sums of products of the operands, whose majorant is the same operator on magnitudes; differences are some as well.
    "sums": (
        "add add_ __add__ __radd__ __iadd__ mul mul_ multiply multiply_ __mul__ __rmul__ __imul__ square square_ "
        "addcmul addcmul_ sum nansum cumsum cumsum_ prod cumprod cumprod_ trace mm matmul __matmul__ __rmatmul__ bmm "
        "mv dot inner outer ger kron addmm addmm_ addmv addmv_ addr addbmm baddbmm linear bilinear tensordot einsum "
        "chain_matmul multi_dot vdot vecdot conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
        "index_add index_add_ scatter_add scatter_add_ embedding"
    ),
    # Give a whole number for whole numbers whatever the order of anything, and no sum of them.
    "choices": (
        "abs absolute relu relu6 hardtanh threshold clamp clamp_min clamp_max clip maximum minimum fmax fmin max min "
        "amax amin aminmax sign sgn round floor ceil trunc fix eq ne lt le gt ge equal not_equal less less_equal "
        "greater greater_equal __eq__ __ne__ __lt__ __le__ __gt__ __ge__ isnan isinf isfinite isposinf isneginf isreal "
        "signbit logical_and logical_or logical_xor logical_not any all count_nonzero nan_to_num heaviside sort msort "
        "topk cummax cummin bitwise_and bitwise_or bitwise_xor bitwise_not bool int long short char byte max_pool1d "
        "max_pool2d max_pool3d"
    ),
}

#: Differences, by the sum that majorises them.
_MAJORANTS = {
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

_ADDITION: dict[Addition, str] = {
    # The same operator on magnitudes bounds each of their partial sums.
    "products": (
        "sum nansum cumsum trace mm matmul __matmul__ __rmatmul__ bmm mv dot inner addmm addmv addr addbmm baddbmm "
        "linear bilinear tensordot chain_matmul multi_dot vdot vecdot conv1d conv2d conv3d conv_transpose1d "
        "conv_transpose2d conv_transpose3d index_add scatter_add cumsum_ addmm_ addmv_ addbmm_ baddbmm_ index_add_ "
        "scatter_add_"
    ),
    # Factors above one bound each partial product, and so do those below.
    "factors": "prod cumprod cumprod_",
    "linear": (
        "fft ifft fft2 ifft2 fftn ifftn rfft irfft rfft2 irfft2 rfftn irfftn hfft ihfft hfft2 ihfft2 hfftn ihfftn stft "
        "istft mean nanmean avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_avg_pool3d interpolate upsample upsample_bilinear logsumexp logcumsumexp l1_loss smooth_l1_loss "
        "huber_loss"
    ),
    "squares": (
        "var std var_mean std_mean norm vector_norm matrix_norm dist cdist pairwise_distance cosine_similarity "
        "normalize cov corrcoef trapz trapezoid cumulative_trapezoid mse_loss batch_norm layer_norm group_norm "
        "instance_norm rms_norm local_response_norm renorm cross lp_pool1d lp_pool2d lp_pool3d"
    ),
}

#: Results that are only unique up to a sign, a phase or an order, by position.
_AMBIGUOUS = {
    "svd": frozenset((0, 2)),
    "eigh": frozenset((1,)),
    "lstsq": frozenset((1, 2, 3)),
}

#: The same of all their results, and of those of their in-place forms.
_MEANINGLESS = frozenset("eig eigvals qr geqrf ldl_factor ldl_factor_ex ldl_solve lobpcg".split())

_DIMENSION = {"topk": 2, "kthvalue": 2}

#: Two names of one function.
_SYNONYMS = {
    "absolute": "abs",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "clip": "clamp",
    "concat": "cat",
    "concatenate": "cat",
    "divide": "div",
    "expit": "sigmoid",
    "floor_divide": "floordiv",
    "greater": "gt",
    "greater_equal": "ge",
    "iand": "bitwise_and",
    "ior": "bitwise_or",
    "ixor": "bitwise_xor",
    "less": "lt",
    "less_equal": "le",
    "moveaxis": "movedim",
    "multiply": "mul",
    "negative": "neg",
    "not_equal": "ne",
    "subtract": "sub",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "true_divide": "div",
    "truediv": "div",
}

#: Special methods of these have a reflected and an in-place form.
_ARITHMETIC = frozenset("add and div floordiv lshift mod mul or pow rshift sub truediv xor matmul".split())

#: The public function behind an operator of ATen, where that has a name of its own; the part of it that is asked here.
_COUNTERPARTS = {
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "_adaptive_avg_pool3d": "adaptive_avg_pool3d",
    "_batch_norm_with_update": "batch_norm",
    "_cdist_forward": "cdist",
    "_convolution": "conv2d",
    "_fft_c2c": "fft",
    "_fft_c2r": "irfft",
    "_fft_r2c": "rfft",
    "_fused_dropout": "dropout",
    "_native_batch_norm_legit": "batch_norm",
    "_native_batch_norm_legit_functional": "batch_norm",
    "_native_batch_norm_legit_no_training": "batch_norm",
    "_reshape_alias": "reshape",
    "_to_copy": "to",
    "_unsafe_view": "view",
    "cauchy": "cauchy_",
    "convolution": "conv2d",
    "exponential": "exponential_",
    "geometric": "geometric_",
    "log_normal": "log_normal_",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
    "native_batch_norm": "batch_norm",
    "native_group_norm": "group_norm",
    "native_layer_norm": "layer_norm",
    "normal_functional": "normal",
    "random": "random_",
    "slice": "__getitem__",
    "uniform": "uniform_",
}

#: Before the names of operators of ATen that belong to one of torch's modules.
_MODULES = ("_linalg_", "linalg_", "fft_", "special_")


def _split(table: Mapping[Any, str]) -> dict[Any, frozenset[str]]:
    return {key: frozenset(names.split()) for key, names in table.items()}


_HAZARD_NAMES, _FLAG_NAMES = _split(_HAZARDS), _split(_FLAGS)
_EXACTNESS_NAMES, _ADDITION_NAMES = _split(_EXACTNESS), _split(_ADDITION)

#: Every name that the table knows something of.
NAMES = frozenset(_MAJORANTS).union(
    *_HAZARD_NAMES.values(), *_FLAG_NAMES.values(), *_EXACTNESS_NAMES.values(), *_ADDITION_NAMES.values()
)


@functools.cache
def traits(operator: str) -> Traits:
    """The traits of an operator by its qualified name; those of an operator of ATen are its public function's."""
    identity = identify(operator)
    if identity.kernel:
        return Traits(in_place=identity.in_place)
    name = _public_name(identity)
    flags: dict[str, Any] = {flag: name in names for flag, names in _FLAG_NAMES.items()}
    flags["scalars"] |= name in _MAJORANTS or name.startswith("__")
    flags["once"] |= flags["elementwise"]
    flags["loops"] |= "polynomial" in name
    nothing: Exactness = ""
    exactness = next((kind for kind, names in _EXACTNESS_NAMES.items() if name in names), nothing)
    return Traits(
        **flags,
        hazards=frozenset(hazard for hazard, names in _HAZARD_NAMES.items() if name in names),
        in_place=identity.in_place,
        internal=identity.library or identity.private,
        scatters="scatter" in name,
        exactness="sums" if name in _MAJORANTS else exactness,
        majorant=_MAJORANTS.get(name, ""),
        addition=next((kind for kind, names in _ADDITION_NAMES.items() if name in names), ""),
        ambiguous=_AMBIGUOUS.get(name, frozenset()),
        meaningless=name.rstrip("_") in _MEANINGLESS,
        dimension=_DIMENSION.get(name, 1),
    )


@functools.cache
def family(operator: str) -> str:
    """The function behind a name: functions, methods, in-place forms and synonyms of one operator have one family.

    A user's kernel is one of its own. Identities of bugs are made of families, so what one is called never changes.
    """
    identity = identify(operator)
    if identity.kernel:
        return operator
    name = identity.name
    if name.startswith("__") and name.endswith("__"):
        name = name.strip("_")
        for prefix in "ri":
            if name[1:] in _ARITHMETIC and name.startswith(prefix):
                name = name[1:]
    name = name.rstrip("_") or name
    return _SYNONYMS.get(name, name)


def _public_name(identity: Operator) -> str:
    """The name under which the table knows an operator."""
    name = identity.name
    if not identity.library:
        return name
    if name in _COUNTERPARTS:
        return _COUNTERPARTS[name]
    if name.startswith("_scaled_dot_product_"):
        return "scaled_dot_product_attention"
    if name.startswith(("upsample_", "_upsample_")):
        return "interpolate"
    return next((name.removeprefix(module) for module in _MODULES if name.startswith(module)), name)
