"""Cells that move, on systems whose distribution of volumes is known."""

import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from force_fields import IdealGas, Jelly, LennardJones, cluster, crystal, keys
from scipy import stats

from kepton.atoms import Frames
from kepton.atoms.neighbors import neighbors
from kepton.atoms.units import BOLTZMANN, GIGAPASCAL
from kepton.dynamics import (
    Langevin,
    Shape,
    StochasticCellRescaling,
    kinetic_energy,
    pressure,
    simulate,
    volume,
)
from kepton.errors import InputError

KT = BOLTZMANN * 300.0


def gas(walkers, atoms, per_atom):
    """Xenon atoms somewhere in cubes."""
    side = (atoms * per_atom) ** (1 / 3)
    places = np.random.default_rng(0).uniform(0, side, (walkers, atoms, 3))
    return Frames.from_ase(
        [Atoms(f"Xe{atoms}", x, cell=side * np.eye(3), pbc=True) for x in places]
    )


def volumes(field, integrator, frames, steps):
    """Independent ones, a walker."""
    state = integrator.init(keys(len(frames), seed=3), field, frames)
    state, info = simulate(field, integrator, state, steps)
    assert not info.broken.any()
    return np.asarray(volume(state.frames)), state


@pytest.mark.parametrize("shape", Shape)
def test_volumes_of_an_ideal_gas_are_gamma_distributed(shape):
    """p(V) ~ V^n exp(-P V / kT): its mean is (n + 1) kT / P, half the walkers at twice the P."""
    walkers, atoms = 300, 16
    given = np.where(np.arange(walkers) % 2, 0.2, 0.1)
    integrator = StochasticCellRescaling(
        Langevin(2.0, 0.02, 300.0), given, shape, compressibility_per_GPa=7.0, time_fs=200.0
    )
    # a volume forgets in about tau / (b P) = 290 fs, and in 140 fs at 0.2 GPa
    found, state = volumes(IdealGas(), integrator, gas(walkers, atoms, 30.0), 500)
    scaled = found * given * GIGAPASCAL / KT
    exact = stats.gamma(atoms + 1)
    assert scaled.mean() == pytest.approx(exact.mean(), abs=4 * exact.std() / np.sqrt(walkers))
    # the variance of a sample's variance: (kurtosis + 2) / size
    spread = exact.var() * np.sqrt((float(exact.stats("k")) + 2) / walkers)
    assert scaled.var() == pytest.approx(exact.var(), abs=4 * spread)
    assert stats.kstest(scaled, exact.cdf).pvalue > 1e-3
    kinetic = np.asarray(kinetic_energy(state)) / (1.5 * atoms * KT)
    assert kinetic.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / (3 * atoms * walkers)))
    angles = np.asarray(state.frames.cell) @ np.asarray(state.frames.cell).mT
    sheared = np.abs(angles[:, 0, 1]).max() > 1e-6
    assert sheared == (shape == Shape.FULL)


def test_volumes_of_a_jelly_follow_its_energy():
    """p(V) ~ V^n exp(-(E(V) + P V) / kT), by quadrature."""
    walkers, atoms, modulus = 400, 4, 2.0
    field = Jelly(modulus * GIGAPASCAL, at=160.0)
    integrator = StochasticCellRescaling(
        Langevin(2.0, 0.02, 300.0), 0.5, compressibility_per_GPa=1 / modulus, time_fs=100.0
    )
    found, _ = volumes(field, integrator, gas(walkers, atoms, 40.0), 400)
    v = np.linspace(20, 500, 20_001)
    exponent = 0.5 * field.modulus * field.at * np.log(v / field.at) ** 2 + 0.5 * GIGAPASCAL * v
    density = v**atoms * np.exp(-exponent / KT)
    cdf = np.cumsum(density) / density.sum()
    assert stats.kstest(found, lambda x: np.interp(x, v, cdf)).pvalue > 1e-3
    mean = (v * density).sum() / density.sum()
    spread = np.sqrt((v**2 * density).sum() / density.sum() - mean**2)
    assert found.mean() == pytest.approx(mean, abs=4 * spread / np.sqrt(walkers))
    assert found.std() == pytest.approx(spread, rel=4 * np.sqrt(0.6 / walkers))


