"""Triage: signatures of smallest cases, what is near to what, and a whole campaign minimised."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.older_database import downgrade

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.observation import raised
from shakeout.corpus.smallest_cases import SmallestCase
from shakeout.corpus.vocabularies import vocabulary
from shakeout.corpus.vocabularies.torch import family
from shakeout.fuzz.campaign import config, selftest
from shakeout.fuzz.cli import main
from shakeout.fuzz.commands.minimise import minimise_all_command
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.minimise.executors import in_process
from shakeout.fuzz.minimise.search import Budget
from shakeout.fuzz.triage import minimise_bugs
from shakeout.fuzz.triage.bug_signature import Signature, dtype_class, signature_of, stripped
from shakeout.fuzz.triage.minimise_bugs import wanted
from shakeout.fuzz.triage.similar import near
from shakeout.fuzz.workers.zygote_client import ZygoteBroken
from shakeout.oracles.verdict import Outcome, Verdict


def case_of(program: Any, *tensors: torch.Tensor, target: str = "aot_eager", **setting: Any) -> Case:
    return capture(program, lambda: list(tensors), setting=Setting(target, **setting))


def failing(oracle: str = "value", symptom: str = "wrong value", target: str = "aot_eager", **more: Any) -> Result:
    said = {"place": "output 0", **{key: more.pop(key) for key in ("message", "place", "evidence") if key in more}}
    return Result("", target, "compared", (Verdict(oracle, Outcome.FAIL, symptom, **said),), **more)


X = torch.tensor([1.0, 2.0])


def sign(program: Any, *tensors: torch.Tensor, result: Result | None = None, **setting: Any) -> Signature:
    found = signature_of(case_of(program, *tensors, **setting), result or failing())
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("torch.add", "add"),
        ("torch.Tensor.add_", "add"),
        ("torch.Tensor.__iadd__", "add"),
        ("torch.Tensor.__radd__", "add"),
        ("torch.Tensor.__rsub__", "sub"),
        ("torch.ops.aten.add.Tensor", "add"),
        ("torch.nn.functional.relu", "relu"),
        ("torch.Tensor.clip_", "clamp"),
        ("torch.Tensor.__getitem__", "getitem"),
        ("mine.kernels:conv", "mine.kernels:conv"),
    ],
)
def test_names_of_one_function_are_one_family(operator: str, expected: str) -> None:
    assert family(operator) == expected
    assert vocabulary("kernel").family(operator) == expected


def test_dtypes_lose_their_width() -> None:
    names = "float64 bfloat16 float8_e5m2 complex32 int8 uint16 bool".split()
    assert [dtype_class(name) for name in names] == "float half float8 complex signed unsigned bool".split()


def test_a_signature_forgets_sizes_and_keeps_what_was_needed() -> None:
    plain = sign(lambda x: torch.mul(x, 2), X)
    assert plain == sign(lambda x: x.mul(3), torch.tensor([[5.0, 1.0, 2.0]]))
    assert plain == sign(lambda x: torch.mul(x, 2), X.double())
    assert plain.text == "aot_eager | value | wrong value | mul | float"
    others = [
        sign(lambda x: torch.mul(x, 2), X.to(torch.int8)),
        sign(lambda x: torch.mul(x, 2), torch.tensor([1.0, float("nan")])),
        sign(lambda x: torch.mul(x, 2), torch.ones(9)),
        sign(lambda x: torch.mul(x, 2), torch.ones(2, 3).t()),
        sign(lambda x: torch.mul(x, 2), torch.ones(1).expand(3)),
        sign(lambda x: torch.mul(x, 2), X, mode="training"),
        sign(lambda x: torch.mul(x, 2), X, result=failing(evidence={"deviation": "sign"})),
        sign(lambda x: torch.mul(x, 2), X, result=failing(stage="decompositions")),
        sign(lambda x: torch.mul(x, 2).mul(2), X),
    ]
    assert len({plain, *others}) == 10
    words = ("signed", "NaN", "extent 8", "strided", "overlapping", "training", "sign", "decompositions", "mul+mul")
    for signature, word in zip(others, words, strict=True):
        assert word in signature.text.split(" | ")
        assert Signature.from_json(json.loads(json.dumps(signature.to_json()))) == signature


def test_exceptions_are_told_by_message_and_place() -> None:
    def raised(template: str, *frames: str) -> Signature:
        evidence = {"template": template, "frames": list(frames), "owner": "subject"}
        return sign(lambda x: torch.mul(x, 2), X, result=failing("exception", "RuntimeError", evidence=evidence))

    first = raised("size [N, N] of argN_N does not fit", "a.py:lower", "module.py:_call_impl")
    assert first == raised("size [N, N, N] of argN_N does not fit", "a.py:lower", "standalone.py:run")
    assert first.culprit.endswith("@ a.py:lower")
    assert first != raised("size [N, N] of argN_N does not fit", "b.py:lower")
    assert stripped("bufN of torch.Size([N, N]) and primals_N") == "NAME of torch.Size[N] and NAME"


def test_crashes_are_told_by_their_first_frames_and_assertion() -> None:
    def crashed(said: str, *stack: str) -> Signature:
        lines = "\n".join(f'  File "/x/{one.split(":")[0]}", line 7 in {one.split(":")[1]}' for one in stack)
        more = {"message": f"SIGSEGV in phase run: {said}", "place": "run", "evidence": {"output": lines}}
        return sign(lambda x: torch.mul(x, 2), X, result=failing("crash", "SIGSEGV", **more))

    first = crashed("free(): invalid size", "conv.py:run", "module.py:_call_impl", "net.py:go", "worker.py:serve")
    assert first == crashed("malloc(): corrupted", "conv.py:run", "net.py:go", "cli.py:main")
    assert first.culprit == "phase run @ conv.py:run @ net.py:go"
    assert "Assert x > N" in crashed("Assert x > 12", "conv.py:run").culprit
    assert first != crashed("free(): invalid size", "pool.py:run")


def test_a_signature_does_not_depend_on_the_names_of_our_own_files(tmp_path: Path) -> None:
    import shakeout

    ours = Path(shakeout.__file__).parent / "fuzz" / "of_another_name.py"

    def raises(file: str) -> tuple[str, ...]:
        namespace: dict[str, Any] = {}
        exec(compile("def deep():\n    raise RuntimeError('no')\n", file, "exec"), namespace)
        exec(compile("def outer(deep):\n    deep()\n", str(tmp_path / "conv.py"), "exec"), namespace)
        try:
            namespace["outer"](namespace["deep"])
        except RuntimeError as error:
            return raised(error, declined=False).frames
        raise AssertionError

    frames = raises(str(ours))
    assert frames[-2:] == ("conv.py:outer", "shakeout/of_another_name.py:deep")
    evidence = {"template": "no", "frames": list(frames[-3:])}
    told = sign(lambda x: torch.mul(x, 2), X, result=failing("exception", "RuntimeError", evidence=evidence))
    assert told.culprit == "no @ conv.py:outer"
    output = f'  File "{ours}", line 3 in run\n  File "/lib/conv.py", line 4 in outer'
    dead = sign(lambda x: torch.mul(x, 2), X, result=failing("crash", "SIGSEGV", evidence={"output": output}))
    assert dead.culprit.endswith("conv.py:outer")


def test_what_is_a_network_still_is_unclassified() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        return x.mul(2).add(1).sin().cos().exp()

    assert signature_of(case_of(program, X), failing()) is None
    passing = replace(failing(), verdicts=())
    assert signature_of(case_of(lambda x: x.mul(2), X), passing) is None


def test_near_signatures_say_why() -> None:
    one = sign(lambda x: torch.mul(x, 2), X)
    assert near(one, one) == "the same signature"
    assert near(one, replace(one, dtypes=("half",))) == "the same operators; another dtype"
    assert near(one, replace(one, target="inductor")) == "the same program on inductor"
    assert not near(one, replace(one, dtypes=("half",), layout="strided"))
    assert not near(one, replace(one, operators=("div",)))
    assert not near(one, replace(one, oracle="gradient"))
    raised = replace(one, oracle="exception", culprit="no size N @ a.py:f")
    assert near(raised, replace(raised, operators=("div",))) == "the same message from the same place"
    assert not near(raised, replace(raised, operators=("div",), culprit="no size N"))
    one, other, longer = (
        replace(raised, operators=(name,), culprit=f"name={quoted} must be floating @ check.h:unary")
        for name, quoted in (("sin", "'relax.sin'"), ("log", "'relax.log'"), ("exp", "'what it is'"))
    )
    assert near(one, other) == "the same message, about another name, from the same place"
    assert not near(one, longer)
    assert not near(one, replace(other, target="inductor"))


# --- a campaign -------------------------------------------------------------------------------------------------------


def add(database: Database, case: Case, result: Result, signature: str, state: str = "confirmed") -> str:
    bug, _ = database.add_finding(
        signature=signature,
        title=signature,
        target=result.target,
        oracle=result.verdicts[0].oracle,
        symptom=result.verdicts[0].symptom,
        job=1,
        case_id=case.id,
        case_json=case.text,
        result=result.to_json(),
        state=state,
    )
    return bug.id


def planted(fault: str) -> tuple[Case, Result]:
    from shakeout.fuzz.running.execute import execute

    case = selftest.case(fault)
    return case, execute(case)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with Database.create(tmp_path / NAME):
        return tmp_path


class InProcess:
    """Stands for a pool: what runs here cannot take the process with it."""

    def __init__(self, *args: Any, **more: Any) -> None:
        pass

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, cases: Any, requirements: Any) -> Any:
        return in_process(cases, requirements)


def test_every_bug_that_is_open_is_minimised_and_near_ones_are_suggested(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Database.open(directory / NAME) as database:
        wrong = add(database, *planted("wrong value"), "one")
        again = add(database, *planted("wrong value"), "two")
        other = add(database, *planted("wrong stride"), "three")
        gone = add(database, planted("none")[0], planted("wrong value")[1], "four")
        flaky = add(database, *planted("wrong value"), "five", state="flaky")
        settled = add(database, *planted("wrong value"), "six")
        database.decide(settled, "invalid")
    monkeypatch.setattr(minimise_bugs, "CandidatePool", InProcess)
    console = Console(width=300, record=True)
    arguments: dict[str, Any] = {"budget": Budget(60, 40), "workers": 1, "memory": 2 << 30, "plain": True}
    assert minimise_all_command(directory, console=console, **arguments) == Exit.OK
    said = console.export_text()
    with Database.read(directory / NAME) as database:
        smallest = database.smallest_cases()
        assert set(smallest) == {wrong, other, gone}
        assert smallest[wrong].state == smallest[other].state == "complete"
        assert smallest[gone].state == "not reproduced"
        assert smallest[gone].note
        assert flaky not in smallest
        assert not wanted(database)
        assert len(wanted(database, again=True)) == 3
        assert database.bug(again) == database.bug(wrong), "one cause is one bug"
        assert (database.bug(wrong).count, len(database.findings(wrong))) == (2, 2)
    assert smallest[wrong].signature["oracle"] == "value"
    assert (directory / wrong / "case.min.json").read_text().strip() == smallest[wrong].case_json
    assert f"{again}   is {wrong}: one cause" in said


def test_whoever_minimises_is_told_and_answered_and_nothing_is_printed(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Database.open(directory / NAME) as database:
        wrong = add(database, *planted("wrong value"), "one")
        again = add(database, *planted("wrong value"), "two")
        gone = add(database, planted("none")[0], planted("wrong value")[1], "three")
    told: list[events.Event] = []
    monkeypatch.setattr(minimise_bugs, "CandidatePool", InProcess)
    done = minimise_bugs.minimise_all(directory, budget=Budget(60, 40), workers=1, memory=2 << 30, tell=told.append)
    with Database.read(directory / NAME) as database:
        assert {row.bug: row.state for row in done.rows} == {
            wrong: "complete",
            again: "complete",
            gone: "not reproduced",
        }
        assert set(database.smallest_cases()) == {wrong, gone}
    assert done.wanted == 3
    assert done.unusable == {}
    assert events.Merged(wrong, again, "one cause") in told
    assert done.similar == ()
    assert told[0] == events.Minimising("planted", 3)
    assert sum(isinstance(event, events.Shrinking) for event in told) > 3
    rows = {event.bug: event for event in told if isinstance(event, events.Minimised)}
    assert list(rows) == [row.bug for row in done.rows]
    assert (rows[wrong].before, rows[wrong].after) == (2, 0)
    assert (rows[gone].after, bool(rows[gone].note)) == (None, True)
    assert capsys.readouterr() == ("", "")


def test_bugs_of_a_target_that_cannot_be_loaded_are_left(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(InProcess):
        def __enter__(self) -> "Broken":
            raise ZygoteBroken("Traceback\nImportError: no such thing\n")

    with Database.open(directory / NAME) as database:
        add(database, *planted("wrong value"), "one")
    told: list[events.Event] = []
    monkeypatch.setattr(minimise_bugs, "CandidatePool", Broken)
    done = minimise_bugs.minimise_all(directory, budget=Budget(60, 40), workers=1, memory=2 << 30, tell=told.append)
    assert (done.wanted, done.rows) == (1, ())
    assert done.unusable == {"planted": "ImportError: no such thing"}
    assert told == [events.Minimising("planted", 1), events.Unusable("planted", "ImportError: no such thing")]


def test_show_tells_smallest_case_and_signature(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = case_of(lambda x: torch.mul(x, 2), X)
    signature = signature_of(case, failing())
    assert signature is not None
    with Database.open(directory / NAME) as database:
        one, two = (add(database, case, failing(), name) for name in ("one", "two"))
        three = add(database, case, failing(), "three")
        for bug in (one, two):
            database.set_smallest(SmallestCase(bug, "complete", case.text, failing().to_json(), signature.to_json()))
        database.set_smallest(SmallestCase(three, "not reproduced", note="it does not fail"))
    assert main(["bugs", "show", one, "--directory", str(directory)]) == Exit.OK
    said = capsys.readouterr().out
    assert "smallest  def program(x0):" in said
    assert f"signature {signature.text}" in said
    assert f"similar   {two}: the same signature" in said
    assert main(["bugs", "show", three, "--directory", str(directory)]) == Exit.OK
    assert "signature unclassified (it does not fail)" in capsys.readouterr().out
    assert main(["bugs", "show", one, "--json", "--directory", str(directory)]) == Exit.OK
    data = json.loads(capsys.readouterr().out)
    assert data["minimal"]["signature"]["operators"] == ["mul"]
    assert [row["bug"] for row in data["similar"]] == [two]


def test_bugs_are_merged_and_split_by_hand(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = case_of(lambda x: torch.mul(x, 2), X)
    with Database.open(directory / NAME) as database:
        one, two = (add(database, case, failing(), name) for name in ("one", "two"))
    where = ["--directory", str(directory)]
    assert main(["bugs", "merge", one, two, *where]) == Exit.OK
    assert f"{two} is {one} now; take it back: shakeout bugs split {one} {two}" in capsys.readouterr().out
    assert main(["bugs", *where]) == Exit.OK
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["bug", one]
    assert main(["bugs", "split", one, "77", *where]) == Exit.USAGE
    assert "has the findings 1, 2; say which" in capsys.readouterr().err
    assert main(["bugs", "split", one, "SH-none", *where]) == Exit.USAGE
    assert "no bug that was merged into it; its findings are 1, 2" in capsys.readouterr().err
    assert main(["bugs", "split", one, two, *where]) == Exit.OK
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [one, two]
    assert main(["bugs", "merge", one, one, *where]) == Exit.USAGE
    assert main(["bugs", "merge", one]) == Exit.USAGE
    with Database.read(directory / NAME) as database:
        assert [move.kind for move in database.moves(one)] == ["merge", "split"]


def test_triage_with_nothing_to_do_loads_nothing_and_wrong_numbers_are_told(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = config.Config(targets=("aot_eager",), workers=3)
    config.write(wanted, directory / "campaign.toml")
    assert main(["triage", str(directory), "--plain"]) == Exit.OK
    said = capsys.readouterr().out
    assert "0 new bugs; no finding waits any more" in said
    assert "cold start" not in said
    assert config.read(directory / "campaign.toml") == wanted
    for flag, value in (("--workers", "0"), ("--minutes", "-1")):
        assert main(["triage", str(directory), flag, value]) == Exit.USAGE
        assert f"{flag}: expected a positive" in capsys.readouterr().err
    assert main(["triage", str(directory / "elsewhere")]) == Exit.DIRECTORY


def test_an_older_file_has_no_smallest_cases_until_it_is_written(directory: Path) -> None:
    downgrade(directory / NAME, 2)
    with Database.read(directory / NAME) as database:
        assert not database.smallest_cases()
        assert not database.replays()
        assert not database.fixed()
    with Database.open(directory / NAME) as database:
        bug = add(database, case_of(lambda x: torch.mul(x, 2), X), failing(), "one")
        database.set_smallest(SmallestCase(bug, "budget"))
        for verdict in ("fixed", "back", "cannot run", "fixed"):
            database.add_replay(bug, verdict, "", {"torch": "2.13.0"})
        assert database.lives() == {bug: 2}
        assert database.fixed() == {bug}


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["minimise"]) == Exit.USAGE
    assert main(["minimise", "case.json", "--again"]) == Exit.USAGE
    assert main(["minimise", "--all", str(tmp_path)]) == Exit.DIRECTORY
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all(line.startswith("shakeout: ") for line in said)


def test_nothing_to_minimise_is_said(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["minimise", "--all", str(directory)]) == Exit.OK
    assert "no bug is left to minimise" in capsys.readouterr().out


@pytest.mark.long
def test_findings_of_a_kernel_that_cannot_be_imported_wait_on_and_the_status_says_so(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "gone_kernels:kernel"
    config.write(config.Config(targets=(name,), workers=1), directory / "campaign.toml")
    case = case_of(lambda x: torch.mul(x, 2), X)
    calls = tuple(replace(call, operator=name) for call in case.program.calls)
    case = replace(case, program=replace(case.program, vocabulary="kernel", calls=calls), setting=Setting(name))
    result = replace(failing(), target=name, case=case.id)
    with Database.open(directory / NAME) as database:
        add(database, case, result, "one", state="new")
    assert main(["triage", str(directory), "--plain", "--allow", "gone_kernels"]) == Exit.VACUOUS
    said = capsys.readouterr().out
    assert f"{name} cannot be used and is left out" in said
    assert "0 new bugs; 1 wait on" in said
