"""Reads every case file of a directory as the commands do, under an audit hook; run as a process of its own.

What is admitted becomes text, its text is executed, and the program is run. Prints what each file came to, and whatever
the hook saw that a case must not bring about: a process, a write, a connection, an import by a name of the file's.

Usage: audited.py DIRECTORY NAME...: the names are of modules that nothing but a file could ask for.
"""

import json
import os
import sys
import warnings
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN: tuple[str, ...] = (
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.kill",
    "os.putenv",
)
FORBIDDEN += ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.link", "os.symlink", "shutil.")
FORBIDDEN += ("socket.", "ctypes.dlopen", "ctypes.cdata", "pickle.find_class", "webbrowser.", "urllib.", "ftplib.")
#: Most elements that are made: a case of a hostile size is read, and is not run here.
SMALL = 1 << 16

seen: list[str] = []
armed = False


def hook(event: str, args: tuple) -> None:
    if not armed:
        return
    if event == "import" and args[0].partition(".")[0] in names:
        seen.append(f"import {args[0]}")
    elif event == "open":
        path, mode, flags = args
        if (mode and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & WRITES):
            seen.append(f"open {path} {mode} {flags}")
    elif event.startswith(FORBIDDEN):
        seen.append(f"{event} {str(args)[:200]}")


def outcome(path: Path) -> str:
    """What a file comes to: how it is refused, or what became of it."""
    from shakeout.corpus import script, standalone
    from shakeout.corpus.codec import MalformedCase
    from shakeout.fuzz.running.case_file import read_case, render
    from shakeout.targets.target import UnknownTarget

    try:
        case = read_case(path, None)
    except (MalformedCase, UnknownTarget) as error:
        lines = str(error).splitlines()
        return f"refused: {error}" if len(lines) == 1 else f"SEVERAL LINES: {error}"
    if "" not in (case.text, script.network(case.program)):
        compile(render(case), "repro.py", "exec")
    namespace = script.load(case)
    sizes = [storage.size for inputs in case.input_sets for storage in inputs.storages]
    sizes += [n for type_ in case.program.types() if type_ is not None for n in type_.shape]
    if sum(sizes) > SMALL:
        return "read"
    try:
        standalone.run(namespace["bind"], namespace["arguments"], namespace["CALLS"], lambda network: network)
    except Exception as error:  # eager's own refusal
        return f"rejected: {type(error).__name__}"
    return "ran"


def main(directory: Path) -> None:
    """Every file, after one has gone all the way so that what is loaded late is loaded."""
    global armed
    files = sorted(directory.glob("*.json"))
    warm = Path(__file__).parents[2] / "corpus" / "data" / "known" / "negative-zero-plus-zero.json"
    assert outcome(warm) == "ran"
    sys.addaudithook(hook)
    told = {}
    for path in files:
        before = len(seen)
        armed = True
        try:
            said = outcome(path)
        except BaseException as error:
            said = f"RAISED {type(error).__name__}: {error}"
        armed = False
        told[path.name] = [said, *seen[before:]]
    print(json.dumps(told))


if __name__ == "__main__":
    names = set(sys.argv[2:])
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
