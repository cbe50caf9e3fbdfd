"""A campaign survives the death of its process, of its workers, and its user's impatience."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import analytic
import pytest
from analytic import SMALL, Analytic, climb, essence

from kepton.elt.campaign import Goal
from kepton.elt.journal import Journal
from kepton.elt.run import Observer, replay, run
from kepton.errors import InputError
from kepton.execution import process_pool


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The small campaign, uninterrupted, and its journal's path."""
    path = tmp_path_factory.mktemp("whole") / "journal.db"
    return climb(path, SMALL), path


def test_replaying_the_journal_gives_the_state(whole):
    result, path = whole
    state = replay(Journal(path), SMALL)
    assert repr(state) == repr(result.state)


def test_a_finished_campaign_is_not_begun_again(whole, tmp_path):
    result, path = whole
    events = len(Journal(path).events())
    again = climb(path, SMALL, Analytic(log=tmp_path / "log"))
    assert again.stop == result.stop
    assert len(Journal(path).events()) == events
    assert not (tmp_path / "log").exists()
    for name in result.models:
        assert (again.models[name] == result.models[name]).all()


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(whole, tmp_path, workers):
    again = climb(tmp_path / "journal.db", SMALL, Analytic(spread=1e-3), workers)
    assert essence(again.state) == essence(whole[0].state)


def test_another_seed_is_another_campaign(whole, tmp_path):
    other = climb(tmp_path / "journal.db", replace(SMALL, seed=1))
    assert not set(other.state.data) & set(whole[0].state.data)


