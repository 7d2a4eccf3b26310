"""Input sets of a grown program: the one it was grown on, others with other values, others with other sizes.

A further set belongs to a case only if the reference accepts it: the program is run again on it, with the same
questions about what is defined as while it grew.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from shakeout.corpus import standalone
from shakeout.corpus.case import InputSet, Storage
from shakeout.generators.calls import Rejected, perform
from shakeout.generators.choices import Choices
from shakeout.generators.definedness import after, before, ordinary, overlaps_itself, undefined_results
from shakeout.generators.growth import Step
from shakeout.generators.values import DTYPES, SEEDS, Given, fresh_layout, row_major, tensor_of

__all__ = ["Failed", "input_set", "relaid", "repeated", "replay", "resized", "tensors_of", "untouched"]

#: Elements of one input of a set with other sizes.
MAX_ELEMENTS = 1 << 14

#: What torch says of a backward pass whose saved tensors were written to.
OVERWRITTEN = "modified by an inplace operation"

_NONE: Mapping[int, torch.Tensor | None] = MappingProxyType({})


class Failed(Exception):
    """A replay that the reference does not accept.

    Attributes:
        step: number of the call; None for the backward pass.
        overwritten: whether calls wrote to what the backward pass needs, and nothing else is known to be wrong.
    """

    def __init__(self, step: int | None, reason: str, *, overwritten: bool = False) -> None:
        super().__init__(reason)
        self.step = step
        self.overwritten = overwritten


def input_set(inputs: Sequence[Given]) -> InputSet:
    """The recipe of the tensors; a shared storage is listed once."""
    storages: list[Storage] = []
    numbers: dict[int, int] = {}
    for number, given in enumerate(inputs):
        if given.shares is None:
            numbers[number] = len(storages)
            storages.append(given.storage())
    views = []
    for number, given in enumerate(inputs):
        owner = number if given.shares is None else given.shares
        views.append(given.view(numbers[owner]))
    return InputSet(tuple(storages), tuple(views))


def tensors_of(inputs: InputSet, training: bool) -> list[torch.Tensor]:
    """The tensors that a recipe describes, as the source text of a case makes them."""
    storages = [tensor_of(storage) for storage in inputs.storages]
    tensors = []
    for view in inputs.views:
        tensor = standalone.strided(storages[view.storage], DTYPES[view.dtype], view.shape, view.strides, view.offset)
        if training and view.requires_grad:
            tensor = tensor.detach().requires_grad_()
        tensors.append(tensor)
    return tensors


def replay(
    steps: Sequence[Step],
    inputs: InputSet,
    *,
    special: bool,
    returns: Sequence[int],
    training: bool,
    same_types: bool,
    parameters: Mapping[int, torch.Tensor | None] = _NONE,
    overwrites: bool = False,
) -> tuple[dict[str, Any], dict[int, torch.Tensor | None]]:
    """Run a program on a set of inputs, with its backward pass in training.

    Args:
        steps: the calls.
        inputs: what it is run on.
        special: NaN and infinities are wanted.
        returns: the values that are returned.
        training: run the backward pass as well.
        same_types: every result has to be of the type that it had before.
        parameters: for each input that is one, in order, what the call before left in it; None for the drawn values.
        overwrites: copies are saved for the backward pass, so that calls may write to what it needs.

    Returns:
        What ``standalone.run`` would show of the call, and the parameters after the step that it ends with.

    Raises:
        Failed: torch rejects a call, a result is not defined, not finite where that is not wanted, or of another type
            than before where ``same_types`` asks for the same.
    """
    values = tensors_of(inputs, training)
    with torch.no_grad():
        for number, held in parameters.items():
            # One whose elements share a place takes no step.
            if held is not None and not overlaps_itself(values[number]):
                values[number].copy_(held)
    count = len(inputs.views)
    given = [values[number] for number in range(count) if number not in parameters]
    owned = [values[number] for number in parameters]
    leaves = [tensor for tensor in [*given, *owned] if tensor.requires_grad] if training else []
    gradients: list[torch.Tensor | None] = []
    with standalone.keeping() if overwrites else contextlib.nullcontext():
        with torch.set_grad_enabled(bool(leaves)):
            for number, step in enumerate(steps):
                _again(number, step, values, special, training, same_types)
        outputs = [values[i] for i in returns]
        if leaves:
            gradients = _backward(outputs, leaves, special)
    if leaves:
        standalone.step(owned, leaves, gradients)
        outputs = [output.detach() for output in outputs]
    shown = standalone.shown(outputs, gradients, [*given, *owned], untouched())
    return shown, {number: values[number].detach() for number in parameters}


@functools.cache
def untouched() -> torch.Tensor:
    """The random state that a call starts with, and, as nothing that is grown draws from it, ends with."""
    return torch.Generator().manual_seed(0).get_state()


def _again(
    number: int, step: Step, values: list[torch.Tensor], special: bool, training: bool, same_types: bool
) -> None:
    used = [values[i] for i in step.operands]
    targets = [values[i] for i in step.written]
    if not training or step.written or not step.kind.quiet:
        reason = before(step.kind, used, targets, step.args, step.kwargs)
        if reason is not None:
            raise Failed(number, reason)
    try:
        form, results = perform(step.function, step.args, step.kwargs, values)
    except Rejected as error:
        raise Failed(number, str(error)) from error
    if form != step.form or len(results) != len(step.types):
        raise Failed(number, "another number of results")
    with torch.no_grad():
        reason = after(used, targets, results)
        undefined = undefined_results(step.kind, used, results, training)
        if reason is not None or undefined is None:
            raise Failed(number, reason or "ambiguous")
        for position, (tensor, type_) in enumerate(zip(results, step.types, strict=True)):
            if type_ is None:
                continue
            if position in undefined or not isinstance(tensor, torch.Tensor):
                raise Failed(number, "a result is not defined")
            if same_types and (tensor.dtype != DTYPES[type_[0]] or tensor.shape != type_[1]):
                raise Failed(number, "a result of another type")
            if tensor.numel() > 8 * MAX_ELEMENTS and not same_types:
                raise Failed(number, "too large")
            if not special and not ordinary(tensor):
                raise Failed(number, "not finite")
    values.extend(results)


def _backward(
    outputs: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor], special: bool
) -> list[torch.Tensor | None]:
    roots = [output for output in outputs if output.requires_grad]
    if not roots:
        raise Failed(None, "no result depends on a leaf")
    try:
        cotangents = [standalone.cotangent(root) for root in roots]
        gradients = torch.autograd.grad(roots, leaves, cotangents, allow_unused=True)
    except Exception as error:
        overwritten = OVERWRITTEN in str(error)
        raise Failed(None, "torch rejects the backward pass", overwritten=overwritten) from error
    found = [gradient for gradient in gradients if gradient is not None]
    if any(gradient.layout != torch.strided for gradient in found):
        raise Failed(None, "a gradient is no plain tensor")
    if not found or (not special and not all(ordinary(gradient) for gradient in found)):
        raise Failed(None, "a gradient is not finite")
    return list(gradients)


def repeated(choices: Choices, inputs: Sequence[Given]) -> list[Given]:
    """The same inputs with other values; parameters keep theirs, because the network is made once."""
    shift = SEEDS * choices.integer(1, 3)
    return [
        given
        if given.values.kind == "literal" or given.parameter
        else replace(given, values=replace(given.values, seed=(given.values.seed + shift) % (1 << 31)))
        for given in inputs
    ]


def relaid(choices: Choices, inputs: Sequence[Given], *, shared: bool) -> list[Given] | None:
    """The same values of the same sizes, lying in memory in another way; None where there is no other.

    An input gets other strides and an offset, or becomes a window on another one's storage, or stands for itself where
    it was one; of several leaves one is none.

    Args:
        choices: decides.
        inputs: of the first call.
        shared: whether inputs may begin to share a storage.
    """
    free = [n for n, given in enumerate(inputs) if not given.parameter and given.size is None]
    free = [n for n in free if not any(other.shares == n for other in inputs) and inputs[n].values.kind != "literal"]
    if not free:
        return None
    changed = list(inputs)
    place = choices.pick(free)
    given = changed[place]
    own = replace(given, layout=fresh_layout(choices, given.shape, writable=True), shares=None, window=None)
    owners = [n for n in range(place) if shared and _lends(inputs[n], given)]
    leaves = [n for n in free if inputs[n].requires_grad]
    kinds = ["strides", "strides"] if given.shape and given.storage_dtype == given.dtype else []
    kinds += ["apart"] if given.shares is not None else []
    kinds += ["shared"] * 4 if owners and not given.requires_grad else []
    kinds += ["gradients"] * 3 if len(leaves) > 1 else []
    if not kinds:
        return None
    match choices.pick(kinds):
        case "strides":
            changed[place] = own
        case "apart":
            changed[place] = replace(given, layout=row_major(len(given.shape)), shares=None, window=None)
        case "shared":
            owner = choices.pick(owners)
            window = row_major(len(given.shape)).place(given.shape)[0], 0
            changed[place] = replace(given, layout=None, shares=owner, window=window, values=inputs[owner].values)
        case "gradients":
            leaf = choices.pick(leaves)
            changed[leaf] = replace(inputs[leaf], requires_grad=False)
    return changed


def _lends(owner: Given, given: Given) -> bool:
    """Whether an input's storage has room for another one of its dtype."""
    alike = owner.storage_dtype == owner.dtype == given.dtype == given.storage_dtype
    if not alike or owner.shares is not None or owner.size is not None or owner.values.kind == "literal":
        return False
    return not owner.parameter and owner.storage().size >= math.prod(given.shape) > 0


def resized(choices: Choices, inputs: Sequence[Given]) -> list[Given] | None:
    """The same inputs with one size changed wherever it occurs, or None where that is not possible."""
    if any(given.shares is not None for given in inputs):
        return None
    sizes = sorted({size for given in inputs if not given.parameter for size in given.shape if size > 1})
    if not sizes:
        return None
    old = choices.pick(sizes)
    new = choices.pick([size for size in (old + 1, old + 2, old - 1, 2 * old, old + 7, 16, 17) if size not in (old, 1)])
    changed = []
    for given in inputs:
        if given.parameter:
            changed.append(given)
            continue
        shape = tuple(new if size == old else size for size in given.shape)
        if shape != given.shape and given.values.kind == "literal":
            return None
        if math.prod(shape) > MAX_ELEMENTS:
            return None
        if shape != given.shape and given.size is not None:
            given = replace(given, layout=row_major(len(shape)), window=None, size=None)
        changed.append(replace(given, shape=shape))
    return changed
