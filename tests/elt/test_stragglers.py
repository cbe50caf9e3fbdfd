"""Training does not wait for the slowest labels, audits do, and none is lost or paid for twice."""

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from analytic import SMALL, Analytic, climb, essence, failing

from kepton.elt import campaign as rules
from kepton.elt.campaign import Goal
from kepton.elt.journal import Journal
from kepton.elt.run import replay

WORKERS = 8


def slow_at(sample: float) -> bool:
    """Where the curve is sharp, which is where models err."""
    return 0.45 < sample < 0.75


class SlowWhereItIsSharp(Analytic):
    """The slowest labels are those with the largest errors."""

    def label(self, sample):
        time.sleep(0.04 if slow_at(sample) else 0.001)
        return super().label(sample)


@dataclass(frozen=True)
class Held(Analytic):
    """The label of one sample is held back until the second training, or an hour.

    Args:
        held: the sample
        during: called in the second training
        free: lets the label go on
    """

    held: float = 2.0
    during: Any = None
    free: threading.Event = field(default_factory=threading.Event)

    def label(self, sample):
        answer = super().label(sample)
        if sample == self.held:
            self.free.wait(3600)
        return answer

    def train(self, data, models, key):
        if models is not None:
            self.during(self)
        return super().train(data, models, key)


def until(found, seconds=20.0):
    """What `found` gives, once it gives something."""
    deadline = time.monotonic() + seconds
    while not (answer := found()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return answer


@pytest.fixture(scope="module")
def straggler(tmp_path_factory):
    """A sample of the first round of the small campaign, which is the same for any workers."""
    path = tmp_path_factory.mktemp("whole") / "journal.db"
    whole = climb(path, SMALL)
    chosen = [m for m in whole.state.measured if m.origin == "explored" and m.round == 1]
    assert len(chosen) > 2
    return Analytic().decode(Journal(path).sample(chosen[1].key))


def batches(journal):
    return [
        [o["key"] for o in e.data["outcomes"]] for e in journal.events() if e.kind == "labelled"
    ]


def test_a_straggler_is_recorded_during_training_and_joins_the_next_round(straggler, tmp_path):
    path, recorded = tmp_path / "journal.db", []

    def during(problem):
        if problem.free.is_set():
            return
        watch = Journal(path)
        key = watch.key(problem.encode(straggler))
        recorded.append(key in watch.outcomes())
        problem.free.set()
        recorded.append(until(lambda: key in watch.outcomes()))
        watch.close()

    problem = Held(log=tmp_path / "log", held=straggler, during=during)
    result = climb(path, SMALL, problem, WORKERS)
    assert recorded == [False, True]
    journal = Journal(path)
    key = journal.key(problem.encode(straggler))
    first, second, third = batches(journal)[:3]
    assert key not in first + second
    assert third[0] == key
    (measured,) = [m for m in result.state.measured if m.key == key]
    assert (measured.origin, measured.round) == ("explored", 2)
    assert np.isfinite([measured.deviation, measured.error]).all()
    assert (tmp_path / "log").read_text().split().count(repr(straggler)) == 1
    assert repr(replay(journal, SMALL)) == repr(result.state)
    assert not result.state.late


def test_a_straggler_in_flight_when_the_campaign_ends_abruptly_is_asked_for_again(
    straggler, tmp_path
):
    path = tmp_path / "journal.db"

    def press_ctrl_c(problem):  # noqa: ARG001
        raise KeyboardInterrupt

    problem = Held(log=tmp_path / "log", held=straggler, during=press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        climb(path, SMALL, problem, WORKERS)
    problem.free.set()
    state = replay(Journal(path), SMALL)
    assert [problem.decode(Journal(path).sample(key)) for key, _ in state.late] == [straggler]
    result = climb(path, SMALL, Analytic(log=tmp_path / "log"), WORKERS)
    begun = (tmp_path / "log").read_text().split()
    assert begun.count(repr(straggler)) == 2
    assert len(begun) == len(set(begun)) + 1
    assert result.state.labels == len(set(begun)) == len(result.state.measured)
    assert repr(replay(Journal(path), SMALL)) == repr(result.state)


def test_labels_quicker_than_training_are_never_late(tmp_path):
    """So that any number of workers comes to the same end, however labels overtake each other."""

    class Deliberate(Analytic):
        def train(self, data, models, key):
            time.sleep(0.2)
            return super().train(data, models, key)

    goal = replace(SMALL, batch_labels=8)
    alone = climb(tmp_path / "alone.db", goal, workers=1)
    many = climb(tmp_path / "many.db", goal, Deliberate(spread=5e-3), WORKERS)
    assert essence(many.state) == essence(alone.state)


GOAL = Goal(target=0.05, labels=300, seed_labels=8, batch_labels=12)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    """Results and journals of campaigns without patience, in which the worst labels are late."""
    folder, climbed = tmp_path_factory.mktemp("impatient"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "_patience", lambda state: 0.0)  # noqa: ARG005
        for seed in range(4):
            path = folder / f"{seed}.db"
            result = climb(path, replace(GOAL, seed=seed), SlowWhereItIsSharp(), WORKERS)
            climbed.append((result, Journal(path)))
    return climbed


def test_audits_miss_no_label_however_slow(impatient):
    """Their errors are those of their draws in the order of the draws, computed once more."""
    problem, slow, late = Analytic(), 0, 0
    for result, journal in impatient:
        audits, drawn, runner = [], False, None
        for event in journal.events():
            keys = [outcome["key"] for outcome in event.data.get("outcomes", ())]
            match event.kind:
                case "trained":
                    drawn, runner = False, problem.restore(journal.model(event.data["model"]))
                case "explored":
                    chosen = event.data["explored"] + event.data["typical"]
                case "drawn":
                    drawn, due = True, event.data["audit"]
                    audits.append([])
                case "labelled" if drawn:
                    now, due = due[: len(keys)], due[len(keys) :]
                    assert keys == now
                    x = [problem.decode(journal.sample(key)) for key in keys]
                    slow += sum(map(slow_at, x))
                    pairs = [(x, problem.decode(journal.label(k))) for x, k in zip(x, keys)]
                    audits[-1] += problem.error(runner, pairs).tolist()
                case "labelled" if runner:
                    late += len(set(chosen) - set(keys))
        assert [list(verdict.errors) for verdict in result.state.verdicts] == audits
        measured = [m.key for m in result.state.measured]
        assert len(measured) == len(set(measured)) == result.state.labels
    assert late > 0
    assert slow > 0


def test_certificates_of_campaigns_with_stragglers_are_true(impatient):
    """Each may be false with probability 0.05; two of four are false in one world of seventy."""
    certified = [result for result, _ in impatient if result.stop.certified]
    assert len(certified) >= 3
    assert sum(failing(one.models, GOAL.target) > 1 - GOAL.coverage for one in certified) <= 1
