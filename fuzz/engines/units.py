"""Units: the inputs of libFuzzer, files of its corpus. Each is a case.

A unit that begins with a brace is the text of a case, the very JSON that ``shakeout replay`` reads. All other bytes are
decisions from which a program is grown, so that any bytes mean something.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.fuzz.ground.jobs import Grow, Run, Session

__all__ = ["Refused", "folder_of", "job_of", "stated"]

#: What a line of libFuzzer's says of how far it is.
_STATED = re.compile(rb"\bcov: (\d+) ft: (\d+) corp: (\d+)/")


class Refused(Exception):
    """Bytes that begin as the text of a case and are none: cut off by a full disk, or of another version."""


def job_of(unit: bytes, session: Session) -> Grow | Run:
    """What a unit asks for, on the target of a session.

    A case of another target keeps its program, inputs and mode; its knobs are that target's own, and are dropped.

    Raises:
        Refused: it is neither a case nor decisions.
    """
    seed = int.from_bytes(hashlib.sha256(unit).digest()[:8], "little")
    if not unit.lstrip().startswith(b"{"):
        return Grow(
            target=session.target,
            device=session.device,
            seed=seed,
            recipe=session.recipe,
            # None would leave the decisions to the seed.
            choices=(unit or b"\0").hex(),
            knobs=session.knobs,
            knob_share=session.knob_share,
            avoid=session.avoid,
            settings=1,
            told=True,
        )
    try:
        case = codec.decode(unit.decode())
    except (codec.MalformedCase, UnicodeDecodeError) as error:
        raise Refused(str(error)) from None
    return Run(target=session.target, device=session.device, case=_on(case, session).text, seed=seed, told=True)


def _on(case: Case, session: Session) -> Case:
    setting = case.setting
    own = dict(setting.knobs) if setting.target == session.target else {}
    knobs = tuple(sorted({**own, **session.knobs}.items()))
    return replace(case, setting=replace(setting, target=session.target, knobs=knobs, device=session.device))


def stated(log: bytes) -> Mapping[str, int]:
    """What the last line of libFuzzer's says of how far it is: branches, features and units; empty if none does."""
    found = _STATED.findall(log)
    return dict(zip(("branches", "features", "units"), map(int, found[-1]), strict=True)) if found else {}


def folder_of(target: str) -> str:
    """The name of the folder for a target's units: their features are those of its own code."""
    return re.sub(r"[^\w.-]", "-", target)
