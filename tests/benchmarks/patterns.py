"""Measures which patterns of Inductor's pre-grad, joint-graph and post-grad passes cases make fire, and how often.

Run it directly: ``python tests/benchmarks/patterns.py [--seconds S] [--workers W] [--rows FILE]``. The list of
patterns is read from torch: every entry of every pattern matcher, after all of Inductor's lazy registrations were run.
Cases come from three arms in turn: ``plain`` growth as in a campaign, networks around the ``motifs`` that ship, and
networks around ``theirs``, the functions that torch itself traced its patterns from. Each is compiled by Inductor, run
and judged. A row of JSON is appended for each case, so a run that is killed loses nothing and the next one goes on
behind it. ``--write`` makes the table of ``docs/patterns.md`` of the rows, and runs nothing.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import itertools
import json
import pkgutil
import re
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import right
from tests.benchmarks.apart import Apart, spread

from shakeout.corpus.case import Case, Setting
from shakeout.corpus.files import write_whole
from shakeout.fuzz.campaign.schedule import seed_of
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.running import compose, leaks
from shakeout.fuzz.running.execute import execute
from shakeout.fuzz.steering.steering import MOTIFS
from shakeout.targets.registry import target

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "docs" / "patterns.jsonl"
PAGE = ROOT / "docs" / "patterns.md"

SEED = 20_730

ARMS = ("plain", "motifs", "theirs")

#: Settings in turn. Freezing is for inference; the others ask for nothing that a user would not switch on.
KNOBS: tuple[dict[str, Any], ...] = (
    {},
    {"freezing": True},
    {},
    {"efficient_conv_bn_eval_fx_passes": True},
    {"permute_fusion": True},
)

#: Seconds after which a case counts as hanging, and its process ends.
LIMIT = 120

#: Numbers among the arguments of torch's functions; nothing is dropped, so that there is something to compare.
SCALARS = {"dropout_p": 0.0, "inv_scale": 2.0}

#: Between these lines of the page the table stands.
BEGIN, END = "<!-- the table -->", "<!-- end of the table -->"

#: Why a pattern cannot fire here, by what stands in its name: the first that is found there.
REASONS = {
    r"micro_pipeline_tp|ddp_fusion|fsdp|bucketing|overlap": "several processes only",
    r"quantization\.py": "quantised operators, which no case has",
    r"group_batch_fusion|b2b_gemm": "its setting is off by default and no knob here",
    r"split_cat\.py": "in `pre_grad_fusion_options`, off by default and no knob here",
    r"pad_mm\.py|shape_padding": "on an accelerator only",
    r"numeric_utils|auto_chunker": "its setting is off by default and no knob here",
    r"mkldnn_fusion\.py": "prepacked weights: after freezing, in inference, of some dtypes",
    r"freezing_patterns|binary_folding": "after freezing, in inference",
}


# --- what there is ----------------------------------------------------------------------------------------------------


def load() -> dict[str, Case]:
    """Have this process register every pattern; gives the functions of those that torch traced from one, as cases."""
    from torch._inductor import fx_passes, pattern_matcher

    traced: list[tuple[str, Any, tuple[Any, ...], Mapping[str, Any]]] = []
    register = pattern_matcher.register_replacement

    @functools.wraps(register)
    def noting(search: Any, replace: Any, inputs: Any, *args: Any, **kwargs: Any) -> bool:
        traced.append((str(kwargs.get("pattern_name") or search.__name__), search, tuple(inputs), kwargs))
        return register(search, replace, inputs, *args, **kwargs)

    pattern_matcher.register_replacement = noting  # type: ignore[assignment]
    for found in pkgutil.iter_modules(fx_passes.__path__):
        try:
            module = importlib.import_module(f"{fx_passes.__name__}.{found.name}")
        except Exception as error:  # of what is for other devices
            print(f"{found.name} cannot be imported: {type(error).__name__}: {error}", flush=True)
            continue
        if getattr(module, "register_replacement", None) is register:
            module.register_replacement = noting  # type: ignore[attr-defined]
    for name in ("pre_grad", "joint_graph", "post_grad", "freezing_patterns"):
        module = importlib.import_module(f"{fx_passes.__name__}.{name}")
        if (begin := getattr(module, "lazy_init", None)) is not None:
            begin()
    return dict(_cases(traced))


def _cases(traced: list[tuple[str, Any, tuple[Any, ...], Mapping[str, Any]]]) -> Iterator[tuple[str, Case]]:
    from shakeout.corpus.intake.capturing import capture

    seen = set()
    for name, search, inputs, kwargs in traced:
        # The same function is traced with and without a gradient, which is drawn here.
        seed = re.sub("_(training|inference)$", "", name)
        if seed in seen:
            continue
        args = [_real(one) for one in inputs]
        wanted = list(inspect.signature(search).parameters)[len(args) :]
        more = {
            **dict(kwargs.get("scalar_workaround") or {}),
            **{one: SCALARS[one] for one in wanted if one in SCALARS},
        }
        try:
            with torch.no_grad():
                case = capture(
                    search, args, more,
                    setting=Setting("inductor"), mode="inference", levels=("torch",),
                ).case  # fmt: skip
        except Exception as error:
            print(f"{name} is no seed: {type(error).__name__}: {str(error).splitlines()[0][:100]}", flush=True)
            continue
        if case.program.calls and not case.program.structured():
            seen.add(seed)
            yield seed, case


def _real(one: Any) -> Any:
    """A tensor of the same type on the CPU, small where it is large."""
    if not isinstance(one, torch.Tensor):
        return one
    shape = [min(int(size), 8) for size in one.shape]
    if one.dtype.is_floating_point or one.dtype.is_complex:
        return torch.randn(shape, dtype=one.dtype)
    return torch.ones(shape, dtype=one.dtype)


class Watched:
    """Every pattern that is registered, and how often each was applied in this process."""

    def __init__(self) -> None:
        from shakeout.targets.witnesses import inductor

        self.exist: dict[str, None] = {}
        self.fired: Counter[str] = Counter()
        inductor(self._tell)

    def _tell(self, kind: str, word: str, happened: bool = True, /) -> None:
        if kind == "patterns":
            self.exist.setdefault(word)
            self.fired[word] += happened


# --- cases ------------------------------------------------------------------------------------------------------------


def case_of(index: int, theirs: Mapping[str, Case]) -> tuple[str, Case]:
    """The arm of a case, and the case."""
    from shakeout.generators.choices import SeededChoices
    from shakeout.generators.motifs.patterns import grow_pattern
    from shakeout.generators.recipe import Recipe

    arm = ARMS[index % len(ARMS)]
    own = index // len(ARMS)
    knobs, seed = KNOBS[own % len(KNOBS)], seed_of(SEED, index)
    mode = "inference" if knobs.get("freezing") else None
    if arm == "theirs" and theirs:
        names = sorted(theirs)
        asked = Recipe(mode=mode)  # type: ignore[arg-type]
        vocabulary = compose.vocabulary_of("inductor")
        grown = grow_pattern(SeededChoices(seed), asked, (theirs[names[own % len(names)]],), vocabulary)
        setting = Setting("inductor", tuple(sorted(knobs.items())), grown.mode)
        return arm, Case(grown.program, grown.input_sets, setting)
    recipe: dict[str, Any] = {"index": own, **({"mode": mode} if mode else {})}
    if arm == "motifs":
        recipe["motifs"] = [*MOTIFS, "shakeout.targets.compilers.conv_bn:conv_bn_tune"]
    job = Grow(
        number=index, target="inductor", seed=seed, recipe=recipe, knobs=knobs, knob_share=0.0, device="cpu"
    )  # fmt: skip
    return arm, compose.compose(job).case


def row_of(index: int, watched: Watched, theirs: Mapping[str, Case]) -> dict[str, Any]:
    """What one case made fire, and what came of it."""
    signal.alarm(LIMIT)
    watched.fired.clear()
    began = time.monotonic()
    arm, case = case_of(index, theirs)
    result = execute(case, explain=False)
    signal.alarm(0)
    row = {"index": index, "arm": arm, "status": result.status, "fired": dict(+watched.fired)}
    if result.signature:
        row |= {"signature": result.signature, "case": case.text}
    return {**row, "seconds": round(time.monotonic() - began, 2)}


def measure(seconds: float, workers: int, file: Path, watched: Watched, theirs: Mapping[str, Case]) -> None:
    """Append rows until the time is over."""
    done = {row["index"] for row in rows(file) if "index" in row}
    ends = time.monotonic() + seconds
    following = itertools.count(max(done, default=-1) + 1)

    def start() -> Callable[[int], Any]:
        return Apart(lambda index: row_of(index, watched, theirs))

    def job() -> int | None:
        return next(following) if time.monotonic() < ends else None

    told = 0
    with file.open("a", encoding="utf-8") as out:
        if not done:
            out.write(json.dumps({"patterns": list(watched.exist), "seeds": sorted(theirs), **right.versions()}) + "\n")
        for index, row in spread(start, job, workers):
            row = row or {"index": index, "arm": ARMS[index % len(ARMS)], "status": "died", "fired": {}}
            out.write(json.dumps(row) + "\n")
            out.flush()
            told += 1
            if told % 100 == 0 or "signature" in row:
                left = max(ends - time.monotonic(), 0)
                print(f"{told} cases, {left:.0f} s left {row.get('signature', '')}", flush=True)


def rows(file: Path) -> list[dict[str, Any]]:
    """What was measured; a last line that was cut off is left out."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


