"""Running a campaign: perform what it asks for, journal what happened, resume by replaying."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from kepton.elt.campaign import (
    Action,
    Audit,
    Campaign,
    Distil,
    Explore,
    Goal,
    Label,
    Seed,
    State,
    Stop,
    Train,
)
from kepton.elt.journal import Event, Journal, Outcome
from kepton.elt.labelling import Labelling
from kepton.elt.problem import Failure, Problem
from kepton.elt.remote import Modelling
from kepton.elt.select import diverse
from kepton.errors import InputError

FEWEST_FAILURES = 4
"""Fewer failures never pause a campaign."""

TYPICAL = 6
"""One sample in so many is drawn from all that was visited, whatever its deviation, so that the
calibration knows the bulk as well as the tail."""


class Observer:
    """Hears what a running campaign does; override what interests you."""

    def begun(self, action: Action, state: State) -> None:
        """An action begins."""

    def labelled(self, done: int, total: int) -> None:
        """One more label of the present batch has arrived."""

    def happened(self, event: Event, state: State) -> None:
        """An event is in the journal, and the state is the one after it."""


@dataclass(frozen=True)
class Result:
    """How a campaign ended: its last state, the models handed out, and why it stopped."""

    state: State
    models: Any
    stop: Stop


def goal_of(journal: Journal) -> Goal:
    """The goal that the settings of a journal hold, with its latest budget."""
    return Goal(**journal.settings["goal"], **journal.settings["budget"])


def replay(journal: Journal, goal: Goal) -> State:
    """The state that the events in a journal lead to."""
    campaign = Campaign(goal)
    state = campaign.init()
    for event in journal.events():
        state = campaign.tell(state, event)
    return state


def run(
    problem: Problem,
    goal: Goal,
    journal: Journal,
    executor: Callable[[], Executor],
    workers: int = 1,
    observer: Observer | None = None,
    models: Callable[[], Executor] | None = None,
) -> Result:
    """Climb one rung: explore, label, train, until an audit certifies the error or budgets end.

    Args:
        problem: the rung
        goal: target, confidence, coverage, budgets
        journal: where everything is recorded; one with events in it is continued
        executor: makes a `concurrent.futures.Executor`, anew whenever a worker has died
        workers: labels in flight at a time
        observer: hears of progress
        models: makes an executor that explores, trains, distils and draws audits; none: all of it
            is done here
    """
    observer = observer or Observer()
    return _Run(problem, goal, journal, executor, workers, observer, models).to_the_end()


def labels(
    problem: Problem,
    goal: Goal,
    journal: Journal,
    samples: Sequence[Any],
    executor: Callable[[], Executor],
    workers: int = 1,
    observer: Observer | None = None,
) -> list[Any | Failure]:
    """Labels of samples beside the campaign, each paid for once and kept in its journal."""
    one = _Run(problem, goal, journal, executor, workers, observer or Observer(), None)
    with closing(one.labelling):
        return one.labels(samples)


class _Run:
    def __init__(self, problem, goal, journal, executor, workers, observer, models):
        self.problem, self.goal, self.journal = problem, goal, journal
        self.observer = observer
        self.labelling = Labelling(problem, journal, executor, workers, observer.labelled)
        self.modelling = Modelling(problem, models)
        self.campaign = Campaign(goal, workers)
        self.state = replay(journal, goal)
        self._restored: dict[int, Any] = {}

    def to_the_end(self) -> Result:
        with closing(self.labelling), closing(self.modelling):
            return self.steps()

    def labels(self, samples: Sequence[Any]) -> list[Any | Failure]:
        encoded = self._encoded(samples)
        self.journal.append("asked", {}, samples=encoded)
        keys = self._keys(encoded)
        self.labelling.fetch(keys)
        found = self.journal.outcomes(keys)
        return [
            Failure(outcome.failure or "", outcome.seconds)
            if outcome.label is None
            else self.problem.decode(outcome.label)
            for outcome in (found[key] for key in keys)
        ]

    def steps(self) -> Result:
        while not isinstance(action := self.campaign.ask(self.state), Stop):
            self.observer.begun(action, self.state)
            start = time.monotonic()
            kind, data, content = self.perform(action)
            data["seconds"] = time.monotonic() - start
            event = self.journal.append(kind, data, **content)
            self.state = self.campaign.tell(self.state, event)
            self.observer.happened(event, self.state)
        return Result(self.state, self.runner, action)

    @property
    def models(self) -> Any:
        """Those that were trained, None before the first training."""
        return self._saved(self.state.model)

    @property
    def runner(self) -> Any:
        """Those that are handed out."""
        return self._saved(self.state.runner or self.state.model)

    def _saved(self, id: int | None) -> Any:
        if id is None:
            return None
        if id not in self._restored:
            present = {self.state.model, self.state.runner, self.state.former}
            self._restored = {k: v for k, v in self._restored.items() if k in present}
            self._restored[id] = self.problem.restore(self.journal.model(id))
        return self._restored[id]

    def key(self, stage: int) -> int:
        """A random seed of this campaign, round, audit and stage alone, so that reruns agree."""
        audits = len(self.state.verdicts)
        words = np.random.SeedSequence((self.goal.seed, self.state.round, audits, stage))
        return int(words.generate_state(1)[0])

    def perform(self, action: Action) -> tuple[str, dict[str, Any], dict[str, Any]]:
        match action:
            case Seed(count):
                samples = self._encoded(self.problem.seed(count, self.key(0)))
                return "seeded", {"seed": self._keys(samples)}, {"samples": samples}
            case Label():
                return "labelled", self._label(action), {}
            case Train():
                data = self._data(self.state.data)
                models = self.modelling("train", data, self.models, self.key(1))
                return (
                    "trained",
                    {"data": len(self.state.data)},
                    {"model": self.problem.save(models)},
                )
            case Explore(count):
                return self._explore(count)
            case Distil():
                known = [self._sample(key) for key in self.state.data]
                former = self._saved(self.state.former)
                distilled = self.modelling("distil", self.models, former, known, self.key(4))
                if distilled is None:
                    return "distilled", {"model": self.state.model}, {}
                models, info = distilled
                return "distilled", info, {"model": self.problem.save(models)}
            case Audit(plan):
                draws = self.modelling("audit", self.runner, plan.draws, self.key(3))
                samples = [d for d in draws if not isinstance(d, Failure)]
                encoded = self._encoded(samples)
                keys = iter(self._keys(encoded))
                audit = ["" if isinstance(d, Failure) else next(keys) for d in draws]
                return "drawn", {"audit": audit, "plan": asdict(plan)}, {"samples": encoded}
        raise AssertionError(action)

    def _explore(self, count: int) -> tuple[str, dict[str, Any], dict[str, Any]]:
        calibration = self.state.calibration
        target = self.goal.target
        trust = calibration.threshold(target, 0.9)
        known = [self._sample(key) for key in self.state.data]
        seen = self.modelling("explore", self.models, known, trust, self.key(2))
        failing = float(calibration.exceeds(seen.visited, target).mean())
        chosen, typical = [], []
        if not self.campaign.worth_an_audit(self.state, failing):
            typical = self._encoded(seen.typical[: count // TYPICAL])
            doubt = calibration.exceeds(seen.deviation, target)
            doubt = np.where(doubt > 1.0 - self.goal.coverage, doubt, 0.0)
            features = partial(self.problem.features, self.models)
            if len(seen.samples):
                rest = count - len(typical)
                chosen_before = known + [self._sample(key) for key, _ in self.state.late]
                picked = diverse(features(seen.samples), doubt, features(chosen_before), rest)
                chosen = self._encoded([seen.samples[i] for i in picked])
        explored = self._keys(chosen)
        data = {
            "failing": failing,
            "trust": trust,
            "suspect": calibration.threshold(target, 1.0 - self.goal.coverage),
            "visited": [float(d) for d in seen.visited],
            "explored": explored,
            "typical": [key for key in self._keys(typical) if key not in explored],
            **seen.info,
        }
        return "explored", data, {"samples": chosen + typical}

    def _label(self, asked: Label) -> dict[str, Any]:
        self.labelling.fetch([key for key in asked.keys if key], asked.late, asked.patience)
        found = self.journal.outcomes(asked.keys)
        keys = [key for key in asked.keys if key in found or not key]
        self._check_failures(found)
        good = [key for key in keys if key and found[key].label is not None]
        columns = {name: np.full(len(good), np.nan) for name in ("deviation", "error")}
        lost = {"deviation": float("nan"), "error": float("inf")}
        if self.state.model is not None and good:
            data = self._data(good)
            columns["deviation"] = self.problem.deviation(self.models, [s for s, _ in data])
            columns["error"] = self.problem.error(self.models, data)
            if self.state.audit:
                columns["audited"] = self.problem.error(self.runner, data)
        if self.state.audit:
            lost["audited"] = float("inf")
        measured = {
            key: {name: float(values[i]) for name, values in columns.items()}
            for i, key in enumerate(good)
        }
        outcomes = []
        for key in keys:
            failure = found[key].failure if key else "The walk broke."
            outcomes.append({"key": key, "failure": failure} | measured.get(key, lost))
        cost = sum(found[key].seconds for key in keys if key)
        return {"outcomes": outcomes, "label_seconds": cost}

    def _check_failures(self, found: dict[str, Outcome]) -> None:
        """Pause where most of a batch failed: what is wrong is not the samples."""
        failed = {key: outcome.failure for key, outcome in found.items() if outcome.failure}
        if len(failed) < FEWEST_FAILURES or len(failed) <= self.goal.failures * len(found):
            return
        reason, times = Counter(failed.values()).most_common(1)[0]
        self.journal.withdraw(list(failed), {"reason": reason})
        raise InputError(
            f"{len(failed)} of {len(found)} labels failed, {times} of them so: {reason} Mend what "
            "is wrong and run the same command again: they will be tried anew, and what succeeded "
            "is kept. If such failures are to be expected, give [budget] failures = 1 and they "
            "count as failed."
        )

    def _encoded(self, samples: Sequence[Any]) -> list[bytes]:
        return [self.problem.encode(sample) for sample in samples]

    def _keys(self, samples: Sequence[bytes]) -> list[str]:
        return [self.journal.key(sample) for sample in samples]

    def _sample(self, key: str) -> Any:
        return self.problem.decode(self.journal.sample(key))

    def _data(self, keys: Sequence[str]) -> list[tuple[Any, Any]]:
        return [(self._sample(key), self.problem.decode(self.journal.label(key))) for key in keys]
