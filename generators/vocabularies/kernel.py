"""What to propose for a user's kernel: its own calls, among the operators of torch that feed it and use its results.

The structure of its arguments comes from example calls and from what ``shakeout learn`` made of the user's tests, where
there are any, else from the records of the operator that is its reference, as far as they fit the kernel's signature.
Sizes, dtypes, layouts, values and attributes are varied as for every other operator, and every proposal is run by the
reference.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from shakeout.corpus import learnt
from shakeout.corpus.program import Arg, TensorType, references
from shakeout.corpus.user_objects import Kernel
from shakeout.corpus.vocabularies import kernel as words
from shakeout.generators.calls import perform
from shakeout.generators.choices import Choices, SeededChoices
from shakeout.generators.network import grow
from shakeout.generators.recipe import Grown, Recipe
from shakeout.generators.rules.examine import Execute
from shakeout.generators.rules.propose import Limits, propose
from shakeout.generators.rules.rule import Rule
from shakeout.generators.rules.validate import as_trace
from shakeout.generators.values import DTYPES
from shakeout.generators.vocabularies.bootstrap import records_of_examples
from shakeout.generators.vocabularies.probe import operand, retype
from shakeout.generators.vocabularies.records import Record, Spread
from shakeout.generators.vocabularies.refusals import accepted
from shakeout.generators.vocabularies.torch import Takers, Vocabulary

__all__ = ["KernelVocabulary", "NothingKnown", "grow_around", "kernel_vocabulary", "records_of_rule"]

#: Of the calls that take an existing value, this share (1 in ...) are the kernel's.
SHARE = 3

#: Calls that are drawn from a rule, and how large they may be: each becomes a record, whose sizes are varied again.
DRAWN = 24
LIMITS = Limits(size=12, attribute=12)

#: Programs that are grown until one calls the kernel. One in eight small ones starts without it, and a call that is
#: rejected for its drawn sizes leaves others; eight in a row without any call were never seen.
ATTEMPTS = 24


class NothingKnown(ValueError):
    """No way to call a kernel is known that its reference accepts."""


class KernelVocabulary(Vocabulary):
    """One kernel, and the operators of torch around it."""

    name = "kernel"

    def __init__(self, operator: str, records: tuple[Record, ...], around: Vocabulary) -> None:
        super().__init__({operator: []})
        self._records[operator] = records
        self._around = around

    @property
    def ruled(self) -> bool:
        """Whether there are rules of the operators around it; its own have become records."""
        return self._around.ruled

    @property
    def around(self) -> tuple[str, ...]:
        """The operators that may stand beside the kernel."""
        return self._around.operators

    @property
    def unfit(self) -> frozenset[str]:
        """Operators that must not stand beside it.

        Where the kernel rounds otherwise than its reference, as it may, their results would have other sizes.
        """
        return frozenset(name for name in self.around if words.traits(name).sized_by_values)

    def takers(self, dtype: str, rank: int) -> tuple[Takers, ...]:
        """Where a value of this dtype and rank can go; the kernel comes often."""
        others = self._around.takers(dtype, rank)
        return others + super().takers(dtype, rank) * (len(others) // SHARE + 1)


@functools.lru_cache(maxsize=64)
def kernel_vocabulary(operator: str, around: Vocabulary, *, asked: bool = False) -> KernelVocabulary:
    """The vocabulary of a declared kernel.

    Args:
        operator: ``MODULE:NAME``.
        around: the torch vocabulary.
        asked: leave out what the kernel itself declines; that is found out by running it, in processes of its own.

    Raises:
        NothingKnown: neither its reference nor its examples give a call that the reference accepts.
    """
    if asked:
        everything = kernel_vocabulary(operator, around)
        return KernelVocabulary(operator, tuple(accepted(operator, everything.records(operator))), around)
    declared = words.kernel(operator)
    examples = [(example.args, example.kwargs) for example in declared.examples]
    records = records_of_examples(operator, examples, list(DTYPES))
    kept = _learnt(operator)
    records += [record for record in kept if record not in records]
    # Whoever gives examples, or tests, says what the kernel is for; the reference may well take more.
    for name in _names(declared.reference) if not examples and not kept else ():
        if name in around.operators:
            records += [
                record for record in _adapted(declared, operator, around.records(name)) if record not in records
            ]
    if not records:
        known = "none of its example calls runs" if examples else "it has no example calls"
        raise NothingKnown(
            f"{operator}: {known}, and no recorded call of the reference {words.meaning(operator)!r} fits its "
            "signature; declare it with @shakeout.kernel(reference=..., examples=[(x, w), ...]) and calls that the "
            f"reference accepts, or have them taken from your tests: shakeout learn {operator} --examples PATH"
        )
    return KernelVocabulary(operator, tuple(records), around)


def records_of_rule(
    rule: Rule,
    spreads: Sequence[Spread],
    execute: Execute,
    count: int = DRAWN,
    lost: Callable[[Exception], None] = lambda error: None,
) -> list[Record]:
    """Records of calls that are drawn from a rule, where it was learnt from few; those that are rejected give none.

    Args:
        rule: of one variant of a kernel.
        spreads: which values its operands need.
        execute: runs a call.
        count: calls that are drawn.
        lost: told why a call that was taken gives no record.
    """
    operator = rule.variant.operator
    choices = SeededChoices(0)
    calls: list[tuple[Sequence[Any], Mapping[str, Any]]] = []

    def note(*args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs))

    for _ in range(count):
        proposal = propose(rule, choices, (), LIMITS)
        done = None if proposal is None else execute(as_trace(rule, proposal), spreads)
        if done is not None and done.accepted:
            made = [
                operand(type_.dtype, type_.shape, spread, torch.float32)
                for type_, spread in itertools.zip_longest(done.operands, spreads, fillvalue=Spread())
                if isinstance(type_, TensorType)
            ]
            perform(note, done.args, done.kwargs, made)
    return records_of_examples(operator, calls, list(DTYPES), lost)


def _learnt(operator: str) -> list[Record]:
    """The records that ``shakeout learn`` made of the calls of the user's tests."""
    content = learnt.of_kernel(operator) or {}
    found = []
    for row in (*content.get("records", ()), *content.get("drawn", ())):
        with contextlib.suppress(ValueError, TypeError, KeyError, IndexError, AttributeError):
            # The kernel may have changed since: what its reference takes no more is no record of it.
            if (again := retype(Record.from_json(operator, row), operator)) is not None:
                found.append(again)
    return found


