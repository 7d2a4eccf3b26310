"""Where what was learnt of operators is kept: of torch and onnx in the cache or shipped, of a user's kernel beside it.

Whoever learns writes; whoever proposes reads, and takes a file that cannot be read for none. What is in it is text from
anywhere: it says what to try, and never what to run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shakeout.corpus import cache
from shakeout.corpus.files import write_whole

__all__ = [
    "FORMAT",
    "SHIPPED",
    "kernel_path",
    "of_kernel",
    "of_onnx",
    "of_torch",
    "onnx_path",
    "read",
    "torch_path",
    "write",
]

#: Version of the files; raise it whenever rules are written otherwise.
FORMAT = 2

SHIPPED = Path(__file__).parent / "data" / "rules"


def torch_path(version: str) -> Path:
    """Where ``shakeout learn torch`` keeps what it learnt of a version of torch."""
    return _path("torch", version)


def onnx_path(version: str) -> Path:
    """Where ``shakeout learn onnx`` keeps what it learnt of a version of onnx."""
    return _path("onnx", version)


def of_torch(version: str) -> Mapping[str, Any] | None:
    """What was learnt of a version of torch: here, or as it is shipped for it or for the version next to it."""
    return _nearest("torch", version)


def of_onnx(version: str) -> Mapping[str, Any] | None:
    """The same of a version of onnx."""
    return _nearest("onnx", version)


def _path(package: str, version: str) -> Path:
    return cache.directory() / f"{package}-{version}-rules-{FORMAT}.json"


def _nearest(package: str, version: str) -> Mapping[str, Any] | None:
    here = read(_path(package, version))
    if here is not None:
        return here
    plain = version.partition("+")[0]

    def far(path: Path) -> tuple[int, ...]:
        return _distance(path.stem.removeprefix(f"{package}-"), plain)

    shipped = sorted(SHIPPED.glob(f"{package}-*.json"), key=far)
    return read(shipped[0]) if shipped else None


def _distance(one: str, other: str) -> tuple[int, ...]:
    pairs = zip(_numbers(one), _numbers(other), strict=False)
    return tuple(abs(a - b) for a, b in pairs)


def _numbers(version: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in version.split(".")[:3]]


def kernel_path(operator: str, directory: Path | None = None) -> Path:
    """Where what was learnt of ``MODULE:NAME`` is kept: below the working directory, to be committed with it."""
    return (directory or Path.cwd()) / ".shakeout" / "learnt" / f"{operator.replace(':', '.')}.json"


def of_kernel(operator: str) -> Mapping[str, Any] | None:
    """What was learnt of a user's kernel, or None."""
    found = read(kernel_path(operator))
    return found if found is not None and found.get("operator") == operator else None


def read(path: Path) -> Mapping[str, Any] | None:
    """The content of a file of this format, or None."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file as a whole or not at all; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _text({"format": FORMAT, **content}))


def _text(content: Mapping[str, Any]) -> str:
    """As JSON, each operator and each part on a line of its own: such a file is committed, and its changes are read."""

    def plain(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    def lines(value: Any) -> str:
        if isinstance(value, Mapping) and value:
            return "{\n" + ",\n".join(f"{plain(key)}:{plain(item)}" for key, item in value.items()) + "\n}"
        if isinstance(value, list) and value:
            return "[\n" + ",\n".join(map(plain, value)) + "\n]"
        return plain(value)

    return "{" + ",\n".join(f"{plain(key)}:{lines(value)}" for key, value in content.items()) + "}\n"
