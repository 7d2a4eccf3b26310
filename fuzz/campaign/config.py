"""What a campaign is asked to do: defaults, then ``campaign.toml``, then flags; every mistake names its key."""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from shakeout.fuzz.coverage.sources import Wanted
from shakeout.targets.registry import compilers, facts_of
from shakeout.targets.shortcuts import SHORTCUTS
from shakeout.targets.systems import canonical

__all__ = ["ENGINES", "Config", "ConfigError", "read", "write"]


class ConfigError(ValueError):
    """A key that does not exist or a value that does not fit; the message names the key."""


def _memory() -> int:
    """Default limit for one worker: 4 GiB, or its fair share of the machine if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min(4 << 30, total // (_cores() + 1)))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


_MODULE = re.compile(r"-?\w+(\.\w+)*")

#: What may decide which case is next.
ENGINES = ("campaign", "atheris")


def _modules_of(target: str) -> tuple[str, ...]:
    """The module of a user's own target."""
    module, colon, _ = target.partition(":")
    return (module,) if colon else ()


@dataclass(frozen=True, slots=True)
class Config:
    """A campaign's configuration.

    Attributes:
        targets: what is tested; every compiler that is installed, if nobody says.
        seconds: of fuzzing; None for no limit.
        cases: how many; None for no limit.
        workers: processes that run cases.
        seed: the campaign's.
        device: ``cpu`` or ``cuda``.
        mode: ``inference`` or ``training`` for all cases; None for both.
        operators: of each program; None for all sizes.
        settings: tried on each program; None for as many as a target wants.
        memory_limit: bytes resident for one worker.
        time_limit: seconds for one case; None to derive it.
        knobs: pinned for every case, by name.
        focus: operators one of which every program calls, by names or patterns (``torch.cumsum``, ``*softmax*``); empty
            for all.
        motifs: building blocks, or the programs of a pass (``MODULE:NAME``), one of which every network grows around;
            empty for any network.
        first: targets whose turn comes more often, since something is known of them: what they rest on has changed.
        avoid_known: cases in which the smallest case of a known bug occurs are not run.
        shortcuts: what makes compiling faster without changing what is compiled; see ``shakeout.targets.shortcuts``.
        coverage: what the cases reach is watched: of the targets' own code, and of the space of cases.
        cover: shared libraries (names, patterns or paths of files) and Python packages that are watched besides.
        coverage_report: the targets' Python is traced to the line and arc, for a report of coverage.py.
        engine: what decides which case is next: ``campaign``, its own loop, or ``atheris``.
        instrument: modules of Python that the engine has instrumented beside the targets' own; ``-MODULE`` leaves out.
    """

    targets: tuple[str, ...] = field(default_factory=compilers)
    seconds: float | None = 300.0
    cases: int | None = None
    workers: int = field(default_factory=_cores)
    seed: int = 0
    device: str = "cpu"
    mode: str | None = None
    operators: int | None = None
    settings: int | None = None
    memory_limit: int = field(default_factory=_memory)
    time_limit: float | None = None
    knobs: tuple[tuple[str, Any], ...] = ()
    focus: tuple[str, ...] = ()
    motifs: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    avoid_known: bool = False
    shortcuts: tuple[str, ...] = tuple(SHORTCUTS)
    coverage: bool = False
    cover: tuple[str, ...] = ()
    coverage_report: bool = False
    engine: str = ENGINES[0]
    instrument: tuple[str, ...] = ()

    @property
    def instrumented(self) -> tuple[str, ...]:
        """The modules of Python that an engine has instrumented."""
        own = (one for name in self.targets for one in facts_of(name).instrumented or _modules_of(name))
        return tuple(dict.fromkeys((*own, *self.instrument)))

    @property
    def watched(self) -> Wanted:
        """What is watched while cases run: of the targets, and what a person named."""
        facts = [facts_of(name) for name in self.targets] if self.coverage else []
        modules = [name for name in self.cover if _is_module(name)]
        traced = self.targets if self.coverage or self.coverage_report else ()
        return Wanted(
            libraries=tuple(
                dict.fromkeys(
                    (*(name for name in self.cover if name not in modules), *(o for f in facts for o in f.libraries))
                )
            ),
            modules=tuple(dict.fromkeys((*modules, *(one for name in traced for one in _implementing(name))))),
            traced=self.coverage_report,
            witnesses=tuple(dict.fromkeys(fact.witness for fact in facts if fact.witness)),
            space=self.coverage,
        )


def _implementing(target: str) -> tuple[str, ...]:
    """The Python modules that a target is made of: of a user's own, ``MODULE:NAME``, its module."""
    module, colon, _ = target.partition(":")
    return (module,) if colon else facts_of(target).modules


def _is_module(name: str) -> bool:
    """Whether what a person named is a Python package or module, and not a shared library."""
    return all(part.isidentifier() for part in name.split(".")) and "so" not in name.split(".")[1:]


