"""Measures rules: which names of PyTorch's own operators networks hold, how many variants have a rule, and how good.

Run it directly, after ``shakeout learn torch``: ``python tests/benchmarks/rules.py ROWS [--networks N]``. Raw rows are
appended to ROWS, a JSON line for each name of op_db, each hundred networks, each operator, and for the diversity of
programs with rules and without; what is there is not measured again, so that it goes on where it was ended. An operator
whose calls end the process is left out when it goes on. Rows hold for what was learnt when they were written: take
another file after learning anew.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import re
import subprocess
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.apart import each

from shakeout.fuzz.learning.store import Files, files_of_torch, read
from shakeout.generators.choices import SeededChoices
from shakeout.generators.network import grow
from shakeout.generators.proposals import LIMITS
from shakeout.generators.recipe import Recipe
from shakeout.generators.rules.execution import executed
from shakeout.generators.rules.library import Entry, library_of_torch
from shakeout.generators.rules.trace import Trace, Variant, variant_of
from shakeout.generators.rules.validate import validate
from shakeout.generators.vocabularies.torch import Vocabulary, load_records

BLOCK = 100


def names() -> Iterator[tuple[str, list[str]]]:
    """Every name in op_db, with the operators that its entries call; changes torch, so for a process of its own."""
    from shakeout.generators.vocabularies.recorder import operator_names
    from shakeout.generators.vocabularies.samples import entries

    find = operator_names()
    found: dict[str, set[str]] = {}
    for info in entries():
        called = found.setdefault(info.name, set())
        for function in (info.op, info.method_variant, info.inplace_variant):
            name = find(function) if function is not None else None
            called |= {name} if name is not None else set()
        if not called and (name := wrapped(info, find)) is not None:
            called.add(name)
    for name, operators in sorted(found.items()):
        yield name, sorted(operators)


class _Calls(TorchFunctionMode):
    """Every call of torch that is not made by another one."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.made.append(func)
        return func(*args, **(kwargs or {}))


def wrapped(info: Any, find: Callable[[Any], str | None]) -> str | None:
    """The operator that an entry's own function does nothing but call; None where it does something else."""
    from shakeout.generators.vocabularies.samples import dtypes_of, samples

    supported = dtypes_of(info)
    dtype = next((name for name in ("float32", "int64", "complex64") if name in supported), None)
    called = set()
    for sample in samples(info, getattr(torch, dtype), 8) if dtype is not None else ():
        calls = _Calls()
        with contextlib.suppress(Exception), calls:
            info.op(sample.input, *sample.args, **sample.kwargs)
        called.add(find(calls.made[0]) if len(calls.made) == 1 else None)
    return called.pop() if len(called) == 1 else None


def placed(block: int) -> dict[str, Any]:
    """The operators that a hundred networks hold, and the seeds of those of which torch crashed."""
    vocabulary = load_records()

    def operators(seed: int) -> list[str]:
        return sorted(set(grow(SeededChoices(seed), Recipe(style="network"), vocabulary).program.operators()))

    held: set[str] = set()
    died = []
    for seed, found in each(operators, range(block * BLOCK, (block + 1) * BLOCK)):
        if found is None:
            died.append(seed)
        else:
            held |= set(found)
    return {"held": sorted(held), "died": died}


def diversity(vocabulary: Vocabulary, programs: int = 1000) -> dict[str, Any]:
    """How many different things programs of ten operators hold."""
    found: dict[str, set[str]] = {}
    died = 0
    for _, program in each(lambda seed: pieces(vocabulary, seed), range(programs)):
        died += program is None
        for what, names in (program or {}).items():
            found.setdefault(what, set()).update(names)
    return {"programs": programs, "died": died, **{what: len(names) for what, names in found.items()}}


