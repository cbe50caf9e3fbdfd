"""A runner answers as its learner does, where its own dynamics leads it."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from ase.build import bulk
from scipy.stats import spearmanr

from conftest import MODEL, TRAINING
from kepton.atoms.frames import Frames, concatenate, concatenate_labels, split
from kepton.potential import ExploreConfig, PotentialProblem, Recipe
from kepton.potential.assess import assess
from kepton.potential.distil import AGAIN, ROUNDS, distil
from kepton.potential.ensemble import committee, predict
from kepton.potential.explore import visited
from kepton.potential.geometry import Gate, Strain, perturbed
from kepton.potential.train import train
from kepton.principles import ASECalculator

CONDITIONS = ExploreConfig(
    temperature_K=(50.0, 100.0), walkers=16, walk_fs=100.0, audit_fs=60.0, watch_fs=5.0
)
LONGER = replace(TRAINING, steps=1000, warm_steps=500)
RUNNER = Recipe("deep_potential", replace(MODEL, axis=2), LONGER, 2)


@pytest.fixture(scope="module")
def order(trained, start, twenty):
    return trained, RUNNER, [start], split(twenty[0]), Gate.of([start]), CONDITIONS, 3


@pytest.fixture(scope="module")
def distilled(order):
    return distil(*order)


def test_it_loses_little(distilled, trained, labelled):
    """On frames that neither has seen the squares of the learner's error and of what is lost add
    up, give or take a fifth for ten frames; and what is lost is less than a tenth of the forces."""
    runner, told = distilled
    ten = labelled[0][20:], labelled[1][20:]
    learner, found = (assess(one, *ten)["forces"]["rmse"] for one in (trained, runner))
    assert found < 1.2 * np.hypot(learner, told["apart"])
    size = np.sqrt(np.mean(np.asarray(predict(trained, ten[0])[0].forces) ** 2))
    assert told["apart"] < 0.1 * size
    assert 1 <= told["rounds"] <= ROUNDS


def test_it_goes_on_from_a_former_runner_in_fewer_trainings(distilled, order, labelled):
    runner, told = distil(*order, former=distilled[0])
    assert told["rounds"] <= AGAIN < ROUNDS
    ten = labelled[0][20:], labelled[1][20:]
    before, after = (assess(one, *ten)["forces"]["rmse"] for one in (distilled[0], runner))
    assert after < 1.2 * before


def test_its_members_differ_as_those_of_the_learner(distilled, order):
    """Where new dynamics leads, the difference of the two members points the same way."""
    runner, _ = distilled
    learner, _, starts, known, gate, conditions, _ = order
    met = visited(learner, starts, known, gate, 100, conditions, seed=9)
    one, other = (np.asarray(committee(models, met).forces) for models in (learner, runner))
    one, other = (forces[..., 0] - forces[..., 1] for forces in (one, other))
    assert np.sum(one * other) / np.sqrt(np.sum(one**2) * np.sum(other**2)) > 0.7


def test_it_learns_from_labelled_frames_and_from_both_walks(distilled):
    _, told = distilled
    # what was known; sixteen walkers and twenty looks, of the learner's walk and each of its own
    assert 20 + 16 * 20 < told["frames"] <= 20 + 16 * 20 * (1 + told["rounds"])


def test_a_crystal_is_learnt_strained_and_at_rest_too():
    """Stresses near 0 K, where no walk leads, are the learner's to a tenth of their size."""
    crystal = Frames.from_ase([bulk("Cu", cubic=True)])
    gate, emt, small = Gate.of([crystal]), ASECalculator(), Strain((-0.03, 0.03), 0.02)
    known = perturbed([crystal], 24, gate, 0, small)
    data = [(concatenate(known), concatenate_labels([emt(frames) for frames in known]))]
    sizes = replace(MODEL, species=(29,), cutoff_A=4.5)
    learner = Recipe("deep_potential", sizes, replace(TRAINING, steps=300), 2)
    trained = train(data, learner.training, learner.fresh(data, 0), 0)
    hot = replace(CONDITIONS, temperature_K=(300.0, 600.0))
    recipe = replace(learner, training=replace(TRAINING, steps=600, virial_weight=5.0))
    runner, _ = distil(trained, recipe, [crystal], known, gate, hot, 0)
    cold = small.of(crystal.tile(40), np.random.default_rng(9))
    mine, his = (np.asarray(predict(one, cold)[0].virial) for one in (runner, trained))
    assert np.sqrt(np.mean((mine - his) ** 2)) < 0.1 * np.sqrt(np.mean(his**2))


def test_errors_come_with_how_well_they_are_foretold(trained, labelled):
    ten = labelled[0][20:], labelled[1][20:]
    told = assess(trained, *ten)["deviation"]
    answer, doubt = predict(trained, ten[0])
    off = np.linalg.norm(np.asarray(answer.forces) - ten[1].forces, axis=-1)
    assert told["by_atom"] == pytest.approx(spearmanr(doubt.ravel(), off.ravel()).statistic)
    frames = [np.sqrt((values**2).sum(axis=1)) for values in (doubt, off)]
    assert told["by_frame"] == pytest.approx(spearmanr(*frames).statistic)
    assert told["ratio"] == pytest.approx(np.sqrt(np.mean(off**2) / np.mean(doubt**2)))
    assert assess(trained.alone(0), *ten)["deviation"] is None


def test_it_is_deterministic(distilled, order):
    again, told = distil(*order)
    assert told == distilled[1]
    same = jax.tree.map(np.array_equal, again.members.weights, distilled[0].members.weights)
    assert all(jax.tree.leaves(same))


def test_without_a_runner_the_learner_is_handed_out(trained, start):
    learner = Recipe("deep_potential", MODEL, TRAINING, 2)
    problem = PotentialProblem((start,), ASECalculator(), CONDITIONS, learner)
    assert problem.distil(trained, None, [start], 0) is None
    longer = learner.taught("cluster_expansion", [start])
    assert longer.training.steps == 1.5 * TRAINING.steps
    assert longer.training.virial_weight == 5.0 * TRAINING.virial_weight
    assert longer.members == 2
