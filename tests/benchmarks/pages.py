"""Whether the script of each page shows what the page says: run alone, where Shakeout cannot be imported.

    python tests/benchmarks/pages.py [--python PATH] [--target NAME ...] [--seconds N] [ID ...]
    python tests/benchmarks/pages.py --table

The script is the text that stands on the page; where a page shows the program alone it is the long form. It shows the
failure if it ends with 1, or of a signal where the process is said to die. A row for each is appended to
``docs/reporting/scripts.jsonl``, and what has a row with the same script and release is not run again. ``--python``
names the interpreter of an environment with another release, ``--seconds`` when to begin no more. ``--table`` writes
``docs/reporting/scripts.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shakeout.corpus import known, regressions
from shakeout.corpus.symptom import OTHER
from shakeout.fuzz.reporting.shipped import Bug
from shakeout.fuzz.running.case_file import render
from shakeout.targets.registry import facts_of

DOCS = Path(__file__).parents[2] / "docs"
ROWS, TABLE = DOCS / "reporting" / "scripts.jsonl", DOCS / "reporting" / "scripts.md"
ALONE = "import runpy, sys; sys.modules['shakeout'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
VERSIONS = "import json, sys, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"

#: Seconds for one script.
LIMIT = 240.0

WORDS = {0: "no difference", 1: "shows it", OTHER: "fails otherwise", 125: "cannot run", None: "no answer"}


def bugs() -> list[Bug]:
    """What has a page."""
    return [*regressions.load_all(), *known.load_all()]


def script(bug: Bug) -> str:
    """The script on the page of a bug, or the long form."""
    same = getattr(bug, "same", "")
    page = (DOCS / "bugs" / f"{same or bug.id}.md").read_text(encoding="utf-8")
    page = page.partition(f'<a id="{bug.id}"></a>')[2] if same else page
    if bug.evidence is not None and bug.evidence.script == "short":
        # The first block is the smallest case.
        return page.partition("```python\n")[2].partition("\n```")[0] + "\n"
    return render(bug.case, bug.symptom)


def released(python: str, packages: tuple[str, ...]) -> dict[str, str]:
    """Versions in another environment; empty if a package is missing there."""
    done = subprocess.run([python, "-I", "-c", VERSIONS, *packages], capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def measured(bug: Bug, text: str, python: str) -> dict[str, Any]:
    """What the script says in a process and with caches of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        path = Path(scratch) / "repro.py"
        path.write_text(text, encoding="utf-8")
        # A long script starts itself once more, by its path; that it needs no Shakeout the short ones show for it.
        command = [] if "isolated(" in text else ["-c", ALONE]
        caches = {"TMPDIR": scratch, "TORCHINDUCTOR_CACHE_DIR": scratch, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        try:
            done = subprocess.run(
                [python, "-I", *command, str(path)],
                capture_output=True,
                text=True,
                check=False,
                timeout=LIMIT,
                env={**os.environ, **caches},
                cwd=scratch,
            )
            status, said = done.returncode, (done.stdout.strip() or done.stderr.strip())
            # Python ends with 1 after an exception that nobody caught as well: then nothing was compared.
            status = 125 if status == 1 and not done.stdout.strip() else status
        except subprocess.TimeoutExpired:
            status, said = None, ""
    return {
        "status": status,
        "word": word(bug, status),
        "said": said.replace(f"{scratch}/", "")[-300:],
        "seconds": round(time.monotonic() - began, 1),
    }


def word(bug: Bug, status: int | None) -> str:
    """What a status means."""
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        return "shows it" if bug.symptom is not None and bug.symptom.died(name) else f"killed by {name}"
    return WORDS.get(status, f"status {status}")


def rows() -> list[dict[str, Any]]:
    """What is there."""
    return [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []


def table() -> Iterator[str]:
    """The newest row of each page and release of torch, in Markdown."""
    places = {bug.id: f"{same}.md#{bug.id}" if (same := getattr(bug, "same", "")) else f"{bug.id}.md" for bug in bugs()}
    current = {bug.id: digest(script(bug)) for bug in bugs() if bug.case.setting.device == "cpu"}
    newest: dict[str, dict[str, str]] = {}
    beside: dict[str, str] = {}
    for row in rows():
        if current.get(row["id"]) == row["script"]:
            torch, _, product = row["release"].partition(", ")
            newest.setdefault(row["id"], {})[torch] = row["word"]
            beside[row["id"]] = product
    releases = sorted({torch for found in newest.values() for torch in found})
    yield "# What the scripts of the pages show"
    yield ""
    yield "Written by `python tests/benchmarks/pages.py --table` from the rows beside it: the script of each page, run"
    yield "in a process of its own. *Shows it*: it ended with 1, so it saw the failure that its page tells, no other."
    yield ""
    for release in releases:
        words = Counter(found[release] for found in newest.values() if release in found)
        missing = sum(release not in newest.get(one, {}) for one in current)
        said = ", ".join(f"{count} {word}" for word, count in words.most_common())
        yield f"- {release}: {said}; {missing} not run with the script that the page has now"
    yield ""
    yield "Pages of GPUs are not among them."
    yield ""
    yield "| page | with | " + " | ".join(releases) + " |"
    yield "|---|---|" + "---|" * len(releases)
    for one in sorted(newest):
        said = " | ".join(newest[one].get(release, "") for release in releases)
        yield f"| [{one}](../bugs/{places[one]}) | {beside[one]} | {said} |"


def digest(text: str) -> str:
    """What tells scripts apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def main() -> None:
    """Measure, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="what runs the scripts")
    parser.add_argument("--target", action="append", metavar="NAME", help="only those of this target")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no script after so many")
    parser.add_argument("--table", action="store_true", help="write the table")
    options = parser.parse_args()
    if options.table:
        TABLE.write_text("\n".join(table()) + "\n", encoding="utf-8")
        return
    began, done = time.monotonic(), {(row["id"], row["release"], row["script"]) for row in rows()}
    ROWS.parent.mkdir(exist_ok=True)
    known_versions: dict[tuple[str, ...], dict[str, str]] = {}
    for bug in bugs():
        name = bug.case.setting.target
        if (options.ids and bug.id not in options.ids) or (options.target and name not in options.target):
            continue
        packages = ("torch", *facts_of(name).packages)
        if packages not in known_versions:
            known_versions[packages] = released(options.python, packages)
        versions, text = known_versions[packages], script(bug)
        release = ", ".join(f"{one} {version.partition('+')[0]}" for one, version in versions.items())
        if not versions or bug.case.setting.device != "cpu" or (bug.id, release, digest(text)) in done:
            continue
        if time.monotonic() - began > options.seconds:
            print("out of time")
            return
        row = {"id": bug.id, "release": release, "script": digest(text), **measured(bug, text, options.python)}
        with ROWS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(bug.id, row["word"], row["seconds"], flush=True)


if __name__ == "__main__":
    main()
