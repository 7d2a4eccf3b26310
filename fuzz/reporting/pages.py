"""The pages of ``docs/bugs``: one for each case that ships, written from its file, so that none can rot.

``python -m shakeout.fuzz.reporting.pages docs/bugs`` writes them anew; a test holds them to what it would write.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from shakeout.corpus import known, regressions, script
from shakeout.corpus.case import Case
from shakeout.corpus.evidence import Evidence
from shakeout.corpus.known import KnownBug
from shakeout.corpus.regressions import Regression
from shakeout.corpus.symptom import Symptom
from shakeout.fuzz.reporting.draft import NO_KNOBS
from shakeout.fuzz.reporting.exported import short_form
from shakeout.fuzz.reporting.plain import ordinary
from shakeout.fuzz.reporting.tables import table
from shakeout.fuzz.reporting.trophies import trophies
from shakeout.targets.registry import reference_called

__all__ = ["INDEX", "main", "pages"]

#: File names of the list of all pages, and of what is worth most among them.
INDEX, TROPHIES = "README.md", "TROPHIES.md"


def pages(found: Sequence[Regression], reported: Sequence[KnownBug]) -> dict[str, str]:
    """File name and text of every page.

    Args:
        found: what campaigns found.
        reported: what others had reported before.
    """
    alike = {one.id: [bug for bug in found if bug.same == one.id] for one in found if not one.same}
    texts = {f"{bug.id}.md": _page(bug, alike[bug.id]) for bug in found if not bug.same}
    texts |= {f"{bug.id}.md": _public_page(bug) for bug in reported}
    whole = {INDEX: _index(found, reported), TROPHIES: trophies(found), **texts}
    return {name: "\n".join(lines) + "\n" for name, lines in whole.items()}


def _index(found: Sequence[Regression], reported: Sequence[KnownBug]) -> Iterator[str]:
    yield "# Bugs"
    yield ""
    yield "Bugs in released packages, each cut down to its smallest case, and run again by `shakeout replay --all`."
    yield "The cases are in `corpus/data/`, and these pages are written from them by `python -m"
    yield "shakeout.fuzz.reporting.pages docs/bugs`. Whether a smaller case fails alike, what `shakeout bisect` says,"
    yield "and which script shows it alone was found out by `python -m shakeout.fuzz.reporting.shipped`."
    yield "Nothing here was filed anywhere by Shakeout. What is wrong with eager itself, the reference, no case can"
    yield "show: see [bugs of eager mode](../eager-bugs.md). What a maintainer reads first: [trophies](TROPHIES.md)."
    yield ""
    yield "## What campaigns found"
    yield ""
    yield "*Real*: eager and target disagree on a program with a defined meaning. *Arguable*: somebody could say that"
    yield "the program asks for it. *Public*: a report of this bug was found; a page says whether one was looked for. A"
    yield "status is what was seen with that release, and says nothing of others."
    yield ""
    yield "| bug | target | judgement | status |"
    yield "|---|---|---|---|"
    for bug in sorted(found, key=lambda bug: (bug.case.setting.target, bug.same or bug.id, bool(bug.same), bug.id)):
        status = ", ".join(f"{release}: {word}" for release, word in bug.status.items())
        judged = bug.judgement + (f", [public]({bug.reference})" if bug.reference else "")
        where = bug.case.setting.target + ("" if bug.case.setting.device == "cpu" else ", GPU")
        place = f"{bug.same}.md#{bug.id}" if bug.same else f"{bug.id}.md"
        yield f"| {'same cause: ' if bug.same else ''}[{bug.title}]({place}) | {where} | {judged} | {status} |"
    yield ""
    yield "## What others had reported"
    yield ""
    yield "Public reports, all of them real, that a campaign replays when a target is warm: whoever starts one sees"
    yield "what a bug looks like before luck finds another."
    yield ""
    yield "| bug | target | report |"
    yield "|---|---|---|"
    for public in sorted(reported, key=lambda bug: (bug.case.setting.target, bug.id)):
        number = "#".join(public.reference.removeprefix("https://github.com/").split("/")[1::2])
        yield f"| [{public.title}]({public.id}.md) | {public.case.setting.target} | [{number}]({public.reference}) |"


def _page(bug: Regression, alike: Sequence[Regression]) -> Iterator[str]:
    """The page of one cause: its own case, and every other way in which it shows."""
    yield from _head(bug.title, bug.explanation)
    if alike:
        yield f"One cause, {len(alike) + 1} ways in which it shows; the others stand below."
        yield ""
    yield from _told(bug)
    for other in alike:
        yield ""
        yield f'<a id="{other.id}"></a>'
        yield ""
        yield f"# It also shows so: {other.title}"
        yield ""
        yield from _wrapped(other.explanation)
        yield ""
        yield from _told(other)


def _told(bug: Regression) -> Iterator[str]:
    yield f"- judgement: {bug.judgement}"
    searched = f"none was found on {bug.searched}" if bug.searched else "not looked for"
    yield f"- public report: {bug.reference or searched}"
    if bug.near:
        yield f"- near it, and perhaps its cause: {bug.near}"
    yield f"- culprit: {bug.culprit or 'not traced to a line'}"
    said = " | ".join(
        part for part in (bug.failure["oracle"], bug.failure["symptom"], bug.failure.get("culprit")) if part
    )
    yield f"- symptom: `{said}`"
    yield from _facts(bug.case, bug.evidence)
    yield f"- found: [{bug.found}](../{bug.found.removeprefix('docs/')})"
    yield ""
    yield "| release | status |"
    yield "|---|---|"
    for release, word in bug.status.items():
        yield f"| {release} | {word} |"
    yield ""
    yield from _shown(bug.case, bug.evidence, bug.symptom, f"corpus/data/regressions/{bug.id}.json")


def _public_page(bug: KnownBug) -> Iterator[str]:
    yield from _head(bug.title, bug.explanation)
    yield "- judgement: real"
    yield f"- public report: {bug.reference}"
    yield f"- expected: `{bug.expected}`"
    yield f"- observed: `{bug.observed}`"
    yield from _facts(bug.case, bug.evidence)
    yield ""
    yield from _shown(bug.case, bug.evidence, bug.symptom, f"corpus/data/known/{bug.id}.json")


def _head(title: str, explanation: str) -> Iterator[str]:
    yield f"# {title}"
    yield ""
    yield from _wrapped(explanation)
    yield ""


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False)


def _facts(case: Case, evidence: Evidence | None) -> Iterator[str]:
    """What is known of a case without looking at its program."""
    knobs = ", ".join(f"`{name}={value}`" for name, value in case.setting.knobs)
    device = "" if case.setting.device == "cpu" else ", on a GPU"
    yield f"- target: `{case.setting.target}`{device}" + (f", {knobs}" if knobs else "")
    if case.setting.cotangent != "whole":
        yield f"- gradients are asked for with a cotangent that is {case.setting.cotangent}"
    yield f"- ordinary: {ordinary(case)}"
    if evidence is None:
        return
    if evidence.needs:
        yield f"- settings without which it does not show: {', '.join(f'`{name}`' for name in evidence.needs)}"
    elif evidence.needs == () and not case.setting.knobs:
        yield "- settings: default, as of a user who writes nothing"
    versions = ", ".join(f"{name} {version}" for name, version in evidence.packages.items())
    smaller = "no smaller case fails alike" if evidence.minimal else "a smaller case may fail alike"
    yield f"- tried with {versions}: fails {evidence.reliability}, {smaller}"
    yield from (f"- bisected: {line}" for line in evidence.bisection if line != NO_KNOBS)


def _shown(case: Case, evidence: Evidence | None, symptom: Symptom | None, path: str) -> Iterator[str]:
    """The script of a case, or its program and inputs where no short script shows the failure."""
    short = evidence is not None and evidence.script == "short"
    alone = short_form(case, symptom, evidence.needs) if evidence is not None and short else None
    yield "```python"
    yield from _program(case) if alone is None else alone.rstrip().splitlines()
    yield "```"
    yield ""
    if alone is not None:
        yield "The script needs no Shakeout. It exits 1 if it sees this failure, 3 if it sees another one, 0 if nothing"
        yield "differs, and 125 if it cannot tell; of a crash it dies. With Shakeout:"
    else:
        reference = reference_called(case.program.vocabulary)
        yield f"Run it, and see what {reference} gives and what the target gives:"
    yield ""
    yield f"    shakeout replay {path}"
    if evidence is not None and evidence.tried:
        yield ""
        yield from _widest(evidence, symptom)


def _widest(evidence: Evidence, symptom: Symptom | None) -> Iterator[str]:
    """What the same calls do on ordinary inputs, and the script of the first of these that fails."""
    yield "## The same calls on ordinary inputs"
    yield ""
    yield from table(["inputs", "what happens"], [[one.what, one.outcome] for one in evidence.tried])
    if (wide := evidence.wide) is None:
        return
    yield ""
    yield wide.heading(symptom)
    yield ""
    yield "```python"
    alone = short_form(wide.case, wide.symptom, wide.needs) if wide.script == "short" else None
    yield from _program(wide.case) if alone is None else alone.rstrip().splitlines()
    yield "```"


def _program(case: Case) -> Iterator[str]:
    """The network and its inputs, without what a script needs beside them."""
    parts = [script.definition(case.program, case.setting.device), *script.inputs(case)]
    yield from "\n\n\n".join(parts).splitlines()


def main(arguments: Sequence[str]) -> int:
    """Write the pages into a folder, and remove those of bugs that are gone; the exit status."""
    if len(arguments) != 1:
        print("usage: python -m shakeout.fuzz.reporting.pages FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    texts = pages(regressions.load_all(), known.load_all())
    gone = [path for path in folder.glob("*.md") if path.name not in texts]
    index = folder / INDEX
    if gone and not (index.exists() and index.read_text(encoding="utf-8").startswith(texts[INDEX].partition("\n")[0])):
        print(f"{folder} has pages of other things, which would be removed: name the folder of bugs", file=sys.stderr)
        return 2
    for path in gone:
        path.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