@pytest.mark.slow
def test_two_pressures_tell_their_difference():
    """ln(p_1(V) / p_2(V)) = (P_2 - P_1) V / kT + c, whatever the potential.

    With equal numbers of each, the slope's likelihood is that of a logistic regression.
    Source: Merz and Shirts, PLoS ONE 13, e0202764 (2018)
    """
    walkers = 240
    given = np.where(np.arange(walkers) % 2, 0.02, 0.05)
    field = LennardJones(cutoff=5.5)
    frames = Frames.from_ase([bulk("Ar", "fcc", a=5.4, cubic=True)] * walkers)
    integrator = StochasticCellRescaling(
        Langevin(5.0, 0.01, 40.0), given, compressibility_per_GPa=0.5, time_fs=200.0
    )
    state = integrator.init(keys(walkers, seed=1), field, frames)
    seen = []
    for _ in range(6):
        state, _ = simulate(field, integrator, state, 200)
        seen.append(np.asarray(volume(state.frames)))
    v = np.array(seen[1:])
    first = np.broadcast_to(given == 0.02, v.shape).ravel()
    x = v.ravel() - v.mean()
    slope, offset = 0.0, 0.0
    for _ in range(30):  # Newton
        p = 1 / (1 + np.exp(-(slope * x + offset)))
        a = np.stack([x, np.ones_like(x)])
        hessian = (a * p * (1 - p)) @ a.T
        slope, offset = np.array([slope, offset]) + np.linalg.solve(hessian, a @ (first - p))
    error = np.sqrt(np.linalg.inv(hessian)[0, 0] * 2)  # visits 1 ps apart: about two correlated
    expected = 0.03 * GIGAPASCAL / (BOLTZMANN * 40.0)
    assert slope == pytest.approx(expected, abs=4 * error)
    assert error < 0.2 * expected


def test_a_crystal_finds_the_pressure_in_a_full_cell():
    """Its mean internal pressure is P_0 along all axes, and no shear is left."""
    field = LennardJones(cutoff=6.0)
    frames = Frames.from_ase([crystal(2)] * 4)
    integrator = StochasticCellRescaling(
        Langevin(5.0, 0.01, 20.0), 0.3, Shape.FULL, compressibility_per_GPa=0.3, time_fs=300.0
    )
    state = integrator.init(keys(4), field, frames)
    seen = []
    for _ in range(60):
        state, info = simulate(field, integrator, state, 20)
        assert not info.broken.any()
        seen.append(np.asarray(pressure(state)))
    seen = np.array(seen[15:]).mean(axis=0)  # 4.5 ps, 15 tau
    error = seen.std(axis=0, ddof=1) / np.sqrt(4)
    assert (np.abs(seen.mean(axis=0) - 0.3 * np.eye(3)) < 6 * error).all()
    assert (error < 0.03).all()
    assert info.rebuilds < 20


def test_energy_less_heat_is_conserved():
    """What thermostat and cell give is accounted for: what is left falls with dt^2."""
    field = LennardJones()
    frames = Frames.from_ase([crystal(2)] * 4)

    def left(timestep):
        integrator = StochasticCellRescaling(
            Langevin(timestep, 0.01, 30.0), 0.1, Shape.FULL, 0.3, 300.0
        )
        state = integrator.init(keys(4), field, frames)
        seen = []
        for _ in range(10):
            state, _ = simulate(field, integrator, state, round(200 / timestep))
            seen.append(np.asarray(state.energy + kinetic_energy(state) - state.heat))
        assert np.abs(np.asarray(state.heat)).max() > 0.05
        return np.std(seen, axis=0).mean()

    coarse, fine = left(10.0), left(5.0)
    assert coarse < 2e-3
    assert coarse / fine == pytest.approx(4, rel=0.5)


