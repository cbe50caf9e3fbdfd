"""The kinetic solver against its own refinement, its limits, and what it must keep."""

import numpy as np
import pytest
from scipy.special import erf
from waves import KNUDSENS, boosted, middles, reflected, riemann, smooth, tube

from kepton.closure.boltzmann import Boltzmann
from kepton.closure.difference import relative_error
from kepton.closure.equation import Kinetic
from kepton.closure.fields import Case, Fields, conserved, drift, fields_of, in_the_domain
from kepton.closure.kinetic import solve
from kepton.closure.label import label, merge
from kepton.closure.velocities import equally_spaced, gaussian
from kepton.errors import InputError

EQUATIONS = (Kinetic(), Kinetic(3), Kinetic(3, 2 / 3), Boltzmann())


def in_domain(case, times, equation=EQUATIONS[0]):
    found = solve(equation, case, times).conserved
    return in_the_domain(found, times, drift(case), case.cells)


@pytest.mark.parametrize("knudsen", [1e-6, 0.05, 1e3])
def test_second_order_or_more_where_smooth_at_any_knudsen_number(knudsen):
    found = {
        cells: solve(EQUATIONS[0], smooth(cells, knudsen), [0.1]).conserved
        for cells in (64, 128, 256, 512)
    }
    differences = [
        np.abs(merge(found[2 * cells].density, 2) - np.asarray(found[cells].density)).mean()
        for cells in (64, 128, 256)
    ]
    orders = np.log2(np.divide(differences[:-1], differences[1:]))
    assert (orders > 1.8).all(), orders


@pytest.mark.parametrize("equation", EQUATIONS)
def test_mass_momentum_and_energy_are_kept_to_rounding(equation):
    for knudsen in KNUDSENS:
        case = smooth(40, knudsen)
        found = in_domain(case, [0.0, 0.3], equation)
        first, last = (np.array([np.asarray(part)[0, at].sum() for part in found]) for at in (0, 1))
        np.testing.assert_allclose(last, first, rtol=1e-12)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_sods_tube_becomes_that_of_eulers_equations(dimensions):
    errors = []
    for cells in (100, 200):
        found = solve(Kinetic(dimensions), tube(cells, 1e-7), [0.15]).conserved
        rho, u, theta = (np.asarray(part)[0, 0] for part in fields_of(found, dimensions))
        known = riemann(
            (1, 0, 1), (0.125, 0, 0.1), (dimensions + 2) / dimensions, (middles(cells) - 0.5) / 0.15
        )
        errors.append([np.abs(a - b).mean() for a, b in zip((rho, u, rho * theta), known)])
    assert np.max(errors[1]) < 0.007
    assert (np.divide(errors[0], errors[1]) > 1.5).all()  # first order where there are shocks


@pytest.mark.parametrize("equation", EQUATIONS)
def test_a_sound_wave_is_damped_as_by_navier_and_stokes(equation):
    """Gamma = (k^2 / 2 rho) (4 mu / 3 + (g - 1) kappa / c_p), mu = Pr Kn p, kappa = c_p Kn p.

    In one dimension of velocity space there is no stress, and mu is not there.
    """
    d, knudsen, k = equation.dimensions, 5e-3, 2 * np.pi
    gamma, viscous = (d + 2) / d, equation.prandtl * 4 / 3 if d == 3 else 0.0
    rate = 0.5 * k**2 * knudsen * (viscous + gamma - 1)
    x, small, sound = k * middles(128), 1e-4, np.sqrt(gamma)
    wave = Fields(
        1 + small * np.cos(x), small * sound * np.cos(x), 1 + small * (gamma - 1) * np.cos(x)
    )
    times = np.array([0.5, 1.5]) / sound  # a period, after which the phases are the same
    found = solve(equation, Case.of(wave, knudsen), times).conserved
    amplitudes = np.abs(np.fft.fft(np.asarray(found.momentum)[0])[:, 1])
    told = np.log(amplitudes[0] / amplitudes[1]) / (times[1] - times[0])
    assert told == pytest.approx(rate, rel=0.04)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_heat_spreads_as_by_fourier(equation):
    """d(theta) / dt = kappa / (rho c_p) theta_xx = Kn theta_xx at equal pressure."""
    knudsen, k, times = 5e-3, 2 * np.pi, [0.5, 1.5]
    bump = 1e-4 * np.cos(k * middles(128))
    found = solve(equation, Case.of(Fields(1 - bump, 0 * bump, 1 + bump), knudsen), times)
    rho, _, theta = fields_of(found.conserved, equation.dimensions)
    entropy = np.asarray(theta - 2 / equation.dimensions * rho)[0]  # sound waves have none
    amplitudes = np.abs(np.fft.fft(entropy)[:, 1])
    assert np.log(amplitudes[0] / amplitudes[1]) == pytest.approx(knudsen * k**2, rel=0.04)


@pytest.mark.parametrize("time", [0.05, 0.15])
def test_without_collisions_molecules_fly_freely(time):
    case = tube(200, 1e9)
    found = np.asarray(solve(EQUATIONS[0], case, [time]).conserved.density)[0, 0]
    z = (middles(200) - 0.5) / time / np.sqrt(2)
    known = 0.5 * (1 - erf(z)) + 0.0625 * (1 + erf(z / np.sqrt(0.8)))
    assert np.linalg.norm(found - known) / np.linalg.norm(known) < 2e-3


