"""Exit statuses: one table, which the documentation and ``--help`` repeat word for word."""

import re
from pathlib import Path

import pytest

from shakeout.fuzz import cli
from shakeout.fuzz.commands import campaigns
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit

PAGE = Path(__file__).parents[2] / "docs" / "exit-statuses.md"


def test_the_page_has_the_same_table() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert {int(number): meaning for number, meaning in rows} == {int(one): one.meaning for one in Exit}
    assert len(rows) == len(Exit)


def test_help_has_the_same_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = re.findall(r"^  (\d+) +(.*)$", capsys.readouterr().out, re.MULTILINE)
    assert told == [(str(int(one)), one.meaning) for one in Exit]


def test_no_status_means_something_to_others() -> None:
    taken = {*range(64, 70), *range(71, 79), 124, 125, *range(126, 130), *range(131, 256)}
    assert not taken & set(map(int, Exit))
    assert len({one.meaning for one in Exit}) == len(Exit)


def test_pages_name_no_other_status() -> None:
    for page in sorted(PAGE.parent.glob("*.md")):
        for number in re.findall(r"exit status(?: is)? (\d+)", page.read_text(), re.IGNORECASE):
            assert int(number) in {*map(int, Exit), 125}, f"{page.name}: {number}"


def test_a_campaign_is_not_green_while_findings_wait() -> None:
    def ended(new: int, waiting: int, reason: str = "time") -> tuple[Exit, str]:
        bugs = tuple(f"SH-{number}" for number in range(new))
        return campaigns._judged(events.Finished(reason, 1.0, {}, {}, bugs, waiting=waiting))

    assert ended(0, 0) == (Exit.OK, "nothing new")
    assert ended(0, 12) == (Exit.VACUOUS, "no new bug yet; 12 findings wait")
    assert ended(2, 12) == (Exit.FOUND, "2 new bugs")
    assert ended(0, 12, "interrupted")[0] == Exit.INTERRUPTED
