"""A gate as SARIF 2.1.0, for code scanning: a result for each finding, with its signature as fingerprint."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from shakeout.fuzz.gate.told import Finding, Outcome, Refusal
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.versions import version

__all__ = ["sarif"]

_SCHEMA = "https://raw.githubusercontent.com/oasis-tcs/sarif-spec/main/sarif-2.1/schema/sarif-schema-2.1.0.json"

#: Limits of GitHub's code scanning: results of one run that are shown, characters of a rule's texts, tags of a rule.
MOST_RESULTS = 5000
LONGEST_TEXT = 1024

#: Characters of a fingerprint that says the signature in words; the one that is compared is a hash.
LONGEST_FINGERPRINT = 200

_RULES = {
    "new-bug": ("error", "A case fails on the head in every run, and on the base in none."),
    "noted": (
        "note",
        "A case fails on the head and does not block: the base has it too, it is flaky, or it cannot be decided.",
    ),
    "newly-unsupported": ("warning", "The head declines a case that the base takes."),
}


def sarif(outcome: Outcome, folder: str = "shakeout-gate") -> str:
    """The document.

    Args:
        outcome: of the gate.
        folder: of the gate, to which a finding points whose source is not in the repository: code scanning shows no
            result without a place.
    """
    results = [_finding(one, folder) for one in outcome.findings] + [_refusal(one, folder) for one in outcome.refusals]
    names = list(_RULES)
    for result in results:
        result["ruleIndex"] = names.index(result["ruleId"])
    run = {
        "tool": {
            "driver": {
                "name": "shakeout",
                "version": version("shakeout") or "0",
                "rules": [
                    {
                        "id": name,
                        "name": "".join(word.capitalize() for word in name.split("-")),
                        "shortDescription": {"text": text[:LONGEST_TEXT]},
                        "fullDescription": {"text": text[:LONGEST_TEXT]},
                        "help": {"text": "Run the script of the finding, or: shakeout replay CASE"},
                        "defaultConfiguration": {"level": level},
                        "properties": {"tags": ["correctness"], "precision": "very-high"},
                    }
                    for name, (level, text) in _RULES.items()
                ],
            }
        },
        "automationDetails": {"id": "shakeout-gate/"},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": outcome.status in (Exit.OK, Exit.FOUND),
                "exitCode": int(outcome.status),
                "exitCodeDescription": outcome.verdict[:LONGEST_TEXT],
            }
        ],
        # Those that block stand first, so none of them is left out.
        "results": results[:MOST_RESULTS],
        "properties": {"seed": outcome.seed, "base": outcome.base.name, "head": outcome.head.name},
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _finding(one: Finding, folder: str) -> dict[str, Any]:
    rule = "new-bug" if one.decision.blocking else "noted"
    text = f"{one.title}\n{one.decision.reason}\n\n{one.text}\n\ncase: {one.case}"
    place, line = (one.file, one.line) if one.file else (f"{folder}/{one.script or one.case}", 1)
    return _result(rule, text, place, line, one.signature or f"{one.target} | {one.id}")


def _refusal(one: Refusal, folder: str) -> dict[str, Any]:
    text = f"{one.target} declines a case that the base takes: {one.reason}\ncase: {one.case}"
    operators = ", ".join(sorted(set(one.operators)))
    place, line = (one.file, one.line) if one.file else (f"{folder}/{one.case}", 1)
    found = _result("newly-unsupported", text, place, line, f"{one.target} | unsupported | {operators}")
    return {**found, "level": "error"} if one.blocking else found


def _result(rule: str, text: str, place: str, line: int, signature: str) -> dict[str, Any]:
    return {
        "ruleId": rule,
        "level": _RULES[rule][0],
        "message": {"text": text[:20_000]},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": place.replace(" ", "%20"), "uriBaseId": "%SRCROOT%"},
                    "region": {"startLine": line},
                }
            }
        ],
        # GitHub compares the first alone; it has the form that its own tools give it.
        "partialFingerprints": {
            "primaryLocationLineHash": f"{hashlib.sha256(signature.encode()).hexdigest()[:16]}:1",
            "shakeoutSignature/v1": signature[:LONGEST_FINGERPRINT],
        },
    }
