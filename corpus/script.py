"""A case as Python source: what the workers execute, and what a report shows.

``body`` is the network and its inputs as functions; a worker executes it as it stands. ``standalone`` adds the few
functions of ``standalone.py``, the target's preparation and a ``main``, which makes one file that needs torch and the
target only. What its exit status says stands in ``symptom.py``.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from shakeout.corpus import blobs
from shakeout.corpus.case import OVERWRITES, Case, InputSet, Promise, Storage, View, contiguous
from shakeout.corpus.printer import INDENT, Printer, as_tuple
from shakeout.corpus.program import Program
from shakeout.corpus.source import source_of
from shakeout.corpus.storage import MAGNITUDES
from shakeout.corpus.symptom import GUARD, STATUSES, STATUSES_OF_ANY, Symptom
from shakeout.corpus.vocabularies import modelled, vocabulary
from shakeout.corpus.vocabularies.admission import admit

__all__ = ["body", "definition", "inputs", "load", "network", "standalone", "value_names"]


def value_names(program: Program) -> list[str]:
    """The variable of each value: ``x`` for inputs, ``p`` for parameters, ``v`` for results."""
    names = [f"{'p' if given.role == 'parameter' else 'x'}{i}" for i, given in enumerate(program.inputs)]
    return names + [f"v{i}" for i in range(len(names), len(program.types()))]


def network(program: Program, device: str = "cpu") -> str:
    """The network as source: ``bind(tensors)`` gives the callable, ``arguments(tensors)`` what it is called with."""
    if modelled(vocabulary(program.vocabulary)) is not None:
        return _model(program, repr(program.calls))
    inputs = [i for i, given in enumerate(program.inputs) if given.role == "input"]
    parameters = [i for i, given in enumerate(program.inputs) if given.role == "parameter"]
    picked = ", ".join(f"tensors[{i}]" for i in parameters)
    bound = f"Network({picked})" if parameters else "program"
    arguments = ", ".join(f"tensors[{i}]" for i in inputs)
    bind = f"def bind(tensors):\n    return {bound}"
    if program.around:
        own = "network" if parameters else "program"
        made = f"    network = {bound}\n" if parameters else ""
        bind = f"def bind(tensors):\n{made}    {own}.within = within\n    return {own}"
    return f"{definition(program, device)}\n\n\n{bind}\n\n\ndef arguments(tensors):\n    return [{arguments}]\n"


@functools.lru_cache(16)
def _model(program: Program, told: str) -> str:
    """The network of a program that is a model; it has one text under all settings, on every device.

    ``told`` tells apart what is equal and has another text: 0.0 and -0.0.
    """
    words = modelled(vocabulary(program.vocabulary))
    assert words is not None
    admit(program)
    return words.network(program, value_names(program))


def definition(program: Program, device: str = "cpu") -> str:
    """The function ``program``, or the class ``Network`` of one with parameters, as source without a last newline.

    Custom operators that it calls stand in front of it. Of one with blocks around it ``within`` follows, which has it
    called inside of them.

    Raises:
        NotAdmitted: it calls what no case may call. That was decided where the case was read; it is asked again here
            because nothing becomes text in any other way.
    """
    admit(program)
    words = vocabulary(program.vocabulary)
    names = value_names(program)
    if (models := modelled(words)) is not None:
        return models.model(program, names)
    parameters = [i for i, given in enumerate(program.inputs) if given.role == "parameter"]
    inputs = [i for i, given in enumerate(program.inputs) if given.role == "input"]
    printer = Printer(words, device)
    lines = printer.lines(program.calls, names[: len(program.inputs)], names)
    lines.append(f"return {as_tuple([names[i] for i in program.returns])}")
    given = ", ".join(names[i] for i in inputs)
    extra = words.bindings(program)
    if not parameters:
        head = f"def program({', '.join(part for part in (given, *extra) if part)}):\n"
        text = head + textwrap.indent("\n".join(lines), INDENT)
    else:
        owned = [names[i] for i in parameters]
        text = "class Network(torch.nn.Module):\n"
        text += f"    def __init__(self, {', '.join(owned)}):\n        super().__init__()\n"
        for name in owned:
            text += f"        self.{name} = torch.nn.Parameter({name}, requires_grad={name}.requires_grad)\n"
        text += f"\n    def forward({', '.join(['self', *([given] if given else []), *extra])}):\n"
        text += "".join(f"        {name} = self.{name}\n" for name in owned)
        text += textwrap.indent("\n".join(lines), 2 * INDENT)
    if program.around:
        text += f"\n\n\n{printer.within(program)}"
    return "\n\n\n".join([*printer.customs, text])


def _dtype(name: str) -> str:
    return f"torch.{name}"


def _filled(storage: Storage, shape: tuple[int, ...], device: str) -> str:
    """The expression that makes a storage's values in a shape."""
    values = storage.values
    on = "" if device == "cpu" else f', device="{device}"'
    if values.kind == "literal":
        items = _nested(list(values.items), shape)
        whole = f"torch.tensor({items}, dtype={_dtype(storage.dtype)}{on})"
        # Nested empty lists lose the sizes behind the first zero.
        return f"{whole}.reshape({shape})" if 0 in shape else whole
    if values.kind == "blob":
        return f"blob({values.blob!r}, {_dtype(storage.dtype)}, {shape}){f'.to({device!r})' if on else ''}"
    maker = "magnitudes" if values.kind in MAGNITUDES else "fill"
    text = f"{maker}({_dtype(storage.dtype)}, {shape}, {values.kind!r}, {values.seed}, {values.low!r}, {values.high!r})"
    return text if device == "cpu" else f'{text}.to("{device}")'


