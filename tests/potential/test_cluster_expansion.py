"""Harmonics, the rule on the sphere, and that a cluster expansion learns, is saved and read."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import lebedev_rule
from scipy.special import sph_harm_y

import kepton
from kepton.errors import InputError
from kepton.potential.architectures import ARCHITECTURES
from kepton.potential.assess import assess
from kepton.potential.cluster_expansion import FACTORS, ClusterExpansionConfig, _sphere
from kepton.potential.environment import harmonics
from kepton.potential.file import save
from kepton.potential.recipe import default_model
from kepton.potential.train import TrainConfig, default_training, fresh, train

CONFIG = ClusterExpansionConfig((1, 6, 8), cutoff_A=4.0, channels=6, hidden=8)


def degrees(top):
    return np.repeat(np.arange(top + 1), 2 * np.arange(top + 1) + 1)


def test_harmonics_are_orthogonal_and_of_square_one():
    points, weights = lebedev_rule(7)
    rows = np.asarray(harmonics(jnp.asarray(points)[None, None], 3))[0, 0]
    overlap = (rows * weights / weights.sum()) @ rows.T
    expected = np.diag(1.0 / (2 * degrees(3) + 1))
    np.testing.assert_allclose(overlap, expected, atol=1e-14)
    for degree in range(4):
        squares = (rows[degrees(3) == degree] ** 2).sum(axis=0)
        np.testing.assert_allclose(squares, 1.0, atol=1e-14)


def test_harmonics_are_those_of_scipy():
    """The real harmonics of a degree span the complex ones, so their kernels agree."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5))
    x /= np.linalg.norm(x, axis=0)
    rows = np.asarray(harmonics(jnp.asarray(x)[None, None], 3))[0, 0]
    polar, azimuth = np.arccos(x[2]), np.arctan2(x[1], x[0])
    for degree in range(4):
        own = rows[degrees(3) == degree]
        theirs = np.array(
            [sph_harm_y(degree, m, polar, azimuth) for m in range(-degree, degree + 1)]
        )
        kernel = 4.0 * np.pi / (2 * degree + 1) * (theirs.conj().T @ theirs).real
        np.testing.assert_allclose(own.T @ own, kernel, atol=1e-13)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_rule_is_exact_for_products(degree):
    rng = np.random.default_rng(degree)
    coefficients = rng.standard_normal((FACTORS, (degree + 1) ** 2))
    halves, weights = _sphere(degree)
    parities = [degrees(degree) % 2 == parity for parity in (0, 1)]
    even, odd = (v @ coefficients[:, some].T for v, some in zip(halves, parities))
    found = 0.5 * weights @ (np.prod(even + odd, axis=1) + np.prod(even - odd, axis=1))
    points, finer = lebedev_rule(31)
    rows = np.asarray(harmonics(jnp.asarray(points)[None, None], degree))[0, 0]
    rows = rows * np.sqrt(2 * degrees(degree) + 1)[:, None]
    expected = (finer / finer.sum()) @ np.prod(rows.T @ coefficients.T, axis=1)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.fixture(scope="module")
def learnt(twenty):
    start = fresh("cluster_expansion", CONFIG, 2, [twenty], key=0)
    config = TrainConfig(steps=1000, batch=10, rate=1.5e-2)
    return train([twenty], config, start, key=0)


def test_it_learns_from_fewer_labels(learnt, labelled, trained):
    """Of frames that neither has seen, its error is below that of a Deep Potential."""
    ten = labelled[0][20:], labelled[1][20:]
    found, other = (assess(one, *ten)["forces"]["rmse"] for one in (learnt, trained))
    assert found < 0.8 * other


def test_it_is_saved_and_loaded(tmp_path, learnt, labelled):
    save(tmp_path / "model.kepton", learnt)
    loaded = kepton.load(tmp_path / "model.kepton")
    exact = kepton.load(tmp_path / "model.kepton", exact=True)
    errors = [assess(one, *labelled) for one in (learnt, loaded, exact)]
    assert errors[0] == errors[1]
    # float32 rounds a force of some eV/Å to some 1e-6 of it
    assert errors[2]["forces"]["rmse"] == pytest.approx(errors[0]["forces"]["rmse"], abs=1e-4)


def test_sizes_and_training_follow_from_data(start):
    few, many = (default_model("deep_potential", [start], n) for n in (0, 10**6))
    assert (few.axis, many.axis) == (6, 8)
    assert default_training("cluster_expansion", 4).batch == 9
    assert default_training("cluster_expansion", 400, rate=1e-3) == replace(
        default_training("cluster_expansion", 400), rate=1e-3
    )


@pytest.mark.parametrize(
    ("architecture", "sizes", "words"),
    [
        ("cluster_expansion", {"degree": 4}, "degree = 4"),
        ("cluster_expansion", {"axis": 4}, "axis is not a size of cluster_expansion; it has"),
        ("deep_potential", {"channels": 4}, "channels is not a size of deep_potential"),
        ("gap", {}, f"there is {', '.join(ARCHITECTURES)}"),
    ],
)
def test_wrong_sizes_are_refused(start, architecture, sizes, words):
    with pytest.raises(InputError, match=words):
        default_model(architecture, [start], **sizes)