def test_a_cell_smaller_than_the_cutoff_moves():
    field = LennardJones(cutoff=8.0)
    frames = Frames.from_ase([bulk("Ar", "fcc", a=5.4)] * 2)
    integrator = StochasticCellRescaling(Langevin(5.0, 0.01, 20.0), 0.05, Shape.FULL, 0.3, 1000.0)
    state = integrator.init(keys(2), field, frames)
    state, info = simulate(field, integrator, state, 100)
    assert not info.broken.any()
    expected = field.answer(state.frames, neighbors(state.frames, field.cutoff), virial=True)
    np.testing.assert_allclose(state.energy, expected.energy, atol=1e-12)
    np.testing.assert_allclose(state.virial, expected.virial, atol=1e-11)


def test_a_cell_that_collapses_breaks_its_walker_alone():
    field = LennardJones()
    frames = Frames.from_ase([crystal(2)] * 2)
    integrator = StochasticCellRescaling(
        Langevin(5.0, 0.01, 20.0), np.array([0.1, 3000.0]), Shape.ISOTROPIC, 0.3, 100.0
    )
    state = integrator.init(keys(2), field, frames)
    state, info = simulate(field, integrator, state, 50)
    assert info.broken.tolist() == [False, True]
    assert info.steps[0] == 50
    assert np.isfinite(state.frames.positions).all()


def test_constant_pressure_wants_a_cell():
    integrator = StochasticCellRescaling(Langevin(5.0, 0.01, 20.0), 0.1)
    with pytest.raises(InputError, match="periodic"):
        integrator.init(keys(1), LennardJones(), Frames.from_ase([cluster()]))
    with pytest.raises(InputError, match="time_fs = 0"):
        StochasticCellRescaling(Langevin(5.0, 0.01, 20.0), 0.1, time_fs=0.0)


def test_a_list_that_is_not_stale_is_complete_in_a_strained_cell():
    """Whatever the strain and the moves: no pair within the cutoff is missing."""
    rng = np.random.default_rng(4)
    cutoff, skin, seen = 3.0, 1.0, 0
    for _ in range(150):
        cell = 4.0 * np.eye(3) + rng.uniform(-1, 1, (3, 3))
        atoms = Atoms("Ar6", rng.uniform(-8, 8, (6, 3)), cell=cell, pbc=True)
        frames = Frames.from_ase([atoms])
        listed = neighbors(frames, cutoff, skin)
        strain = rng.normal(size=(3, 3)) * rng.uniform(0, 0.12)
        moves = rng.normal(size=(6, 3)) * rng.uniform(0, 0.25)
        there = np.eye(3) + strain
        bent = Atoms("Ar6", atoms.positions @ there + moves, cell=cell @ there, pbc=True)
        now = Frames.from_ase([bent])
        if listed.stale(now, cutoff)[0]:
            continue
        seen += 1
        r = listed.distances(now)[0]
        wanted = neighbors(now, cutoff)
        for i in range(6):
            exact = np.sort(wanted.distances(now)[0, i][wanted.mask[0, i]])
            found = np.sort(r[i][r[i] < cutoff])
            np.testing.assert_allclose(found, exact, atol=1e-9)
    assert seen > 30


def test_a_list_is_not_stale_before_it_must_be():
    """The bound is reached: by isotropic compression, up to the norm's factor sqrt(3)."""
    frames = Frames.from_ase([crystal(2)])
    listed = neighbors(frames, 6.0, 1.0)

    def squeezed(strain):
        there = (1 + strain) * np.eye(3)
        return Frames.from_ase([Atoms(crystal(2), cell=crystal(2).cell @ there, pbc=True)])

    for strain in (-0.08, 0.08):
        frames = squeezed(strain)
        frames = frames.with_positions(jnp.asarray(crystal(2).positions * (1 + strain))[None])
        assert not listed.stale(frames, 6.0)[0]
    assert listed.stale(squeezed(-1 / 7), 6.0)[0]
