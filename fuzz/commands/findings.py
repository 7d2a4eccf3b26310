"""Commands for what campaigns find: ``bugs``, ``replay``, ``minimise``, ``bisect`` and ``report``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from shakeout.fuzz.commands.places import (
    Add,
    Mistake,
    add_allow,
    existing,
    folder,
    located,
    named,
    newest,
    print_json,
)
from shakeout.fuzz.ground.exits import Exit

__all__ = ["add_commands"]


def add_commands(add: Add) -> None:
    """Add them to the parser."""
    from shakeout.corpus.rows import STATES, STATUSES
    from shakeout.fuzz.reporting.formats import FORMATS

    bugs = add(
        "bugs",
        _bugs,
        "list the bugs of a campaign, the worst first, show one, say what became of one, merge two, or split one",
        "shakeout bugs set SH-7f3a duplicate-of SH-02de",
    )
    bugs.add_argument(
        "what",
        nargs="*",
        metavar="[show ID | set ID STATUS | merge ID OTHER | split ID FINDING...]",
        help=f"nothing to list; STATUS is one of {', '.join(STATUSES[:-1])}, duplicate-of OTHER; merge makes two bugs "
        "one; split takes findings out of one, by their numbers or the id of a bug that was merged",
    )
    bugs.add_argument(
        "--top", type=_positive, metavar="N", help="the N worst, each whole: program, inputs, values, culprit, script"
    )
    bugs.add_argument("--note", default="", help="with set: why, or where it was reported")
    bugs.add_argument("--target", action="append", metavar="NAME", help="list only this target's; may be repeated")
    bugs.add_argument("--state", action="append", choices=STATES, help="list only those; may be repeated")
    bugs.add_argument("--status", action="append", choices=STATUSES, help="list only those; may be repeated")
    bugs.add_argument("--text", default="", help="list only those with this text in title or symptom")
    bugs.add_argument("--directory", type=Path, metavar="DIR", help="default: the newest below runs/")
    bugs.add_argument("--json", action="store_true", help="for programs")
    add_allow(bugs)

    replay = add("replay", _replay, "run a stored case again in a fresh process", "shakeout replay SH-7f3a")
    replay.add_argument(
        "case",
        nargs="?",
        help="a bug's id, a case.json, a repro.py, or 'known' for the bugs that ship; with --all a campaign",
    )
    replay.add_argument("--all", action="store_true", help="a campaign's bugs, and the regressions and bugs that ship")
    replay.add_argument("--runs", type=int, help="with --all: of each case, in fresh workers (default 2)")
    replay.add_argument("--json", action="store_true", help="with --all: for programs")
    replay.add_argument("--directory", type=Path, metavar="DIR", help="campaign of the id (default: the newest)")
    replay.add_argument("--target", metavar="NAME", help="run it on another target")
    add_allow(replay)

    shrink = add(
        "minimise", _minimise, "find the smallest case that fails for the same reason", "shakeout minimise SH-7f3a"
    )
    shrink.add_argument(
        "case",
        nargs="?",
        help="a bug's id, a finding's folder, or a case.json; with --all a campaign (default: newest)",
    )
    shrink.add_argument("--all", action="store_true", help="every bug of a campaign that is not minimised yet")
    shrink.add_argument("--again", action="store_true", help="with --all: those too that are minimised")
    shrink.add_argument("--directory", type=Path, metavar="DIR", help="campaign of the id (default: the newest)")
    shrink.add_argument("--seconds", type=float, default=300.0, help="how long to search (default 300)")
    shrink.add_argument("--tries", type=int, default=5000, help="candidates to run at most (default 5000)")
    shrink.add_argument("--workers", type=int, help="candidates at a time (default: one for each core)")
    shrink.add_argument("--plain", action="store_true", help="lines instead of a live display")
    add_allow(shrink)

    parser = add("bisect", _bisect, "find out which part of a compiler is to blame", "shakeout bisect SH-7f3a")
    _of_case(parser)
    parser.add_argument("--workers", type=_positive, metavar="N", help="runs at a time (default: one for each core)")
    parser.add_argument("--seconds", type=float, help="how long to search (default: until nothing is left to ask)")
    parser.add_argument("--again", action="store_true", help="forget what was found out before")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live display")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--env", action="append", type=Path, default=[], metavar="DIR", help="try in this environment; oldest first"
    )
    parser.add_argument(
        "--versions", default="", metavar="LIST", help="try in releases that pip installs: torch==2.12.0,torch==2.13.0"
    )
    parser.add_argument("--newest", action="store_true", help="try in the newest release that pip finds")

    parser = add(
        "report",
        _report,
        "write the report of a bug as a project's form asks for it, nothing is filed; or, with --html, a page for a "
        "browser of a bug or of a whole campaign",
        "shakeout report SH-7f3a --format pytorch --output report.md\n  shakeout report --html runs/nightly",
    )
    parser.add_argument(
        "case",
        nargs="?",
        metavar="CASE|RUN",
        help="a bug's id, a finding's folder, or a case.json; with --html a bug's id, or a campaign's directory "
        "(default: the newest)",
    )
    parser.add_argument(
        "--html",
        action="store_true",
        help="one file for a browser, which loads nothing: report.html, or a bug's SH-7f3a.html, in the campaign's "
        "directory",
    )
    parser.add_argument("--directory", type=Path, metavar="DIR", help="campaign of the id (default: the newest)")
    add_allow(parser)
    parser.add_argument("--format", choices=FORMATS, help="default: of the target")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output; of a page see --html")
    parser.add_argument("--anyway", action="store_true", help="a draft, although something speaks against a report")


def _of_case(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("case", help="a bug's id, a finding's folder, or a case.json")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="campaign of the id (default: the newest)")
    add_allow(parser)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, found {text!r}")
    return int(text)


def _bugs(options: argparse.Namespace) -> int:
    from shakeout.corpus.database import NAME, Database
    from shakeout.fuzz.commands import bugs

    filters = options.target or options.state or options.status or options.text
    if (options.note and options.what[:1] != ["set"]) or ((filters or options.top is not None) and options.what):
        raise Mistake(
            "bugs: --note goes with 'set ID STATUS'; --top, --target, --state, --status and --text with the list"
        )
    match options.what:
        case []:
            _list(options)
        case ["show", id_]:
            directory = existing(options.directory)
            with Database.read(directory / NAME) as database:
                bug = database.bug(id_)
                if options.json:
                    print_json(bugs.whole(database, bug))
                else:
                    print("\n".join(bugs.shown(directory, database, bug)))
        case ["set", id_, status, *others] if len(others) < 2:
            return _decide(options, id_, status, "".join(others))
        case ["merge", id_, other]:
            return _merge(options, id_, other)
        case ["split", id_, *findings] if findings:
            return _split(options, id_, findings)
        case _:
            known = "nothing, 'show ID', 'set ID STATUS', 'merge ID OTHER' or 'split ID FINDING...'"
            found = " ".join(options.what)
            hint = f"; of a campaign elsewhere: --directory {found}" if Path(found).is_dir() else ""
            raise Mistake(f"bugs: expected {known}, found {found!r}{hint}")
    return Exit.OK


def _list(options: argparse.Namespace) -> None:
    from shakeout.corpus.database import NAME, Database
    from shakeout.fuzz.commands import bugs

    wanted = bugs.Wanted(options.target or (), options.state or (), options.status or (), options.text)
    directory = existing(options.directory)
    with Database.read(directory / NAME) as database:
        found = bugs.listed(directory, database, wanted)
    if options.top is not None:
        first = found.ranked[: options.top]
        if options.json:
            print_json(bugs.top_described(first))
            return
        if not first:
            print(f"no {'bugs' if wanted == bugs.Wanted() else 'such bugs'} in {directory} that triage has come to")
        print("\n".join(bugs.top(first)), end="")
    elif options.json:
        print_json([bugs.described(row) for row in found.every])
    elif found.every or (found.waiting and wanted == bugs.Wanted()):
        every = "new" in (options.state or ())
        print("\n".join(bugs.lines(found, every=every, campaign=named(directory))))
    else:
        print(f"no {'bugs' if wanted == bugs.Wanted() else 'such bugs'} in {directory}")


def _decide(options: argparse.Namespace, id_: str, status: str, other: str) -> int:
    from shakeout.corpus.database import NAME, Database
    from shakeout.fuzz.commands import bugs

    with Database.open(existing(options.directory) / NAME) as database:
        bug = database.bug(database.decide(id_, status, other=other, note=options.note).bug)
        if options.json:
            print_json(bugs.whole(database, bug))
        else:
            print(bugs.row(database, bug))
    return Exit.OK


def _merge(options: argparse.Namespace, id_: str, other: str) -> int:
    from shakeout.corpus.database import NAME, Database
    from shakeout.fuzz.commands import bugs

    with Database.open(existing(options.directory) / NAME) as database:
        gone = database.bug(other)
        bug = database.merge(id_, gone.id)
        if options.json:
            print_json(bugs.whole(database, bug))
        else:
            print(bugs.row(database, bug))
            print(f"{gone.id} is {bug.id} now; take it back: shakeout bugs split {bug.id} {gone.id}")
    return Exit.OK


def _split(options: argparse.Namespace, id_: str, findings: Sequence[str]) -> int:
    from shakeout.corpus.database import NAME, Database
    from shakeout.fuzz.commands import bugs

    with Database.open(existing(options.directory) / NAME) as database:
        bug = database.bug(id_)
        chosen: list[int] = []
        for finding in findings:
            merged = next((move for move in reversed(database.moves(bug.id)) if move.other == finding), None)
            if finding.isdecimal():
                chosen.append(int(finding))
            elif merged is not None and merged.kind == "merge":
                chosen += merged.findings
            else:
                stored = ", ".join(str(one.id) for one in database.findings(bug.id)) or "none"
                none = f"{finding!r} is no finding of {bug.id}, and no bug that was merged into it"
                raise Mistake(f"bugs split: {none}; its findings are {stored}")
        other = database.split(bug.id, chosen)
        if options.json:
            print_json([bugs.whole(database, one) for one in (database.bug(bug.id), other)])
        else:
            for one in (database.bug(bug.id), other):
                print(bugs.row(database, one))
    return Exit.OK


def _replay(options: argparse.Namespace) -> int:
    from shakeout.fuzz.commands.replay import replay_case, replay_known, replay_script

    if options.all:
        return _replay_all(options)
    if options.case is None or options.json or options.runs is not None:
        raise Mistake("replay: say which case, or --all (--runs and --json go with it)")
    if options.case == "known":
        return _verdict(replay_known(options.target))
    path = Path(options.case)
    if path.suffix == ".py" and path.exists():
        return _verdict(replay_script(path))
    if not path.exists():
        if not options.case.upper().startswith("SH-"):
            raise Mistake(f"replay: {options.case!r} is no file, no bug's id (SH-...) and not 'known'")
        path = folder(options)
    if path.is_dir():
        path = path / "case.json"
    return _verdict(replay_case(path, options.target))


def _replay_all(options: argparse.Namespace) -> int:
    from rich.console import Console

    from shakeout.fuzz.campaign import config
    from shakeout.fuzz.commands.replay_all import replay_all_command
    from shakeout.fuzz.triage.replay_bugs import RUNS as EACH
    from shakeout.fuzz.workers.zygote_client import Interrupted, ZygoteBroken

    if options.target is not None or (options.runs is not None and options.runs < 1):
        raise Mistake("replay --all: --runs takes a positive number, and each case has a target of its own")
    named = Path(options.case) if options.case is not None else options.directory
    defaults = config.Config()
    try:
        return replay_all_command(
            existing(named) if named is not None or newest() is not None else None,
            workers=defaults.workers,
            memory=defaults.memory_limit,
            runs=options.runs or EACH,
            as_json=options.json,
            console=Console(highlight=False),
        )
    except ZygoteBroken as error:
        raise Mistake(f"torch could not be loaded:\n{error}", Exit.INFRASTRUCTURE) from None
    except Interrupted:
        return Exit.INTERRUPTED


def _verdict(status: int) -> Exit:
    """The exit status of a script as ours."""
    if status == 125:
        raise Mistake("replay: the case cannot run here", Exit.INFRASTRUCTURE)
    return Exit.OK if status == 0 else Exit.FOUND


def _minimise(options: argparse.Namespace) -> int:
    from rich.console import Console

    from shakeout.fuzz.campaign import config
    from shakeout.fuzz.commands.minimise import minimise_command
    from shakeout.fuzz.workers.zygote_client import Interrupted, ZygoteBroken

    for flag, value in (("--seconds", options.seconds), ("--tries", options.tries), ("--workers", options.workers)):
        if value is not None and not value > 0:
            raise Mistake(f"{flag}: expected a positive number, found {value!r}")
    if options.all:
        return _minimise_all(options)
    if options.case is None or options.again:
        raise Mistake("minimise: say which case, or --all for every bug of a campaign (and --again goes with --all)")
    path = located(options)
    defaults = config.Config()
    try:
        return minimise_command(
            path,
            seconds=options.seconds,
            tries=options.tries,
            workers=options.workers or defaults.workers,
            memory=defaults.memory_limit,
            plain=options.plain,
            console=Console(highlight=False),
        )
    except ZygoteBroken as error:
        raise Mistake(f"the target could not be loaded:\n{error}", Exit.INFRASTRUCTURE) from None
    except Interrupted:
        return Exit.INTERRUPTED


def _minimise_all(options: argparse.Namespace) -> int:
    from rich.console import Console

    from shakeout.fuzz.campaign import config
    from shakeout.fuzz.commands.minimise import minimise_all_command
    from shakeout.fuzz.minimise.search import Budget
    from shakeout.fuzz.workers.zygote_client import Interrupted

    defaults = config.Config()
    try:
        return minimise_all_command(
            existing(Path(options.case) if options.case is not None else options.directory),
            budget=Budget(options.seconds, options.tries),
            workers=options.workers or defaults.workers,
            memory=defaults.memory_limit,
            plain=options.plain,
            console=Console(highlight=False),
            again=options.again,
        )
    except Interrupted:
        return Exit.INTERRUPTED


def _bisect(options: argparse.Namespace) -> int:
    from rich.console import Console

    from shakeout.fuzz.bisect.stored import chosen
    from shakeout.fuzz.campaign.config import Config
    from shakeout.fuzz.commands.bisect import bisect_command

    if options.seconds is not None and not options.seconds > 0:
        raise Mistake(f"--seconds: expected a positive number, found {options.seconds!r}")
    console = Console(highlight=False, stderr=options.json)
    if options.env or options.versions or options.newest:
        if options.seconds is not None or options.again:
            raise Mistake("bisect: --seconds and --again go without --env, --versions and --newest")
        from shakeout.fuzz.bisect.environments import NotAnEnvironment
        from shakeout.fuzz.commands.bisect import releases_command

        try:
            return releases_command(
                chosen(located(options)),
                directories=options.env,
                versions=options.versions,
                newest=options.newest,
                plain=options.plain,
                as_json=options.json,
                console=console,
            )
        except NotAnEnvironment as error:
            raise Mistake(str(error)) from None
    defaults = Config()
    return bisect_command(
        chosen(located(options)),
        workers=options.workers or defaults.workers,
        memory=defaults.memory_limit,
        plain=options.plain,
        as_json=options.json,
        console=console,
        seconds=options.seconds,
        again=options.again,
    )


def _report(options: argparse.Namespace) -> int:
    if options.html:
        from shakeout.fuzz.commands.report import page_command

        if options.format is not None or options.anyway:
            raise Mistake("report: --format and --anyway go with a draft for a tracker, not with --html")
        return page_command(options.case, options.directory, options.output)
    if options.case is None:
        raise Mistake("report: say of which bug; --html writes a page of a whole campaign")
    from shakeout.fuzz.bisect.stored import chosen
    from shakeout.fuzz.commands.report import report_command

    return report_command(chosen(located(options)), form=options.format, output=options.output, anyway=options.anyway)
