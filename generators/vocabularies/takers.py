"""Which operators take a value of a dtype and a rank: found out once, and kept beside what it follows from.

To know it every record and every rule has to be read, which takes longer than all else that a campaign does before its
first case. Whoever then draws an operator reads the records and rules of that one only.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from shakeout.corpus import cache, learnt
from shakeout.corpus.files import write_whole

__all__ = ["Fits", "digest", "index_path", "read", "write"]

#: By rank, the dtypes of the values that an operator takes.
Fits: TypeAlias = Mapping[int, frozenset[str]]

#: Rooms whose sources say what is made of a record and of a rule.
_ROOMS = ("corpus", "generators")


def index_path() -> Path:
    """Where the index of the installed torch is kept: below SHAKEOUT_CACHE, or the user's cache directory."""
    return cache.directory() / f"torch-{version('torch')}-takers.json.gz"


def digest(records: bytes) -> str:
    """What an index is made of, as one text: the records, the rules that there are, and the sources that read them.

    Args:
        records: the file of records.
    """
    found = hashlib.sha256(records)
    rooms = Path(__file__).resolve().parents[2]
    sources = (path for room in _ROOMS for path in (rooms / room).rglob("*.py"))
    rules = (learnt.torch_path(version("torch")), *learnt.SHIPPED.glob("torch-*.json"))
    for path in (*sorted(sources), *sorted(rules)):
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            found.update(f"{path.name} {len(content)} ".encode() + content)
    return found.hexdigest()


def read(path: Path, made_of: str) -> dict[str, Fits] | None:
    """The index in a file; None where there is none, or where it was made of something else."""
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        if content["made of"] != made_of:
            return None
        sets = [frozenset(map(str, dtypes)) for dtypes in content["dtypes"]]
        return {str(name): _fits(row, sets) for name, row in content["operators"].items()}
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def _fits(row: Mapping[str, Any], sets: list[frozenset[str]]) -> Fits:
    return {int(rank): sets[number] for rank, number in row.items()}


def write(path: Path, made_of: str, index: Mapping[str, Fits]) -> None:
    """Keep an index; a cache that cannot be written costs the next start a second or two, nothing else."""
    sets: dict[frozenset[str], int] = {}
    rows = {
        name: {str(rank): sets.setdefault(dtypes, len(sets)) for rank, dtypes in sorted(fits.items())}
        for name, fits in index.items()
    }
    content = {"made of": made_of, "dtypes": list(map(sorted, sets)), "operators": rows}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, gzip.compress(json.dumps(content, separators=(",", ":")).encode(), 6, mtime=0))
