"""Decides what each job of a guided campaign is, and learns from what came of it.

A job is decided once, when it is handed out, and written down whole before it is done; what is decided follows from
the campaign's seed, the job's number, and what the answers so far have shown. So a campaign that goes on does the jobs
again that were in hand, and decides the next ones by all that it had learnt.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.fuzz.coverage.hits import Hits
from shakeout.fuzz.ground.jobs import Grow, Job, Make, Mutate, Run
from shakeout.fuzz.ground.results import Answer, Result
from shakeout.fuzz.steering.arms import GROWN, Arm, chosen
from shakeout.fuzz.steering.energy import energy
from shakeout.fuzz.steering.features import SPACE, Added, added
from shakeout.fuzz.steering.store import Decision, Entry, Store
from shakeout.generators.choices import Choices, SeededChoices
from shakeout.targets.registry import facts_of

__all__ = ["MOTIFS", "MUTATORS", "Replays", "Steering"]

#: Names of what generators and workers have (tests compare): the supervisor imports no torch, which they do.
MUTATORS = (
    *("delete", "insert", "replace", "rewire", "attribute", "splice"),
    *("dtype", "shape", "layout", "values", "mode", "knobs", "enclose"),
)
MOTIFS = ("attention", "normalisation", "rotary", "convolution", "gated", "recurrent")

#: Share of jobs whose target is that of the campaign's usual turn, so that none is forgotten.
USUAL_TARGET = 0.3

#: What a failure with a signature that the campaign had not seen is worth, beside what its case added: as much as a
#: hundred functions. Failures are what it is for, and what finds them should be done more.
FAILURE = 10.0

#: How often one more mutator changes a mutant, and how many do at most: some three on average, so that program and
#: setting change together as well, and few mutants are near-copies of their parent.
MORE = 0.7
MOST = 6

#: Entries among which a parent is drawn by energy. To weigh thousands for each job would take the supervisor longer
#: than some targets take for a case; and a draw of some leaves each a chance.
DRAWN = 64

#: Candidates among which the next one that runs again is chosen, the newest: early on nearly every case is one, and
#: what was new then is common by now.
LOOKED = 512

#: How much more an entry of the same target weighs than one of another target.
OWN = 2.0

#: An interesting case is run again before anything is made of it, and kept if it shows the same in ``AGAIN`` of at most
#: ``TRIES`` runs; there is a second one only where the first did not. One whose features show in nine runs of ten is
#: then lost once in a hundred times, where a single run would lose one in ten; one that showed them by a chance of one
#: in ten is kept one time in five, and what that costs is some mutants of a parent that is worth nothing.
AGAIN, TRIES = 1, 2

#: Of what a case added in code, so many places at most are watched again when it runs again, evenly among them.
CLAIMS = 512

#: Share of those that it has to show for them to count as its own. What a process does once, whoever comes first, is
#: not shown again: of a first case that is nearly all. What depends on addresses or threads leaves some out.
SHOWN = 0.5

#: Share of the workers' time that goes into such runs at most.
REPLAYED = 0.15

#: Kept entries of which nothing was made yet, beyond which no candidate runs again: a reserve that the next mutants
#: draw from. Without this limit some 32 of 115 runs in a short campaign on eager were such runs, for eight mutants.
RESERVE = 6


class Steering:
    """What one campaign does next.

    Args:
        store: its interesting cases.
        targets: that work.
        build: versions of what is tested, as text.
        modes: whether cases of inference and of training are wanted.
        only_grown: every case is to be grown anew, since the configuration says what of; targets compete all the same.
    """

    def __init__(
        self, store: Store, targets: Sequence[str], build: str, *, modes: bool = True, only_grown: bool = False
    ) -> None:
        self._store = store
        self._targets = tuple(targets)
        self._build = build
        self._modes = modes
        self._only_grown = only_grown
        self._words: Counter[str] = Counter(store.words())
        self._arms = store.arms()
        self._entries: dict[str, Entry] = {}
        decided = store.decisions()
        self._transferred = {(one.target, one.parents) for one in decided if one.generator == "transfer"}
        #: How many cases of each target were grown anew.
        self._grown = Counter(one.target for one in decided if one.generator == "grow")
        with store.transaction():
            for entry in store.entries("kept", "candidate", "stale"):
                if entry.target not in self._targets:
                    continue  # of another campaign, or of a target that cannot be used today
                # Another build may do otherwise: what an entry is worth has to be seen again.
                state = entry.state if entry.build == build else "stale"
                self._keep(entry if state == entry.state else replace(entry, state=state))
        self.spent = sum(arm.seconds for arm in self._arms.get("target", {}).values())

    # --- deciding ---------------------------------------------------------------------------------------------------

    def decide(self, usual: Grow) -> Make | Run:
        """The job with a number, given the one that the campaign would do without steering."""
        # Other decisions than those by which the case is made.
        choices = SeededChoices(usual.seed ^ 0x5EED)
        if choices.boolean(1 - USUAL_TARGET) and len(self._targets) > 1:
            usual = replace(usual, target=self._chosen(choices, "target", self._targets))
        usual = replace(usual, told=True)
        parents = self._parents(usual.target)
        untried = [one for one in parents if one.target != usual.target and not self._was_transferred(usual, one)]
        torch = facts_of(usual.target).vocabulary == "torch"
        names = ["grow"]
        if not self._only_grown and not choices.boolean(GROWN):
            names += ["motif"] * torch + ["mutate"] * bool(parents) + ["transfer"] * bool(untried)
        match self._chosen(choices, f"generator for {usual.target}", names):
            case "motif":
                motif = self._chosen(choices, "motif", MOTIFS)
                return self._note(replace(usual, recipe={**usual.recipe, "motif": motif}), "motif", (motif,))
            case "mutate":
                return self._mutation(choices, usual, parents)
            case "transfer":
                entry = self._drawn(choices, untried, usual.target)
                case = codec.decode(entry.text).on(usual.target)
                self._transferred.add((usual.target, (entry.id,)))
                run = Run(
                    target=usual.target, device=usual.device, number=usual.number, case=case.text, seed=0, told=True
                )
                return self._note(run, "transfer", (), (entry.id,))
        if "index" in usual.recipe:
            # Operators come in turn, by this number. By that of the campaign's case those would be left out whose turn
            # comes when something else than growing anew is decided: nearly every other one.
            usual = replace(usual, recipe={**usual.recipe, "index": self._grown[usual.target]})
        self._grown[usual.target] += 1
        return self._note(usual, "grow")

    def _mutation(self, choices: Choices, usual: Grow, parents: Sequence[Entry]) -> Make | Run:
        parent = self._drawn(choices, parents, usual.target)
        names = [name for name in MUTATORS if name != "mode" or self._modes]
        if not facts_of(usual.target).regions:
            names.remove("enclose")
        asked = [self._chosen(choices, "mutator", names)]
        while len(asked) < MOST and choices.boolean(MORE):
            asked.append(self._chosen(choices, "mutator", [name for name in names if name not in asked]))
        partner = choices.pick(parents) if "splice" in asked else None
        job = Mutate(
            target=usual.target,
            device=usual.device,
            number=usual.number,
            seed=usual.seed,
            knobs=usual.knobs,
            settings=usual.settings,
            avoid=usual.avoid,
            told=True,
            parent=parent.text,
            mutators=tuple(asked),
            partner="" if partner is None else partner.text,
            modes=self._modes,
        )
        ids = (parent.id,) if partner is None else (parent.id, partner.id)
        return self._note(job, "mutate", tuple(asked), ids)

    def _note(
        self, job: Make | Run, generator: str, mutators: tuple[str, ...] = (), parents: tuple[str, ...] = ()
    ) -> Make | Run:
        self._store.decide(Decision(job.number, job.target, generator, mutators, parents))
        return job

    def _was_transferred(self, usual: Grow, entry: Entry) -> bool:
        return (usual.target, (entry.id,)) in self._transferred

    def _chosen(self, choices: Choices, kind: str, names: Sequence[str]) -> str:
        return chosen(self._arms.get(kind, {}), names, choices.fraction())

    def _parents(self, target: str) -> list[Entry]:
        """Kept entries of which a case for a target can be made."""
        facts = facts_of(target)

        def fits(entry: Entry) -> bool:
            if entry.target == target:
                return True
            return facts.vocabulary == "torch" and facts_of(entry.target).vocabulary == "torch"

        return [entry for entry in self._entries.values() if entry.state == "kept" and fits(entry)]

    def _drawn(self, choices: Choices, entries: Sequence[Entry], target: str) -> Entry:
        """One of the entries, by energy."""
        some = entries if len(entries) <= DRAWN else [choices.pick(entries) for _ in range(DRAWN)]
        return choices.weighted(
            [(one, energy(one, self._words) * (OWN if one.target == target else 1.0)) for one in some]
        )

    # --- learning ---------------------------------------------------------------------------------------------------

    def learn(self, answer: Answer, result: Result, new: Sequence[Hits]) -> None:
        """Take what came of a case of a job that was decided here.

        Args:
            answer: in which it came.
            result: what came of it.
            new: what it reached that no case of the campaign had reached before.
        """
        decision = self._store.decision(answer.job.number)
        if decision is None:
            return
        reply, what, seconds = answer.reply, added(new), answer.seconds
        failure = f"signatures:{result.signature}" if result.signature else ""
        made = reply.made if decision.generator == "mutate" and reply.made else decision.mutators
        with self._store.transaction():
            reward = what.reward + (FAILURE if failure and failure not in self._words else 0.0)
            words = (*reply.space, failure) if failure else reply.space
            self._words.update(words)
            self._store.count(words)
            self._learn(decision, made, reward, seconds)
            if what.reward and reply.case and result.status == "compared" and not (result.signature or result.relation):
                self._found(decision, made, answer, result, what)

    def _learn(self, decision: Decision, made: Sequence[str], reward: float, seconds: float) -> None:
        self.spent += seconds
        arms = [("target", decision.target), (f"generator for {decision.target}", decision.generator)]
        if decision.generator in ("mutate", "motif"):
            kind = "motif" if decision.generator == "motif" else "mutator"
            arms += [(kind, name) for name in made]
        for kind, name in arms:
            arm = self._arms.setdefault(kind, {}).get(name, Arm()).learnt(reward, seconds)
            self._arms[kind][name] = arm
            self._store.learn(kind, name, arm)
        known = self._store.decision(decision.number) or decision
        total = (known.reward or 0.0) + reward, (known.seconds or 0.0) + seconds
        self._store.decide(replace(decision, reward=total[0], seconds=total[1]))
        for parent in decision.parents[:1]:
            if (entry := self._entries.get(parent)) is not None:
                self._entries[parent] = replace(entry, chosen=entry.chosen + 1, yielded=entry.yielded + reward)
                self._store.use(parent, reward)

    def _found(self, decision: Decision, made: Sequence[str], answer: Answer, result: Result, what: Added) -> None:
        if result.case in self._entries:
            return
        self._keep(
            Entry(
                id=result.case,
                state="candidate",
                target=result.target,
                text=answer.reply.case,
                build=self._build,
                generator=decision.generator,
                mutators=tuple(made),
                parents=decision.parents,
                counts=what.counts,
                keys=what.keys,
                words=answer.reply.space,
                status=result.status,
                seconds=answer.seconds,
                reward=what.reward,
                number=decision.number,
            )
        )

    def lost(self, answer: Answer, case: Case | None, reason: str) -> None:
        """A case ended its worker, or ran out of its time: it is kept apart, and what it cost is learnt."""
        decision = self._store.decision(answer.job.number)
        if decision is None:
            return
        with self._store.transaction():
            self._learn(decision, decision.mutators, 0.0, answer.seconds)
            if case is not None:
                self._keep(
                    Entry(
                        id=case.id,
                        state="quarantined",
                        target=case.setting.target,
                        text=case.text,
                        build=self._build,
                        generator=decision.generator,
                        mutators=decision.mutators,
                        parents=decision.parents,
                        seconds=answer.seconds,
                        number=decision.number,
                        reason=reason,
                    )
                )

    def _keep(self, entry: Entry) -> None:
        """Store an entry, and remember it as long as something may be made of it."""
        self._store.put(entry)
        if entry.state in ("kept", "candidate", "stale"):
            self._entries[entry.id] = replace(entry, keys=frozenset())  # they are many, and nobody asks for them here
        else:
            self._entries.pop(entry.id, None)

    # --- running again ----------------------------------------------------------------------------------------------

    def waiting(self) -> Entry | None:
        """The entry of most energy that has not shown yet what it is worth; None if there is none, or no need of it."""
        if sum(one.state == "kept" and not one.chosen for one in self._entries.values()) >= RESERVE:
            return None
        waiting = [one for one in self._entries.values() if one.state in ("candidate", "stale")]
        return max(waiting[-LOOKED:], key=lambda one: energy(one, self._words), default=None)

    def claims(self, id_: str) -> tuple[int, ...]:
        """What an entry added in code, as far as it is asked to show that again."""
        stored = self._store.entry(id_)
        keys = sorted(stored.keys) if stored is not None and stored.state == "candidate" else []
        return tuple(keys[:: -(-len(keys) // CLAIMS) or 1])

    def shown(self, id_: str, answer: Answer, new: Sequence[Hits]) -> None:
        """Take what an entry showed when it was run again."""
        stored = self._store.entry(id_)
        if stored is None or stored.state not in ("candidate", "stale"):
            return
        reply = answer.reply
        if answer.loss is not None:
            if answer.loss.kind != "interrupted":
                self._keep(replace(stored, state="quarantined", reason=f"{answer.loss.kind} when it ran again"))
            return
        result, what = reply.result, added(new)
        same = result is not None and result.status == stored.status and not result.signature
        if stored.state == "stale":
            # What it had added was added to another campaign, or to another build.
            self._words.update(reply.space)
            self._store.count(reply.space)
            fresh = replace(
                stored, counts=what.counts, keys=what.keys, words=reply.space, reward=what.reward, build=self._build,
                seconds=answer.seconds, state="kept", tries=1, again=1,
            )  # fmt: skip
            if not same or not what.reward:
                reason = "adds nothing here" if same else "shows something else here"
                fresh = replace(fresh, state="dropped", again=0, reason=reason)
            self._keep(fresh)
            return
        own = stored
        if reply.rearmed and reply.shown < SHOWN * reply.rearmed:
            # What it was the first to reach in code is not its own; what it is made of may be reason enough.
            space = (stored.counts or {}).get(SPACE, 0)
            own = replace(stored, counts={SPACE: space}, keys=frozenset(), reward=math.sqrt(space))
            same = same and space > 0
        same = same and set(stored.words) <= set(reply.space)
        tried = replace(own if same else stored, tries=stored.tries + 1, again=stored.again + same)
        if tried.again >= AGAIN:
            tried = replace(tried, state="kept")
        elif tried.tries >= TRIES:
            tried = replace(tried, state="dropped", reason=f"shows something else in {TRIES} of {TRIES} runs")
        self._keep(tried)


class Replays:
    """Runs interesting cases again: a source of jobs, for a share of the time.

    Args:
        steering: whose they are.
        device: of the campaign.
        cover: enters what an answer reached in the campaign's books, and gives what of it is new.
        found: told of a case that fails, which passed before, with its text and script.
    """

    def __init__(
        self,
        steering: Steering,
        device: str,
        cover: Callable[[Answer], Sequence[Hits]],
        found: Callable[[Job, Result, str, str, Sequence[Job]], None],
    ) -> None:
        self._steering = steering
        self._device = device
        self._cover = cover
        self._found = found
        self._spent = 0.0
        self._given: dict[int, tuple[Job, str]] = {}
        self.closed = False

    def next(self) -> Job | None:
        """The run of an entry that waits for it, unless they took their share already, or one is at work."""
        if self.closed or self._given or self._spent > REPLAYED * self._steering.spent:
            return None
        if (entry := self._steering.waiting()) is None:
            return None
        claims = self._steering.claims(entry.id)
        job = Run(target=entry.target, device=self._device, case=entry.text, told=True, claims=claims)
        self._given[id(job)] = (job, entry.id)
        return job

    def done(self, answer: Answer) -> None:
        """Take an answer to one of its jobs."""
        self._spent += answer.seconds
        _, id_ = self._given[id(answer.job)]
        if answer.loss is not None or not answer.reply.partial:
            del self._given[id(answer.job)]
        result = answer.reply.result
        if result is not None and result.relation:
            return  # of the case that a relation made of it
        self._steering.shown(id_, answer, self._cover(answer))
        if result is not None and result.signature:
            self._found(answer.job, result, answer.reply.case, answer.reply.script, answer.history)
