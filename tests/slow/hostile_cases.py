"""Cases that misbehave in every way, for tests of the engine: a maker of cases and a target, loaded in the zygote.

The environment's HOSTILE is a JSON object: what the job of an index does. All others are harmless and quick.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

from shakeout.corpus.case import Case, Knob, KnobSpace, Setting
from shakeout.fuzz.campaign.selftest import case
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.ground.makers import Made
from shakeout.oracles import metamorphic
from shakeout.targets import registry
from shakeout.targets.eager import DECLINES_NOTHING
from shakeout.targets.target import Facts, Target

# Each job has one answer for each setting: these tests count jobs.
metamorphic.TURN = sys.maxsize

#: What the target does with a fault.
FAULTS = {
    "segmentation fault": "ctypes.string_at(0)",
    "exit": "os._exit(3)",
    "sys.exit": "sys.exit('enough')",
    "kill": "os.kill(os.getpid(), 9)",
    "hang with a child": "subprocess.run(['sleep', '3600'])",
    "blow-up in a child": "subprocess.run([sys.executable, '-c', 'x = [b\"x\" * (1 << 28) for _ in iter(int, 1)]'])",
    "close files": "os.closerange(3, 1000); time.sleep(3600)",
    "chatter": "[print('x' * 10000) for _ in range(10000)]",
    "slow": "time.sleep(0.5)",
    "leak": "LEAKED.append(b'x' * (200 << 20))",
    "flush": "torch.set_flush_denormal(True)",
    "rounding": "ctypes.CDLL(None).fesetround(0x800)",
    "locale": "import locale; locale.setlocale(locale.LC_ALL, 'C')",
    "half": "torch.set_default_dtype(torch.float64)",
    "threads": "[threading.Thread(target=time.sleep, args=(3600,), daemon=True).start() for _ in range(250)]",
    # Only behind another case in the same process.
    "remember": "os.environ['REMEMBERED'] = '1'",
    "recall": "outputs[0] += 1 if os.environ.get('REMEMBERED') else 0",
    "recall and die": "os.environ.get('REMEMBERED') and ctypes.string_at(0)",
    "wrong": "outputs[0] += 1",
    "wrong in workers": "outputs[0] += 1 if os.environ.get('PYTHONHASHSEED') else 0",
    # Only in the process that was first.
    "wrong once": (
        "mark = os.environ['MARK']; os.path.exists(mark) or open(mark, 'w').write(str(os.getpid())); "
        "outputs[0] += open(mark).read() == str(os.getpid())"
    ),
}


OPERATORS = {
    "recall": "torch.add",
    "recall and die": "torch.remainder",
    "wrong in workers": "torch.sub",
    "wrong once": "torch.div",
}


class Hostile(Target):
    name = "hostile"
    facts = Facts(summary="for tests", promises=frozenset({"layout", "writes"}))

    def knobs(self) -> KnobSpace:
        return (Knob("fault", ("none", *FAULTS)),)

    def unavailable(self) -> None:
        return None

    def warm(self) -> None:
        if os.environ.get("HOSTILE_WARM") == "abort":
            os.abort()
        if os.environ.get("HOSTILE_WARM"):
            raise ImportError(os.environ["HOSTILE_WARM"])

    def source(self, setting: Setting) -> str:
        return (
            "import ctypes, os, subprocess, sys, threading, time\n\nLEAKED = []\n\n\ndef prepare(function):\n"
            "    def faulty(*arguments):\n        outputs = list(function(*arguments))\n"
            f"        {FAULTS.get(str(setting.knob('fault', 'none')), 'pass')}\n        return outputs\n\n"
            f"    return faulty\n\n\n{DECLINES_NOTHING}\n"
        )


HOSTILE = Hostile()
registry._BUILT_IN["hostile"] = (__name__, "HOSTILE")


class Maker:
    """Makes the cases of these tests."""

    def begin(self) -> None:
        pass

    def prepare(self, say) -> None:
        say("nothing to load")

    def load_all(self) -> None:
        pass

    def compose(self, job: Grow, before_call=None) -> Made:
        return compose(job, before_call)


def compose(job: Grow, before_call=None) -> Made:
    fault = json.loads(os.environ.get("HOSTILE", "{}")).get(str(job.recipe["index"]), "none")
    before = before_call or (lambda line: None)
    before('{"operator": "torch.add"}')
    if fault.startswith("grow: "):
        before('{"operator": "torch.bincount"}')
        _grow(fault.removeprefix("grow: "), traced=before_call is not None)
        fault = "none"  # of growing, and not of the target
    made: Case = case("none")
    # Each job's case is another one, by the seed of its values.
    storage = made.input_sets[0].storages[0]
    values = replace(storage.values, seed=job.recipe["index"] % 1000 + 1)
    calls = (replace(made.input_sets[0], storages=(replace(storage, values=values),)),)
    # Signatures have the operators in them: faults that are told apart by their history get an operator each.
    operator = OPERATORS.get(fault, "torch.mul")
    last = replace(made.program.calls[1], operator=operator)
    made = replace(made, program=replace(made.program, calls=(made.program.calls[0], last)))
    faults = fault.removeprefix("settings: ").split(", ")
    settings = [Setting(job.target, () if one == "none" else (("fault", one),)) for one in faults]
    name = "planted" if fault in ("abort", "hang", "out of memory") else job.target
    settings[0] = replace(settings[0], target=name)
    return Made(Case(made.program, calls, settings[0]), tuple(settings[1:]), ("torch.mul",))


def _grow(fault: str, *, traced: bool) -> None:
    if fault == "segmentation fault":
        ctypes.string_at(0)
    elif fault == "exit":
        os._exit(5)
    elif fault == "sys.exit":
        sys.exit(5)
    elif fault == "hang":
        time.sleep(3600)
    elif fault == "exception":
        raise RuntimeError("the generator is broken")
    elif fault == "once" and not traced:
        os.abort()
    elif fault == "child":
        subprocess.Popen(["sleep", "3600"])
