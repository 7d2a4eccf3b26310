"""The gate: the regression corpus, a short fuzz of the head, and for what fails there as many runs on head and base."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shakeout.corpus.database import NAME, Database
from shakeout.corpus.vocabularies.table import matching
from shakeout.fuzz.gate import cases, unsupported
from shakeout.fuzz.gate.asked import Asked
from shakeout.fuzz.gate.budget import Budget
from shakeout.fuzz.gate.cases import Candidate
from shakeout.fuzz.gate.deciding import Deciding
from shakeout.fuzz.gate.declared import touched
from shakeout.fuzz.gate.pair import Pair
from shakeout.fuzz.gate.record import Record
from shakeout.fuzz.gate.repository import repository, seed_of
from shakeout.fuzz.gate.sending import Done, Failed, Interrupted
from shakeout.fuzz.gate.sides import Broken, sides
from shakeout.fuzz.gate.told import Outcome, Replay, SideTold
from shakeout.fuzz.gate.trials import Runs
from shakeout.fuzz.gate.verdict import verdict
from shakeout.fuzz.ground.exits import Exit

__all__ = ["CAMPAIGN", "Gate"]

#: The campaign's directory, in the gate's folder.
CAMPAIGN = "campaign"

#: Seconds in which the samples of a torch that was never fuzzed here are collected: a minute or two on two cores that
#: have nothing else to do.
COLLECTING = 900.0


class Gate:
    """One run of the gate.

    Args:
        asked: what it is asked to do.
        say: told in words what it does.
        hear: told each event of what runs in the environments, as JSON values.
        stop: asked now and then whether to give up.
    """

    def __init__(
        self,
        asked: Asked,
        say: Callable[[str], None] = lambda text: None,
        hear: Callable[[Mapping[str, Any]], None] = lambda event: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._asked = asked
        self._say = say
        self._hear = hear
        self._stop = stop
        self._repository = repository(Path.cwd())
        self._corpus: dict[Path, list[Candidate]] = {}
        self._budget = Budget(asked.budget, time.monotonic())
        self._record = Record(
            SideTold("base", asked.base, ""), SideTold("head", asked.head or "", ""), self._budget.began
        )

    def run(self) -> Outcome:
        """Everything, in order; what went wrong with an environment is an outcome too.

        Raises:
            NotASide: base or head is no environment, and base nothing that git knows.
            MalformedCase: a file of the corpus holds no case.
            OSError: the folder cannot be written.
        """
        asked, record = self._asked, self._record
        scratch = asked.folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        self._corpus = cases.in_folders(asked.corpus)
        root = None if self._repository is None else self._repository.root
        try:
            with sides(asked.base, asked.head, self._repository, scratch / "base", asked.folders) as (base, head):
                pair = Pair(base, head, asked.targets, scratch, asked.workers, asked.memory, self._hear, self._stop)
                pair.root = root
                try:
                    self._look(pair)
                    self._budget = replace(self._budget, starting=record.seconds["environments"])
                    self._collect(pair)
                    self._compare(pair)
                finally:
                    record.base, record.head = pair.told(base), pair.told(head)
        except Interrupted:
            return record.outcome(Exit.INTERRUPTED, "interrupted")
        except Broken as error:
            return record.outcome(Exit.INFRASTRUCTURE, str(error))
        except Failed as error:
            return record.outcome(error.status, str(error))
        return record.outcome(*verdict(asked, record, self._corpus))

    def _look(self, pair: Pair) -> None:
        """What is installed and how each target stands; and with that the seed."""
        asked, record, repo = self._asked, self._record, self._repository
        for side in (pair.head, pair.base):
            self._say(f"{side.role:<8} {side.name}, {side.python}")
        with record.timed("environments"):
            further = [one.case.setting.target for found in self._corpus.values() for one in found]
            pair.look(self._budget.last, further)
        record.notes += [f"{name} is new: the base has none" for name in asked.targets if pair.absent(name)]
        if asked.seed is not None:
            record.seed = asked.seed
        else:
            versions = sorted(pair.told(pair.head).versions.items())
            record.seed = seed_of(str(versions)) if repo is None else repo.seed
        if repo is not None and pair.head.front:
            if repo.changed:
                record.notes.append("the head holds what is not committed; the seed is that of its last commit")
            changed = repo.files_since(pair.base.commit)
            record.changed = touched(asked.targets, pair.head.front, repo.root, changed)
            if record.changed and len(record.changed) < len(asked.targets):
                self._say(f"changed  {', '.join(record.changed)}")

    def _collect(self, pair: Pair) -> None:
        """What programs are grown of, once for each version of torch; the budget is not for that."""
        if pair.about["head"]["samples"]:
            return
        torch = pair.about["head"]["versions"].get("torch", "")
        self._say(f"samples  of the operators of torch {torch}, once; the budget waits for them")
        began = time.monotonic()
        with self._record.timed("samples"):
            kept = pair.collect(began + COLLECTING)
        took = time.monotonic() - began
        self._budget = replace(self._budget, began=self._budget.began + took)
        self._record.notes.append(
            f"the samples of torch {torch}'s operators were collected in {took:.0f} s, which the budget is not for; "
            + (
                "a SHAKEOUT_CACHE that is kept between jobs spares them"
                if kept
                else "they could not be kept, and the campaign collects them again: let SHAKEOUT_CACHE be a directory "
                "that can be written"
            )
        )

    def _compare(self, pair: Pair) -> None:
        failing, stored = self._replayed(pair)
        # The base takes as long for those that fail as the head did.
        ran = sum(one.state != "not run" for one in self._record.replays)
        owed = self._record.seconds.get("replay", 0.0) * len(failing) / max(ran, 1)
        found, others, refused = self._fuzzed(pair, owed)
        with self._record.timed("deciding"):
            deciding = Deciding(self._asked, self._budget, pair, self._record, self._say)
            deciding.everything([*failing, *found], others, [*stored, *refused])

    # --- the regression corpus --------------------------------------------------------------------------------------

    def _replayed(self, pair: Pair) -> tuple[list[Candidate], list[unsupported.Declined]]:
        """The regression corpus on the head: what fails there, and what is declined."""
        asked, record = self._asked, self._record
        own = [one for found in self._corpus.values() for one in found]
        seen = {one.case.id for one in own}
        ships = cases.shipped(asked.targets, asked.device) if asked.shipped else []
        ships = [one for one in ships if one.case.id not in seen]
        candidates = [*own, *ships]
        if not candidates:
            return [], []
        with record.timed("replay"):
            count = f"{len(candidates)} case{'' if len(candidates) == 1 else 's'}"
            self._say(f"replay   {count} of the regression corpus on the head")
            # A corpus that somebody named is what the gate is for: it may take the whole budget.
            ran = pair.once(pair.head, candidates, self._budget.end if own else self._budget.shipped)
        failing: list[Candidate] = []
        refused: list[unsupported.Declined] = []
        for one in candidates:
            runs = ran.get(one.id)
            record.replays.append(_replay(one, runs))
            if runs is None:
                continue
            if runs.failure is not None:
                failing.append(replace(one, failure=runs.failure))
            elif runs.runs and runs.runs[0].result.status == "unsupported":
                # Somebody keeps this very case: it is a reason of its own.
                refused.append(unsupported.Declined(one, runs.runs[0].reason[:300], 1, one.case.id))
        if late := sum(one.id not in ran for one in ships):
            record.notes.append(f"{late} of {len(ships)} cases that ship with Shakeout were not replayed: no time")
        return failing, refused

    # --- a campaign -------------------------------------------------------------------------------------------------

    def _fuzzed(
        self, pair: Pair, owed: float = 0.0
    ) -> tuple[list[Candidate], list[Candidate], list[unsupported.Declined]]:
        """A campaign on the head: its bugs, further findings of them, what it declined.

        Args:
            pair: the sides.
            owed: seconds that deciding about stored cases will take.
        """
        asked, record = self._asked, self._record
        now, directory = time.monotonic(), (asked.folder / CAMPAIGN).absolute()
        seconds = self._budget.fuzzing(now, owed)
        config = {
            "targets": list(asked.targets),
            "seconds": seconds,
            "workers": asked.workers,
            "memory_limit": asked.memory,
            "device": asked.device,
            "seed": record.seed,
            "focus": list(asked.operators),
            "first": list(record.changed),
        }
        with record.timed("fuzzing"):
            self._say(f"fuzz     {seconds:.0f} s on the head, seed {record.seed}")
            done = pair.fuzz(config, directory, self._budget.cut(now + self._budget.loading + seconds))
        if done.answer.get("reason") == "interrupted" and not done.late:
            raise Interrupted
        if done.late:
            record.notes.append(f"the budget was over before the campaign, which was ended{_place(done)}")
        if left := done.answer.get("left"):
            raise Broken(f"the head {pair.head.name}: {', '.join(left)} cannot be used; {_last_notice(done)}")
        record.undone += [
            f"a case on {name} was at work for {seconds:.0f} s, far longer than others, and may hang"
            for name, seconds in done.answer.get("overdue", ())
        ]
        if not (directory / NAME).exists():
            return [], [], []  # there was no time for anything, and nothing that was compared is vacuous
        with Database.read(directory / NAME) as database:
            record.totals = dict(database.totals())
            ledger = database.ledger()
        if asked.operators:
            named = set(matching(asked.operators, [row.operator for row in ledger]))
            record.focused = sum(row.nontrivial for row in ledger if row.operator in named)
        found, others, notes = cases.found_by(directory)
        record.notes += notes
        refused, more = unsupported.declined(done.messages)
        if more:
            record.notes.append(f"{more} further reasons for which the head declines cases were not tried on the base")
        return found, others, refused


def _replay(one: Candidate, runs: Runs | None) -> Replay:
    target = one.case.setting.target
    if runs is None:
        return Replay(one.id, target, "not run", "the budget was over")
    if not runs.runs:
        return Replay(one.id, target, "cannot run", runs.note)
    run = runs.runs[0]
    if run.failure is not None:
        return Replay(one.id, target, "fails", str(run.failure))
    if run.result.status == "compared":
        return Replay(one.id, target, "passes")
    return Replay(one.id, target, "declined" if run.result.status == "unsupported" else "cannot run", run.reason[:200])


def _place(done: Done) -> str:
    """What a campaign was loading when it was ended; the samples of a new torch take longer than a short gate."""
    events = [message["event"] for message in done.messages if "event" in message]
    steps = [event for event in events if event.get("event") == "Warming"]
    return f" at {steps[-1]['step']}" if steps and not steps[-1].get("done") else ""


def _last_notice(done: Done) -> str:
    notices = [m["event"]["message"] for m in done.messages if m.get("event", {}).get("event") == "Notice"]
    return notices[-1] if notices else "nothing was said"
