import re
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache

import numpy as np
import pytest
from ase import Atoms

from kepton.atoms import Frames, Label
from kepton.elt import Exploration, Failure
from kepton.elt.campaign import Goal
from kepton.elt.journal import Journal
from kepton.elt.run import run
from kepton.errors import InputError
from kepton.potential import ExploreConfig, PotentialProblem, Recipe, TrainConfig, default_model
from kepton.potential.geometry import perturbed
from kepton.potential.train import fresh
from kepton.report import write_report
from kepton.report.charts import Axis
from kepton.report.figures import duration

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
GOAL = Goal(target=10.0, confidence=0.9, coverage=0.7, labels=40, seed_labels=6, seed=1)


WATER = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


class Springs:
    """E = sum over pairs of (r - 1)^2 / 2, which refuses the given structure."""

    @property
    def settings(self):
        return {"kind": HOSTILE}

    def __call__(self, frames):
        x = np.asarray(frames.positions)[0]
        if x[1, 1] == 0.0:
            return Failure(HOSTILE)
        off = x[:, None] - x
        r = np.linalg.norm(off, axis=-1) + np.eye(len(x))
        forces = -((r - 1) / r)[..., None] * off
        energy = ((r - 1) ** 2).sum() / 4
        virial = np.full((1, 3, 3), np.nan)
        return Label(np.array([energy]), forces.sum(1)[None], virial, f"springs 1.0 {HOSTILE}")


class Quick(PotentialProblem):
    """No training, perturbations in place of dynamics, and no evaluation of the models."""

    def train(self, data, models, key):  # noqa: ARG002
        return untrained()

    def explore(self, models, data, trust, key):  # noqa: ARG002
        seen = perturbed(list(self.structures), 12, self.gate, key)[1:]
        deviation = self.deviation(models, seen)
        visited = np.append(np.tile(deviation, 40), np.inf)
        return Exploration(seen, deviation, seen[:4], visited, {})

    def audit(self, models, count, key):  # noqa: ARG002
        return perturbed(list(self.structures), count + 1, self.gate, key)[1:]

    def error(self, models, data):  # noqa: ARG002
        return np.array([0.01 + np.abs(label.energy[0]) for _, label in data])

    def deviation(self, models, samples):  # noqa: ARG002
        return np.array([0.001 + np.ptp(sample.positions) % 0.1 for sample in samples])

    def features(self, models, samples):  # noqa: ARG002
        return np.array([sample.positions.ravel() for sample in samples])


class Breaking(Quick):
    """The last walk of each audit breaks."""

    def audit(self, models, count, key):
        return [*super().audit(models, count - 1, key), Failure("The walk broke.")]


@cache
def untrained():
    frames = Frames.from_ase([WATER])
    label = Label(np.zeros(1), np.ones((1, 3, 3)), np.zeros((1, 3, 3)))
    return fresh(
        "deep_potential", default_model("deep_potential", [frames]), 2, [(frames, label)], 0
    )


def campaign(folder, goal, cell=0.0, kind=Quick):
    """A campaign's folder, from the first sample to its end."""
    water = WATER.copy()
    if cell:
        water.set_cell([cell] * 3)
        water.pbc = True
    structures = (Frames.from_ase([water]),)
    learner = Recipe("deep_potential", None, TrainConfig())
    problem = kind(structures, Springs(), ExploreConfig(), learner)
    folder.mkdir(parents=True, exist_ok=True)
    asked = asdict(goal)
    budget = {name: asked.pop(name) for name in ("labels", "hours")}
    settings = problem.settings | {"goal": asked, "budget": budget, "name": HOSTILE}
    journal = Journal(folder / "campaign.db", settings)
    result = run(problem, goal, journal, lambda: ThreadPoolExecutor(1))
    journal.close()
    return folder, result


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    return campaign(tmp_path_factory.mktemp("certified"), GOAL)[0]


