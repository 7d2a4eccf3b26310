"""Packages of third parties, made for a test: files, and what they are registered as."""

import contextlib
import importlib
import shutil
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

EXAMPLE = Path(__file__).parent / "example_package"


def registered(site: Path, name: str, groups: Mapping[str, Mapping[str, str]], version: str = "1.0") -> None:
    """The metadata of an installed distribution, without its files."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    with (folder / "entry_points.txt").open("w") as file:
        for group, rows in groups.items():
            file.write(f"[{group}]\n")
            file.writelines(f"{key} = {value}\n" for key, value in rows.items())


def example(site: Path) -> None:
    """The example package, as pip leaves it; ``tests/slow/test_example_package.py`` has pip do it."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copytree(EXAMPLE / "example_stack", site / "example_stack", ignore=shutil.ignore_patterns("__pycache__"))
    registered(site, project["name"], project["entry-points"], project["version"])


@contextlib.contextmanager
def imported(directory: Path, name: str, text: str) -> Iterator[None]:
    """A user's module while it can be imported, which it is; nothing is remembered of its kernels and contexts then."""
    from shakeout.corpus.user_objects import find
    from shakeout.targets.registry import target

    (directory / f"{name}.py").write_text(textwrap.dedent(text).lstrip())
    sys.path.append(str(directory))
    importlib.import_module(name)
    try:
        yield
    finally:
        sys.path.remove(str(directory))
        del sys.modules[name]
        find.cache_clear()
        target.cache_clear()
