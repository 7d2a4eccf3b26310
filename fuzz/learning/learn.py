"""What ``shakeout learn`` does: rules of torch's operators, of a user's kernel, and from what a campaign saw."""

from __future__ import annotations

import difflib
import fnmatch
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.learning.errors import CannotLearn
from shakeout.fuzz.learning.gather import Kept
from shakeout.fuzz.learning.operators import LEARNER, LostCall, learn_operators
from shakeout.fuzz.workers.zygote_client import Interrupted

if TYPE_CHECKING:
    from shakeout.fuzz.learning.store import Files
    from shakeout.generators.rules.library import Entry, Library

__all__ = [
    "CannotLearn",
    "How",
    "LearntOperators",
    "learn_campaign",
    "learn_kernel",
    "learn_onnx",
    "learn_torch",
    "torch_is_learnt",
]


@dataclass(frozen=True, slots=True)
class How:
    """How operators are learnt.

    Attributes:
        workers: operators at a time.
        calls: tried of each way to call an operator; None for the usual number.
        seconds: after which no further operator is begun; None for no limit.
        copy: where the rules are kept as well; of torch those that calls are drawn from.
        tell: told what goes on (``Notice``, ``CallsRecorded``, ``Warming``, ``Collecting``, ``Learning``).
        stop: asked now and then whether to give up.
    """

    workers: int
    calls: int | None = None
    seconds: float | None = None
    copy: Path | None = None
    tell: events.Listener = lambda event: None
    stop: Callable[[], bool] = lambda: False

    def note(self, message: str) -> None:
        """Tell something that stays to be read."""
        self.tell(events.Notice(message))


@dataclass(frozen=True)
class LearntOperators:
    """What came of it.

    Attributes:
        names: operators that were to be learnt.
        content: of the file that campaigns read; also of operators that were learnt before.
        path: of that file.
        lost: calls that crashed or hung.
        seconds: that it took.
        named: whether somebody asked for just these operators, and not for all that there are.
    """

    names: tuple[str, ...]
    content: Mapping[str, Any]
    path: Path
    lost: tuple[LostCall, ...]
    seconds: float
    named: bool

    @cached_property
    def failed(self) -> dict[str, str]:
        """Why operators could not be learnt, by name."""
        return {name: reason for name, reason in self.content["failed"].items() if name in self.names}

    @cached_property
    def _library(self) -> Library:
        from shakeout.generators.rules.library import Library

        return Library(self.content)

    @cached_property
    def _entries(self) -> list[Entry]:
        return [entry for name in self.names for entry in self._library.entries(name)]

    @property
    def done(self) -> int:
        """Operators that need not be begun again: those that were learnt, and those that cannot be."""
        known = set(self._library.operators) | set(self.failed)
        return sum(name in known for name in self.names)

    @property
    def rules(self) -> int:
        """How many ways to call them have a rule."""
        return len(self._entries)

    @property
    def ways(self) -> int:
        """How many ways to call them are known."""
        return self.rules + sum(len(self._library.without(name)) for name in self.names)

    @property
    def usable(self) -> int:
        """How many rules are precise enough to draw calls from."""
        return sum(entry.usable for entry in self._entries)

    @property
    def errors(self) -> dict[str, Mapping[str, int]]:
        """How many calls of an operator were left out because of which error."""
        return {name: errors for name, errors in self.content.get("errors", {}).items() if name in self.names}

    @property
    def missed(self) -> bool:
        """Whether there is less than was asked for.

        Among all of torch there are always some that crash or need too much memory, which is told and is no failure of
        the whole; who names an operator wants that one.
        """
        return bool(self.failed) and (self.named or len(self.failed) == len(self.names))


# --- torch -----------------------------------------------------------------------------------------------------------


def learn_torch(
    how: How,
    patterns: Sequence[str] | None = None,
    *,
    anew: bool = False,
    seen: Sequence[Any] | None = None,
    whole: bool = False,
) -> LearntOperators:
    """Learn torch's operators; told to stop, it ends with those that are there.

    Args:
        how: to do it.
        patterns: names of those that are wanted, with ``*`` for anything; all, if nobody says.
        anew: forget what is there, rather than go on.
        seen: rows of calls that a campaign made: only operators of these are learnt, from them as well.
        whole: the rules that campaigns read now, shipped ones too, stay as long as more operators have one there.

    Raises:
        CannotLearn: what was asked for makes no sense, or torch's samples cannot be run.
        DirectoryUnusable: the cache cannot be written.
        Interrupted, ZygoteBroken: before anything was learnt.
    """
    from importlib.metadata import version

    from shakeout.corpus import learnt
    from shakeout.fuzz.campaign.campaign_folder import explained, locked
    from shakeout.fuzz.learning.collecting import CollectingFailed, collected
    from shakeout.fuzz.learning.store import files_of_torch
    from shakeout.generators.vocabularies.torch import BootstrapFailed, load_records

    files, began = files_of_torch(), time.monotonic()

    def collecting(name: str, done: int, total: int) -> None:
        how.tell(events.Collecting(name, done, total))

    def loading(step: str) -> None:
        how.tell(events.Warming(step))

    with explained(files.directory):
        files.directory.mkdir(parents=True, exist_ok=True)
        with locked(files.directory):
            if anew:
                files.clear()
            try:
                names = _chosen(load_records(loading).operators, patterns)
                if seen is not None:
                    names = _touched(names, files, seen, how)
                left_out = collected(files, collecting, how.stop)
            except (CollectingFailed, BootstrapFailed) as error:
                raise CannotLearn(str(error), Exit.INFRASTRUCTURE) from None
            for name in left_out:
                how.note(f"{name} crashes or hangs, and is left out")
            known, path = learnt.of_torch(version("torch")), learnt.torch_path(version("torch"))
            kept = Kept(files, "torch", path, how.copy, known)
            lost = _run(names, files, how, files.collected(), seen=files.seen(), kept=kept)
            content = kept.write(fewer=not whole)
    named = patterns is not None
    return LearntOperators(tuple(names), content, path, tuple(lost), time.monotonic() - began, named)