def page_after(folder, events, target):
    """The page of a campaign that was killed after so many events."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "campaign.db", target)
    with sqlite3.connect(target / "campaign.db") as db:
        kinds = [kind for (kind,) in db.execute("SELECT kind FROM events ORDER BY id")]
        db.execute("DELETE FROM events WHERE id > ?", (events,))
    return kinds[events - 1] if events else None, write_report(target).read_text("utf-8")


def without_library(html):
    """The page less 3Dmol, and less what only looks like markup inside JSON."""
    return re.sub(r"<script>/\*.*?</script>", "", html, count=1, flags=re.S)


def test_certified_page(certified):
    path = write_report(certified)
    html = path.read_text("utf-8")
    assert path == certified / "report.html"
    assert not list(certified.glob("*.unfinished"))
    assert "✓ Certified" in html
    assert "have a force error below 10 eV/Å" in html
    for title in ("Learning curve", "Calibration", "Deviation by round", "Parity of energy"):
        assert f"<title>{title}</title>" in html
    assert "worst, audit" in html
    assert "kepton md" in html
    assert "for at most 40 labels" in html


def test_same_journal_same_page(certified):
    def stable(html):
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", html)

    first = stable(write_report(certified).read_text("utf-8"))
    assert stable(write_report(certified).read_text("utf-8")) == first


def test_every_stage(certified, tmp_path):
    kinds = []
    for events in range(7):
        kind, html = page_after(certified, events, tmp_path / str(events))
        kinds.append(kind)
        assert "… Not finished" in html
        assert "Certified</h2>" not in html
        assert "Learning curve" not in html
        assert ("How to use the model" in html) == ("trained" in kinds)
    assert kinds == [None, "seeded", "labelled", "trained", "explored", "distilled", "drawn"]


def test_failed_audit(tmp_path):
    goal = Goal(target=1e-6, confidence=0.9, coverage=0.7, labels=30, seed_labels=6)
    folder, result = campaign(tmp_path / "a", goal, kind=Breaking)
    html = write_report(folder).read_text("utf-8")
    assert not result.stop.certified
    assert result.state.verdicts
    assert "✗ Not certified" in html
    assert "too few for another audit" in html
    assert "failed</td>" in html
    assert "This model is not certified." in html
    kind, html = page_after(folder, 5, tmp_path / "b")
    assert kind == "labelled"
    assert "… Not finished" in html
    assert "<title>Learning curve</title>" in html
    assert "worst, explored" in html


def test_a_certificate_file_cannot_certify(certified, tmp_path):
    page_after(certified, 4, tmp_path)
    (tmp_path / "certificate.json").write_text('{"certified": true, "conditions": {"a_K": [1, 2]}}')
    assert "✓ Certified" not in write_report(tmp_path).read_text("utf-8")


def test_self_contained(certified):
    html = write_report(certified).read_text("utf-8")
    assert "default-src 'none'" in html
    assert "$3Dmol" in html
    page = without_library(html)
    assert len(page) < 200_000
    assert "http://" not in page
    assert "https://" not in page
    assert not re.search(r"<(link|iframe|object|embed|base)\b|@import|url\((?!#)", page)
    assert not re.search(r"<script[^>]+src", html)


def test_hostile_strings_are_escaped(certified, tmp_path):
    folder = tmp_path / "a'\"><b onclick=x>"
    shutil.copytree(certified, folder)
    (folder / "certificate.json").write_text(
        '{"conditions": {"</td><script>x": "<script>"}, "checks": {"a": {"b_K": "<i>"}}, '
        '"date": "<u>"}'
    )
    page = without_library(write_report(folder).read_text("utf-8"))
    assert page.count("<script") == page.count("</script>") == 2
    for tag in ("<img", "<b onclick", "<i>", "<u>", "alert(1)</script>"):
        assert tag not in page
    assert "&lt;img src=x" in page


def test_periodic_frames_show_their_cell(tmp_path):
    folder, _ = campaign(tmp_path / "a", GOAL, cell=8.0)
    _, html = page_after(folder, 2, tmp_path / "b")
    assert '"cell": [[8.0, 0.0, 0.0]' in html


def test_no_campaign(tmp_path):
    with pytest.raises(InputError, match=r"there is no .*campaign\.db"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    "axis",
    [Axis(0.0, 7.3, "x"), Axis(-31.0, 72.0, "x"), Axis(2.3e-3, 0.9, "x", log=True)],
)
def test_ticks(axis):
    ticks = axis.ticks()
    assert 3 <= len(ticks) <= 12
    assert axis.holds(ticks).all()
    np.testing.assert_allclose(axis.place([axis.low, axis.high]), [0.0, 1.0], atol=1e-12)


def test_axis_over_values_that_are_all_equal_or_absent():
    for values in ([], [np.nan, np.inf], [0.0], [3.0, 3.0]):
        for log in (False, True):
            axis = Axis.over(values, "x", log)
            assert axis.low < axis.high


def test_duration():
    said = [duration(s) for s in (0.512, 42.4, 122.0, 1800.0, 7500.0)]
    assert said == ["0.51 s", "42 s", "2 min 2 s", "30 min", "2 h 05 min"]
