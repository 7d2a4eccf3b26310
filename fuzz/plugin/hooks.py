"""What pytest loads wherever Shakeout is installed: the options, and the rest only where they are given.

PYTEST_DONT_REWRITE: nothing here asserts, and most runs of pytest never use it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from shakeout.fuzz.plugin.standing import StandingPools

__all__ = [
    "FOLDERS",
    "POOLS",
    "pytest_addoption",
    "pytest_collect_directory",
    "pytest_configure",
    "pytest_runtest_makereport",
    "pytest_unconfigure",
]

_OPTION = "--shakeout-cases"

#: The folders that were asked for, none where the plugin has nothing to do; and what cases run in, once one ran.
FOLDERS = pytest.StashKey[tuple[Path, ...]]()
POOLS: pytest.StashKey[StandingPools] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, and where the folders stand in a configuration file."""
    group = parser.getgroup("shakeout", "Shakeout: stored cases as tests")
    group.addoption(
        _OPTION,
        action="append",
        default=[],
        metavar="DIR",
        help="replay the cases below DIR, each as a test, beside the tests that are collected anyway: a campaign, a "
        "folder of findings, of case files, or of regressions; may be repeated",
    )
    group.addoption(
        "--shakeout-allow",
        action="append",
        default=[],
        metavar="MODULE",
        help="import this module of yours, although only a case names it; may be repeated",
    )
    group.addoption(
        "--shakeout-time-limit",
        type=float,
        metavar="SECONDS",
        help="for one case; what takes longer hangs (default: derived from the cases that ran)",
    )
    parser.addini(
        "shakeout_cases",
        f"folders of cases (as {_OPTION}) that are replayed where no path is named on the command line",
        type="paths",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have the folders collected as well, and nothing else where there are none."""
    config.addinivalue_line("markers", "shakeout: replays a stored case (given by --shakeout-cases)")
    here = config.invocation_params.dir
    named = [(here / folder).absolute() for folder in config.getoption("shakeout_cases")]
    configured = [path.absolute() for path in config.getini("shakeout_cases")]
    folders = config.stash[FOLDERS] = tuple(dict.fromkeys([*named, *configured]))
    limit = config.getoption("shakeout_time_limit")
    if limit is not None and not limit > 0:
        raise pytest.UsageError(f"--shakeout-time-limit: expected a positive number of seconds, found {limit!r}")
    if folders and pytest.version_tuple < (8,):
        raise pytest.UsageError(f"{_OPTION} needs pytest 8 or newer, and this is {pytest.__version__}")
    for folder in folders:
        if not folder.is_dir():
            raise pytest.UsageError(f"{_OPTION}: {folder} is no directory")
    if config.getoption("shakeout_allow"):
        from shakeout.corpus import user_objects

        for module in config.getoption("shakeout_allow"):
            user_objects.allow(module)
    anything = config.args_source is not pytest.Config.ArgsSource.ARGS
    _add(config, [*named, *(configured if anything else ())])


def _add(config: pytest.Config, folders: Iterable[Path]) -> None:
    """Collect these folders too, but for one that an argument already leads into: that asks for a part of it."""
    given = [(config.invocation_params.dir / arg.partition("::")[0]).absolute() for arg in config.args]
    config.args += [
        str(folder) for folder in folders if not any(path == folder or folder in path.parents for path in given)
    ]


@pytest.hookimpl(optionalhook=True)  # an older pytest has none, and goes on without us
def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A folder that was asked for; none of what is not a case in it is imported, no ``conftest.py`` either."""
    if path not in parent.config.stash[FOLDERS]:
        return None
    from shakeout.fuzz.plugin.items import CaseFolder

    return CaseFolder.from_parent(parent, path=path)


@pytest.hookimpl(hookwrapper=True)  # as every pytest knows it
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """A case that could not run is told with its file, not with the line of ours that says so."""
    report: pytest.TestReport = (yield).get_result()
    if report.skipped and isinstance(report.longrepr, tuple) and item.get_closest_marker("shakeout") is not None:
        report.longrepr = (str(item.path), 1, report.longrepr[2])


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the workers."""
    if POOLS in config.stash:
        config.stash[POOLS].close()
