"""Jobs: the same configuration gives the same ones, and targets share the time."""

from collections import Counter

from shakeout.fuzz.campaign import schedule
from shakeout.fuzz.campaign.config import Config


def config(**more) -> Config:
    return Config(**{"targets": ("inductor", "aot_eager"), "seed": 5, **more})


def test_a_job_follows_from_seed_and_index() -> None:
    assert schedule.job(config(), 1000) == schedule.job(config(), 1000)
    assert schedule.job(config(), 1000).seed != schedule.job(config(), 1001).seed
    assert schedule.job(config(), 1000).seed != schedule.job(config(seed=6), 1000).seed
    # Stored campaigns go on with these numbers.
    assert schedule.seed_of(0, 0) == 13913987977269637804


def test_seeds_have_all_their_bits() -> None:
    seeds = [schedule.seed_of(0, index) for index in range(1000)]
    assert len(set(seeds)) == 1000
    assert min(seeds) >= 0
    assert 2**63 < max(seeds) < 2**64


def test_slow_targets_come_round_as_well() -> None:
    counts = Counter(schedule.job(config(), index).target for index in range(300))
    assert counts == {"inductor": 100, "aot_eager": 200}
    assert {schedule.job(config(targets=("eager",)), index).target for index in range(5)} == {"eager"}


def test_what_is_pinned_reaches_the_job() -> None:
    job = schedule.job(config(mode="training", knobs=(("freezing", True),), device="cuda"), 3)
    assert (job.recipe, job.knobs, job.device) == ({"index": 1, "mode": "training"}, {"freezing": True}, "cuda")


def test_each_target_counts_its_own_cases() -> None:
    # By the campaign's numbers a target would meet every third operator only, or none of some remainder.
    own: dict[str, list[int]] = {}
    for index in range(90):
        job = schedule.job(config(), index)
        own.setdefault(job.target, []).append(job.recipe["index"])
    assert own == {"inductor": list(range(30)), "aot_eager": list(range(60))}
