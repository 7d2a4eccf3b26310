"""What a report says, part by part, from what is known of a bug; nothing in here runs anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shakeout.corpus.case import Case
from shakeout.corpus.evidence import Evidence
from shakeout.corpus.regressions import Regression
from shakeout.corpus.symptom import Symptom
from shakeout.fuzz.bisect.facts import Bisection, Knobs
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.reporting.exported import Exported, short_form
from shakeout.fuzz.reporting.fence import fenced as _fenced
from shakeout.fuzz.reporting.ordinary_inputs import OrdinaryInputs
from shakeout.fuzz.reporting.plain import floating, ordinary, vendor_lines
from shakeout.fuzz.reporting.told import Answered, Shipped, sentences
from shakeout.oracles.verdict import Verdict
from shakeout.targets.registry import reference_called

__all__ = [
    "NO_KNOBS",
    "Draft",
    "actual",
    "description",
    "expected",
    "findings",
    "newest",
    "ordinary_inputs",
    "reproduced",
    "reproduction",
    "versions",
]

#: What bisecting says where no knob is needed. Readers take it for settings that a user has, which it is not.
NO_KNOBS = str(Knobs(()))


@dataclass(frozen=True, slots=True)
class Draft:
    """What a report says.

    Attributes:
        title: one line.
        case: the case that is reported.
        minimised: whether it is the smallest one that is known.
        script: what shows it.
        result: of the case, if there is one.
        packages: versions of what matters.
        environment: what torch's collect_env says.
        bisection: what is known of the culprit and of releases.
        objections: why the project would close it; a draft with some is marked.
        owner: the project that it is for, as the target says; empty where there is none.
        brought: name of the file that a person brought it in; empty for what a campaign found.
        bug: the bug that ships with this case, of which more is known; None if there is none.
        parts: what the parts of the compiler make of it.
        sanitizer: what AddressSanitizer says; empty where it was not asked or says nothing.
        ordinary: what its calls do on ordinary inputs.
    """

    title: str
    case: Case
    minimised: bool
    script: Exported
    result: Result | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    bisection: Bisection | None = None
    objections: tuple[str, ...] = ()
    owner: str = ""
    brought: str = ""
    bug: Shipped | None = None
    parts: tuple[Answered, ...] = ()
    sanitizer: str = ""
    ordinary: OrdinaryInputs = field(default_factory=OrdinaryInputs)

    @property
    def evidence(self) -> Evidence | None:
        """What was tried on a case that ships."""
        return None if self.bug is None else self.bug.evidence


#: Characters of what a script printed.
_PRINTED = 3000


def newest(draft: Draft) -> str:
    """What the newest release does, as far as that is known."""
    releases = draft.bisection.releases if draft.bisection is not None else None
    if releases is not None and releases.newest:
        return f"{releases.newest} {'fails' if releases.newest_verdict == 'bad' else 'does not fail'}"
    if isinstance(draft.bug, Regression):
        release, status = list(draft.bug.status.items())[-1]
        return f"{release} {'fails' if status == 'fails' else 'does not fail'}, as it was recorded"
    return "NOT checked"


def description(draft: Draft) -> Iterator[str]:
    """What is wrong, in sentences made of facts; then what a person wrote of it, and under which settings."""
    case, bug = draft.case, draft.bug
    yield " ".join(sentences(case, draft.result, bug, draft.bisection, draft.parts, draft.sanitizer))
    yield ""
    if bug is not None:
        yield bug.explanation
        yield ""
    yield f"Settings: {_settings(draft)}."
    yield ""
    if draft.parts:
        yield "| back end | what it gives |"
        yield "|---|---|"
        yield from (f"| `{part.name}` | {_cell(part.answer)} |" for part in draft.parts)
        yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _settings(draft: Draft) -> str:
    """Under which the script fails; of defaults only what a user has who writes nothing."""
    setting, needs = draft.case.setting, draft.script.needs
    parts = [setting.mode, *(f"`{name}={value!r}`" for name, value in setting.knobs)]
    if setting.cotangent != "whole":
        parts.append(f"gradients asked for with a cotangent that is {setting.cotangent}")
    if needs:
        parts += [f"`{name}` (without it the script shows nothing)" for name in needs]
    elif needs == () and not setting.knobs:
        parts.append("default settings")
    elif needs is None:
        parts.append("those that the script sets")
    return ", ".join(parts)


def reproduction(draft: Draft) -> Iterator[str]:
    """The script, and what it showed here."""
    yield from _fenced(draft.script.text, "python")
    small = "the smallest that was found" if _minimal(draft) else "NOT minimised"
    shown = "shows it" if draft.script.shows else "does NOT show it"
    yield f"The program is {small}. The script {shown} here ({draft.script.status}); 0 would be no difference."
    if draft.script.form == "model":
        stage = f": in {draft.result.stage}" if draft.result is not None else ""
        yield f"It holds the model that is made of the program. The failure begins behind that{stage}."
    yield ""


def reproduced(draft: Draft) -> Iterator[str]:
    """The same, and what the calls do on ordinary inputs."""
    yield from reproduction(draft)
    yield from ordinary_inputs(draft)


def _minimal(draft: Draft) -> bool:
    return draft.minimised or (draft.evidence is not None and draft.evidence.minimal)


def ordinary_inputs(draft: Draft) -> Iterator[str]:
    """What the same calls do on ordinary inputs, and the script of the widest case."""
    if not draft.ordinary.tried:
        return
    yield "The same calls on ordinary inputs:"
    yield ""
    yield "| inputs | what happens |"
    yield "|---|---|"
    yield from (f"| {_cell(one.what)} | {_cell(one.outcome)} |" for one in draft.ordinary.tried)
    yield ""
    wide = draft.ordinary.wide
    if wide is None or wide.script != "short":
        return
    text = short_form(wide.case, wide.symptom, wide.needs)
    if text is not None:
        yield wide.heading(None if (failing := _failing(draft)) is None else Symptom.seen(failing))
        yield ""
        yield from _fenced(text, "python")


def expected(draft: Draft) -> str:
    """What the reference gives."""
    evidence, reference = _evidence(draft), reference_called(draft.case.program.vocabulary)
    if "expected" not in evidence:
        return f"What {reference} gives."
    said = evidence.get("double") if floating(_failing(draft)) else None
    double = "" if said is None else f" Double precision gives {said}."
    return f"What {reference} gives: {_place(draft)}{evidence['expected']}.{double}"


def actual(draft: Draft) -> Iterator[str]:
    """What was found, and what the script printed."""
    evidence = _evidence(draft)
    if "found" in evidence:
        yield f"{_place(draft)}{evidence['found']}"
        yield ""
    yield from _fenced(_middle_left_out(draft.script.output) or "(nothing was printed)")


def _middle_left_out(text: str) -> str:
    """What a script printed; of a long text the beginning, which names the error, and the end."""
    if len(text) <= _PRINTED:
        return text
    return f"{text[: _PRINTED * 2 // 3]}\n...\n{text[-_PRINTED // 3 :]}"


def _failing(draft: Draft) -> Verdict | None:
    return None if draft.result is None else draft.result.failure


def _evidence(draft: Draft) -> Mapping[str, Any]:
    failing = _failing(draft)
    return {} if failing is None else failing.evidence


def _place(draft: Draft) -> str:
    failing, index = _failing(draft), _evidence(draft).get("index")
    return f"{'' if failing is None else failing.place}{index or ''} = "


def findings(draft: Draft) -> Iterator[str]:
    """What was found out about it: culprit, releases, how a vendor would see it."""
    said = draft.bisection
    recorded = () if draft.evidence is None else draft.evidence.bisection
    culprit = said.culprit if said is not None else None
    if culprit is not None or not recorded:
        yield f"- Culprit: {culprit if culprit is not None else 'not bisected'}"
    else:
        yield from (f"- Bisected: {line}" for line in recorded if line != NO_KNOBS)
    releases = said.releases if said is not None else None
    status = draft.bug.status if isinstance(draft.bug, Regression) else {}
    if releases is not None and releases.first_bad is not None:
        before = f" ({releases.last_good} is good)" if releases.last_good else " (no older one was found to be good)"
        yield f"- First bad release: {releases.first_bad}{before}"
    elif status:
        yield "- Releases: " + ", ".join(f"{release} {word}" for release, word in status.items())
    else:
        yield "- First bad release: not known"
    yield f"- Newest release: {newest(draft)}"
    if draft.owner in ("", "pytorch"):  # whose rules they are
        yield from _rules(draft)
    yield f"- An ordinary program: {ordinary(draft.case)}"
    yield ""


def _rules(draft: Draft) -> Iterator[str]:
    points = None if draft.result is None else draft.result.vendor
    if points is None:
        yield "- Rules for fuzzers' reports: not answered, the case gave no verdict in this process"
        return
    exact = not floating(_failing(draft))
    yield from (f"- Rules for fuzzers' reports: {line}" for line in vendor_lines(points, exact=exact))


def versions(draft: Draft) -> Iterator[str]:
    """What it was tried with."""
    yield from _fenced("\n".join(f"{name} {version}" for name, version in draft.packages.items()) or "not known")
    if draft.environment:
        yield "<details><summary>torch.utils.collect_env</summary>"
        yield ""
        yield from _fenced(draft.environment)
        yield "</details>"
        yield ""
