"""The repulsion of screened nuclei, against its formula in other units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import units

from kepton.potential.zbl import zbl


@pytest.mark.parametrize("pair", [(1, 1), (6, 8), (14, 14), (79, 8)])
def test_the_universal_potential_in_atomic_units(pair):
    """a = 0.8854 bohr / (Z_i^0.23 + Z_j^0.23): our 0.46850 Å is rounded by 1e-5 of it."""
    z_i, z_j = pair
    r = np.array([0.05, 0.2, 0.5, 1.0])
    bohr = r / units.Bohr
    x = bohr * (z_i**0.23 + z_j**0.23) / 0.8854
    phi = 0.1818 * np.exp(-3.2 * x) + 0.5099 * np.exp(-0.9423 * x)
    phi += 0.2802 * np.exp(-0.4029 * x) + 0.02817 * np.exp(-0.2016 * x)
    expected = z_i * z_j / bohr * phi * units.Hartree
    found = zbl(jnp.asarray(r), jnp.asarray(float(z_i)), jnp.asarray(float(z_j)), 5.0, 6.0)
    np.testing.assert_allclose(found, expected, rtol=1e-3)  # four digits in the older fit


def test_naked_nuclei_at_short_range():
    """phi(0) = 1 within the fit's 0.0001; 1e-5 Å changes it by 1e-4 / Z^0.23 or so."""
    found = zbl(jnp.asarray(1e-5), jnp.asarray(8.0), jnp.asarray(6.0), 1.0, 2.0)
    assert float(found) == pytest.approx(14.399645 * 48 / 1e-5, rel=3e-4)


def test_it_ends_where_it_shall():
    pair = (jnp.asarray(6.0), jnp.asarray(1.0))
    energy = lambda r: zbl(r, *pair, 0.7, 1.0)  # noqa: E731
    assert energy(jnp.asarray(1.0)) == pytest.approx(0, abs=1e-13)
    assert energy(jnp.asarray(3.0)) == pytest.approx(0, abs=1e-13)
    assert jax.grad(energy)(1.0 - 1e-6) == pytest.approx(0, abs=1e-6)
    r = np.linspace(0.1, 1.0, 50)
    assert (np.diff(np.asarray(energy(jnp.asarray(r)))) < 0).all()
