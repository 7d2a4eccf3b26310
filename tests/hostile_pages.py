"""A campaign's directory with something of everything that a page tells, and anything wherever strangers write."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.program import Call, Program, Ref
from shakeout.corpus.rows import Totals
from shakeout.corpus.smallest_cases import SmallestCase
from shakeout.fuzz.ground.divergence import Divergence
from shakeout.fuzz.ground.events import LOG, BugOpened, CaseDone, EventLog, Started
from shakeout.fuzz.ground.results import Result
from shakeout.oracles.extent import extent
from shakeout.oracles.verdict import Outcome, Verdict

#: What somebody who wants a page to do something would write.
HOSTILE = (
    "</script></pre><script>hacked=1</script><img src=http://127.0.0.1:9/x onerror=hacked=1>\"'{{7*7}}\0\ud800\u202e"
)

#: The same as a page shows it, and as it shows what was stored in a column of text.
SHOWN = HOSTILE.replace("\0", "\\x00").replace("\ud800", "\\ud800").replace("\u202e", "\\u202e")
STORED = SHOWN.replace("\\ud800", "")


def made(directory: Path, text: str = "plain") -> Path:
    """A campaign with a wrong value, an exception and a death, and a text wherever strangers may put one."""
    directory.mkdir()
    stored = text.replace("\ud800", "")  # columns of text hold no half pairs; JSON does
    case = capture(
        lambda x, y: torch.cumsum(x.sin() + y, -1),
        lambda: [torch.ones(2, 40), torch.ones(40)],
        setting=Setting("eager"),
    )
    quoted = replace(
        case,
        program=Program(
            case.program.inputs[:1],
            (Call("torch.einsum", (stored, Ref(0)), (), (case.program.inputs[0].type,)),),
            (1,),
        ),
        input_sets=tuple(replace(inputs, views=inputs.views[:1]) for inputs in case.input_sets),
    )
    want = torch.zeros(2, 40)
    got = want.clone()
    got[1, 30:] = torch.arange(1.0, 11.0)
    evidence = {"index": [1, 30], "expected": 0.0, "found": 1.0, "wrong": 10, "total": 80, "where": "a tail"}
    evidence["extent"] = extent(want, got, want != got).to_json()
    wrong = Verdict("value", Outcome.FAIL, "wrong value", "output 0 is off", "output 0", evidence)
    place = next(number for number, call in enumerate(case.program.calls) if "cumsum" in call.operator)
    value = Result(case.id, "eager", "compared", (wrong,), divergence=Divergence(place, "torch.cumsum", text, 3))
    raised = Verdict("exception", Outcome.FAIL, f"Error{text}", f"{text}\n{'x' * 100_000}", text)
    died = Verdict("crash", Outcome.FAIL, "SIGSEGV", text, evidence={"call": text, "output": text})
    with Database.create(directory / NAME) as database, database.transaction():
        database.set_meta(spent=12.0, programs={stored: 1}, settings={stored: 2}, related={stored: 1})
        for target in ("eager", stored):
            compared = Totals(generated=3, valid=3, executed=2, compared=2, nontrivial=2, unsupported=1)
            database.add(target, compared, operators=["torch.sin", stored], phases={"run": 2.0}, reason=stored)
            database.add(target, Totals(generated=1, unsupported=1), status="unsupported", reason=stored)
            database.add(target, Totals(), status="note", reason=stored)
        found = {}
        for name, one, result, oracle in (
            ("value", case, value, "value"),
            ("raised", quoted, Result(quoted.id, "eager", "failed", (raised,)), "exception"),
            ("died", None, Result("", "eager", "failed", (died,)), "crash"),
        ):
            bug, number = database.add_finding(
                signature=name,
                title=stored,
                target="eager",
                oracle=oracle,
                symptom=stored,
                job=7,
                case_id=name,
                case_json="" if one is None else one.text,
                result=result.to_json(),
            )
            assert number is not None
            database.judge(number, state="confirmed", k=3, n=3)
            found[name] = bug.id
        database.set_smallest(SmallestCase(found["value"], "complete", case.text, value.to_json(), tries=12))
        database.decide(found["raised"], "open", note=stored)
        database.add_replay(found["raised"], "still failing", note=stored, versions={})
    with EventLog(directory / LOG) as log:
        log(Started(str(directory), ("eager",), 2, 60.0, None, 0))
        for target in ("eager", text):
            log(CaseDone(1, target, "compared", "pass", 0.1, 2, True, False, 0))
        log(BugOpened(found["value"], text, "eager", text, "value", 2))
    # A second of work, whenever this is run.
    lines = (directory / LOG).read_text().splitlines()
    began = 1_700_000_000
    moved = (re.sub(r'"time":[\d.]+', f'"time":{began + number}', line, count=1) for number, line in enumerate(lines))
    (directory / LOG).write_text("\n".join(moved) + "\n")
    return directory


def ids(directory: Path) -> dict[str, str]:
    with Database.read(directory / NAME) as database:
        return {bug.signature: bug.id for bug in database.bugs()}
