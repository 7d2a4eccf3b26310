"""The traits of ONNX's operators: one table, by the names that they have in the default domain."""

from __future__ import annotations

import functools
from typing import Any

from shakeout.corpus.vocabularies.onnx_schemas import UnknownOperator, identified
from shakeout.corpus.vocabularies.traits import Addition, Exactness, Hazard, Traits

__all__ = ["traits"]

#: Two indices may be one place, and what stands there then ONNX does not say.
_HAZARDS: dict[Hazard, str] = {"duplicates": "Scatter ScatterElements ScatterND TensorScatter MaxUnpool"}

_FLAGS = {
    "sized_by_values": "NonZero Compress Unique NonMaxSuppression",
    "sized": "Reshape Expand ConstantOfShape Tile",
    "compares": "Equal Less LessOrEqual Greater GreaterOrEqual",
    "reinterprets": "BitCast",
    "rounded": "Div Sqrt Reciprocal",
    "homogeneous": (
        "MatMul ReduceSum ReduceMean ReduceL1 ReduceL2 ReduceMax ReduceMin Neg Abs Relu AveragePool MaxPool "
        "GlobalAveragePool GlobalMaxPool CumSum"
    ),
    "elementwise": (
        "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor Gelu HardSigmoid HardSwish IsInf IsNaN Log "
        "Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh "
        "ThresholdedRelu Elu Celu LeakyRelu"
    ),
    "division": "Div Mod",
    "shift": "BitShift",
    "finite": "Det",
}

_EXACTNESS: dict[Exactness, str] = {
    "moves": (
        "CenterCropPad Compress Concat ConcatFromSequence ConstantOfShape DepthToSpace Dropout Expand EyeLike "
        "Flatten Gather GatherElements GatherND Identity OptionalGetElement OptionalHasElement Pad Reshape "
        "ReverseSequence ScatterElements ScatterND SequenceAt SequenceErase SequenceInsert SequenceLength Shape Size "
        "Slice SpaceToDepth Split SplitToSequence "
        "Squeeze Tile Transpose Trilu Unsqueeze Where"
    ),
    "sums": (
        "Add Conv ConvInteger ConvTranspose CumSum CumProd Einsum Gemm MatMul MatMulInteger Mul Neg ReduceL1 "
        "ReduceProd ReduceSum ReduceSumSquare Sub Sum"
    ),
    "choices": (
        "Abs And ArgMax ArgMin BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Clip Equal Floor GlobalMaxPool Greater "
        "GreaterOrEqual IsInf IsNaN Less LessOrEqual Max MaxPool Min Not Or ReduceMax ReduceMin Relu Round Sign "
        "TopK Xor"
    ),
}

#: Differences, by the sum that majorises them.
_MAJORANTS = {"Sub": "Add", "Neg": "Identity"}

_ADDITION: dict[Addition, str] = {
    "products": (
        "Conv ConvTranspose CumSum DeformConv Einsum Gemm GridSample MatMul ReduceL1 ReduceSum Sum AffineGrid"
    ),
    "factors": "ReduceProd CumProd",
    "linear": (
        "AveragePool DFT GlobalAveragePool ReduceLogSum ReduceLogSumExp ReduceMean Resize STFT Mean MelWeightMatrix "
        "Softmax LogSoftmax Hardmax Upsample SoftmaxCrossEntropyLoss NegativeLogLikelihoodLoss RoiAlign"
    ),
    "squares": (
        "BatchNormalization GlobalLpPool GroupNormalization InstanceNormalization LayerNormalization LpNormalization "
        "LpPool LRN MeanVarianceNormalization ReduceL2 ReduceSumSquare RMSNormalization Det Attention "
        "RotaryEmbedding GRU LSTM RNN"
    ),
}


def _split(table: Any) -> dict[Any, frozenset[str]]:
    return {key: frozenset(names.split()) for key, names in table.items()}


_HAZARD_NAMES, _FLAG_NAMES = _split(_HAZARDS), _split(_FLAGS)
_EXACTNESS_NAMES, _ADDITION_NAMES = _split(_EXACTNESS), _split(_ADDITION)


@functools.cache
def traits(operator: str) -> Traits:
    """The traits of an operator by its qualified name; of what is none, nothing is known."""
    try:
        name, _ = identified(operator)
    except UnknownOperator:
        return Traits()
    flags: dict[str, Any] = {flag: name in names for flag, names in _FLAG_NAMES.items()}
    nothing: Exactness = ""
    nowhere: Addition = ""
    return Traits(
        **flags,
        hazards=frozenset(hazard for hazard, names in _HAZARD_NAMES.items() if name in names),
        scatters="Scatter" in name,
        scalars=False,
        exactness=next((kind for kind, names in _EXACTNESS_NAMES.items() if name in names), nothing),
        # The name without a version: ``summation`` asks for the operator of the same set.
        majorant=_MAJORANTS.get(name, ""),
        addition=next((kind for kind, names in _ADDITION_NAMES.items() if name in names), nowhere),
    )
