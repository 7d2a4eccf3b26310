"""Folders of cases as tests: which files are cases, what each is expected to do, and what it is called.

Three kinds of folders hold cases: a campaign (what its database says of a bug counts), a finding's (``case.json`` and
the ``result.json`` that says how it failed), and any other, in which every JSON file is a case, a regression or a known
bug as ``corpus/data`` holds them. They may be nested.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shakeout.corpus import blobs, codec, known, regressions
from shakeout.corpus.case import Case
from shakeout.corpus.database import NAME, Database, DatabaseError
from shakeout.fuzz.ground.failure import Failure, failure_of
from shakeout.fuzz.ground.finding_folder import (
    CASE,
    ENVIRONMENT,
    MINIMISED,
    RESULT,
    SEQUENCE,
    SHORTEST,
    read_result,
    read_sequence,
)
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.running.case_file import LARGEST, check_knobs_of, stored_case
from shakeout.fuzz.triage.replay_bugs import Item, stored
from shakeout.fuzz.triage.replay_bugs import unable as unable_item
from shakeout.targets.accelerators import missing
from shakeout.targets.target import UnknownTarget

__all__ = ["Stored", "contents", "holds", "load", "one_line", "shown", "unable"]

#: What a campaign and its findings hold beside cases.
_NOT_CASES = frozenset({blobs.FOLDER, "cache", "slots"})


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored case as a test.

    Attributes:
        path: of its file.
        item: what runs, and for a known failure how it failed.
        fails: it is known to fail; one that does not, whatever it was stored for, has to agree.
        strict: a known failure that agrees is told as a failure; without, it may do either.
        remedy: what to do about a known failure that does not fail any more.
    """

    path: Path
    item: Item
    fails: bool
    strict: bool = True
    remedy: str = ""

    @property
    def name(self) -> str:
        """Target, operators, and the bug's id or the beginning of the case's own: ``inductor-cumsum-SH-7f3a``."""
        case = self.item.case
        if case is None:
            return self.item.id
        operators = list(dict.fromkeys(map(_short, case.program.operators())))
        shown = "+".join(operators[:2]) + (f"+{len(operators) - 2}" if len(operators) > 2 else "")
        own = self.item.id if self.item.kind == "bug" and self.item.id.startswith("SH-") else case.id[:8]
        return "-".join(filter(None, (case.setting.target, shown, own)))

    @property
    def reason(self) -> str:
        """Why it is expected to fail, and what to do if it does not, in one line."""
        title = one_line(self.item.title)
        how = f" ({self.item.failure})" if self.item.failure is not None else ""
        return f"known: {self.item.id}: {title}{how}. If it does not fail any more: {self.remedy}"


def _short(operator: str) -> str:
    """The last word of an operator's name, and the one before that of an overload."""
    words = operator.rpartition(":")[2].split(".")
    return ".".join(words[-2:]) if "ops" in words else words[-1]


# --- files ------------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files of cases in a folder, each sorted by name.

    Raises:
        MalformedCase: the folder, or the database in it, cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
        own = folder.resolve()
        folders = [
            path
            for path in entries
            if path.is_dir()
            and path.name not in _NOT_CASES
            and not path.name.startswith(".")
            # A link that leads back would never end.
            and not own.is_relative_to(path.resolve())
        ]
    except (OSError, RuntimeError) as error:
        raise codec.MalformedCase(f"{folder}: cannot be read: {error}") from None
    names = {path.name for path in entries}
    if NAME in names:
        bugs = _campaign(folder)
        return [path for path in folders if path.name in bugs], []
    finding = {CASE, MINIMISED} & names
    if RESULT in names and finding:
        return [], [folder / (MINIMISED if MINIMISED in names else CASE)]
    skipped = {ENVIRONMENT, *({CASE} if MINIMISED in names else ())} if finding else set()
    return folders, [path for path in entries if path.suffix == ".json" and path.name not in skipped]


def holds(folder: Path) -> bool:
    """Whether there is a campaign or the file of a case somewhere below a folder; raises like ``contents``."""
    folders, files = contents(folder)
    return bool(files) or (folder / NAME).exists() or any(map(holds, folders))


# --- what they say ----------------------------------------------------------------------------------------------------


