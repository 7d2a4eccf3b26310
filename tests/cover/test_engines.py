"""Engines of others: bytes as decisions, units as cases, what is instrumented, and sessions whose cases are entered."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shakeout.corpus import codec
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.database import Database
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.campaign.selftest import case as planted
from shakeout.fuzz.campaign.sessions import CORPUS, Sessions, engine_lines
from shakeout.fuzz.engines.units import Refused, folder_of, job_of, stated
from shakeout.fuzz.ground.jobs import Grow, Mutate, Run, Session, job_from_json
from shakeout.fuzz.ground.results import Answer, Loss, Reply, Result
from shakeout.fuzz.ground.slot import SlotState
from shakeout.generators.choices import BytesChoices, RecordedChoices, SeededChoices
from shakeout.generators.network import grow
from shakeout.generators.recipe import Recipe
from shakeout.generators.vocabularies.torch import Vocabulary, load_records

SESSION = Session(target="planted", seed=1, corpus="corpus", most=10, until=math.inf, knobs={"fault": "none"})


# --- decisions --------------------------------------------------------------------------------------------------------


def test_bytes_are_decisions_and_where_they_end_everything_is_simple() -> None:
    choices = BytesChoices(b"\x05\x02\x01\x07")
    # A byte, nothing where there is nothing to decide, two bytes, and more than there are.
    assert [choices.integer(10, 19), choices.integer(3, 3), choices.integer(0, 999)] == [15, 3, 258]
    assert [choices.integer(0, 99_999), choices.integer(-4, 4), choices.fraction()] == [7, -4, 0.0]
    assert not choices.boolean(0.99)
    with pytest.raises(ValueError, match="between 2 and 1"):
        choices.integer(2, 1)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 70_000))), st.integers(0, 1 << 32))
def test_what_is_recorded_is_read_again(ranges: list[tuple[int, int]], seed: int) -> None:
    recorded = RecordedChoices(SeededChoices(seed))
    made = [recorded.integer(low, low + width) for low, width in ranges]
    again = BytesChoices(recorded.data)
    assert [again.integer(low, low + width) for low, width in ranges] == made


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return load_records()


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_valid_case(vocabulary: Vocabulary, data: bytes) -> None:
    grown = grow(BytesChoices(data), Recipe(), vocabulary)
    case = Case(grown.program, grown.input_sets, Setting("eager", (), grown.mode))
    assert case.program.calls
    assert codec.decode(case.text) == case


def test_a_grown_program_has_bytes_from_which_it_is_grown_again(vocabulary: Vocabulary) -> None:
    for seed in range(6):
        recorded = RecordedChoices(SeededChoices(seed))
        grown = grow(recorded, Recipe(), vocabulary)
        assert grow(BytesChoices(recorded.data), Recipe(), vocabulary) == grown


# --- units ------------------------------------------------------------------------------------------------------------


def test_a_unit_is_the_text_of_a_case_or_decisions() -> None:
    case = planted("abort")
    job = job_of(case.text.encode(), SESSION)
    assert isinstance(job, Run)
    # The knobs that are pinned outrank the case's.
    assert codec.decode(job.case) == replace(case, setting=replace(case.setting, knobs=(("fault", "none"),)))
    assert job_from_json(job.to_json()) == job
    grown = job_of(b"\x01\x02", SESSION)
    assert isinstance(grown, Grow)
    assert (grown.choices, grown.target, grown.knobs) == ("0102", "planted", {"fault": "none"})
    assert job_of(b"\x01\x02", SESSION) == grown != job_of(b"\x01\x03", SESSION)


def test_a_case_of_another_target_leaves_its_knobs_there() -> None:
    elsewhere = replace(planted("abort"), setting=Setting("tvm", (("opt_level", 0),)))
    job = job_of(elsewhere.text.encode(), replace(SESSION, knobs={}))
    assert isinstance(job, Run)
    assert codec.decode(job.case).setting == Setting("planted")


@given(st.binary(max_size=60).map(lambda data: b"{" + data))
def test_what_only_begins_like_a_case_is_refused(unit: bytes) -> None:
    with pytest.raises(Refused):
        job_of(unit, SESSION)


def test_half_of_a_case_is_refused() -> None:
    with pytest.raises(Refused):
        job_of(planted("abort").text.encode()[:-10], SESSION)


def test_what_libfuzzer_says_is_read() -> None:
    log = b"#8 INITED cov: 3 ft: 5 corp: 2/1b\nnoise\n#9\tNEW    cov: 41 ft: 52 corp: 3/10Kb lim: 4096\nmore"
    assert stated(log) == {"branches": 41, "features": 52, "units": 3}
    assert stated(b"Fatal Python error") == {}
    assert folder_of("mine.kernels:scan/2") == "mine.kernels-scan-2"


# --- instrumenting ----------------------------------------------------------------------------------------------------

MODULE = """
def wrapped(f):
    def inner(*args):
        return f(*args)
    return inner

@wrapped
def sign(x):
    if x < 0:
        return -1
    return [1 for _ in range(1)][0] if x else 0

def error(x):
    try:
        return 1 // x
    except ZeroDivisionError:
        return None