def torch_is_learnt() -> bool:
    """Whether learning the installed torch has come to its end, so that to learn means to begin anew."""
    from shakeout.fuzz.learning.collecting import finished
    from shakeout.fuzz.learning.store import files_of_torch
    from shakeout.generators.vocabularies.torch import load_records

    files = files_of_torch()
    return finished(files) and all(files.rules(name).exists() for name in load_records().operators)


def learn_onnx(how: How, patterns: Sequence[str] | None = None, *, anew: bool = False) -> LearntOperators:
    """Learn ONNX's operators from the node cases that ship with onnx; told to stop, it ends with those that are there.

    Args:
        how: to do it.
        patterns: names of those that are wanted, with ``*`` for anything; all, if nobody says.
        anew: forget what is there, rather than go on.

    Raises:
        CannotLearn: onnx is not installed, a pattern matches nothing, or the node cases cannot be run.
        DirectoryUnusable: the cache cannot be written.
        Interrupted, ZygoteBroken: before anything was learnt.
    """
    from importlib.metadata import version

    from shakeout.corpus import learnt
    from shakeout.fuzz.campaign.campaign_folder import explained, locked
    from shakeout.fuzz.learning.store import files_of_onnx
    from shakeout.generators.vocabularies.onnx import load_onnx
    from shakeout.generators.vocabularies.torch import BootstrapFailed
    from shakeout.targets.packages import uninstalled

    if missing := uninstalled(("onnx", "onnx")):
        raise CannotLearn(missing, Exit.INFRASTRUCTURE)
    files, began = files_of_onnx(), time.monotonic()
    with explained(files.directory):
        files.directory.mkdir(parents=True, exist_ok=True)
        with locked(files.directory):
            if anew:
                files.clear()
            try:
                vocabulary = load_onnx(lambda step: how.tell(events.Warming(step)))
            except BootstrapFailed as error:
                raise CannotLearn(str(error), Exit.INFRASTRUCTURE) from None
            names = _chosen(vocabulary.operators, patterns, "onnx")
            records = {name: [record.to_json() for record in vocabulary.records(name)] for name in names}
            known, path = learnt.of_onnx(version("onnx")), learnt.onnx_path(version("onnx"))
            kept = Kept(files, "onnx", path, how.copy, known)
            lost = _run(names, files, how, {}, records, maker="shakeout.fuzz.learning.maker:OnnxLearner", kept=kept)
            content = kept.write(fewer=True)
    named = patterns is not None
    return LearntOperators(tuple(names), content, path, tuple(lost), time.monotonic() - began, named)


def _chosen(known: Sequence[str], patterns: Sequence[str] | None, package: str = "torch") -> list[str]:
    if patterns is None:
        return list(known)
    found: list[str] = []
    for pattern in patterns:
        matching = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            close = difflib.get_close_matches(pattern, known, 1)
            raise CannotLearn(
                f"--operators: {package} has no operator {pattern!r} that can be proposed"
                + (f"; did you mean {close[0]}?" if close else "")
            )
        found += [name for name in matching if name not in found]
    return found


def _touched(names: Sequence[str], files: Files, seen: Sequence[Any], how: How) -> list[str]:
    """The operators that a campaign made calls of, which are kept."""
    from shakeout.fuzz.learning.collecting import finished

    if not finished(files):
        raise CannotLearn("torch was never learnt here; begin with: shakeout learn torch")
    known = set(names)
    rows = [row for row in seen if row[0] in known]
    how.note(f"{len(rows)} calls of torch's operators, {files.add(rows)} of which are new")
    wanted = {row[0] for row in rows}
    return [name for name in names if name in wanted]


# --- a user's kernel -------------------------------------------------------------------------------------------------


