"""Measures where a campaign's time goes: each phase of a case, the oracles, and what the harness itself takes.

Run it directly: ``python tests/benchmarks/harness.py [--seconds N] [--target NAME ...]``. One worker, so that the
worker's time is the campaign's time; what no phase of a case accounts for is transport, storage and bookkeeping.
Programs are those of a campaign. A program that was compared under one setting at least counts as compared; where the
target tries several on what was exported once, the line says how many.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from shakeout.fuzz.campaign.campaign import Campaign
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.ground import events


def measure(target: str, seconds: float) -> str:
    """One line for a target: cases a minute, and the share of each phase in the time between first and last case."""
    phases: Counter[str] = Counter()
    compared: Counter[int] = Counter()
    cases = 0
    begins: list[float] = []
    ends: list[float] = []

    def listen(event: events.Event) -> None:
        nonlocal cases
        match event:
            case events.CaseDone():
                cases += 1
                if event.status == "compared":
                    compared[event.index] += 1
                phases.update(event.phases)
                ends.append(time.monotonic())
            case events.Progress(stage="fuzzing") if not begins:
                begins.append(time.monotonic() - event.elapsed)

    with tempfile.TemporaryDirectory(prefix="shakeout-bench-") as scratch:
        config = Config(targets=(target,), seconds=seconds, workers=1)
        # Nothing is confirmed: those processes would share the core.
        with Campaign(config, Path(scratch) / "campaign", [listen], known=None, confirmations=0) as campaign:
            campaign.run()
    elapsed = ends[-1] - begins[0]
    spent = sum(phases.values())
    shares = ", ".join(f"{name} {100 * took / elapsed:.1f} %" for name, took in phases.most_common())
    own = max(0.0, 100 * (elapsed - spent) / elapsed)
    rate = 60 * compared.total() / elapsed
    settings = compared.total() / max(1, len(compared))
    return (
        f"{target:<11} {60 * cases / elapsed:6.0f} cases/min, {rate:.0f} compared, {settings:.1f} of a program   "
        f"{shares}; harness {own:.1f} %"
    )


def main() -> None:
    """Print one line for each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--target", action="append")
    options = parser.parse_args()
    for target in options.target or ["eager", "aot_eager", "inductor"]:
        print(measure(target, options.seconds), flush=True)


if __name__ == "__main__":
    main()