#: Where each field stands in the file: table, key, and what a value must be.
_KEYS: dict[tuple[str, str], tuple[str, str]] = {
    ("campaign", "targets"): ("targets", "a list of target names"),
    ("campaign", "seed"): ("seed", "a whole number, 0 or more"),
    ("campaign", "device"): ("device", '"cpu" or "cuda"'),
    ("campaign", "mode"): ("mode", '"inference" or "training"'),
    ("campaign", "operators"): ("operators", "a whole number, 1 to 1000"),
    ("campaign", "settings"): ("settings", "a positive whole number"),
    ("campaign", "focus"): ("focus", "a list of operators or patterns of them"),
    ("campaign", "motifs"): ("motifs", "a list of motifs, or passes as MODULE:NAME"),
    ("campaign", "first"): ("first", "a list of target names"),
    ("campaign", "avoid_known"): ("avoid_known", "true or false"),
    ("campaign", "coverage"): ("coverage", "true or false"),
    ("campaign", "coverage_report"): ("coverage_report", "true or false"),
    ("campaign", "cover"): ("cover", "a list of shared libraries and Python packages"),
    ("campaign", "engine"): ("engine", " or ".join(f'"{name}"' for name in ENGINES)),
    ("campaign", "instrument"): ("instrument", "a list of modules"),
    ("budget", "minutes"): ("seconds", "a positive number"),
    ("budget", "cases"): ("cases", "a positive whole number"),
    ("workers", "count"): ("workers", "a positive whole number"),
    ("workers", "memory_mib"): ("memory_limit", "a whole number, 256 or more"),
    ("workers", "seconds_per_case"): ("time_limit", "a positive number"),
    ("workers", "shortcuts"): ("shortcuts", f"a list with any of {', '.join(SHORTCUTS)}"),
}


def check(name: str, value: Any) -> Any:
    """A value in the form that ``Config`` holds it; raises ValueError if it does not fit the field."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    match name:
        case "targets" | "focus" | "first" | "motifs":
            named = isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value)
            if named and (value or name != "targets"):
                return tuple(dict.fromkeys(map(canonical, value)))
        case "shortcuts":
            if isinstance(value, list | tuple) and set(value) <= set(SHORTCUTS):
                return tuple(name for name in SHORTCUTS if name in value)
        case "seed":
            if whole and value >= 0:
                return value
        case "engine":
            if value in ENGINES:
                return value
        case "instrument":
            # Names cross a process with commas between.
            if isinstance(value, list | tuple) and all(
                isinstance(one, str) and _MODULE.fullmatch(one) for one in value
            ):
                return tuple(dict.fromkeys(value))
        case "cover":
            if isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value):
                return tuple(dict.fromkeys(value))
        case "avoid_known" | "coverage" | "coverage_report":
            if isinstance(value, bool):
                return value
        case "device":
            if value in ("cpu", "cuda"):
                return value
        case "mode":
            if value in ("inference", "training"):
                return value
        case "seconds":
            if number and value > 0:
                return float(value) * 60
        case "time_limit":
            if number and value > 0:
                return float(value)
        case "cases" | "workers" | "settings":
            if whole and value > 0:
                return value
        case "operators":
            if whole and 1 <= value <= 1000:
                return value
        case "memory_limit":
            if whole and value >= 256:
                return value << 20
    raise ValueError


def read(path: Path, base: Config | None = None) -> Config:
    """The configuration of a file on top of ``base``.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or a key is wrong; the message names file and key.
    """
    base = Config() if base is None else base
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    changes: dict[str, Any] = {}
    tables = {table for table, _ in _KEYS} | {"knobs"}
    for table, entries in data.items():
        if table not in tables:
            raise ConfigError(f"{path}: [{table}] is not known{_meant(table, tables)}")
        if not isinstance(entries, Mapping):
            raise ConfigError(f"{path}: {table}: expected a table, found {entries!r}")
        if table == "knobs":
            changes["knobs"] = tuple(sorted((str(name), value) for name, value in entries.items()))
            continue
        for key, value in entries.items():
            if (table, key) not in _KEYS:
                known = {name for owner, name in _KEYS if owner == table}
                raise ConfigError(f"{path}: [{table}] {key} is not known{_meant(key, known)}")
            name, wanted = _KEYS[table, key]
            try:
                changes[name] = check(name, value)
            except ValueError:
                raise ConfigError(f"{path}: [{table}] {key}: expected {wanted}, found {value!r}") from None
    # A file that limits the cases and says nothing of the time means the cases.
    if "cases" in changes and "seconds" not in changes:
        changes["seconds"] = None
    return replace(base, **changes)


def _meant(word: str, known: set[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(known))}"


def write(config: Config, path: Path) -> None:
    """The effective configuration as a file that ``read`` gives back."""
    lines: list[str] = []
    tables = list(dict.fromkeys(table for table, _ in _KEYS))
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    if values["seconds"] is not None:
        values["seconds"] /= 60
    values["memory_limit"] >>= 20
    for table in tables:
        entries = [(key, values[name]) for (owner, key), (name, _) in _KEYS.items() if owner == table]
        lines += [f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in entries if value is not None), ""]
    if config.knobs:
        lines += ["[knobs]", *(f"{_toml(name)} = {_toml(value)}" for name, value in config.knobs), ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)
