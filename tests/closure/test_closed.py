"""Closed moment systems: their algebra, their limits, and what no closure can break."""

import numpy as np
import pytest
from waves import KNUDSENS, middles, riemann, smooth, tube

from kepton.closure import closed
from kepton.closure.boltzmann import Boltzmann
from kepton.closure.checks import kept_laws
from kepton.closure.closure import Closure
from kepton.closure.difference import broken, relative_error
from kepton.closure.equation import Kinetic
from kepton.closure.fields import Case, Fields, fields_of, together
from kepton.closure.kinetic import solve
from kepton.closure.label import merge
from kepton.closure.moments import Hermite, in_frame, local, of_gaussian, temperature_of
from kepton.errors import InputError

FRESH = Closure.fresh(8, 1, 0).mean
MONATOMIC = Closure.fresh(8, 1, 0, Kinetic(3, 2 / 3)).mean
"""Of ES-BGK with three dimensions of velocity space"""
BOLTZMANN = Closure.fresh(8, 1, 0, Boltzmann()).mean
PARTING = tube(32, 10.0, (1.0, -2.0, 0.2), (1.0, 2.0, 0.2))
"""Streams that leave a vacuum behind"""


def wild(key, like=FRESH):
    """A closure whose rates are anything."""
    weights = np.random.default_rng(key).normal(0.0, 3.0, like.weights.shape)
    return Closure(weights, like.equation)


def test_molecules_and_moments_are_each_others_inverse():
    basis = Hermite(8)
    np.testing.assert_allclose(basis.of_molecules @ basis.to_molecules, np.eye(9), atol=1e-12)
    np.testing.assert_array_equal(basis.velocities, -basis.velocities[::-1])
    known = np.polynomial.hermite_e.hermeroots([0] * 9 + [1])
    np.testing.assert_allclose(basis.velocities, known, atol=1e-12)
    third = (known**3 - 3 * known) / np.sqrt(6)
    np.testing.assert_allclose(basis.of_molecules[3], third, atol=1e-10)


