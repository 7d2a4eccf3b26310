"""Calls of a program as lines of Python: what has regions as functions, ``with`` blocks and custom operators."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence

from shakeout.corpus.program import Call, InvalidProgram, Program, Region
from shakeout.corpus.vocabularies import Vocabulary
from shakeout.corpus.vocabularies.structured import structures

__all__ = ["INDENT", "Printer", "as_tuple"]

INDENT = "    "


class Printer:
    """Calls as lines of Python: a region is a function or a ``with`` block, and its values are ``t0``, ``t1`` ...

    Attributes:
        customs: the definitions of custom operators that were met, which belong in front of everything else.
    """

    def __init__(self, words: Vocabulary, device: str) -> None:
        self._words = words
        self._device = device
        self._locals, self._functions = itertools.count(), itertools.count()
        self.customs: list[str] = []

    def lines(self, calls: Sequence[Call], names: list[str], named: Sequence[str] | Mapping[int, str]) -> list[str]:
        """The calls.

        Args:
            calls: in order.
            names: variables of the values before them; those of their results are added.
            named: by number, variables that values shall have; the others get new ones.
        """
        found: list[str] = []
        for call in calls:
            numbers = range(len(names), len(names) + len(call.results))
            results = [
                "_" if result is None else self._name(number, named)
                for number, result in zip(numbers, call.results, strict=True)
            ]
            found += self._structured(call, names, results) if call.regions else [self._plain(call, names, results)]
            names.extend(results)
        return found

    def _name(self, number: int, named: Sequence[str] | Mapping[int, str]) -> str:
        if isinstance(named, Mapping):
            return named.get(number) or f"t{next(self._locals)}"
        return named[number]

    def _plain(self, call: Call, names: Sequence[str], results: Sequence[str]) -> str:
        text: str = self._words.expression(call, names, self._device)
        return text if call.form == "none" else _assigned(results, text, call.form == "sequence")

    def _structured(self, call: Call, names: Sequence[str], results: Sequence[str]) -> list[str]:
        structure = structures(self._words).get(call.operator)
        if structure is None:
            raise InvalidProgram(f"{call.operator} takes no regions, and is given {len(call.regions)}")
        if structure.block:
            return self._block(call, names, results)
        if structure.custom:
            return [self._custom(call, names, results)]
        found: list[str] = []
        functions = []
        for role, region in zip(structure.roles, call.regions, strict=True):
            functions.append(f"{role}_{next(self._functions)}")
            found += self._function(functions[-1], region, names, bare=role in ("condition", "differentiated"))
        pieces = [self._words.argument(arg, names) for arg in call.args]
        if structure.transforms:
            text = f"{call.operator}({functions[0]})({', '.join(pieces)})"
            return [*found, _assigned(results, text, call.operator != "torch.func.grad")]
        pieces[structure.place : structure.place] = functions
        pieces += [f"{key}={self._words.argument(arg, names)}" for key, arg in call.kwargs]
        text = f"{call.operator}({', '.join(pieces)})"
        return [*found, text if call.form == "none" else _assigned(results, text, True)]

    def _function(self, name: str, region: Region, names: Sequence[str], *, bare: bool) -> list[str]:
        parameters = [f"t{next(self._locals)}" for _ in region.parameters]
        inner = [*parameters, *(names[number] for number in region.captures)]
        lines = self.lines(region.calls, inner, {})
        returned = [inner[number] for number in region.returns]
        lines.append(f"return {returned[0] if bare else as_tuple(returned)}")
        return [f"def {name}({', '.join(parameters)}):", *(INDENT + line for line in lines)]

    def _custom(self, call: Call, names: Sequence[str], results: Sequence[str]) -> str:
        """A call of a custom operator, whose definition becomes one of ``customs``.

        Its name tells what it computes, since all operators of a process have different names.
        """
        region, operands = call.regions[0], call.args[0]
        written = call.args[1] if len(call.args) > len(call.regions) else ()
        assert isinstance(operands, tuple)
        assert isinstance(written, tuple)
        parameters, lines, inner = [], [], []
        for operand in operands:
            name = f"t{next(self._locals)}"
            if isinstance(operand, tuple):
                items = [f"t{next(self._locals)}" for _ in operand]
                lines += [_assigned(items, name, True)] if items else []
                inner += items
            else:
                inner.append(name)
            parameters.append((name, "list[torch.Tensor]" if isinstance(operand, tuple) else "torch.Tensor"))
        lines += self.lines(region.calls, inner, {})
        returned = [inner[number] for number in region.returns]
        if returned:
            lines.append(f"return {returned[0] if len(returned) == 1 else as_tuple(returned)}")
        gives = ", ".join(["torch.Tensor"] * len(returned))
        gives = gives if len(returned) == 1 else f"tuple[{gives}]" if returned else "None"
        head = f"({', '.join(f'{name}: {type_}' for name, type_ in parameters)}) -> {gives}:"
        mutates = as_tuple([f'"{parameters[place][0]}"' for place in written if isinstance(place, int)])
        kind, number = call.operator.rpartition(".")[2], next(self._functions)
        kind = "custom_op" if kind == "register_autograd" else kind
        backward = self._backward(call, number) if len(call.regions) > 1 else []
        told = "\n".join([kind, head, mutates, *lines, *backward])
        own = f"shakeout::operator_{hashlib.sha256(told.encode()).hexdigest()[:12]}"
        definition = [
            f"def computed_{number}{head}",
            *(INDENT + line for line in lines or ["pass"]),
            "",
            "",
            f'operator_{number} = {kind}("{own}", computed_{number}, mutates_args={mutates})',
        ]
        if returned and kind == "custom_op":  # of the other kind PyTorch knows it
            definition.append(f"operator_{number}.register_fake(computed_{number})")
        definition += backward
        self.customs.append("\n".join(definition))
        text = f"operator_{number}({', '.join(self._words.argument(arg, names) for arg in operands)})"
        return text if call.form == "none" else _assigned(results, text, len(results) > 1)

    def _backward(self, call: Call, number: int) -> list[str]:
        """The backward pass of a custom operator, and the function that keeps what it needs of the forward pass."""
        operands, places = call.args
        assert isinstance(operands, tuple)
        assert isinstance(places, tuple)
        region = call.regions[1]
        inner = [f"t{next(self._locals)}" for _ in region.parameters]
        given, results = inner[: len(operands)], inner[len(operands) : len(operands) + len(call.results)]
        used = {one for inside in region.calls for one in inside.operands()} | set(region.returns)
        kept = [name for place, name in enumerate([*given, *results]) if place in used]
        gradients = inner[len(given) + len(results) :]
        lines = [f"{as_tuple(kept)[1:-1]} = ctx.saved_tensors"] if kept else []
        names = list(inner)
        lines += self.lines(region.calls, names, {})
        found = dict(zip(places, (names[one] for one in region.returns), strict=True))
        returned = [found.get(place, "None") for place in range(len(operands))]
        lines.append(f"return {', '.join(returned)}")
        keep = [f"{as_tuple(given)[1:-1]} = inputs"] if set(given) & set(kept) else []
        if set(results) & set(kept):
            keep.append(f"{', '.join(results)} = output")
        keep.append(f"ctx.save_for_backward({', '.join(kept)})" if kept else "pass")
        return [
            "",
            "",
            f"def kept_{number}(ctx, inputs, output):",
            *(INDENT + line for line in keep),
            "",
            "",
            f"def backward_{number}(ctx, {', '.join(gradients)}):",
            *(INDENT + line for line in lines),
            "",
            "",
            f"operator_{number}.register_autograd(backward_{number}, setup_context=kept_{number})",
        ]

    def _block(self, call: Call, names: Sequence[str], results: Sequence[str]) -> list[str]:
        """A block, inside of which its results get their names: they stay in sight behind it."""
        (region,) = call.regions
        inner = [names[number] for number in region.captures]
        own: dict[int, str] = {}
        for number, name in zip(region.returns, results, strict=True):
            if name != "_" and number >= len(inner):
                own.setdefault(number, name)
        lines = self.lines(region.calls, inner, own)
        pairs = zip(results, region.returns, strict=True)
        lines += [f"{name} = {inner[number]}" for name, number in pairs if name not in ("_", inner[number])]
        return [f"with {self._head(call)}:", *(INDENT + line for line in lines or ["pass"])]

    def _head(self, call: Call) -> str:
        pieces = [self._words.argument(arg, ()) for arg in call.args]
        pieces += [f"{key}={self._words.argument(arg, ())}" for key, arg in call.kwargs]
        return f"{call.operator}({', '.join(pieces)})"

    def within(self, program: Program) -> str:
        """The function that has a network called inside the blocks around it, and compiled outside of them."""
        blocks = ", ".join(self._head(call) for call in program.around)
        return (
            "def within(function):\n    def called(*given):\n"
            f"        with {blocks}:\n            return function(*given)\n\n    return called"
        )


def _assigned(results: Sequence[str], text: str, sequence: bool) -> str:
    return f"{', '.join(results)}{',' if sequence and len(results) == 1 else ''} = {text}"


def as_tuple(names: Sequence[str]) -> str:
    """The text of a tuple."""
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"
