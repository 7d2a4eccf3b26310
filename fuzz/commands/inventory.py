"""Commands about what can be tested, and with what: ``targets``, ``operators``, ``learn``, ``selftest``, ``doctor``."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shakeout.fuzz.commands.places import RUNS, Add, Mistake, existing, print_json
from shakeout.fuzz.ground.exits import Exit

if TYPE_CHECKING:
    from shakeout.corpus.rows import LedgerRow
    from shakeout.corpus.support import Support
    from shakeout.targets.published import Part

__all__ = ["add_commands"]


def add_commands(add: Add) -> None:
    """Add them to the parser."""
    from shakeout.fuzz.commands import learn as learning

    targets = add("targets", _targets, "list what can be tested", "shakeout targets --knobs")
    targets.add_argument("--knobs", action="store_true", help="show what each lets a setting vary")
    targets.add_argument("--json", action="store_true", help="for programs")

    operators = add(
        "operators",
        _operators,
        "list operators: how far a campaign's cases with them came, what a target takes, or what was learnt of them",
        "shakeout operators conv2d --rules",
    )
    operators.add_argument(
        "what",
        nargs="?",
        metavar="DIRECTORY | NAME",
        help="a campaign (default: the newest below runs/), or an operator: conv2d, 'torch.fft.*'",
    )
    operators.add_argument("--rules", action="store_true", help="what was learnt of each way to call them")
    operators.add_argument("--target", metavar="NAME", help="only this target; without a campaign, what it takes")
    operators.add_argument(
        "--write", type=Path, metavar="FILE", help="what the target takes, from a campaign with --operators 1"
    )
    operators.add_argument("--json", action="store_true", help="for programs")

    learn = add(
        "learn",
        _learn,
        "learn what operators take and give, from calls that are run",
        "shakeout learn mypackage.kernels:my_conv2d --examples tests/test_kernels.py",
    )
    learning.add_arguments(learn)

    add("selftest", _selftest, "plant eight faults and see that each is found", "shakeout selftest")
    doctor = add("doctor", _doctor, "check whether this machine can run campaigns", "shakeout doctor")
    doctor.add_argument("--json", action="store_true", help="for programs")


def _targets(options: argparse.Namespace) -> int:
    from shakeout.corpus.setting import REFUSALS
    from shakeout.targets.packages import uninstalled
    from shakeout.targets.registry import names, target
    from shakeout.targets.systems import parts

    found = [target(name) for name in names()]
    # Their knobs are those of any kernel, and looking at them would load torch.
    kernels = {name: part for name, part in parts().items() if ":" in part.target}
    if options.json:
        print_json(
            [
                {
                    "name": one.name,
                    "summary": one.facts.summary,
                    "unavailable": one.unavailable(),
                    "knobs": {knob.name: list(knob.values) for knob in one.knobs()},
                }
                for one in found
            ]
            + [
                {"name": name, "summary": _summary(part), "unavailable": uninstalled(), "knobs": {}}
                for name, part in kernels.items()
            ]
        )
        return Exit.OK
    width = max(map(len, (*(one.name for one in found), *kernels)))
    for one in found:
        missing = one.unavailable()
        print(f"{one.name:<{width}}  {'unavailable: ' + missing if missing else one.facts.summary}")
        if options.knobs:
            for knob in one.knobs():
                values = ", ".join(map(str, knob.values))
                print(f"{'':<{width}}    {knob.name:<34} {values:<22} {knob.help}")
    for name, part in kernels.items():
        missing = uninstalled()
        print(f"{name:<{width}}  {'unavailable: ' + missing if missing else _summary(part)}")
    if options.knobs:
        print(f"{'every one':<{width}}    {REFUSALS:<34} {'False, True':<22} what it refuses is a finding")
    print(f"{'MODULE:NAME':<{width}}  your own, declared with @shakeout.kernel, @shakeout.runtime or @shakeout.rewrite")
    return Exit.OK


def _summary(part: Part) -> str:
    return f"{part.summary}, against {part.against}"


def _operators(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from shakeout.corpus import support
    from shakeout.corpus.database import NAME, Database

    if options.rules or (options.what is not None and not Path(options.what).is_dir()):
        return _rules(options)
    if options.what is None and options.target is not None:
        from shakeout.targets.registry import facts_of

        if table := support.load(options.target, facts_of(options.target).support or support.DIRECTORY):
            return _takes(options.target, table, as_json=options.json)
    directory = existing(None if options.what is None else Path(options.what))
    with Database.read(directory / NAME) as database:
        rows = [row for row in database.ledger() if options.target in (None, row.target)]
    if options.write is not None:
        return _write_table(options, rows)
    if options.json:
        print_json([asdict(row) for row in rows])
        return Exit.OK
    print(f"{'operator':<48} {'target':<12} {'generated':>9} {'compared':>9} {'unsupported':>11} {'fed':>6}")
    for row in sorted(rows, key=lambda row: (row.operator, row.target)):
        counts = f"{row.generated:>9} {row.compared:>9} {row.unsupported:>11} {row.fed:>6}"
        print(f"{row.operator:<48} {row.target:<12} {counts}")
    operators = {row.operator for row in rows}
    fed = {row.operator for row in rows if row.fed}
    print(f"{len(operators)} operators, {len(fed)} of them also fed by another operator's result")
    return Exit.OK


def _rules(options: argparse.Namespace) -> int:
    """What was learnt of operators."""
    from shakeout.fuzz.learning import listing

    if options.target is not None or options.write is not None:
        raise Mistake("operators: --target and --write go with a campaign's directory, not with an operator or --rules")
    try:
        library, names = listing.matching(options.what)
    except listing.NothingLearnt as error:
        raise Mistake(f"operators: {error}") from None
    if options.json:
        print_json(listing.described(library, names))
        return Exit.OK
    for line in listing.lines(library, names, rules=options.rules or len(names) == 1):
        print(line)
    return Exit.OK


def _takes(target: str, table: Mapping[str, Support], *, as_json: bool) -> int:
    """What a target takes, as it was measured with programs of one operator."""
    from dataclasses import asdict

    if as_json:
        print_json({operator: asdict(row) for operator, row in table.items()})
        return Exit.OK
    print(f"{'operator':<56} {'compared':>9} {'unsupported':>11} {'failed':>7}")
    for operator, row in sorted(table.items()):
        print(f"{operator:<56} {row.compared:>9} {row.unsupported:>11} {row.failed:>7}")
    taken = sum(not row.declined for row in table.values())
    print(f"{target} takes {taken} of {len(table)} operators, measured one operator at a time")
    return Exit.OK


def _write_table(options: argparse.Namespace, rows: Sequence[LedgerRow]) -> int:
    from shakeout.corpus.support import measured
    from shakeout.fuzz.ground.versions import describe

    if options.target is None:
        raise Mistake("--write: say of which target with --target")
    try:
        options.write.write_text(measured(options.target, rows, describe()["packages"]), encoding="utf-8")
    except OSError as error:
        raise Mistake(f"--write: {options.write}: {error.strerror}", Exit.DIRECTORY) from None
    return Exit.OK


def _learn(options: argparse.Namespace) -> int:
    from rich.console import Console

    from shakeout.fuzz.commands.learn import learn_command

    return learn_command(options, Console(highlight=False))


def _selftest(options: argparse.Namespace) -> int:
    from shakeout.fuzz.campaign.selftest import selftest
    from shakeout.fuzz.ground import events
    from shakeout.fuzz.workers.pool import WorkerPool
    from shakeout.fuzz.workers.zygote_client import ZygoteBroken

    def tell(event: events.Event) -> None:
        if isinstance(event, events.Warming) and not event.done:
            print(f"        {event.step}", flush=True)
        elif isinstance(event, events.SelfTested):
            print(f"{'ok' if event.seen else 'MISSED':<8}{event.fault}  {event.message}".rstrip(), flush=True)

    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        pool = WorkerPool(Path(scratch), (), 2, tell=tell)
        try:
            pool.start(complete=False)
            missed = selftest(pool, tell)
        except ZygoteBroken as error:
            raise Mistake(f"torch could not be loaded:\n{error}", Exit.INFRASTRUCTURE) from None
        finally:
            pool.stop()
    if missed:
        raise Mistake("the self-test failed: Shakeout cannot be trusted here", Exit.INFRASTRUCTURE)
    return Exit.OK


def _doctor(options: argparse.Namespace) -> int:
    from shakeout.fuzz.commands.doctor import checks

    found = list(checks(RUNS.absolute()))
    if options.json:
        print_json([{"name": check.name, "state": check.state, "text": check.text} for check in found])
    else:
        for check in found:
            print(f"{check.state:<8} {check.name:<18} {check.text}")
    return Exit.INFRASTRUCTURE if any(check.state == "missing" for check in found) else Exit.OK
