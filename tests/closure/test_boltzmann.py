"""Boltzmann's equation for Maxwell molecules: collisions one by one, and known solutions."""

from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import eval_laguerre
from waves import middles, smooth, tube

from kepton.closure import kinetic
from kepton.closure.boltzmann import Boltzmann, _gain
from kepton.closure.difference import broken, relative_error
from kepton.closure.fields import Case, Fields
from kepton.closure.label import label
from kepton.closure.moments import Hermite
from kepton.closure.scattering import burnett, forgetting, scattering
from kepton.closure.velocities import equally_spaced, moments
from kepton.errors import InputError

GRID = equally_spaced(np.array([9.0]), 96)
TIGHT = equally_spaced(np.array([6.0]), 64)
"""That lets the series be about a gas of temperature 1"""

relaxed = jax.jit(Boltzmann.relaxed, static_argnums=0)
collided = jax.jit(Boltzmann.collided, static_argnums=(0, 1))


def functions(v, table):
    """(..., m) he_n(v_x) L_k(v_w^2 / 2) at velocities (..., 3)."""
    he = np.polynomial.hermite_e.hermevander(v[..., 0], table.highest)
    he /= np.sqrt([float(factorial(n)) for n in range(table.highest + 1)])
    laguerre = eval_laguerre(table.across, 0.5 * (v[..., 1:] ** 2).sum(axis=-1)[..., None])
    return he[..., table.along] * laguerre


def test_moments_of_the_gain_are_those_of_molecules_that_have_met():
    """All pairs of some molecules, each turned about x, scattered into all directions."""
    table = scattering(6)
    rng = np.random.default_rng(0)
    some = rng.normal(0.0, 0.7, (4, 2))  # v_x and v_w
    angle = 2 * np.pi * np.arange(7) / 7  # enough for polynomials of degree 6
    turned = np.stack([0 * angle, np.cos(angle), np.sin(angle)], axis=-1)
    v = (some[:, None, :1] * [1, 0, 0] + some[:, None, 1:] * turned).reshape(-1, 3)
    v -= v.mean(axis=0)
    cosine, weight = np.polynomial.legendre.leggauss(7)
    sine = np.sqrt(1 - cosine**2)[:, None]
    s = np.stack(np.broadcast_arrays(cosine[:, None], *(sine * t for t in turned.T[1:])), axis=-1)
    v, other, s = v[:, None, None, None], v[None, :, None, None], s[None, None]
    after = 0.5 * (v + other + np.linalg.norm(v - other, axis=-1, keepdims=True) * s)
    known = np.einsum("abcde,c->e", functions(after, table), weight) / weight.sum() / 7**3 / 4**2
    before = functions(v[:, 0, 0, 0], table).mean(axis=0)
    found = _gain(table, table.turned(jnp.asarray(before)[:, None, None]), jnp.zeros((1, 1)))
    np.testing.assert_allclose(np.asarray(table.back(found))[:, 0, 0], known, atol=1e-12)


def test_rates_are_those_of_maxwell_molecules():
    """Of stress and flux of heat, and the integrals over angles of Wang Chang and Uhlenbeck."""
    assert burnett(2)[0] == pytest.approx([1 / 2, 1.0])  # of stress and energy
    assert burnett(3)[0] == pytest.approx([1 / 4, 2 / 3])
    x, weight = np.polynomial.legendre.leggauss(40)
    for degree in (5, 12, 42):
        share, rows = burnett(degree)
        np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-14)
        for r, mine in enumerate(share):
            legendre = np.polynomial.legendre.Legendre.basis(degree - 2 * r)
            c, s = np.sqrt((1 + x) / 2), np.sqrt((1 - x) / 2)
            known = 0.5 * weight @ (c**degree * legendre(c) + s**degree * legendre(s))
            assert mine == pytest.approx(known, abs=1e-12)


def of_bobylev(k, equation):
    """The parts of exp(-v^2 / 2k) (5k - 3 + (1 - k) v^2 / k) / 2k / (2 pi k)^(3 / 2)."""
    v, j = np.asarray(TIGHT.values)[0], np.arange(equation.parts)[:, None]
    g = np.exp(-0.5 * v**2 / k) / np.sqrt(2 * np.pi * k) * np.asarray(TIGHT.width)[0]
    a, b = (5 * k - 3) / (2 * k), (1 - k) / (2 * k**2)
    parts = g * k**j * (a + b * v**2 + 2 * b * (j + 1) * k)
    return jnp.asarray(parts[None, :, :, None])


def test_the_solution_of_bobylev_krook_and_wu():
    """dk / dt = (1 - k) / 6 of the frequency; the series in degrees is geometric."""
    k, a, h, errors = 0.8, 1e-6, 1e-5, []
    for degree in (5, 9, 13):
        equation = Boltzmann(degree)
        before, later, earlier = (of_bobylev(x, equation) for x in (k, k + h, k - h))
        found = np.asarray((relaxed(equation, TIGHT, before, jnp.array([a])) - before) / a)
        known = np.asarray((later - earlier) / (2 * h) * 3.0 * (1 - k) / 6)
        errors.append(np.abs(found - known).max() / np.abs(known).max())
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-3


