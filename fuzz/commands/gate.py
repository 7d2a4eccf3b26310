"""The command ``shakeout gate``: whether a change may be merged."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shakeout.fuzz.commands.focus import focused
from shakeout.fuzz.commands.places import Add, Mistake, add_allow, allow
from shakeout.fuzz.commands.spans import seconds
from shakeout.fuzz.ground.exits import Exit

__all__ = ["add_commands"]


def add_commands(add: Add) -> None:
    """Add it to the parser."""
    gate = add(
        "gate",
        _gate,
        "compare a change with what it is based on, and block only what the change does wrong",
        "shakeout gate --base origin/main --target mypackage.kernels:my_conv2d --budget 5m",
    )
    gate.add_argument(
        "--base", required=True, metavar="ENV|REF", help="an environment or interpreter, or a commit of this repository"
    )
    gate.add_argument("--head", metavar="ENV", help="an environment or interpreter (default: the one that runs this)")
    gate.add_argument(
        "--target",
        action="append",
        metavar="NAME",
        help="what to test; may be repeated (default: what this repository declares, else installed compilers)",
    )
    gate.add_argument(
        "--focus",
        action="append",
        metavar="WHAT",
        help="operators (torch.cumsum, '*softmax*') one of which every program calls, or a target; may be repeated",
    )
    gate.add_argument(
        "--corpus", action="append", type=Path, metavar="DIR", help="cases that are replayed; may be repeated"
    )
    gate.add_argument("--no-shipped", action="store_true", help="replay none of the cases that ship with Shakeout")
    gate.add_argument(
        "--budget", type=seconds, default="10m", metavar="TIME", help="in all, as 90s, 10m or 1h30m (default 10m)"
    )
    gate.add_argument("--refusals", action="store_true", help="what became unsupported since the base blocks as well")
    gate.add_argument("--workers", type=int, help="cases at work at a time (default: one for each core)")
    gate.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the tensors are (default cpu)")
    gate.add_argument("--seed", type=int, help="of the fuzzing (default: that of the commit)")
    gate.add_argument(
        "--error",
        type=float,
        default=None,
        metavar="P",
        help="how often what both have may block (default 0.001)",
    )
    gate.add_argument(
        "--path", action="append", metavar="DIR", help="folder to import from, beside src and the working directory"
    )
    gate.add_argument(
        "--out", type=Path, default=Path("shakeout-gate"), metavar="DIR", help="for everything (default shakeout-gate)"
    )
    gate.add_argument("--json", action="store_true", help="print gate.json instead of lines")
    add_allow(gate)


def _gate(options: argparse.Namespace) -> int:
    from shakeout.fuzz.campaign.campaign_folder import DirectoryUnusable
    from shakeout.fuzz.gate import folder as folders
    from shakeout.fuzz.gate.gate import Gate
    from shakeout.fuzz.gate.repository import NotASide
    from shakeout.fuzz.ground.progress import interruptible

    asked = _asked(options)

    def say(text: str) -> None:
        if not options.json:
            print(text, flush=True)

    def hear(event: Mapping[str, Any]) -> None:
        match event:
            case {"event": "Warming", "step": step, "done": False}:
                say(f"           {step}")
            case {"event": "BugOpened", "bug": bug, "title": title}:
                say(f"found    {bug} {title}")

    try:
        with folders.made(asked.folder) as folder:
            with interruptible() as stop:
                outcome = Gate(asked, say, hear, stop).run()
            folders.write(folder, outcome)
    except NotASide as error:
        raise Mistake(str(error)) from None
    except DirectoryUnusable as error:
        raise Mistake(str(error), Exit.DIRECTORY) from None
    if options.json:
        print((asked.folder / folders.JSON).read_text(encoding="utf-8"), end="")
    else:
        for note in outcome.notes:
            print(f"note     {note}")
        print(f"report   {asked.folder / folders.SUMMARY}")
        print(f"gate     {outcome.verdict}   exit {int(outcome.status)}")
    return outcome.status


def _asked(options: argparse.Namespace) -> Any:
    """What the command line asks for."""
    from shakeout.fuzz.campaign.config import Config
    from shakeout.fuzz.gate.asked import Asked
    from shakeout.fuzz.gate.decision import ERROR

    defaults = Config(targets=())
    focus = focused(options.focus or ())
    targets = tuple(dict.fromkeys((*(options.target or ()), *focus.targets))) or _declared()
    allow(targets)
    workers = defaults.workers if options.workers is None else options.workers
    if workers < 1:
        raise Mistake(f"--workers: expected a positive whole number, found {workers}")
    if options.seed is not None and options.seed < 0:
        raise Mistake(f"--seed: expected a whole number, 0 or more, found {options.seed}")
    error = ERROR if options.error is None else options.error
    if not 1e-9 <= error < 1:
        raise Mistake(f"--error: expected a probability between 0.000000001 and 1, found {error}")
    for folder in options.corpus or ():
        if folder.resolve().is_relative_to(options.out.resolve()):
            raise Mistake(
                f"--corpus {folder} lies in {options.out}, which this gate writes anew; copy it elsewhere first"
            )
    return Asked(
        base=options.base,
        head=options.head,
        folder=options.out,
        targets=targets,
        operators=focus.operators,
        corpus=tuple(options.corpus or ()),
        shipped=not options.no_shipped,
        budget=options.budget,
        workers=workers,
        memory=defaults.memory_limit,
        device=options.device,
        error=error,
        refusals=options.refusals,
        seed=options.seed,
        folders=tuple(options.path or ()),
    )


def _declared() -> tuple[str, ...]:
    """What the repository declares for Shakeout; every compiler that is installed if it declares nothing."""
    from shakeout.fuzz.gate.declared import declared
    from shakeout.targets.registry import compilers

    found = declared(Path.cwd()) or compilers()
    if not found:
        raise Mistake(
            "nothing to test: no @shakeout.kernel, @shakeout.runtime or @shakeout.rewrite here, and no compiler; "
            "give --target"
        )
    return found
