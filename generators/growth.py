"""Growth: proposals run at once on real tensors; what torch takes and what means something joins the program."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from shakeout.corpus import standalone
from shakeout.corpus.case import InputSet, Storage, View
from shakeout.corpus.program import Arg, Form, TensorType
from shakeout.corpus.vocabularies import Vocabulary, vocabulary
from shakeout.corpus.vocabularies.traits import Traits
from shakeout.generators import views
from shakeout.generators.calls import Rejected, Saved, perform
from shakeout.generators.choices import Choices
from shakeout.generators.definedness import after, before, ordinary, undefined_results
from shakeout.generators.domains import domain
from shakeout.generators.growth_config import MAX_ELEMENTS, MAX_TOTAL, MIXED, GrowthConfig
from shakeout.generators.indices import ignoring
from shakeout.generators.numbers import python_number
from shakeout.generators.recorded import bound, mutated, shapes
from shakeout.generators.rules.observed import MOST_REFUSED, observed_call, template
from shakeout.generators.rules.trace import Trace
from shakeout.generators.values import DTYPES, NAMES, Given, InputSampler, row_major, tensor_of
from shakeout.generators.vocabularies.records import Record, Spread

__all__ = ["Growth", "Step"]

Shape = tuple[int, ...]

_UNORDERED = (torch.uint16, torch.uint32, torch.uint64)
#: The real dtype of a complex one, as of its norms.
_REAL = {"complex64": "float32", "complex128": "float64", "complex32": "float16"}


@dataclass(slots=True)
class Step:
    """One accepted call; operands and results are numbers of values.

    Attributes:
        operator: qualified name.
        function: what it resolves to.
        args: positional arguments with ``Ref`` to values.
        kwargs: keyword arguments.
        operands: the values it uses.
        written: those that it writes to.
        kind: traits of the operator.
        form: of its result.
        first: number of its first result.
        types: dtype and shape of each result, None where it has no defined tensor.
    """

    operator: str
    function: Callable[..., Any]
    args: tuple[Arg, ...]
    kwargs: tuple[tuple[str, Arg], ...]
    operands: tuple[int, ...]
    written: tuple[int, ...]
    kind: Traits
    form: Form
    first: int
    types: tuple[tuple[str, tuple[int, ...]] | None, ...]


class Growth:
    """A program while it grows: its inputs, its calls, and every value as a real tensor."""

    def __init__(
        self,
        choices: Choices,
        sampler: InputSampler,
        config: GrowthConfig,
        avoid: frozenset[str] = frozenset(),
        foreign: frozenset[str] = frozenset(),
        only: frozenset[str] | None = None,
        words: Vocabulary | None = None,
        refused: frozenset[tuple[str, tuple[str, ...]]] = frozenset(),
    ) -> None:
        self.choices, self.sampler, self.config = choices, sampler, config
        self._refused = refused
        self.words = vocabulary("kernel") if words is None else words
        self._avoid, self._foreign, self._only = avoid, foreign, only
        self._before_call: Callable[[Step], None] | None = None
        self.inputs: list[tuple[int, Given]] = []  # with the number of the value
        self.windows: list[tuple[Storage | None, View]] = []
        self.storages: list[torch.Tensor | None] = []
        self.owned = 0  # how many of the storages are an input's own
        self.steps: list[Step] = []
        self.tensors: list[torch.Tensor] = []
        self.dtypes: list[str] = []
        self.shapes: list[tuple[int, ...]] = []
        self.made: list[int] = []  # the step that made a value, -1 for inputs
        self.uses: list[int] = []
        self.dead: set[int] = set()
        self.by_type: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        self.protected: set[int] = set()
        self.rejected: Counter[str] = Counter()
        self.refused: list[Trace] = []
        self.total = 0
        self._deriving = 0  # operands that may yet be made by a call for the purpose
        self.spoilt = False  # a dropped call wrote where it should not: values are not what the program says

    # --- how it goes on -----------------------------------------------------------------------------------------

    def watched(self, tell: Callable[[Step], None]) -> None:
        """Have somebody told of each call before it runs; its results are not known yet."""
        self._before_call = tell

    def derive(self, most: int) -> None:
        """From now on let at most so many operands be views or constants that are made for the purpose."""
        self._deriving = most

    def unrestricted(self) -> None:
        """From now on leave out no operator and no dtype, and draw plain calls alone."""
        self.derive(0)
        self.config = GrowthConfig(special=self.config.special)
        self._avoid = self._foreign = frozenset()
        self._refused = frozenset()
        self._only = None

    def note(self, reason: str) -> None:
        """Count something that was dropped."""
        self.rejected[reason] += 1

    # --- values --------------------------------------------------------------------------------------------------

    def _add(self, tensor: torch.Tensor | None, dtype: str, shape: tuple[int, ...], step: int) -> int:
        number = len(self.tensors)
        self.tensors.append(tensor)  # type: ignore[arg-type]
        self.dtypes.append(dtype)
        self.shapes.append(shape)
        self.made.append(step)
        self.uses.append(0)
        if tensor is None:
            self.dead.add(number)
        else:
            self.by_type.setdefault((dtype, shape), []).append(number)
            self.total += tensor.numel()
        return number

    def _rollback(self, values: int, steps: int, inputs: int) -> None:
        while len(self.tensors) > values:
            tensor = self.tensors.pop()
            key = (self.dtypes.pop(), self.shapes.pop())
            self.made.pop()
            self.uses.pop()
            if tensor is None:
                self.dead.discard(len(self.tensors))
            else:
                self.by_type[key].pop()
                self.total -= tensor.numel()
        while len(self.inputs) > inputs:
            self.inputs.pop()
            self.windows.pop()
            storage = self.storages.pop()
            self.owned -= storage is not None
            if storage is not None:
                # Another tensor may get this address, and what is drawn must not hang on addresses.
                self.protected.discard(storage.untyped_storage().data_ptr())
        for step in self.steps[steps:]:
            for operand in step.operands:
                if operand < values:
                    self.uses[operand] -= 1
        del self.steps[steps:]

    def usable(self) -> list[int]:
        """Values that may be used, in order."""
        dead = self.dead
        return (
            [number for number in range(len(self.tensors)) if number not in dead]
            if dead
            else list(range(len(self.tensors)))
        )

    def writable(self, number: int) -> bool:
        """Whether a value may be written to: it is no leaf, no view of one, and no two elements share a place."""
        return self.tensors[number].untyped_storage().data_ptr() not in self.protected

    # --- operands ------------------------------------------------------------------------------------------------

    def _holds(self, number: int, spread: Spread) -> bool:
        """Whether a value is such as a slot needs."""
        if spread.kind != "any" and spread.kind != "index":
            return False
        if spread.low is None or spread.high is None:
            return True
        tensor = self.tensors[number]
        if tensor.dtype == torch.bool or tensor.is_complex() or not tensor.numel():
            return True
        if spread.kind == "any" and self.config.special:
            return True
        if tensor.dtype.itemsize == 1 and tensor.is_floating_point():
            return False
        least, most = torch.aminmax(tensor) if tensor.dtype not in _UNORDERED else torch.aminmax(tensor.double())
        if spread.kind == "index":
            return spread.low <= least.item() and most.item() <= spread.high
        # The bounds were seen, not stated: what matters is their sign and whether they are those of a unit.
        high = spread.high if spread.high <= 1 else math.inf
        return (spread.low if spread.low < 0 else 0) <= least.item() and most.item() <= high

    def _fresh(self, dtype: str, shape: tuple[int, ...], spread: Spread, *, writable: bool, plain: bool) -> int:
        """A new input, or a view or constant made for the purpose."""
        choices, config = self.choices, self.config
        if dtype in self._foreign:
            raise Rejected("foreign dtype")
        if math.prod(shape) > (MAX_ELEMENTS if not config.large else 1 << 16):
            raise Rejected("too large")
        anything = spread.kind == "any" and spread.low is None and not plain
        if config.constants and not writable and spread.kind == "any" and choices.boolean(config.constants):
            made = self._made(views.constant(choices, shape, dtype, config.reach), dtype, shape)
            if made is not None:
                return made
        if anything and self._deriving > 0 and choices.boolean(config.derive):
            made = self._derived(dtype, shape)
            if made is not None:
                return made
        if plain or not choices.boolean(config.share):
            given = self.sampler.given(dtype, shape, spread, writable=writable, plain=plain)
        else:
            given = self._sharing(dtype, shape) or self.sampler.given(
                dtype, shape, spread, writable=writable, plain=plain
            )
        if given is None:
            raise Rejected("no such values")
        wide = DTYPES[dtype].is_floating_point or DTYPES[dtype].is_complex
        leaf = config.training and not writable and wide and choices.boolean(0.85)
        constant = not wide and config.constant > 0 and choices.boolean(config.constant)
        parameter = constant or (wide and choices.boolean(config.parameter))
        if leaf or parameter:
            given = Given(
                given.dtype, given.shape, given.layout, given.values, given.storage_dtype, given.shares, given.window,
                parameter, leaf,
            )  # fmt: skip
        return self.give(given)

    def give(self, given: Given) -> int:
        """Add an input; the number of its value."""
        storage: Storage | None = None
        if given.shares is None:
            storage = given.storage()
            flat = tensor_of(storage)
            self.storages.append(flat)
            view = given.view(self.owned)
            self.owned += 1
        else:
            base = self.storages[given.shares]
            assert base is not None
            flat = base
            self.storages.append(None)
            view = given.view(self.windows[given.shares][1].storage)
        self.windows.append((storage, view))
        tensor = flat
        if (
            given.window is not None
            or given.storage_dtype != given.dtype
            or view.offset
            or view.shape != (flat.shape[0],)
            or view.strides != (1,)
        ):
            tensor = standalone.strided(flat, DTYPES[given.dtype], view.shape, view.strides, view.offset)
        if given.requires_grad or not self.config.writes:
            self.protected.add(flat.untyped_storage().data_ptr())
        number = self._add(tensor, given.dtype, given.shape, -1)
        self.inputs.append((number, given))
        return number

    def input_set(self) -> InputSet:
        """The recipe of the inputs as they are."""
        return InputSet(
            tuple([storage for storage, _ in self.windows if storage is not None]),
            tuple([view for _, view in self.windows]),
        )

    def _sharing(self, dtype: str, shape: tuple[int, ...]) -> Given | None:
        """A window on the storage of an earlier input."""
        found = [
            (i, given)
            for i, (_, given) in enumerate(self.inputs)
            if given.storage_dtype == dtype and given.shares is None and given.values.kind != "literal"
        ]
        if not found or 0 in shape:
            return None
        owner, base = self.choices.pick(found)
        flat = self.storages[owner]
        assert flat is not None
        layout = row_major(len(shape))
        if len(shape) >= 2 and self.choices.boolean(0.4):
            layout = type(layout)(
                (*layout.order[:-2], layout.order[-1], layout.order[-2]), layout.steps, layout.padding
            )
        strides, size = layout.place(shape)
        room = flat.numel() - size
        if room < 0:
            return None
        offset = self.choices.integer(0, min(room, 4))
        return Given(dtype, shape, None, base.values, dtype, owner, (strides, offset))

    def _derived(self, dtype: str, shape: tuple[int, ...]) -> int | None:
        self._deriving -= 1
        if self.choices.boolean(0.25) and dtype in MIXED:
            return self._made(views.constant(self.choices, shape, dtype, self.config.reach), dtype, shape)
        return self._made(views.derivation(self.choices, shape), dtype, shape)

    def _made(self, record: Record, dtype: str, shape: tuple[int, ...]) -> int | None:
        """An operand by a call of its own, or None where that is not possible."""
        marks = len(self.tensors), len(self.steps), len(self.inputs)
        if not self.permits(record.operator):
            return None
        try:
            self._place(record, dtype, None)
        except Rejected:
            self._rollback(*marks)
            return None
        number = len(self.tensors) - 1
        if self.shapes[number] != shape or self.dtypes[number] != dtype:
            self._rollback(*marks)
            return None
        return number

    def _operands(
        self, record: Record, dtype: str, focus: tuple[int, int] | None, sizes: Sequence[Shape] | None
    ) -> tuple[list[int], dict[int, bool | int | float]]:
        """Values for the slots; for some slots a Python number instead."""
        choices, config = self.choices, self.config
        plain = self.words.traits(record.operator).plain
        numbers: list[int] = []
        scalars: dict[int, bool | int | float] = {}
        if sizes is None:
            sizes = shapes(record, choices, config, None if focus is None else (self.shapes[focus[0]], focus[1]))
        for place, slot in enumerate(record.slots):
            if focus is not None and place == focus[1]:
                numbers.append(focus[0])
                continue
            wanted = slot.dtype
            if wanted == "T":
                wanted = dtype
                # A user's kernel may well take tensors of one dtype and nothing else.
                if place and len(record.slots) > 1 and record.dtypes and ":" not in record.operator:
                    if choices.boolean(config.mix):
                        wanted = choices.pick(MIXED)
                    elif choices.boolean(config.number) and place not in record.mutates:
                        scalars[place] = python_number(choices, config.reach, dtype)
                        numbers.append(-1)
                        continue
            elif wanted == "R":
                wanted = _REAL.get(dtype, dtype)
            writes = place in record.mutates
            spread = slot.spread if place else self.bounded(record.operator, slot.spread)
            numbers.append(self.operand(wanted, sizes[place], spread, writes=writes, plain=plain))
        return numbers, scalars

    def bounded(self, operator: str, spread: Spread) -> Spread:
        """What the first operand of an operator is drawn from: now and then its domain up to the very ends."""
        if spread.kind != "any" or not self.choices.boolean(self.config.domains):
            return spread
        return domain(operator) or spread

    def operand(self, dtype: str, shape: tuple[int, ...], spread: Spread, *, writes: bool, plain: bool) -> int:
        """A value of this type: one that is there already, or a fresh one.

        Args:
            dtype: its dtype.
            shape: its sizes.
            spread: which values it needs.
            writes: the call writes to it.
            plain: it has to be row-major.

        Raises:
            Rejected: there can be none.
        """
        if not plain and self.choices.boolean(self.config.reuse):
            for candidate in self._matching(dtype, shape):
                if candidate in self.dead or (writes and not self.writable(candidate)):
                    continue
                if self._holds(candidate, spread):
                    return candidate
                break
        if writes and not self.config.writes:
            raise Rejected("writes to an input")
        return self._fresh(dtype, shape, spread, writable=writes, plain=plain)

    def _matching(self, dtype: str, shape: tuple[int, ...]) -> list[int]:
        """Up to three values of this type, in drawn order."""
        known = self.by_type.get((dtype, shape))
        if not known:
            return []
        if len(known) == 1:
            return known[:]
        start = self.choices.integer(0, len(known) - 1)
        return [known[(start + i) % len(known)] for i in range(min(3, len(known)))]

    # --- calls ---------------------------------------------------------------------------------------------------

    def place(
        self,
        record: Record,
        dtype: str,
        focus: tuple[int, int] | None = None,
        mutate: bool = False,
        sizes: Sequence[Shape] | None = None,
    ) -> bool:
        """Propose a call and keep it if torch takes it and it means something.

        Args:
            record: what to call.
            dtype: what ``T`` is.
            focus: a value and the slot that it is to go to.
            mutate: change one attribute.
            sizes: a shape for each slot; None to draw them.
        """
        if not self.welcomes(record.operator, record.mutates, record.grad):
            return False
        return self.attempt(lambda: self._place(record, dtype, focus, mutate, sizes))

    def welcomes(self, operator: str, mutates: Sequence[int], grad: bool) -> bool:
        """Whether a call of an operator that writes to these operands is proposed at all."""
        if not self.permits(operator) or (self.config.training and not grad):
            return False
        # Many a backward pass needs what would be overwritten.
        unwelcome = self.config.training and mutates and not self.config.overwrites
        return not unwelcome or self.choices.boolean(0.4)

    def permits(self, operator: str) -> bool:
        """Whether programs may have this operator."""
        return operator not in self._avoid and (self._only is None or operator in self._only)

    def attempt(self, propose: Callable[[], None]) -> bool:
        """Keep what a proposal adds, or nothing of it where it raises ``Rejected``."""
        marks = len(self.tensors), len(self.steps), len(self.inputs)
        try:
            propose()
        except Rejected as reason:
            self.note(str(reason))
            self._rollback(*marks)
            return False
        return True

    def _place(
        self,
        record: Record,
        dtype: str,
        focus: tuple[int, int] | None,
        mutate: bool = False,
        sizes: Sequence[Shape] | None = None,
    ) -> None:
        if focus is not None and focus[1] in record.mutates and not self.writable(focus[0]):
            raise Rejected("writes to a leaf")
        numbers, scalars = self._operands(record, dtype, focus, sizes)
        args, kwargs = bound(record, numbers, scalars)
        if mutate and not record.draws:
            args, kwargs = mutated(self.choices, record.operator, args, kwargs, self.config.reach)
        if self.config.ignore and not record.draws:
            kwargs = ignoring(self.choices, record.operator, kwargs, self.config.ignore)
        operands = tuple(number for number in numbers if number >= 0)
        written = tuple(numbers[place] for place in record.mutates if numbers[place] >= 0)
        self.run(record.operator, args, kwargs, operands, written)

    def run(
        self,
        operator: str,
        args: tuple[Arg, ...],
        kwargs: tuple[tuple[str, Arg], ...],
        operands: tuple[int, ...],
        written: tuple[int, ...],
    ) -> None:
        """Run a call, and keep it if torch takes it and it means something.

        Args:
            operator: qualified name.
            args: positional arguments with ``Ref`` to values.
            kwargs: keyword arguments.
            operands: the values that it uses.
            written: those of them that it writes to.

        Raises:
            Rejected: it is not kept.
        """
        if self._refused and (operator, tuple([self.dtypes[number] for number in operands])) in self._refused:
            raise Rejected("the target takes no such types")
        kind, tensors = self.words.traits(operator), self.tensors
        used = [tensors[number] for number in operands]
        targets = [tensors[number] for number in written]
        try:
            reason = before(kind, used, targets, args, kwargs)
        except (RuntimeError, TypeError, IndexError) as error:
            raise Rejected("cannot be checked") from error
        if reason is not None:
            raise Rejected(reason)
        if self._before_call is not None:
            function = self.words.resolve(operator)
            self._before_call(Step(operator, function, args, kwargs, operands, written, kind, "tensor", 0, (None,)))
        held: list[Saved] = []
        arena: Sequence[torch.Tensor] = tensors
        if targets:
            held = [Saved(target) for target in targets]
            if kind.reshapes:
                # The call changes the sizes of the very object that it is given: give it another one.
                arena = list(tensors)
                for number in written:
                    arena[number] = tensors[number].view_as(tensors[number])
        function = self.words.resolve(operator)
        versions = [] if targets else [tensor._version for tensor in used]
        try:
            form, results = perform(function, args, kwargs, arena)
            if versions and versions != [tensor._version for tensor in used]:
                raise Rejected("it writes to an operand without saying so")
            types, fresh = self._checked(kind, used, targets, results)
            if not kind.reshapes and any(saved.resized() for saved in held):
                raise Rejected("it resizes its operand")
        except (Rejected, RuntimeError, TypeError, IndexError) as error:
            for saved in held:
                saved.restore()
            if versions and versions != [tensor._version for tensor in used]:
                self.spoilt = True
            if isinstance(error, Rejected):
                if error.__cause__ is not None and len(self.refused) < MOST_REFUSED:
                    self._refuse(operator, args, kwargs, operands, error.__cause__)
                raise
            raise Rejected("cannot be checked") from error
        number = len(self.steps)
        first = len(tensors)
        for type_, tensor in zip(types, fresh, strict=True):
            if type_ is None:
                self._add(None, "", (), number)
            else:
                self._add(tensor, type_[0], type_[1], number)
        for operand in operands:
            self.uses[operand] += 1
        if kind.reshapes:
            # Several values may be one object: an in-place call, or one that had nothing to do, returns its operand.
            changed = [tensors[number] for number in written]
            self.dead.update(n for n in range(first) if any(tensors[n] is tensor for tensor in changed))
        if ":" in operator and self.config.training:
            # A user's kernel may keep for its backward pass what its reference does not keep.
            kept = [*used, *(tensor for tensor in fresh if tensor is not None)]
            self.protected.update(tensor.untyped_storage().data_ptr() for tensor in kept)
        self.steps.append(Step(operator, function, args, kwargs, operands, written, kind, form, first, tuple(types)))

    def _refuse(
        self,
        operator: str,
        args: tuple[Arg, ...],
        kwargs: tuple[tuple[str, Arg], ...],
        operands: tuple[int, ...],
        error: BaseException,
    ) -> None:
        """Note a call that torch rejected, for whoever learns from it."""
        types = {number: TensorType(self.dtypes[number], self.shapes[number]) for number in operands}
        self.refused.append(observed_call(operator, args, kwargs, operands, types, error=template(error)))

    def _checked(
        self, kind: Traits, used: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], results: list[Any]
    ) -> tuple[list[tuple[str, tuple[int, ...]] | None], list[torch.Tensor | None]]:
        """The type of each result; raises Rejected if one is not such as a program may hold."""
        reason = after(used, targets, results)
        if reason is not None:
            raise Rejected(reason)
        undefined = undefined_results(kind, used, results, self.config.training)
        if undefined is None:
            raise Rejected("equal elements make it ambiguous")
        types: list[tuple[str, tuple[int, ...]] | None] = []
        fresh: list[torch.Tensor | None] = []
        limit = MAX_ELEMENTS * 4 if not self.config.large else 1 << 18
        total = self.total
        for position, tensor in enumerate(results):
            if not isinstance(tensor, torch.Tensor) or position in undefined:
                types.append(None)
                fresh.append(None)
                continue
            dtype = NAMES.get(tensor.dtype)
            if dtype is None or tensor.layout != torch.strided or tensor.is_quantized:
                raise Rejected("its result is no plain tensor")
            if dtype in self._foreign:
                raise Rejected("foreign dtype")
            size = tensor.numel()
            total += size
            if size > limit or total > (MAX_TOTAL if not self.config.large else 1 << 20):
                raise Rejected("too large")
            if not self.config.special and not ordinary(tensor):
                raise Rejected("not finite")
            types.append((dtype, tuple(tensor.shape)))
            fresh.append(tensor)
        if results and not any(type_ is not None for type_ in types):
            raise Rejected("nothing of its result is defined")
        if not self.config.special:
            for tensor in targets:
                if not ordinary(tensor):
                    raise Rejected("not finite")
        return types, fresh
