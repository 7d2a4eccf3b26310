"""A cache directory for a test that keeps its own: with what is collected or built once for all tests."""

import os
import shutil
from pathlib import Path

from shakeout.corpus import cache
from shakeout.generators.vocabularies import takers
from shakeout.generators.vocabularies.torch import cache_path, load_records


def with_operators(directory: Path) -> Path:
    """The directory, with what every campaign would collect there first, in half a minute; made if it is not there."""
    load_records()
    directory.mkdir(parents=True, exist_ok=True)
    for path in (cache_path(), takers.index_path()):
        shutil.copy(path, directory)
    for name in ("vectors", "precompiled_headers"):  # of Inductor's; what is there is linked, and never written to
        if (there := cache.directory() / name).is_dir():
            shutil.copytree(there, directory / name, copy_function=_linked, dirs_exist_ok=True)
    return directory


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target
