"""The command ``shakeout corpus``: the interesting cases of a guided campaign, listed, thinned and shared."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.fuzz.commands.places import Add, Mistake, existing, print_json
from shakeout.fuzz.ground.exits import Exit

if TYPE_CHECKING:
    from shakeout.fuzz.steering.store import Entry, Store

__all__ = ["add_commands"]

_WHAT = {
    "list": "the entries, those that added most first",
    "show": "one entry: what it added, what it was made of, and its program",
    "distil": "keep the few and quick entries that show all that the kept ones show; the others are dropped",
    "merge": "take the entries of another campaign, or of an exported file; they are tried again before they are used",
    "export": "write the kept entries as a file (NAME.sqlite), or each as a case into a folder",
}


def add_commands(add: Add) -> None:
    """Add it to the parser."""
    text = "list, thin and share the interesting cases of a campaign with --coverage"
    corpus = add("corpus", _corpus, text, "shakeout corpus distil runs/2026-01-31a")
    corpus.add_argument("what", choices=tuple(_WHAT), help="; ".join(f"{name}: {text}" for name, text in _WHAT.items()))
    corpus.add_argument(
        "operand", nargs="?", metavar="ID | FROM | TO", help="of show, merge and export: an entry, a file or a folder"
    )
    corpus.add_argument(
        "--directory", type=Path, metavar="DIR", help="of the campaign (default: the newest below runs/)"
    )
    corpus.add_argument(
        "--state",
        action="append",
        metavar="STATE",
        help="list these only (kept, candidate, dropped, quarantined, stale)",
    )
    corpus.add_argument("--dry-run", action="store_true", help="of distil: only tell")
    corpus.add_argument("--json", action="store_true", help="of list and show: for programs")


def _corpus(options: argparse.Namespace) -> int:
    import contextlib

    from shakeout.fuzz.campaign.campaign_folder import DirectoryUnusable, locked
    from shakeout.fuzz.steering.store import NAME, Store

    wanted = {"show": "an entry's id", "merge": "a campaign or a file", "export": "where to"}.get(options.what)
    if wanted is not None and options.operand is None:
        raise Mistake(f"corpus {options.what}: expected {wanted}")
    if wanted is None and options.operand is not None:
        # The others take nothing but the campaign, which may as well come without its flag.
        options.directory = options.directory or Path(options.operand)
    directory = existing(options.directory)
    writes = options.what == "merge" or (options.what == "distil" and not options.dry_run)
    if not writes and not (directory / NAME).exists():
        raise Mistake(f"{directory} has no corpus: it was no campaign with --coverage", Exit.DIRECTORY)
    with contextlib.ExitStack() as stack:
        if writes:
            try:
                stack.enter_context(locked(directory))
            except DirectoryUnusable as error:
                raise Mistake(str(error), Exit.DIRECTORY) from None
        store = stack.enter_context(Store(directory / NAME, write=writes))
        return {"list": _list, "show": _show, "distil": _distil, "merge": _merge, "export": _export}[options.what](
            store, options
        )


def _list(store: Store, options: argparse.Namespace) -> int:
    from shakeout.fuzz.steering.store import STATES

    for state in options.state or ():
        if state not in STATES:
            raise Mistake(f"--state: expected one of {', '.join(STATES)}; found {state!r}")
    entries = sorted(store.entries(*(options.state or ())), key=lambda one: (-one.reward, one.id))
    if options.json:
        print_json([_row(entry) for entry in entries])
        return Exit.OK
    if not entries:
        print(f"{store.path.parent} has no such entry")
        return Exit.OK
    print(f"{'entry':<16} {'state':<11} {'target':<14} {'yield':>6} {'seconds':>7} {'used':>4}  made by")
    for entry in entries:
        print(
            f"{entry.id:<16} {entry.state:<11} {entry.target:<14} {entry.reward:6.1f} {entry.seconds:7.2f} "
            f"{entry.chosen:4}  {_made(entry)}"
        )
    return Exit.OK


def _made(entry: Entry) -> str:
    how = " + ".join((entry.generator, *entry.mutators)) if entry.mutators else entry.generator
    return f"{how} of {', '.join(entry.parents)}" if entry.parents else how


def _row(entry: Entry) -> dict[str, Any]:
    """An entry as JSON values; of the features that other sources told, their number."""
    return {**asdict(entry), "keys": len(entry.keys), "text": None}


def _found(store: Store, id_: str) -> Entry:
    entry = store.entry(id_)
    if entry is None:
        raise Mistake(f"no entry, or several, begin with {id_!r} (see: shakeout corpus list)")
    return entry


def _show(store: Store, options: argparse.Namespace) -> int:
    entry = _found(store, options.operand)
    if options.json:
        print_json({**_row(entry), "text": entry.text})
        return Exit.OK
    from shakeout.corpus import codec, script

    added = ", ".join(f"{count:,} of {source}" for source, count in (entry.counts or {}).items()) or "nothing"
    print(f"{entry.id}  {entry.state}{f': {entry.reason}' if entry.reason else ''}")
    print(f"target   {entry.target}, {entry.status or 'lost'}, {entry.seconds:.2f} s, case {entry.number}")
    print(f"made by  {_made(entry)}")
    print(f"added    {added}; showed it again in {entry.again} of {entry.tries} runs")
    print(f"used     for {entry.chosen} cases, which yielded {entry.yielded:.1f}")
    print(f"build    {entry.build}\n")
    case = codec.decode(entry.text)
    if case.setting.knobs:
        print(f"# knobs: {', '.join(f'{name}={value}' for name, value in case.setting.knobs)}")
    print(script.network(case.program))
    return Exit.OK


def _distil(store: Store, options: argparse.Namespace) -> int:
    from dataclasses import replace

    from shakeout.fuzz.steering.energy import covering, features_of

    kept = store.entries("kept")
    enough = covering(kept, features_of, lambda one: one.seconds)
    ids = {entry.id for entry in enough}
    before, after = sum(one.seconds for one in kept), sum(one.seconds for one in enough)
    if not options.dry_run:
        with store.transaction():
            for entry in kept:
                if entry.id not in ids:
                    store.put(replace(entry, state="dropped", reason="others show all that it shows"))
    verb = "would be kept" if options.dry_run else "kept"
    print(f"{len(enough)} of {len(kept)} entries {verb}, {after:.1f} of {before:.1f} s")
    for entry in enough:
        print(f"{entry.id}  {entry.target}  {_made(entry)}")
    return Exit.OK


def _merge(store: Store, options: argparse.Namespace) -> int:
    from shakeout.fuzz.steering.store import NAME, Store

    path = Path(options.operand)
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        raise Mistake(f"{options.operand} is no campaign with a corpus, and no exported file", Exit.DIRECTORY)
    if path.resolve() == store.path.resolve():
        raise Mistake("a corpus is not merged into itself")
    with Store(path, write=False) as other:
        taken = store.merge(other)
    print(f"{taken} entries taken from {path}; each runs again before anything is made of it")
    return Exit.OK


def _export(store: Store, options: argparse.Namespace) -> int:
    path, kept = Path(options.operand), store.entries("kept")
    if path.suffix == ".sqlite":
        store.export(path, kept)
    else:
        path.mkdir(parents=True, exist_ok=True)
        for entry in kept:
            (path / f"{entry.id}.json").write_text(entry.text, encoding="utf-8")
    print(f"{len(kept)} entries written to {path}")
    return Exit.OK
