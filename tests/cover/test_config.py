"""Configuration: defaults, then the file; each mistake names its key."""

from pathlib import Path

import pytest

from shakeout.fuzz.campaign.config import Config, ConfigError, read, write


def read_text(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "campaign.toml"
    path.write_text(text)
    return read(path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    config = Config(
        targets=("inductor", "mine.kernels:conv"),
        seconds=90.0,
        cases=12,
        workers=3,
        seed=2**40,
        mode="training",
        memory_limit=300 << 20,
        time_limit=7.5,
        coverage=True,
        coverage_report=True,
        cover=("libmine.so", "/opt/lib/libother*.so"),
        engine="atheris",
        instrument=("mine.passes", "-mine.passes.tables"),
        knobs=(("cpp.simdlen", 1), ("dynamic", True), ("name", 'a "quoted" \\ word')),
    )
    write(config, tmp_path / "campaign.toml")
    assert read(tmp_path / "campaign.toml") == config


def test_a_file_overrides_only_what_it_names(tmp_path: Path) -> None:
    config = read_text(tmp_path, "[budget]\nminutes = 2\n\n[workers]\ncount = 1\n")
    assert config.seconds == 120
    assert config.workers == 1
    assert config.targets == Config().targets


def test_cases_alone_lift_the_time(tmp_path: Path) -> None:
    assert read_text(tmp_path, "[budget]\ncases = 5\n").seconds is None
    assert read_text(tmp_path, "[budget]\ncases = 5\nminutes = 1\n").seconds == 60


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[budget]\nminutes = "five"\n', r"\[budget\] minutes: expected a positive number, found 'five'"),
        ("[budget]\nminutes = -1\n", r"\[budget\] minutes"),
        ("[budget]\nminutes = nan\n", r"\[budget\] minutes"),
        ("[budget]\nminuts = 5\n", r"\[budget\] minuts is not known; did you mean minutes\?"),
        ("[budjet]\nminutes = 5\n", r"\[budjet\] is not known; did you mean budget\?"),
        ("budget = 5\n", "budget: expected a table"),
        ("[campaign]\ntargets = []\n", r"\[campaign\] targets: expected a list of target names"),
        ('[campaign]\ntargets = "inductor"\n', r"\[campaign\] targets"),
        ("[campaign]\nseed = true\n", r"\[campaign\] seed"),
        ('[campaign]\ncover = "libmine.so"\n', r"\[campaign\] cover: expected a list of shared libraries"),
        ('[campaign]\nengine = "afl"\n', r'\[campaign\] engine: expected "campaign" or "atheris", found'),
        ('[campaign]\ninstrument = ["a,b"]\n', r"\[campaign\] instrument: expected a list of modules"),
        ("[campaign]\ncoverage = 1\n", r"\[campaign\] coverage: expected true or false"),
        ('[campaign]\ndevice = "tpu"\n', r"\[campaign\] device"),
        ("[workers]\ncount = 0\n", r"\[workers\] count"),
        ("[workers]\nmemory_mib = 1\n", r"\[workers\] memory_mib"),
        ("[budget\n", "not TOML"),
    ],
)
def test_each_mistake_names_its_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_text(tmp_path, text)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "none.toml")
