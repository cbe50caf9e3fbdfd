"""Integrators and the program that runs them, on force fields known in closed form."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from ase import Atoms
from force_fields import (
    HYDROGEN,
    OMEGA,
    STIFFNESS,
    Edge,
    Harmonic,
    LennardJones,
    cluster,
    crystal,
    hydrogens,
    keys,
)
from scipy import stats

from kepton.atoms import Frames, concatenate
from kepton.atoms.neighbors import neighbors
from kepton.atoms.units import ACCELERATION, BOLTZMANN
from kepton.dynamics import (
    ForceField,
    Langevin,
    StochasticCellRescaling,
    VelocityVerlet,
    initial_state,
    kinetic_energy,
    kinetic_temperature,
    simulate,
)
from kepton.dynamics.integrate import LEAP
from kepton.dynamics.simulate import _run
from kepton.dynamics.state import SKIN, State
from kepton.dynamics.stored import from_arrays, to_arrays
from kepton.errors import InputError


def total_energy(state):
    return np.asarray(state.energy + kinetic_energy(state))


def assert_same(a: State, b: State, atol=0.0):
    for name in ("velocities", "forces", "energy"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=atol)
    np.testing.assert_allclose(a.frames.positions, b.frames.positions, rtol=0, atol=atol)
    # on the host: walkers may lie on other devices here than there
    here, there = (np.asarray(jax.random.key_data(state.key)) for state in (a, b))
    np.testing.assert_array_equal(here, there)


def test_fields_follow_the_protocol():
    assert isinstance(LennardJones(), ForceField)
    assert isinstance(Harmonic(1.0), ForceField)


# ---------------------------------------------------------------- constant energy


def test_verlet_keeps_the_shadow_energy_of_a_harmonic_oscillator():
    """It conserves m v^2 + k (1 - (w dt)^2 / 4) x^2 exactly, and turns by acos(1 - (w dt)^2/2)."""
    integrator, field = VelocityVerlet(0.3 / OMEGA), Harmonic(STIFFNESS)
    frames = hydrogens(1).with_positions(np.array([[[0.1, 0.0, 0.0]]]))
    state = initial_state(keys(1), field, frames, np.zeros((1, 1, 3)))
    state, info = simulate(field, integrator, state, 1000)
    turned = 1000 * np.arccos(1 - 0.3**2 / 2)
    assert info.steps.tolist() == [1000]
    x = np.asarray(state.frames.positions)[0, 0]
    np.testing.assert_allclose(x, [0.1 * np.cos(turned), 0, 0], atol=1e-11)
    speed = 0.1 * OMEGA * np.sqrt(1 - 0.3**2 / 4) * np.sin(turned)
    np.testing.assert_allclose(np.asarray(state.velocities)[0, 0], [-speed, 0, 0], atol=1e-11)


def test_energy_error_is_of_second_order_and_does_not_drift():
    """E = shadow + dt^2 f(x, v) + O(dt^4), so half the dt has a quarter of the fluctuation."""
    field = LennardJones(cutoff=9.0)

    def energies(timestep, count):
        integrator = VelocityVerlet(timestep)
        state = integrator.init(keys(1), field, Frames.from_ase([cluster()]), 30.0)
        found = [total_energy(state)[0]]
        for _ in range(count):
            state, _ = simulate(field, integrator, state, round(40 / timestep))
            found.append(total_energy(state)[0])
        return np.array(found)

    coarse, half, fine = (energies(dt, 60) for dt in (20.0, 10.0, 5.0))
    # the trajectories begin alike, so f takes the same values at the same times
    ratios = [np.ptp(coarse) / np.ptp(half), np.ptp(half) / np.ptp(fine)]
    assert ratios[1] == pytest.approx(4, rel=0.05)
    assert abs(ratios[1] - 4) < abs(ratios[0] - 4) + 0.02
    slope = stats.linregress(np.arange(len(fine)), fine)
    assert abs(slope.slope) < 5 * slope.stderr + 1e-12


def test_time_reversal():
    field, integrator = LennardJones(cutoff=9.0), VelocityVerlet(10.0)
    start = integrator.init(keys(2), field, Frames.from_ase([cluster()] * 2), 40.0)
    there, _ = simulate(field, integrator, start, 200)
    back, _ = simulate(field, integrator, replace(there, velocities=-there.velocities), 200)
    np.testing.assert_allclose(back.frames.positions, start.frames.positions, atol=1e-9)
    np.testing.assert_allclose(back.velocities, -start.velocities, atol=1e-11)
    assert np.abs(there.frames.positions - start.frames.positions).max() > 0.1


def momenta(state):
    m = np.asarray(state.masses)[..., None]
    x, v = np.asarray(state.frames.positions), np.asarray(state.velocities)
    return (m * v).sum(axis=1), (m * np.cross(x, v)).sum(axis=1)


def test_no_rigid_motion_at_the_start_nor_later():
    field, integrator = LennardJones(cutoff=9.0), VelocityVerlet(10.0)
    linear = Atoms("Ar3", [[0, 0, z] for z in (0.0, 3.7, 7.4)])
    frames = Frames.from_ase([cluster(), linear, Atoms("Ar")])
    state = integrator.init(keys(3), field, frames, np.array([40.0, 20.0, 20.0]))
    for _ in range(2):
        momentum, angular = momenta(state)
        np.testing.assert_allclose(momentum, 0, atol=1e-12)
        np.testing.assert_allclose(angular, 0, atol=1e-11)
        state, _ = simulate(field, integrator, state, 100)
    crystalline = integrator.init(keys(1), field, Frames.from_ase([crystal(2)]), 40.0)
    momentum, angular = momenta(crystalline)
    np.testing.assert_allclose(momentum, 0, atol=1e-12)
    assert np.abs(angular).max() > 0.1


def test_temperature_counts_the_degrees_of_freedom():
    """2 K / k_B T follows chi^2 of 3n - c degrees of freedom: its mean over b errs by 1/sqrt(b)."""
    b, n = 2000, 3
    x = np.random.default_rng(0).normal(size=(b, n, 3))
    frames = Frames.from_ase([Atoms("OH2", x[i]) for i in range(b)])
    field = Harmonic(1.0)
    for integrator, constraints in ((VelocityVerlet(1.0), 6), (Langevin(1.0, 0.1, 300.0), 0)):
        arguments = (300.0,) if constraints else ()
        state = integrator.init(keys(b), field, frames, *arguments)
        freedom = 3 * n - constraints
        found = np.asarray(kinetic_temperature(state, constraints))
        assert found.mean() == pytest.approx(300, abs=4 * 300 * np.sqrt(2 / freedom / b))
        chi = stats.kstest(found / 300 * freedom, stats.chi2(freedom).cdf)
        assert chi.pvalue > 1e-3


# ---------------------------------------------------------------- constant temperature


@pytest.mark.parametrize("phase", [0.3, 1.2])
def test_langevin_positions_are_exactly_canonical_in_a_harmonic_well(phase):
    """<x^2> = k_B T / k at any dt, and <v^2> = (1 - (w dt)^2 / 4) k_B T / m.

    250 walkers by 4 atoms by 3 axes are independent; visits are separated by several 1/gamma.
    """
    temperature = np.linspace(200.0, 600.0, 250)
    integrator = Langevin(phase / OMEGA, 0.5 * OMEGA, temperature)
    field = Harmonic(STIFFNESS)
    state = integrator.init(keys(250, seed=5), field, hydrogens(250, 4))
    apart = round(20 / phase)  # correlations fall as exp(-gamma t / 2) = exp(-5)
    x, v = [], []
    state, _ = simulate(field, integrator, state, 3 * apart)
    for _ in range(8):
        state, info = simulate(field, integrator, state, apart)
        assert not info.broken.any()
        scale = np.sqrt(BOLTZMANN * temperature)[:, None, None]
        x.append(np.asarray(state.frames.positions) / scale * np.sqrt(STIFFNESS))
        v.append(np.asarray(state.velocities) / scale * np.sqrt(HYDROGEN / ACCELERATION))
    x, v = np.ravel(x), np.ravel(v)
    spread = np.sqrt(2 / len(x))  # of the mean square of standard normal numbers
    assert np.mean(x**2) == pytest.approx(1, abs=4 * spread)
    assert np.mean(v**2) == pytest.approx(1 - phase**2 / 4, abs=4 * spread)
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert abs(np.mean(x * v)) < 4 / np.sqrt(len(x))


def test_langevin_free_particle_diffuses():
    """<x^2> = 6 D (t - (1 - exp(-gamma t)) / gamma) from equilibrium, D = k_B T / (m gamma)."""
    gamma, temperature, steps, dt = 0.05, 300.0, 400, 0.5
    field, integrator = Harmonic(0.0), Langevin(dt, gamma, temperature)
    frames = hydrogens(400, 5)
    start = integrator.init(keys(400, seed=2), field, frames)
    state, _ = simulate(field, integrator, start, steps)
    squares = (np.asarray(state.frames.positions) ** 2).sum(axis=-1)
    t = steps * dt
    diffusion = BOLTZMANN * temperature * ACCELERATION / (HYDROGEN * gamma)
    expected = 6 * diffusion * (t - (1 - np.exp(-gamma * t)) / gamma)
    # a discrete step changes D by (gamma dt)^2 / 12 = 5e-5; three squares of normals spread by 2/3
    assert squares.mean() == pytest.approx(expected, rel=4 * np.sqrt(2 / 3 / squares.size))


def test_langevin_without_friction_is_verlet():
    field = LennardJones(cutoff=9.0)
    start = VelocityVerlet(10.0).init(keys(1), field, Frames.from_ase([cluster()]), 40.0)
    a, _ = simulate(field, VelocityVerlet(10.0), start, 50)
    b, _ = simulate(field, Langevin(10.0, 0.0, 300.0), start, 50)
    np.testing.assert_allclose(a.frames.positions, b.frames.positions, atol=1e-12)


# ---------------------------------------------------------------- walkers are independent


def test_noise_follows_from_the_key_alone():
    field, integrator = LennardJones(cutoff=9.0), Langevin(10.0, 0.01, 40.0)
    frames = Frames.from_ase([cluster()] * 3)

    def run(key):
        return simulate(field, integrator, integrator.init(key, field, frames), 50)[0]

    a, b = run(keys(3)), run(keys(3))
    assert_same(a, b)
    c = run(keys(3)[np.array([2, 2, 0])])
    np.testing.assert_allclose(c.frames.positions[0], c.frames.positions[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(c.frames.positions[0], a.frames.positions[2], rtol=0, atol=1e-9)
    assert np.abs(a.frames.positions[0] - a.frames.positions[1]).max() > 0.01


def test_a_walker_does_not_feel_its_batch_nor_padding():
    field = LennardJones()
    small, large = Frames.from_ase([cluster()]), Frames.from_ase([crystal()])
    together = concatenate([small, large])
    integrator = Langevin(5.0, 0.01, 60.0)
    both = integrator.init(keys(2), field, together)
    alone = integrator.init(keys(2)[:1], field, small)
    np.testing.assert_allclose(both.velocities[0, :13], alone.velocities[0], rtol=1e-14)
    both, _ = simulate(field, integrator, both, 100)
    alone, _ = simulate(field, integrator, alone, 100)
    assert alone.neighbors.reach == np.inf
    assert both.neighbors.reach == 7.0
    positions = np.asarray(both.frames.positions)[0]
    np.testing.assert_allclose(positions[:13], alone.frames.positions[0], atol=1e-9)
    assert (positions[13:] == 0).all()
    assert (np.asarray(both.velocities)[0, 13:] == 0).all()


def test_chunks_make_one_trajectory():
    field, integrator = LennardJones(), Langevin(5.0, 0.01, 80.0)
    start = integrator.init(keys(1), field, Frames.from_ase([crystal(2)]))
    once, _ = simulate(field, integrator, start, 90)
    state = start
    for steps in (0, 1, 50, 39):
        state, info = simulate(field, integrator, state, steps)
        assert info.steps.tolist() == [steps]
    assert_same(once, state, atol=1e-12)


# ---------------------------------------------------------------- neighbour lists


@pytest.mark.parametrize("kind", ["verlet", "langevin"])
def test_skin_changes_nothing(kind):
    """The trajectory equals the one that makes a new list at every step."""
    field = LennardJones()
    integrator = VelocityVerlet(10.0) if kind == "verlet" else Langevin(10.0, 0.001, 150.0)
    frames = Frames.from_ase([crystal(2), crystal(2)])
    drift = np.array([0.0, 0.02])[:, None, None] * np.array([1.0, 0.7, 0.0])
    start = Langevin(10.0, 0.01, np.array([20.0, 150.0])).init(keys(2), field, frames)
    start = replace(start, velocities=start.velocities + drift)  # crosses its cell
    state, info = simulate(field, integrator, start, 60)
    assert info.rebuilds > 5
    assert info.steps.tolist() == [60, 60]

    expected, step = start, jax.jit(integrator.step)
    for _ in range(60):
        listed = neighbors(expected.frames, field.cutoff, 1.0)
        width = max(0, 120 - listed.mask.shape[2])  # one width, one program
        room = ((0, 0), (0, 0), (0, width))
        listed = replace(
            listed,
            index=np.pad(listed.index, room, constant_values=-1),
            image=np.pad(listed.image, room),
        )
        expected, seen = step(field, replace(expected, neighbors=listed))
        assert not seen.late.any()
    assert np.linalg.norm(state.frames.positions - start.frames.positions, axis=-1).max() > 5.4
    assert_same(state, expected, atol=1e-10)


@pytest.mark.parametrize(
    "integrator",
    [VelocityVerlet(10.0), StochasticCellRescaling(Langevin(10.0, 0.01, 150.0), 0.0)],
    ids=["constant-energy", "constant-pressure"],
)
def test_lists_made_where_the_atoms_are_change_nothing(monkeypatch, integrator):
    field, frames = LennardJones(), Frames.from_ase([crystal()])

    def run():
        start = Langevin(10.0, 0.01, 150.0).init(keys(1), field, frames)
        start = initial_state(start.key, field, frames, start.velocities + 0.02, True)
        return simulate(field, integrator, start, 60)

    expected, there = run()
    monkeypatch.setattr("kepton.atoms.neighbors._on_accelerator", lambda _: True)
    state, here = run()
    assert isinstance(state.neighbors.built_at, jax.Array)
    assert here.rebuilds == there.rebuilds > 2
    assert_same(state, expected, atol=1e-10)

    arrays, widths = to_arrays(state)
    again = from_arrays(state, arrays, widths, field.cutoff, SKIN)
    assert_same(*(simulate(field, integrator, one, 20)[0] for one in (state, again)))


def test_a_late_list_advances_no_walker():
    field, integrator = LennardJones(), VelocityVerlet(10.0)
    start = integrator.init(keys(2), field, Frames.from_ase([crystal(2)] * 2), 40.0)
    away = np.array([0.0, 0.6])[:, None, None]
    late = replace(
        start, neighbors=replace(start.neighbors, built_at=start.neighbors.built_at + away)
    )
    state, info = integrator.step(field, late)
    assert info.late.tolist() == [False, True]
    assert_same(state, late)
    state, info = simulate(field, integrator, late, 3)
    assert (info.rebuilds, info.steps.tolist()) == (1, [3, 3])
    assert_same(state, simulate(field, integrator, start, 3)[0], atol=1e-12)


def test_a_new_field_or_temperature_compiles_nothing():
    field = LennardJones()
    frames = Frames.from_ase([crystal(2)])
    state = Langevin(5.0, 0.01, 60.0).init(keys(1), field, frames)
    state, _ = simulate(field, Langevin(5.0, 0.01, 60.0), state, 5)
    before = _run._cache_size()
    simulate(LennardJones(depth=0.012), Langevin(5.0, 0.01, 90.0), state, 7)
    assert _run._cache_size() == before
    assert before > 0


def test_lists_never_narrow():
    field, integrator = LennardJones(), VelocityVerlet(10.0)
    dense, thin = crystal(2), crystal(2)
    thin.set_cell(thin.cell * 1.3, scale_atoms=True)
    state = integrator.init(keys(1), field, Frames.from_ase([dense]), 10.0)
    width = state.neighbors.mask.shape[2]
    expanded = replace(state, frames=Frames.from_ase([thin]))
    state, info = simulate(field, integrator, expanded, 2)
    assert info.rebuilds == 1
    assert state.neighbors.mask.shape[2] == width


# ---------------------------------------------------------------- frozen and broken


def test_frozen_walkers_do_not_change():
    field, integrator = LennardJones(cutoff=9.0), Langevin(10.0, 0.01, 40.0)
    start = integrator.init(keys(3), field, Frames.from_ase([cluster()] * 3))
    free, _ = simulate(field, integrator, start, 20)
    state, info = simulate(field, integrator, start.freeze(np.array([False, True, False])), 20)
    assert info.steps.tolist() == [20, 0, 20]
    assert not info.broken.any()
    assert_same(state[1:2], start[1:2])
    assert_same(state[np.array([0, 2])], free[np.array([0, 2])], atol=1e-12)
    still, info = simulate(field, integrator, start.freeze(np.ones(3, bool)), 20)
    assert info.steps.tolist() == [0, 0, 0]
    assert_same(still, start)


def test_a_walker_without_a_number_keeps_its_last_state():
    field, integrator = Edge(edge=1.0), VelocityVerlet(1.0)
    speed = np.array([0.0, 0.3, 0.19])[:, None, None] * np.array([1.0, 0.0, 0.0])
    state = initial_state(keys(3), field, hydrogens(3), speed)
    state, info = simulate(field, integrator, state, 10)
    assert info.broken.tolist() == [False, True, True]
    assert info.steps.tolist() == [10, 3, 5]
    np.testing.assert_allclose(state.frames.positions[:, 0, 0], [0.0, 0.9, 0.95])
    assert np.isfinite(state.energy).all()
    assert state.alive.tolist() == [True, False, False]
    _, info = simulate(field, integrator, state, 10)
    assert not info.broken.any()


@pytest.mark.parametrize("structure", [cluster(), crystal(2)], ids=["isolated", "periodic"])
def test_a_leap_breaks_a_walker_and_no_other(structure):
    field, integrator = LennardJones(), VelocityVerlet(5.0)
    start = integrator.init(keys(2), field, Frames.from_ase([structure] * 2), 20.0)
    velocities = np.array(start.velocities)
    velocities[1, 0, 0] = 1.1 * LEAP / 5.0
    state, info = simulate(field, integrator, replace(start, velocities=velocities), 10)
    assert info.broken.tolist() == [False, True]
    assert info.steps.tolist() == [10, 0]
    np.testing.assert_array_equal(state.frames.positions[1], start.frames.positions[1])
    alone, _ = simulate(field, integrator, start[:1], 10)
    assert_same(state[:1], alone, atol=1e-12)


def test_wrong_inputs_are_told():
    with pytest.raises(InputError, match="timestep_fs = 0"):
        VelocityVerlet(0.0)
    with pytest.raises(InputError, match="friction_per_fs = -1"):
        Langevin(1.0, -1.0, 300.0)
    field = Harmonic(1.0)
    state = VelocityVerlet(1.0).init(keys(1), field, hydrogens(1), 0.0)
    with pytest.raises(InputError, match=r"skin = 0\.5"):
        simulate(field, VelocityVerlet(1.0), state, 1, skin=0.5)
