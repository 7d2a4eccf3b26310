"""Whether a target keeps to the protocol: what it says of itself, what it runs, and what it declines."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import get_args

from shakeout.corpus import codec
from shakeout.corpus.case import Case, Mode, Promise, Setting
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.bisect.hooks import Gate, Limit
from shakeout.fuzz.conformance.problems import told
from shakeout.fuzz.conformance.small_cases import on, small_cases
from shakeout.targets.registry import hook, names
from shakeout.targets.registry import target as registered
from shakeout.targets.target import Ladder, Target

__all__ = ["TARGET_CHECKS", "check_target", "small_cases"]

Check = Callable[[Target, Sequence[Case]], Iterator[str]]

#: Imported by what only looks at a target, and slow to import.
HEAVY = ("torch", "numpy")

#: Seconds for a script in a process of its own: a cold compiler needs 10 to 30.
SECONDS = 180.0

_IMPORTED = """
import sys
from shakeout.targets.registry import target
subject = target(sys.argv[1])
subject.facts, subject.knobs(), subject.unavailable()
print(*(name for name in sys.argv[2:] if name in sys.modules))
"""


def check_target(subject: Target | str, cases: Sequence[Case] | None = None) -> None:
    """Check a target that can run here; a few seconds for what is quick, minutes for a compiler.

    Args:
        subject: the target, or the name under which it is registered.
        cases: that it is run on; small ones of Shakeout's by default. Their setting is put on the target.

    Raises:
        NotConforming: something is wrong; the message has a line for each thing.

    Example:
        >>> def test_my_target():
        ...     shakeout.testing.check_target("my_target")
    """
    subject = registered(subject) if isinstance(subject, str) else subject
    given = small_cases(subject) if cases is None else [on(subject, case) for case in cases]
    told(f"target {subject.name}", ((name, functools.partial(check, subject, given)) for name, check in TARGET_CHECKS))


# --- what it says of itself -------------------------------------------------------------------------------------------


def _name(subject: Target, cases: Sequence[Case]) -> Iterator[str]:
    """Name and registration: what a stored case calls it by finds it again."""
    again = codec.decode(replace(cases[0], setting=Setting(subject.name)).text).setting.target
    if again != subject.name:
        yield f"a stored case calls it {again!r}, expected {subject.name!r}"
    if registered(subject.name) != subject:
        yield f"under {subject.name!r} another target is registered"


def _facts(subject: Target, cases: Sequence[Case]) -> Iterator[str]:
    """Facts that fit each other and what is installed."""
    import torch

    facts = subject.facts
    if not facts.summary or "\n" in facts.summary:
        yield f"summary is {facts.summary!r}, expected one line"
    vocabulary(facts.vocabulary)
    if odd := facts.promises - set(get_args(Promise)):
        yield f"promises {', '.join(sorted(odd))}, expected some of {', '.join(get_args(Promise))}"
    if facts.mode is not None and facts.mode not in get_args(Mode):
        yield f"mode is {facts.mode!r}, expected one of {', '.join(get_args(Mode))}, or None"
    if facts.turns < 1 or facts.settings < 1:
        yield f"turns and settings are {facts.turns} and {facts.settings}, expected 1 or more"
    for dtype in sorted(facts.foreign):
        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            yield f"foreign has {dtype!r}, expected the name of a dtype of torch"
    for package in facts.packages:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            yield f"packages has {package!r}, expected the name of an installed distribution"
    if facts.support is not None and not (facts.support / f"{subject.name}.json").is_file():
        yield f"support is {facts.support}, where there is no {subject.name}.json"
    if facts.ladder is not None:
        yield from _rungs(subject, facts.ladder)


def _rungs(subject: Target, ladder: Ladder) -> Iterator[str]:
    knobs = {knob.name: knob for knob in subject.knobs()}
    for name in ladder.below:
        registered(name)
    if ladder.levels is not None:
        knob = knobs.get(ladder.levels.knob)
        if knob is None:
            yield f"the ladder's levels are of a knob {ladder.levels.knob!r}, which it does not have"
        elif odd := [value for value in ladder.levels.values if value not in knob.values]:
            yield f"the ladder's levels have {odd}, which the knob {knob.name!r} does not take"
    if ladder.single and ladder.single not in knobs:
        yield f"the ladder leaves out single parts with a knob {ladder.single!r}, which it does not have"
    kinds = [part.kind for part in ladder.parts]
    if len(set(kinds)) < len(kinds):
        yield f"the ladder's parts have one kind twice: {', '.join(kinds)}"
    for kind in kinds:
        if not callable(hook(subject.name, kind)):
            yield f"the hook of {kind!r} is no function"


def _knobs(subject: Target, cases: Sequence[Case]) -> Iterator[str]:
    """Knobs that a stored case brings back, with distinct values, of which the first is the default."""
    seen = set()
    for knob in subject.knobs():
        if knob.name in seen:
            yield f"there are two knobs {knob.name!r}"
        seen.add(knob.name)
        if not knob.values or len({(type(value), value) for value in knob.values}) < len(knob.values):
            yield f"knob {knob.name!r} has the values {knob.values}, expected distinct ones, the default first"
        for value in knob.values:
            setting = Setting(subject.name, ((knob.name, value),))
            again = codec.decode(replace(cases[0], setting=setting).text).setting
            if again != setting or type(again.knob(knob.name)) is not type(value):
                yield f"a stored case has {knob.name}={again.knob(knob.name)!r}, expected {value!r}"


def _sources(subject: Target, cases: Sequence[Case]) -> Iterator[str]:
    """A text for each setting, the same each time, that compiles and defines what it has to."""
    space = [(), *(((knob.name, value),) for knob in subject.knobs() for value in knob.values)]
    for mode in get_args(Mode):
        for knobs in space:
            setting = Setting(subject.name, knobs, mode)
            text = subject.source(setting)
            if text != subject.source(setting):
                yield f"source of {setting} is another one each time"
            compile(text, f"<{subject.name}>", "exec")
            for name in ("prepare", "declined"):
                if not re.search(rf"^(def {name}\(|{name} =)", text, re.MULTILINE):
                    yield f"source of {setting} does not define {name}"


def _light(subject: Target, cases: Sequence[Case]) -> Iterator[str]:
    """Looking at it imports nothing heavy."""
    if ":" in subject.name:
        return  # a user's own module may import what it wants
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-c", _IMPORTED, subject.name, *HEAVY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)
    if done.returncode:
        yield f"facts, knobs or unavailable raise in a fresh process: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
    elif done.stdout.strip():
        yield f"facts, knobs or unavailable import {', '.join(done.stdout.split())}, which slows down every listing"


def _there(subject: Target, cases: Sequence[Case]) -> Iterator[str]:
    """It can run here, which the rest rests on."""
    if (missing := subject.unavailable()) is not None:
        yield f"it cannot run here, so nothing more can be checked: {missing}"
    if ":" not in subject.name and not subject.facts.hidden and subject.name not in names():
        yield "it stands in no list of targets"


# --- what it does -----------------------------------------------------------------------------------------------------


def _runs(subject: Target, cases: Sequence[Case]) -> Iterator[str]:
    """Each case agrees with the reference, or is declined by an exception that ``declined`` knows."""
    from shakeout.fuzz.running.execute import execute

    compared = 0
    for number, case in enumerate(cases):
        result = execute(case, explain=False)
        what = f"case {number} ({', '.join(result.operators)}; {case.setting.mode}, {len(case.input_sets)} calls)"
        if result.failure is not None:
            yield f"{what} fails: {result.failure.symptom}: {(result.failure.message.splitlines() or [''])[0]}"
        elif result.status == "compared":
            compared += 1
        elif result.status != "unsupported" or not result.reason:
            yield f"{what} is {result.status} ({result.reason}), expected compared, or unsupported with a reason"
        if result.left:
            yield f"{what} leaves behind: {', '.join(result.left)}"
    if not compared:
        yield f"none of {len(cases)} cases was compared: it declines everything"


def _warms(subject: Target, cases: Sequence[Case]) -> Iterator[str]:
    """It can be warmed, and again."""
    subject.warm()
    subject.warm()
    yield from ()


def _declines(subject: Target, cases: Sequence[Case]) -> Iterator[str]:
    """What breaks is not taken for a refusal, and not hidden."""
    from shakeout.corpus import script
    from shakeout.fuzz.running import leaks
    from shakeout.targets.printed import executed

    namespace = script.load(replace(cases[0], setting=Setting(subject.name)))
    made = executed(subject.source(Setting(subject.name)), namespace)
    for error in (RuntimeError("planted fault"), AssertionError("planted fault"), ValueError("planted fault")):
        if (said := made.declined(error)) is not False:
            yield f"declined({error!r}) is {said!r}, expected False: nobody said that it is not supported"

    def broken(*given: object, **further: object) -> object:
        raise RuntimeError("planted fault in the network")

    before = leaks.look()
    try:
        made.prepare(broken)(*namespace["arguments"](namespace["CALLS"][0]()))
    except Exception:
        return
    finally:
        before.mend()
    yield "a network that raises gives outputs on it, so that an error would never be seen"


def _scripts(subject: Target, cases: Sequence[Case]) -> Iterator[str]:
    """The script of a report runs alone and finds no difference, in its long form and in its short one."""
    from shakeout.fuzz.reporting.exported import short_form
    from shakeout.fuzz.running.case_file import render
    from shakeout.fuzz.running.execute import execute

    case = next((case for case in cases if execute(case, explain=False).status == "compared"), None)
    if case is None:
        return
    for form, text in (("script", render(case)), ("short script", short_form(case))):
        if text is None:
            continue
        status, said = _alone(text)
        if status != 0:
            yield f"the {form} of a case that agrees ends with {status}: {said}"


def _alone(text: str) -> tuple[int, str]:
    """Status of a script in a process of its own, and the last line that it says."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        path = Path(scratch) / "repro.py"
        path.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-P", str(path)],
            cwd=scratch,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * SECONDS,
        )
    return done.returncode, ((done.stderr.strip() or done.stdout.strip()).splitlines() or ["it says nothing"])[-1]


def _hooks(subject: Target, cases: Sequence[Case]) -> Iterator[str]:
    """Each part counts, can be left out as a whole, and leaves no trace."""
    from shakeout.fuzz.running.execute import execute

    ladder = subject.facts.ladder
    for part in ladder.parts if ladder is not None else ():
        for most in (None, 0):
            gate = Gate(Limit(part.kind, most))
            with hook(subject.name, part.kind)(gate):
                result = execute(cases[0], explain=False)
            if result.failure is not None or result.status not in ("compared", "unsupported"):
                left = "counted" if most is None else "left out"
                yield f"with every {part.label} {left}, a case is {result.status}, expected it to agree as before"


#: By name, in the order in which they are made. Each gives its problems one by one.
TARGET_CHECKS: tuple[tuple[str, Check], ...] = (
    ("available", _there),
    ("name", _name),
    ("facts", _facts),
    ("knobs", _knobs),
    ("source", _sources),
    ("imports", _light),
    ("warm", _warms),
    ("declined", _declines),
    ("cases", _runs),
    ("scripts", _scripts),
    ("ladder", _hooks),
)
