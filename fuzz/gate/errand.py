"""The process of a side: an errand done in the environment that is under test, with the Shakeout that sent it.

Errands are ``about`` (what is there), ``samples`` (what torch's operators are called with, collected), ``replay``
(cases that run again), ``reduce`` (smaller cases) and ``fuzz`` (a campaign). The process speaks JSON lines over a file
descriptor of its own, since what a user wrote may print. Nothing here imports torch but ``about``, which loads what
users declared, and what prints a program at the end of ``replay``.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import os
import platform
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from shakeout.corpus.interpreter import add_working_directory

if TYPE_CHECKING:
    from shakeout.corpus.case import Case
    from shakeout.fuzz.ground.results import Result

__all__ = ["main"]

#: Cases of one reason for declining that are told with their text. Small programs come first.
KEPT = 64

Tell: TypeAlias = Callable[[Mapping[str, Any]], None]


def main(arguments: list[str]) -> int:
    """Do one errand: file descriptor, the path of the request, the process for which it is done."""
    from shakeout.fuzz.workers.protocol import die_with_parent

    die_with_parent(int(arguments[2]))
    add_working_directory()
    request = json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
    with os.fdopen(int(arguments[0]), "w", encoding="utf-8", buffering=1) as file:

        def tell(message: Mapping[str, Any]) -> None:
            file.write(json.dumps(message) + "\n")

        try:
            tell({"done": _ERRANDS[request["errand"]](request, tell)})
        except Exception as error:
            status, text = _explained(error)
            traceback.print_exc()
            tell({"failed": text, "status": status})
    return 0


def _explained(error: Exception) -> tuple[int, str]:
    """The exit status that an error asks for, and what a person is told."""
    from shakeout.corpus.codec import MalformedCase
    from shakeout.corpus.database import DatabaseError
    from shakeout.fuzz.campaign.campaign import DirectoryUnusable, SelfTestFailed
    from shakeout.fuzz.ground.exits import Exit
    from shakeout.fuzz.workers.zygote_client import ZygoteBroken
    from shakeout.generators.vocabularies.torch import BootstrapFailed
    from shakeout.targets.target import UnknownKnob

    match error:
        case ZygoteBroken() | SelfTestFailed() | BootstrapFailed():
            return Exit.INFRASTRUCTURE, str(error)
        case DirectoryUnusable() | DatabaseError() | OSError():
            return Exit.DIRECTORY, str(error)
        case MalformedCase() | UnknownKnob():
            return Exit.USAGE, str(error)
    return Exit.INTERNAL, f"{type(error).__name__}: {error}"


# --- what is there ----------------------------------------------------------------------------------------------------


def _about(request: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """What is installed, and how each target stands: ``ready``, ``absent``, or ``broken`` with the reason."""
    from shakeout.fuzz.ground.versions import describe

    lacking = [name for name in ("torch", "numpy", "safetensors", "expecttest") if not importlib.util.find_spec(name)]
    found = {"python": platform.python_version(), "lacking": lacking, "broken": "", "versions": {}, "targets": {}}
    if "torch" in lacking or "numpy" in lacking:
        return found
    try:
        importlib.import_module("torch")
    except Exception as error:
        return {**found, "broken": f"{type(error).__name__}: {error}"[:500]}
    from shakeout.generators.vocabularies.torch import records_kept  # needs NumPy
    from shakeout.targets.registry import facts_of, names

    targets = {name: _standing(name) for name in request["targets"]}
    # Models of ONNX are not grown of torch's operators.
    models = all(name in names() and facts_of(name).vocabulary == "onnx" for name in targets)
    return {**found, "versions": describe()["packages"], "targets": targets, "samples": models or records_kept()}


def _standing(name: str) -> dict[str, Any]:
    from shakeout.corpus.user_objects import CannotImport
    from shakeout.targets.registry import target
    from shakeout.targets.target import UnknownTarget

    try:
        found = target(name)
    except UnknownTarget as error:
        broken = isinstance(error.__cause__, CannotImport)
        return {"state": "broken" if broken else "absent", "why": str(error)}
    except (Exception, SystemExit) as error:
        return {"state": "broken", "why": f"{type(error).__name__}: {error}"}
    if why := found.unavailable():
        return {"state": "broken", "why": why}
    return {"state": "ready", "why": "", **_place(name, found)}


def _place(name: str, found: object) -> dict[str, Any]:
    """File and line of what a target is; nothing where it comes with Shakeout."""
    import inspect

    from shakeout.corpus.user_objects import find

    subject: Any = type(found)
    if ":" in name:
        declared: Any = find(name)
        subject = inspect.unwrap(getattr(declared, "function", None) or getattr(declared, "factory", declared))
        subject = getattr(subject, "_init_fn", subject)  # of a custom operator of torch.library
    elif subject.__module__.startswith("shakeout."):
        return {}
    try:
        return {"file": inspect.getsourcefile(subject), "line": inspect.getsourcelines(subject)[1]}
    except (TypeError, OSError):
        return {}


def _samples(request: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Collect the samples of this torch's operators, of which programs are grown; whether they are kept."""
    from shakeout.fuzz.ground import events
    from shakeout.generators.vocabularies.torch import load_records, records_kept

    said = itertools.count()

    def say(text: str) -> None:
        # A line for every few operators; one in ten is enough to see that it goes on.
        if next(said) % 10 == 0:
            tell({"event": events.Warming(text, 0.0, done=False).to_json()})

    load_records(say)
    return {"kept": records_kept()}


