"""Head and base at work: what is there, cases that run on one side or on both at once, a campaign on the head."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shakeout.fuzz.gate.cases import Candidate
from shakeout.fuzz.gate.sending import SILENCE, Done, Errand, Failed, versions_of, waited
from shakeout.fuzz.gate.sides import Broken, Side
from shakeout.fuzz.gate.told import SideTold
from shakeout.fuzz.gate.trials import Runs, replaying, rows
from shakeout.fuzz.ground.exits import Exit

__all__ = ["Pair"]


@dataclass(slots=True)
class Pair:
    """Both sides.

    Attributes:
        base, head: the sides.
        targets: what is tested, and has to work.
        scratch: for what the processes are given and print.
        workers: cases at work at a time.
        memory: bytes that a case may take.
        hear: told each event of what runs in the environments, as JSON values.
        stop: asked now and then whether to give up.
        root: of the repository; None if there is none.
        about: what is there, by role, once ``look`` has been.

    Whatever is told ``until`` when it may take is ended then, and what it has told by then counts.
    """

    base: Side
    head: Side
    targets: tuple[str, ...]
    scratch: Path
    workers: int
    memory: int
    hear: Callable[[Mapping[str, Any]], None]
    stop: Callable[[], bool]
    root: Path | None = None
    about: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    # --- what is there ----------------------------------------------------------------------------------------------

    def look(self, until: float, further: Sequence[str] = ()) -> None:
        """See what is installed and how each target stands, on both sides at once.

        Args:
            until: when a side that has not answered is given up.
            further: targets that need not work: of those the corpus alone has cases.

        Raises:
            Broken: a side cannot be used.
            Failed: the head has no such target.
            Interrupted: somebody asked to stop.
        """
        request = {"errand": "about", "targets": list(dict.fromkeys((*self.targets, *further)))}
        for side in (self.head, self.base):
            versions_of(side, until)
        with ExitStack() as stack:
            errands = [Errand(side, self.scratch, request) for side in (self.head, self.base)]
            for errand in errands:
                stack.callback(errand.end)
                errand.start()
            for errand, done in zip(
                errands, waited(errands, stop=self.stop, silence=SILENCE, until=until), strict=True
            ):
                side = errand.side
                if done.late:
                    raise Broken(
                        f"the {side.role} {side.name} did not say what is installed there before the budget was over: "
                        f"importing torch or a target hangs, or takes longer than --budget (see {errand.log})"
                    )
                self.about[side.role] = self._usable(side, done.answer)

    def _usable(self, side: Side, about: Mapping[str, Any]) -> Mapping[str, Any]:
        missing = [name for name in about["lacking"] if name in ("torch", "numpy")]
        if missing:
            raise Broken(
                f"the {side.role} {side.name} has no {' and no '.join(missing)}; install it there: "
                f"{side.python} -m pip install {' '.join(missing)}"
            )
        if about["broken"]:
            raise Broken(f"the {side.role} {side.name}: its torch cannot be imported: {about['broken']}")
        for name in self.targets:
            found = about["targets"][name]
            if found["state"] == "broken":
                raise Broken(f"the {side.role} {side.name}: target {name} cannot be used: {found['why']}")
            if found["state"] == "absent" and side.role == "head":
                raise Failed(f"the head {side.name}: {found['why']}", Exit.USAGE)
        return about

    def collect(self, until: float) -> bool:
        """Collect the samples of the head's operators; whether they are kept for the next gate.

        Raises:
            Broken: they were not there in time.
            Failed: it cannot be done.
            Interrupted: somebody asked to stop.
        """
        (done,) = self._waited(until, Errand(self.head, self.scratch, {"errand": "samples"}, self._lacking(self.head)))
        if done.late:
            raise Broken(
                f"the head {self.head.name}: the samples of its operators were not collected in time; where nothing "
                f"else is at work they take a minute or two (see {self.scratch / 'head-samples.log'})"
            )
        return bool(done.answer["kept"])

    def told(self, side: Side) -> SideTold:
        """A side for a report."""
        about = self.about.get(side.role)
        versions = {} if about is None else {"python": str(about["python"]), **about["versions"]}
        return SideTold(side.role, side.name, str(side.python), side.commit, versions)

    def absent(self, target: str) -> bool:
        """Whether the base has no such target."""
        return bool(self.about["base"]["targets"].get(target, {}).get("state") == "absent")

    def place(self, target: str) -> dict[str, Any]:
        """File and line of a target's source on the head, from the repository on; nothing if it lies elsewhere."""
        about = self.about["head"]["targets"].get(target, {})
        if self.root is None or not about.get("file"):
            return {}
        try:
            file = Path(about["file"]).resolve().relative_to(self.root.resolve())
        except ValueError:
            return {}
        return {"file": file.as_posix(), "line": max(int(about.get("line", 1)), 1)}

    # --- at work ----------------------------------------------------------------------------------------------------

    def fuzz(self, config: Mapping[str, Any], directory: Path, until: float) -> Done:
        """A campaign on the head; raises Failed, Interrupted.

        Args:
            config: what is asked for.
            directory: of the campaign; what was found lies there, whether it came to its end or not.
            until: when it is ended, and findings that wait are left as they are.
        """
        request = {"errand": "fuzz", "config": dict(config), "directory": str(directory)}
        return self._waited(until, Errand(self.head, self.scratch, request, self._lacking(self.head)))[0]

    def once(self, side: Side, candidates: Sequence[Candidate], until: float) -> dict[str, Runs]:
        """Candidates on one side, once each, as many as there is time for; raises Broken, Failed, Interrupted."""
        if not candidates:
            return {}
        (done,) = self._waited(until, self._replaying(side, candidates, 1, self.workers))
        return self._ran(side, candidates, rows(done.messages))

    def both(
        self, ours: Sequence[Candidate], theirs: Sequence[Candidate], k: int, until: float
    ) -> tuple[dict[str, Runs], dict[str, Runs]]:
        """Candidates K times on head and base, both at once; raises Broken, Failed, Interrupted."""
        workers = max(self.workers // 2, 1)
        asked = [(side, chosen) for side, chosen in ((self.head, ours), (self.base, theirs)) if chosen]
        errands = [self._replaying(one, chosen, k, workers, told=one is self.head) for one, chosen in asked]
        found = {
            side.role: self._ran(side, chosen, rows(one.messages))
            for (side, chosen), one in zip(asked, self._waited(until, *errands), strict=True)
        }
        return found.get("head", {}), found.get("base", {})

    def reduce(self, files: Mapping[str, Path], seconds: float, until: float) -> dict[str, Path]:
        """Files of smaller cases that fail on the head for the same reason, by id; raises Failed, Interrupted.

        Args:
            files: of the cases, by id.
            seconds: for each.
            until: for all.
        """
        request = {
            "errand": "reduce",
            "cases": {id_: str(path.absolute()) for id_, path in files.items()},
            "seconds": seconds,
            "workers": self.workers,
            "memory": self.memory,
        }
        (done,) = self._waited(until, Errand(self.head, self.scratch, request, self._lacking(self.head)))
        return {str(one["reduced"]): Path(one["case"]) for one in done.messages if "reduced" in one}

    def _ran(self, side: Side, candidates: Sequence[Candidate], found: dict[str, Runs]) -> dict[str, Runs]:
        """What ran; a target of which nothing could run is a side that is broken, and no note beside each finding."""
        for name in self.targets:
            own = [found[one.id] for one in candidates if one.case.setting.target == name and one.id in found]
            if own and not any(one.runs for one in own):
                raise Broken(f"the {side.role} {side.name}: nothing runs on {name}: {own[0].note}")
        return found

    def _replaying(
        self, side: Side, candidates: Sequence[Candidate], runs: int, workers: int, *, told: bool = False
    ) -> Errand:
        return replaying(
            side,
            self.scratch,
            candidates,
            runs,
            workers=workers,
            memory=self.memory,
            lacking=self._lacking(side),
            ready=[name for name, found in self.about[side.role]["targets"].items() if found["state"] == "ready"],
            told=told,
        )

    def _waited(self, until: float, *errands: Errand) -> list[Done]:
        if time.monotonic() >= until:
            return [Done({}, late=True) for _ in errands]

        def tell(message: Mapping[str, Any]) -> None:
            if "event" in message:
                self.hear(message["event"])

        with ExitStack() as stack:
            for errand in errands:
                stack.callback(errand.end)
                errand.start()
            return waited(errands, tell, self.stop, until=until)

    def _lacking(self, side: Side) -> Sequence[str]:
        return tuple(self.about[side.role]["lacking"])