def test_the_coefficients_of_a_gaussian_are_its_integrals():
    basis, rho, mean, variance = Hermite(8), 1.3, 0.4, 0.7
    c = np.asarray(basis.gaussian(*(np.array([[x]]) for x in (rho, mean, variance))))[:, 0, 0]
    v = np.linspace(-12, 12, 2001)
    f = rho * np.exp(-0.5 * (v - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)
    for n in range(9):
        he = np.polynomial.hermite_e.hermeval(v, [0] * n + [1])
        factorial = np.prod(np.arange(1, n + 1.0))
        assert c[n] == pytest.approx(np.sum(he * f) * 0.012 / np.sqrt(factorial), abs=1e-10)


def test_local_fields_are_those_that_the_moments_were_made_of():
    case = smooth(mean=0.0)
    fields = in_frame(case.initial, temperature_of(case, 1))
    np.testing.assert_allclose(local(of_gaussian(Hermite(5), 1, fields))[0], fields, atol=1e-13)


@pytest.mark.parametrize("knudsen", [1e-6, 0.05, 1.0])
def test_second_order_or_more_where_smooth(knudsen):
    found = {n: closed.solve(FRESH, smooth(n, knudsen), [0.1]).density for n in (64, 128, 256, 512)}
    differences = [
        np.abs(merge(found[2 * n], 2) - np.asarray(found[n])).mean() for n in (64, 128, 256)
    ]
    orders = np.log2(np.divide(differences[:-1], differences[1:]))
    assert (orders > 1.8).all(), orders


@pytest.mark.parametrize("closure", [FRESH, Closure.none(4), wild(0), MONATOMIC, BOLTZMANN])
def test_eulers_equations_are_the_limit_of_any_closure(closure):
    found, d = closed.solve(closure, tube(200, 1e-7), [0.15]), closure.equation.dimensions
    rho, u, theta = (np.asarray(part)[0, 0] for part in fields_of(found, d))
    known = riemann((1, 0, 1), (0.125, 0, 0.1), (d + 2) / d, (middles(200) - 0.5) / 0.15)
    for mine, his in zip((rho, u, rho * theta), known):
        assert np.abs(mine - his).mean() < 0.01


@pytest.mark.parametrize(
    ("closure", "knudsen"),
    [(FRESH, 5e-3), (Closure.none(4), 5e-3), (wild(1), 5e-4), (MONATOMIC, 5e-3), (BOLTZMANN, 5e-3)],
)
def test_heat_spreads_as_by_fourier(closure, knudsen):
    k, times = 2 * np.pi, [0.5, 1.5]
    bump = 1e-4 * np.cos(k * middles(128))
    found = closed.solve(closure, Case.of(Fields(1 - bump, 0 * bump, 1 + bump), knudsen), times)
    rho, _, theta = fields_of(found, closure.equation.dimensions)
    entropy = np.asarray(theta - 2.0 / closure.equation.dimensions * rho)[0]
    amplitudes = np.abs(np.fft.fft(entropy)[:, 1])
    assert np.log(amplitudes[0] / amplitudes[1]) == pytest.approx(knudsen * k**2, rel=0.05)


@pytest.mark.parametrize("equation", [Kinetic(3, 2 / 3), Kinetic(3), Boltzmann()])
def test_sound_is_damped_as_by_navier_and_stokes(equation):
    """k^2 Kn (4 Pr / 3 + 2 / 3) / 2, of stress and heat, as `test_kinetic` derives."""
    closure = Closure.fresh(8, 1, 0, equation).mean
    knudsen, k, small, sound = 5e-3, 2 * np.pi, 1e-4, np.sqrt(5 / 3)
    wave = small * np.cos(k * middles(128))
    times = np.array([0.5, 1.5]) / sound
    case = Case.of(Fields(1 + wave, sound * wave, 1 + 2 / 3 * wave), knudsen)
    found = closed.solve(closure, case, times)
    amplitudes = np.abs(np.fft.fft(np.asarray(found.momentum)[0])[:, 1])
    told = np.log(amplitudes[0] / amplitudes[1]) / (times[1] - times[0])
    assert told == pytest.approx(
        0.5 * k**2 * knudsen * (4 / 3 * equation.prandtl + 2 / 3), rel=0.05
    )


@pytest.mark.parametrize("equation", [Kinetic(), Kinetic(3, 2 / 3), Boltzmann()])
def test_more_moments_are_the_kinetic_equation_at_short_times(equation):
    case, times = smooth(64, 1.0), [0.08]
    known = solve(equation, case, times).conserved
    errors = [
        relative_error(closed.solve(Closure.none(n, equation), case, times), known)[0]
        for n in (4, 8, 16)
    ]
    assert errors[0] > 3 * errors[1] > 3 * errors[2]
    assert errors[2] < 1e-3


@pytest.mark.parametrize(
    "closure",
    [
        FRESH,
        Closure.none(8),
        *map(wild, range(6)),
        MONATOMIC,
        wild(6, MONATOMIC),
        BOLTZMANN,
        wild(7, BOLTZMANN),
    ],
)
def test_no_closure_breaks_the_laws(closure):
    for case in (together([smooth(40, kn) for kn in KNUDSENS]), jumps(40)):
        laws = kept_laws(closure, case, 0.2)
        assert laws["mass_momentum_energy_lost"] < 1e-12
        assert laws["boosts_differ_by"] < 1e-10
        assert laws["reflections_differ_by"] < 1e-10
        assert not broken(closed.solve(closure, case, [0.2])).any()


def jumps(cells):
    x = middles(cells)
    inside = (x > 0.2) & (x < 0.6)
    fields = Fields(*(np.where(inside, a, b) for a, b in ((1.4, 0.6), (0.2, -0.1), (0.7, 1.3))))
    return together([Case.of(fields, knudsen) for knudsen in KNUDSENS])


def test_units_do_not_matter():
    case, f = smooth(40, 0.3), 4.0
    rho, u, theta = case.initial
    hot = Case.of(Fields(7.0 * rho, np.sqrt(f) * u, f * theta), case.knudsen / np.sqrt(f))
    a = closed.solve(FRESH, case, [0.2])
    b = closed.solve(FRESH, hot, [0.2 / np.sqrt(f)])
    np.testing.assert_allclose(b.density, 7.0 * a.density, rtol=1e-10)
    np.testing.assert_allclose(b.energy, 7.0 * f * a.energy, rtol=1e-10)


def test_the_damping_tames_what_is_cut_off():
    """Without it what molecules have forgotten comes back."""
    case, times = smooth(64, 10.0), [0.3]
    known = solve(Kinetic(), case, times).conserved
    cut, damped = (
        relative_error(closed.solve(closure, case, times), known)[0]
        for closure in (Closure.none(8), FRESH)
    )
    assert damped < 0.5 * cut


@pytest.mark.parametrize("closure", [FRESH, Closure.none(6), MONATOMIC, BOLTZMANN])
def test_between_reflecting_walls_is_half_of_a_symmetric_periodic_domain(closure):
    x = 2 * np.pi * middles(40)[:20]
    gas = Fields(1 + 0.3 * np.cos(x), 0 * x, 1 + 0.2 * np.cos(x))
    whole = Case.of(Fields(*(np.concatenate([p, p[::-1]]) for p in gas)), 0.2)
    walls = Case.of(gas, 0.4, "reflecting")  # lengths and times twice as long
    a = np.asarray(closed.solve(closure, whole, [0.1]).density)[0, 0, :20]
    b = np.asarray(closed.solve(closure, walls, [0.2]).density)[0, 0]
    np.testing.assert_allclose(b, a, rtol=1e-12)


@pytest.mark.parametrize("equation", [Kinetic(), Kinetic(3, 2 / 3), Boltzmann()])
@pytest.mark.parametrize("boundary", ["reflecting", "diffusive", "inflow"])
def test_walls_are_those_of_the_kinetic_equation(boundary, equation):
    hot = Fields(np.ones(2), np.zeros(2), np.array([1.0, 1.3]))
    x = np.pi * middles(60)
    gas = Fields(1 + 0.2 * np.cos(x), 0 * x, np.ones(60))
    case = Case.of(gas, 0.02, boundary, hot)
    known = solve(equation, case, [0.2]).conserved
    closure = Closure.fresh(12, 1, 0, equation).mean
    assert relative_error(closed.solve(closure, case, [0.2]), known)[0] < 0.01


def test_cases_of_a_batch_are_solved_as_if_alone():
    cases = [smooth(40, 0.1, amplitude=0.1), smooth(40, 1.0, amplitude=0.5)]
    both = closed.solve(FRESH, together(cases), [0.1])
    for row, case in enumerate(cases):
        alone = closed.solve(FRESH, case, [0.1])
        np.testing.assert_allclose(both.density[row], alone.density[0], rtol=1e-13)


def test_a_broken_solution_is_told():
    found = closed.solve(Closure.none(4), PARTING, [0.1])
    assert broken(found).all()


def test_orders_that_are_out_of_range_are_refused():
    for order in (2, 41):
        with pytest.raises(InputError, match="order"):
            Hermite(order).check()
