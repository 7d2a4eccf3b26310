"""Measures the systems of the stack: random cases of each that are green, and how soon its broken variants are found.

Run it directly: ``python tests/benchmarks/systems.py [NAME ...] [--cases N] [--workers W]`` runs cases of each target
until N were compared, as ``tests/benchmarks/right.py`` does: each is what a campaign would make of a seed, relations
included. With ``--broken`` each broken variant of ``tests/faults/systems`` is run instead, until the oracles tell a
finding or ``MOST`` cases were compared. Rows are appended to ``docs/systems/NAME.jsonl``, or to the file of ``--rows``,
and a further run goes on behind the last one. ``--write`` makes the table of ``docs/systems.md`` of what is there, and
runs nothing. ``--store`` writes the first case that is right to ``tests/cover/systems/NAME.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import right
from tests.benchmarks.apart import Apart, spread
from tests.faults.systems import Broken, broken, planted

from shakeout.corpus.case import Case
from shakeout.corpus.files import write_whole
from shakeout.fuzz.running import compose, leaks
from shakeout.oracles.verdict import Outcome
from shakeout.targets.published import PUBLISHED, Part, System
from shakeout.targets.systems import parts, systems

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "docs" / "systems"
STORED = ROOT / "tests" / "cover" / "systems"
PAGE = ROOT / "docs" / "systems.md"

#: Compared cases after which a broken variant counts as not found.
MOST = 400

#: Between these lines of the page the table stands.
BEGIN, END = "<!-- the table -->", "<!-- end of the table -->"


def found(variant: Broken, phase: Any = lambda name: None) -> dict[str, Any]:
    """After how many compared cases the oracles tell a broken variant, and with which words; run in a child."""
    began, compared, cases = time.monotonic(), 0, 0
    row = {"name": variant.part, "mistake": variant.mistake, "seed": right.SEED, "found": False}
    with planted(variant):
        apart = Apart(lambda index: right.told(parts()[variant.part].target, index, phase))
        try:
            for index in range(right.PATIENCE * MOST):
                rows = apart(index)
                if rows is None:
                    row |= {"found": True, "oracle": "process", "symptom": "process died"}
                for one in rows or ():
                    cases += 1
                    compared += one["status"] in ("compared", "failed")
                    if "finding" in one and not row["found"]:
                        row |= {"found": True, **{key: one["finding"][key] for key in ("oracle", "symptom")}}
                        row["message"] = one["finding"]["message"][:300]
                        row["index"] = index
                if row["found"] or compared >= MOST:
                    break
        finally:
            apart.close()
    return {
        **row,
        "compared": compared,
        "cases": cases,
        "seconds": round(time.monotonic() - began, 2),
        **right.versions(),
    }


def first(name: str) -> Case:
    """The first case of a target that compares, and of which rounding leaves no doubt."""
    target = parts()[name].target
    cases = (pair for index in range(right.PATIENCE) for pair in right.results(target, index))
    return next(case for case, result in cases if result.status == "compared" and result.outcome is Outcome.PASS)


def load(names: Sequence[str]) -> None:
    """Have this process load what those that are forked from it need."""
    compose.prepare(lambda text: print(text, flush=True))
    for name in names:
        compose.vocabulary_of(parts()[name].target)
    leaks.look()


def rows_of(name: str, folder: Path = ROWS) -> list[dict[str, Any]]:
    """What was measured of a target, each range of seeds and each broken variant once."""
    found: dict[Any, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            if row["name"] in (name, parts()[name].target):
                found[row.get("mistake", row.get("first"))] = row
    return list(found.values())


def hunt(variants: Sequence[Broken], workers: int, file: Path | None) -> list[dict[str, Any]]:
    """Run the broken variants of which there is no row yet; rows go to the file, or to that of each target."""
    rows = []
    done = set() if file is not None else {row.get("mistake") for one in variants for row in rows_of(one.part)}
    left = [one for one in variants if one.mistake not in done]
    todo = iter(range(len(left)))
    for _, row in spread(lambda: lambda number: found(left[number]), lambda: next(todo, None), workers):
        rows.append(row)
        with (file or ROWS / f"{row['name']}.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        how = f"{row['oracle']}: {row['symptom']}" if row["found"] else "NOT FOUND"
        print(f"{row['name']:<24} {row['compared']:>4} cases  {how:<40} {row['mistake']}", flush=True)
    return rows


# --- the table --------------------------------------------------------------------------------------------------------


def table(folder: Path = ROWS) -> Iterator[str]:
    """The lines of the table: every published system, and what there is of it."""
    here = {system.number: system for system in systems()}
    yield "| # | system | kind | here | random cases | broken variants found |"
    yield "|---|---|---|---|---|---|"
    for number, (title, kind) in PUBLISHED.items():
        system = here.get(number)
        yield f"| {number} | {title} | {kind} | {_told(system)} | {_cases(system, folder)} | {_found(system, folder)} |"


def _told(system: System | None) -> str:
    if system is None:
        return "not yet"
    told = [f"`{part.name}`: {part.summary}, against {part.against}" for part in system.parts]
    if system.page:
        told.append(f"see [{Path(system.page).stem}]({Path(system.page).name})")
    if system.lacks:
        told.append(f"*lacks:* {system.lacks}")
    return "<br>".join(told)


def _cases(system: System | None, folder: Path) -> str:
    return "<br>".join(_measured(part, folder) for part in system.parts) if system else ""


def _measured(part: Part, folder: Path) -> str:
    rows = [row for row in rows_of(part.name, folder) if "first" in row]
    if not rows:
        return "none measured"
    compared, hits = sum(row["compared"] for row in rows), sum(len(row["findings"]) for row in rows)
    seconds = sum(row["seconds"] for row in rows)
    return f"{compared} in {seconds:.0f} s, {'green' if not hits else f'{hits} findings'}"


def _found(system: System | None, folder: Path) -> str:
    told = []
    for part in system.parts if system else ():
        rows = {row["mistake"]: row for row in rows_of(part.name, folder) if "mistake" in row}
        mine = [one for one in broken() if one.part == part.name]
        run = [rows[one.mistake] for one in mine if one.mistake in rows]
        seen = sorted(row["compared"] for row in run if row["found"])
        if not run:
            told.append(f"none of {len(mine)} measured")
            continue
        after = f", after {seen[0]} to {seen[-1]} cases" if seen else ""
        left = f"; {len(mine) - len(run)} not measured" if len(run) < len(mine) else ""
        told.append(f"{len(seen)} of {len(run)}{after}{left}")
    return "<br>".join(told)


def page(text: str, folder: Path = ROWS) -> str:
    """The page with the table that the rows make."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(table(folder))
    return f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}"


