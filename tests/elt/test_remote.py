"""Work on models that another process does."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from analytic import SMALL, Analytic, climb, essence

from kepton.elt.journal import Journal
from kepton.elt.remote import LOST_ALLOWED
from kepton.elt.run import run
from kepton.errors import InputError
from kepton.execution import process_pool


@dataclass(frozen=True)
class Doomed(Analytic):
    """Its worker is killed in so many trainings, each of which leaves a mark."""

    marks: Path = Path()
    deaths: int = 0

    def train(self, data: Any, models: Any, key: int) -> Any:
        done = len(list(self.marks.iterdir()))
        if done < self.deaths:
            (self.marks / f"{done}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().train(data, models, key)


def elsewhere(problem, path):
    """A campaign that labels in a thread, and works on models in another process."""
    labels = partial(ThreadPoolExecutor, 1)
    journal = Journal(path, problem.settings)
    try:
        return run(problem, SMALL, journal, labels, models=partial(process_pool, 1))
    finally:
        journal.close()


@pytest.mark.parametrize("deaths", [0, 1])
def test_models_made_elsewhere_are_the_same(tmp_path, deaths):
    (tmp_path / "marks").mkdir()
    here = climb(tmp_path / "here.db", SMALL)
    there = elsewhere(Doomed(marks=tmp_path / "marks", deaths=deaths), tmp_path / "there.db")
    assert essence(there.state) == essence(here.state)
    assert there.stop == here.stop
    assert len(list((tmp_path / "marks").iterdir())) == deaths


def test_work_at_which_every_worker_dies_is_told_and_nothing_is_lost(tmp_path):
    (tmp_path / "marks").mkdir()
    problem = Doomed(marks=tmp_path / "marks", deaths=LOST_ALLOWED)
    with pytest.raises(InputError, match=r"died 5 times at the same work \(train: "):
        elsewhere(problem, tmp_path / "journal.db")
    again = elsewhere(problem, tmp_path / "journal.db")
    assert again.stop.certified