def learn_kernel(operator: str, examples: Path, how: How) -> LearntOperators:
    """Learn a user's kernel from the calls that its tests or a script make, and keep what they gave with the rules.

    Args:
        operator: ``MODULE:NAME``.
        examples: tests, a file or a folder that pytest runs, or a script.
        how: to do it.

    Raises:
        CannotLearn: there is no such kernel, or nothing called it, or what was learnt before is better than this.
        DirectoryUnusable: the working directory cannot be written.
        Interrupted: it was told to stop; nothing is kept.
        ZygoteBroken: the kernel cannot be loaded.
    """
    from shakeout.fuzz.learning.kernels import recorded

    how.tell(events.Warming(f"running {examples}"))
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        found = recorded(operator, examples, Path(scratch), how.seconds)
    if found.remark:
        how.note(found.remark)
    how.tell(events.CallsRecorded(operator, found.heard, len(found.traces), found.left_out, found.errors))
    return _from_calls(operator, {"traces": list(found.traces), "records": list(found.records)}, how)


def _from_calls(operator: str, given: Mapping[str, list[Any]], how: How) -> LearntOperators:
    """Learn a kernel from what its tests and campaigns gave, and keep that and the rules."""
    from shakeout.corpus import learnt
    from shakeout.fuzz.campaign.campaign_folder import explained
    from shakeout.fuzz.learning.gather import gathered
    from shakeout.fuzz.learning.store import Files, read

    began, path = time.monotonic(), learnt.kernel_path(operator)
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        files = Files(Path(scratch) / "learning")
        rows, records, seen = ({operator: given.get(key, [])} for key in ("traces", "records", "seen"))
        lost = _run([operator], files, how, rows, records, seen)
        if how.stop():
            raise Interrupted
        with explained(path.parent):
            cases = tuple(_moved(one, path.parent.parent / "cases") for one in lost)
            drawn = (read(files.rules(operator)) or {}).get("records", [])
            content = {"operator": operator, **given, "drawn": drawn, **gathered(files)}
            failed = content["failed"].get(operator)
            if failed is not None and learnt.of_kernel(operator) is not None:
                raise CannotLearn(f"{operator}: {failed}; what was learnt before stays", Exit.INFRASTRUCTURE)
            learnt.write(path, content)
            if how.copy is not None:
                learnt.write(how.copy, content)
    return LearntOperators((operator,), content, path, cases, time.monotonic() - began, named=True)


def _moved(lost: LostCall, directory: Path) -> LostCall:
    """The case of a lost call, kept beside the project."""
    if lost.path is None:
        return lost
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / lost.path.name
    target.write_bytes(lost.path.read_bytes())
    return replace(lost, path=target)


# --- what a campaign saw ---------------------------------------------------------------------------------------------


def learn_campaign(directory: Path, how: How) -> Iterator[LearntOperators]:
    """Fold in the calls of a campaign: of kernels that were learnt in this directory, and of torch's operators.

    Args:
        directory: of the campaign.
        how: to do it.

    Yields:
        What came of each kernel that has new calls, and of torch.

    Raises:
        CannotLearn: the campaign has no calls; and what ``learn_kernel`` and ``learn_torch`` raise.
    """
    from shakeout.corpus import learnt
    from shakeout.fuzz.campaign.traces import NAME, read_traces
    from shakeout.fuzz.learning.collecting import finished
    from shakeout.fuzz.learning.store import MOST_SEEN, files_of_torch

    rows = list(read_traces(directory / NAME))
    if not rows:
        raise CannotLearn(f"--from: {directory} has no calls in {NAME}; is it a campaign's directory?")
    for operator in sorted({row[0] for row in rows if ":" in row[0]}):
        known = learnt.of_kernel(operator)
        if known is None:
            how.note(f"{operator} was never learnt here, and is left out")
            continue
        given = {key: list(known.get(key, ())) for key in ("traces", "records", "seen")}
        before = len(given["seen"])
        for row in rows:
            if row[0] == operator and row not in given["seen"] and len(given["seen"]) < MOST_SEEN:
                given["seen"].append(row)
        how.note(f"{len(given['seen']) - before} new calls of {operator}")
        if len(given["seen"]) > before:
            yield _from_calls(operator, given, how)
    of_torch = [row for row in rows if ":" not in row[0]]
    if len(of_torch) < len(rows) and not finished(files_of_torch()):
        how.note("torch was never learnt here: calls of its operators are left out")
    elif of_torch:
        yield learn_torch(how, seen=of_torch, whole=True)


def _run(
    names: Sequence[str],
    files: Files,
    how: How,
    rows: Mapping[str, list[Any]],
    records: Mapping[str, list[Any]] | None = None,
    seen: Mapping[str, list[Any]] | None = None,
    maker: str = LEARNER,
    kept: Kept | None = None,
) -> list[LostCall]:
    def tell(event: events.Event) -> None:
        how.tell(event)
        if kept is not None and isinstance(event, events.Learning):
            kept.now_and_then()

    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        return learn_operators(
            names,
            rows,
            files,
            Path(scratch),
            workers=how.workers,
            records=records,
            seen=seen,
            maker=maker,
            calls=how.calls,
            seconds=how.seconds,
            tell=tell,
            stop=how.stop,
        )
