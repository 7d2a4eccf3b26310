"""A check of a target: two networks that no compiler gets wrong, through real workers, before a campaign uses it.

The self-test asks whether faults are seen; this asks whether what is seen are faults. A target that cannot run here at
all, for whatever reason (a process that must not be forked, a library that does not fit), fails with every network, and
each of them would look like a bug.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shakeout.corpus import codec
from shakeout.corpus.case import Case, InputSet, Mode, Setting, Storage, Values, View
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
from shakeout.fuzz.ground.counts import result_of
from shakeout.fuzz.ground.jobs import Run
from shakeout.fuzz.ground.results import Answer
from shakeout.fuzz.workers.pool import Limits, WorkerPool

__all__ = ["case", "check"]

#: Where each worker warms itself, that is in it.
SECONDS = 180.0

MODES: Sequence[Mode] = ("inference", "training")

#: What became of a case that a target ran, or says that it does not take.
_FINE = ("compared", "unsupported")


def case(target: str, device: str, mode: Mode) -> Case:
    """The sum of two inputs, as rows of a matrix."""
    matrix = TensorType("float32", (2, 3))
    program = Program((Input(matrix), Input(matrix)), (Call("torch.add", (Ref(0), Ref(1)), (), (matrix,)),), (2,))
    values = [Storage("float32", 6, Values("integers", seed, -4, 4)) for seed in (5, 6)]
    views = [View(number, "float32", (2, 3), (3, 1), 0, mode == "training") for number in range(2)]
    return Case(program, (InputSet(tuple(values), tuple(views)),), Setting(target, (), mode, device))


def check(pool: WorkerPool, target: str, *, device: str, memory: int, stop: Callable[[], bool] = lambda: False) -> str:
    """Why nothing that this target shows here would be worth anything; empty if there is no reason.

    Args:
        pool: with the target warm, and nothing in hand.
        target: name of it.
        device: of the cases.
        memory: bytes that a case may take.
        stop: asked now and then whether to give up.
    """
    jobs = [Run(target=target, case=codec.encode(case(target, device, mode)), device=device) for mode in MODES]
    modes = {id(job): mode for job, mode in zip(jobs, MODES, strict=True)}
    wrong = {}
    for answer in pool.answers(jobs, lambda job: Limits(SECONDS, memory), stop):
        if text := _wrong(answer):
            wrong[modes[id(answer.job)]] = text.strip().splitlines()[0]
    return next((f"the sum of two matrices, {mode}: {text}" for mode, text in wrong.items()), "")


def _wrong(answer: Answer) -> str:
    """What an answer says that speaks against the target; empty if nothing does."""
    if answer.loss is not None:
        return answer.loss.symptom
    result = result_of(answer)
    if (verdict := result.failure) is not None:
        return f"{verdict.symptom}: {verdict.message}"
    return "" if result.status in _FINE else f"{result.status}: {result.reason}"
