"""A cache directory for a test that keeps its own: with the operators, which are collected once for all tests."""

import shutil
from pathlib import Path

from shakeout.generators.vocabularies import takers
from shakeout.generators.vocabularies.torch import cache_path, load_records


def with_operators(directory: Path) -> Path:
    """The directory, with what every campaign would collect there first, in half a minute; made if it is not there."""
    load_records()
    directory.mkdir(parents=True, exist_ok=True)
    for path in (cache_path(), takers.index_path()):
        shutil.copy(path, directory)
    return directory