@pytest.mark.parametrize("knudsen", [1e-2, 0.3])
def test_solutions_converge_with_the_degree(knudsen):
    gas = tube(40, knudsen, right=(0.2, 0.0, 0.4))
    finest, *found = (
        kinetic.solve(Boltzmann(degree), gas, [0.2]).conserved for degree in (13, 5, 7, 9)
    )
    errors = [relative_error(one, finest)[0] for one in found]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3


def test_a_label_counts_the_degree():
    times, case = [0.2], smooth(64, 0.1)
    told = label(Boltzmann(5), case, times)
    finest = kinetic.solve(Boltzmann(11), case, times).conserved
    error = relative_error(told.conserved, finest)
    assert 5e-4 < error < told.error


def test_moments_collide_as_distributions_do():
    """Small deviations from a moving Maxwellian, of g and of h, while few have collided."""
    equation, basis, small, a = Boltzmann(9), Hermite(7), 1e-5, 1e-6
    v, u, theta = np.asarray(GRID.values)[0], 0.4, 1.2
    c = (v - u) / np.sqrt(theta)
    m = np.exp(-0.5 * c**2) / np.sqrt(2 * np.pi * theta) * np.asarray(GRID.width)[0]
    he = np.polynomial.hermite_e.hermevander(c, 5)
    g, h = 1 + small * he @ [0, 0, 1, 2, -1, 0.5], small * he @ [-2, 3, 1, 1, 0, 0]
    j = np.arange(equation.parts)[:, None]  # of g + h L_1(v_w^2 / 2 theta)
    parts = jnp.asarray((theta**j * m * (g + h - (j + 1) * h))[None, :, :, None])

    def of(parts):
        """Moments in the frame at rest of temperature 1."""
        he = np.polynomial.hermite_e.hermevander(v, basis.order)
        he /= np.sqrt([float(factorial(n)) for n in range(basis.order + 1)])
        return jnp.asarray(np.einsum("vn,bkvx->nkbx", he, np.asarray(parts)[:, :2]))

    after = relaxed(equation, GRID, parts, jnp.array([a]))
    target, rest = collided(equation, basis, of(parts), jnp.array([a]))
    known, found = of(after - parts) / a, (target + rest - of(parts)) / a
    np.testing.assert_allclose(found, known, atol=2e-3 * np.abs(known).max())
    kept = np.asarray(found)[:3, :, 0, 0]
    energy = np.sqrt(2) * kept[2, 0] + 2 * kept[0, 1]
    np.testing.assert_allclose([*kept[:2, 0], energy], 0, atol=1e-9)


def test_what_collisions_forget_of_few_moments_is_of_their_subspace():
    table = forgetting(4)
    np.testing.assert_allclose(table.cosine**2 + table.sine**2, 1.0)
    assert sorted(table.rates[2]) == pytest.approx([0.0, 1.5])
    assert sorted(table.rates[3]) == pytest.approx([1.0, 2.25])
    assert (table.rates > -1e-14).all()
    assert (table.rates < 3.0).all()


def test_mass_momentum_and_energy_survive_a_collision_of_anything():
    rng, equation = np.random.default_rng(0), Boltzmann()
    v = np.asarray(GRID.values)[0]
    bumps = sum(
        np.exp(-2 * (v - rng.uniform(-3, 3)) ** 2) * rng.uniform(0.5, 1, (6, equation.parts, 1))
        for _ in range(3)
    )
    parts = jnp.asarray(np.moveaxis(bumps, 0, -1)[None])
    after = relaxed(equation, GRID, parts, jnp.array([0.7]))
    for mine, his in zip(moments(GRID, after)[0], moments(GRID, parts)[0]):
        np.testing.assert_allclose(mine, his, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("knudsen", [1e-3, 0.1, 10.0])
def test_streams_that_leave_a_vacuum_behind_keep_a_positive_gas(knudsen):
    x = middles(40)
    inside = (x > 0.25) & (x < 0.75)
    streams = Fields(np.ones(40), np.where(inside, 1.5, -1.5), np.full(40, 0.3))
    found = kinetic.solve(Boltzmann(), Case.of(streams, knudsen), [0.1, 0.3]).conserved
    assert not broken(found).any()
    density = np.asarray(found.density)[0]
    np.testing.assert_allclose(density.mean(axis=1), 1.0, rtol=1e-12)
    assert density.min() < 0.1


def test_degrees_that_are_out_of_range_are_refused():
    for degree in (1, 8, 17):
        with pytest.raises(InputError, match="odd number"):
            Boltzmann(degree).check()
