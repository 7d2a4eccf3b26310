"""Writes a campaign, or one of its bugs, as a file for a browser that is whole in itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shakeout.corpus.database import NAME, Database
from shakeout.corpus.files import write_whole
from shakeout.fuzz.reporting.bug_report import BugReport, bug_report
from shakeout.fuzz.reporting.campaign_report import CampaignReport, gathered
from shakeout.fuzz.reporting.course import Course, course
from shakeout.fuzz.reporting.html import vega
from shakeout.fuzz.reporting.html.drawings import course_chart
from shakeout.fuzz.reporting.html.page import rendered
from shakeout.fuzz.reporting.html.views import bug_view
from shakeout.fuzz.reporting.markdown import TOP
from shakeout.fuzz.reporting.plain import fresh, said
from shakeout.fuzz.reporting.short_scripts import short_scripts

__all__ = ["PAGE", "bug_page", "campaign_page", "write_bug", "write_campaign"]

#: File name in a campaign's directory; a bug's page stands beside it and is called by the bug's id.
PAGE = "report.html"

#: Pixels of a drawing on a screen, and on that of a telephone.
_WIDE, _NARROW = 640, 230


def write_campaign(directory: Path, output: Path | None = None) -> Path:
    """Write the page of a campaign anew; also while it runs.

    Args:
        directory: of the campaign.
        output: where to; ``report.html`` in its directory if nothing is said.

    Returns:
        The file.

    Raises:
        DatabaseError: there is no campaign, or its database cannot be read.
        OSError: the file cannot be written.
    """
    report = gathered(directory)
    cases = [shown.alone for shown in report.bugs.ranked[:TOP] if shown.alone is not None]
    path = output or directory / PAGE
    write_whole(path, campaign_page(report, course(directory), short_scripts(cases)))
    return path


def write_bug(directory: Path, bug: str, output: Path | None = None) -> Path:
    """Write the page of a bug anew; ``SH-7f3a.html`` in its campaign's directory if nothing is said.

    Raises:
        UnknownBug: the campaign has none of that id.
        DatabaseError, OSError: as of ``write_campaign``.
    """
    with Database.read(directory / NAME) as database:
        report = bug_report(directory, database, database.bug(bug))
    shown = report.shown
    scripts = {} if shown.alone is None else short_scripts([shown.alone])
    path = output or directory / f"{shown.bug.id}.html"
    write_whole(path, bug_page(report, directory.name, scripts))
    return path


def campaign_page(report: CampaignReport, course: Course, scripts: Mapping[str, str]) -> str:
    """A campaign's page.

    Args:
        report: what there is to tell.
        course: how it went on.
        scripts: short scripts of the first bugs, by the ids of their cases.
    """
    charts = []
    if vega.able() and course.spans:
        described = "The same numbers follow as a table."
        charts = [course_chart(course, "The campaign over time", described, width=width) for width in (_WIDE, _NARROW)]
    top = [
        bug_view(shown, "" if shown.alone is None else scripts.get(shown.alone.id, ""))
        for shown in report.bugs.ranked[:TOP]
    ]
    apart = {group: rows for group, rows in report.bugs.apart.items() if group != "waiting"}
    return rendered(
        "campaign.html",
        report=report,
        course=course,
        reached={source: list(course.coverage(source)) for source in course.sources},
        charts=charts,
        top=top,
        further=report.bugs.ranked[TOP:],
        apart=apart,
        fresh=fresh,
        said=said,
        drawn=vega.able(),
        package=vega.PACKAGE,
    )


def bug_page(report: BugReport, campaign: str, scripts: Mapping[str, str]) -> str:
    """A bug's page.

    Args:
        report: what there is to tell.
        campaign: name of its campaign.
        scripts: short scripts by the ids of cases, its own among them if it has one.
    """
    shown = report.shown
    view = bug_view(shown, "" if shown.alone is None else scripts.get(shown.alone.id, ""))
    values = {"report": report, "view": view, "campaign": campaign, "fresh": fresh, "said": said}
    return rendered("bug.html", **values, drawn=vega.able(), package=vega.PACKAGE)
