"""A gate as JUnit XML, which every CI shows: a test for each replayed case and each finding."""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml
from collections.abc import Iterator

from shakeout.fuzz.gate.told import Finding, Outcome
from shakeout.fuzz.ground.exits import Exit

__all__ = ["junit"]

#: What XML 1.0 cannot hold, however it is escaped; a message of a compiler may have anything in it.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

#: Characters of one text: a CI keeps all of them, and nobody reads a longer one.
LONGEST = 20_000


def junit(outcome: Outcome) -> str:
    """The document: what blocks is a failure, what does not is skipped with the reason, a broken side is an error."""
    suite = xml.Element("testsuite", name="shakeout gate", time=str(outcome.seconds.get("all", 0.0)))
    for element in _tests(outcome):
        suite.append(element)
    counts = {kind: len(suite.findall(f"testcase/{kind}")) for kind in ("failure", "error", "skipped")}
    suite.set("tests", str(len(suite.findall("testcase"))))
    for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(counts[kind]))
    properties = xml.Element("properties")
    told = {"seed": outcome.seed, "verdict": outcome.verdict, "base": outcome.base.name, "head": outcome.head.name}
    for name, value in told.items():
        xml.SubElement(properties, "property", name=name, value=_text(str(value)))
    suite.insert(0, properties)
    root = xml.Element(
        "testsuites", {name: suite.get(name, "") for name in ("tests", "failures", "errors", "skipped", "time")}
    )
    root.append(suite)
    xml.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


def _tests(outcome: Outcome) -> Iterator[xml.Element]:
    gate = _test("gate", outcome.status.name.lower())
    if outcome.status not in (Exit.OK, Exit.FOUND):
        xml.SubElement(gate, "error", message=_text(outcome.verdict), type=outcome.status.name.lower())
    yield gate
    told = {one.id: one for one in outcome.findings if one.origin != "fuzz"}
    for replay in outcome.replays:
        if replay.id in told:
            yield _finding(told[replay.id])
            continue
        test = _test(f"replay.{replay.target}", replay.id)
        if replay.state != "passes":
            xml.SubElement(test, "skipped", message=_text(f"{replay.state}: {replay.note}"))
        yield test
    for target, row in outcome.totals.items():
        test = _test(f"fuzz.{target}", "compared")
        xml.SubElement(test, "system-out").text = f"{row.nontrivial} of {row.generated} cases compared"
        yield test
    for finding in outcome.findings:
        if finding.origin == "fuzz":
            yield _finding(finding)
    for refusal in outcome.refusals:
        test = _test(f"unsupported.{refusal.target}", f"{refusal.id} {refusal.reason}")
        text = f"the base takes it, the head declines it: {refusal.reason}\ncase: {refusal.case}"
        _result(test, blocking=refusal.blocking, reason=refusal.reason, text=text)
        yield test


def _finding(one: Finding) -> xml.Element:
    test = _test(f"{one.origin}.{one.target}", f"{one.id} {one.title}")
    if one.file:
        test.set("file", one.file)
        test.set("line", str(one.line))
    text = f"{one.title}\n{one.decision.reason}\n{one.text}\ncase: {one.case}\nscript: {one.script or 'none'}"
    _result(test, blocking=one.decision.blocking, reason=one.decision.reason, text=text)
    return test


def _result(test: xml.Element, *, blocking: bool, reason: str, text: str) -> None:
    if blocking:
        xml.SubElement(test, "failure", message=_text(reason), type="new").text = _text(text)
    else:
        xml.SubElement(test, "skipped", message=_text(reason))
        xml.SubElement(test, "system-out").text = _text(text)


def _test(group: str, name: str) -> xml.Element:
    return xml.Element("testcase", classname=_text(f"shakeout.{group}"), name=_text(name)[:250])


def _text(text: str) -> str:
    return _FORBIDDEN.sub("�", text)[:LONGEST]
