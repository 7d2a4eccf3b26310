"""How long a gate may take, and how its time is shared; every time here is one that ``time.monotonic`` gives."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Budget"]

#: What a gate may take beyond its budget: so many seconds, or this share of it if that is more. A finding that comes in
#: last is decided about in that time (loading a target on both sides, and K runs), and nobody waits for much longer
#: than was said.
OVER = 30.0
OVER_SHARE = 0.1

#: Seconds in which a process that was told that the time is over ends by itself; then it is killed. What it told and
#: what lies in its campaign's database is there all the same.
ENDING = 5.0

#: The least share of the budget that is left for fuzzing when what ships is replayed: known bugs of a compiler are
#: many, and say little of this change.
FUZZING = 0.5

#: Of what the budget leaves when the corpus has been replayed, so much is fuzzed. The rest is for findings that come
#: late, which a campaign reduces for half a minute more, and for the runs that decide.
FUZZED = 0.7

#: Seconds that are kept for deciding when a campaign takes longer than was planned: loading a target on both sides, and
#: K runs of a case of a kernel. What they do not suffice for is told, and is not green.
DECIDING = 15.0

#: The same two as multiples of what it took to see what is installed, where that is more: a machine that takes long to
#: import torch takes long for all that begins with it. On one where that took 6.5 seconds, of 14 gates side by side, a
#: campaign's targets were loaded after 20, and both sides had started and run some cases after 16 to 20.
DECIDING_STARTS = 4.0
LOADING_STARTS = 3.0

#: The largest share of all the time that is kept for deciding, however slow the machine is.
DECIDING_SHARE = 0.5

#: Seconds of fuzzing at least, however little the budget leaves.
LEAST_SECONDS = 5.0

#: Seconds that loading the targets takes before the first case, on a slow machine. What the budget says includes it.
LOADING = 15.0


@dataclass(frozen=True, slots=True)
class Budget:
    """The time of one gate.

    Attributes:
        seconds: that were asked for.
        began: when it began.
        starting: seconds that it took to see what is installed.
    """

    seconds: float
    began: float
    starting: float = 0.0

    @property
    def end(self) -> float:
        """When the budget is used up: from then on it is only decided about what was found."""
        return self.began + self.seconds

    @property
    def last(self) -> float:
        """When everything is told that its time is over, so that the gate ends soon enough."""
        return self.end + max(OVER, OVER_SHARE * self.seconds) - ENDING

    @property
    def shipped(self) -> float:
        """Until when what ships with Shakeout is replayed."""
        return self.began + (1 - FUZZING) * self.seconds

    def fuzzing(self, now: float, owed: float = 0.0) -> float:
        """Seconds for which the head is fuzzed once its targets are loaded, if that begins now.

        Args:
            now: the time.
            owed: seconds that deciding about stored cases will take, which is to be done whatever is found.
        """
        return max(FUZZED * (self.end - now - self.loading - owed), LEAST_SECONDS)

    @property
    def loading(self) -> float:
        """Seconds that loading the targets is taken for."""
        return max(LOADING, LOADING_STARTS * self.starting)

    def cut(self, planned: float) -> float:
        """When a campaign is ended that is still at work: loading, or a finding, took longer than was planned.

        What is found is decided about, but not at the cost of finding anything: fuzzing may go on as long as planned.

        Args:
            planned: when fuzzing will be over.
        """
        enough = min(DECIDING_STARTS * self.starting, DECIDING_SHARE * (self.last - self.began))
        return min(self.last - DECIDING, max(self.last - enough, planned))

    def half(self, now: float) -> float:
        """Half of what is left: what is made smaller has to be decided about once more."""
        return max(self.last - now, 0.0) / 2