def pieces(vocabulary: Vocabulary, seed: int) -> dict[str, list[str]]:
    """What a program of ten operators holds: operators, their types, edges between them, attributes and shapes."""
    program = grow(SeededChoices(seed), Recipe(style="network", operators=10), vocabulary).program
    found: dict[str, list[str]] = {name: [] for name in ("operators", "types", "edges", "attributes", "shapes")}
    known = program.types()
    makers: dict[int, str] = {}
    value = len(program.inputs)
    for call in program.calls:
        operands = [type_ for number in call.operands() if (type_ := known[number]) is not None]
        ranks = [len(type_.shape) for type_ in operands]
        arguments = re.sub(r"Ref\(index=\d+\)", "tensor", repr((call.args, call.kwargs)))
        found["operators"].append(call.operator)
        found["types"] += [f"{call.operator} {type_.dtype} {ranks}" for type_ in operands[:1]]
        found["attributes"].append(f"{call.operator} {arguments}")
        found["shapes"].append(f"{call.operator} {[type_.shape for type_ in operands]}")
        found["edges"] += [f"{makers[number]} {call.operator}" for number in call.operands() if number in makers]
        makers |= dict.fromkeys(range(value, value + len(call.results)), call.operator)
        value += len(call.results)
    return found


def drawn(entries: Sequence[Entry], draws: int = 8) -> list[list[int]]:
    """Of each rule, calls drawn afresh, as networks draw them: how many, those that were right, whether it is used."""
    found = []
    for entry in entries:
        choices = SeededChoices(zlib.crc32(f"fresh {entry.rule.variant}".encode()))
        run = functools.partial(executed, spreads=entry.spreads)
        one = validate(entry.rule, choices, run, draws, (), LIMITS)
        found.append([one.drawn, one.right, int(entry.usable)])
    return found


def learnt(files: Files, operator: str) -> dict[str, Any] | None:
    """How many variants an operator has that take floating-point operands, how many have a rule, and how good it is."""
    rules, seen = read(files.rules(operator)), read(files.examined(operator))
    if rules is None or seen is None:
        return None
    traces = [Trace.from_json(row) for row in seen.get("traces", ())]
    wide = {
        json.dumps(variant_of(trace).to_json())
        for trace in traces
        if trace.accepted and any(operand.dtype.startswith(("float", "bfloat")) for operand in trace.operands)
    }
    rows = [row for row in rules.get("variants", ()) if json.dumps(row["variant"]) in wide]
    ruled = [row["rule"] for row in rows if row["rule"] is not None]
    reasons = Counter((row["notes"] or ["not learnt"])[-1] for row in rows if row["rule"] is None)
    if "failed" in rules:
        reasons[rules["failed"]] += 1
    return {
        "operator": operator,
        "traces": len(traces),
        "variants": len(rows),
        "ruled": len(ruled),
        "telling": sum(_tells(rule) for rule in ruled),
        "explaining": sum(rule["counts"][2] == 0 for rule in ruled),
        "precision": [rule["precision"] for rule in ruled if rule["precision"] is not None],
        "completeness": [rule["completeness"] for rule in ruled if rule["completeness"] is not None],
        "reasons": dict(reasons),
        "without": [
            [str(Variant.from_json(row["variant"])), (row["notes"] or [""])[-1]] for row in rows if row["rule"] is None
        ],
    }


def _tells(rule: Any) -> bool:
    """Whether the size of every result is known."""
    return bool(rule["cases"]) and all(
        result is None or None not in result[1] for _, _, results in rule["cases"] for result in results
    )


