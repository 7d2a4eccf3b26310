"""The pages of ``docs/bugs``: one for each regression that ships, written from its file, so that none can rot.

``python -m shakeout.fuzz.triage.pages docs/bugs`` writes them anew; a test holds them to what it would write.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from shakeout.corpus import script
from shakeout.corpus.regressions import Regression, load_all
from shakeout.fuzz.report import ordinary

__all__ = ["INDEX", "main", "pages"]

#: File name of the list of all pages.
INDEX = "README.md"


def pages(bugs: Sequence[Regression]) -> dict[str, str]:
    """File name and text of every page."""
    found = {f"{bug.id}.md": "\n".join(_page(bug)) + "\n" for bug in bugs}
    return {INDEX: "\n".join(_index(bugs)) + "\n", **found}


def _index(bugs: Sequence[Regression]) -> Iterator[str]:
    yield "# Bugs"
    yield ""
    yield "What campaigns found in released packages, each cut down by `shakeout minimise` and run again by"
    yield "`shakeout replay --all`. The cases are in `corpus/data/regressions/`; these pages are written from them by"
    yield "`python -m shakeout.fuzz.triage.pages docs/bugs`. Public reports that were known before are in"
    yield "`corpus/data/known/`. Nothing here was filed anywhere by Shakeout."
    yield ""
    yield "*Real*: eager and target disagree on a program with a defined meaning. *Arguable*: somebody could say that"
    yield "the program asks for it. *Public*: a report of this bug was found; a page says whether one was looked for. A"
    yield "status is what was seen with that release, and says nothing of others."
    yield ""
    yield "| bug | target | judgement | status |"
    yield "|---|---|---|---|"
    for bug in sorted(bugs, key=lambda bug: (bug.case.setting.target, bug.id)):
        status = ", ".join(f"{release}: {word}" for release, word in bug.status.items())
        judged = bug.judgement + (f", [public]({bug.reference})" if bug.reference else "")
        yield f"| [{bug.title}]({bug.id}.md) | {bug.case.setting.target} | {judged} | {status} |"


def _page(bug: Regression) -> Iterator[str]:
    case = bug.case
    yield f"# {bug.title}"
    yield ""
    yield from textwrap.wrap(bug.explanation, 118, break_long_words=False, break_on_hyphens=False)
    yield ""
    yield f"- judgement: {bug.judgement}"
    searched = f"none was found on {bug.searched}" if bug.searched else "not looked for"
    yield f"- public report: {bug.reference or searched}"
    yield f"- culprit: {bug.culprit or 'not known'}"
    yield f"- target: `{case.setting.target}`" + (f", {_knobs(bug)}" if case.setting.knobs else "")
    said = " | ".join(
        part for part in (bug.failure["oracle"], bug.failure["symptom"], bug.failure.get("culprit")) if part
    )
    yield f"- symptom: `{said}`"
    yield f"- ordinary: {ordinary(case)}"
    yield f"- found: [{bug.found}](../{bug.found.removeprefix('docs/')})"
    yield ""
    yield "| release | status |"
    yield "|---|---|"
    for release, word in bug.status.items():
        yield f"| {release} | {word} |"
    yield ""
    yield "```python"
    yield from _program(bug)
    yield "```"
    yield ""
    yield "Run it, and see what eager gives and what the target gives:"
    yield ""
    yield f"    shakeout replay corpus/data/regressions/{bug.id}.json"


def _knobs(bug: Regression) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in bug.case.setting.knobs)


def _program(bug: Regression) -> Iterator[str]:
    """The network and its inputs, without what a script needs beside them."""
    blocks = script.body(bug.case).strip().split("\n\n\n")
    chosen = [block for block in blocks if not block.startswith(("def bind", "def arguments", "CALLS"))]
    yield from "\n\n\n".join(chosen).splitlines()


def main(arguments: Sequence[str]) -> int:
    """Write the pages into a folder, and remove those of bugs that are gone; the exit status."""
    if len(arguments) != 1:
        print("usage: python -m shakeout.fuzz.triage.pages FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    texts = pages(load_all())
    for path in folder.glob("*.md"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
