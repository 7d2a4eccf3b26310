"""What every module that collects records does around its own work, in the process that ``collector`` watches."""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from shakeout.generators.vocabularies.records import Record

__all__ = ["Collect", "collected", "pack"]

#: Collects, telling what it is about to do, and leaves out what is named; the records by operator.
Collect = Callable[[Callable[[str, int, int], None], frozenset[str]], Mapping[str, Sequence[Record]]]


def collected(collect: Collect, skip: Sequence[str]) -> dict[str, list[Any]]:
    """The rows of what is collected on one thread, while each step is told as a line of JSON."""
    torch.set_num_threads(1)

    def progress(name: str, done: int, total: int) -> None:
        print(json.dumps([name, done, total]), flush=True)

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        found = collect(progress, frozenset(skip))
    return {name: [record.to_json() for record in records] for name, records in found.items()}


def pack(path: Path, rows: Mapping[str, list[Any]]) -> None:
    """Write rows as a cache holds them; without a time stamp, so that the same versions give the same file."""
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=5, mtime=0, filename="") as out:
        out.write(json.dumps(rows, separators=(",", ":")).encode())
