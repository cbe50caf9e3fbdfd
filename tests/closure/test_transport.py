"""Reconstruction at faces, and domains that move."""

import jax.numpy as jnp
import numpy as np
import pytest
from waves import middles

from kepton.closure.transport import at_faces, translated, wrapped


def averages(cells, phase=0.0):
    """Of 1 + sin(2 pi x + phase)."""
    ends = 2 * np.pi * np.arange(cells + 1) / cells + phase
    return 1.0 - cells / (2 * np.pi) * np.diff(np.cos(ends))


@pytest.mark.parametrize("swept", [0.0, 0.3, 0.9])
def test_faces_are_of_fifth_order_extrema_included(swept):
    errors = []
    for cells in (16, 32, 64):
        found = np.asarray(at_faces(wrapped(jnp.asarray(averages(cells))), swept))
        x, h = 2 * np.pi * np.arange(cells + 1) / cells, 2 * np.pi * swept / cells
        known = 1.0 + (np.sin(x) if not swept else (np.cos(x - h) - np.cos(x)) / h)
        errors.append(np.abs(found - known).max())
    assert (np.log2(np.divide(errors[:-1], errors[1:])) > 4.8).all(), errors


def test_a_whole_cell_that_passes_a_face_is_that_cell():
    values = jnp.asarray(np.random.default_rng(0).uniform(0.5, 2.0, 12))
    np.testing.assert_array_equal(at_faces(wrapped(values), 1.0)[1:], values)


@pytest.mark.parametrize("swept", [0.0, 0.5])
@pytest.mark.parametrize("small", [0.0, 1e-12, 1e-3])
def test_a_jump_does_not_ring(small, swept):
    values = jnp.asarray(np.where(np.abs(middles(40) - 0.5) < 0.25, 1.0, small))
    found = np.asarray(at_faces(wrapped(values), swept))
    assert found.min() > small - 2e-3
    assert found.max() < 1.0 + 2e-3


def test_whole_cells_are_shifted_as_they_are():
    values = np.random.default_rng(0).uniform(0.5, 2.0, (3, 12))
    found = translated(jnp.asarray(values), jnp.array([3.0, -2.0, 25.0]))
    for row, (given, shift) in enumerate(zip(values, (3, -2, 25))):
        np.testing.assert_array_equal(found[row], np.roll(given, shift))


@pytest.mark.parametrize("cells", [0.3, -0.3, 7.5, -41.2])
def test_parts_of_cells_are_moved_and_the_sum_is_kept(cells):
    given = averages(40)
    found = np.asarray(translated(jnp.asarray(given)[None], jnp.array([cells])))[0]
    np.testing.assert_allclose(found, averages(40, -2 * np.pi * cells / 40), atol=5e-6)
    assert found.sum() == pytest.approx(given.sum(), rel=1e-14)
