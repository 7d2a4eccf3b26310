"""The script of the model that a target's product is given, of a case that goes wrong behind it."""

from __future__ import annotations

from shakeout.corpus import script
from shakeout.corpus.case import Case
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.running.runs import observe
from shakeout.targets.registry import facts_of, source, target

__all__ = ["behind_model", "model_script"]


def behind_model(case: Case, result: Result | None) -> bool:
    """Whether a case goes wrong behind the model that was made of its program, so that the model alone may show it."""
    if result is None or result.failure is None or len(case.input_sets) != 1:
        return False
    return result.stage in facts_of(case.setting.target).behind


def model_script(case: Case) -> str | None:
    """The script; None where the target has none of this case. It runs the case on the reference and on the target."""
    subject, kept = target(case.setting.target), dict[str, object]()
    seen = observe(script.load(case))
    if seen.error is not None:
        return None
    namespace = script.load(case)
    observe(namespace, source(case.setting), kept=kept)  # whatever it raises, the model was made before
    given = namespace["arguments"](namespace["CALLS"][0]())
    return subject.model(case.setting.told(), kept, given, seen.calls[0]["output"])
