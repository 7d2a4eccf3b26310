"""What steers a campaign: what is kept, what competes, what is decided, and the file that all of it stands in."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shakeout.corpus.database import NAME as DATABASE
from shakeout.corpus.database import Database, MalformedDatabase
from shakeout.fuzz.campaign.selftest import case
from shakeout.fuzz.cli import main
from shakeout.fuzz.coverage.hits import Hits
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.jobs import Grow, Mutate, Run, job_from_json
from shakeout.fuzz.ground.results import Answer, Loss, Reply, Result
from shakeout.fuzz.ground.slot import SlotState
from shakeout.fuzz.steering.arms import FLOOR, Arm, chosen, rates, shares
from shakeout.fuzz.steering.energy import covering, energy
from shakeout.fuzz.steering.features import added, packed, unpacked
from shakeout.fuzz.steering.steering import CLAIMS, FAILURE, MOST, Replays, Steering
from shakeout.fuzz.steering.store import NAME, Decision, Entry, Store
from shakeout.fuzz.steering.told import read_steering

SEEN = (
    Hits("space", "", "", "edges", ("a > b", "b > c", "c > d", "d > e")),
    Hits("native", "id", "lib.so", "functions", (16,)),
    Hits("native", "id", "lib.so", "blocks", (32, 48)),
)
WORDS = ("edges:a > b", "statuses:aot_eager: compared")


def entry(id_: str, words: tuple[str, ...] = WORDS, **more: object) -> Entry:
    plain = Entry(
        id_,
        "kept",
        "aot_eager",
        case("no fault").on("aot_eager").text,
        "build",
        words=words,
        seconds=1.0,
        status="compared",
    )
    return replace(plain, **more)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    with Store(tmp_path / NAME) as made:
        yield made


def answered(job: object, status: str = "compared", words: tuple[str, ...] = WORDS, **more: object) -> Answer:
    text = case("no fault").on("aot_eager").text
    result = Result("c0ffee", "aot_eager", status)  # type: ignore[arg-type]
    return Answer(job, 0, Reply(result=result, case=text, space=words, seconds=0.5, **more))  # type: ignore[arg-type]


# --- what a case added ------------------------------------------------------------------------------------------------


def test_what_was_added_is_worth_its_root_and_blocks_are_credited_to_nobody() -> None:
    what = added(SEEN)
    assert what.counts == {"space": 4, "native": 3}
    assert what.reward == 2.0 + 1.0
    assert added(SEEN[2:]).reward == 0
    assert len(what.keys) == 3  # the words are told by name
    assert unpacked(packed(what.keys)) == what.keys
    assert added(()).reward == 0


# --- what competes ----------------------------------------------------------------------------------------------------


def test_what_yields_more_is_chosen_more_often_and_nothing_is_forgotten() -> None:
    good, bad = Arm(), Arm()
    for _ in range(200):
        good, bad = good.learnt(2.0, 0.1), bad.learnt(0.0, 1.0)
    share = shares({"good": good, "bad": bad}, ["good", "bad"])
    assert share["good"] > 0.85
    assert share["bad"] >= FLOOR / 2
    assert sum(share.values()) == pytest.approx(1)
    picked = [chosen({"good": good, "bad": bad}, ["good", "bad"], i / 1000) for i in range(1000)]
    assert picked.count("bad") == pytest.approx(1000 * share["bad"], abs=2)
    # What stops yielding is left within some dozen tries.
    for _ in range(100):
        good = good.learnt(0.0, 0.1)
    assert rates({"good": good}, ["good"])["good"] < 5
    # What was never tried is as good as the rest.
    found = rates({"good": good}, ["good", "new"])
    assert found["new"] >= found["good"]


def test_rare_features_give_energy_and_use_takes_it() -> None:
    counts = {"common": 1000, "rare": 2}
    rare, common = entry("r", ("common", "rare")), entry("c", ("common",))
    assert energy(rare, counts) > 10 * energy(common, counts)
    assert energy(replace(rare, seconds=10.0), counts) < energy(rare, counts) / 5
    worn = replace(rare, chosen=20, yielded=0.0)
    assert energy(worn, counts) < energy(rare, counts) / 10
    assert energy(replace(worn, yielded=20.0), counts) == pytest.approx(energy(rare, counts))


def test_a_covering_set_has_all_features_and_nothing_to_spare() -> None:
    sets = {"a": {1, 2}, "b": {2, 3}, "c": {1, 2, 3}, "d": {4}, "e": {1}}
    found = covering(list(sets), lambda one: frozenset(sets[one]), lambda one: 1.0)
    assert sorted(found) == ["c", "d"]
    # Two quick ones rather than a slow one.
    cheap = covering(["a", "b", "c"], lambda one: frozenset(sets[one]), lambda one: 100.0 if one == "c" else 0.1)
    assert sorted(cheap) == ["a", "b"]
    assert covering([], lambda one: frozenset(), lambda one: 1.0) == []


# --- deciding and learning --------------------------------------------------------------------------------------------


def test_a_case_that_adds_is_kept_when_it_shows_the_same_again(store: Store) -> None:
    steering = Steering(store, ("aot_eager",), "build")
    job = steering.decide(Grow(target="aot_eager", number=0, seed=5))
    assert isinstance(job, Grow)
    assert job.told
    steering.learn(answered(job), Result("c0ffee", "aot_eager", "compared"), SEEN)
    (found,) = store.entries()
    assert (found.state, found.counts, found.number) == ("candidate", {"space": 4, "native": 3}, 0)
    (decided,) = store.decisions()
    assert (decided.generator, decided.seconds) == (store.decisions()[0].generator, 0.5)
    assert decided.reward == pytest.approx(added(SEEN).reward)
    replays = Replays(steering, "cpu", lambda answer: (), lambda *finding: pytest.fail("no finding"))
    again = replays.next()
    assert isinstance(again, Run)
    assert again.case == found.text
    assert replays.next() is None  # one at a time
    replays.done(answered(again, status="undefined", words=("statuses:aot_eager: undefined",)))
    assert store.entries()[0].state == "candidate"  # the second run decides
    steering.spent = 100.0
    replays.done(answered(replays.next()))
    assert (store.entries()[0].state, store.entries()[0].again) == ("kept", 1)
    assert replays.next() is None


def test_places_that_do_not_show_again_are_not_what_a_case_added(store: Store) -> None:
    keys = frozenset(range(2000))
    native, both = {"native": 2000}, {"native": 2000, "space": 4}
    for id_, counts in (("process", native), ("own", native), ("words", both)):
        store.put(entry(id_, state="candidate", counts=counts, keys=keys, reward=50.0))
    steering = Steering(store, ("aot_eager",), "build")
    claims = steering.claims("own")
    assert len(claims) <= CLAIMS
    assert {claims[0], claims[-1]} <= keys
    job = Run(target="aot_eager", case="", told=True, claims=claims)
    assert job_from_json(json.loads(json.dumps(job.to_json()))) == job
    for _ in range(2):
        steering.shown("process", answered(job, rearmed=500, shown=3), ())
    steering.shown("own", answered(job, rearmed=500, shown=450), ())
    steering.shown("words", answered(job, rearmed=500, shown=3), ())
    found = {one.id: one for one in store.entries()}
    assert (found["process"].state, found["process"].tries) == ("dropped", 2)
    assert (found["own"].state, found["own"].keys, found["own"].reward) == ("kept", keys, 50.0)
    assert (found["words"].state, found["words"].keys, found["words"].reward) == ("kept", frozenset(), 2.0)


def test_operators_come_in_turn_whatever_else_is_decided(store: Store) -> None:
    for number in range(8):
        store.put(entry(f"parent {number}"))
    steering = Steering(store, ("aot_eager",), "build")
    jobs = [steering.decide(Grow(target="aot_eager", number=i, seed=i * 7919, recipe={"index": i})) for i in range(200)]
    told = [one.generator for one in store.decisions()]
    turns = [job.recipe["index"] for job, how in zip(jobs, told, strict=True) if how == "grow"]  # type: ignore[union-attr]
    assert turns == list(range(len(turns)))
    assert 0.5 * len(jobs) < len(turns) < len(jobs)
    # A campaign that goes on goes on with them.
    job = Steering(store, ("aot_eager",), "build", only_grown=True).decide(
        Grow(target="aot_eager", number=200, seed=1, recipe={"index": 200})
    )
    assert isinstance(job, Grow)
    assert job.recipe["index"] == len(turns)
    mutants = [job.mutators for job in jobs if isinstance(job, Mutate)]
    assert sum(map(len, mutants)) / len(mutants) > 2
    assert all(len(set(names)) == len(names) <= MOST for names in mutants)


def test_half_of_the_cases_are_grown_anew_whatever_mutants_yield(store: Store) -> None:
    store.put(entry("parent"))
    for name, reward in (("grow", 0.0), ("mutate", 9.0)):
        arm = Arm()
        for _ in range(100):
            arm = arm.learnt(reward, 0.1)
        store.learn("generator for aot_eager", name, arm)
    steering = Steering(store, ("aot_eager",), "build")
    for number in range(200):
        steering.decide(Grow(target="aot_eager", number=number, seed=number * 104729))
    told = [one.generator for one in store.decisions()]
    assert 0.42 < told.count("grow") / len(told) < 0.65
    assert told.count("mutate") > 0.3 * len(told)


def test_a_failure_is_rewarded_once(store: Store) -> None:
    steering = Steering(store, ("aot_eager",), "build")
    for number, signature in enumerate(("SH-1", "SH-1", "SH-2")):
        job = steering.decide(Grow(target="aot_eager", number=number, seed=number))
        result = Result("c0ffee", "aot_eager", "compared", signature=signature)
        steering.learn(answered(job), result, ())
    assert [one.reward for one in store.decisions()] == [FAILURE, 0, FAILURE]
    assert store.entries() == []


def test_one_that_never_shows_it_again_is_dropped_and_one_that_hangs_is_quarantined(store: Store) -> None:
    steering = Steering(store, ("aot_eager",), "build")
    for id_ in ("flaky", "hangs"):
        store.put(entry(id_, state="candidate"))
    steering = Steering(store, ("aot_eager",), "build")
    for _ in range(2):
        steering.shown("flaky", answered(None, words=()), ())
    loss = Loss("hang", "30 s", SlotState(0, 0.0, "run", 0.0), 30.0)
    steering.shown("hangs", Answer(None, 0, loss=replace(loss, kind="interrupted")), ())  # type: ignore[arg-type]
    assert store.entry("hangs").state == "candidate"  # type: ignore[union-attr]
    steering.shown("hangs", Answer(None, 0, loss=loss), ())  # type: ignore[arg-type]
    assert {one.id: one.state for one in store.entries()} == {"flaky": "dropped", "hangs": "quarantined"}
    assert "hang" in store.entry("hangs").reason  # type: ignore[union-attr]
    # Nothing is made of either.
    assert all(not isinstance(steering.decide(Grow(target="aot_eager", number=n, seed=n)), Mutate) for n in range(40))


def test_what_is_gone_on_from_wears_and_keeps_all_that_it_added(store: Store) -> None:
    store.put(entry("parent", state="kept", keys=frozenset({1, 2, 3})))
    steering = Steering(store, ("aot_eager",), "build")
    store.decide(Decision(7, "aot_eager", "mutate", ("delete",), ("parent",)))
    job = Mutate(target="aot_eager", number=7, seed=5, parent="")
    steering.learn(answered(job), Result("c0ffee", "aot_eager", "compared"), SEEN)
    found = store.entry("parent")
    assert found is not None
    assert (found.chosen, found.yielded, found.keys) == (1, added(SEEN).reward, {1, 2, 3})


def test_a_corpus_of_another_build_is_measured_anew(store: Store) -> None:
    store.put(entry("old", counts={"space": 7}, reward=3.0))
    steering = Steering(store, ("aot_eager",), "another build")
    assert store.entry("old").state == "stale"  # type: ignore[union-attr]
    steering.shown("old", answered(None), SEEN)
    found = store.entry("old")
    assert found is not None
    assert (found.state, found.build, found.counts) == ("kept", "another build", {"space": 4, "native": 3})
    store.put(entry("idle"))
    steering = Steering(store, ("aot_eager",), "a third build")
    steering.shown("idle", answered(None), ())
    assert store.entry("idle").state == "dropped"  # type: ignore[union-attr]


def test_what_ran_on_a_target_that_is_not_tested_here_waits(store: Store) -> None:
    store.put(entry("a", target="not.installed:anywhere", state="stale"))
    steering = Steering(store, ("aot_eager",), "build")
    assert steering.waiting() is None
    assert all(isinstance(steering.decide(Grow(target="aot_eager", number=n, seed=n)), Grow) for n in range(20))
    assert store.entry("a").state == "stale"  # type: ignore[union-attr]


def test_decisions_follow_from_seed_and_state_and_are_written_down_whole(store: Store) -> None:
    store.put(entry("a"))
    store.put(entry("b", target="inductor"))
    kinds = set()
    for number in range(60):
        usual = Grow(target="aot_eager", number=number, seed=number * 7919)
        one = Steering(store, ("aot_eager", "inductor"), "build").decide(usual)
        decided = store.decision(number)
        assert decided is not None
        other = Steering(store, ("aot_eager", "inductor"), "build").decide(usual)
        if decided.generator != "transfer":  # which is decided once
            assert one == other
        assert job_from_json(json.loads(json.dumps(one.to_json()))) == one
        kinds.add(decided.generator)
        if isinstance(one, Mutate):
            assert store.entry(decided.parents[0]).text == one.parent  # type: ignore[union-attr]
            assert decided.mutators == one.mutators
    assert kinds == {"grow", "motif", "mutate", "transfer"}
    told = read_steering(store.path.parent)
    assert told is not None
    assert told.decided == 60
    assert any("in hand" in line for line in told.lines())


def test_what_is_asked_for_is_grown_and_a_pinned_mode_stays(store: Store) -> None:
    store.put(entry("a"))
    focused = Steering(store, ("aot_eager",), "build", only_grown=True)
    usual = [Grow(target="aot_eager", number=n, seed=n, recipe={"focus": ["torch.cumsum"]}) for n in range(20)]
    assert [focused.decide(job).recipe for job in usual] == [job.recipe for job in usual]  # type: ignore[union-attr]
    pinned = Steering(store, ("aot_eager",), "build", modes=False)
    made = [pinned.decide(Grow(target="aot_eager", number=n, seed=n)) for n in range(60)]
    mutants = [job for job in made if isinstance(job, Mutate)]
    assert mutants
    assert not any(job.modes or "mode" in job.mutators for job in mutants)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_kill_leaves_a_whole_corpus(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from shakeout.fuzz.steering.store import Entry, Store
store = Store(Path({str(tmp_path / NAME)!r}))
for number in range(50):
    store.put(Entry(str(number), "kept", "tvm", "text", keys=frozenset(range(number))))
with store.transaction():
    store.put(Entry("half", "kept", "tvm", "text"))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    with Store(tmp_path / NAME) as store:
        assert {one.id for one in store.entries()} == {str(number) for number in range(50)}
        assert store.entry("49").keys == frozenset(range(49))  # type: ignore[union-attr]


def test_a_damaged_file_is_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"no database at all" * 100)
    with pytest.raises(MalformedDatabase, match=r"is damaged .*; move it away"):
        Store(tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes().startswith(b"no database")
    (tmp_path / NAME).write_bytes(b"")
    with pytest.raises(MalformedDatabase, match="is not a corpus of Shakeout; move it away"):
        Store(tmp_path / NAME)


def test_a_campaign_does_not_begin_on_a_damaged_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / NAME).write_bytes(b"no database at all" * 100)
    status = main(["run", "--coverage", "--target", "aot_eager", "--plain", "--directory", str(tmp_path)])
    assert status == Exit.DIRECTORY
    assert "is damaged" in capsys.readouterr().err
    assert (tmp_path / NAME).read_bytes().startswith(b"no database")


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    Database.create(tmp_path / DATABASE).close()
    with Store(tmp_path / NAME) as store:
        store.put(entry("aaaa", ("x", "y"), counts={"native": 3}, reward=2.0, mutators=("insert",), parents=("bbbb",)))
        store.put(entry("bbbb", ("x",)))
        store.put(entry("cccc", state="quarantined", reason="hang 30 s"))
        store.decide(Decision(0, "aot_eager", "grow", reward=2.0, seconds=1.0))
    return tmp_path


def test_the_command_lists_shows_distils_and_exports(campaign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--directory", str(campaign)]
    assert main(["corpus", "list", *there]) == Exit.OK
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["aaaa", "bbbb", "cccc"]
    assert main(["corpus", "list", "--json", "--state", "quarantined", *there]) == Exit.OK
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == ["cccc"]
    assert main(["corpus", "show", "aaa", *there]) == Exit.OK
    shown = capsys.readouterr().out
    assert "insert of bbbb" in shown
    assert "3 of native" in shown
    assert "def program" in shown
    assert main(["corpus", "distil", "--dry-run", *there]) == Exit.OK
    assert main(["corpus", "distil", *there]) == Exit.OK
    assert "1 of 2 entries kept" in capsys.readouterr().out
    with Store(campaign / NAME) as store:
        assert store.counts()["dropped"] == 1
    assert main(["corpus", "export", str(campaign / "out"), *there]) == Exit.OK
    assert [path.name for path in (campaign / "out").iterdir()] == ["aaaa.json"]


def test_a_corpus_is_taken_over_by_another_campaign(campaign: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    Database.create(other / DATABASE).close()
    assert main(["corpus", "export", str(other / "given.sqlite"), "--directory", str(campaign)]) == Exit.OK
    for source, states in ((other / "given.sqlite", ["stale", "stale"]), (campaign, ["stale", "stale", "quarantined"])):
        assert main(["corpus", "merge", str(source), "--directory", str(other)]) == Exit.OK
        with Store(other / NAME) as store:
            assert [one.state for one in store.entries()] == states


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (["show"], "expected an entry's id", Exit.USAGE),
        (["show", "zz"], "no entry, or several", Exit.USAGE),
        (["list", "--state", "gone"], "expected one of", Exit.USAGE),
        (["merge", "/nowhere"], "no campaign with a corpus", Exit.DIRECTORY),
    ],
)
def test_mistakes_are_told(
    campaign: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str, status: Exit
) -> None:
    assert main(["corpus", *words, "--directory", str(campaign)]) == status
    assert said in capsys.readouterr().err


def test_a_campaign_without_coverage_has_no_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Database.create(tmp_path / DATABASE).close()
    assert main(["corpus", "list", "--directory", str(tmp_path)]) == Exit.DIRECTORY
    assert "--coverage" in capsys.readouterr().err
    assert read_steering(tmp_path) is None
