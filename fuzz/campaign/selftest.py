"""The self-test: eight planted faults, through real workers; each must be seen before a campaign may start."""

from __future__ import annotations

import time
from collections.abc import Callable

from shakeout.corpus import codec
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.counts import result_of
from shakeout.fuzz.ground.jobs import Job, Run
from shakeout.fuzz.ground.results import Answer
from shakeout.fuzz.workers.pool import Limits, WorkerPool
from shakeout.targets.planted import FAULTS

__all__ = ["NO_FAULT", "selftest"]

#: The control: without a fault nothing may be seen.
NO_FAULT = "no fault"

#: A hang is planted as an hour's sleep, so seconds tell it. What is not a hang takes milliseconds; but on a machine
#: that is busy with other things it may take many seconds, and must not look like a hang.
SECONDS = 3.0
PATIENCE = 30.0

#: The planted blow-up grows without end, so a small limit shows it as well as a large one.
BYTES = 512 << 20


def case(fault: str) -> Case:
    """A small network that changes its input in place, with a fault."""
    matrix = TensorType("float32", (2, 3))
    program = Program(
        (Input(matrix),),
        (Call("torch.Tensor.add_", (Ref(0), 1), (), (matrix,)), Call("torch.mul", (Ref(0), 2), (), (matrix,))),
        (2, 1),
    )
    inputs = InputSet((Storage("float32", 6, Values("integers", 5, -4, 4)),), (View(0, "float32", (2, 3), (3, 1)),))
    knobs = () if fault == NO_FAULT else (("fault", fault),)
    return Case(program, (inputs,), Setting("planted", knobs))


def selftest(
    pool: WorkerPool, tell: events.Listener = lambda event: None, stop: Callable[[], bool] = lambda: False
) -> list[str]:
    """Plant each fault.

    Args:
        pool: started, with nothing in hand.
        tell: told of each fault as it is seen or missed.
        stop: asked now and then whether to give up.

    Returns:
        The faults that were missed, and ``NO_FAULT`` if something was seen where there is none.
    """
    wanted = {NO_FAULT: "", **FAULTS}
    # The hang takes longest, so it begins first.
    order = sorted(wanted, key=lambda fault: fault != "hang")
    jobs = [Run(target="planted", case=codec.encode(case(fault))) for fault in order]
    faults = {id(job): fault for job, fault in zip(jobs, order, strict=True)}
    unseen = set(order)
    missed = []
    give_up = time.monotonic() + 2 * PATIENCE

    def limits(job: Job) -> Limits:
        seconds = SECONDS if faults[id(job)] == "hang" else PATIENCE
        return Limits(seconds, BYTES, seconds)

    for answer in pool.answers(jobs, limits, lambda: stop() or time.monotonic() > give_up):
        fault = faults[id(answer.job)]
        seen, message = _seen(answer)
        unseen.discard(fault)
        if seen != wanted[fault]:
            missed.append(fault)
            message = f"expected {wanted[fault] or 'nothing'}, saw {seen or 'nothing'}; {message}".rstrip("; ")
        tell(events.SelfTested(fault, seen == wanted[fault], round(answer.seconds, 3), message))
    if stop():
        return missed
    for fault in sorted(unseen):
        tell(events.SelfTested(fault, False, 0.0, "no answer"))
    return [*missed, *sorted(unseen)]


def _seen(answer: Answer) -> tuple[str, str]:
    """Which oracle saw something, and what."""
    if answer.loss is not None:
        return answer.loss.kind, answer.loss.symptom
    if answer.reply.internal:
        return "internal", answer.reply.internal
    result = result_of(answer)
    if (verdict := result.failure) is not None:
        return verdict.oracle, verdict.message
    return ("", "") if result.status == "compared" else (result.status, result.reason)
