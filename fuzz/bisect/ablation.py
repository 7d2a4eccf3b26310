"""Ablation of one case: whether it still fails with something left out, and what that something is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from shakeout.corpus.case import Case, Scalar
from shakeout.corpus.setting import RANDOM
from shakeout.fuzz.bisect.facts import Culprit, Cures, Note, Rung
from shakeout.fuzz.bisect.hooks import Limit
from shakeout.fuzz.bisect.kept import Asked, Memory
from shakeout.fuzz.bisect.search import Certainty, Step, Verdict, first_bad, merged
from shakeout.fuzz.bisect.trials import Executor, Shown, Trial, judged
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.randomness import may_draw
from shakeout.fuzz.minimise.predicate import MEASURED, NotReproduced, Reliability
from shakeout.targets.registry import target

__all__ = ["Ablation"]


class Ablation:
    """Runs trials of one case, each with something left out, remembers what they said, and counts.

    Args:
        case: that fails.
        execute: runs trials.
        wanted: the failure; None for the one that the case shows.
        tell: told in words what is tried.
        stop: asked now and then whether to give up.
        memory: what another ablation of the same case was told: it is not asked again.

    Attributes:
        case: the case; ladders may put a simpler setting in its place.
        certainty: how reliably it fails.
        trials: runs that were made.
        stage: the stage that the failure was blamed on.

    Raises:
        NotReproduced: it does not fail in the wanted way.
    """

    def __init__(
        self,
        case: Case,
        execute: Executor,
        *,
        wanted: Failure | None = None,
        tell: Callable[[str], None] = lambda text: None,
        stop: Callable[[], bool] = lambda: False,
        memory: Memory | None = None,
    ) -> None:
        self.case = case
        self.certainty = Certainty()
        self.trials = 0
        self.stage = ""
        self._execute = execute
        self._tell = tell
        self.stop = stop
        self._answers: dict[Asked, tuple[Shown, ...]] = {}
        self._remembered = {} if memory is None else dict(memory.answers)
        if memory is None:
            self.wanted, self.reliability = self._measured(wanted)
        else:
            self.wanted, self.reliability, self.stage = memory.wanted, memory.reliability, memory.stage
            self.trials = memory.trials
            self._recall(Trial(case))

    def memory(self) -> Memory:
        """What it was told so far, but for what the machine spoilt, or whoever stopped it."""
        known = {**self._remembered, **self._answers}
        told = {asked: shown for asked, shown in known.items() if self._judged(shown) != "infra"}
        return Memory(self.wanted, self.reliability, self.stage, self.trials, told)

    def _recall(self, trial: Trial) -> bool:
        """Whether an answer is remembered; it then counts from now on, as if it were given now."""
        shown = self._remembered.get(_key(trial))
        if shown is not None:
            self._keep(trial, shown)
        return shown is not None

    def _measured(self, wanted: Failure | None) -> tuple[Failure, Reliability]:
        """The failure, and how often it is there."""
        trial = Trial(self.case)
        shown = self._run([trial] * MEASURED, "as it is")
        failures = [one.failure for one in shown if one.failure is not None]
        if wanted is None and failures:
            wanted = max(failures, key=failures.count)
        verdicts = [judged(one, wanted) if wanted is not None else "good" for one in shown]
        if wanted is None or "bad" not in verdicts:
            told = ", ".join(sorted({str(one.failure or one.status) for one in shown}))
            asked = f" in the way that was told ({wanted})" if wanted is not None else ""
            raise NotReproduced(f"the case does not fail here{asked}: {told}")
        self.certainty.add(verdicts)
        self.stage = next(one.stage for one, verdict in zip(shown, verdicts, strict=True) if verdict == "bad")
        self._answers[_key(trial)] = tuple(shown)
        return wanted, Reliability(verdicts.count("bad"), len(verdicts))

    def _run(self, trials: Sequence[Trial], text: str) -> list[Shown]:
        self._tell(text)
        self.trials += len(trials)
        return list(self._execute(trials))

    # --- questions ------------------------------------------------------------------------------------------------

    def ask(self, trial: Trial, text: str) -> Verdict:
        """The verdict on one trial, from as many runs as the case's reliability demands."""
        return self.ask_all([(trial, text)])[0]

    def ask_all(self, questions: Sequence[tuple[Trial, str]]) -> list[Verdict]:
        """The verdicts on several trials, which run side by side."""
        times = self.certainty.needed
        asked = [(trial, text) for trial, text in dict(questions).items() if _key(trial) not in self._answers]
        fresh = [(trial, text) for trial, text in asked if not self._recall(trial)]
        if fresh:
            flat = [trial for trial, _ in fresh for _ in range(times)]
            shown = self._run(flat, fresh[0][1] if len(fresh) == 1 else f"{len(fresh)} switches, one by one")
            for place, (trial, text) in enumerate(fresh):
                some = shown[place * times : (place + 1) * times]
                lost = sum(one.status == "infra" for one in some)
                if lost and not self.stop():  # the machine's fault is not the trial's: once more
                    some = [one for one in some if one.status != "infra"]
                    some += self._run([trial] * lost, f"{text}, again")
                self._keep(trial, tuple(some))
        return [self._verdict(trial) for trial, _ in questions]

    def _keep(self, trial: Trial, shown: tuple[Shown, ...]) -> None:
        verdicts = [judged(one, self.wanted) for one in shown]
        if merged(verdicts) == "bad":
            self.certainty.add(verdicts)
        self._answers[_key(trial)] = shown

    def _verdict(self, trial: Trial) -> Verdict:
        return self._judged(self._answers[_key(trial)])

    def _judged(self, shown: Sequence[Shown]) -> Verdict:
        return merged([judged(one, self.wanted) for one in shown])

    def rungs(self, names: Sequence[str]) -> list[Rung]:
        """Whether the failure is there on other targets, under their default settings."""
        setting = self.case.setting
        trials = [Trial(replace(self.case, setting=replace(setting, target=name, knobs=()))) for name in names]
        return [Rung(name, self.ask(trial, f"with {name}")) for name, trial in zip(names, trials, strict=True)]

    def trust(self, rungs: Sequence[Rung]) -> float:
        """Probability that no good rung is a bad one in luck."""
        passed = sum(rung.verdict == "good" for rung in rungs)
        return float(self.certainty.of_good(self.certainty.needed) ** passed)

    def needed_knobs(self) -> tuple[tuple[str, Scalar], ...]:
        """Put knobs at their defaults as long as it fails, all or one after the other; what is left."""
        needed = {RANDOM} if may_draw(self.case) else set()
        for knobs in ((), *(((name,),) for name, _ in self.case.setting.knobs)):
            left_out = ({name for name, _ in self.case.setting.knobs} if not knobs else set(knobs[0])) - needed
            kept = tuple(pair for pair in self.case.setting.knobs if pair[0] not in left_out)
            if kept == self.case.setting.knobs or self.stop():
                continue
            fewer = replace(self.case, setting=replace(self.case.setting, knobs=kept))
            if self.ask(Trial(fewer), f"without {', '.join(sorted(left_out))}") == "bad":
                self.case = fewer
        return self.case.setting.knobs

    def cures(self, skip: Iterable[str] = ()) -> Cures:
        """Each knob of the target at each other value, alone; ``skip`` names knobs that are left as they are."""
        setting, left_out = self.case.setting, set(skip)
        switches = [
            (knob.name, value)
            for knob in target(setting.target).knobs()
            for value in knob.values
            if knob.drawn and knob.name not in left_out and value != setting.knob(knob.name, knob.values[0])
        ]
        trials = [Trial(self.switched(name, value)) for name, value in switches]
        told = self.ask_all(
            [(trial, f"{name}={value!r}") for trial, (name, value) in zip(trials, switches, strict=True)]
        )
        found = tuple(switch for switch, verdict in zip(switches, told, strict=True) if verdict == "good")
        return Cures(found, sum(verdict in ("good", "bad") for verdict in told))

    def switched(self, name: str, value: Scalar) -> Case:
        """The case with one knob at another value."""
        setting = self.case.setting
        knobs = tuple(sorted({**dict(setting.knobs), name: value}.items()))
        return replace(self.case, setting=replace(setting, knobs=knobs))

    # --- counting ---------------------------------------------------------------------------------------------------

    def culprit(self, kind: str, label: str, case: Case | None = None) -> Culprit | None:
        """The first of the things that a limit counts with which it fails.

        Args:
            kind: of limit.
            label: what a person calls such a thing.
            case: on another target or under another setting; the ablation's own by default.

        Returns:
            None if it fails without any of them too, or if nothing is told.
        """
        case = case or self.case
        whole = Trial(case, Limit(kind))
        if self.ask(whole, f"counting {plural(label)}") != "bad":
            return None
        count = len(self._names(whole))
        if not count or self.stop():
            return None
        nothing = self.ask(Trial(case, Limit(kind, 0)), f"without any {label}")
        if nothing in ("bad", "infra"):
            return None

        def test(index: int, times: int) -> list[Verdict]:
            trial = Trial(case, Limit(kind, index))
            self.ask(trial, f"with {index} of {count} {plural(label)}")
            return [judged(one, self.wanted) for one in self._answers[_key(trial)]]

        # What was asked of the two ends counts as steps too.
        certainty = Certainty(self.certainty.failed, self.certainty.runs)
        found = first_bad(count + 1, test, certainty=certainty, known={count: "bad"}, stop=self.stop, tell=_silent)
        if found.good is None or not found.complete or not found.suspects:
            return None
        last = found.suspects[-1]
        bad = Trial(case, Limit(kind, last)) if last < count else whole
        names = self._names(bad)[found.good : last]
        alone = None
        if found.first is not None:
            verdict = self.ask(Trial(case, Limit(kind, without=last - 1)), f"without {names[0]}")
            alone = {"good": True, "bad": False}.get(verdict)
        return Culprit(label, names, last, count, alone, found.confidence)

    def raised(self, kind: str, label: str, case: Case) -> Iterator[Culprit | Note]:
        """What a compiler had in hand when it raised, and what it raises at if that step is left out.

        Args:
            kind: of limit: what counts the places at which it raises.
            label: what a person calls what it has in hand.
            case: on the target that is asked.
        """
        whole, less = Trial(case, Limit(kind)), Trial(case, Limit(kind, 0))
        if self.ask(whole, f"at which {label} it raises") != "bad":
            return
        first = next(iter(self._names(whole)), "")
        if not first or self.stop():
            return
        yield Culprit(label, (first,))
        self.ask(less, "without the step that raises")
        behind = [one.names[-1] for one in self._answers[_key(less)] if one.failure is not None and one.names]
        if behind and behind[0] != first:
            yield Note(f"without that step it raises at {behind[0]}")

    def _names(self, trial: Trial) -> tuple[str, ...]:
        """What was counted in a run that failed."""
        shown = self._answers[_key(trial)]
        return next(one.names for one in shown if judged(one, self.wanted) == "bad")


def _key(trial: Trial) -> Asked:
    return trial.case.id, trial.limit


def plural(label: str) -> str:
    """Several of the things of one kind."""
    return label + ("es" if label.endswith("s") else "s")


def _silent(step: Step) -> None:
    """The ablation tells what it tries itself."""
