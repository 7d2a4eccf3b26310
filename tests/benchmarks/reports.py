"""Whether exported scripts show their bugs: each runs alone, where Shakeout cannot be imported.

    python tests/benchmarks/reports.py --rows FILE [--target NAME ...] [--python PATH] [RUN]

Over the bugs that ship, or the findings in a campaign's directory. ``--python`` names the interpreter of an environment
in which nothing but the target is installed. A row for each is appended to the file, and what is there already is not
run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shakeout.corpus import known, regressions
from shakeout.corpus.case import Case
from shakeout.fuzz.bisect.stored import chosen
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.reporting.exported import export
from shakeout.targets.registry import target

ALONE = "import runpy, sys; sys.modules['shakeout'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"


def cases(directory: Path | None) -> Iterator[tuple[str, Case]]:
    """Names and cases."""
    if directory is None:
        yield from ((bug.id, bug.case) for bug in known.load_all())
        yield from ((bug.id, bug.case) for bug in regressions.load_all())
        return
    for folder in sorted(directory.glob("SH-*")):
        if (folder / "case.json").exists():
            yield folder.name, chosen(folder).case


def measured(name: str, case: Case, python: str) -> dict[str, Any]:
    """One row: the form, its length, and what the script says alone, run by ``python``."""
    began = time.monotonic()
    row: dict[str, Any] = {"name": name, "case": case.id, "target": case.setting.target}
    if missing := target(case.setting.target).unavailable():
        return row | {"status": "cannot run", "note": missing}
    exported = export(case)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "repro.py"
        path.write_text(exported.text, encoding="utf-8")
        done = subprocess.run(
            [python, "-I", "-c", ALONE, str(path)], capture_output=True, text=True, check=False, timeout=600
        )
    return row | {
        "form": exported.form,
        "lines": exported.lines,
        "status": done.returncode,
        # Python ends with 1 too after an exception that nobody caught: then nothing was compared.
        "shows": done.returncode < 0 or (done.returncode == 1 and bool(done.stdout.strip())),
        "said": (done.stdout.strip() or done.stderr.strip())[:300],
        "seconds": round(time.monotonic() - began, 1),
        "versions": describe()["packages"],
    }


def main() -> None:
    """Measure, and print the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, metavar="RUN")
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    parser.add_argument("--target", action="append", metavar="NAME", help="only those of this target")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="what runs the scripts")
    options = parser.parse_args()
    lines = options.rows.read_text().splitlines() if options.rows.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {row["case"] for row in rows}
    for name, case in cases(options.directory):
        if case.id in done or (options.target and case.setting.target not in options.target):
            continue
        rows.append(measured(name, case, options.python))
        with options.rows.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(name, rows[-1]["status"], rows[-1].get("form", ""), rows[-1].get("lines", ""), flush=True)
    forms = Counter(row.get("form", "none") for row in rows if row.get("shows"))
    lengths = sorted(row["lines"] for row in rows if row.get("shows") and row["form"] == "short")
    print(f"{len(rows)} cases, {sum(forms.values())} scripts show the bug: {dict(forms)}", end="")
    print(f"; lines of the short ones {lengths[0]} to {lengths[-1]}" if lengths else "")


if __name__ == "__main__":
    main()