# --- cases that run again ---------------------------------------------------------------------------------------------


def _replay(request: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Run cases again, each some times in fresh workers; what each run showed."""
    from shakeout.corpus import blobs, codec
    from shakeout.fuzz.ground.failure import Failure, failure_of
    from shakeout.fuzz.ground.progress import interruptible
    from shakeout.fuzz.triage.replay_bugs import Item, Row, replay

    blobs.tell(request["blobs"])
    items = []
    for one in request["cases"]:
        failure = None if one["failure"] is None else Failure(*one["failure"])
        items.append(Item("bug", one["id"], "", codec.decode(one["case"]), failure, tuple(one["before"])))

    def shown(result: Result) -> dict[str, Any]:
        failure, verdict = failure_of(result), result.failure
        return {
            "status": result.status,
            "reason": result.reason if verdict is None else verdict.message,
            "failure": None if failure is None else astuple(failure),
            "result": result.to_json(),
        }

    failing: list[tuple[Item, Result]] = []

    def settled(row: Row) -> None:
        failing.extend([(row.item, one) for one in row.results if one.failure is not None][:1])
        # Without a result it did not run, and the note says why.
        tell(
            {"row": row.item.id, "results": [shown(one) for one in row.results], "note": row.note, "script": row.script}
        )

    with interruptible() as stop:
        replay(
            items,
            workers=request["workers"],
            memory=request["memory"],
            runs=request["runs"],
            ready=request["ready"],
            tell=settled,
            warming=lambda event: tell({"event": event.to_json()}),
            stop=stop,
        )
    for item, result in failing if request["told"] else ():
        tell({"told": item.id, **_told(item.case, result)})
    return {}


def _told(case: Case | None, result: Result) -> dict[str, str]:
    """A failing case in words: this prints the program, and so imports torch and what a user wrote."""
    from shakeout.fuzz.ground.signature import headline
    from shakeout.fuzz.reporting.plain import finding_lines

    assert case is not None
    return {"title": headline(case, result), "text": "\n".join(finding_lines(case, result))}


# --- smaller cases ----------------------------------------------------------------------------------------------------


def _reduce(request: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """The smallest case of each file that fails for the same reason, written beside it."""
    from shakeout.fuzz.ground.progress import interruptible
    from shakeout.fuzz.minimise.predicate import NotReproduced
    from shakeout.fuzz.minimise.search import Budget
    from shakeout.fuzz.minimise.stored import minimise_stored

    with interruptible() as stop:
        for id_, path in request["cases"].items():
            try:
                written = minimise_stored(
                    Path(path),
                    budget=Budget(seconds=request["seconds"]),
                    workers=request["workers"],
                    memory=request["memory"],
                    stop=stop,
                )
            except NotReproduced:
                continue  # it stays as it is
            tell({"reduced": id_, "case": str(written.case)})
    return {}


# --- a campaign -------------------------------------------------------------------------------------------------------


def _fuzz(request: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Fuzz for a while; what was found lies in the campaign's directory."""
    from dataclasses import replace

    from shakeout.fuzz.campaign.campaign import Campaign
    from shakeout.fuzz.campaign.config import Config
    from shakeout.fuzz.gate.unsupported import reason_key
    from shakeout.fuzz.ground import events

    asked: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in request["config"].items()}
    config = replace(Config(), **asked)

    def hear(event: events.Event) -> None:
        if not isinstance(event, events.CaseDone | events.Progress):
            tell({"event": event.to_json()})

    seen: Counter[str] = Counter()

    def declined(result: Result, case: str) -> None:
        key = reason_key(result.target, result.reason)
        seen[key] += 1
        # The others are only counted: a target may decline thousands.
        told = {"case": case, "reason": result.reason} if seen[key] <= KEPT else {}
        tell({"declined": key, **told})

    with Campaign(config, Path(request["directory"]), [hear], declined=declined) as campaign:
        finished = campaign.run()
        left, overdue = campaign.left, campaign.overdue
    return {"reason": finished.reason, "left": list(left), "overdue": overdue, "message": finished.message}


_ERRANDS: Mapping[str, Callable[[Mapping[str, Any], Tell], dict[str, Any]]] = {
    "about": _about,
    "samples": _samples,
    "replay": _replay,
    "reduce": _reduce,
    "fuzz": _fuzz,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