def _names(reference: Callable[..., Any]) -> list[str]:
    """Every name that torch has for the reference."""
    return [name for name, function in words.operators().items() if function is reference]


def _adapted(declared: Kernel, operator: str, records: tuple[Record, ...]) -> list[Record]:
    """The reference's records, cut down to what the kernel's signature takes and tried again."""
    signature = _signature(declared.function)
    found = []
    for record in records:
        fitting = record if signature is None else _fitting(record, signature)
        again = None if fitting is None else retype(fitting, operator)
        if again is not None and again not in found:
            found.append(again)
    return found


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """What arguments a kernel takes, or None where it does not say."""
    inner = getattr(function, "_init_fn", function)  # of a custom operator of torch.library
    schema = getattr(inner, "_schema", None)
    if schema is not None:
        kind = inspect.Parameter
        return inspect.Signature(
            [
                kind(
                    one.name,
                    kind.KEYWORD_ONLY if one.kwarg_only else kind.POSITIONAL_OR_KEYWORD,
                    default=one.default_value if one.has_default_value() else kind.empty,
                )
                for one in schema.arguments
            ]
        )
    try:
        return inspect.signature(inner)
    except (TypeError, ValueError):
        return None


def _fitting(record: Record, signature: inspect.Signature) -> Record | None:
    """The record without arguments that the signature lacks; None if that loses a tensor or one is missing."""
    kinds = [one.kind for one in signature.parameters.values()]
    kind = inspect.Parameter
    args, kwargs = record.args, record.kwargs
    if kind.VAR_POSITIONAL not in kinds:
        count = sum(one in (kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD) for one in kinds)
        args = args[:count]
    if kind.VAR_KEYWORD not in kinds:
        kwargs = tuple((key, value) for key, value in kwargs if key in signature.parameters)
    if _tensors(args, kwargs) != _tensors(record.args, record.kwargs):
        return None
    try:
        signature.bind(*args, **dict(kwargs))
    except TypeError:
        return None
    return replace(record, args=args, kwargs=kwargs)


def _tensors(args: tuple[Arg, ...], kwargs: tuple[tuple[str, Arg], ...]) -> list[int]:
    return sorted(references((*args, *(value for _, value in kwargs))))


def grow_around(
    choices: Choices,
    recipe: Recipe,
    vocabulary: KernelVocabulary,
    before_call: Callable[[str], None] | None = None,
) -> Grown:
    """Grow a program that calls the kernel; see ``network.grow``.

    Raises:
        NothingKnown: no call of the kernel was accepted by its reference.
    """
    rejected: Mapping[str, int] = {}
    recipe = replace(recipe, avoid=recipe.avoid | vocabulary.unfit)
    for _ in range(ATTEMPTS):
        grown = grow(choices, recipe, vocabulary, before_call)
        if vocabulary.operators[0] in grown.program.operators():
            return grown
        rejected = grown.rejected
    reasons = ", ".join(f"{reason} ({count})" for reason, count in rejected.items()) or "no reason"
    raise NothingKnown(
        f"{vocabulary.operators[0]}: its reference rejected every call of {ATTEMPTS} programs: {reasons}"
    )