def _nested(items: list[Any], shape: tuple[int, ...]) -> str:
    if not shape:
        return _number(items[0])
    if len(shape) == 1:
        return f"[{', '.join(map(_number, items))}]"
    step = len(items) // shape[0] if shape[0] else 0
    rows = (_nested(items[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0]))
    return f"[{', '.join(rows)}]"


def _number(item: Any) -> str:
    if isinstance(item, complex):
        return f"complex({item.real!r}, {item.imag!r})"
    return repr(item)


def _whole(view: View, storage: Storage, uses: int) -> bool:
    """Whether an input is its storage, row-major and not shared, so that no window needs to be shown."""
    size = 1
    for extent in view.shape:
        size *= extent
    return (
        uses == 1
        and view.dtype == storage.dtype
        and view.offset == 0
        and size == storage.size
        and view.strides == contiguous(view.shape)
    )


def _inputs(inputs: InputSet, names: list[str], number: int, device: str, training: bool) -> str:
    uses = [sum(view.storage == i for view in inputs.views) for i in range(len(inputs.storages))]
    lines = []
    made: set[int] = set()
    for view, name in zip(inputs.views, names, strict=True):
        storage = inputs.storages[view.storage]
        leaf = training and view.requires_grad
        if _whole(view, storage, uses[view.storage]):
            text = _filled(storage, view.shape, device)
            lines.append(f"{name} = {text}{'.requires_grad_()' if leaf else ''}")
            continue
        if view.storage not in made:
            made.add(view.storage)
            lines.append(f"s{view.storage} = {_filled(storage, (storage.size,), device)}")
        text = f"strided(s{view.storage}, {_dtype(view.dtype)}, {view.shape}, {view.strides}, {view.offset})"
        lines.append(f"{name} = {text}{'.detach().requires_grad_()' if leaf else ''}")
    lines.append(f"return [{', '.join(names)}]")
    return f"def inputs_{number}():\n" + textwrap.indent("\n".join(lines), INDENT)


def inputs(case: Case) -> list[str]:
    """For each call the function ``inputs_0`` and so on, as source without a last newline."""
    names = value_names(case.program)[: len(case.program.inputs)]
    training = case.setting.mode == "training"
    return [_inputs(given, names, i, case.setting.device, training) for i, given in enumerate(case.input_sets)]


def body(case: Case) -> str:
    """The network and the inputs of each call, as source text without imports."""
    makers = ", ".join(f"inputs_{i}" for i in range(len(case.input_sets)))
    parts = [network(case.program, case.setting.device).rstrip(), *inputs(case)]
    kind = case.setting.cotangent
    told = [] if kind == "whole" else [f"make.cotangent = {kind!r}"]
    told += [f"make.overwrites = True  # {_OVERWRITES}"] if case.setting.knob(OVERWRITES) else []
    asked = "\n    ".join(["for make in CALLS:", *told]) + "\n" if told else ""
    return "\n\n\n".join(parts) + f"\n\n\nCALLS = [{makers}]\n{asked}"


#: What a reader of the script is told.
_OVERWRITES = "the reference keeps copies of what autograd saves, which eager would find overwritten"


def load(case: Case, text: str | None = None) -> dict[str, Any]:
    """Execute the body of a case; its namespace, with ``bind``, ``arguments`` and ``CALLS``."""
    import torch

    from shakeout.corpus import standalone as functions
    from shakeout.corpus.value_cache import filled

    namespace: dict[str, Any] = {
        "torch": torch,
        "nan": functions.nan,
        "inf": functions.inf,
        "fill": filled,  # the same values, sooner
        "magnitudes": filled,
        "strided": functions.strided,
        "blob": functools.partial(_loaded, case),
        **vocabulary(case.program.vocabulary).namespace(case.program),
    }
    source = body(case) if text is None else text
    if modelled(vocabulary(case.program.vocabulary)) is None:
        exec(compile(source, f"<case {case.id}>", "exec"), namespace)
    else:
        # Nothing knows such a text by its code, as torch.compile does, and all settings of a program have one.
        exec(_compiled(source), namespace)
    return namespace