def test_the_gaussian_has_its_moments_on_any_grid():
    grid = equally_spaced(np.array([6.0]), 16)  # wider than a thermal speed of the coldest
    rho, u, theta = (np.array([[a, b]]) for a, b in ((1.3, 0.2), (0.5, -0.7), (0.5, 1.1)))
    g = np.asarray(gaussian(grid, 1, rho, u, theta, theta))[:, 0]
    v = grid.values[:, :, None]
    for power, known in enumerate((rho, rho * u, rho * (u**2 + theta))):
        np.testing.assert_allclose((v**power * g).sum(axis=1), known, rtol=1e-9)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_walls(equation):
    x = np.pi * middles(40)
    gas = Fields(1 + 0.5 * np.cos(x), 0.2 * np.sin(x), 1 + 0.3 * np.cos(x))
    hot = Fields(np.ones(2), np.zeros(2), np.array([2.0, 2.0]))
    for boundary, kept in (("reflecting", (0, 2)), ("diffusive", (0,))):
        case = Case.of(gas, 0.3, boundary, hot)
        found = solve(equation, case, [0.0, 0.3]).conserved
        totals = [np.asarray(part)[0].sum(axis=1) for part in found]
        for which in kept:
            assert totals[which][1] == pytest.approx(totals[which][0], rel=1e-12)
    assert totals[2][1] > 1.02 * totals[2][0]  # hot walls heat
    # walls of the gas' own temperature leave it alone
    still = Case.of(Fields(np.ones(40), np.zeros(40), np.ones(40)), 0.3, "diffusive")
    found = solve(equation, still, [0.3]).conserved
    np.testing.assert_allclose(found.energy, 0.5 * equation.dimensions, rtol=1e-10)


def test_between_reflecting_walls_is_half_of_a_symmetric_periodic_domain():
    half = middles(20) / 2
    gas = Fields(1 + 0.3 * np.cos(2 * np.pi * half), 0 * half, 1 + 0.2 * np.cos(2 * np.pi * half))
    whole = Case.of(Fields(*(np.concatenate([p, p[::-1]]) for p in gas)), 0.2)
    walls = Case.of(gas, 0.4, "reflecting")  # lengths and times twice as long
    grid = equally_spaced(np.array([8.0]), 48)
    a = np.asarray(solve(EQUATIONS[0], whole, [0.1], grid).conserved.density)[0, 0, :20]
    b = np.asarray(solve(EQUATIONS[0], walls, [0.2], grid).conserved.density)[0, 0]
    np.testing.assert_allclose(b, a, rtol=1e-12)


@pytest.mark.parametrize("knudsen", [1e-3, 1.0])
def test_moving_and_reflected_gases_are_the_gas_seen_otherwise(knudsen):
    case, time, cells = smooth(40, knudsen), 0.2, 40
    rho, m, energy = (np.asarray(part)[0, 0] for part in in_domain(case, [time]))
    v = 3 / (cells * time)  # three cells within the time
    seen = [np.asarray(part)[0, 0] for part in in_domain(boosted(case, v), [time])]
    known = (rho, m + v * rho, energy + v * m + 0.5 * v**2 * rho)
    for a, b in zip(seen, known):
        np.testing.assert_allclose(a, np.roll(b, 3), rtol=1e-10)
    mirrored = [np.asarray(part)[0, 0] for part in in_domain(reflected(case), [time])]
    for a, b in zip(mirrored, (rho, -m, energy)):
        np.testing.assert_allclose(a[::-1], b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", [smooth(100, 1.0), smooth(100, 1e-2), tube(100, 1e-3)])
def test_a_label_says_how_far_it_is_off(case):
    times = [0.1, 0.2]
    told = label(EQUATIONS[0], case, times)
    fine = Case.of(
        smooth(400, case.knudsen).initial if case.boundary == "periodic" else tube(400, 1).initial,
        case.knudsen,
        case.boundary,
    )
    known = solve(EQUATIONS[0], fine, times).conserved
    error = relative_error(told.conserved, type(known)(*(merge(part, 4) for part in known)))
    assert 0.3 * error < told.error < 10 * error + 1e-4


def test_fields_and_what_is_conserved_tell_each_other():
    case = smooth()
    for dimensions in (1, 3):
        back = fields_of(conserved(case.initial, dimensions), dimensions)
        np.testing.assert_allclose(back, case.initial, rtol=1e-13)


def test_wrong_cases_are_refused():
    one = np.ones(8)
    for initial, knudsen, boundary, words in (
        (Fields(one, one, -one), 1.0, "periodic", "temperature must be positive"),
        (Fields(one, one, one), 0.0, "periodic", "Knudsen number must be positive"),
        (Fields(one, one[:4], one), 1.0, "periodic", "one value a cell"),
        (Fields(one, np.nan * one, one), 1.0, "periodic", "velocity must be finite"),
        (Fields(one, one, one), 1.0, "periodical", "did you mean 'periodic'"),
    ):
        with pytest.raises(InputError, match=words):
            Case.of(initial, knudsen, boundary)
    with pytest.raises(InputError, match="1 or 3 dimensions"):
        solve(Kinetic(2), smooth(), [0.1])
    with pytest.raises(InputError, match="Prandtl"):
        solve(Kinetic(1, 0.7), smooth(), [0.1])
    with pytest.raises(InputError, match="multiple of 4"):
        label(Kinetic(), smooth(42), [0.1])