def main() -> int:
    """Run what is missing; 1 where a case has a finding, or a broken variant has none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(parts())}; all by default")
    parser.add_argument("--cases", type=int, default=100, help="compared cases of each")
    parser.add_argument("--broken", action="store_true", help="run the broken variants instead")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="one file for all rows (default: one for each name)")
    parser.add_argument("--write", action="store_true", help="only make the table of the page")
    parser.add_argument("--store", action="store_true", help="only write one case of each")
    options = parser.parse_args()
    if options.write:
        write_whole(PAGE, page(PAGE.read_text(encoding="utf-8")).encode())
        return 0
    names = options.names or list(parts())
    if unknown := [name for name in names if name not in parts()]:
        parser.error(f"{unknown[0]} is none of {', '.join(parts())}")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    load(names)
    if options.store:
        for name in names:
            STORED.mkdir(exist_ok=True)
            write_whole(STORED / f"{name}.json", f"{first(name).text}\n".encode())
        return 0
    ROWS.mkdir(parents=True, exist_ok=True)
    if options.broken:
        rows = hunt([one for one in broken() if one.part in names], options.workers, options.rows)
        return int(not all(row["found"] for row in rows))
    status = 0
    for some in [names] if options.rows else [[name] for name in names]:
        file = options.rows or ROWS / f"{some[0]}.jsonl"
        rows = right.measure([parts()[name].target for name in some], options.cases, options.workers, file)
        print("\n".join(right.table(rows)), flush=True)
        status |= any(row["findings"] for row in rows)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
