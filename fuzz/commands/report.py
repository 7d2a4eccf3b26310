"""``shakeout report``: writes a draft, or says what speaks against it; or a page for a browser."""

from __future__ import annotations

import sys
from pathlib import Path

from shakeout.corpus.database import NAME
from shakeout.fuzz.bisect.stored import Job
from shakeout.fuzz.commands.places import Mistake, existing
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.reporting.drafting import drafted, write_draft
from shakeout.fuzz.reporting.formats import Format

__all__ = ["page_command", "report_command"]


def report_command(job: Job, *, form: Format | None, output: Path | None, anyway: bool) -> int:
    """Write the report of one case to a file or to standard output. Nothing is filed, ever.

    Args:
        job: the case, and the finding's folder where there is one.
        form: whose form; None for the one of the target's project.
        output: where to write; None for standard output.
        anyway: write it as a draft although something speaks against it.

    Returns:
        The exit status: ``REFUSED`` where something does.
    """
    draft = drafted(job, form=form, anyway=anyway)
    if draft.text is None:
        print(f"shakeout: no report of {job.file}:", file=sys.stderr)
        for objection in draft.objections:
            print(f"  {objection}", file=sys.stderr)
        print("--anyway writes a draft that says so", file=sys.stderr)
        return Exit.REFUSED
    if output is None:
        print(draft.text, end="")
        return Exit.OK
    write_draft(draft.text, job.case, output)
    script = draft.script
    said = {"long": ", the long form: the short one does not show it", "model": ", of the model alone"}
    of = said.get(script.form, "")
    print(f"{output}: script of {script.lines} lines{of}. Read it before you file it; nothing was filed.")
    return Exit.OK


def page_command(what: str | None, directory: Path | None, output: Path | None) -> int:
    """Write a page for a browser.

    Args:
        what: a campaign's directory, a bug's id, or a bug's folder; None for a campaign.
        directory: of the campaign; None for the newest.
        output: where to write; None for the campaign's directory.

    Returns:
        The exit status.
    """
    from shakeout.fuzz.reporting.html import vega
    from shakeout.fuzz.reporting.html.write import write_bug, write_campaign

    campaign, bug = _meant(what, directory)
    path = write_campaign(campaign, output) if bug is None else write_bug(campaign, bug, output)
    print(f"{path}: {path.stat().st_size / 1e3:,.0f} kB; open it in a browser")
    if not vega.able():
        print("shakeout: without drawings; for them: pip install 'shakeout[html]'", file=sys.stderr)
    return Exit.OK


def _meant(what: str | None, directory: Path | None) -> tuple[Path, str | None]:
    """A campaign's directory, and the id of one of its bugs or None for all of it."""
    if what is None:
        return existing(directory), None
    path = Path(what)
    if not path.is_dir():
        if path.exists() or not what.upper().startswith("SH-"):
            raise Mistake(f"report --html: {what!r} is no campaign's directory and no bug's id (SH-...)")
        return existing(directory), what
    if directory is not None:
        raise Mistake(f"report --html: {what} is a directory, and --directory names another one")
    if (path / NAME).exists():
        return path, None
    folder = path.resolve()
    return existing(folder.parent), folder.name
