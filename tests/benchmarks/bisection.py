"""How often bisecting names the culprit that was planted, and what confidence it stated.

    python tests/benchmarks/bisection.py --rows FILE [--target NAME ...] [--limit N]

Plants the faults of ``tests/faults`` into the stock compiler of this process, one after the other, and bisects the
minimal case of each there. The planted culprit is the stage whose compiler holds the fault, and where the fault is a
lowering's the lowering. A row for each fault is appended to the file, and what is there already is not run again.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults import FAULTS, Fault, planted
from tests.faults.fault import Canary
from tests.faults.inductor import Compiled, uncached

from shakeout.fuzz.bisect.ablation import Ablation
from shakeout.fuzz.bisect.facts import Culprit
from shakeout.fuzz.bisect.ladders import taken_apart
from shakeout.fuzz.bisect.trials import in_process
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.targets.registry import facts_of

#: Targets whose ladders tell stages apart by running others below them.
TARGETS = ("aot_eager", "inductor")


@contextlib.contextmanager
def in_force(fault: Fault) -> Iterator[None]:
    """The compiler with the fault, and without the canary's second compilation, which would be counted too."""
    if not isinstance(fault.plant, Compiled):
        with planted(fault):
            yield
        return
    with uncached(), fault.plant.patch(Canary()):
        yield


def operator_of(fault: Fault) -> str:
    """The operator in whose lowering a fault sits; empty if it sits elsewhere."""
    if not isinstance(fault.plant, Compiled):
        return ""
    return str(inspect.getclosurevars(inspect.unwrap(fault.plant.patch)).nonlocals.get("operator", ""))  # type: ignore[arg-type]


def measured(fault: Fault) -> dict[str, Any]:
    """One row."""
    began = time.monotonic()
    row: dict[str, Any] = {"fault": fault.name, "target": fault.target, "operator": operator_of(fault)}
    with in_force(fault):
        try:
            ablation = Ablation(fault.case(), in_process)
        except NotReproduced as error:
            return row | {"reproduced": False, "note": str(error)}
        found = [fact for fact in taken_apart(ablation, facts_of(fault.target).ladder) if isinstance(fact, Culprit)]
    stage = next((one for one in found if one.kind == "stage"), None)
    lowering = next((one for one in found if one.kind == "lowering"), None)
    right = stage is not None and stage.names == (fault.target,)
    named = lowering is not None and any(name.startswith(row["operator"]) for name in lowering.names)
    return row | {
        "reproduced": True,
        "stage_right": right,
        "lowering_right": named if row["operator"] else None,
        "culprits": [str(one) for one in found],
        "confidence": found[-1].confidence if found else None,
        "runs": ablation.trials,
        "seconds": round(time.monotonic() - began, 1),
        "versions": describe()["packages"],
    }


def main() -> None:
    """Measure, and print the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--limit", type=int, metavar="N", help="of faults that are run now")
    options = parser.parse_args()
    lines = options.rows.read_text().splitlines() if options.rows.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {row["fault"] for row in rows}
    wanted = options.target or TARGETS
    todo = [one for one in FAULTS if one.target in wanted and not one.missed and one.name not in done]
    for fault in todo[: options.limit]:
        rows.append(measured(fault))
        with options.rows.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(fault.name, rows[-1].get("culprits", "not reproduced"), flush=True)
    known = [row for row in rows if row["reproduced"]]
    lowerings = [row for row in known if row["operator"]]
    stated = [row["confidence"] for row in known if row["confidence"] is not None]
    print(
        f"{len(rows)} faults, {len(known)} reproduced; stage right {sum(row['stage_right'] for row in known)}; "
        f"lowering right {sum(bool(row['lowering_right']) for row in lowerings)} of {len(lowerings)}"
        + (f"; stated confidence {min(stated):.2f} to {max(stated):.2f}" if stated else "")
    )


if __name__ == "__main__":
    main()