def told(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The figures."""
    entries = {row["name"]: row["operators"] for row in rows if "name" in row}
    blocks = [row for row in rows if "block" in row]
    operators = [row for row in rows if "variants" in row]
    held = {operator for row in blocks for operator in row["held"]}
    met = [name for name, called in entries.items() if held.intersection(called)]
    uncalled = sum(not called for called in entries.values())
    yield f"{len(met)} of {len(entries)} names of op_db placed in {len(blocks) * BLOCK} networks"
    if died := sum(len(row.get("died", ())) for row in blocks):
        yield f"  (torch crashed while {died} of them grew)"
    yield f"  ({uncalled} names have no operator that a case can hold), {len(held)} operators in all"
    variants, ruled = sum(row["variants"] for row in operators), sum(row["ruled"] for row in operators)
    if not variants:
        yield "nothing was learnt here: shakeout learn torch"
        return
    telling, explaining = (sum(row[key] for row in operators) for key in ("telling", "explaining"))
    yield (
        f"{len(operators)} operators from {sum(row['traces'] for row in operators)} calls: {ruled} of {variants} "
        f"floating-point variants have a rule ({100 * ruled / variants:.1f}%), {telling} tell every size, "
        f"{explaining} explain every rejected call"
    )
    for measure in ("precision", "completeness"):
        shares = [share for row in operators for share in row[measure]]
        means = [sum(row[measure]) / len(row[measure]) for row in operators if row[measure]]
        if shares:
            good = sum(mean >= 0.95 for mean in means)
            yield (
                f"{measure}: {100 * sum(shares) / len(shares):.1f}% on average of {len(shares)} rules; "
                f"95% or more for {good} of {len(means)} operators"
            )
    fresh = [one for row in operators for one in row.get("fresh", ())]
    for label, some in (("all rules", fresh), ("rules that are drawn from", [one for one in fresh if one[2]])):
        if calls := sum(one[0] for one in some):
            right = sum(one[1] for one in some)
            share = sum(one[1] / one[0] for one in some if one[0]) / sum(one[0] > 0 for one in some)
            yield f"fresh draws of {label}: {right} of {calls} right; {100 * share:.1f}% on average of {len(some)}"
    for row in rows:
        if "types" in row:
            yield (
                f"{row['programs']} programs {row['vocabulary']} rules: {row['types']} different (operator, dtype, "
                f"ranks), {row['edges']} edges between operators, {row['operators']} operators, {row['shapes']} "
                f"(operator, shapes), {row['attributes']} (operator, attributes)"
            )
    reasons: Counter[str] = Counter()
    for row in operators:
        reasons.update(row["reasons"])
    for reason, count in reasons.most_common(8):
        yield f"  without a rule: {count:>5}  {reason}"
    for row in operators:
        for variant, reason in row.get("without", ()):
            yield f"    {variant}: {reason}"
    ended = {row["began"] for row in rows if "began" in row} - {row["operator"] for row in operators}
    if ended:
        yield f"ended the process, and left out: {', '.join(sorted(ended))}"
    absent = sorted(name for name, called in entries.items() if called and not held.intersection(called))
    yield f"not placed: {', '.join(absent)}"
    nobody = sorted(name for name, called in entries.items() if not called)
    yield f"no operator that a case can hold: {', '.join(nobody)}"


def _rows(path: Path) -> list[dict[str, Any]]:
    found = []
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):  # a line that was cut off
                found.append(json.loads(line))
    return found


def main() -> None:
    """Measure what is missing, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path, help="file of raw rows")
    parser.add_argument("--networks", type=int, default=3000, help="networks that are looked at")
    parser.add_argument("--names", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.names:
        print(json.dumps(list(names())))
        return
    rows = _rows(options.rows)
    with options.rows.open("a", encoding="utf-8") as out:
        out.write("\n")

        def keep(row: dict[str, Any]) -> None:
            rows.append(row)
            out.write(json.dumps(row, separators=(",", ":")) + "\n")
            out.flush()

        if not any("name" in row for row in rows):
            command = [sys.executable, __file__, str(options.rows), "--names"]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            for name, called in json.loads(said.splitlines()[-1]):
                keep({"name": name, "operators": called})
        have = {row["block"] for row in rows if "block" in row}
        for block in range(options.networks // BLOCK):
            if block not in have:
                keep({"block": block, **placed(block)})
        vocabulary = load_records()
        done = {row["vocabulary"] for row in rows if "types" in row}
        for label, one in (("with", vocabulary), ("without", vocabulary.recorded())):
            if label not in done:
                keep({"vocabulary": label, **diversity(one)})
        known = {row.get("operator", row.get("began")) for row in rows}
        library = library_of_torch()
        with torch.no_grad():
            for operator in vocabulary.operators:
                if operator not in known and (row := learnt(files_of_torch(), operator)) is not None:
                    keep({"began": operator})
                    keep({**row, "fresh": drawn(library.entries(operator))})
    for line in told(rows):
        print(line)


if __name__ == "__main__":
    main()
