"""Learns which operators follow which, from what is installed: modules' own forward code, decompositions, patterns.

``python -m shakeout.generators.vocabularies.pairing`` writes the table that ``followers.py`` reads. It is run by
whoever moves to another torch, as rules are learnt; what is drawn hangs on the table, so it is shipped and not made
anew.
"""

from __future__ import annotations

import gc
import itertools
import json
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

from shakeout.corpus.vocabularies.torch_traits import family, traits
from shakeout.generators.vocabularies.followers import PATH

__all__ = ["learnt"]

Pair = tuple[str, str]

#: Operators of ATen that a public function of another name stands for, beside those of one name.
_PUBLIC = {
    "_softmax": "softmax", "_log_softmax": "log_softmax", "convolution": "conv2d", "native_layer_norm": "layer_norm",
    "native_batch_norm": "batch_norm", "_native_batch_norm_legit": "batch_norm", "native_group_norm": "group_norm",
    "_unsafe_view": "reshape", "view": "reshape", "_to_copy": "to", "slice": "__getitem__", "index": "__getitem__",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d", "max_pool2d_with_indices": "max_pool2d", "constant_pad_nd": "pad",
    "_unsafe_index": "__getitem__", "sym_size": "", "alias": "", "detach": "", "lift_fresh_copy": "", "empty": "",
    "rsub": "sub", "native_dropout": "dropout", "_adaptive_avg_pool3d": "adaptive_avg_pool3d",
}  # fmt: skip

#: Compilers see the first where people write the second.
_STANDS_FOR = (
    ("mm", "matmul"), ("bmm", "matmul"), ("addmm", "linear"), ("mm", "linear"), ("conv2d", "conv1d"),
    ("conv2d", "conv3d"), ("permute", "transpose"), ("permute", "t"), ("reshape", "flatten"), ("exp", "softmax"),
)  # fmt: skip

#: What takes a result out of several (where it is an operator of Python, its name is none), or what no program is
#: written with.
_PICKED = frozenset(("getitem", "convert_element_type", "scalar_tensor", "prims"))

#: Samples of an operator whose decomposition is looked at: the others differ in sizes.
SAMPLES = 1


class _Flow(TorchFunctionMode):
    """Notes, of each call of torch in a module's code, whose results it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[Pair] = set()
        self._makers: dict[int, tuple[str, torch.Tensor]] = {}  # with the tensor, so that no other gets its number

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = _family(resolve_name(func) or "")
        for tensor in _tensors((args, kwargs or {})) if name else ():
            maker, _ = self._makers.get(id(tensor), ("", None))
            if maker:
                self.found.add((maker, name))
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result) if name else ():
            self._makers[id(tensor)] = name, tensor
        return result


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _family(name: str) -> str:
    """The family of a public operator, or empty for what is none."""
    name = name.removesuffix(".__get__")
    if not name.startswith("torch.") or name.rpartition(".")[2].startswith(("_", "is_", "size", "dim", "has_")):
        return ""
    found = family(name)
    return "" if traits(name).random or found in ("shape", "dtype", "device", "detach", "to") else found


def _of_modules() -> Iterator[Pair]:
    """Pairs in the forward code of ``torch.nn``, on the inputs that torch's own tests give its modules."""
    from torch.testing._internal.common_modules import module_db

    for info in module_db:
        for training in (False, True):
            try:
                given = info.module_inputs_func(
                    info, device="cpu", dtype=torch.float32, requires_grad=False, training=training
                )
                for one in given[:4]:
                    made = one.constructor_input
                    module = info.module_cls(*made.args, **made.kwargs).train(training)
                    if one.forward_input is None:
                        continue
                    with _Flow() as flow:
                        module(*one.forward_input.args, **one.forward_input.kwargs)
                    yield from flow.found
            except Exception:
                continue  # a module that does not run here shows nothing


def _packet(target: object) -> str:
    """The family of an operator of ATen."""
    name = str(getattr(target, "_overloadpacket", target)).rpartition(".")[2]
    name = _PUBLIC.get(name, name)
    return "" if not name or (name.startswith("_") and not name.startswith("__")) else family(f"torch.{name}")


