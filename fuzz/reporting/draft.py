"""A report as the project's own form asks for it, from what is known of a bug; nothing in here runs anything."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
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
from shakeout.fuzz.reporting.formats import FORMATS, Format
from shakeout.fuzz.reporting.ordinary_inputs import OrdinaryInputs
from shakeout.fuzz.reporting.plain import floating, ordinary, vendor_lines
from shakeout.fuzz.reporting.told import Answered, Shipped, sentences
from shakeout.oracles.verdict import Verdict
from shakeout.targets.registry import reference_called

__all__ = ["NO_KNOBS", "Draft", "written"]

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


def written(draft: Draft, form: Format) -> str:
    """The report in Markdown, with the headings of a project's form."""
    return "\n".join([*_head(draft), *_FORMS[form](draft)]).rstrip() + "\n"


def _head(draft: Draft) -> Iterator[str]:
    yield "<!--"
    if draft.objections:
        yield "DRAFT, NOT FOR FILING. The project's own rules would close it:"
        yield from (f"  - {_unended(objection)}" for objection in draft.objections)
    yield "Read this before you file it: run the script, check that the expected values are right, and search for"
    yield f"an open report of the same thing. {_found(draft)}"
    if draft.owner and draft.owner not in FORMATS:
        yield f"It is for {_unended(draft.owner)}, whose form Shakeout does not know."
    yield f"Checked on the newest release: {_newest(draft)}"
    yield f"Searched for: {_unended(_searched(draft))}"
    yield from _POLICIES.get(draft.owner, _POLICY)
    yield "-->"
    yield ""
    yield f"# {'[DRAFT] ' if draft.objections else ''}{_TITLED.get(draft.owner, '')}{draft.title}"
    yield ""


def _found(draft: Draft) -> str:
    if draft.brought:
        return f"A person brought it ({_unended(draft.brought)}); Shakeout, a fuzzer, files nothing by itself."
    return "It was found by a fuzzer, Shakeout, which files nothing by itself."


def _unended(text: str) -> str:
    """Text that does not end a comment."""
    return text.replace("-->", "-- >")


#: Characters of what a script printed.
_PRINTED = 3000

#: How the titles of a project's reports begin, as its form fills them in.
_TITLED: Mapping[str, str] = {"tvm": "[Bug] ", "openvino": "[Bug]: "}

#: What a project asks of reports like this one, for whoever files it, as its form says it.
_POLICIES: Mapping[str, tuple[str, ...]] = {
    "pytorch": (
        "PyTorch closes what breaks its contribution guide or its policy on AI-assisted development: understand it,",
        "write the report in your own words, and answer for it. What a fuzzer found gets the label `topic: fuzzer`.",
        "Attach what `tlparse` makes of a run with TORCH_TRACE=/tmp/trace (pip install tlparse; tlparse /tmp/trace).",
    ),
}

#: The same of all others, whose forms say nothing of it.
_POLICY = ("Read what the project says of generated reports before you file it.",)


def _newest(draft: Draft) -> str:
    releases = draft.bisection.releases if draft.bisection is not None else None
    if releases is not None and releases.newest:
        return f"{releases.newest} {'fails' if releases.newest_verdict == 'bad' else 'does not fail'}"
    if isinstance(draft.bug, Regression):
        release, status = list(draft.bug.status.items())[-1]
        return f"{release} {'fails' if status == 'fails' else 'does not fail'}, as it was recorded"
    return "NOT checked"


def _searched(draft: Draft) -> str:
    bug = draft.bug
    if bug is not None and bug.reference:
        return f"it is public already: {bug.reference}"
    if isinstance(bug, Regression) and bug.searched:
        return f"no report of it was found on {bug.searched}; look again"
    return "not by Shakeout"


# --- parts ------------------------------------------------------------------------------------------------------------


def _description(draft: Draft) -> Iterator[str]:
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


def _reproduction(draft: Draft) -> Iterator[str]:
    yield from _fenced(draft.script.text, "python")
    small = "the smallest that was found" if _minimal(draft) else "NOT minimised"
    shown = "shows it" if draft.script.shows else "does NOT show it"
    yield f"The program is {small}. The script {shown} here ({draft.script.status}); 0 would be no difference."
    if draft.script.form == "model":
        stage = f": in {draft.result.stage}" if draft.result is not None else ""
        yield f"It holds the model that is made of the program. The failure begins behind that{stage}."
    yield ""


def _reproduced(draft: Draft) -> Iterator[str]:
    yield from _reproduction(draft)
    yield from _ordinary_inputs(draft)


def _minimal(draft: Draft) -> bool:
    return draft.minimised or (draft.evidence is not None and draft.evidence.minimal)


def _ordinary_inputs(draft: Draft) -> Iterator[str]:
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


def _expected(draft: Draft) -> str:
    evidence, reference = _evidence(draft), reference_called(draft.case.program.vocabulary)
    if "expected" not in evidence:
        return f"What {reference} gives."
    said = evidence.get("double") if floating(_failing(draft)) else None
    double = "" if said is None else f" Double precision gives {said}."
    return f"What {reference} gives: {_place(draft)}{evidence['expected']}.{double}"


