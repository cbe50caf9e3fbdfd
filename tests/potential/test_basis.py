"""The number of radial functions follows from their error, and the error from the nets."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deep_potentials import PLAIN, cluster, random_potential

from kepton.atoms import Frames
from kepton.potential.basis import COUNTS, TOLERANCE, basis_error, resolved, smallest_basis
from kepton.potential.ensemble import Ensemble, predict


def with_basis(potential, count):
    return replace(potential, config=replace(potential.config, basis=count))


@pytest.mark.parametrize("environment", [False, True])
@pytest.mark.parametrize("one_sided", [False, True])
def test_the_smallest_basis_is_the_first_within_the_tolerance(environment, one_sided):
    config = replace(PLAIN, one_sided=one_sided)
    potential = random_potential(environment=environment, config=config)
    count = smallest_basis(potential)
    assert count in COUNTS[1:]
    errors = [basis_error(with_basis(potential, n)) for n in (count - 4, count, count + 8)]
    slopes = [error.slope for error in errors]
    assert slopes[0] > TOLERANCE >= slopes[1] > slopes[2]
    assert all(error.value < error.slope for error in errors)


@pytest.mark.parametrize("environment", [False, True])
def test_forces_err_by_about_the_share_that_is_told(environment):
    """In float64: forces are sums of slopes, so their error is the same to a factor."""
    potential = random_potential(environment=environment)
    frames = Frames.from_ase([cluster()])

    def forces(model):
        weights = {part: [m[None] for m in nets] for part, nets in model.weights.items()}
        return predict(Ensemble(replace(model, weights=weights)), frames)[0].forces

    expected = forces(replace(potential, exact=True))
    for count in (12, 20):
        model = with_basis(potential, count)
        off = np.sqrt(np.mean((forces(model) - expected) ** 2) / np.mean(expected**2))
        assert 0.01 < off / basis_error(model).slope < 10


@pytest.mark.parametrize("environment", [False, True])
@pytest.mark.parametrize("one_sided", [False, True])
def test_what_training_penalises_is_the_error_squared(environment, one_sided):
    config = replace(PLAIN, one_sided=one_sided)
    potential = random_potential(environment=environment, config=config)
    scale = float(potential.statistics["scale"])
    for count in (8, 12, 16):
        model = with_basis(potential, count)
        guess = np.sqrt(float(model.roughness())) / scale
        assert 0.1 < guess / basis_error(model).slope < 10


def test_an_ensemble_gets_as_many_functions_as_its_worst_member_needs():
    members = [random_potential(seed=seed) for seed in (0, 1)]
    needed = [smallest_basis(member) for member in members]
    weights = jax.tree.map(lambda *both: jnp.stack(both), *(m.weights for m in members))
    ensemble = Ensemble(replace(with_basis(members[0], 8), weights=weights))
    assert resolved(ensemble).members.config.basis == max(needed)
    ample = Ensemble(replace(with_basis(members[0], 100), weights=weights))
    assert resolved(ample).members.config.basis == 100
    sharp = jax.tree.map(lambda w: 100.0 * w, weights)
    ensemble = Ensemble(replace(with_basis(members[0], 8), weights=sharp))
    assert resolved(ensemble).members.config.basis == COUNTS[-1]


def test_linear_nets_need_the_fewest_and_those_with_corners_have_none():
    linear = random_potential(config=replace(PLAIN, activation=("linear", "tanh")))
    assert smallest_basis(linear) == COUNTS[0]
    assert basis_error(with_basis(linear, COUNTS[0])).slope < 1e-12
    corners = random_potential(config=replace(PLAIN, activation=("relu", "tanh")))
    assert smallest_basis(corners) is None


def test_pairs_that_are_not_seen_do_not_count():
    alone = replace(PLAIN, excluded=tuple((a, b) for a in (1, 6, 8) for b in (1, 6, 8)))
    assert basis_error(random_potential(config=alone)) == (0.0, 0.0)


def test_the_precision_of_the_weights_does_not_matter():
    potential = random_potential()
    coarse = basis_error(potential.with_dtype(jnp.float32))
    assert coarse.slope == pytest.approx(basis_error(potential).slope, rel=1e-3)