@functools.lru_cache(32)
def _compiled(source: str) -> Any:
    return compile(source, "<case>", "exec")


def _loaded(case: Case, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    """``standalone.blob`` for a case in memory, whose files need not lie beside a script."""
    storage = next(s for s in blobs.held(case) if s.values.blob == name and _dtype(s.dtype) == str(dtype))
    return blobs.load(storage).reshape(shape)


def standalone(
    case: Case,
    prepare: str,
    *,
    tolerances: Mapping[str, tuple[float, float]],
    promises: Collection[Promise] = frozenset({"layout"}),
    packages: Sequence[str] = (),
    title: str = "",
    limit: float = 0,
    repeats: bool = False,
    symptom: Symptom | None = None,
) -> str:
    """One file that shows the difference between eager and the target.

    Args:
        case: what to run.
        prepare: source of ``prepare(function)`` and ``declined(error)``, from the target; it may import what it
            needs.
        tolerances: (relative, absolute) by dtype name; exact where a dtype is missing.
        promises: what the target promises beside equal meaning.
        packages: distributions beside torch whose versions are shown.
        title: first line of the docstring.
        limit: seconds after which the run counts as a hang; 0 for no limit. With a limit the target runs in a child
            process, so that a crash or a hang is a result as well.
        repeats: whether the target is compared with itself, in fresh processes, and not with eager.
        symptom: what it looks for; None if any difference counts.
    """
    from shakeout.corpus import standalone as functions

    text = body(case)
    words = vocabulary(case.program.vocabulary)
    fills = "fill(" in text or "magnitudes(" in text
    models = modelled(words)
    wanted: list[Any] = [] if models is None else list(models.functions(case.program))
    wanted += [functions.fill] if fills else []
    wanted += [functions.magnitudes] if "magnitudes(" in text else []
    wanted += [functions.blob] if "blob(" in text else []
    wanted += [functions.strided] if "strided(" in text else []
    wanted += [functions.cotangent] if case.setting.mode == "training" else []
    wanted += [functions.unusual_cotangent] if case.setting.cotangent != "whole" else []
    wanted += [functions.observe, functions.memory, functions.aliases]
    wanted += [functions.step, functions.shown]
    # ``run`` names them whether they are wanted or not.
    wanted += [functions.copied, functions.keeping, functions.run]
    wanted += [
        functions.beyond,
        functions.compare,
        functions.kind,
        functions.differences,
        functions.status,
        functions.main,
    ]
    wanted += [functions.isolated] if limit else []
    imports = ["contextlib", "importlib.metadata", "math", "os", "sys", "traceback"]
    imports += ["signal", "subprocess"] if limit else []
    imports += ["hashlib"] if functions.blob in wanted else []
    if repeats:
        wanted += [functions.mark, functions.repeated]
        imports += ["hashlib", "subprocess"]
    occurring = {type_.dtype for type_ in case.program.types() if type_ is not None}
    table = {dtype: pair for dtype, pair in sorted(tolerances.items()) if dtype in occurring}
    stages = ", STAGES" if "STAGES" in prepare else ""
    call = f"isolated(prepare, {limit!r}{stages})" if limit else f"main(prepare{stages})"
    call = f"repeated(prepare, {limit!r})" if repeats else call
    sought = () if symptom is None else symptom.words
    statuses, about = STATUSES, "The words of the failure that this is about: whatever else differs is another one."
    if repeats or not sought:
        statuses, about = STATUSES_OF_ANY, "Any difference is the failure that this is about."
    head = [*(f"import {name}" for name in sorted(set(imports))), "", GUARD, "", "import torch"]
    head += words.imports(case.program)
    # What a reader looks for comes first: the program, its inputs, how the target is called.
    parts = [
        f'"""{title or f"Case {case.id} on {case.setting.target}."}\n\n{statuses}\n"""',
        "\n".join(head),
        text.rstrip(),
        prepare.rstrip(),
        "nan, inf = math.nan, math.inf\n"
        "# Relative and absolute tolerance by dtype; a dtype that is missing must agree exactly.\n"
        f"TOLERANCES = {table!r}\n"
        f"PACKAGES = {['torch', *packages]!r}\n"
        "# What must agree beside the meaning: layout means strides and shared memory, bits the random state too.\n"
        f"PROMISES = {sorted(promises)!r}\n"
        f"# {about}\nSYMPTOM = {list(sought)!r}",
        *(source_of(function) for function in wanted),
        f'if __name__ == "__main__":\n    sys.exit({call})',
    ]
    return "\n\n\n".join(parts) + "\n"
