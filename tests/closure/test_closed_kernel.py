"""The compiled kernel of closed systems against what XLA makes of the same scheme."""

import jax.numpy as jnp
import numpy as np
import pytest
from waves import KNUDSENS, smooth

from kepton.closure import Boltzmann, Case, Closure, Fields, Kinetic, closed, compiled, scheme
from kepton.closure.fields import BOUNDARIES, together
from kepton.kernels import library

pytestmark = pytest.mark.skipif(library() is None, reason="no kernels: no C++ compiler at install")

DURATIONS = jnp.array([0.03, 0.0, 0.05])
DOUBLE = 1e-13
"""Largest difference: some hundred operations a step, rounded to 1e-16, in some ten steps"""


def gases(cells, boundary="periodic"):
    """Waves, with a gas, or walls, of their own beyond the ends."""
    found = together([smooth(cells, kn) for kn in KNUDSENS])
    outside = Fields(np.array([1.2, 0.7]), np.array([0.3, -0.1]), np.array([1.3, 0.8]))
    return Case.of(found.initial, found.knudsen, boundary, outside)


def both(closure, case):
    begun = scheme.start(closure, case)
    steps = scheme.steps_for(closure, begun, DURATIONS)
    return [f.moments(closure, begun, DURATIONS, steps) for f in (compiled, closed)]


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(
    "equation",
    [Kinetic(), Kinetic(3), Kinetic(3, 2 / 3), Boltzmann()],
    ids=["1D", "BGK", "ES-BGK", "Boltzmann"],
)
@pytest.mark.parametrize(("order", "cells"), [(3, 37), (8, 28), (11, 60)])
def test_the_kernel_answers_as_xla(order, cells, equation, boundary):
    """Orders that leave lanes empty, cells of radix 2, 3, 4, 5, 7 and 37."""
    closure = Closure.fresh(order, 1, 0, equation).mean
    mine, known = both(closure, gases(cells, boundary))
    np.testing.assert_allclose(mine, known, rtol=0, atol=DOUBLE)


def test_no_gas_touches_another(monkeypatch):
    """Not even one that is broken, before it on the same core."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    closure, case = Closure.fresh(7, 1, 0).mean, gases(40)
    alone, _ = both(closure, case)
    begun = scheme.start(closure, case)
    steps = scheme.steps_for(closure, begun, DURATIONS)
    begun = begun._replace(moments=begun.moments.at[:, :, 0].set(np.nan))
    found = np.asarray(compiled.moments(closure, begun, DURATIONS, steps))
    assert np.isnan(found[:, :, :, 0]).all()
    np.testing.assert_array_equal(found[:, :, :, 1:], np.asarray(alone)[:, :, :, 1:])