@pytest.mark.parametrize("stride", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_anywhere_it_ends_as_if_nothing_had_happened(whole, tmp_path, stride):
    """SIGKILL before every so-manieth statement of its SQL: in and between transactions.

    A label's transaction has three statements, and three does not divide ten, so all places in
    it are met in turn. No label is paid for twice but those of the two workers in flight.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, analytic.__file__, str(tmp_path), "1", str(stride)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(reports) > 20
    assert [r["killed"] for r in reports] == [True] * (len(reports) - 1) + [False]
    again = 0
    for report in reports:
        assert report["state"] == essence(whole[0].state), f"statement {report['n']}"
        assert sum(report["counts"]) - len(report["counts"]) <= 2
        assert len(report["counts"]) == whole[0].state.labels
        again += max(report["counts"]) > 1
    assert again > 0  # some were indeed killed in flight


def one_round(**options):
    """Seeds, one training and one audit, with workers that are processes."""
    return Goal(target=10.0, confidence=0.5, coverage=0.5, labels=8, seed_labels=6, **options)


def test_a_sample_that_kills_its_worker_is_a_failure_and_no_other_is(tmp_path):
    healthy = climb(tmp_path / "healthy.db", one_round()).state
    seeds = [m.key for m in healthy.measured if m.origin == "seed"]
    samples = [json.loads(Journal(tmp_path / "healthy.db").sample(key)) for key in seeds]
    deadly = Analytic(log=tmp_path / "log", deadly=(samples[2], samples[2]))
    journal = Journal(tmp_path / "journal.db", deadly.settings)
    result = run(deadly, one_round(), journal, partial(process_pool, 2), 2)
    seeds = [m for m in result.state.measured if m.origin == "seed"]
    assert [m.failure for m in seeds if m.failure] == [
        "The worker that computed this label died, twice."
    ]
    dead = next(m.key for m in seeds if m.failure)
    assert deadly.decode(journal.sample(dead)) == samples[2]
    assert len(result.state.data) == result.state.labels - 1
    assert result.stop.certified
    begun = (tmp_path / "log").read_text().split()
    # once or more among others, then alone until it has died twice
    assert 2 <= begun.count(repr(samples[2])) <= 3
    # the others once, or twice when they were in flight with it
    assert all(begun.count(repr(x)) <= 2 for x in samples if x != samples[2])


class Impatient(Observer):
    """Presses Ctrl-C when the so-manieth label arrives."""

    def __init__(self, after):
        self.left = after

    def labelled(self, done, total):  # noqa: ARG002
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 4, 9, 14])
def test_an_interrupted_campaign_is_continued(whole, tmp_path, after):
    problem = Analytic(log=tmp_path / "log")
    path = tmp_path / "journal.db"
    with pytest.raises(KeyboardInterrupt):
        climb(path, SMALL, problem, observer=Impatient(after))
    result = climb(path, SMALL, problem)
    assert essence(result.state) == essence(whole[0].state)
    begun = (tmp_path / "log").read_text().split()
    assert len(begun) - len(set(begun)) <= 2


def test_a_mistake_in_the_principle_is_raised_and_can_be_mended(whole, tmp_path):
    path = tmp_path / "journal.db"
    with pytest.raises(ZeroDivisionError, match="a mistake in the principle"):
        climb(path, SMALL, Analytic(wrong=(-0.6, 0.0)))
    recorded = Journal(path).outcomes().values()
    assert all(outcome.failure is None for outcome in recorded)
    assert essence(climb(path, SMALL).state) == essence(whole[0].state)


class Listener(Observer):
    def __init__(self):
        self.heard, self.progress = [], []

    def begun(self, action, state):
        self.heard.append((type(action).__name__, state.labels))

    def labelled(self, done, total):
        self.progress.append((done, total))

    def happened(self, event, state):
        self.heard.append((event.kind, state.labels))


def test_an_observer_hears_of_every_action_label_and_event(whole, tmp_path):
    listener = Listener()
    result = climb(tmp_path / "journal.db", SMALL, observer=listener)
    done = {"Seed": "seeded", "Label": "labelled", "Train": "trained", "Explore": "explored"}
    done |= {"Distil": "distilled", "Audit": "drawn"}
    kinds = [name for name, _ in listener.heard]
    assert [done[name] for name in kinds[::2]] == kinds[1::2]
    assert len(kinds) == 2 * len(Journal(whole[1]).events())
    assert listener.progress[:6] == [(k, 6) for k in range(1, 7)]
    assert len(listener.progress) == result.state.labels


def test_process_pools_end_with_their_parent(tmp_path):
    """A worker in mid-label notices within half a second that its parent was killed."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal, time\n"
        "from kepton.execution import process_pool\n"
        "if __name__ == '__main__':\n"
        "    pool = process_pool(1)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    pool.submit(time.sleep, 60)\n"
        "    time.sleep(0.2)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert parent.returncode == -9, parent.stderr
    worker = Path(f"/proc/{int(parent.stdout)}")
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc")
    for _ in range(50):
        if not worker.exists():
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent by five seconds")


def test_most_labels_failing_pauses_the_campaign_and_the_rerun_tries_them_anew(tmp_path):
    problem = Analytic(offline=tmp_path / "offline")
    problem.offline.touch()
    journal = Journal(tmp_path / "journal.db", problem.settings)
    told = r"6 of 6 labels failed, 6 of them so: The licence server .* tried anew"
    for _ in range(2):
        with pytest.raises(InputError, match=told):
            run(problem, one_round(), journal, partial(process_pool, 2), 2)
    paused = [event.data for event in journal.events() if event.kind == "paused"]
    assert [len(data["outcomes"]) for data in paused] == [6, 6]
    assert not journal.outcomes()
    problem.offline.unlink()
    result = run(problem, one_round(), journal, partial(process_pool, 2), 2)
    assert result.stop.certified
    assert not [m for m in result.state.measured if m.failure]


def test_failures_that_are_to_be_expected_count_as_failed(tmp_path):
    problem = Analytic(refused=(-1.0, 0.0))
    goal = one_round(seed=1)
    with pytest.raises(InputError, match=r"[45] of 6 labels failed, .* not defined here"):
        run(problem, goal, Journal(tmp_path / "a.db", problem.settings), partial(process_pool, 2))
    goal = replace(goal, failures=1.0)
    result = run(
        problem, goal, Journal(tmp_path / "b.db", problem.settings), partial(process_pool, 2)
    )
    assert len([m for m in result.state.measured if m.failure]) >= 4
