"""The cases that ship, looked at once more: how small does each get, what is to blame, which script shows it alone?

``python -m shakeout.fuzz.reporting.shipped [ID ...]`` writes the answers, and a smaller case where it finds one, into
the files of ``corpus/data``, from which ``shakeout.fuzz.reporting.pages`` makes the pages. Cases that have answers
already are left out unless they are named. A person reads the smaller case before it is kept: it fails alike, but a
report in words may speak of more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from shakeout.corpus import codec, known, regressions
from shakeout.corpus.case import Case
from shakeout.corpus.evidence import Evidence
from shakeout.corpus.files import write_whole
from shakeout.corpus.known import KnownBug
from shakeout.corpus.regressions import Regression
from shakeout.corpus.symptom import Symptom
from shakeout.fuzz.bisect import trials
from shakeout.fuzz.bisect.ablation import Ablation
from shakeout.fuzz.bisect.facts import Culprit, Cures, Fact, Knobs
from shakeout.fuzz.bisect.ladders import bisected
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.minimise import executors
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.fuzz.minimise.search import Budget, Minimised, minimise
from shakeout.fuzz.reporting.exported import export
from shakeout.fuzz.reporting.ordinary_inputs import asked, form_told
from shakeout.fuzz.workers.worker_kind import WorkerKind
from shakeout.targets.accelerators import missing
from shakeout.targets.registry import facts_of, target

__all__ = ["looked_at", "main", "write"]

BUDGET = Budget(seconds=300, tries=2000)

Bug = KnownBug | Regression


def files() -> Iterator[tuple[Path, Bug]]:
    """Every case that ships, and its file."""
    yield from ((known.DIRECTORY / f"{bug.id}.json", bug) for bug in known.load_all())
    yield from ((regressions.DIRECTORY / f"{bug.id}.json", bug) for bug in regressions.load_all())


def looked_at(
    case: Case, candidates: executors.CandidatePool, parts: trials.TrialPool, width: int = 1
) -> tuple[Case, Evidence]:
    """Minimise, bisect and export one case: the smallest one that fails alike, and what was found out about it.

    Args:
        case: that fails here.
        candidates: runs what a search for a smaller case tries.
        parts: runs the case with something of its target left out.
        width: candidates at a time.

    Raises:
        NotReproduced: it does not fail here.
    """
    found = minimise(case, candidates, budget=BUDGET, width=width)
    facts = [fact for fact in bisected(Ablation(found.case, parts)) if _told(fact)]
    versions = describe()["packages"]
    compiler = () if found.case.setting.device == "cpu" else ("triton",)
    names = dict.fromkeys(("torch", *compiler, *facts_of(case.setting.target).packages))
    evidence = Evidence(
        packages={name: versions[name] for name in names if name in versions},
        reliability=str(found.reliability),
        minimal=found.complete,
        script="none",
        bisection=tuple(str(fact) for fact in facts),
    )
    return found.case, shown(found.case, _symptom(found), found.failure, evidence, candidates)


def shown(
    case: Case, symptom: Symptom, failure: Failure, evidence: Evidence, candidates: executors.CandidatePool
) -> Evidence:
    """The evidence with what readers are shown: the script, what it needs, and how wide the failure is.

    Args:
        case: the smallest one.
        symptom: of it.
        failure: why it fails.
        evidence: all else that is known.
        candidates: runs the same calls on other inputs.
    """
    exported = export(case, symptom=symptom)
    found = asked(case, failure, candidates)
    return replace(evidence, script=form_told(exported), needs=exported.needs, tried=found.tried, wide=found.wide)


def _symptom(found: Minimised) -> Symptom:
    """What the smallest case shows."""
    failing = None if found.outcome.result is None else found.outcome.result.failure
    if failing is not None:
        return Symptom.seen(failing)
    return Symptom(found.failure.oracle, found.failure.symptom)


def _lacks(bug: Bug, shown: bool) -> bool:
    """Whether a case has no evidence, or, of one that has some, none of what readers are shown."""
    return bug.evidence is None or (shown and bug.evidence.needs is None and not bug.evidence.tried)


def _kind(one: tuple[Path, Bug]) -> tuple[str, WorkerKind]:
    """Where a case runs: its target, and the kind of its workers."""
    return one[1].case.setting.target, WorkerKind.of(one[1].case.setting)


def _told(fact: Fact) -> bool:
    """Whether a fact is worth a line on a page; the rungs are told by the culprit."""
    return isinstance(fact, Culprit | Knobs) or (isinstance(fact, Cures) and bool(fact.found))


def write(path: Path, case: Case, evidence: Evidence) -> None:
    """Put a case and the evidence about it into its file; the case stays last."""
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["case"]
    data |= {"evidence": evidence.to_json(), "case": codec.to_json(case)}
    write_whole(path, json.dumps(data, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None, tell: Callable[[str], None] = print) -> int:
    """Look at what has no evidence yet, or at what is named; the exit status."""
    parser = argparse.ArgumentParser(prog="shipped", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--shown", action="store_true", help="only what readers are shown: scripts, ordinary inputs")
    parser.add_argument("--workers", type=int, default=Config().workers, metavar="N", help="candidates at a time")
    options = parser.parse_args(arguments)
    ids, workers = set(options.ids), options.workers
    every = list(files())
    if unknown := ids - {bug.id for _, bug in every}:
        print(f"no case of this name ships: {', '.join(sorted(unknown))}", file=sys.stderr)
        return Exit.USAGE
    wanted = [(path, bug) for path, bug in every if (bug.id in ids if ids else _lacks(bug, options.shown))]
    wanted.sort(key=_kind)
    for (name, kind), group in itertools.groupby(wanted, _kind):
        if lacking := missing(kind.device) or target(name).unavailable():
            tell(f"{name} ({kind.device}): {lacking}")
            continue
        bugs = list(group)
        setting = bugs[0][1].case.setting
        with (
            tempfile.TemporaryDirectory(prefix="shakeout-") as scratch,
            executors.CandidatePool(Path(scratch) / "candidates", setting, workers) as candidates,
            trials.TrialPool(Path(scratch) / "parts", setting, workers) as parts,
        ):
            for path, bug in bugs:
                try:
                    if options.shown and bug.evidence is not None and bug.symptom is not None:
                        failure = Failure(name, **{"culprit": "", **bug.failure})
                        case, evidence = bug.case, shown(bug.case, bug.symptom, failure, bug.evidence, candidates)
                    else:
                        case, evidence = looked_at(bug.case, candidates, parts, workers)
                except NotReproduced as error:
                    tell(f"{bug.id}: {error}")
                    continue
                write(path, case, evidence)
                smaller = "" if case.id == bug.case.id else "a smaller case, to be read; "
                tell(f"{bug.id}: {smaller}{json.dumps(evidence.to_json())}")
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
