"""What a campaign counts: programs, the settings under which they were compared, and cases, each apart."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from shakeout.corpus.database import NAME, Database
from shakeout.corpus.rows import Totals
from shakeout.fuzz.campaign.ledger import Ledger
from shakeout.fuzz.campaign.traces import TraceLog
from shakeout.fuzz.cli import main
from shakeout.fuzz.coverage.log import CoverageLog
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.ground.results import Answer, Reply, Result, Status
from shakeout.fuzz.reporting.counted import Counted, counted
from shakeout.fuzz.reporting.rules import CountedRule, forgiving
from shakeout.oracles.verdict import Outcome, Verdict


class Books:
    """The books of a campaign, in a directory of its own."""

    def __init__(self, directory: Path, database: Database, traces: TraceLog) -> None:
        self.directory = directory
        self.database = database
        self.traces = traces
        self.ledger = Ledger(database, traces, CoverageLog(directory), deque())

    def job(self, number: int, *statuses: Status, relation: str = "", target: str = "tvm") -> None:
        """A job's replies, one for each setting, and perhaps one for what a relation made of the program."""
        job = Grow(target=target, number=number, seed=1)
        for place, status in enumerate(statuses, 1):
            last = place == len(statuses)
            reply = Reply(partial=not last or bool(relation), answered=last and bool(relation))
            self.count(job, Result("c", target, status, exact=True), reply)
        if relation:
            self.count(job, Result("c", target, "compared", relation=relation), Reply())

    def count(self, job: Grow, result: Result, reply: Reply) -> None:
        with self.database.transaction():
            self.ledger.count(Answer(job, 0, reply), result)

    @property
    def counted(self) -> Counted:
        return counted(self.database)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    with Database.create(tmp_path / NAME) as database, TraceLog(tmp_path) as traces:
        yield Books(tmp_path, database, traces)


def test_one_program_under_many_settings_is_one(books: Books) -> None:
    books.job(1, *["compared"] * 13)
    books.job(2, "compared", "unsupported", "compared", relation="scaled")
    found = books.counted
    assert (found.programs, found.settings, found.totals["tvm"].compared) == ({"tvm": 2}, {"tvm": 15}, 16)
    assert found.summary == (
        "2 programs under 7.5 settings each, 16 cases compared, 15 bit-exact, 0 new bugs, 0 flaky, 0 internal"
    )


def test_rules_that_forgive_are_counted_by_operator(books: Books) -> None:
    evidence = {"forgiven": [["next to a pole", "torch.inverse", 3]]}
    for number, verdict in enumerate(
        [
            Verdict("value", Outcome.UNKNOWN, "unstable", evidence=evidence),
            Verdict("value", Outcome.UNKNOWN, "unstable", evidence=evidence),
            Verdict("exception", Outcome.UNKNOWN, "unstable"),
            Verdict("value", Outcome.FAIL, "wrong value", evidence=evidence),
        ]
    ):
        job = Grow(target="tvm", number=number, seed=1)
        books.count(job, Result("c", "tvm", "compared", verdicts=(verdict,)), Reply())
    assert forgiving(books.database) == (
        CountedRule("tvm", "value: next to a pole", "torch.inverse", 2, 4),
        CountedRule("tvm", "exception: unstable", "", 1, 4),
    )


def test_what_was_never_compared_is_no_program(books: Books) -> None:
    books.job(1, "unsupported")
    books.job(2, "invalid")
    books.job(3, "failed", "compared")
    assert (books.counted.programs, books.counted.settings) == ({"tvm": 1}, {"tvm": 1})
    assert books.counted.summary.startswith("1 program, 1 case compared, ")


def test_targets_are_counted_apart(books: Books) -> None:
    books.job(1, "compared", target="tvm")
    books.job(2, "compared", "compared", target="export")
    assert (books.counted.programs, books.counted.settings) == ({"export": 1, "tvm": 1}, {"export": 2, "tvm": 1})


def test_a_job_that_ended_in_a_crash_counts_what_was_compared_before(books: Books) -> None:
    job = Grow(target="tvm", number=1, seed=1)
    books.count(job, Result("c", "tvm", "compared"), Reply(partial=True))
    books.count(job, Result("c", "tvm", "failed"), Reply())
    assert (books.counted.programs, books.counted.settings) == ({"tvm": 1}, {"tvm": 1})


def test_a_campaign_that_died_in_a_job_counts_its_program_once(books: Books) -> None:
    books.count(Grow(target="tvm", number=1, seed=1), Result("c", "tvm", "compared"), Reply(partial=True))
    # Another process goes on, and does the job again.
    books.ledger = Ledger(books.database, books.traces, CoverageLog(books.directory), deque())
    books.job(1, "compared", "compared")
    assert books.counted.programs == {"tvm": 1}


def test_status_says_it(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        books.job(number, "compared", "compared")
    assert main(["status", str(books.directory)]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["target", "programs", "cases", "compared", "exact", "unsupported", "infra"]
    assert lines[2].split() == ["tvm", "3", "6", "6", "6", "0", "0"]
    assert lines[3].startswith("3 programs under 2.0 settings each, 6 cases compared, 6 bit-exact, 0 new bugs,")
    assert main(["status", str(books.directory), "--json"]) == Exit.OK
    said = json.loads(capsys.readouterr().out)
    assert (said["programs"], said["settings"], said["waiting"]) == ({"tvm": 3}, {"tvm": 6}, 0)


def test_a_campaign_of_a_version_that_did_not_count_programs_says_nothing_of_them(tmp_path: Path) -> None:
    with Database.create(tmp_path / NAME) as database:
        with database.transaction():
            database.add("tvm", Totals(generated=2, compared=2))
        assert counted(database).summary == "2 cases compared, 0 bit-exact, 0 new bugs, 0 flaky, 0 internal"
