"""Velocity rescaling and Nose-Hoover chains."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.md.verlet import VelocityVerlet as ASEVerlet
from ase.units import fs
from force_fields import STIFFNESS, Harmonic, LennardJones, cluster, crystal, hydrogens, keys
from scipy import stats

from kepton.atoms import Frames
from kepton.atoms.neighbors import neighbors
from kepton.atoms.units import BOLTZMANN
from kepton.dynamics import (
    NoseHooverChain,
    VelocityRescaling,
    VelocityVerlet,
    kinetic_energy,
    kinetic_temperature,
    rigid_motions,
    simulate,
)
from kepton.errors import InputError


def conserved(state):
    return np.asarray(state.energy + kinetic_energy(state) - state.heat)


def test_rescaled_velocities_have_the_canonical_kinetic_energy():
    """2 K / k_B T follows chi^2 of 3 n - 3: each walker starts far off and forgets in tau."""
    walkers, temperature = 1500, np.where(np.arange(1500) % 2, 200.0, 500.0)
    frames = Frames.from_ase([Atoms("Ar3", np.eye(3) * 5, cell=np.eye(3) * 20, pbc=True)] * walkers)
    integrator, field = VelocityRescaling(1.0, 10.0, temperature), Harmonic(0.0)
    state = integrator.init(keys(walkers, seed=6), field, frames)
    state = replace(state, velocities=4 * state.velocities)
    state, info = simulate(field, integrator, state, 100)
    freedom = 9 - 3
    scaled = 2 * np.asarray(kinetic_energy(state)) / (BOLTZMANN * temperature)
    assert scaled.mean() == pytest.approx(freedom, abs=4 * np.sqrt(2 * freedom / walkers))
    assert stats.kstest(scaled, stats.chi2(freedom).cdf).pvalue > 1e-3
    momentum = np.asarray((state.masses[..., None] * state.velocities).sum(axis=1))
    np.testing.assert_allclose(momentum, 0, atol=1e-12)
    assert not info.broken.any()


def test_one_degree_of_freedom_turns_its_velocity_around():
    """An isolated pair vibrates along one line: v is normal, so both signs of it are needed."""
    walkers = 600
    pairs = Frames.from_ase([Atoms("H2", [[0, 0, -0.5], [0, 0, 0.5]])] * walkers)
    assert rigid_motions(pairs).tolist() == [5] * walkers
    integrator, field = VelocityRescaling(1.0, 5.0, 300.0), Harmonic(0.0)
    state = integrator.init(keys(walkers, seed=8), field, pairs)
    started = np.asarray(state.velocities)[:, 0, 2]
    exchange = jax.jit(integrator.exchange)
    for _ in range(60):
        state = exchange(state)
    ended = np.asarray(state.velocities)[:, 0, 2]
    scale = np.sqrt(np.mean(ended**2))
    assert stats.kstest(ended / scale, "norm").pvalue > 1e-3
    assert abs(stats.spearmanr(started, ended).statistic) < 4 / np.sqrt(walkers)
    expected = 0.5 * BOLTZMANN * 300.0
    spread = expected * np.sqrt(2 / walkers)
    assert np.mean(kinetic_energy(state)) == pytest.approx(expected, abs=4 * spread)


def test_a_nose_hoover_chain_conserves_its_energy_to_second_order():
    field = LennardJones(cutoff=9.0)
    frames = Frames.from_ase([cluster()] * 2)

    def left(timestep):
        integrator = NoseHooverChain(timestep, 300.0, np.array([20.0, 30.0]))
        state = integrator.init(keys(2), field, frames)
        seen = [conserved(state)]
        for _ in range(30):
            state, _ = simulate(field, integrator, state, round(100 / timestep))
            seen.append(conserved(state))
        assert np.abs(np.asarray(state.heat)).max() > 0.01
        return np.ptp(seen, axis=0).mean()

    coarse, fine = left(10.0), left(5.0)
    assert coarse / fine == pytest.approx(4, rel=0.3)
    assert fine < 2e-4


def test_a_nose_hoover_chain_is_reversible():
    field = LennardJones(cutoff=9.0)
    integrator = NoseHooverChain(5.0, 100.0, 30.0)
    start = integrator.init(keys(1), field, Frames.from_ase([cluster()]))
    there, _ = simulate(field, integrator, start, 200)
    turned = replace(there, velocities=-there.velocities, bath=-there.bath)
    back, _ = simulate(field, integrator, turned, 200)
    np.testing.assert_allclose(back.frames.positions, start.frames.positions, atol=1e-8)
    np.testing.assert_allclose(back.velocities, -start.velocities, atol=1e-10)
    np.testing.assert_allclose(back.heat, start.heat, atol=1e-9)
    assert np.abs(there.bath).max() > 1e-4


def test_nose_hoover_chains_are_canonical():
    """K of four atoms in a crystal has the mean and the variance of chi^2 of 9.

    200 walkers by 6 visits, 1 ps apart.
    """
    walkers, temperature = 200, 30.0
    frames = Frames.from_ase([crystal(1)] * walkers)
    field = LennardJones(cutoff=5.0)
    integrator = NoseHooverChain(5.0, 200.0, temperature)
    state = integrator.init(keys(walkers, seed=2), field, frames)
    seen = []
    state, _ = simulate(field, integrator, state, 600)
    for _ in range(6):
        state, _ = simulate(field, integrator, state, 200)
        seen.append(2 * np.asarray(kinetic_energy(state)) / (BOLTZMANN * temperature))
    seen, freedom = np.ravel(seen), 12 - 3
    # a kinetic energy of dt errs by (w dt)^2 / 12 at most, w dt < 0.2
    assert seen.mean() == pytest.approx(freedom, rel=4 * np.sqrt(2 / freedom / len(seen)) + 0.003)
    spread = np.sqrt((12 / freedom + 2) / len(seen))
    assert seen.var() == pytest.approx(2 * freedom, rel=4 * spread + 0.006)


def test_temperature_of_a_rescaled_crystal():
    field = LennardJones()
    integrator = VelocityRescaling(10.0, 100.0, 25.0)
    state = integrator.init(keys(4), field, Frames.from_ase([crystal(2)] * 4))
    seen, kept = [], []
    for _ in range(60):
        state, _ = simulate(field, integrator, state, 20)
        seen.append(np.asarray(kinetic_temperature(state, rigid_motions(state.frames))))
        kept.append(conserved(state))
    # 200 visits, 200 fs apart where tau is 100 fs, of 93 degrees of freedom
    assert np.mean(seen[10:]) == pytest.approx(25, rel=4 * np.sqrt(2 / 93 / 200))
    assert np.ptp(kept, axis=0).max() < 5e-3
    assert np.abs(np.asarray(state.heat)).max() > 0.02


def test_times_and_temperatures_that_cannot_be():
    for kind in (VelocityRescaling, NoseHooverChain):
        with pytest.raises(InputError, match="time_fs = 0"):
            kind(1.0, 0.0, 300.0)
    with pytest.raises(InputError, match="above 0 K"):
        NoseHooverChain(1.0, 100.0, 0.0).init(keys(1), Harmonic(1.0), hydrogens(1))
    cold = VelocityRescaling(1.0, 100.0, 0.0)
    state = cold.init(keys(1), Harmonic(STIFFNESS), hydrogens(1))
    state, info = simulate(Harmonic(STIFFNESS), cold, state, 5)
    assert not info.broken.any()


class OurField(Calculator):
    """A force field of the tests for ASE."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, field):
        super().__init__()
        self.field = field
        self.answer = jax.jit(field.answer, static_argnums=2)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        frames = Frames.from_ase([self.atoms])
        label = self.answer(frames, neighbors(frames, self.field.cutoff), False)
        self.results = {"energy": float(label.energy[0]), "forces": np.array(label.forces[0])}


def test_steps_are_those_of_ase():
    field, atoms = LennardJones(cutoff=9.0), cluster()
    state = VelocityVerlet(5.0).init(keys(1), field, Frames.from_ase([atoms]), 40.0)
    atoms.set_velocities(np.asarray(state.velocities[0]) / fs)
    atoms.calc = OurField(field)
    peer = ASEVerlet(atoms, timestep=5.0 * fs)
    for _ in range(40):
        state, _ = simulate(field, VelocityVerlet(5.0), state, 1)
        peer.run(1)
        np.testing.assert_allclose(state.frames.positions[0], atoms.positions, atol=1e-10)
    np.testing.assert_allclose(state.velocities[0], atoms.get_velocities() * fs, atol=1e-12)
    assert np.abs(state.velocities).max() > 1e-4
