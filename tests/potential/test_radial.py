"""Radial functions are as smooth, and the basis as exact, as the model needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kepton.potential.radial import (
    chebyshev,
    chebyshev_nodes,
    chebyshev_transform,
    clamp,
    switch,
)

SIDE = 1e-7
"""Å to either side of a joint; a derivative that is continuous changes by SIDE times the next."""


def derivatives(function, order):
    for _ in range(order):
        function = jax.grad(function)
    return function


@pytest.mark.parametrize("joint", [1.0, 4.0])
def test_the_switch_is_twice_differentiable_and_no_more(joint):
    """The third derivative is 60 / 27 at its joints, so the second changes by 2.3 SIDE."""
    for order in range(3):
        slope = derivatives(lambda r: switch(r, 1.0, 4.0), order)
        assert abs(slope(jnp.asarray(joint + SIDE)) - slope(jnp.asarray(joint - SIDE))) < 5 * SIDE
    third = derivatives(lambda r: switch(r, 1.0, 4.0), 3)
    jump = abs(third(jnp.asarray(joint + SIDE)) - third(jnp.asarray(joint - SIDE)))
    assert jump == pytest.approx(60 / 27, rel=1e-5)


def test_the_switch_falls_from_one_to_zero():
    r = np.linspace(0, 5, 501)
    w = np.asarray(switch(jnp.asarray(r), 1.0, 4.0))
    assert (w[r <= 1] == 1).all()
    np.testing.assert_allclose(w[r >= 4], 0, atol=1e-15)
    assert (np.diff(w) <= 1e-15).all()
    assert w[250] == pytest.approx(0.5)


@pytest.mark.parametrize("joint", [0.9, 1.1])
def test_the_clamp_is_three_times_differentiable(joint):
    """Its derivatives of order k grow as width^(1 - k), with coefficients below 200."""
    for order in range(4):
        slope = derivatives(lambda r: clamp(r, 0.9, 0.2), order)
        bound = 200 * 0.2 ** (-order) * SIDE
        assert abs(slope(jnp.asarray(joint + SIDE)) - slope(jnp.asarray(joint - SIDE))) < bound


def test_the_clamp_is_a_constant_below_and_the_identity_above():
    r = jnp.linspace(0, 3, 301)
    c = np.asarray(clamp(r, 0.9, 0.2))
    np.testing.assert_array_equal(c[r < 0.9], 1.0)
    np.testing.assert_array_equal(c[r > 1.1], np.asarray(r)[r > 1.1])
    assert (np.diff(c) >= 0).all()


def test_chebyshev_functions_are_cosines():
    x = np.linspace(-1, 1, 101)
    values = np.stack(chebyshev(jnp.asarray(x), 12), axis=-1)
    expected = np.cos(np.arange(12) * np.arccos(x)[:, None])
    np.testing.assert_allclose(values, expected, atol=1e-13)


@pytest.mark.parametrize("count", [1, 2, 5, 24])
def test_the_transform_is_exact_for_polynomials(count):
    """Of degree below the number of nodes, between them as on them."""
    coefficients = np.random.default_rng(count).standard_normal(count)
    nodes = chebyshev_nodes(count)
    at_nodes = np.stack(chebyshev(jnp.asarray(nodes), count), axis=-1) @ coefficients
    found = chebyshev_transform(count) @ np.asarray(at_nodes)
    np.testing.assert_allclose(found, coefficients, atol=1e-13 * count)
