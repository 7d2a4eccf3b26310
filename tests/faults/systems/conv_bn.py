"""Broken variants of batch normalisation that is folded into what it follows."""

from tests.faults.systems import Broken

_TUNE = (
    Broken(
        "conv_bn_tune",
        "arguments by keyword are ignored",
        "return {**dict(zip(names, node.args, strict=False)), **node.kwargs}",
        'return {"input": None, "running_mean": None, **dict(zip(names, node.args, strict=False))}',
        published="efficient_conv_bn_eval of torch 2.13.0: the bias of F.conv2d(x, w, bias=b) is dropped (issue 196165)",
    ),
    Broken(
        "conv_bn_tune",
        "the rank of a linear layer's result is not looked at",
        "if _value(before).dim() != rank:",
        "if _value(before).dim() != rank and before.target is not F.linear:",
        published="efficient_conv_bn_eval of torch 2.13.0: Linear before BatchNorm1d on (N, C, F) is silently wrong",
    ),
    Broken(
        "conv_bn_tune",
        "groups of a transposed convolution are ignored",
        "grouped = torch.unflatten(weight, 0, (groups, -1)) * factor.reshape(groups, 1, -1, *ones)",
        "grouped = torch.unflatten(weight, 0, (1, -1)) * factor.reshape(1, 1, -1, *ones)",
        published="efficient_conv_bn_eval of torch 2.13.0: ConvTranspose2d with groups before BatchNorm2d raises",
    ),
    Broken(
        "conv_bn_tune",
        "a convolution without a batch is folded as if the channels were behind",
        "if _value(before).dim() != rank:",
        "if _value(before).dim() not in (rank, rank - 1):",
        published="efficient_conv_bn_eval of torch 2.13.0, at the pass: unbatched conv1d with as many columns as channels",
    ),
    Broken(
        "conv_bn_tune",
        "normalisation in training is folded by what was stored",
        'second.get("training", False) is not False or None',
        "None",
    ),
    Broken(
        "conv_bn_tune",
        "epsilon is added outside of the root",
        "torch.rsqrt(variance + eps)",
        "1 / (variance.sqrt() + eps)",
    ),
    Broken("conv_bn_tune", "the shift is scaled", "folded = folded + shift", "folded = folded + shift * factor"),
    Broken("conv_bn_tune", "the bias is not scaled", "folded = offset * factor", "folded = offset - 0 * factor"),
    Broken(
        "conv_bn_tune",
        "the weight has no gradient of its own",
        "return weight * factor.reshape(-1, 1, *ones), folded",
        "return weight.detach() * factor.reshape(-1, 1, *ones), folded",
    ),
)

_DEPLOY = (
    Broken("conv_bn_deploy", "folded once and for all", "if self.kept is None or not same:", "if self.kept is None:"),
    Broken(
        "conv_bn_deploy",
        "tensors of equal shape are taken for the same",
        "(one is other or not isinstance(one, Tensor)) and version == then",
        "(getattr(one, 'shape', 0) == getattr(other, 'shape', 0)) and version == then",
    ),
    Broken(
        "conv_bn_deploy",
        "the bias of the convolution is forgotten",
        "offset = -mean if bias is None else bias - mean",
        "offset = -mean",
    ),
    Broken(
        "conv_bn_deploy",
        "another user's result is normalised too",
        "or len(before.users) != 1:",
        "or not before.users:",
    ),
)

BROKEN = (*_TUNE, *_DEPLOY)