def _of_decompositions() -> Iterator[Pair]:
    """Pairs in what operators are decomposed into before a compiler sees them, on torch's own samples."""
    from torch._decomp import core_aten_decompositions
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.testing._internal.common_methods_invocations import op_db

    table: Any = core_aten_decompositions()
    for info in op_db:
        if torch.float32 not in info.dtypes:
            continue
        try:
            samples: Any = info.sample_inputs("cpu", torch.float32, requires_grad=False)  # type: ignore[no-untyped-call]
            for sample in itertools.islice(samples, SAMPLES):
                args, kwargs = (sample.input, *sample.args), sample.kwargs

                def run(*tensors: torch.Tensor, args: Any = args, kwargs: Any = kwargs, info: Any = info) -> Any:
                    given = iter(tensors)
                    return info.op(*[next(given) if isinstance(a, torch.Tensor) else a for a in args], **kwargs)

                graph = make_fx(run, decomposition_table=table)(*[a for a in args if isinstance(a, torch.Tensor)]).graph
                yield from _edges(graph)
        except Exception:
            continue  # what cannot be traced shows nothing


def _edges(graph: torch.fx.Graph) -> Iterator[Pair]:
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        for source in node.all_input_nodes:
            while str(source.target).endswith("getitem"):
                source = source.all_input_nodes[0]
            if source.op == "call_function":
                yield _packet(source.target), _packet(node.target)


def _of_patterns() -> Iterator[Pair]:
    """Pairs in the patterns of Inductor's passes."""
    from torch._inductor import config, pattern_matcher
    from torch._inductor.fx_passes import joint_graph, post_grad, pre_grad, split_cat  # noqa: F401

    with config.patch(fallback_random=False):
        joint_graph.lazy_init()
        post_grad.lazy_init()
    for one in gc.get_objects():
        if isinstance(one, pattern_matcher.PatternMatcherPass):
            for entries in one.patterns.values():
                for entry in entries:
                    yield from _nested(entry.pattern)


def _nested(pattern: Any) -> Iterator[Pair]:
    """The pairs of a pattern: an operator, and those among its arguments."""
    inner = [*getattr(pattern, "args", ()), *getattr(pattern, "kwargs", {}).values(), *getattr(pattern, "outputs", ())]
    for part in inner:
        for one in part if isinstance(part, list | tuple) else [part]:
            for function in getattr(pattern, "fns", ()):
                for source in getattr(one, "fns", ()):
                    yield _named(source), _named(function)
            if hasattr(one, "fns") or hasattr(one, "outputs"):
                yield from _nested(one)


def _named(function: Any) -> str:
    if hasattr(function, "_overloadpacket") or "ops" in str(type(function)):
        return _packet(function)
    if isinstance(function, str):
        return family(f"torch.{function}")
    return _family(resolve_name(function) or "")


def learnt(*sources: Callable[[], Iterable[Pair]]) -> dict[str, dict[str, int]]:
    """By family those that follow it, each with in how many of the sources it does."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for source in sources:
        pairs = {pair for pair in source() if all(map(str.isidentifier, pair)) and not _PICKED.intersection(pair)}
        for first, second in sorted(pairs):
            found[first][second] = found[first].get(second, 0) + 1
    for one, other in _STANDS_FOR:
        for name, times in found.get(one, {}).items():
            found[other].setdefault(name, times)
        for row in list(found.values()):
            if one in row:
                row.setdefault(other, row[one])
    return {first: dict(sorted(row.items())) for first, row in sorted(found.items())}


def main() -> None:
    """Write the table."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PATH
    table = learnt(_of_modules, _of_decompositions, _of_patterns)
    path.write_text("{\n" + ",\n".join(f'"{one}": {json.dumps(row)}' for one, row in table.items()) + "\n}\n")
    sys.stdout.write(f"{sum(map(len, table.values()))} pairs behind {len(table)} families in {path}\n")


if __name__ == "__main__":
    main()