"""


def test_named_modules_alone_are_instrumented_and_compute_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("atheris")
    from shakeout.fuzz.engines.instrumented import instrument

    names = ("instrumented_here", "instrumented_here_not", "instrumented_here_alike")
    monkeypatch.syspath_prepend(tmp_path)
    modules = []
    for name in names:
        (tmp_path / f"{name}.py").write_text(MODULE)
        modules.append(__import__(name))
    try:
        before = [module.error.__code__ for module in modules]
        found = instrument(("instrumented_here", "instrumented_here_not", "-instrumented_here_not"))
        assert [module.error.__code__ == code for module, code in zip(modules, before, strict=True)] == [
            False,
            True,
            True,
        ]
        assert found.functions == 4  # with the decorated one, and the one that decorates it
        assert found.branches > found.functions
        assert [modules[0].sign(x) for x in (-3, 0, 5)] == [-1, 0, 1]
        assert [modules[0].error(x) for x in (0, 1)] == [None, 1]
        again = instrument(("instrumented_here",))
        assert (again.functions, again.branches) == (4, 0)
    finally:
        for name in names:
            sys.modules.pop(name, None)


# --- sessions ---------------------------------------------------------------------------------------------------------


class Books:
    """What a campaign enters cases in."""

    def __init__(self) -> None:
        self.entered: list[Answer] = []
        self.again = False
        self.at_work = False

    def job(self, number: int) -> Grow:
        return Grow(target="planted", number=number, seed=number, recipe={"index": number, "mode": "training"})

    def enter(self, answer: Answer) -> None:
        self.entered.append(answer)


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def sessions(tmp_path: Path, books: Books):
    config = Config(targets=("planted",), workers=2, cases=5, engine="atheris", seconds=None)
    with Database.create(tmp_path / "campaign.sqlite", {}) as database, database.transaction():
        yield Sessions(config, tmp_path, database, books)  # type: ignore[arg-type]


def reply(text: str, **more) -> Reply:
    return Reply(result=Result("id", "planted", "compared"), case=text, partial=True, answered=True, **more)


def test_each_answer_of_a_session_is_entered_as_that_of_a_case(
    sessions: Sessions, books: Books, tmp_path: Path
) -> None:
    job = sessions.next()
    assert isinstance(job, Session)
    assert (job.most, job.recipe, job.fresh) == (5, {"mode": "training"}, True)
    assert Path(job.corpus) == tmp_path / CORPUS / "planted"
    # All the cases that were asked for are promised.
    assert sessions.next() is None
    assert (sessions.over, sessions.at_work) == (True, True)
    text = planted("none").text
    for number in range(2):
        sessions.done(Answer(job, 1, reply(text, engine={"branches": 3 + number, "features": 9, "units": 2})))
    one, two = books.entered
    assert [answer.job.number for answer in (one, two)] == [0, 1]
    assert isinstance(two.job, Run)
    assert two.history == (Run(target="planted", case=text),)
    # The session's worker crashes in its third case: the case is what stood in the slot, and two cases are left over.
    slot = SlotState(7, 0.0, "run", 0.0, "case", planted("abort").text)
    sessions.done(Answer(job, 1, loss=Loss("crash", "SIGABRT", slot, 0.1)))
    lost = books.entered[-1]
    assert lost.loss.symptom == "SIGABRT"
    assert lost.job == Run(target="planted", number=2, case=planted("abort").text)
    assert len(lost.history) == 2
    assert not sessions.over
    assert not sessions.at_work
    another = sessions.next()
    assert another.most == 2
    assert another.seed != job.seed
    (line,) = engine_lines(sessions._database)
    assert line.startswith("libFuzzer on planted: 4 branches and 9 features")
    assert line.endswith("1 ended by a case")


@pytest.mark.parametrize(
    ("text", "entered"),
    [
        (SESSION.to_json(), 0),  # it had not begun
        (Mutate(target="planted", seed=3, parent="{}").to_json(), 1),  # it crashed while it made a case
        (Grow(target="planted", seed=3, choices="00ff").to_json(), 1),
        (None, 0),  # the text was being written
    ],
)
def test_a_session_that_ends_without_a_case_is_told_by_what_it_was_about_to_do(
    sessions: Sessions, books: Books, text: dict[str, Any] | None, entered: int
) -> None:
    job = sessions.next()
    slot = SlotState(7, 0.0, "grow", 0.0, "job" if text else "", json.dumps(text) if text else "")
    sessions.done(Answer(job, 1, loss=Loss("crash", "SIGSEGV", slot, 0.1)))
    assert len(books.entered) == entered
    if entered and text:
        assert books.entered[0].job == replace(job_from_json(text), number=0)
    assert not sessions.at_work


def test_a_session_whose_time_is_over_enters_nothing(sessions: Sessions, books: Books) -> None:
    job = sessions.next()
    sessions.done(Answer(job, 1, Reply(spent=True)))
    assert not books.entered
    assert not sessions.at_work
    sessions.until = 0.0
    assert sessions.next() is None


def test_a_defect_of_ours_is_entered_with_the_job_in_which_it_shows(sessions: Sessions, books: Books) -> None:
    job, grown = sessions.next(), Grow(target="planted", seed=3, choices="00ff")
    sessions.done(Answer(job, 1, Reply(internal="internal KeyError: 'x'", learnt={"job": grown.to_json()}, spent=True)))
    (answer,) = books.entered
    assert answer.job == replace(grown, number=0)
    assert answer.reply.internal
    assert not sessions.at_work