# --- the table --------------------------------------------------------------------------------------------------------


def table(every: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of the table: each pattern, in how many cases of each arm it fired, or why it never did."""
    head = next(row for row in every if "patterns" in row)
    cases = [row for row in every if "index" in row]
    known = dict.fromkeys([*head["patterns"], *(name for row in cases for name in row["fired"])])
    count = {arm: sum(row["arm"] == arm for row in cases) for arm in ARMS}
    by = {arm: Counter(name for row in cases if row["arm"] == arm for name in row["fired"]) for arm in ARMS}
    fired = {arm: sum(by[arm][name] > 0 for name in known) for arm in ARMS}
    total = sum(any(by[arm][name] for arm in ARMS) for name in known)
    failed = sum("signature" in row for row in cases)
    yield (
        f"torch {head['torch']}: {len(known)} patterns, of which {total} fired in {len(cases):,} cases; {failed} cases "
        "failed (known bugs among them; not triaged here)."
    )
    yield ""
    yield "| arm | cases | patterns that fired | that fired in no other arm |"
    yield "|---|---|---|---|"
    for arm in ARMS:
        alone = sum(by[arm][name] > 0 and not any(by[one][name] for one in ARMS if one != arm) for name in known)
        yield f"| {arm} | {count[arm]:,} | {fired[arm]} | {alone} |"
    yield ""
    yield "| pattern | " + " | ".join(ARMS) + " | if never, why |"
    yield "|---" * (len(ARMS) + 2) + "|"
    for name in sorted(known, key=lambda name: (-sum(by[arm][name] for arm in ARMS), name)):
        never = not any(by[arm][name] for arm in ARMS)
        why = _reason(name) if never else ""
        said = name.replace("|", "\\|")
        yield " | ".join((f"| `{said}`", *(str(by[arm][name]) for arm in ARMS), f"{why} |"))


def _reason(name: str) -> str:
    return next((why for part, why in REASONS.items() if re.search(part, name)), "not met in these cases")


def page(text: str, every: list[dict[str, Any]]) -> str:
    """The page with the table of these rows."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + "\n".join(table(every)) + "\n" + END + after


def main() -> None:
    """Measure, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.write:
        write_whole(PAGE, page(PAGE.read_text(encoding="utf-8"), rows(options.rows)))
        return
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    compose.prepare(lambda text: print(text, flush=True))
    target("inductor").warm()
    watched = Watched()
    theirs = load()
    leaks.look()
    print(f"{len(watched.exist)} patterns, {len(theirs)} of torch's own functions as seeds", flush=True)
    measure(options.seconds, options.workers, options.rows, watched, theirs)


if __name__ == "__main__":
    main()
