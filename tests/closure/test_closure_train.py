"""Training of closures through the solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kepton.closure import closed, scheme
from kepton.closure.closure import Closure
from kepton.closure.difference import relative_error
from kepton.closure.equation import Kinetic
from kepton.closure.fields import Conserved, together
from kepton.closure.initial import InitialData
from kepton.closure.label import label
from kepton.closure.train import Training, _loss, train

TIMES = (0.1, 0.25)
CLASS = InitialData(cells=32, knudsen=(0.1, 10.0))
SHORT = Training(steps=20, warm_steps=3, batch=4, rate=0.15)


MONATOMIC = Kinetic(3, 2 / 3)


@pytest.fixture(scope="module")
def data():
    return [(case, label(Kinetic(), case, TIMES)) for case in CLASS.draw(8, 3)]


def mean_error(closure, data):
    known = Conserved(*(np.concatenate(p) for p in zip(*(lab.conserved for _, lab in data))))
    found = closed.solve(closure, together([case for case, _ in data]), TIMES)
    return relative_error(found, known).mean()


def test_the_gradient_is_that_of_the_solver(data):
    cases = together([case for case, _ in data[:2]])
    known = Conserved(*(np.concatenate(p) for p in zip(*(lab.conserved for _, lab in data[:2]))))
    closure = Closure.fresh(5, 1, 0).mean
    spans = np.diff(TIMES, prepend=0.0)
    counts = np.asarray(scheme.steps_for(closure, scheme.start(closure, cases), spans))
    lengths = tuple(int(n) for n in counts.max(axis=1))

    def loss(weights):
        return _loss(Closure(weights), (cases, known, counts), lengths, spans)

    slope = jax.grad(loss)(jnp.asarray(closure.weights))
    step = 1e-7 * np.random.default_rng(0).standard_normal(slope.shape)
    told = (loss(closure.weights + step) - loss(closure.weights - step)) / 2
    assert float(told) == pytest.approx(float((slope * step).sum()), rel=2e-3)


def test_closures_of_three_dimensions_of_velocity_space_are_trained_too():
    cases = CLASS.draw(8, 3)
    data = [(case, label(MONATOMIC, case, TIMES)) for case in cases]
    fresh = Closure(Closure.fresh(6, 1, 0, MONATOMIC).weights, MONATOMIC)
    fresh.weights[..., 0] -= 2.0
    trained = train(data[:4], TIMES, fresh, SHORT, 1)
    assert trained.equation == MONATOMIC
    assert mean_error(trained.mean, data[4:]) < 0.7 * mean_error(fresh.mean, data[4:])


def test_training_lowers_errors_and_is_deterministic(data):
    fresh = Closure(Closure.fresh(6, 2, 0).weights)
    fresh.weights[..., 0] -= 2.0  # far too little damping
    seen = []
    trained = train(data[:4], TIMES, fresh, SHORT, 1, progress=seen.append)
    assert mean_error(trained.mean, data[4:]) < 0.7 * mean_error(fresh.mean, data[4:])
    np.testing.assert_array_equal(trained.weights, train(data[:4], TIMES, fresh, SHORT, 1).weights)
    assert not np.array_equal(trained.weights[0] - trained.weights[1], 0 * trained.weights[0])
    assert len(seen) == 2 * SHORT.steps
    assert seen[-1].fraction == 1.0
    moved = train(data[:4], TIMES, trained, SHORT, 1, warm=True)
    assert np.abs(moved.weights - trained.weights).max() < 3.1 * SHORT.rate * 1.5
