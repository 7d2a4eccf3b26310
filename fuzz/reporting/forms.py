"""A report as the project's own form asks for it; nothing in here runs anything."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping

from shakeout.corpus.regressions import Regression
from shakeout.fuzz.reporting.draft import (
    Draft,
    actual,
    description,
    expected,
    findings,
    newest,
    ordinary_inputs,
    reproduced,
    reproduction,
    versions,
)
from shakeout.fuzz.reporting.formats import FORMATS, Format
from shakeout.targets.registry import facts_of

__all__ = ["written"]

#: How a form begins the titles of reports.
_TITLED: Mapping[Format, str] = {"tvm": "[Bug] ", "openvino": "[Bug]: "}

#: What a project asks of reports like this one, for whoever files it, as its form says it.
_POLICIES: Mapping[str, tuple[str, ...]] = {
    "pytorch": (
        "PyTorch closes what breaks its contribution guide or its policy on AI-assisted development: understand it,",
        "write the report in your own words, and answer for it. What a fuzzer found gets the label `topic: fuzzer`.",
    ),
}

#: What its form for torch.compile asks for beside that.
_TLPARSE = "Attach what `tlparse` makes of a run with TORCH_TRACE=/tmp/trace (pip install tlparse; tlparse /tmp/trace)."

#: The same of all others, whose forms say nothing of it.
_POLICY = ("Read what the project says of generated reports before you file it.",)


def written(draft: Draft, form: Format) -> str:
    """The report in Markdown, with the headings of a project's form."""
    return "\n".join([*_head(draft, form), *_FORMS[form](draft)]).rstrip() + "\n"


def _head(draft: Draft, form: Format) -> Iterator[str]:
    yield "<!--"
    if draft.objections:
        yield "DRAFT, NOT FOR FILING. The project's own rules would close it:"
        yield from (f"  - {_unended(objection)}" for objection in draft.objections)
    yield "Read this before you file it: run the script, check that the expected values are right, and search for"
    yield f"an open report of the same thing. {_found(draft)}"
    if draft.owner and draft.owner not in FORMATS:
        yield f"It is for {_unended(draft.owner)}, whose form Shakeout does not know."
    yield f"Checked on the newest release: {newest(draft)}"
    yield f"Searched for: {_unended(_searched(draft))}"
    yield from _POLICIES.get(draft.owner, _POLICY)
    if draft.owner == "pytorch" and facts_of(draft.case.setting.target).owner == "pytorch":
        yield _TLPARSE
    yield "-->"
    yield ""
    yield f"# {'[DRAFT] ' if draft.objections else ''}{_TITLED.get(form, '')}{draft.title}"
    yield ""


def _found(draft: Draft) -> str:
    if draft.brought:
        return f"A person brought it ({_unended(draft.brought)}); Shakeout, a fuzzer, files nothing by itself."
    return "It was found by a fuzzer, Shakeout, which files nothing by itself."


def _unended(text: str) -> str:
    """Text that does not end a comment."""
    return text.replace("-->", "-- >")


def _searched(draft: Draft) -> str:
    bug = draft.bug
    if bug is not None and bug.reference:
        return f"it is public already: {bug.reference}"
    if isinstance(bug, Regression) and bug.searched:
        return f"no report of it was found on {bug.searched}; look again"
    return "not by Shakeout"


def _section(title: str, lines: Iterator[str] | list[str]) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    yield from lines
    yield ""


def _pytorch(draft: Draft) -> Iterator[str]:
    def described() -> Iterator[str]:
        yield from description(draft)
        yield from reproduction(draft)
        yield f"Expected: {expected(draft)}"
        yield ""
        yield from ordinary_inputs(draft)
        yield from findings(draft)

    yield from _section("🐛 Describe the bug", described())
    yield from _section("Error logs", actual(draft))
    yield from _section("Versions", versions(draft))


def _tvm(draft: Draft) -> Iterator[str]:
    yield from _section("Expected behavior", [*description(draft), expected(draft)])
    yield from _section("Actual behavior", actual(draft))
    yield from _section("Environment", [f"{platform.platform()}, Python {platform.python_version()}", *versions(draft)])
    yield from _section("Steps to reproduce", reproduced(draft))
    imports = draft.result is not None and draft.result.stage == "from_exported_program"
    yield from _section("Triage", ["* needs-triage", "* type: bug", *["* frontend:pytorch"] * imports])
    yield from _section("What is known", findings(draft))


#: What ONNX Runtime's form calls platforms and processors.
_PLATFORMS = {"Darwin": "Mac"}
_PROCESSORS = {"x86_64": "X64", "amd64": "X64", "aarch64": "ARM64", "arm64": "ARM64"}


def _onnxruntime(draft: Draft) -> Iterator[str]:
    yield from _section("Describe the issue", [*description(draft), expected(draft), "", *actual(draft)])
    yield from _section("To reproduce", reproduced(draft))
    yield from _section("Urgency", ["None is known." if draft.brought else "None is known; it was found by a fuzzer."])
    yield from _section("Platform", [_PLATFORMS.get(platform.system(), platform.system())])
    yield from _section("OS Version", [platform.platform()])
    yield from _section("ONNX Runtime Installation", ["Released Package"])
    yield from _section("ONNX Runtime Version or Commit ID", [draft.packages.get("onnxruntime", "not known")])
    yield from _section("ONNX Runtime API", ["Python"])
    yield from _section("Architecture", [_PROCESSORS.get(platform.machine().lower(), platform.machine())])
    yield from _section("Execution Provider", ["Default CPU"])
    yield from _section("What is known", [*findings(draft), *versions(draft)])


def _openvino(draft: Draft) -> Iterator[str]:
    yield from _section("OpenVINO Version", [draft.packages.get("openvino", "not known")])
    yield from _section("Operating System", [platform.platform()])
    yield from _section("Device used for inference", ["CPU"])
    yield from _section("Framework", ["PyTorch"])
    yield from _section("Model used", ["The few operators of the script below."])
    yield from _section("Issue description", [*description(draft), expected(draft), "", *findings(draft)])
    yield from _section("Step-by-step reproduction", reproduced(draft))
    yield from _section("Relevant log output", [*actual(draft), *versions(draft)])
    # What a person answers for stays open.
    reproducer = f"- [{'x' if draft.script.shows else ' '}] There is reproducer code and related data files"
    looked = "- [ ] I checked the problem with the documentation, FAQ, open issues, Stack Overflow, etc."
    yield from _section(
        "Issue submission checklist", ["- [ ] I report the issue. It's not a question", looked, reproducer]
    )


def _markdown(draft: Draft) -> Iterator[str]:
    yield from description(draft)
    yield from _section("Script", reproduced(draft))
    yield from _section("Expected", [expected(draft)])
    yield from _section("Actual", actual(draft))
    yield from _section("What is known", findings(draft))
    yield from _section("Versions", versions(draft))


_FORMS: dict[Format, Callable[[Draft], Iterator[str]]] = {
    "pytorch": _pytorch,
    "tvm": _tvm,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "markdown": _markdown,
}
