"""What came of each case, in a campaign's books: totals, ledger and traces in its directory, and an event for it."""

from __future__ import annotations

from collections import deque

from shakeout.corpus.database import Database
from shakeout.corpus.rows import Totals
from shakeout.fuzz.campaign.traces import TraceLog
from shakeout.fuzz.coverage.hits import Hits, by_source
from shakeout.fuzz.coverage.log import CoverageLog
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.counts import counts
from shakeout.fuzz.ground.results import Answer, Result
from shakeout.oracles.forgiven import forgiven

__all__ = ["FIRED", "FORGIVEN", "NOTE", "PASSED", "Ledger"]

#: Under which notes stand among the reasons, by target and what they say: they say why nothing is a finding.
NOTE = "note"

#: Tables of passes over graphs, by target: cases that one ran on, and those in which it changed a graph.
PASSED, FIRED = "passed", "fired"
#: Under which rules by which differences were forgiven stand there, each with the operator behind it, after a bar.
FORGIVEN = "forgiven"


class Ledger:
    """The books of one campaign.

    Args:
        database: of the campaign; what is counted is counted inside a transaction of its owner.
        traces: what the reference refused and took.
        coverage: what the cases reached.
        untold: where events wait until that transaction is committed.
    """

    def __init__(
        self, database: Database, traces: TraceLog, coverage: CoverageLog, untold: deque[events.Event]
    ) -> None:
        #: How far cases came, by target, from the campaign's first case on.
        self.totals: dict[str, Totals] = dict(database.totals())
        self._database = database
        self._traces = traces
        self._coverage = coverage
        self._untold = untold
        #: Jobs in hand of which a case was compared.
        self._compared: set[int] = set()

    def count(self, answer: Answer, result: Result) -> tuple[Hits, ...]:
        """Enter one case; inside a transaction.

        Args:
            answer: in which it came.
            result: what came of it.

        Returns:
            What it reached that is new to the campaign.
        """
        job, reply, spent = answer.job, answer.reply, answer.seconds
        tallied = counts(result, spent)
        phases = dict(result.seconds)
        # What transport, text and bookkeeping took in the worker, beside the phases.
        phases["harness"] = max(spent - sum(phases.values()), 0.0)
        if result.status == "compared" and not result.relation:
            self._compared.add(job.number)
            self._one_more("settings", job.target)
        if reply.answered or not reply.partial:
            self._database.land(job.number)
            if job.number in self._compared:
                self._compared.remove(job.number)
                self._one_more("programs", job.target)
        if result.proven:
            self._one_more("proven", job.target)
        if result.relation:
            self._one_more("related", result.relation)
        if result.fired is not None and result.status in ("compared", "failed"):
            self._one_more(PASSED, job.target)
            if result.fired:
                self._one_more(FIRED, job.target)
        self._database.add(
            job.target,
            tallied,
            operators=result.operators,
            fed=reply.fed,
            phases=phases,
            status=result.status,
            reason=result.reason,
        )
        if result.status == "compared":
            for note in result.notes:
                self._database.add(job.target, Totals(), status=NOTE, reason=str(note))
        for rule, operator in dict.fromkeys(one for verdict in result.verdicts for one in forgiven(verdict)):
            self._database.add(job.target, Totals(), status=FORGIVEN, reason=f"{rule}|{operator}")
        self._traces.add(reply.traces)
        new = self.cover(answer)
        self.totals[job.target] = self.totals.get(job.target, Totals()) + tallied
        self._untold.append(
            events.CaseDone(
                index=job.number,
                target=job.target,
                status=result.status,
                outcome=str(result.outcome),
                seconds=round(spent, 6),
                operators=len(result.operators),
                exact=result.exact,
                trivial=result.trivial,
                worker=answer.worker,
                case=result.case,
                phases=result.seconds,
                reason=result.reason,
                relation=result.relation,
                reached=by_source(new),
            )
        )
        return new

    def cover(self, answer: Answer) -> tuple[Hits, ...]:
        """Enter what an answer says was reached; what of that is new to the campaign."""
        if not answer.reply.coverage:
            return ()
        spent = float(self._database.meta("spent", 0.0))
        return self._coverage.add(
            answer.reply.coverage, case=answer.job.number, target=answer.job.target, seconds=spent
        )

    def _one_more(self, table: str, row: str) -> None:
        """Add one in a row of a table that the report prints."""
        counted = self._database.meta(table, {})
        self._database.set_meta(**{table: {**counted, row: counted.get(row, 0) + 1}})
