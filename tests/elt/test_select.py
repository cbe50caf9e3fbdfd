"""Deviation is calibrated to error, and samples are chosen unlike each other."""

import numpy as np
import pytest
from scipy.stats import norm

from kepton.elt.select import Calibration, diverse


def pairs(count, intercept, slope, noise, seed=0):
    rng = np.random.default_rng(seed)
    deviation = np.exp(rng.uniform(-5, 0, count))
    error = np.exp(intercept + slope * np.log(deviation) + noise * rng.standard_normal(count))
    return deviation, error


@pytest.mark.parametrize(("intercept", "slope", "noise"), [(0.7, 1.0, 0.3), (-0.5, 0.6, 0.8)])
def test_slope_and_noise_are_recovered(intercept, slope, noise):
    """Within four standard errors; ln d is uniform over 5, so its deviation is 5 / sqrt(12).

    The prior, worth 14 observations of 4000, moves them by less than 14 / 4000.
    """
    n = 4000
    found = Calibration.fit(*pairs(n, intercept, slope, noise))
    spread = 5 / np.sqrt(12)
    of_slope = noise / spread / np.sqrt(n)
    assert found.mean[1] == pytest.approx(slope, abs=4 * of_slope + 14 / n)
    # the intercept is 2.5 away from the mean of ln d
    of_intercept = np.hypot(noise / np.sqrt(n), 2.5 * of_slope)
    assert found.mean[0] == pytest.approx(intercept, abs=4 * of_intercept + 3 * 14 / n)
    assert found.scale == pytest.approx(noise, rel=4 / np.sqrt(2 * n) + 14 / n)


def test_predicted_probabilities_are_frequencies():
    found = Calibration.fit(*pairs(2000, 0.3, 0.9, 0.5))
    deviation, error = pairs(4000, 0.3, 0.9, 0.5, seed=1)
    predicted = found.exceeds(deviation, 0.2)
    for low, high in ((0.02, 0.2), (0.2, 0.8), (0.8, 0.98)):
        among = (predicted > low) & (predicted < high)
        tolerance = 4 * 0.5 / np.sqrt(among.sum())
        assert np.mean(error[among] > 0.2) == pytest.approx(predicted[among].mean(), abs=tolerance)


def test_with_no_data_errors_are_expected_near_twice_the_deviation():
    """The prior's median is e = 2 d, and its tails are wide."""
    prior = Calibration.fit(np.zeros(0), np.zeros(0))
    assert prior.exceeds(np.array([0.1]), 0.2)[0] == pytest.approx(0.5)
    tail = prior.exceeds(np.array([0.1]), 0.4)[0]
    assert 0.05 < tail < 0.5
    assert tail > norm.sf(np.log(2) / 0.5)


def test_what_is_not_finite_never_counts_as_accurate():
    found = Calibration.fit(*pairs(100, 0.0, 1.0, 0.3))
    doubt = found.exceeds(np.array([np.nan, np.inf, -np.inf, 1e-9]), 0.1)
    assert doubt[:3].tolist() == [1.0, 1.0, 1.0]
    assert doubt[3] < 1e-3


def test_pairs_without_a_logarithm_are_left_out():
    deviation, error = pairs(50, 0.0, 1.0, 0.3)
    odd = np.array(
        [[np.nan, 0.1], [0.1, np.nan], [np.inf, 1.0], [1.0, np.inf], [0.0, 1.0], [1.0, 0.0]]
    )
    both = Calibration.fit(np.append(deviation, odd[:, 0]), np.append(error, odd[:, 1]))
    alone = Calibration.fit(deviation, error)
    np.testing.assert_array_equal(both.mean, alone.mean)
    assert both.scale == alone.scale


@pytest.mark.parametrize("probability", [0.05, 0.5, 0.9])
def test_the_threshold_is_where_the_target_is_exceeded_so_often(probability):
    """Within a step of its grid, 10^(6/2000)."""
    found = Calibration.fit(*pairs(200, 0.2, 0.8, 0.4))
    threshold = found.threshold(0.1, probability)
    assert found.exceeds(np.array([threshold]), 0.1)[0] >= probability
    below = threshold / 10 ** (6 / 2000)
    assert found.exceeds(np.array([below]), 0.1)[0] < probability
    assert found.threshold(0.1, 0.5) < found.threshold(0.2, 0.5)


def test_more_deviation_is_never_less_doubt():
    found = Calibration.fit(*pairs(40, 0.2, 0.8, 0.4))
    assert (np.diff(found.exceeds(np.geomspace(1e-3, 1, 200), 0.1)) >= 0).all()


def test_choices_spread_out_and_keep_away_from_the_known():
    line = np.linspace(0, 1, 101)[:, None]
    chosen = diverse(line, np.ones(101), line[:1], 3)
    # farthest from 0, then the middle, then one of the quarters
    assert chosen[:2] == [100, 50]
    assert chosen[2] in (25, 75)


def test_weight_and_distance_count_alike():
    features = np.array([[0.0], [1.0], [3.0]])
    assert diverse(features, np.array([1.0, 1.0, 0.3]), np.array([[0.0]]), 1) == [1]
    assert diverse(features, np.array([1.0, 1.0, 0.4]), np.array([[0.0]]), 1) == [2]
    assert diverse(features, np.array([0.1, 0.9, 0.2]), np.zeros((0, 1)), 1) == [1]


def test_no_duplicate_nor_anything_of_no_weight_is_chosen():
    rng = np.random.default_rng(0)
    features = rng.integers(0, 4, (60, 2)).astype(float)  # many coincide
    weight = np.where(rng.random(60) < 0.3, 0.0, rng.random(60))
    known = features[:2]
    chosen = diverse(features, weight, known, 60)
    rows = [tuple(features[i]) for i in chosen]
    assert len(set(rows)) == len(rows)
    assert not set(rows) & {tuple(row) for row in known}
    assert (weight[chosen] > 0).all()
    candidates = {tuple(f) for f, w in zip(features, weight) if w > 0}
    assert set(rows) == candidates - {tuple(row) for row in known}


def test_nothing_is_chosen_from_nothing():
    assert diverse(np.zeros((0, 3)), np.zeros(0), np.zeros((2, 3)), 5) == []
    assert diverse(np.ones((4, 3)), np.zeros(4), np.zeros((0, 3)), 5) == []
    assert diverse(np.ones((4, 3)), np.ones(4), np.zeros((0, 3)), 0) == []
