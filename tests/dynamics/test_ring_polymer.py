"""Path integrals of a harmonic oscillator, whose quantum energy is known."""

import numpy as np
import pytest
from ase import Atoms
from force_fields import OMEGA, STIFFNESS, Edge, Harmonic, LennardJones, cluster, keys

from kepton.atoms import Frames
from kepton.atoms.units import BOLTZMANN, HBAR
from kepton.dynamics import RingPolymer, kinetic_energy, simulate
from kepton.dynamics.ring_polymer import normal_modes
from kepton.errors import InputError


def rings(count, beads, atoms=1):
    return Frames.from_ase([Atoms(f"H{atoms}", np.zeros((atoms, 3)))] * count).tile(beads)


@pytest.mark.parametrize("beads", [1, 2, 3, 8, 17])
def test_normal_modes_diagonalise_the_springs(beads):
    modes = normal_modes(beads)
    np.testing.assert_allclose(modes @ modes.T, np.eye(beads), atol=1e-12)
    springs = 2 * np.eye(beads) - np.roll(np.eye(beads), 1, 0) - np.roll(np.eye(beads), -1, 0)
    w = 2 * np.sin(np.pi * np.arange(beads) / beads)
    np.testing.assert_allclose(modes @ springs @ modes.T, np.diag(w**2), atol=1e-12)


def test_a_harmonic_oscillator_has_its_quantum_energy():
    """<V> = <K> = (3 n hbar w / 4) coth(hbar w / 2 k_B T), which 16 beads miss by 1 %.

    With P beads x^2 = (k_B T / k) sum_k w^2 / (w^2 + w_k^2): that is what is sampled here, exactly,
    at any stable time step. hbar w = 3.5 k_B T.
    """
    beads, count, atoms, temperature = 16, 64, 4, 450.0
    frequency = OMEGA / 3
    field = Harmonic(STIFFNESS / 9)
    integrator = RingPolymer(1.0, beads, frequency, temperature)
    state = integrator.init(keys(count * beads, seed=1), field, rings(count, beads, atoms))
    state, info = simulate(field, integrator, state, 100)
    potential, kinetic = [], []
    for _ in range(60):
        state, info = simulate(field, integrator, state, 30)
        potential.append(np.asarray(state.energy).reshape(count, beads).mean(axis=1))
        kinetic.append(np.asarray(integrator.quantum_kinetic_energy(state)))
    assert not info.broken.any()
    spring = beads * BOLTZMANN * temperature / HBAR
    w = 2 * spring * np.sin(np.pi * np.arange(beads) / beads)
    thermal = 1.5 * atoms * BOLTZMANN * temperature
    finite = thermal * (frequency**2 / (frequency**2 + w**2)).sum()
    x = HBAR * frequency / (2 * BOLTZMANN * temperature)
    exact = thermal * x / np.tanh(x)
    assert finite == pytest.approx(exact, rel=0.02)
    assert exact > 1.5 * thermal
    for seen in (potential, kinetic):
        each = np.mean(seen, axis=0)
        error = each.std(ddof=1) / np.sqrt(count)
        assert error < 0.02 * exact
        assert each.mean() == pytest.approx(finite, abs=4 * error)
    speeds = 2 * np.asarray(kinetic_energy(state)) / (3 * atoms * beads * BOLTZMANN * temperature)
    # velocities of BAOAB in a well err by (w dt)^2 / 4 = 1 %, some more in the stiffest modes
    assert speeds.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / (3 * atoms * len(speeds))) + 0.02)


def test_one_bead_is_a_classical_particle_and_no_friction_keeps_the_energy():
    field, frames = LennardJones(cutoff=9.0), Frames.from_ase([cluster()] * 2).tile(4)
    integrator = RingPolymer(1.0, 4, 0.0, 20.0)

    def energy(state):
        total = np.asarray(state.energy + kinetic_energy(state) - state.heat)
        return total.reshape(2, 4).sum(axis=1) + np.asarray(integrator.spring_energy(state))

    state = integrator.init(keys(8), field, frames)
    start = energy(state)
    state, _ = simulate(field, integrator, state, 300)
    np.testing.assert_allclose(energy(state), start, atol=1e-3)
    assert np.asarray(integrator.spring_energy(state)).min() > 0.05


def test_beads_break_together():
    integrator, field = RingPolymer(0.5, 4, 0.1, 300.0), Edge(edge=0.15)
    state = integrator.init(keys(32), field, rings(8, 4))
    state, info = simulate(field, integrator, state, 30)
    broken = info.broken.reshape(8, 4)
    assert (broken.all(axis=1) == broken.any(axis=1)).all()
    assert broken.any()


def test_rings_must_be_whole():
    with pytest.raises(InputError, match=r"tile\(beads\)"):
        RingPolymer(0.5, 4, 0.1, 300.0).init(keys(6), Harmonic(1.0), rings(6, 1))
    with pytest.raises(InputError, match="beads = 0"):
        RingPolymer(0.5, 0, 0.1, 300.0)
