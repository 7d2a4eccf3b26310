"""The script of a report, run once in a fresh process before anybody is shown it."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shakeout.corpus import blobs
from shakeout.corpus.case import Case
from shakeout.corpus.interpreter import command
from shakeout.corpus.short_script import short
from shakeout.corpus.symptom import Symptom
from shakeout.fuzz.ground.child import run
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.reporting.models import behind_model
from shakeout.fuzz.running.case_file import SECONDS, render
from shakeout.fuzz.running.fresh import ran
from shakeout.fuzz.workers.confirm import stock_environment
from shakeout.targets.registry import short as short_source
from shakeout.targets.registry import target

__all__ = ["Exported", "collected", "export", "observed", "short_form"]

#: Writes the script of the model that a case's target hands on, if it has one.
_MODEL = """
import sys
from pathlib import Path
from shakeout.corpus import codec
from shakeout.fuzz.reporting.models import model_script
text = model_script(codec.decode(Path(sys.argv[1]).read_text(encoding="utf-8")))
if text is not None:
    Path(sys.argv[2]).write_text(text, encoding="utf-8")
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """A script, and what it showed here.

    Attributes:
        text: of the script.
        form: ``model`` for the model alone that the target hands to its product, ``short``, or ``long`` where neither
            shows anything.
        shows: whether it showed the failure.
        status: in words: ``exit status 1``, ``killed by SIGSEGV``.
        output: what it printed.
        needs: of the short form what a user would not write, and without which it shows nothing; None for other forms.
    """

    text: str
    form: str
    shows: bool
    status: str
    output: str
    needs: tuple[str, ...] | None = None

    @property
    def lines(self) -> int:
        """Lines that are not blank."""
        return sum(bool(line.strip()) for line in self.text.splitlines())


def export(case: Case, result: Result | None = None, symptom: Symptom | None = None) -> Exported:
    """The first form that shows the failure here, else the long one.

    Args:
        case: that fails.
        symptom: what shall be shown; that of the result if nobody says, and any difference where there is none.
        result: of the case. Where it says that the failure begins behind the model that the target makes of the
            program, that model alone is tried first; then the short form.
    """
    if symptom is None and result is not None and result.failure is not None:
        symptom = Symptom.seen(result.failure)
    if behind_model(case, result) and (text := _model(case)) is not None:
        found = _tried(case, "model", text, symptom)
        if found.shows:
            return found
    plain = _plainest(case, symptom)
    return plain if plain is not None else _tried(case, "long", render(case, symptom), symptom)


def short_form(case: Case, symptom: Symptom | None = None, needs: Collection[str] | None = None) -> str | None:
    """The short script of a case; None where there is none. Whether it shows anything is another question.

    Args:
        case: that fails.
        symptom: what it looks for; None if any difference counts.
        needs: what it has of that which a user would not write; None for all of it.
    """
    subject = target(case.setting.target)
    source = short_source(case.setting)
    if source is None:
        return None
    source = source if needs is None else source.without(source.harness.keys() - set(needs))
    strides = "layout" in subject.facts.promises
    return short(
        case,
        source.prepare,
        imports=source.imports,
        strides=strides,
        packages=subject.facts.packages,
        symptom=symptom,
    )


def _plainest(case: Case, symptom: Symptom | None) -> Exported | None:
    """The short script with as little as possible of what a user would not write; None if it shows nothing.

    Without any of it, if that shows the failure; else each is left out by itself.
    """

    def tried(needs: Collection[str]) -> Exported | None:
        text = short_form(case, symptom, needs)
        found = None if text is None else _tried(case, "short", text, symptom)
        return replace(found, needs=tuple(sorted(needs))) if found is not None and found.shows else None

    source = short_source(case.setting)
    harness = () if source is None else tuple(source.harness)
    if not harness or (found := tried(())) is not None:
        return found if harness else tried(())
    if (whole := tried(harness)) is None:
        return None
    needed = [name for name in harness if len(harness) == 1 or tried([n for n in harness if n != name]) is None]
    # What two settings do only together is needed by neither alone.
    return whole if len(needed) == len(harness) else tried(needed) or whole


def _model(case: Case) -> str | None:
    """The script of the model, which is made in a process of its own: compilers run there."""
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        given, answer = Path(scratch) / "case.json", Path(scratch) / "model.py"
        given.write_text(case.text, encoding="utf-8")
        _child(["-c", _MODEL, str(given), str(answer)], Path(scratch), blobs.environment(case))
        return answer.read_text(encoding="utf-8") if answer.exists() else None


def _tried(case: Case, form: str, text: str, symptom: Symptom | None) -> Exported:
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        path = Path(scratch) / "repro.py"
        blobs.copy(case, path.parent)
        path.write_text(text, encoding="utf-8")
        status, said, errors = _child(["-I", str(path)], Path(scratch))
    if status is None:
        # The long one ends in time by itself and says so; where not even that came, a hang is all that it may show.
        shows = form == "long" and (symptom is None or symptom.oracle == "hang")
        return Exported(text, form, shows, "no answer", said)
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        shows = symptom is None or symptom.died(name)
        return Exported(text, form, shows, f"killed by {name}", (said + errors).strip())
    # A model's script may end with 1 after an exception that nobody caught: then nothing was compared.
    shows = status == 1 and bool(said.strip())
    return Exported(text, form, shows, f"exit status {status}", (said.strip() or errors.strip()))


def observed(case: Case) -> Result | None:
    """What the case shows in a fresh process; None if that died or gave no answer."""
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch, open(os.devnull, "wb") as nowhere:
        variables = stock_environment(Path(scratch) / "cache", Path(scratch))
        silent = nowhere.fileno()
        found = ran(case, 2 * SECONDS, explain=True, environment=variables, output=silent, errors=silent)
    return found.result


def collected() -> str:
    """What ``torch.utils.collect_env`` says, which is what PyTorch asks for; a line that says why not otherwise."""
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        status, said, errors = _child(["-m", "torch.utils.collect_env"], Path(scratch))
    if status == 0 and said.strip():
        return said.strip()
    return f"torch.utils.collect_env gave nothing: {(errors.strip().splitlines() or ['no answer'])[-1][:200]}"


def _child(
    arguments: Sequence[str], scratch: Path, more: Mapping[str, str] | None = None
) -> tuple[int | None, str, str]:
    """Status, standard output and standard error of this interpreter; no status if it took too long."""
    (scratch / "cache").mkdir(exist_ok=True)
    out, err = scratch / "out", scratch / "err"
    variables = {**stock_environment(scratch / "cache", scratch), **(more or {})}
    with out.open("wb") as file, err.open("wb") as errors:
        status = run(command(*arguments), 2 * SECONDS, file.fileno(), errors.fileno(), environment=variables)
    said, wrong = (path.read_text(encoding="utf-8", errors="replace") for path in (out, err))
    return status, said, wrong