def _actual(draft: Draft) -> Iterator[str]:
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
    return f"{'' if failing is None else failing.place}{'' if index is None else index} = "


def _findings(draft: Draft) -> Iterator[str]:
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
    yield f"- Newest release: {_newest(draft)}"
    points = None if draft.result is None else draft.result.vendor
    if points is not None:
        exact = not floating(_failing(draft))
        yield from (f"- Rules for fuzzers' reports: {line}" for line in vendor_lines(points, exact=exact))
    else:
        yield "- Rules for fuzzers' reports: not answered, the case gave no verdict in this process"
    yield f"- An ordinary program: {ordinary(draft.case)}"
    yield ""


def _versions(draft: Draft) -> Iterator[str]:
    yield from _fenced("\n".join(f"{name} {version}" for name, version in draft.packages.items()) or "not known")
    if draft.environment:
        yield "<details><summary>torch.utils.collect_env</summary>"
        yield ""
        yield from _fenced(draft.environment)
        yield "</details>"
        yield ""


def _section(title: str, lines: Iterator[str] | list[str]) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    yield from lines
    yield ""


# --- forms ------------------------------------------------------------------------------------------------------------


def _pytorch(draft: Draft) -> Iterator[str]:
    def described() -> Iterator[str]:
        yield from _description(draft)
        yield from _reproduction(draft)
        yield f"Expected: {_expected(draft)}"
        yield ""
        yield from _ordinary_inputs(draft)
        yield from _findings(draft)

    yield from _section("🐛 Describe the bug", described())
    yield from _section("Error logs", _actual(draft))
    yield from _section("Versions", _versions(draft))


def _tvm(draft: Draft) -> Iterator[str]:
    yield from _section("Expected behavior", [*_description(draft), _expected(draft)])
    yield from _section("Actual behavior", _actual(draft))
    yield from _section(
        "Environment", [f"{platform.platform()}, Python {platform.python_version()}", *_versions(draft)]
    )
    yield from _section("Steps to reproduce", _reproduced(draft))
    imports = draft.result is not None and draft.result.stage == "from_exported_program"
    yield from _section("Triage", ["* needs-triage", "* type: bug", *["* frontend:pytorch"] * imports])
    yield from _section("What is known", _findings(draft))


#: What ONNX Runtime's form calls platforms and processors.
_PLATFORMS = {"Darwin": "Mac"}
_PROCESSORS = {"x86_64": "X64", "amd64": "X64", "aarch64": "ARM64", "arm64": "ARM64"}


def _onnxruntime(draft: Draft) -> Iterator[str]:
    yield from _section("Describe the issue", [*_description(draft), _expected(draft), "", *_actual(draft)])
    yield from _section("To reproduce", _reproduced(draft))
    yield from _section("Urgency", ["None is known." if draft.brought else "None is known; it was found by a fuzzer."])
    yield from _section("Platform", [_PLATFORMS.get(platform.system(), platform.system())])
    yield from _section("OS Version", [platform.platform()])
    yield from _section("ONNX Runtime Installation", ["Released Package"])
    yield from _section("ONNX Runtime Version or Commit ID", [draft.packages.get("onnxruntime", "not known")])
    yield from _section("ONNX Runtime API", ["Python"])
    yield from _section("Architecture", [_PROCESSORS.get(platform.machine().lower(), platform.machine())])
    yield from _section("Execution Provider", ["Default CPU"])
    yield from _section("What is known", [*_findings(draft), *_versions(draft)])


def _openvino(draft: Draft) -> Iterator[str]:
    yield from _section("OpenVINO Version", [draft.packages.get("openvino", "not known")])
    yield from _section("Operating System", [platform.platform()])
    yield from _section("Device used for inference", ["CPU"])
    yield from _section("Framework", ["PyTorch"])
    yield from _section("Model used", ["The few operators of the script below."])
    yield from _section("Issue description", [*_description(draft), _expected(draft), "", *_findings(draft)])
    yield from _section("Step-by-step reproduction", _reproduced(draft))
    yield from _section("Relevant log output", [*_actual(draft), *_versions(draft)])
    # What a person answers for stays open.
    reproducer = f"- [{'x' if draft.script.shows else ' '}] There is reproducer code and related data files"
    looked = "- [ ] I checked the problem with the documentation, FAQ, open issues, Stack Overflow, etc."
    yield from _section(
        "Issue submission checklist", ["- [ ] I report the issue. It's not a question", looked, reproducer]
    )


def _markdown(draft: Draft) -> Iterator[str]:
    yield from _description(draft)
    yield from _section("Script", _reproduced(draft))
    yield from _section("Expected", [_expected(draft)])
    yield from _section("Actual", _actual(draft))
    yield from _section("What is known", _findings(draft))
    yield from _section("Versions", _versions(draft))


_FORMS: dict[Format, Callable[[Draft], Iterator[str]]] = {
    "pytorch": _pytorch,
    "tvm": _tvm,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "markdown": _markdown,
}
