"""Pages for a browser: they say what there is to say, and whatever strangers wrote stays text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.hostile_pages import HOSTILE, SHOWN, STORED, ids, made
from tests.older_database import downgrade

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.cli import main
from shakeout.fuzz.ground.events import LOG, read_log
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.reporting.bug_report import bug_report
from shakeout.fuzz.reporting.html import vega, write
from shakeout.fuzz.reporting.html.drawings import Classes
from shakeout.fuzz.reporting.html.layout import LARGEST, drawing
from shakeout.fuzz.reporting.html.visible import visible
from shakeout.fuzz.reporting.html.write import bug_page, write_bug, write_campaign
from shakeout.oracles.extent import Cell


class Page(HTMLParser):
    """What a browser sees of a page: elements with their attributes, and all text outside of style and script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._within: list[str] = []
        self._text: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join("".join(self._text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._within.append(tag)
        if tag in ("td", "th", "dd", "title"):
            self._text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._within):
            self._text.append(data)

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)


@pytest.fixture(autouse=True)
def printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short scripts, which a process of their own takes seconds to print."""
    monkeypatch.setattr(write, "short_scripts", lambda cases: {case.id: "print('short')" for case in cases})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return made(tmp_path / "run")


def test_a_campaigns_page_says_what_there_is(directory: Path) -> None:
    page = Page(write_campaign(directory))
    bugs = ids(directory)
    order = [page.text.index(f"{place}. {bugs[name]}") for place, name in ((1, "value"), (2, "died"), (3, "raised"))]
    assert order == sorted(order)
    for said in (
        "run",
        "4 cases compared",
        "silent wrong value at ordinary values and default settings",
        "10 of 80 elements are wrong (a tail)",
        "A tensor of shape [2, 40], shown as a matrix of 2 × 40",
        "A cell stands for 1 × 2 elements",
        "[1, 39] 0.0 10.0 10 ",
        "torch.cumsum(",
        "The smallest program",
        "unsupported the target declines them 2 2",
        "torch.sin eager 3 3 2 2 2 0 1 0",
        "Values first differ behind torch.cumsum",
        "grows case 7 again",
    ):
        assert said in page.text, said
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    assert len(list(page.all("caption"))) == len(list(page.all("table")))


def test_coverage_over_time_is_drawn_by_source(directory: Path) -> None:
    assert "what was reached" not in Page(write_campaign(directory)).text
    begin = next(event for event in read_log(directory / LOG) if event["event"] == "Started")["time"]
    rows = [(1.0, 70), (2.0, {"python": 1234, "<b>": 2})]
    with (directory / LOG).open("a") as log:
        for after, reached in rows:
            row = {"time": begin + after, "event": "CaseDone", "target": "eager", "status": "compared"}
            log.write(json.dumps({**row, "reached": reached}) + "\n")
    page = Page(write_campaign(directory))
    assert "Cases that were compared in a minute, what was reached by then, and bugs" in page.text
    assert "reached, <b> reached, native code reached, python bugs" in page.text
    assert " 2 70 1,234 " in page.text
    # Each source has a panel in both drawings, and its title there.
    assert page.text.count("native code") == 3


def test_a_bugs_page_says_what_there_is(directory: Path) -> None:
    page = Page(write_bug(directory, ids(directory)["raised"]))
    assert f"Bug {ids(directory)['raised']} of campaign run" in page.text
    assert "said: open: plain" in page.text
    assert "ran: still failing, plain" in page.text
    assert "x" * 100_000 in page.text
    died = Page(write_bug(directory, ids(directory)["died"]))
    assert "Last words of the process plain" in died.text
    assert "grows case 7 again" in died.text


def test_what_strangers_wrote_stays_text(tmp_path: Path) -> None:
    calm, hostile = made(tmp_path / "calm"), made(tmp_path / "run", HOSTILE)
    for names in ("", "value", "raised", "died"):
        pages = [Page(write_bug(each, ids(each)[names]) if names else write_campaign(each)) for each in (calm, hostile)]
        # The same elements, as if nothing had been written.
        counts = [[name for name, _ in page.elements if name not in ("path", "line", "text", "g")] for page in pages]
        assert sorted(counts[0]) == sorted(counts[1])
        assert not list(pages[1].all("img"))
        assert not any(key.startswith("on") for _, attributes in pages[1].elements for key in attributes)
        assert len(list(pages[1].all("script"))) == 1
        assert all(shown in pages[1].text for shown in ([SHOWN, STORED] if names != "value" else [SHOWN]))


def test_a_page_can_load_and_send_nothing(directory: Path) -> None:
    for path in (write_campaign(directory), write_bug(directory, ids(directory)["value"])):
        page = Page(path)
        policy = next(each["content"] for each in page.all("meta") if each.get("http-equiv"))
        assert policy is not None
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        assert not any(key in ("src", "srcset", "style") for _, attributes in page.elements for key in attributes)
        assert all((each["href"] or "").startswith("#") for each in page.all("a"))
        assert path.stat().st_size < 500_000


def test_the_same_campaign_gives_the_same_page(directory: Path) -> None:
    first = write_campaign(directory).read_bytes()
    assert write_campaign(directory).read_bytes() == first


def test_without_vega_there_are_tables(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    monkeypatch.setattr(vega, "able", lambda: False)
    with Database.read(directory / NAME) as database:
        report = bug_report(directory, database, database.bug(ids(directory)["value"]))
    text = bug_page(report, "run", {})
    assert "<svg" not in text
    assert "[1, 39]" in text
    assert "pip install &#39;shakeout[html]&#39;" in text or "pip install 'shakeout[html]'" in text


@pytest.mark.skipif(not vega.able(), reason=f"{vega.PACKAGE} is not installed")
def test_drawings_are_named_and_say_what_they_show(directory: Path) -> None:
    page = Page(write_bug(directory, ids(directory)["value"]))
    drawings = list(page.all("svg"))
    assert len(drawings) == 2
    names = {attributes.get("id") for _, attributes in page.elements}
    for drawn in drawings:
        assert drawn["role"] == "img"
        assert set((drawn["aria-labelledby"] or "").split()) <= names
    assert "values first differ here" in page.text
    assert "row 1, columns 38 to 39: 2 wrong, off by up to 10" in page.text


@pytest.mark.parametrize("version", [1, 4])
def test_campaigns_of_earlier_versions_have_pages(directory: Path, version: int) -> None:
    downgrade(directory / NAME, version)
    with Database.read(directory / NAME) as database:
        bugs = [bug.id for bug in database.bugs()]
    page = Page(write_campaign(directory))
    assert all(bug in page.text for bug in bugs)
    assert all(bug in Page(write_bug(directory, bug)).text for bug in bugs)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_a_campaign_or_a_bug(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bug = ids(directory)["value"]
    assert main(["report", "--html", str(directory)]) == Exit.OK
    assert str(directory / "report.html") in capsys.readouterr().out
    assert main(["report", "--html", bug.lower(), "--directory", str(directory)]) == Exit.OK
    assert str(directory / f"{bug}.html") in capsys.readouterr().out
    (directory / bug).mkdir()
    assert main(["report", "--html", str(directory / bug)]) == Exit.OK
    assert str(directory / f"{bug}.html") in capsys.readouterr().out
    output = directory.parent / "elsewhere.html"
    assert main(["report", "--html", str(directory), "--output", str(output)]) == Exit.OK
    assert output.read_bytes() == (directory / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--html", "SH-ffff", "--directory", "RUN"], Exit.USAGE, "no bug begins with 'SH-ffff'"),
        (["--html", "nothing"], Exit.USAGE, "'nothing' is no campaign's directory and no bug's id"),
        (["--html", "RUN", "--format", "pytorch"], Exit.USAGE, "--format and --anyway go with a draft"),
        (["--html", "RUN", "--directory", "RUN"], Exit.USAGE, "--directory names another one"),
        (["--html", "RUN", "--output", "RUN/no/where.html"], Exit.DIRECTORY, "No such file or directory"),
        (["--html", "--directory", "RUN/no"], Exit.DIRECTORY, "is not a campaign's directory"),
        ([], Exit.USAGE, "say of which bug"),
    ],
)
def test_mistakes_are_told(
    directory: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: Exit, said: str
) -> None:
    assert main(["report", *(one.replace("RUN", str(directory)) for one in arguments)]) == status
    assert said in capsys.readouterr().err


# --- parts ------------------------------------------------------------------------------------------------------------


def test_a_program_is_drawn_from_top_to_bottom() -> None:
    case = capture(
        lambda x, y: (torch.cat([x.sin().cos(), x]) + y).split(2),
        lambda: [torch.ones(2), torch.ones(4)],
        setting=Setting("eager"),
    )
    drawn = drawing(case.program, {0: "it is wrong"})
    assert drawn is not None
    assert [box.kind for box in drawn.boxes[:2]] == ["input", "input"]
    assert drawn.boxes[0].lines == ("x0: float32[2]", "it is wrong")
    assert drawn.boxes[0].loud == (1,)
    assert drawn.boxes[-1].lines[-2:] == ("returned as output 0", "returned as output 1")
    for line in drawn.lines:
        assert [y for _, y in line] == sorted(y for _, y in line)
        # No line runs through a box that it does not join.
        for (x, top), (other, bottom) in pairwise(line):
            through = [
                box for box in drawn.boxes if x == other and abs(x - box.x) < box.width / 2 and top < box.y < bottom
            ]
            assert not through
    boxes = sorted(drawn.boxes, key=lambda box: (box.y, box.x))
    for one, next_one in pairwise(boxes):
        assert one.y < next_one.y or one.x + one.width / 2 < next_one.x - next_one.width / 2


def test_what_nobody_could_read_is_not_drawn() -> None:
    def long(x: torch.Tensor) -> torch.Tensor:
        for _ in range(LARGEST):
            x = x.sin()
        return x

    case = capture(long, lambda: [torch.ones(2)], setting=Setting("eager"))
    assert drawing(case.program, {}) is None


def test_differences_have_classes() -> None:
    sized = Classes.of(tuple(Cell(0, number, 1, 10.0**number) for number in range(6)))
    assert [sized.of_one(10.0**number) for number in range(6)] == ["1", "2", "3", "4", "5", "5"]
    assert (sized.of_one(None), sized.of_one(0.0)) == ("N", "1")
    assert sized.meaning("1") == "1 to 10"
    assert sized.present == ("1", "2", "3", "4", "5")
    one = Classes.of((Cell(0, 0, 1, 3.0), Cell(0, 1, 1, None)))
    assert (one.present, one.meaning("5")) == (("5", "N"), "3")
    assert Classes.of((Cell(0, 0, 1, 0.0),)).meaning("1") == "bits only"
    far = Classes.of((Cell(0, 0, 1, 1e-300), Cell(0, 1, 1, 1.0), Cell(0, 2, 1, 1.79e308)))
    assert far.present == ("1", "3", "5")
    assert far.meaning("5").endswith("to 1.8e+308")


def test_what_is_invisible_is_seen() -> None:
    assert visible("a\tb\nc é 漢 🙂") == "a\tb\nc é 漢 🙂"
    assert visible("\0\x1b[31m\x7f\r") == "\\x00\\x1b[31m\\x7f\\x0d"
    assert visible("\ud800\u202e\u200b\ufeff\uffff\U000e0041") == "\\ud800\\u202e\\u200b\\ufeff\\uffff\\U000e0041"