def load(path: Path) -> Stored:
    """What a file of a case asks for.

    Raises:
        MalformedCase: the file holds none, or one that must not be trusted; the message names the file.
    """
    folder = path.parent
    if (folder.parent / NAME).exists():
        return _of_campaign(path, folder.parent)
    if (folder / RESULT).exists() and path.name in (CASE, MINIMISED):
        return _of_finding(path)
    case = _read(path)
    data = codec.loads(path.read_bytes())
    if isinstance(data, dict) and "judgement" in data:
        return _of_regression(path)
    if isinstance(data, dict) and "case" in data:
        bug = known.load(path)
        return Stored(path, Item("known", bug.id, bug.title, bug.case), True, remedy=_keep(path))
    return Stored(path, Item("bug", path.stem, "", case), False)


def _regular(path: Path) -> None:
    """Raise MalformedCase for what would be waited for, as a pipe is, or would fill the memory."""
    if path.exists() and not path.is_file():
        raise codec.MalformedCase(f"{path}: not a regular file")
    if path.is_file() and path.stat().st_size > LARGEST:
        raise codec.MalformedCase(f"{path}: it has more than {LARGEST >> 20} MiB")


def _read(path: Path) -> Case:
    _regular(path)
    case = stored_case(path)
    with contextlib.suppress(UnknownTarget):  # a test that is skipped says so
        check_knobs_of(path, case)
    return case


def _of_campaign(path: Path, directory: Path) -> Stored:
    item, fixed, strict = _campaign(directory)[path.parent.name]
    if item.case is not None:
        _read(path)  # the blobs of the case lie beside it
    remedy = f"write that down, `shakeout replay --all {shown(directory)}`; from then on it has to pass"
    return Stored(path, item, not fixed, strict, remedy)


@functools.cache
def _campaign(directory: Path) -> Mapping[str, tuple[Item, bool, bool]]:
    """The bugs of a campaign: what runs, whether it was fixed when it ran last, and whether it always fails."""
    try:
        with Database.read(directory / NAME) as database:
            fixed, states = database.fixed(), {bug.id: bug.state for bug in database.bugs()}
            return {
                item.id: (item, item.id in fixed, states[item.id] != "flaky") for item in stored(directory, database)
            }
    except (DatabaseError, ValueError, OSError) as error:
        raise codec.MalformedCase(f"{directory / NAME}: {error}") from None


def _of_finding(path: Path) -> Stored:
    folder = path.parent
    for name in (path.name, RESULT, SEQUENCE, SHORTEST):
        _regular(folder / name)
    result = read_result(folder)
    if not path.read_bytes().strip():
        return Stored(path, Item("bug", folder.name, "it has no case", None), True)
    # The smallest case may fail nearer to the root than the finding that was written down.
    wanted: Failure | None = failure_of(result) if result is not None and path.name == CASE else None
    failing = None if result is None else result.failure
    title = "" if failing is None else f"{failing.symptom}, {failing.message}"
    before = (read_sequence(folder, SHORTEST) or read_sequence(folder))[:-1]
    for text in before:
        codec.decode(text)
    item = Item("bug", folder.name, title, _read(path), wanted, before)
    return Stored(path, item, True, remedy=f"remove {shown(folder / RESULT)}; from then on it has to pass")


def _of_regression(path: Path) -> Stored:
    one = regressions.load(path)
    versions: Mapping[str, str] = describe()["packages"]
    failure = Failure(one.case.setting.target, **one.failure)
    # With versions that nobody tried it is taken to do what it did with the last ones.
    said = one.expected(versions) or list(one.status.values())[-1]
    item = Item("regression", one.id, one.title, one.case, failure, expected=said)
    package = next(iter(one.status)).partition(" ")[0]
    release = f"{package} {versions.get(package, '').partition('+')[0]}".strip()
    remedy = f'write `"{release}": "fixed"` into the status of {shown(path)}; from then on it has to pass'
    return Stored(path, item, said != "fixed", True, remedy)


def _keep(path: Path) -> str:
    return f"keep the case alone in {shown(path)}; from then on it has to pass"


def unable(item: Item) -> str:
    """Why an item cannot run here; empty if it can, or if only a worker can tell: it imports what a user wrote."""
    if item.case is not None and ":" in item.case.setting.target:
        return one_line(missing(item.case.setting.device) or "")
    return one_line(unable_item(item))


def shown(path: Path) -> str:
    """A path as a person would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def one_line(text: str) -> str:
    """Text of others as one line of a terminal: without line breaks, and without what moves a cursor."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
