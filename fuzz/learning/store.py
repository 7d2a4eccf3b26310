"""The files of learning, below the cache: raw traces, what was examined of each operator, cases that crashed."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shakeout.corpus import cache
from shakeout.corpus.files import write_whole
from shakeout.fuzz.campaign.traces import read_traces

__all__ = ["FORMAT", "RULES", "Files", "files_of_onnx", "files_of_torch", "read"]

#: Version of the files; raise it whenever something else is traced than before.
FORMAT = 1
#: Version of the rules that are learnt from them; raise it whenever others follow from the same traces.
RULES = 3
#: Calls of one operator that are kept of campaigns.
MOST_SEEN = 400


class Files:
    """What was traced and examined, in one directory; every file appears whole, and what is broken counts as missing.

    Args:
        directory: made when something is first written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def raw(self) -> Path:
        """Traces of samples and docstrings, appended line by line while they are collected."""
        return self.directory / "traces.jsonl"

    @property
    def campaigns(self) -> Path:
        """Calls that campaigns made, line by line."""
        return self.directory / "campaigns.jsonl"

    @property
    def cases(self) -> Path:
        """Where cases of calls that crash or hang are kept."""
        return self.directory / "cases"

    def clear(self) -> None:
        """Forget everything but the cases."""
        self.raw.unlink(missing_ok=True)
        self.campaigns.unlink(missing_ok=True)
        for path in (self.directory / "examined", self.directory / f"rules-{RULES}"):
            shutil.rmtree(path, ignore_errors=True)

    def collected(self) -> dict[str, list[Any]]:
        """Rows of traces by operator; a line that was cut off is left out."""
        found: dict[str, list[Any]] = {}
        with self.raw.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    for row in json.loads(line)["traces"]:
                        found.setdefault(row[0], []).append(row)
                except (ValueError, KeyError, TypeError, IndexError):
                    continue
        return found

    def seen(self) -> dict[str, list[Any]]:
        """Rows of traces of campaigns by operator."""
        found: dict[str, list[Any]] = {}
        for row in read_traces(self.campaigns):
            found.setdefault(row[0], []).append(row)
        return found

    def add(self, rows: Iterable[Any]) -> int:
        """Append traces of a campaign that are not there yet, while an operator has few; how many; raises OSError."""
        seen = self.seen()
        texts = {operator: {json.dumps(row) for row in known} for operator, known in seen.items()}
        fresh = 0
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.campaigns.open("a", encoding="utf-8") as out:
            for row in rows:
                known, text = texts.setdefault(row[0], set()), json.dumps(row)
                if text not in known and len(known) < MOST_SEEN:
                    known.add(text)
                    out.write(("" if fresh else "\n") + text + "\n")  # the last line may have been cut off
                    fresh += 1
        return fresh

    def examined(self, operator: str) -> Path:
        """The file of what an operator was seen to do."""
        return self.directory / "examined" / _name(operator)

    def rules(self, operator: str) -> Path:
        """The file of what was learnt of an operator."""
        return self.directory / f"rules-{RULES}" / _name(operator)

    def write(self, path: Path, found: Mapping[str, Any]) -> None:
        """Write such a file; raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, gzip.compress(json.dumps(found, separators=(",", ":")).encode(), 5, mtime=0))


def read(path: Path) -> dict[str, Any] | None:
    """The content of a file of one operator, or None where it cannot be read."""
    try:
        found = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _name(operator: str) -> str:
    # Some file systems do not tell capitals from small letters.
    plain = re.sub(r"[^\w.]", "_", operator)
    return f"{plain}-{zlib.crc32(operator.encode()):08x}.json.gz"


def files_of_torch() -> Files:
    """Those of the installed torch."""
    from importlib.metadata import version

    return Files(cache.directory() / f"torch-{version('torch')}-learning-{FORMAT}")


def files_of_onnx() -> Files:
    """Those of the installed onnx."""
    from importlib.metadata import version

    return Files(cache.directory() / f"onnx-{version('onnx')}-learning-{FORMAT}")
