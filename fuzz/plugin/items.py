"""Stored cases as pytest's nodes: folders, files, and a test for each case."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from shakeout.corpus.case import Case
from shakeout.corpus.codec import MalformedCase
from shakeout.fuzz.ground.failure import Failure, failure_of, remembered
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.plugin.hooks import FOLDERS, POOLS
from shakeout.fuzz.plugin.standing import CannotRun, StandingPools
from shakeout.fuzz.plugin.stored import Stored, contents, holds, load, one_line, shown, unable
from shakeout.fuzz.reporting.short_scripts import short_scripts
from shakeout.fuzz.running.fresh import told

__all__ = ["CaseFile", "CaseFolder", "CaseItem"]

#: What says nothing of the target, whatever the case is expected to do.
_UNABLE = ("unsupported", "invalid", "undefined")

#: Lines of a script that a report shows; of a longer one the file is named.
LONGEST = 60


class _Differs(Exception):
    """A case that fails."""


class _Known(_Differs):
    """One that fails as it is known to."""


def _refused(error: Exception) -> pytest.Collector.CollectError:
    text = one_line(str(error))
    # The command line's own flag; pytest has another one.
    return pytest.Collector.CollectError(text.replace("add --allow ", "add --shakeout-allow "))


class CaseFolder(pytest.File):
    """A folder; as it is none of pytest's directories, no ``conftest.py`` in it is imported."""

    def collect(self) -> Iterable[pytest.Collector]:
        """The folders and files in it."""
        try:
            if self.path in self.config.stash[FOLDERS] and not holds(self.path):
                raise MalformedCase(f"{self.path}: holds neither a campaign nor the file of a case")
            folders, files = contents(self.path)
        except (MalformedCase, OSError) as error:
            raise _refused(error) from None
        yield from (CaseFolder.from_parent(self, path=path) for path in folders)
        yield from (CaseFile.from_parent(self, path=path) for path in files)


class CaseFile(pytest.File):
    """The file of a case."""

    def collect(self) -> Iterable[pytest.Item]:
        """Its one test."""
        try:
            stored = load(self.path)
        except (MalformedCase, OSError) as error:
            raise _refused(error) from None
        yield CaseItem.from_parent(self, name=stored.name, stored=stored)


class CaseItem(pytest.Item):
    """One case: it has to agree, or to fail as it is known to."""

    def __init__(self, *, stored: Stored, **options: Any) -> None:
        super().__init__(**options)
        self.stored = stored
        self._shown: Result | None = None
        self.add_marker(pytest.mark.shakeout)
        self.able = not (why := unable(stored.item))
        if not self.able:
            self.add_marker(pytest.mark.skip(reason=why))
        if stored.fails:
            self.add_marker(pytest.mark.xfail(raises=_Known, strict=stored.strict, reason=stored.reason))

    def reportinfo(self) -> tuple[Path, int, str]:
        """The file of the case."""
        return self.path, 0, self.name

    def runtest(self) -> None:
        """Run the case; once more where that is a surprise, so that nobody is told of what fails now and then."""
        result = self._run()
        failure = failure_of(result)
        if failure is None and result.status in _UNABLE:
            pytest.skip(f"{result.status}: {one_line(result.reason)}")
        if not self._expected(failure):
            again = self._run()
            if (failure_of(again) is None) != (failure is None):
                self._flaky(again if failure is None else result)
            result, failure = again, failure_of(again)
        self._shown = result
        if failure is not None:
            raise _Known(f"still {failure}") if self._expected(failure) else _Differs(self._report(result))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **options: Any) -> Any:
        """What happened, without a traceback of ours."""
        if isinstance(excinfo.value, _Known) and self.config.option.runxfail and self._shown is not None:
            return self._report(self._shown)
        if isinstance(excinfo.value, _Differs | CannotRun):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **options)

    # --- running ----------------------------------------------------------------------------------------------------

    def _run(self) -> Result:
        stash = self.config.stash
        if POOLS not in stash:
            items = [item.stored.item for item in self.session.items if isinstance(item, CaseItem) and item.able]
            stash[POOLS] = StandingPools(items, self.config.getoption("shakeout_time_limit"))
        result: Result = stash[POOLS].run(self.stored.item)
        if result.status == "infra":
            raise CannotRun(f"it cannot be judged here: {one_line(result.reason)}")
        return result

    def _expected(self, failure: Failure | None) -> bool:
        if failure is None or not self.stored.fails:
            return (failure is not None) == self.stored.fails
        return remembered(failure, self.stored.item.failure)

    def _flaky(self, result: Result) -> None:
        """It failed in one run of two, on the same machine, each in a fresh worker."""
        text = "flaky: it fails in 1 of 2 runs"
        if self.stored.fails:
            raise _Known(text)
        raise _Differs(f"{text}\n{self._report(result)}")

    # --- telling ----------------------------------------------------------------------------------------------------

    def _report(self, result: Result) -> str:
        """What the oracles say, a script that shows it, and the command that runs it again."""
        case, failure, known = self.stored.item.case, failure_of(result), self.stored.item.failure
        assert case is not None
        lines = [one_line(line) for line in told(result)]
        if self.stored.fails and not self._expected(failure):
            lines.append(f"it was known to fail otherwise: {known}")
        again = shlex.join(["shakeout", "replay", shown(self.path)])
        return "\n".join((*lines, *_script(case, self.path), f"replay: {again}"))


def _script(case: Case, path: Path) -> list[str]:
    """The short script between blank lines, or where a long one is; nothing where there is none."""
    text = short_scripts([case]).get(case.id, "").strip()
    if text and len(lines := text.splitlines()) <= LONGEST:
        return ["", *(f"    {line}" if line else "" for line in lines), ""]
    beside = next((file for name in ("case.min.py", "repro.py") if (file := path.parent / name).exists()), None)
    return [] if beside is None else [f"script: {shown(beside)}"]
